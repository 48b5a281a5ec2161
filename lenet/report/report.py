"""A report on one training run, or on several side by side, as a single HTML page.

Reads the output directory of training, evaluates ``best.npz`` on the test images, and writes HTML
that contains its images and needs no script and no other file. The page is also valid XML; its
style is ``report.css`` beside this file.

In order: reading a run, the page, its sections from the results to the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from operator import attrgetter
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from lenet.config.schema import SETTINGS, Config
from lenet.data.pixels import for_display
from lenet.nn.convolution import Convolution
from lenet.report.charts import Line, line_chart, png
from lenet.report.page import html_page, scrolling
from lenet.system.errors import LenetError
from lenet.system.text import printable
from lenet.training.build import with_data
from lenet.training.checkpoint import Checkpoint
from lenet.training.events import EpochEvent
from lenet.training.log import read_log
from lenet.training.metrics import ClassScores, Evaluation
from lenet.training.mistakes import EvaluationWithMistakes, evaluate_with_mistakes
from lenet.training.restore import plain_network, read_checkpoint

COLOURS = 6  # colours of runs in the style; the seventh run has the first again
MAX_KERNELS = 512  # filters × channels of a layer that is shown
POSITIVE, NEGATIVE = (0, 114, 178), (213, 94, 0)
ABOUT_MISTAKES = "True class → predicted class, and the probability of the predicted class."
ABOUT_FILTERS = "A column is a filter, a row an input channel; blue is positive, orange negative."


# --- Reading a run ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RunSummary:
    """What the page shows of a run."""

    name: str
    log: Sequence[EpochEvent]
    checkpoint: Checkpoint
    test: EvaluationWithMistakes | None
    """The evaluation on the test images, if they could be read."""
    problem: str
    """Why the test images could not be read; otherwise empty."""

    @property
    def classes(self) -> Sequence[str]:
        """The names of its classes, each on one line."""
        return [printable(name) for name in self.checkpoint.class_names]


def read_run(directory: Path, data_dir: str | None = None, data: str | None = None) -> RunSummary:
    """Read a run's directory and evaluate its best epoch on the test images.

    Parameters
    ----------
    directory
        Of the run.
    data_dir
        Searched first for the data.
    data
        Another data set, a name or a path, or None for the run's own.

    Raises
    ------
    DataError
        The log is missing or damaged.
    CheckpointError
        ``best.npz`` is missing or damaged.
    """
    checkpoint = read_checkpoint(directory / "best.npz")
    log = read_log(directory / "log.jsonl")
    test, problem = None, ""
    try:
        config = with_data(checkpoint.config, data, data_dir)
        test = evaluate_with_mistakes(replace(checkpoint, config=config), data_dir)
    except LenetError as error:
        problem = f"no test images: {error}"
    return RunSummary(printable(directory.resolve().name), log, checkpoint, test, problem)


# --- The page -----------------------------------------------------------------------------------


def to_html(runs: Sequence[RunSummary]) -> str:
    """Return the page about ``runs``."""
    sets = ", ".join(dict.fromkeys(printable(run.checkpoint.dataset) for run in runs))
    names = ", ".join(f"<code>{escape(run.name)}</code>" for run in runs)
    sections = (
        ("Results", _results(runs)),
        ("Training", _curves(runs)),
        ("Classes", _columns(runs, _class_tables)),
        ("Worst mistakes", _note(ABOUT_MISTAKES) + _columns(runs, _worst_mistakes)),
        ("Filters", _note(ABOUT_FILTERS) + _columns(runs, _filters)),
        ("Configuration", _configuration(runs)),
        ("Machine", _machine(runs)),
    )
    return html_page(f"Training on {sets}", names, sections)


def _columns(runs: Sequence[RunSummary], content: Callable[[RunSummary], str]) -> str:
    """Return the ``content`` of every run, side by side."""
    several = len(runs) > 1
    return '<div class="grid">' + "".join(
        f"<article>{f'<h3>{escape(run.name)}</h3>' if several else ''}{content(run)}</article>"
        for run in runs
    ) + "</div>"  # fmt: skip


def _table(runs: Sequence[RunSummary], rows: Iterable[tuple[str, Sequence[str], str]]) -> str:
    """Return a table with a column for every run; a row is a heading, cells and a CSS class."""
    heads = "".join(f'<th scope="col">{escape(run.name)}</th>' for run in runs)
    body = "".join(
        f'<tr class="{style}"><th scope="row">{escape(heading)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for heading, cells, style in rows
    )
    return scrolling(
        "table",
        f'<table class="facts"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table>",
    )


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f} %"


# --- Results and training -----------------------------------------------------------------------


def _results(runs: Sequence[RunSummary]) -> str:
    def of_test(show: Callable[[Evaluation], str]) -> list[str]:
        return [show(run.test.evaluation) if run.test else "–" for run in runs]

    def of_best(show: Callable[[EpochEvent], str]) -> list[str]:
        return [show(run.log[min(run.checkpoint.epoch, len(run.log)) - 1]) for run in runs]

    seconds = [sum(epoch.seconds for epoch in run.log) for run in runs]
    speed = [median(epoch.images_per_second for epoch in run.log) for run in runs]
    rows = [
        ("Test accuracy", of_test(lambda e: _percent(e.accuracy)), "first"),
        ("Mistakes", of_test(lambda e: f"{e.mistakes:,} of {e.count:,}"), ""),
        ("Test loss", of_test(lambda e: f"{e.loss:.4f}"), ""),
        ("Validation accuracy", of_best(lambda e: _percent(e.val_accuracy)), ""),
        ("Training accuracy", of_best(lambda e: _percent(e.train_accuracy)), ""),
        ("Best epoch", [f"{run.checkpoint.epoch} of {len(run.log)}" for run in runs], ""),
        ("Training time", [f"{s:.1f} s" if s < 90 else f"{s / 60:.1f} min" for s in seconds], ""),
        ("Training speed", [f"{s:,.0f} images/s" for s in speed], ""),
    ]
    missing = "".join(_note(f"{run.name}: {run.problem}") for run in runs if run.problem)
    return f'<div class="card fit">{_table(runs, rows)}</div>{missing}'


def _curves(runs: Sequence[RunSummary]) -> str:
    several = len(runs) > 1

    def lines(what: str, column: str, dashed: bool, show: Callable[[float], float]) -> list[Line]:
        return [
            Line(
                f"{run.name} {what}" if several else what,
                k % COLOURS,
                [None if (y := getattr(e, column)) is None else show(y) for e in run.log],
                dashed,
            )
            for k, run in enumerate(runs)
        ]

    def both(column: str, show: Callable[[float], float]) -> list[Line]:
        found = lines("validation", f"val_{column}", False, show)
        return [
            *lines("training", f"train_{column}", True, show),
            *(line for line in found if any(y is not None for y in line.y)),
        ]

    charts = (
        ("Loss", both("loss", float), "{:.2g}", True),
        ("Error, %", both("accuracy", lambda share: 100 * (1 - share)), "{:.3g}", True),
        ("Learning rate", lines("learning rate", "lr", False, float), "{:.3g}", False),
        (
            "Images per second",
            lines("images/s", "images_per_second", False, float),
            "{:,.0f}",
            False,
        ),
    )
    figures = "".join(
        f'<figure class="card"><figcaption>{title}</figcaption>'
        f"{line_chart(title, drawn, form.format, log)}</figure>"
        for title, drawn, form, log in charts
    )
    swatch = (
        '<svg viewBox="0 0 28 8" aria-hidden="true">'
        '<line class="{}" x1="0" x2="28" y1="4" y2="4"/></svg>'
    )
    styles = [("plain", "validation"), ("plain dashed", "training")]
    styles += [(f"run{k % COLOURS}", run.name) for k, run in enumerate(runs)] if several else []
    legend = "".join(f"<li>{swatch.format(style)}{escape(words)}</li>" for style, words in styles)
    return f'<ul class="legend">{legend}</ul><div class="grid">{figures}</div>{_log_table(runs)}'


def _log_table(runs: Sequence[RunSummary]) -> str:
    """Return the numbers of the curves as a table."""
    heads = "".join(
        f'<th scope="col">{head}</th>'
        for head in ("Epoch", "Loss", "Accuracy", "Validation loss", "Validation accuracy")
    )
    tables = ""
    for run in runs:
        rows = "".join(
            f'<tr><th scope="row">{e.epoch}</th><td>{e.train_loss:.4f}</td>'
            f"<td>{_percent(e.train_accuracy)}</td>"
            f"<td>{'–' if e.val_loss is None else f'{e.val_loss:.4f}'}</td>"
            f"<td>{_percent(e.val_accuracy)}</td></tr>"
            for e in run.log
        )
        tables += scrolling(
            f"epochs of {run.name}",
            f"<table><caption>{escape(run.name)}</caption><thead><tr>{heads}</tr></thead>"
            f"<tbody>{rows}</tbody></table>",
        )
    return f'<details><summary>The numbers</summary><div class="grid">{tables}</div></details>'


# --- Classes, mistakes, filters -----------------------------------------------------------------


def _class_tables(run: RunSummary) -> str:
    if run.test is None:
        return _note("No test images.")
    evaluation = run.test.evaluation
    return (
        f'<div class="grid"><div class="card">{_confusion(run, evaluation)}</div>'
        f'<div class="card">{_scores(run, evaluation.per_class)}</div></div>'
    )


def _confusion(run: RunSummary, evaluation: Evaluation) -> str:
    heads = "".join(
        f'<th scope="col"><abbr title="{escape(name)}">{k}</abbr></th>'
        for k, name in enumerate(run.classes)
    )
    largest = max(1, int((evaluation.confusion - np.diag(evaluation.confusion.diagonal())).max()))
    rows = ""
    for k, counts in enumerate(evaluation.confusion.tolist()):
        cells = "".join(
            _cell(number, "hit", number / max(1, sum(counts)) / 3)
            if j == k
            else _cell(number, "miss", number / largest)
            for j, number in enumerate(counts)
        )
        rows += f'<tr><th scope="row">{_class_name(run, k)}</th>{cells}</tr>'
    longest = max(len(_class_name(run, k)) for k in range(len(run.classes)))
    columns = f'<colgroup><col/><col span="{len(run.classes)}"/></colgroup>'
    return scrolling(
        "confusion matrix",
        f'<table class="confusion" style="--names: {min(8.0, 0.6 * longest + 1.4):.1f}em">'
        f"<caption>Confusion matrix: a row is a true class, a column a prediction</caption>"
        f"{columns}<thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>",
    )


def _cell(number: int, kind: str, strength: float) -> str:
    if not number:
        return '<td class="zero">·</td>'
    return f'<td style="background: rgba(var(--{kind}), {0.12 + 0.6 * strength:.2f})">{number}</td>'


def _scores(run: RunSummary, scores: Sequence[ClassScores]) -> str:
    heads = "".join(
        f'<th scope="col">{h}</th>' for h in ("Class", "Precision", "Recall", "F1", "Images")
    )
    rows = "".join(
        f'<tr><th scope="row">{_class_name(run, s.label)}</th><td>{_percent(s.precision)}</td>'
        f"<td>{_percent(s.recall)}</td><td>{_percent(s.f1)}</td><td>{s.support:,}</td></tr>"
        for s in scores
    )
    return scrolling(
        "scores by class",
        f'<table class="scores"><caption>Scores by class</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>",
    )


def _class_name(run: RunSummary, k: int) -> str:
    name = run.classes[k]
    return escape(name if name == str(k) else f"{k} {name}")


def _worst_mistakes(run: RunSummary) -> str:
    if run.test is None:
        return _note("No test images.")
    if not run.test.mistakes:
        return "<p>There are none.</p>"
    figures = ""
    for mistake in run.test.mistakes:
        true, given = escape(run.classes[mistake.label]), escape(run.classes[mistake.predicted])
        image = png(for_display(mistake.image))
        figures += (
            f'<figure><img src="{image}" alt="Test image {mistake.index}: {true} '
            f'predicted as {given}"/><figcaption><b>{true} → {given}</b><br/>'
            f"{100 * mistake.probability:.1f} %</figcaption></figure>"
        )
    return f'<div class="digits card">{figures}</div>'


def _filters(run: RunSummary) -> str:
    weights = {
        layer.name: layer.kernels
        for layer in plain_network(run.checkpoint).layers
        if isinstance(layer, Convolution) and layer.F * layer.shape[0] <= MAX_KERNELS
    }
    images = {name: mosaic(weight) for name, weight in weights.items()}
    widest = max((image.shape[1] for image in images.values()), default=1)
    figures = ""
    for name, image in images.items():
        F, C, kh, kw = weights[name].shape
        layer, width = escape(name), 100 * image.shape[1] / widest
        figures += (
            f"<h4>{layer}: {F} filters of {C}×{kh}×{kw}</h4>"
            f'<img src="{png(image)}" style="width: {width:.1f}%" alt="The weights of {layer}"/>'
        )
    return f'<div class="card filters">{figures}</div>'


def mosaic(weight: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return filters (F,C,kh,kw) as one RGBA image, filters side by side, channels below.

    The larger a weight, the more opaque: zero has the colour of the page, light or dark. Kernels
    are one pixel apart.
    """
    F, C, kh, kw = weight.shape
    pixels = np.zeros((C, kh + 1, F, kw + 1, 4), np.uint8)
    tiles = pixels[:, :kh, :, :kw]
    w = weight.transpose(1, 2, 0, 3)
    tiles[..., :3] = np.where(w[..., None] > 0, POSITIVE, NEGATIVE)
    tiles[..., 3] = 20 + 235 * np.abs(w) / (np.abs(w).max() or 1)
    return pixels.reshape(C * (kh + 1), F * (kw + 1), 4)[:-1, :-1]


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
    chosen = _table(runs, rows) if rows else "<p>All keys have their defaults.</p>"
    return (
        f'<div class="card fit">{_note("Keys that are not the default, or differ.")}{chosen}'
        f"<details><summary>All keys</summary>{_table(runs, rest)}</details></div>"
    )


def _written(value: object) -> str:
    match value:
        case None:
            return "null"
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
    return f'<div class="card fit">{_table(runs, rows)}</div>'
