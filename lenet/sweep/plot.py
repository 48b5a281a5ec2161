"""A plot of a sweep: the validation error of its runs over each key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lenet.inspect.figures import new_figure, plain_text

MARKERS: Final = (
    (False, {"label": "other", "color": "0.55", "marker": "o"}),
    (True, {"label": "chosen", "color": "black", "marker": "D"}),
)


def plot(results: Mapping[str, Any]) -> Any:  # noqa: ANN401 - Matplotlib is optional
    """Return a figure of the validation error of every run over each key of the grid, or the seed.

    Parameters
    ----------
    results
        As in ``results.json``.
    """
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
