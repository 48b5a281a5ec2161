"""Rules: what a configuration key accepts, and the error for a value that it rejects.

In order: the rules, the declaration and check of a key, and how values are written and shown.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from math import inf
from typing import Any, Final, TypeVar

from lenet.errors import ConfigError
from lenet.system.text import clipped, listed, nearest

_REJECTED: Final = object()
_Section = TypeVar("_Section")


@dataclass(frozen=True)
class Rule:
    """What a key accepts: in words, and as a function to the stored value or ``_REJECTED``."""

    words: str
    read: Callable[[object], object]
    names: tuple[str, ...] = ()


def integer(low: int, high: int) -> Rule:
    """Accept integers from ``low`` to ``high``; a boolean is not an integer."""

    def read(value: object) -> object:
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return value if fits else _REJECTED

    return Rule(f"an integer from {low} to {high}", read)


_COMPARE: Final[dict[str, tuple[str, Callable[[float, float], bool]]]] = {
    "above": (">", operator.gt),
    "at_least": (">=", operator.ge),
    "below": ("<", operator.lt),
    "at_most": ("<=", operator.le),
}


def number(**bounds: float) -> Rule:
    """Accept numbers within bounds such as ``above=0, at_most=1``; nan and inf never fit."""

    def read(value: object) -> object:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return _REJECTED
        within = all(_COMPARE[name][1](value, bound) for name, bound in bounds.items())
        return float(value) if within and abs(value) < inf else _REJECTED

    limits = " and ".join(f"{_COMPARE[name][0]} {bound:g}" for name, bound in bounds.items())
    return Rule(f"a number {limits}", read)


def choice(*names: str) -> Rule:
    """Accept one of several names."""

    def read(value: object) -> object:
        return value if value in names else _REJECTED

    return Rule(listed(names, "or"), read, names)


def sequence(rule: Rule, count: int) -> Rule:
    """Accept a list of ``count`` values."""

    def read(value: object) -> object:
        if not isinstance(value, list | tuple) or len(value) != count:
            return _REJECTED
        kept = tuple(map(rule.read, value))
        return _REJECTED if _REJECTED in kept else kept

    return Rule(f"a list of {_NUMBERS[count]} values, each {rule.words}", read)


_NUMBERS: Final = {2: "two", 3: "three"}


def pair(rule: Rule) -> Rule:
    """Accept a list of two values."""
    return sequence(rule, 2)


def names(count: int) -> Rule:
    """Accept a list of 2 to ``count`` different strings."""

    def read(value: object) -> object:
        if not isinstance(value, list | tuple) or not 2 <= len(value) <= count:
            return _REJECTED
        kept = tuple(map(_read_string, value))
        return _REJECTED if _REJECTED in kept or len(set(kept)) < len(kept) else kept

    return Rule("a list of different strings", read)


def either(*rules: Rule) -> Rule:
    """Accept what any of the rules accepts; the first one that does reads it."""

    def read(value: object) -> object:
        kept = (rule.read(value) for rule in rules)
        return next((value for value in kept if value is not _REJECTED), _REJECTED)

    names = tuple(name for rule in rules for name in rule.names)
    return Rule(" or ".join(rule.words for rule in rules), read, names)


def _read_string(value: object) -> object:
    # A lone surrogate cannot be written as UTF-8, and a NUL ends a path.
    fits = isinstance(value, str) and value and not re.search("[\0\ud800-\udfff]", value)
    return value if fits else _REJECTED


def _read_seconds(value: object) -> object:
    fits = isinstance(value, str) and re.fullmatch("[1-9][0-9]{0,5}s", value, re.ASCII)
    return value if fits else _REJECTED


def _read_layers(value: object) -> object:
    return value if isinstance(value, list | tuple) and value else _REJECTED


_WEIGHT: Final = number(at_least=0, below=1e6)


def _read_weights(value: object) -> object:
    if isinstance(value, Mapping):
        read = {_read_string(name): _WEIGHT.read(weight) for name, weight in value.items()}
        return _REJECTED if _REJECTED in (*read, *read.values()) or not read else read
    if isinstance(value, list | tuple):
        weights = tuple(map(_WEIGHT.read, value))
        return _REJECTED if _REJECTED in weights or not weights else weights
    return _REJECTED


def _read_rates(value: object) -> object:
    return _read_weights(value) if isinstance(value, Mapping) else _REJECTED


def _read_strings(value: object) -> object:
    if not isinstance(value, list | tuple):
        return _REJECTED
    kept = tuple(map(_read_string, value))
    return _REJECTED if _REJECTED in kept or not kept else kept


BOOLEAN: Final = Rule(
    "true or false", lambda value: value if isinstance(value, bool) else _REJECTED
)
CLASS_WEIGHTS: Final = Rule(
    "a list of numbers >= 0, one per class, or such numbers by class name", _read_weights
)
LAYER_LIST: Final = Rule("a list of layers", _read_layers)
LAYER_NAMES: Final = Rule("a list of layer names", _read_strings)
LAYER_RATES: Final = Rule("a mapping of layer names to numbers >= 0", _read_rates)
NULL: Final = Rule("null", lambda value: None if value is None else _REJECTED)
STRING: Final = Rule("a string", _read_string)
SECONDS: Final = Rule('a time in seconds such as "30s"', _read_seconds)


def setting(default: object, rule: Rule, doc: str) -> Any:  # noqa: ANN401 - as dataclasses.field
    """Declare a key: its default, what it accepts besides a default of null, and its meaning."""
    rule = either(NULL, rule) if default is None and rule.read(None) is not None else rule
    return field(default=default, metadata={"rule": rule, "doc": doc})


def declared(*options: Field[Any], null: bool = False, doc: str | None = None) -> Any:  # noqa: ANN401
    """Declare a key from options of its name (:func:`lenet.system.registry.option`).

    ``null`` makes null the default, for the default of the option; ``doc`` replaces the comment.
    """
    first = options[0]
    bounds = first.metadata["bounds"]
    rule = number(**bounds)
    if isinstance(first.default, int):
        rule = integer(bounds["at_least"], bounds["at_most"])
    about = doc or first.metadata["doc"]
    return setting(None if null else first.default, rule, about)


def with_keys(keys: Mapping[str, Any]) -> Callable[[type[_Section]], type[_Section]]:
    """Return a decorator that adds keys to a section, before it is made a dataclass."""

    def add(section: type[_Section]) -> type[_Section]:
        for name, key in keys.items():
            section.__annotations__[name] = "float | None"
            setattr(section, name, key)
        return section

    return add


def accepted(key: Field[Any], dotted: str, value: object) -> object:
    """Return ``value`` as the key stores it."""
    rule: Rule = key.metadata["rule"]
    kept = rule.read(value)
    if kept is not _REJECTED:
        return kept
    remedy = f"the default is {as_yaml(key.default)}"
    if isinstance(value, str):
        plain = _number_in(value)
        if plain is not None and rule.read(plain) is not _REJECTED:
            remedy = f"write {plain} without quotes"
        elif near := nearest(value, rule.names):
            remedy = f"did you mean {near}?"
    elif isinstance(value, int | float) and rule.read("string") is not _REJECTED:
        remedy = "put it in quotes"
    raise ConfigError(f"must be {rule.words}, is {shown(value)}", remedy=remedy, key=dotted)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Validates its own keys on construction."""

    def __post_init__(self) -> None:
        for key in own_settings(type(self)):
            value = accepted(key, self.dotted(key.name), getattr(self, key.name))
            object.__setattr__(self, key.name, value)

    @classmethod
    def dotted(cls, name: str) -> str:
        """Return the name of one of its keys in the complete configuration."""
        return f"{cls.__name__.lower()}.{name}"


def own_settings(section: type[Checked]) -> list[Field[Any]]:
    """Return the fields that are keys of a section itself."""
    return [key for key in fields(section) if "rule" in key.metadata]


def as_yaml(value: object) -> str:
    """Return a value as YAML; a string in double quotes, unless it is a plain word or path."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{as_yaml(k)}: {as_yaml(v)}' for k, v in value.items())}}}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # In YAML 1.1, 1e-08 is a string; 1.0e-08 is a number in all versions.
        return re.sub(r"^(-?[0-9]+)e", r"\1.0e", repr(value))
    if isinstance(value, str):
        plain = re.fullmatch("[a-z][a-z0-9_/-]*", value) and value not in ("null", "true", "false")
        return value if plain else _quoted(value)
    return "null" if value is None else str(value)


def _quoted(text: str) -> str:
    escaped = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in text)
    return f'"{"".join(escaped)}"'


def shown(value: object) -> str:
    """Return a short description of a rejected value."""
    if isinstance(value, str):
        return f"the string {clipped(value)!r}"
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if len(value) > 3 else f"[{', '.join(map(shown, value))}]"
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    if isinstance(value, int) and abs(value) >= 10**21:
        return "a number of more than 21 digits"
    return clipped(repr(value))


def _number_in(text: str) -> float | None:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            pass
    return None
