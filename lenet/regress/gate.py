"""The regression gate: measure the code, compare, and give one verdict."""

from __future__ import annotations

import math
import time

from lenet.config.schema import Config
from lenet.data.datasets import Split
from lenet.regress.baseline import Baseline, Tolerances, machine
from lenet.regress.compare import Check, check_limits, compare, fast_enough
from lenet.regress.measure import measure
from lenet.regress.verdict import Verdict
from lenet.system.errors import GateFailed


def run_gate(config: Config, split: Split, against: Baseline | Tolerances) -> Verdict:
    """Train, and compare the measurement with a baseline, or with limits that need none.

    Parameters
    ----------
    config, split
        As for :func:`lenet.regress.measure.measure`.
    against
        A baseline or, if there is none, the limits.
    """
    started, here, measurement = time.monotonic(), machine(), None
    try:
        if isinstance(against, Baseline):
            measurement = measure(config, split, fast_enough(against, here))
            checks = compare(config, measurement, against, here)
        else:
            measurement = measure(config, split, fast_enough=math.inf)
            checks = check_limits(measurement, against)
    except GateFailed as error:
        checks = [Check("training", "reaches its end", error.problem, "", passed=False)]
    return Verdict(checks, measurement, here, time.monotonic() - started)
