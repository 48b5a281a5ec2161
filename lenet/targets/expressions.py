"""Activations in other languages, derived from :attr:`Function.expression` and its slope.

A formula consists of the argument, numbers, ``+ - * /``, one comparison ``>``, which is 1 or 0, and
the functions ``abs exp log sqrt tanh max min``.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from lenet.nn.activations import Function

FUNCTIONS: Final = ("abs", "exp", "log", "sqrt", "tanh", "max", "min")
SYMBOLS: Final[dict[type[ast.AST], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Gt: ">",
}
Value = TypeVar("Value")


@dataclass(frozen=True)
class Writer:
    """A language: its numbers, and what it makes of an operation and its operands."""

    number: Callable[[float], Any]
    combine: Callable[[str, list[Any]], Any]


def formulas(function: type[Function]) -> tuple[str, str] | None:
    """Return expression and slope, or None if the class itself does not state them.

    A subclass does not inherit them: it may compute something else.
    """
    own = vars(function)
    return (function.expression, function.slope) if "expression" in own else None


def written(formula: str, writer: Writer, argument: object) -> Any:  # noqa: ANN401 - the writer's
    """Return a formula in a language, with ``argument`` in the place of x or y.

    Examples
    --------
    >>> written("max(x, 0) + log(1 + exp(-abs(x)))", C, "x[i]")
    '((x[i] > 0.0f ? x[i] : 0.0f) + logf((1.0f + expf((-fabsf(x[i]))))))'
    >>> written("2 / 3 * (1 - y * y)", JAVASCRIPT, "y")
    '(0.6666666666666666 * (1 - (y * y)))'
    """

    def value(node: ast.AST) -> Any:  # noqa: ANN401
        constant = _constant(node)
        if constant is not None:
            return writer.number(constant)
        match node:
            case ast.Name("x" | "y"):
                return argument
            case ast.UnaryOp(ast.USub(), operand):
                return writer.combine("neg", [value(operand)])
            case ast.BinOp(left, operator, right) if type(operator) in SYMBOLS:
                return writer.combine(SYMBOLS[type(operator)], [value(left), value(right)])
            case ast.Compare(left, [ast.Gt()], [right]):
                return writer.combine(">", [value(left), value(right)])
            case ast.Call(ast.Name(name), arguments, []) if name in FUNCTIONS:
                return writer.combine(name, [value(part) for part in arguments])
        raise ValueError(f"{ast.unparse(node)!r} in the formula {formula!r} is unknown")

    return value(ast.parse(formula, mode="eval").body)


def _constant(node: ast.AST) -> float | None:
    """Return the value of a part without the argument, or None if the argument is in it."""
    match node:
        case ast.Constant(int() | float() as number):
            return number
        case ast.BinOp(left, ast.Div(), right):
            a, b = _constant(left), _constant(right)
            return None if a is None or b is None else a / b
    return None


def _infix(calls: Mapping[str, str], number: Callable[[float], str], truth: str) -> Writer:
    """Return a language with the operators of C."""

    def combine(name: str, parts: list[str]) -> str:
        if name == "neg":
            return f"(-{parts[0]})"
        if name == ">":
            return f"({parts[0]} > {parts[1]}{truth})"
        if name in ("max", "min"):
            sign = ">" if name == "max" else "<"
            return f"({parts[0]} {sign} {parts[1]} ? {parts[0]} : {parts[1]})"
        if name in calls:
            return f"{calls[name]}({', '.join(parts)})"
        return f"({f' {name} '.join(parts)})"

    return Writer(number, combine)


C: Final = _infix(
    {name: f"{'f' * (name == 'abs')}{name}f" for name in FUNCTIONS},
    lambda number: f"{np.float32(number)!s}f",
    " ? 1.0f : 0.0f",
)
JAVASCRIPT: Final = _infix({name: f"Math.{name}" for name in FUNCTIONS}, repr, " ? 1 : 0")
NUMPY: Final = Writer(
    lambda number: number,
    lambda name, parts: {
        **{f: getattr(np, f) for f in FUNCTIONS},
        "max": np.maximum,
        "min": np.minimum,
        "neg": np.negative,
        "+": np.add,
        "-": np.subtract,
        "*": np.multiply,
        "/": np.divide,
        ">": np.greater,
    }[name](*parts),
)
