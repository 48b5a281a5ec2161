"""A grid from the command line: ``key=value,value`` read, and every point of it checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from lenet.config.rules import accepted, shown
from lenet.config.schema import SETTINGS, Config
from lenet.config.strict_yaml import parse
from lenet.errors import ConfigError
from lenet.sweep.plan import Axis, Plan, Range, format_point
from lenet.system.text import clipped
from lenet.train.run_directory import FREE_TO_CHANGE

MAX_RUNS: Final = 10_000


def make_plan(
    config: Config, grid: Sequence[str], random: int | None = None, seeds: int = 1
) -> tuple[Plan, list[ConfigError]]:
    """Read a grid such as ``optimizer.lr=0.01,0.03`` and check every point of it.

    Parameters
    ----------
    config
        What all runs share.
    grid
        Strings ``key=value,value…``, or with ``random`` also ``key=log:LOW:HIGH`` and
        ``key=linear:LOW:HIGH``. Values are YAML.
    random, seeds
        As in :class:`Plan`.

    Returns
    -------
    The plan, and all problems with it; if there are any, it must not be run.
    """
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
