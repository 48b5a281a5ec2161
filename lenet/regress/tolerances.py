"""The limits of the gate: defaults, ``name=value`` options, and the limits of a first baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Final

from lenet.regress.measure import Measurement, largest_rise
from lenet.system.errors import ConfigError
from lenet.system.registry import lookup
from lenet.system.text import clipped


@dataclass(frozen=True)
class Tolerances:
    """The limits of the gate; those in a baseline file are for its owner to choose."""

    min_accuracy: float = 0.85
    """Whatever the baseline's accuracy."""
    max_loss: float = 0.5
    """Whatever the baseline's loss."""
    accuracy_drop: float = 0.01
    """Below the baseline's accuracy, in absolute terms."""
    loss_rise: float = 0.05
    """Above the baseline's loss, as a fraction of it."""
    first_losses: float = 0.001
    """Between any of the first losses and the baseline's, as |ln(measured / expected)|."""
    curve: float = 0.1
    """The same for the points of the loss curve."""
    curve_rise: float = 0.25
    """From a point of the loss curve to the next, as a fraction."""
    gradient_error: float = 1e-6
    identity_error: float = 1e-10
    slowdown: float = 0.2
    """Of images per 10⁹ operations, as a fraction, on the baseline's processor and libraries."""
    slowdown_busy: float = 0.3
    """The same where a quarter of the time or more was spent waiting for a core."""
    slowdown_elsewhere: float = 0.5
    """The same on another machine: products and the rest do not speed up by the same factor."""


TASK_LIMITS: Final = ("min_accuracy", "max_loss", "curve_rise")
"""Limits whose defaults do not suit every task."""


def parse_limit(text: str) -> tuple[str, float]:
    """Read a limit from ``name=value``.

    Raises
    ------
    ConfigError
        There is no such limit, or the value is not a number of at least 0.

    Examples
    --------
    >>> parse_limit("min_accuracy=0.6")
    ('min_accuracy', 0.6)
    """
    name, _, number = (part.strip() for part in text.partition("="))
    lookup(asdict(Tolerances()), name, key="--limit")
    with suppress(ValueError):
        if 0 <= float(number) < math.inf:
            return name, float(number)
    raise ConfigError(
        f"{name} must be a number of at least 0, is {clipped(repr(number))}",
        remedy=f"write {name}=NUMBER",
        key="--limit",
    )


def adjusted(
    tolerances: Tolerances, measurement: Measurement, names: Collection[str]
) -> Tolerances:
    """Return tolerances that a first baseline meets.

    Parameters
    ----------
    tolerances
        The limits to start with.
    measurement
        The first baseline.
    names
        Those of :data:`TASK_LIMITS` that may change: one that the measurement does not meet is
        widened to the measurement, plus the tolerance of later runs.
    """
    now, rise = measurement, largest_rise(measurement.curve)
    wider = {}
    if now.accuracy < tolerances.min_accuracy:
        wider["min_accuracy"] = _rounded(math.floor, now.accuracy - tolerances.accuracy_drop)
    if now.loss > tolerances.max_loss:
        wider["max_loss"] = _rounded(math.ceil, now.loss * (1 + tolerances.loss_rise))
    if tolerances.curve_rise < rise < math.inf:
        wider["curve_rise"] = _rounded(math.ceil, 2 * rise)
    return replace(tolerances, **{name: wider[name] for name in wider if name in names})


def changed_limits(before: Tolerances, after: Tolerances) -> list[str]:
    """Return the limits that differ, as ``name=value``."""
    old = asdict(before)
    return [f"{name}={value:g}" for name, value in asdict(after).items() if value != old[name]]


def _rounded(direction: Callable[[float], int], value: float) -> float:
    return max(0.0, direction(1000 * value) / 1000)
