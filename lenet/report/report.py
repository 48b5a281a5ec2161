"""A report on one training run, or on several side by side, as a single HTML page.

The page contains its images and needs no script and no other file. It is also valid XML; its style
is ``report.css`` beside this file. In order: the summary in sentences, the table of results, the
page, configuration and machine. Charts and classes have their own files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from operator import attrgetter
from statistics import median

from lenet.config.schema import SETTINGS, Config
from lenet.evaluation.metrics import Evaluation
from lenet.report.charts import curves
from lenet.report.classes import (
    ABOUT_FILTERS,
    ABOUT_MISTAKES,
    class_tables,
    filters,
    worst_mistakes,
)
from lenet.report.elements import columns, escape, html_page, note, percent, table
from lenet.report.run_summary import RunSummary
from lenet.system.text import printable
from lenet.train.events import EpochEvent


def summary(runs: Sequence[RunSummary]) -> str:
    """Return a few sentences that sum the runs up."""
    return _of_one(runs[0]) if len(runs) == 1 else _of_several(runs)


def _of_one(run: RunSummary) -> str:
    trained = f"The best of {len(run.log)} epochs is epoch {run.checkpoint.epoch}"
    seconds = sum(epoch.seconds for epoch in run.log)
    ended = f"{trained}; training took {_duration(seconds)}."
    if run.test is None:
        best = _best(run)
        score = f"Validation accuracy {percent(best.val_accuracy)}. " if best.val_accuracy else ""
        return f"{score}{ended}"
    evaluation = run.test.evaluation
    first = (
        f"Test accuracy {percent(evaluation.accuracy)}: {evaluation.mistakes:,} mistakes in "
        f"{evaluation.count:,} test images of {run.data}."
    )
    pairs = evaluation.worst_pairs()
    if not pairs:
        return f"{first} {ended}"
    true, given, count = pairs[0]
    times = "once" if count == 1 else f"{count:,} times"
    most = f"Most often, {run.classes[true]} is predicted as {run.classes[given]}: {times}."
    return f"{first} {most} {ended}"


def _of_several(runs: Sequence[RunSummary]) -> str:
    """Compare the two runs with the fewest mistakes, if they have the same test images."""
    tested = [(run, run.test.evaluation) for run in runs if run.test]
    if len(tested) < len(runs):
        return f"{len(runs)} runs; not all could be evaluated on test images."
    if len({(run.data, evaluation.count) for run, evaluation in tested}) > 1:
        return f"{len(runs)} runs with different test images: their results cannot be compared."
    (best, first), (next_best, second), *_ = sorted(tested, key=lambda pair: pair[1].mistakes)
    fewer = second.mistakes - first.mistakes
    if not fewer:
        return (
            f"{best.name} and {next_best.name} have the fewest mistakes: {first.mistakes:,} of "
            f"{first.count:,} each."
        )
    spread = 2 * sqrt(first.mistakes + second.mistakes)
    verdict = "less than" if fewer < spread else "more than"
    chance = ", so it may be chance" if fewer < spread else ""
    return (
        f"{best.name} has the fewest mistakes: {first.mistakes:,} of {first.count:,}, {fewer:,} "
        f"fewer than {next_best.name}. The difference is {verdict} two standard errors "
        f"({spread:.0f}){chance}."
    )


def results(runs: Sequence[RunSummary]) -> str:
    """Return the table of results, and why test images are missing."""

    def of_test(show: Callable[[Evaluation], str]) -> list[str]:
        return [show(run.test.evaluation) if run.test else "–" for run in runs]

    def of_best(show: Callable[[EpochEvent], str]) -> list[str]:
        return [show(_best(run)) for run in runs]

    seconds = [sum(epoch.seconds for epoch in run.log) for run in runs]
    speed = [median(epoch.images_per_second for epoch in run.log) for run in runs]
    rows = [
        ("Test accuracy", of_test(lambda e: percent(e.accuracy)), "first"),
        ("Mistakes", of_test(lambda e: f"{e.mistakes:,} of {e.count:,}"), ""),
        ("Test loss", of_test(lambda e: f"{e.loss:.4f}"), ""),
        ("Validation accuracy", of_best(lambda e: percent(e.val_accuracy)), ""),
        ("Training accuracy", of_best(lambda e: percent(e.train_accuracy)), ""),
        ("Best epoch", [f"{run.checkpoint.epoch} of {len(run.log)}" for run in runs], ""),
        ("Training time", [_duration(s) for s in seconds], ""),
        ("Training speed", [f"{s:,.0f} images/s" for s in speed], ""),
    ]
    missing = "".join(note(f"{run.name}: {run.problem}") for run in runs if run.problem)
    return f'<div class="card fit">{table(runs, rows)}</div>{missing}'


def _best(run: RunSummary) -> EpochEvent:
    return run.log[min(run.checkpoint.epoch, len(run.log)) - 1]


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


MAX_LISTED = 6  # parts of a value in the table of the configuration
LAYOUTS = ((1, "beside"), (4, "below"))  # of runs up to these numbers, classes of the style


def to_html(runs: Sequence[RunSummary]) -> str:
    """Return the page about ``runs``."""
    sets = ", ".join(dict.fromkeys(run.data for run in runs))
    names = ", ".join(f"<code>{escape(run.name)}</code>" for run in runs)
    sections = (
        ("Results", results(runs)),
        ("Training", curves(runs)),
        ("Classes", columns(runs, lambda run: class_tables(run, runs.index(run)))),
        ("Worst mistakes", note(ABOUT_MISTAKES) + columns(runs, worst_mistakes)),
        ("Filters", note(ABOUT_FILTERS) + columns(runs, filters)),
        ("Configuration", _configuration(runs)),
        ("Machine", _machine(runs)),
    )
    return html_page(
        f"Training on {sets}",
        names,
        sections,
        summary=summary(runs),
        layout=next((name for most, name in LAYOUTS if len(runs) <= most), "stacked"),
    )


# --- Configuration and machine ------------------------------------------------------------------


def _configuration(runs: Sequence[RunSummary]) -> str:
    """Return the keys that are not the default or differ, and below them, folded, all keys."""
    default, rows, rest = Config(), [], []
    for key in SETTINGS:
        read = attrgetter(key)
        values = [read(run.checkpoint.config) for run in runs]
        differs = any(value != values[0] for value in values)
        row = key, [printable(_written(value)) for value in values], "differs" if differs else ""
        rest.append(row)
        if differs or any(value != read(default) for value in values):
            rows.append(row)
    chosen = table(runs, rows) if rows else "<p>All keys have their defaults.</p>"
    return (
        f'<div class="card fit">{note("Keys that are not the default, or differ.")}{chosen}'
        f"<details><summary>All keys</summary>{table(runs, rest)}</details></div>"
    )


def _written(value: object) -> str:
    match value:
        case None:
            return "null"
        case tuple() if len(value) > MAX_LISTED:
            first = ", ".join(map(str, value[:MAX_LISTED]))
            return f"{first}, … ({len(value)} in all)"
        case tuple():
            return ", ".join(map(str, value))
        case float():
            return f"{value:g}"
    return str(value)


def _machine(runs: Sequence[RunSummary]) -> str:
    keys = dict.fromkeys(key for run in runs for key in run.checkpoint.facts)
    rows = [
        (key, [printable(run.checkpoint.facts.get(key, "–")) for run in runs], "") for key in keys
    ]
    return f'<div class="card fit">{table(runs, rows)}</div>'
