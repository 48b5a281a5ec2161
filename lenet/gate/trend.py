"""The trend over the runs of a gate: a drift that no single run shows.

Each run alone may be within its tolerances while accuracy or speed get a little worse with every
commit, most easily where the baseline is updated on the way. So late runs are compared with early
ones, within windows: the complete history, its latest half, its latest quarter, and so on, down to
twelve runs. A drift is reported if in any of these windows both

* the median of the last third is worse than that of the first third, by more than half the
  tolerance of a single run, and
* the order of the values is not random: Kendall's rank correlation with time has p < 0.0001.

Runs are comparable if they have the same configuration; for the speed, also the same processor and
libraries. ``scripts/regress-check --trends`` measures false alarms and delays.

References
----------
H. B. Mann (1945), Nonparametric tests against trend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from scipy.stats import kendalltau

from lenet.config.limits import Tolerances
from lenet.gate.compare import SHAPING_SPEED, Check
from lenet.gate.history import Entry
from lenet.system.text import markdown_table

MIN_RUNS: Final = 12
MAX_P: Final = 0.0001
BARS: Final = "▁▂▃▄▅▆▇█"
MAX_BARS: Final = 60  # the latest runs, which fit on a line


@dataclass(frozen=True)
class Trend:
    """One metric over the comparable runs, the oldest first."""

    metric: str
    values: Sequence[float]
    tolerance: float
    """Half of that of a single run; negative for a metric that must not fall."""
    relative: bool

    def drift(self) -> int | None:
        """Return the number of runs in the longest window with a drift; None without a drift."""
        for values in self._windows():
            change = self._change(values)
            worse = change > self.tolerance if self.tolerance > 0 else change < self.tolerance
            if worse and float(kendalltau(range(len(values)), values).pvalue) < MAX_P:
                return len(values)
        return None

    def check(self) -> Check:
        """Return the line of the verdict."""
        name, form = f"trend of the {self.metric}", "+.1%" if self.relative else "+.4f"
        if len(self.values) < MIN_RUNS:
            needs = f"{self.tolerance:{form}}, from {MIN_RUNS} runs on"
            return Check(name, None, f"{len(self.values)} runs", needs, passed=None)
        runs = self.drift()
        change = self._change(self.values[-(runs or len(self.values)) :])
        measured = f"{change:{form}} over {runs or len(self.values)} runs"
        return Check(name, None, measured, f"{self.tolerance:{form}}", passed=runs is None)

    def bars(self) -> str:
        """Return the latest values as a line of bars, from the smallest to the largest."""
        values = self.values[-MAX_BARS:]
        low, high = min(values), max(values)
        scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
        return "".join(BARS[round(scale * (value - low))] for value in values)

    def _windows(self) -> Iterator[Sequence[float]]:
        count = len(self.values)
        while count >= MIN_RUNS:
            yield self.values[-count:]
            count //= 2

    def _change(self, values: Sequence[float]) -> float:
        """Return the change from the median of the first third to that of the last third."""
        third = len(values) // 3
        first, last = median(values[:third]), median(values[-third:])
        return last / first - 1 if self.relative else last - first


def trends(history: Sequence[Entry], tolerances: Tolerances) -> list[Trend]:
    """Return the trends up to the last run of a history.

    Examples
    --------
    >>> run = {"config_sha256": "a", "machine": {}, "accuracy": 0.9, "loss": 0.3}
    >>> runs = [{**run, "images_per_gflop": 200 * 0.99**k} for k in range(24)]
    >>> [trend.metric for trend in trends(runs, Tolerances()) if trend.drift()]
    ['images per GFLOP']
    """
    latest = history[-1]
    runs = [run for run in history if run["config_sha256"] == latest["config_sha256"]]
    alike = [run for run in runs if _shaping_speed(run) == _shaping_speed(latest)]

    def trend(name: str, runs: Sequence[Entry], tolerance: float, relative: bool) -> Trend:
        values = [run[name.replace(" ", "_").lower()] for run in runs]
        return Trend(name, values, tolerance / 2, relative)

    return [
        trend("accuracy", runs, -tolerances.accuracy_drop, relative=False),
        trend("loss", runs, tolerances.loss_rise, relative=True),
        trend("images per GFLOP", alike, -tolerances.slowdown, relative=True),
    ]


def to_markdown(trends: Sequence[Trend]) -> str:
    """Return the trends as a table with a line of bars for each."""
    rows = []
    for trend in trends:
        check = trend.check()
        first, last = f"{trend.values[0]:.4g}", f"{trend.values[-1]:.4g}"
        rows.append((trend.metric, first, last, check.measured, check.tolerance, trend.bars()))
    head = ("metric", "first", "last", "change", "tolerance", "latest runs")
    return f"### Trend\n\n{markdown_table([head, *rows])}\n"


def _shaping_speed(run: Entry) -> dict[str, object]:
    return {key: value for key, value in run["machine"].items() if key in SHAPING_SPEED}
