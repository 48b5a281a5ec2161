"""The runs of a sweep: the points of a grid, or points drawn from it, each with several seeds.

A plan is the configuration that all runs share, and the grid over it. The points, seeds and names
of the runs are a pure function of the plan, so a sweep that is resumed needs no list of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from lenet.config.rules import accepted, as_yaml, shown
from lenet.config.schema import SETTINGS, Config, differences
from lenet.config.strict_yaml import parse
from lenet.errors import ConfigError
from lenet.system.text import clipped
from lenet.train.run_directory import FREE_TO_CHANGE

MAX_DRAWS: Final = 1000  # of known points in a row, before the grid counts as exhausted
MAX_NAME_LENGTH: Final = 100

Point: TypeAlias = dict[str, Any]
"""Dotted keys and their values: where a run differs from the shared configuration."""


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``, drawn uniformly on a linear or logarithmic scale.

    Examples
    --------
    >>> rate = Range("log", 0.001, 0.1)
    >>> rng = np.random.default_rng(0)
    >>> rate.draw(rng), rate.draw(rng), Range("linear", 1, 6).draw(rng)
    (0.0188, 0.00346, 1)
    """

    scale: str
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.scale}:{self.low!r}:{self.high!r}"

    def draw(self, rng: np.random.Generator) -> float:
        """Return a number of three digits; an integer if the bounds are integers."""
        if self.scale == "log":
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        rounded = round(value) if isinstance(self.low, int) else float(f"{value:.3g}")
        return min(max(rounded, self.low), self.high)


Axis: TypeAlias = "tuple[Any, ...] | Range"


@dataclass(frozen=True)
class SweepRun:
    """A training run of a sweep; its name is that of its directory."""

    name: str
    point: Point
    seed: int
    config: Config


@dataclass(frozen=True)
class Plan:
    """A grid over a configuration."""

    config: Config
    grid: Mapping[str, Axis]
    random: int | None
    seeds: int

    def points(self) -> list[Point]:
        """Return the points, all different; fewer than ``random`` if the grid has fewer."""
        if self.random is not None:
            return list(islice(self._draw(), self.random))
        lists = [axis for axis in self.grid.values() if isinstance(axis, tuple)]
        return [dict(zip(self.grid, values, strict=True)) for values in product(*lists)]

    def _draw(self) -> Iterator[Point]:
        rng = np.random.default_rng(self.config.seed)
        seen: set[tuple[Any, ...]] = set()
        repeats = 0
        while repeats < MAX_DRAWS:
            point = {
                key: axis.draw(rng) if isinstance(axis, Range) else axis[rng.integers(len(axis))]
                for key, axis in self.grid.items()
            }
            repeats += 1
            if (values := tuple(point.values())) not in seen:
                repeats = 0
                seen.add(values)
                yield point

    def runs(self, directory: Path) -> list[SweepRun]:
        """Return the runs, the seeds of a point together, with their directories in ``directory``.

        Each run trains in one process: several runs train at the same time.
        """
        count = len(points := self.points()) * self.seeds
        runs: list[SweepRun] = []
        for point in points:
            for seed in range(self.config.seed, self.config.seed + self.seeds):
                number = f"{len(runs) + 1:0{len(str(count))}}"
                values = [format_point(point, "-", MAX_NAME_LENGTH)] if point else []
                name = "-".join([number, *values, f"seed={seed}"])
                own = {"seed": seed, "train.workers": 1, "output.dir": str(directory / name)}
                runs.append(SweepRun(name, point, seed, self.config.with_values({**point, **own})))
        return runs

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON types."""
        return {
            "schema_version": 1,
            "grid": {
                key: str(axis) if isinstance(axis, Range) else list(axis)
                for key, axis in self.grid.items()
            },
            "random": self.random,
            "seeds": self.seeds,
            "config": self.config.to_dict(),
        }


def format_point(point: Point, separator: str = " ", max_length: int | None = None) -> str:
    """Return a point as ``key=value``, keys without their section where that is unambiguous.

    With ``max_length``, as a part of a file name: only letters, digits and ``.=_-``.

    Examples
    --------
    >>> format_point({"optimizer.lr": 0.05, "model.channels": (6, 16)})
    'lr=0.05 channels=6x16'
    >>> format_point({"optimizer.name": "sgd", "schedule.name": "one-cycle"}, "-", 100)
    'optimizer.name=sgd-schedule.name=one-cycle'
    """
    names = short_names(point)
    text = separator.join(f"{names[key]}={format_value(value)}" for key, value in point.items())
    if max_length is None:
        return text
    return re.sub("[^A-Za-z0-9.=_-]", "-", text)[:max_length]


def format_value(value: object) -> str:
    """Return a value as short as possible.

    Examples
    --------
    >>> format_value(0.05), format_value(1.0), format_value((6, 16)), format_value(None)
    ('0.05', '1', '6x16', 'null')
    """
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return as_yaml(value).removesuffix(".0")


def short_names(keys: Collection[str]) -> dict[str, str]:
    """Return the last part of every dotted key, or the whole key if that is ambiguous."""
    lasts = [key.rpartition(".")[2] for key in keys]
    return {
        key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)
    }


def changes(before: Plan, now: Plan) -> list[str]:
    """Return the options and dotted keys that differ, but those of where and how it runs."""
    options = [
        f"--{name}"
        for name in ("grid", "random", "seeds")
        if getattr(before, name) != getattr(now, name)
    ]
    keys = [key for key in differences(before.config, now.config) if key not in FREE_TO_CHANGE]
    return options + keys


# --- Reading a grid -----------------------------------------------------------------------------

MAX_RUNS: Final = 10_000


def make_plan(
    config: Config, grid: Sequence[str], random: int | None = None, seeds: int = 1
) -> tuple[Plan, list[ConfigError]]:
    """Read a grid such as ``optimizer.lr=0.01,0.03`` and check every point of it."""
    axes: dict[str, Axis] = {}
    problems: list[ConfigError] = []
    for text in grid:
        key, equals, values = (part.strip() for part in text.partition("="))
        try:
            if not equals:
                raise ConfigError("has no values", remedy="write key=value,value")
            if key in axes:
                raise ConfigError("is given twice", remedy="give all its values in one --grid")
            _check_key(key, config)
            axes[key] = _read_range(key, values, random) or _read_values(key, values, problems)
        except ConfigError as error:
            problems.append(_in_grid(error, key))
    if not grid and (seeds == 1 or random is not None):
        problems.append(
            ConfigError(
                "is missing, so there is nothing to compare",
                remedy="give a key and its values, such as --grid optimizer.lr=0.01,0.03, or "
                "--seeds N for one configuration with N seeds",
                key="--grid",
            )
        )
    if config.data.validation == 0:
        problems.append(
            ConfigError(
                "is 0, so there are no images to choose the best run by",
                remedy="set some aside, such as --set data.validation=5000",
                key="data.validation",
            )
        )
    plan = Plan(config, axes, random, seeds)
    return plan, problems or _problems_of_points(plan)


def _check_key(key: str, config: Config) -> None:
    """Reject an unknown key, and a key that must not differ between runs that are compared."""
    if key not in SETTINGS:
        config.with_values({key: None})  # raises, with a suggestion
    if key == "seed":
        raise ConfigError("is set by the sweep", remedy="use --seeds N instead")
    if key.startswith("data.") or key == "model.classes":
        raise ConfigError(
            "must be the same in all runs, which are evaluated on the same images",
            remedy="set it for all runs, with --set",
        )
    if key in FREE_TO_CHANGE:
        raise ConfigError(
            "does not change the trained network",
            remedy="leave it out, or use --output and --jobs",
        )


def _read_range(key: str, text: str, random: int | None) -> Range | None:
    scale, *bounds = text.split(":")
    if scale not in ("log", "linear") or len(bounds) != 2:
        return None
    if random is None:
        raise ConfigError(
            f"{clipped(text)} is a range", remedy="draw points from it with --random N"
        )
    low, high = (accepted(SETTINGS[key], key, parse(bound)) for bound in bounds)
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        raise ConfigError(
            f"{clipped(text)} is not a range of numbers", remedy="list the values, with commas"
        )
    if not low < high or (scale == "log" and low <= 0):
        raise ConfigError(
            f"{clipped(text)} is not a range", remedy=f"write {scale}:LOW:HIGH with "
            f"{'0 < ' if scale == 'log' else ''}LOW < HIGH",
        )  # fmt: skip
    return Range(scale, low, high)


def _read_values(key: str, text: str, problems: list[ConfigError]) -> tuple[Any, ...]:
    """Return the values that the key accepts; add the problems of the others to ``problems``."""
    given = parse(f"[{text}]")
    if not isinstance(given, list) or not given:
        raise ConfigError("has no values", remedy="write key=value,value")
    values: list[Any] = []
    for value in given:
        try:
            kept = accepted(SETTINGS[key], key, value)
            if kept in values:
                raise ConfigError(f"contains {shown(value)} twice", remedy="keep one of them")
            values.append(kept)
        except ConfigError as error:
            problems.append(_in_grid(error, key))
    return tuple(values)


def _in_grid(error: ConfigError, key: str) -> ConfigError:
    error.key = f"--grid {clipped(key)}".rstrip()
    return error


def _problems_of_points(plan: Plan) -> list[ConfigError]:
    """Check the number of runs, and the whole configuration at every point."""
    sizes = [len(axis) for axis in plan.grid.values() if isinstance(axis, tuple)]
    runs = (math.prod(sizes) if plan.random is None else plan.random) * plan.seeds
    if runs > MAX_RUNS:
        return [
            ConfigError(
                f"gives {runs:,} runs, more than {MAX_RUNS:,}",
                remedy="list fewer values, or draw some points with --random N",
                key="--grid",
            )
        ]
    points = plan.points()
    if plan.random is not None and len(points) < plan.random:
        return [
            ConfigError(
                f"requests {plan.random} points, the grid has {len(points)}",
                remedy="leave it out, or give more values",
                key="--random",
            )
        ]
    problems: dict[str, ConfigError] = {}  # by message: the first of equal ones
    last_seed = plan.config.seed + plan.seeds - 1
    for point in points:
        try:
            plan.config.with_values({**point, "seed": last_seed})
        except ConfigError as error:
            if str(error) not in problems:
                problems[str(error)] = error
                error.key = f"--grid {format_point(point)}: {error.key}"
    return list(problems.values())
