"""The regression gate: measure the code, compare, and give one verdict."""

from __future__ import annotations

import math
import time
from collections.abc import Collection

from lenet.config.schema import Config
from lenet.data.datasets import Split
from lenet.regress.baseline import Baseline, machine
from lenet.regress.compare import Check, check_limits, compare, fast_enough
from lenet.regress.measure import measure
from lenet.regress.tolerances import Tolerances, adjusted
from lenet.regress.verdict import Verdict
from lenet.system.errors import GateFailed


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
        As for :func:`lenet.regress.measure.measure`.
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
