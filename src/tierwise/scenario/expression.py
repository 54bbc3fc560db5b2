"""A placement rule as text: ``cloud if queue_edge > 10 else edge``. Python's grammar, a small part of it, no calls.

Text, numbers and truth values are told apart when the rule is read, so that it cannot fail on them later.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

Value = float | int | bool | str
_Evaluate = Callable[[Mapping[str, Value]], Value]

Tier = Literal["device", "edge", "cloud"]
TIERS: tuple[Tier, ...] = get_args(Tier)
NAMES = ("group", "battery", "queue_edge", "queue_cloud", "time_s")
Kind = Literal["a number", "text", "true or false"]
_MAX_LENGTH = 1000
_MAX_DEPTH = 50
"""Of operations within operations: reading and evaluating both recurse."""

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
    """A checked expression. Calling it with the named values (``group`` is text, the others numbers) gives a tier."""

    text: str
    tiers: tuple[Tier, ...]
    evaluate: Callable[[Mapping[str, Value]], Tier]

    def __call__(self, values: Mapping[str, Value]) -> Tier:
        """The tier that answers. Raises ``ValueError`` where nothing can be computed (a division by zero)."""
        try:
            return self.evaluate(values)
        except ArithmeticError as error:
            raise ValueError(f"rule {self.text!r}: {error}") from error


def parse_expression(text: str) -> ExpressionRule:
    """Reads a rule whose every outcome is a tier. Raises ``ValueError`` saying what is not admitted."""
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"rules have at most {_MAX_LENGTH} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is no tier (device, edge, cloud) and no rule that gives one") from error
    if _depth(tree) > _MAX_DEPTH:
        raise ValueError(f"rules have at most {_MAX_DEPTH} operations within one another")
    used: dict[Tier, None] = {}
    evaluate = _outcome(tree, text, used)
    return ExpressionRule(text, tuple(used), evaluate)


def _depth(tree: ast.expr) -> int:
    depth, floor = 0, [tree]
    while floor:
        depth += 1
        floor = [child for node in floor for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return depth


def _outcome(node: ast.expr, text: str, used: dict[Tier, None]) -> Callable[[Mapping[str, Value]], Tier]:
    tier = next((tier for tier in TIERS if isinstance(node, ast.Name) and node.id == tier), None)
    if tier is not None:
        used[tier] = None
        return lambda _: tier
    if isinstance(node, ast.IfExp):
        then = _outcome(node.body, text, used)
        test = _condition(node.test)
        other = _outcome(node.orelse, text, used)
        return lambda values: then(values) if test(values) else other(values)
    raise ValueError(f"{text!r}: expected a tier (device, edge, cloud) or `TIER if CONDITION else TIER`")


class _Node(NamedTuple):
    """A part of a condition: what it gives, and how."""

    kind: Kind
    evaluate: _Evaluate


def _value(node: ast.expr) -> _Node:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as constant):
            return _Node(_kind(constant), lambda _: constant)
        case ast.Name(id=name) if name in NAMES:
            return _Node("text" if name == "group" else "a number", operator.itemgetter(name))
        case ast.Name(id=name):
            raise ValueError(f"{name!r} is not known to rules (known: {', '.join(NAMES)})")
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _negated(_condition(operand))
        case ast.BoolOp(op=op, values=parts):
            return _boolean([_condition(part) for part in parts], every=isinstance(op, ast.And))
        case _:
            return _operation(node)


def _kind(constant: Value) -> Kind:
    if isinstance(constant, bool):
        return "true or false"
    return "text" if isinstance(constant, str) else "a number"


def _operation(node: ast.expr) -> _Node:
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _minus(_number(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _arithmetic(_ARITHMETIC[type(op)], _number(left), _number(right))
        case ast.Compare(left=left, ops=signs, comparators=others) if all(type(sign) in _COMPARISONS for sign in signs):
            return _comparison(node, [_COMPARISONS[type(sign)] for sign in signs], [left, *others])
        case _:
            raise ValueError(f"rules cannot use {ast.unparse(node)!r}")


def _condition(node: ast.expr) -> _Evaluate:
    """What can be true or false: text cannot."""
    value = _value(node)
    if value.kind == "text":
        raise ValueError(f"{ast.unparse(node)!r} is text; a condition is true or false, or a number")
    return value.evaluate


def _number(node: ast.expr) -> _Evaluate:
    value = _value(node)
    if value.kind != "a number":
        raise ValueError(f"{ast.unparse(node)!r} is {value.kind}; only numbers can be computed with")
    return value.evaluate


def _negated(inner: _Evaluate) -> _Node:
    return _Node("true or false", lambda values: not inner(values))


def _minus(inner: _Evaluate) -> _Node:
    operation: Callable[..., Value] = operator.neg
    return _Node("a number", lambda values: operation(inner(values)))


def _arithmetic(operation: Callable[..., Value], left: _Evaluate, right: _Evaluate) -> _Node:
    return _Node("a number", lambda values: operation(left(values), right(values)))


def _comparison(node: ast.expr, signs: list[Callable[..., bool]], operands: list[ast.expr]) -> _Node:
    values = [_value(operand) for operand in operands]
    for (one, first), (other, second) in pairwise(zip(operands, values, strict=True)):
        if first.kind != second.kind:
            pair = f"{ast.unparse(one)} is {first.kind}, {ast.unparse(other)} is {second.kind}"
            raise ValueError(f"{ast.unparse(node)!r} compares different things: {pair}")
    if len(signs) == 1:
        return _single(signs[0], values[0].evaluate, values[1].evaluate)
    links = [
        _single(sign, *(value.evaluate for value in pair)) for sign, pair in zip(signs, pairwise(values), strict=True)
    ]
    return _boolean([link.evaluate for link in links], every=True)


def _single(sign: Callable[..., bool], left: _Evaluate, right: _Evaluate) -> _Node:
    return _Node("true or false", lambda values: sign(left(values), right(values)))


def _boolean(parts: list[_Evaluate], *, every: bool) -> _Node:
    if every:
        return _Node("true or false", lambda values: all(part(values) for part in parts))
    return _Node("true or false", lambda values: any(part(values) for part in parts))
