"""A scenario in virtual time: exact, deterministic, path-wise the same on both engines."""

from tierwise.sim.run import simulate
from tierwise.sim.summary import Summary

__all__ = ["Summary", "simulate"]
