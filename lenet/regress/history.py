"""The history of a gate: a line for every run, and the trend over many of them.

Each run alone may be within its tolerances while accuracy or speed get a little worse with every
commit, most easily where the baseline is updated on the way. So the last third of the recorded runs
is compared with the first third. A drift is reported if both

* the medians of the two thirds differ by more than half the tolerance of a single run, and
* the order of the values is not random: Kendall's rank correlation with time has p < 0.001.

Runs are comparable if they have the same configuration; for the speed, also the same processor and
libraries.

References
----------
H. B. Mann (1945), Nonparametric tests against trend.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from scipy.stats import kendalltau

from lenet.config.schema import Config
from lenet.regress.compare import SHAPING_SPEED, Check
from lenet.regress.tolerances import Tolerances
from lenet.regress.verdict import Verdict
from lenet.system.errors import DataError, SystemFailure
from lenet.system.text import markdown_table

WINDOW: Final = 60  # runs that are considered, the latest ones
MIN_RUNS: Final = 9
MAX_P: Final = 0.001
COMMIT_VARIABLES: Final = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")
BARS: Final = "▁▂▃▄▅▆▇█"

Entry = dict[str, Any]
"""A run: the object on one line of the file."""


@dataclass(frozen=True)
class Trend:
    """One metric over the comparable runs, the oldest first."""

    metric: str
    values: Sequence[float]
    tolerance: float
    """Half of that of a single run; negative for a metric that must not fall."""
    relative: bool

    @property
    def change(self) -> float:
        """From the median of the first third to that of the last third; 0 for too few runs."""
        third = len(self.values) // 3
        if len(self.values) < MIN_RUNS:
            return 0.0
        first, last = median(self.values[:third]), median(self.values[-third:])
        return last / first - 1 if self.relative else last - first

    @property
    def is_drift(self) -> bool:
        """Whether the metric became worse, by more than the tolerance and not by chance."""
        worse = self.change > self.tolerance if self.tolerance > 0 else self.change < self.tolerance
        return worse and float(kendalltau(range(len(self.values)), self.values).pvalue) < MAX_P

    @property
    def check(self) -> Check:
        """The line of the verdict."""
        form = "+.1%" if self.relative else "+.4f"
        enough = len(self.values) >= MIN_RUNS
        runs = f"over {len(self.values)} runs" if enough else f"needs {MIN_RUNS} runs"
        return Check(
            f"trend of the {self.metric}",
            None,
            f"{self.change:{form}}",
            f"{self.tolerance:{form}} {runs}",
            not self.is_drift if enough else None,
        )

    @property
    def bars(self) -> str:
        """The values as a line of bars, from the smallest to the largest."""
        low, high = min(self.values), max(self.values)
        scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
        return "".join(BARS[round(scale * (value - low))] for value in self.values)


def entry_of(verdict: Verdict, config: Config) -> Entry | None:
    """Return the line for a run; None if training did not reach its end."""
    now = verdict.measurement
    if now is None:
        return None
    content = json.dumps(config.to_dict(), sort_keys=True)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "passed": not verdict.failed,
        "accuracy": now.accuracy,
        "loss": now.loss,
        "images_per_gflop": now.images_per_gflop,
        "config_sha256": hashlib.sha256(content.encode()).hexdigest(),
        "machine": dict(verdict.machine),
    }


def trends(history: Sequence[Entry], tolerances: Tolerances) -> list[Trend]:
    """Return the trends up to the last run of a history.

    Examples
    --------
    >>> run = {"config_sha256": "a", "machine": {}, "accuracy": 0.9, "loss": 0.3}
    >>> runs = [{**run, "images_per_gflop": 200 * 0.99**k} for k in range(20)]
    >>> [trend.metric for trend in trends(runs, Tolerances()) if trend.is_drift]
    ['images per GFLOP']
    """
    latest = history[-1]
    runs = [run for run in history if run["config_sha256"] == latest["config_sha256"]]
    shaping = _shaping_speed(latest)
    alike = [run for run in runs if _shaping_speed(run) == shaping]
    drop, rise = -tolerances.accuracy_drop / 2, tolerances.loss_rise / 2
    return [
        Trend("accuracy", _values(runs, "accuracy"), drop, relative=False),
        Trend("loss", _values(runs, "loss"), rise, relative=True),
        Trend(
            "images per GFLOP",
            _values(alike, "images_per_gflop"),
            -tolerances.slowdown / 2,
            relative=True,
        ),
    ]


def to_markdown(trends: Sequence[Trend]) -> str:
    """Return the trends as a table with a line of bars for each."""
    rows = [
        (
            trend.metric,
            f"{trend.values[0]:.4g}",
            f"{trend.values[-1]:.4g}",
            trend.check.measured,
            trend.check.tolerance,
            trend.bars,
        )
        for trend in trends
    ]
    head = ("metric", "first", "last", "change of the median", "tolerance", "runs")
    return f"### Trend\n\n{markdown_table([head, *rows])}\n"


def record(
    path: Path, earlier: Sequence[Entry], verdict: Verdict, config: Config
) -> tuple[Verdict, str]:
    """Append a run to a history.

    Parameters
    ----------
    path, earlier
        The file, and the runs that were in it.
    verdict, config
        The run.

    Returns
    -------
    The verdict with the checks of the trend, and the trend as Markdown.
    """
    entry = entry_of(verdict, config)
    if entry is None:
        return verdict, ""
    found = trends([*earlier, entry], verdict.tolerances)
    verdict = replace(verdict, checks=[*verdict.checks, *(trend.check for trend in found)])
    append(path, entry | {"passed": not verdict.failed})
    return verdict, "\n" + to_markdown(found)


# --- The file -----------------------------------------------------------------------------------


def read_history(path: Path) -> list[Entry]:
    """Return the runs in a file, the oldest first; none if the file does not exist.

    Raises
    ------
    DataError
        A line is not what :func:`append` writes.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        lines = [""]
    return [_parsed(line, path, number) for number, line in enumerate(lines, start=1)]


def append(path: Path, entry: Entry) -> None:
    """Add a line to the file.

    Raises
    ------
    SystemFailure
        The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    except OSError as error:
        raise SystemFailure(
            f"cannot be written: {error.strerror}",
            remedy="choose another --history",
            file=path,
        ) from error


def _parsed(line: str, path: Path, number: int) -> Entry:
    try:
        entry: Entry = json.loads(line)
        metrics = [entry[name] for name in ("accuracy", "loss", "images_per_gflop")]
        if all(isinstance(metric, float) for metric in metrics):
            entry["machine"].items(), entry["config_sha256"]
            return entry
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DataError(
        "is not a run of the gate",
        remedy="remove the line, or choose another --history",
        file=path,
        key=f"line {number}",
    )


def _values(runs: Sequence[Entry], metric: str) -> list[float]:
    return [run[metric] for run in runs[-WINDOW:]]


def _shaping_speed(run: Entry) -> dict[str, Any]:
    return {key: value for key, value in run["machine"].items() if key in SHAPING_SPEED}


def _commit() -> str | None:
    """Return the commit from the environment of a CI system, or from Git."""
    for name in COMMIT_VARIABLES:
        if commit := os.environ.get(name):
            return commit
    try:
        git = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - Git is where the user has it
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return git.stdout.strip()
