"""The results of a sweep: its configurations ranked on validation, as table, CSV, JSON and plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

from lenet.config.schema import to_yaml
from lenet.errors import ConfigError, DataError, GateFailed, LenetError, SystemFailure
from lenet.inspect.canvas import new_figure, plain_text
from lenet.nn.scores import SCORES
from lenet.sweep.grid import Plan, Point, SweepRun, format_point, format_value, short_names
from lenet.sweep.one_run import Result, write_json
from lenet.system.files import replacing
from lenet.system.text import table


@dataclass(frozen=True)
class PointResult:
    """A configuration of the sweep: its runs, one for each seed, and their results."""

    point: Point
    runs: Sequence[SweepRun]
    results: Sequence[Result]

    @property
    def complete(self) -> bool:
        """Whether no run has failed: only then can it be chosen."""
        return not any(result.error for result in self.results)

    def values(self, metric: str) -> list[float]:
        """Return a metric of every run that has it."""
        values = (getattr(result, metric) for result in self.results)
        return [value for value in values if value is not None]

    def mean(self, metric: str) -> float | None:
        """Return the mean of a metric over the seeds."""
        values = self.values(metric)
        return fmean(values) if values else None

    def deviation(self, metric: str) -> float | None:
        """Return the standard deviation of a metric over the seeds (n - 1)."""
        values = self.values(metric)
        return stdev(values) if len(values) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration's results as JSON types."""
        return {
            "point": self.point,
            "runs": [run.name for run in self.runs],
            "failed": sum(bool(result.error) for result in self.results),
            **{
                f"{metric}_{name}": getattr(self, name)(metric)
                for metric in ("val_accuracy", "val_loss", "val_score")
                for name in ("mean", "deviation")
            },
        }


@dataclass(frozen=True)
class Results:
    """All results of a sweep, its configurations ranked by their means on validation.

    A better ``train.best_metric`` comes first, for equal ones a lower loss; if the sweep tries
    several metrics, a higher accuracy. A configuration with a failed run comes after all complete
    ones, and is not chosen.
    """

    plan: Plan
    rows: Sequence[PointResult]

    @classmethod
    def of(cls, plan: Plan, runs: Sequence[SweepRun], finished: Mapping[str, Result]) -> Results:
        """Rank the configurations of a sweep, all of whose runs are finished."""
        rows = []
        for first in range(0, len(runs), plan.seeds):
            members = runs[first : first + plan.seeds]
            results = [finished[run.name] for run in members]
            rows.append(PointResult(members[0].point, members, results))

        metric = chosen_by(plan)

        def rank(row: PointResult) -> tuple[bool, float, float]:
            value, loss = row.mean(_column(metric)), row.mean("val_loss")
            return row.complete, *SCORES[metric].rank(value or 0.0, loss or 0.0)

        return cls(plan, sorted(rows, key=rank, reverse=True))

    @property
    def best(self) -> PointResult | None:
        """The chosen configuration; None if each has a failed run."""
        return self.rows[0] if self.rows[0].complete else None

    def failure(self, directory: Path) -> LenetError | None:
        """Return the error that the sweep ends with if runs have failed.

        Its exit code is the lowest of theirs: an internal error (1) before divergence (5).
        """
        return failure([result for row in self.rows for result in row.results], directory)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        runs = [
            {"run": run.name, "point": run.point, "seed": run.seed, **asdict(result)}
            for row in self.rows
            for run, result in zip(row.runs, row.results, strict=True)
        ]
        return {
            "schema_version": 1,
            "chosen_on": "validation",
            "best": self.best and self.best.to_dict(),
            "configurations": [row.to_dict() for row in self.rows],
            "runs": sorted(runs, key=lambda run: run["run"]),
        }

    def to_csv(self) -> str:
        """Return a row for every run."""
        text = io.StringIO()
        keys = list(self.plan.grid)
        metrics = list(asdict(Result()))
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["run", *keys, "seed", *metrics])
        for run in self.to_dict()["runs"]:
            writer.writerow(
                [run["run"], *map(run["point"].get, keys), run["seed"], *map(run.get, metrics)]
            )
        return text.getvalue()

    def to_table(self) -> str:
        """Return aligned text, a line for every configuration, the best first."""
        names = short_names(self.plan.grid).values()
        shares = [f"validation {share.replace('_', ' ')}" for share in self._shares()]
        return table(
            [(*names, "runs", *shares, "validation loss", ""), *map(self._cells, self.rows)],
            gap="   ",
        )

    def _shares(self) -> list[str]:
        """Return the metrics of the table that are shares."""
        metric = chosen_by(self.plan)
        return ["accuracy", *([metric] if _column(metric) == "val_score" else [])]

    def _cells(self, row: PointResult) -> list[str]:
        complete = sum(not result.error for result in row.results)
        return [
            *map(format_value, row.point.values()),
            f"{complete}/{len(row.runs)}",
            *(
                _mean_and_deviation(row, _column(share), lambda x: f"{100 * x:.2f}", " %")
                for share in self._shares()
            ),
            _mean_and_deviation(row, "val_loss", lambda x: f"{x:.4f}", ""),
            "chosen" if row is self.best else "",
        ]

    def to_text(self, directory: Path) -> str:
        """Return the table, and the commands for the selected configuration."""
        if self.best is None:
            lines = ["every configuration has a failed run: none is chosen"]
        else:
            best = directory / "best.yaml"
            seeds = self.plan.seeds
            networks = "its network" if seeds == 1 else f"its {seeds} networks as an ensemble"
            lines = [
                f"{best}: train it with lenet train --config {best}",
                f"{directory}: evaluate {networks} with lenet eval {directory}",
            ]
            if self.best.point:
                lines.insert(0, f"chosen by validation: {format_point(self.best.point)}")
        return "\n".join([self.to_table(), "", *lines])

    def write(self, directory: Path) -> None:
        """Write ``results.json``, ``results.csv`` and, if one is chosen, ``best.yaml``."""
        write_json(directory / "results.json", self.to_dict())
        with replacing(directory / "results.csv") as file:
            file.write(self.to_csv().encode())
        if self.best is not None:
            config = self.plan.config.with_values(self.best.point)
            with replacing(directory / "best.yaml") as file:
                file.write(to_yaml(config).encode())


def failure(results: Sequence[Result], directory: Path) -> LenetError | None:
    """Return the error of some runs if any has failed."""
    failed = [result for result in results if result.error]
    if not failed:
        return None
    kinds = (LenetError, ConfigError, DataError, SystemFailure, GateFailed)
    code = min(result.exit_code for result in failed)
    kind = next(kind for kind in kinds if kind.exit_code == code)
    return kind(
        f"{len(failed)} of {len(results)} runs failed",
        remedy="--resume repeats all of them but those that diverged",
        file=directory,
    )


def chosen_by(plan: Plan) -> str:
    """Return the metric by which the configurations of a sweep are ranked."""
    return "accuracy" if "train.best_metric" in plan.grid else plan.config.train.best_metric


def _column(metric: str) -> str:
    """Return the field of a result that has a metric."""
    return f"val_{metric}" if metric in {"accuracy", "loss"} else "val_score"


def _mean_and_deviation(
    row: PointResult, metric: str, show: Callable[[float], str], unit: str
) -> str:
    mean, deviation = row.mean(metric), row.deviation(metric)
    if mean is None:
        return "-"
    return show(mean) + (f" ± {show(deviation)}" if deviation is not None else "") + unit


# --- The plot -----------------------------------------------------------------------------------

MARKERS: Final = (
    (False, {"label": "other", "color": "0.55", "marker": "o"}),
    (True, {"label": "chosen", "color": "black", "marker": "D"}),
)


def plot(results: Mapping[str, Any]) -> Any:  # noqa: ANN401 - Matplotlib is optional
    """Return a figure of the validation error of every run over each key, or the seed."""
    runs = [run for run in results["runs"] if run["val_accuracy"] is not None]
    errors = [100 * (1 - run["val_accuracy"]) for run in runs]
    chosen = [run["run"] in (results["best"] or {"runs": ()})["runs"] for run in runs]
    failed = len(results["runs"]) - len(runs)
    keys = list(results["runs"][0]["point"]) or ["seed"]
    title = f"{len(runs)} runs, a dot each" + (f"; {failed} more failed" if failed else "")
    figure = new_figure(max(5.0, 3.2 * len(keys)), 3.4, title)
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    for key, axes in zip(keys, panels, strict=True):
        x = _positions(axes, [{"seed": run["seed"], **run["point"]}[key] for run in runs])
        for is_chosen, marker in MARKERS:
            dots = [(a, b) for a, b, c in zip(x, errors, chosen, strict=True) if c is is_chosen]
            axes.scatter(*zip(*dots, strict=True) if dots else ((), ()), s=26, **marker)
        axes.margins(x=0.12)
        axes.set_xlabel(plain_text(key))
    if errors and 0 < 10 * min(errors) < max(errors):
        panels[0].set_yscale("log")
    panels[0].set_ylabel("validation error, in %")
    panels[0].legend(fontsize=8)
    return figure


def _positions(axes: Any, values: Sequence[Any]) -> Sequence[float]:  # noqa: ANN401
    """Return the positions of values on the x axis, and set its ticks.

    Numbers are drawn to scale, other values at equal distances.
    """
    if not all(isinstance(value, int | float) for value in values):
        names = list(dict.fromkeys(map(str, values)))
        axes.set_xticks(range(len(names)), map(plain_text, names))
        return [names.index(str(value)) for value in values]
    ticks = sorted(set(values))
    if ticks and 0 < 4 * ticks[0] <= ticks[-1]:
        axes.set_xscale("log")
    if len(ticks) <= 8:
        axes.set_xticks(ticks, [f"{number:g}" for number in ticks])
        axes.set_xticks([], minor=True)
    return values
