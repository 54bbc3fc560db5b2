"""A placement rule as text: ``cloud if queue_edge > 10 else edge``. Python's grammar, a small part of it, no calls."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Value = float | int | bool | str
_Node = Callable[[Mapping[str, Value]], Value]

Tier = Literal["device", "edge", "cloud"]
TIERS: tuple[Tier, ...] = get_args(Tier)
NAMES = ("group", "battery", "queue_edge", "queue_cloud", "time_s")
_MAX_LENGTH = 1000

_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Value, Value], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@dataclass(frozen=True)
class ExpressionRule:
    """A checked expression. Calling it with the named values gives a tier."""

    text: str
    tiers: tuple[Tier, ...]
    evaluate: Callable[[Mapping[str, Value]], Tier]

    def __call__(self, values: Mapping[str, Value]) -> Tier:
        """The tier that answers. Raises ``ValueError`` where the values do not fit (text compared with a number)."""
        try:
            return self.evaluate(values)
        except (TypeError, ZeroDivisionError) as error:
            raise ValueError(f"rule {self.text!r}: {error}") from error


def parse_expression(text: str) -> ExpressionRule:
    """Reads a rule whose every outcome is a tier. Raises ``ValueError`` saying what is not admitted."""
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"rules have at most {_MAX_LENGTH} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is no tier (device, edge, cloud) and no rule that gives one") from error
    used: dict[Tier, None] = {}
    evaluate = _outcome(tree, text, used)
    return ExpressionRule(text, tuple(used), evaluate)


def _outcome(node: ast.expr, text: str, used: dict[Tier, None]) -> Callable[[Mapping[str, Value]], Tier]:
    tier = next((tier for tier in TIERS if isinstance(node, ast.Name) and node.id == tier), None)
    if tier is not None:
        used[tier] = None
        return lambda _: tier
    if isinstance(node, ast.IfExp):
        then = _outcome(node.body, text, used)
        test = _value(node.test)
        other = _outcome(node.orelse, text, used)
        return lambda values: then(values) if test(values) else other(values)
    raise ValueError(f"{text!r}: expected a tier (device, edge, cloud) or `TIER if CONDITION else TIER`")


def _value(node: ast.expr) -> _Node:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as constant):
            return lambda _: constant
        case ast.Name(id=name) if name in NAMES:
            return operator.itemgetter(name)
        case ast.Name(id=name):
            raise ValueError(f"{name!r} is not known to rules (known: {', '.join(NAMES)})")
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _negated(_value(operand))
        case ast.BoolOp(op=op, values=parts):
            return _boolean([_value(part) for part in parts], every=isinstance(op, ast.And))
        case _:
            return _operation(node)


def _operation(node: ast.expr) -> _Node:
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _binary(_ARITHMETIC[type(op)], _value(left), _value(right))
        case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in _COMPARISONS:
            return _binary(_COMPARISONS[type(sign)], _value(left), _value(right))
        case _:
            raise ValueError(f"rules cannot use {ast.unparse(node)!r}")


def _negated(inner: _Node) -> _Node:
    return lambda values: not inner(values)


def _binary(operation: Callable[..., Value], left: _Node, right: _Node) -> _Node:
    return lambda values: operation(left(values), right(values))


def _boolean(parts: list[_Node], *, every: bool) -> _Node:
    if every:
        return lambda values: all(part(values) for part in parts)
    return lambda values: any(part(values) for part in parts)
