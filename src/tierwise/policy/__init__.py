"""Who answers: placement rules as pure functions, the same for the live gateway and the simulator."""

from tierwise.policy.rules import Decide, Situation, cascade, escalates, expression, fallback, fixed

__all__ = ["Decide", "Situation", "cascade", "escalates", "expression", "fallback", "fixed"]
