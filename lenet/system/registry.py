"""Registries: look-up of a name, and options that are declared where they are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, TypeVar

from lenet.errors import ConfigError
from lenet.system.text import clipped, listed, nearest

T = TypeVar("T")


def lookup(registry: Mapping[str, T], name: object, key: str) -> T:
    """Return the entry of a registry.

    Examples
    --------
    >>> lookup({"max": max, "sum": sum}, "maxx", key="pooling")
    Traceback (most recent call last):
    lenet.errors.ConfigError: pooling: must be max or sum, is 'maxx'; did you mean max?
    """
    if isinstance(name, str) and name in registry:
        return registry[name]
    near = nearest(name, registry) if isinstance(name, str) else None
    raise ConfigError(
        f"must be {listed(registry, 'or')}, is {clipped(repr(name))}",
        remedy=f"did you mean {near}?" if near else "choose one of these",
        key=key,
    )


def option(default: float, doc: str, **bounds: float) -> Any:  # noqa: ANN401 - as dataclasses.field
    """Declare a number of a dataclass, from which the key of the configuration is derived."""
    return field(default=default, metadata={"doc": doc, "bounds": bounds})
