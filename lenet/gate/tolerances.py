"""The limits of a first baseline, which any task meets."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from typing import Final

from lenet.config.limits import Tolerances
from lenet.gate.measure import Measurement, largest_rise

TASK_LIMITS: Final = ("min_accuracy", "max_loss", "curve_rise")
"""Limits whose defaults do not suit every task."""


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
