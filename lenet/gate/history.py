"""The history of a gate: a file with one line of JSON per run, and the trend over its runs.

Each run alone may be within its tolerances while accuracy or speed get a little worse with every
commit, above all where the baseline is updated on the way. So the history is divided where its
level changes (:mod:`lenet.gate.change_points`), and the trend fails if the latest level is worse
than an earlier one, from the median of the earlier half of that to the median of the later half of
the latest, by more than half the tolerance of a single run. The commit of the first run after the
earlier level is named. Runs are comparable if they have the same
configuration; for the speed, also the same processor and libraries.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any, Final

from lenet.config.schema import SETTINGS, Config
from lenet.config.sections import Tolerances
from lenet.errors import DataError, SystemFailure
from lenet.gate.change_points import MIN_SIZE, change_points
from lenet.gate.checks import SHAPING_SPEED, Check
from lenet.gate.measurement import Measurement
from lenet.system.files import open_regular
from lenet.system.text import markdown_table, printable
from lenet.train.run_directory import FREE_TO_CHANGE

COMMIT_VARIABLES: Final = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")
METRICS: Final = ("accuracy", "loss", "images_per_gflop")
MIN_RUNS: Final = 12
MAX_RUNS: Final = 400  # the latest runs, of which the trend is computed
BARS: Final = "▁▂▃▄▅▆▇█"
MAX_BARS: Final = 60  # the latest runs, which fit on a line

Entry = dict[str, Any]
"""A run: the object on one line of the file."""


# --- The file -----------------------------------------------------------------------------------


def entry_of(measurement: Measurement, machine: dict[str, str | int], config: Config) -> Entry:
    """Return the line for a run."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        **{name: getattr(measurement, name) for name in METRICS},
        "config_sha256": _checksum(config),
        "machine": machine,
    }


def read_history(path: Path) -> tuple[list[Entry], list[str]]:
    """Return the runs in a file, the oldest first, and a warning for each other line."""
    try:
        with open_regular(path, DataError, remedy="choose another --history") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return [], []
    runs, warnings = [], []
    for number, line in enumerate(lines, start=1):
        if run := _parsed(line):
            runs.append(run)
        elif line.strip():
            warnings.append(f"{path}: line {number}: is not a run of the gate; it is left out")
    return runs, warnings


def append(path: Path, entry: Entry) -> None:
    """Add a line to the file, completely or not at all; a line without an end gets one first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
            begin = b"\n" if size and file.read(1) != b"\n" else b""
            line = begin + json.dumps(entry).encode() + b"\n"
            try:
                if file.write(line) != len(line):
                    raise OSError("the disk is full")
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise SystemFailure(
            f"cannot be written: {error.strerror or error}",
            remedy="free space, or choose another --history",
            file=path,
        ) from error


def _parsed(line: bytes) -> Entry | None:
    """Return the run on a line; None if it is not what :func:`append` writes."""
    try:
        entry: Entry = json.loads(line)
        metrics = [float(entry[name]) for name in METRICS if type(entry[name]) in (int, float)]
        facts = [entry["config_sha256"], *entry["machine"].values()]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    fits = len(metrics) == len(METRICS) and all(0 <= metric < math.inf for metric in metrics)
    named = all(isinstance(fact, str | int) for fact in facts)
    return entry if fits and named and metrics[-1] > 0 else None


def _checksum(config: Config) -> str:
    """Return a checksum of the keys that affect the results and are not the default.

    So a run stays comparable if a later version of the package has more keys.
    """
    default = Config()
    changed = {
        key: attrgetter(key)(config)
        for key in SETTINGS
        if key not in FREE_TO_CHANGE and attrgetter(key)(config) != attrgetter(key)(default)
    }
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()


def _commit() -> str | None:
    """Return the commit from the environment of a CI system, or from Git."""
    for name in COMMIT_VARIABLES:
        if commit := os.environ.get(name):
            return commit
    command = ["git", "rev-parse", "HEAD"]
    try:
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None


# --- The trend ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trend:
    """One metric over the comparable runs, the oldest first.

    ``tolerance`` is half of that of a single run, negative for a metric that must not fall, and
    relative to the earlier value for all but the accuracy.
    """

    metric: str
    values: Sequence[float]
    tolerance: float
    commits: Sequence[str | None] = ()

    @property
    def relative(self) -> bool:
        return self.metric != "accuracy"

    @cached_property
    def levels(self) -> list[tuple[int, int]]:
        """The first run of every level, from 0, and the first run after it."""
        starts = [0, *change_points(self.values)]
        return list(zip(starts, [*starts[1:], len(self.values)], strict=True))

    def _difference(self, level: tuple[int, int]) -> float:
        """Return the change from the earlier half of a level to the later half of the latest."""
        (start, end), (latest, now) = level, self.levels[-1]
        before = median(self.values[start : max((start + end) // 2, start + MIN_SIZE)])
        after = median(self.values[min((latest + now) // 2, now - MIN_SIZE) :])
        return after / before - 1 if self.relative and before else after - before

    def change(self) -> tuple[int, float]:
        """Return the first run after the earlier level that was better by most, and the change.

        The run is 0, the change that over all runs, if there is only one level.
        """
        found = [(end, self._difference((start, end))) for start, end in self.levels[:-1]]
        found = found or [(0, self._difference(self.levels[0]))]
        return max(found, key=lambda pair: pair[1] / self.tolerance)

    def drift(self) -> int | None:
        """Return the first run, from 0, of a change for the worse; None without one."""
        if len(self.values) < MIN_RUNS:
            return None
        place, change = self.change()
        return place if place and change / self.tolerance > 1 else None

    def note(self) -> str | None:
        """Return a line if the latest level is better than the one before by the tolerance."""
        if len(self.values) < MIN_RUNS or len(self.levels) < 2 or self.drift() is not None:
            return None
        change, start = self._difference(self.levels[-2]), self.levels[-1][0]
        if -change / self.tolerance <= 1:
            return None
        return (
            f"{self.metric} is better since {self._run(start)}: "
            f"{change:{'+.1%' if self.relative else '+.4f'}}; the baseline can be tightened: "
            "lenet regress --update"
        )

    def _run(self, number: int) -> str:
        """Name a run, counted from 0, and its commit."""
        commit = self.commits[number] if self.commits else None
        named = f", commit {printable(commit)[:12]}" if commit else ""
        return f"run {number + 1} of {len(self.values)}{named}"

    def check(self) -> Check:
        """Return the line of the verdict."""
        name, form = f"trend of the {self.metric}", "+.1%" if self.relative else "+.4f"
        count, limit = len(self.values), f"{self.tolerance:{form}}"
        if count < MIN_RUNS:
            return Check(name, None, f"{count} runs", f"{limit}, from {MIN_RUNS} runs on", None)
        place, change = self.change()
        over = f"since {self._run(place)}" if place else f"over {count} runs"
        return Check(name, None, f"{change:{form}} {over}", limit, self.drift() is None)

    def bars(self) -> str:
        """Return the latest values as a line of bars, from the smallest to the largest."""
        values = self.values[-MAX_BARS:]
        low, high = min(values), max(values)
        scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
        return "".join(BARS[round(scale * (value - low))] for value in values)


def trends(history: Sequence[Entry], tolerances: Tolerances) -> list[Trend]:
    """Return the trends up to the last run of a history.

    Examples
    --------
    >>> run = {"config_sha256": "a", "machine": {}, "accuracy": 0.9, "loss": 0.3, "commit": None}
    >>> runs = [{**run, "images_per_gflop": 200 * 0.99**k} for k in range(24)]
    >>> [trend.metric for trend in trends(runs, Tolerances()) if trend.drift()]
    ['images per GFLOP']
    """
    latest = history[-1]
    runs = [run for run in history if run["config_sha256"] == latest["config_sha256"]]
    alike = [run for run in runs if _shaping_speed(run) == _shaping_speed(latest)]

    def trend(name: str, runs: Sequence[Entry], tolerance: float) -> Trend:
        runs = runs[-MAX_RUNS:]
        values = [float(run[name.replace(" ", "_").lower()]) for run in runs]
        return Trend(name, values, tolerance / 2, [run.get("commit") for run in runs])

    return [
        trend("accuracy", runs, -tolerances.accuracy_drop),
        trend("loss", runs, tolerances.loss_rise),
        trend("images per GFLOP", alike, -tolerances.slowdown),
    ]


def trends_markdown(trends: Sequence[Trend]) -> str:
    """Return the trends as a table with a line of bars for each."""
    rows = [("metric", "first", "last", "change", "tolerance", "latest runs")]
    for trend in trends:
        check = trend.check()
        first, last = f"{trend.values[0]:.4g}", f"{trend.values[-1]:.4g}"
        rows.append((trend.metric, first, last, str(check.measured), check.tolerance, trend.bars()))
    return f"### Trend\n\n{markdown_table(rows)}\n"


def _shaping_speed(run: Entry) -> dict[str, object]:
    return {key: value for key, value in run["machine"].items() if key in SHAPING_SPEED}
