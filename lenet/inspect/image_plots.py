"""Plots of the images of a data set, and of a network's mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lenet.evaluation.mistakes import Mistake
from lenet.inspect.figures import new_figure, plain_text, show_raw

SAMPLES: Final = 14  # images in a row


def samples(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], class_names: Sequence[str], title: str
) -> Any:  # noqa: ANN401
    """Draw the first images of every class of a data set, a row for each class.

    Parameters
    ----------
    images, labels
        uint8 (count,H,W) or (count,C,H,W), and (count,).
    class_names, title
        The headings of the rows and of the figure.
    """
    count = len(class_names)
    figure = new_figure(9, 0.62 * count + 0.6, title)
    rows = figure.subplots(count, SAMPLES, squeeze=False)
    for label, (row, name) in enumerate(zip(rows, class_names, strict=True)):
        chosen = np.flatnonzero(labels == label)[:SAMPLES]
        for axes in row[chosen.size :]:
            axes.axis("off")
        for axes, index in zip(row, chosen, strict=False):
            show_raw(axes, images[index])
        row[0].set_ylabel(plain_text(name), rotation=0, ha="right", va="center")
    return figure


def mistakes(worst: Sequence[Mistake], class_names: Sequence[str], title: str) -> Any:  # noqa: ANN401
    """Draw images that a network got wrong, each with its class and the class predicted."""
    rows = -(-len(worst) // SAMPLES)
    figure = new_figure(9, 0.95 * max(rows, 1) + 0.6, title)
    cells = figure.subplots(max(rows, 1), SAMPLES, squeeze=False).ravel()
    for axes in cells:
        axes.axis("off")
    for axes, mistake in zip(cells, worst, strict=False):
        show_raw(axes, mistake.image)
        names = (plain_text(class_names[label]) for label in (mistake.label, mistake.predicted))
        axes.set_title(" not ".join(names), fontsize=8)
    return figure
