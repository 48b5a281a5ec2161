"""The regression gate: measure the code, compare, give one verdict, and record it."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from lenet.config.limits import Tolerances
from lenet.config.schema import Config
from lenet.data.datasets import Split
from lenet.errors import GateFailed
from lenet.gate.baseline import Baseline, machine
from lenet.gate.compare import Check, check_limits, compare, fast_enough
from lenet.gate.history import Entry, append, entry_of
from lenet.gate.measure import measure
from lenet.gate.tolerances import adjusted
from lenet.gate.trend import Trend, trends
from lenet.gate.verdict import Verdict


def run_gate(
    config: Config,
    split: Split,
    against: Baseline | Tolerances,
    adjustable: Collection[str] = (),
) -> Verdict:
    """Train, and compare the measurement with a baseline, or with limits that need none.

    Parameters
    ----------
    config, split
        As for :func:`lenet.gate.measure.measure`.
    against
        A baseline or, if there is none, the limits.
    adjustable
        The names of limits that are adjusted to the measurement, if there is no baseline.
    """
    started, here, measurement = time.monotonic(), machine(), None
    tolerances = against.tolerances if isinstance(against, Baseline) else against
    try:
        if isinstance(against, Baseline):
            measurement = measure(config, split, fast_enough(against, here))
            checks = compare(config, measurement, against, here)
        else:
            measurement = measure(config, split, fast_enough=math.inf)
            tolerances = adjusted(tolerances, measurement, adjustable)
            checks = check_limits(measurement, tolerances)
    except GateFailed as error:
        checks = [Check("training", "reaches its end", error.problem, "", passed=False)]
    return Verdict(checks, measurement, tolerances, here, time.monotonic() - started)


def record(
    path: Path, earlier: Sequence[Entry], verdict: Verdict, config: Config
) -> tuple[Verdict, list[Trend]]:
    """Append a run to a history, and add the checks of the trend to its verdict.

    Parameters
    ----------
    path, earlier
        The file, and the runs that were in it.
    verdict, config
        The run; nothing is recorded if its training did not reach its end.
    """
    entry = entry_of(verdict, config)
    if entry is None:
        return verdict, []
    found = trends([*earlier, entry], verdict.tolerances)
    verdict = replace(verdict, checks=[*verdict.checks, *(trend.check() for trend in found)])
    append(path, entry | {"passed": not verdict.failed})
    return verdict, found
