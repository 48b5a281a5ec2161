"""The limits of the regression gate: one table with their defaults and meanings."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final


def _limit(default: float, doc: str) -> Any:  # noqa: ANN401 - as dataclasses.field
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True)
class Tolerances:
    """The limits of a gate, with the defaults of a first baseline."""

    min_accuracy: float = _limit(0.85, "Lowest accuracy, whatever that of the baseline")
    max_loss: float = _limit(0.5, "Highest loss, whatever that of the baseline")
    accuracy_drop: float = _limit(
        0.01, "Fall of the accuracy below the baseline's, in absolute terms"
    )
    loss_rise: float = _limit(0.05, "Rise of the loss above the baseline's, as a fraction")
    first_losses: float = _limit(
        0.001,
        "Distance of the first ten losses from the baseline's, as abs(ln(measured / expected))",
    )
    curve: float = _limit(
        0.1, "Distance of the loss curve from the baseline's, as abs(ln(measured / expected))"
    )
    curve_rise: float = _limit(
        0.25, "Rise of the loss from one twentieth of the run to the next, as a fraction"
    )
    gradient_error: float = _limit(1e-6, "Relative error of a gradient, in float64")
    identity_error: float = _limit(1e-10, "Relative error of an identity, in float64")
    slowdown: float = _limit(
        0.12, "Loss of speed, as a fraction, on the baseline's processor and libraries"
    )
    slowdown_busy: float = _limit(
        0.13, "Loss of speed if a quarter of the time or more was spent waiting for a core"
    )
    slowdown_elsewhere: float = _limit(
        0.5, "Loss of speed on another processor or with other libraries"
    )


LIMITS: Final = {limit.name: limit for limit in fields(Tolerances)}
