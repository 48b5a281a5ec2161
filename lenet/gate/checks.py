"""Compare a measurement with a baseline, and with the limits that need no baseline.

Equal bits can be expected only on the same machine with the same versions, and are compared only
there. On another processor or BLAS, images per 10⁹ operations differ by the machine alone (by a
third between two vendors), so there the speed has a wide tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lenet.config.schema import Config, differences
from lenet.config.sections import Tolerances
from lenet.gate.baseline import Baseline
from lenet.gate.measurement import FIRST_LOSSES, NEGLIGIBLE_LOSS, Measurement, largest_rise
from lenet.train.run_directory import FREE_TO_CHANGE

BUSY = 0.25  # waiting for a core this fraction of the time, a step finds the cache replaced
SHAPING_SPEED = {"processor", "simd", "numpy", "blas", "threads"}


@dataclass(frozen=True)
class Check:
    """A line of the verdict; ``passed`` is None for what could not be compared."""

    name: str
    expected: float | str | None
    measured: float | str | None
    tolerance: str
    passed: bool | None


def compare(
    config: Config,
    measurement: Measurement,
    baseline: Baseline,
    here: Mapping[str, str | int],
) -> list[Check]:
    """Return all checks of a measurement of ``config`` on the machine ``here``."""
    now, before, tolerances = measurement, baseline.measurement, baseline.tolerances
    keys = differences(baseline.config, config)
    changed = ", ".join(key for key in keys if key not in FREE_TO_CHANGE)
    slowdown, reason = _slowdown(now, baseline, here)
    return [
        Check("configuration", "the same", changed or "the same", "no difference", not changed),
        *check_limits(now, tolerances),
        accuracy_check("baseline", before.accuracy, now.accuracy, tolerances),
        loss_check("baseline", before.loss, now.loss, tolerances),
        _at_most(
            f"first {FIRST_LOSSES} losses vs baseline",
            log_distance(now.first_losses, before.first_losses),
            tolerances.first_losses,
        ),
        _at_most("loss curve vs baseline", log_distance(now.curve, before.curve), tolerances.curve),
        _same_bits("data", before.data_sha256, now.data_sha256, baseline, here),
        _same_bits("training", before.bits_sha256, now.bits_sha256, baseline, here),
        Check(
            "images per GFLOP vs baseline",
            before.images_per_gflop,
            now.images_per_gflop,
            f"-{slowdown:.0%}{reason}",
            now.images_per_gflop >= before.images_per_gflop * (1 - slowdown),
        ),
    ]


def notes(measurement: Measurement, baseline: Baseline, here: Mapping[str, str | int]) -> list[str]:
    """Return what is better than the baseline by a tolerance, and what could not be compared."""
    now, before, tolerances = measurement, baseline.measurement, baseline.tolerances
    other = [key for key in _other(baseline, here) if key in SHAPING_SPEED]
    better = []
    if now.accuracy >= before.accuracy + tolerances.accuracy_drop:
        better.append(f"accuracy {now.accuracy - before.accuracy:+.4f}")
    if now.loss <= before.loss * (1 - tolerances.loss_rise) and before.loss > NEGLIGIBLE_LOSS:
        better.append(f"loss {now.loss / before.loss - 1:+.1%}")
    if now.images_per_gflop >= before.images_per_gflop * (1 + tolerances.slowdown) and not other:
        better.append(f"speed {now.images_per_gflop / before.images_per_gflop - 1:+.1%}")
    lines = []
    if better:
        lines.append(
            f"better than the baseline: {', '.join(better)}; the baseline can be tightened: "
            "lenet regress --update"
        )
    if other:
        lines.append(
            f"another {', '.join(other)} than the baseline's: bits cannot be compared, and the "
            f"speed only roughly (-{tolerances.slowdown_elsewhere:.0%}); everything else can; "
            "lenet regress --against REV compares the speed of two revisions on this machine"
        )
    return lines


def accuracy_check(other: str, before: float, now: float, tolerances: Tolerances) -> Check:
    """Compare an accuracy with that of a baseline or a revision."""
    drop = tolerances.accuracy_drop
    return Check(f"accuracy vs {other}", before, now, f"-{drop:g}", now >= before - drop)


def loss_check(other: str, before: float, now: float, tolerances: Tolerances) -> Check:
    """Compare a loss with that of a baseline or a revision."""
    rise = tolerances.loss_rise
    passed = now <= max(before, NEGLIGIBLE_LOSS) * (1 + rise)
    return Check(f"loss vs {other}", before, now, f"+{rise:.0%}", passed)


def check_limits(measurement: Measurement, tolerances: Tolerances) -> list[Check]:
    """Return the checks that need no baseline."""
    now = measurement
    return [
        Check(
            "accuracy",
            None,
            now.accuracy,
            f">= {tolerances.min_accuracy:g}",
            now.accuracy >= tolerances.min_accuracy,
        ),
        _at_most("loss", now.loss, tolerances.max_loss),
        _at_most("rise of the loss curve", largest_rise(now.curve), tolerances.curve_rise),
        _at_most("gradient error", now.gradient_error, tolerances.gradient_error),
        _at_most("identity error", now.identity_error, tolerances.identity_error),
        Check(
            "reproducibility",
            "the same bits",
            "the same bits" if now.reproducible else "other bits",
            "no difference",
            now.reproducible,
        ),
    ]


def log_distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the largest abs(ln(a / b)) of two loss curves, infinite if their lengths differ.

    Examples
    --------
    >>> print(f"{log_distance([1.0, 2.0], [1.0, 1.0]):.4f}")
    0.6931
    """
    if len(a) != len(b):
        return math.inf
    one, other = np.log(np.maximum(a, NEGLIGIBLE_LOSS)), np.log(np.maximum(b, NEGLIGIBLE_LOSS))
    return float(np.max(np.abs(one - other)))


def fast_enough(baseline: Baseline, here: Mapping[str, str | int]) -> float:
    """Return the images per 10⁹ operations that pass on the machine ``here`` if it is quiet."""
    slowdown, _ = _slowdown(replace(baseline.measurement, wait_fraction=0.0), baseline, here)
    return baseline.measurement.images_per_gflop * (1 - slowdown)


def _slowdown(
    measurement: Measurement, baseline: Baseline, here: Mapping[str, str | int]
) -> tuple[float, str]:
    """Return the tolerance of the speed, and the reason if it is wider than usual."""
    tolerances = baseline.tolerances
    if other := [key for key in _other(baseline, here) if key in SHAPING_SPEED]:
        return tolerances.slowdown_elsewhere, f", other {', '.join(other)}"
    if measurement.wait_fraction >= BUSY:
        reason = f", busy: waited {measurement.wait_fraction:.0%} of the time"
        return tolerances.slowdown_busy, reason
    return tolerances.slowdown, ""


def _at_most(name: str, measured: float, limit: float) -> Check:
    return Check(name, None, measured, f"<= {limit:g}", measured <= limit)


def _same_bits(
    what: str, expected: str, measured: str, baseline: Baseline, here: Mapping[str, str | int]
) -> Check:
    """Compare checksums on the same machine with the same versions; else name what differs."""
    other = _other(baseline, here)
    tolerance = f"other {', '.join(other)}" if other else "no difference"
    passed = None if other else measured == expected
    return Check(f"{what} checksum", expected[:12], measured[:12], tolerance, passed)


def _other(baseline: Baseline, here: Mapping[str, str | int]) -> list[str]:
    return [key for key, value in here.items() if baseline.machine.get(key) != value]
