"""The classes: the confusion matrix, the images behind its cells, scores, mistakes and kernels.

A cell of the matrix is a link to its images. They are hidden until the link is followed
(``:target`` in the style), so the page needs no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.restore import plain_network
from lenet.data.pixels import for_display
from lenet.evaluation.metrics import ClassScores, Evaluation
from lenet.evaluation.mistakes import Mistake
from lenet.nn.convolution import Convolution
from lenet.report.charts import png
from lenet.report.elements import escape, note, percent, scrolling
from lenet.report.run_summary import RunSummary
from lenet.system.text import NEGATIVE, POSITIVE, WORDS, ZERO

ABOUT_MISTAKES = "True class → predicted class, and the probability of the predicted class."
MANY_CLASSES = 16  # from which the matrix takes the width of the page, with small cells
MAX_LINKED = 400  # images behind the cells of a matrix
MAX_IN_CELL = 24
MAX_MATRIX = 400  # classes up to which the matrix is shown
MAX_SHEETS, MAX_IN_SHEET = 100, 12  # classes with a sheet, and mistakes in one
SCORES_IN_TABLE = 16

Pairs = Mapping[tuple[int, int], Sequence[Mistake]]


def class_tables(run: RunSummary, number: int) -> str:
    """Return confusion matrix and scores of a run, whose number is in the anchors of its cells."""
    if run.test is None:
        return note("No test images.")
    evaluation = run.test.evaluation
    pairs = by_pair(run.test.mistakes)
    many = len(run.classes) >= MANY_CLASSES
    shown = len(run.classes) <= MAX_MATRIX
    matrix = _confusion(run, evaluation, pairs, number) if shown else ""
    return (
        f'<div class="{"" if many else "grid"}">'
        f'<div class="card">{matrix}{_worst_pairs(run, evaluation, pairs, number)}'
        f"{_images_of_cells(run, pairs, evaluation, number)}</div>"
        f'<div class="card">{_scores(run, evaluation.per_class)}</div></div>'
        f"{_sheets(run)}"
    )


def _worst_pairs(run: RunSummary, evaluation: Evaluation, pairs: Pairs, number: int) -> str:
    """Return the pairs of classes that are confused most often, as links to their images."""
    rows = ""
    for true, given, count in evaluation.worst_pairs():
        words = f"{class_name(run, true)} → {class_name(run, given)}"
        if (true, given) in pairs:
            words = f'<a href="#{_anchor(number, true, given)}">{words}</a>'
        share = percent(count / int(evaluation.confusion[true].sum()))
        rows += f'<tr><th scope="row">{words}</th><td>{count:,}</td><td>{share}</td></tr>'
    if not rows:
        return ""
    return scrolling(
        "most confused pairs",
        '<table class="scores"><caption>Most confused pairs: true class → predicted class</caption>'
        '<thead><tr><td></td><th scope="col">Images</th><th scope="col">Of the class</th></tr>'
        f"</thead><tbody>{rows}</tbody></table>",
    )


def _sheets(run: RunSummary) -> str:
    """Return a sheet for each class, folded: its mistakes, and images predicted right."""
    assert run.test is not None  # noqa: S101 - class_tables checked
    wrong, right = _by_class(run.test.mistakes), _by_class(run.test.right)
    sheets = ""
    for k in sorted({*wrong, *right})[:MAX_SHEETS]:
        parts = (
            ("Predicted as another class", wrong.get(k, [])[:MAX_IN_SHEET]),
            ("Predicted right, the most and the least certain", right.get(k, [])),
        )
        content = "".join(
            f'<h4>{title}</h4><div class="digits">{_figures(run, images)}</div>'
            for title, images in parts
            if images
        )
        sheets += f"<details><summary>{class_name(run, k)}</summary>{content}</details>"
    left = len({*wrong, *right}) - MAX_SHEETS
    more = note(f"{left:,} more classes are not shown.") if left > 0 else ""
    return f'<div class="card"><h4>Test images by class</h4>{sheets}{more}</div>'


def _by_class(images: Sequence[Mistake]) -> dict[int, list[Mistake]]:
    found: dict[int, list[Mistake]] = {}
    for image in images:
        found.setdefault(image.label, []).append(image)
    return found


def by_pair(mistakes: Sequence[Mistake]) -> Pairs:
    """Return mistakes by (true class, predicted class), as many of each as there is space for.

    There are at most :data:`MAX_LINKED` in all: fewer of each pair, and if there are more pairs
    than that, those with the most mistakes.
    """
    groups: dict[tuple[int, int], list[Mistake]] = {}
    for mistake in mistakes:
        groups.setdefault((mistake.label, mistake.predicted), []).append(mistake)
    most = sorted(groups, key=lambda pair: -len(groups[pair]))[:MAX_LINKED]
    space = next(
        n
        for n in range(MAX_IN_CELL, 0, -1)
        if n == 1 or sum(min(len(groups[pair]), n) for pair in most) <= MAX_LINKED
    )
    return {pair: groups[pair][:space] for pair in sorted(most)}


# --- The confusion matrix -------------------------------------------------------------------------


def _confusion(run: RunSummary, evaluation: Evaluation, pairs: Pairs, number: int) -> str:
    heads = "".join(
        f'<th scope="col"><abbr title="{escape(name)}">{k}</abbr></th>'
        for k, name in enumerate(run.classes)
    )
    largest = max(1, int((evaluation.confusion - np.diag(evaluation.confusion.diagonal())).max()))
    rows = ""
    for k, counts in enumerate(evaluation.confusion.tolist()):
        cells, total = "", max(1, sum(counts))
        for j, count in enumerate(counts):
            if not count:
                cells += '<td class="zero">·</td>'
                continue
            strength = count / total / 3 if j == k else count / largest
            anchor = _anchor(number, k, j) if (k, j) in pairs else ""
            words = f"{run.classes[k]} predicted as {run.classes[j]}: {count}"
            cells += _cell(count, "hit" if j == k else "miss", strength, anchor, words)
        name = class_name(run, k)
        rows += f'<tr><th scope="row" title="{name}">{name}</th>{cells}</tr>'
    longest = max(len(class_name(run, k)) for k in range(len(run.classes)))
    columns = f'<colgroup><col/><col span="{len(run.classes)}"/></colgroup>'
    many = len(run.classes) >= MANY_CLASSES
    kind, widest = ("confusion many", 15.0) if many else ("confusion", 8.0)
    style = f"--names: {min(widest, 0.6 * longest + 1.4):.1f}em; --classes: {len(run.classes)}"
    about = "Confusion matrix: a row is a true class, a column a prediction"
    hint = note("Select a number of mistakes to see their images.") if pairs else ""
    return hint + scrolling(
        "confusion matrix",
        f'<table class="{kind}" style="{style}"><caption><span>{about}</span></caption>'
        f"{columns}<thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>",
    )


def _cell(count: int, kind: str, strength: float, anchor: str, words: str) -> str:
    shade = f'style="background: rgba(var(--{kind}), {0.12 + 0.6 * strength:.2f})"'
    if not anchor:
        return f"<td {shade}>{count}</td>"
    label = escape(words)
    return f'<td {shade}><a href="#{anchor}" title="{label}">{count}</a></td>'


def _anchor(number: int, label: int, predicted: int) -> str:
    return f"r{number}-{label}-{predicted}"


def _images_of_cells(run: RunSummary, pairs: Pairs, evaluation: Evaluation, number: int) -> str:
    found = ""
    for (label, predicted), mistakes in pairs.items():
        true, given = escape(run.classes[label]), escape(run.classes[predicted])
        count = int(evaluation.confusion[label, predicted])
        some = "" if len(mistakes) == count else f", the {len(mistakes)} with the highest loss"
        found += (
            f'<div class="cell" id="{_anchor(number, label, predicted)}">'
            f"<h4>{true} predicted as {given}: {count:,}{some} "
            f'<a href="#classes">close</a></h4>'
            f'<div class="digits">{_figures(run, mistakes)}</div></div>'
        )
    return found


# --- Scores and mistakes --------------------------------------------------------------------------


def _scores(run: RunSummary, scores: Sequence[ClassScores]) -> str:
    """Return the scores as a table or, for many classes, as tables side by side."""
    heads = "".join(
        f'<th scope="col">{h}</th>' for h in ("Class", "Precision", "Recall", "F1", "Images")
    )
    tables = ""
    for start in range(0, len(scores), SCORES_IN_TABLE):
        part = scores[start : start + SCORES_IN_TABLE]
        last = part[-1].label
        rows = "".join(
            f'<tr><th scope="row">{class_name(run, s.label)}</th><td>{percent(s.precision)}</td>'
            f"<td>{percent(s.recall)}</td><td>{percent(s.f1)}</td><td>{s.support:,}</td></tr>"
            for s in part
        )
        all_shown = len(part) == len(scores)
        caption = "Scores by class" if all_shown else f"Scores of classes {start} to {last}"
        tables += scrolling(
            caption.lower(),
            f'<table class="scores"><caption>{caption}</caption><thead><tr>{heads}</tr></thead>'
            f"<tbody>{rows}</tbody></table>",
        )
    return f'<div class="grid">{tables}</div>'


def class_name(run: RunSummary, k: int) -> str:
    """Return the number and the name of a class as HTML."""
    name = run.classes[k]
    return escape(name if name == str(k) else f"{k} {name}")


def worst_mistakes(run: RunSummary) -> str:
    """Return the images with the highest loss."""
    if run.test is None:
        return note("No test images.")
    if not run.test.mistakes:
        return "<p>There are none.</p>"
    return f'<div class="digits card">{_figures(run, run.test.worst)}</div>'


def _place(mistake: Mistake) -> str:
    """Return where an image came from: the name of its file, and the path as a tooltip."""
    origin = mistake.origin
    if origin is None or not origin.file:
        return f"<br/><small>number {mistake.index}</small>"
    name = Path(origin.file).name + ("" if origin.row is None else f"[{origin.row}]")
    path = escape(origin)
    return f'<br/><small title="{path}">{escape(name)}</small>'


def _figures(run: RunSummary, mistakes: Sequence[Mistake]) -> str:
    figures = ""
    for mistake in mistakes:
        true, given = escape(run.classes[mistake.label]), escape(run.classes[mistake.predicted])
        figures += (
            f'<figure><img src="{png(for_display(mistake.image))}" alt="Test image '
            f'{mistake.index}: {true} predicted as {given}"/>'
            f"<figcaption><b>{true if true == given else f'{true} → {given}'}</b>"
            f"<br/>{100 * mistake.probability:.1f} %{_place(mistake)}</figcaption></figure>"
        )
    return figures


MAX_KERNELS = 512  # filters × channels of a layer that is shown
ABOUT_FILTERS = f"A column is a filter, a row an input channel; {WORDS}."


def filters(run: RunSummary) -> str:
    """Return images of the kernels of every convolution that is small enough."""
    weights = {
        layer.name: layer.kernels
        for layer in plain_network(run.checkpoint).layers
        if isinstance(layer, Convolution) and layer.F * layer.shape[0] <= MAX_KERNELS
    }
    images = {name: mosaic(weight) for name, weight in weights.items()}
    if not images:
        return "<p>There are no convolutions small enough to be shown.</p>"
    widest = max(image.shape[1] for image in images.values())
    figures = ""
    for name, image in images.items():
        F, C, kh, kw = weights[name].shape
        layer, width = escape(name), 100 * image.shape[1] / widest
        figures += (
            f"<h4>{layer}: {F} filters of {C}×{kh}×{kw}</h4>"
            f'<img src="{png(image)}" style="width: {width:.1f}%" alt="The weights of {layer}"/>'
        )
    return f'<div class="card">{figures}</div>'


def mosaic(weight: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return filters (F,C,kh,kw) as one RGBA image, filters side by side, channels below.

    Kernels are one transparent pixel apart.
    """
    F, C, kh, kw = weight.shape
    pixels = np.zeros((C, kh + 1, F, kw + 1, 4), np.uint8)
    tiles = pixels[:, :kh, :, :kw]
    part = weight.transpose(1, 2, 0, 3)[..., None] / (np.abs(weight).max() or 1)
    end = np.where(part > 0, POSITIVE, NEGATIVE)
    tiles[..., :3] = np.rint(ZERO + np.abs(part) * (end - ZERO))
    tiles[..., 3] = 255
    return pixels.reshape(C * (kh + 1), F * (kw + 1), 4)[:-1, :-1]
