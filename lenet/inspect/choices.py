"""The plots of ``lenet inspect``: what each shows, and what can be chosen for it.

One table; the command line and :func:`lenet.inspect.inspection.inspect` read it. It imports
nothing, so that the command's help starts at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

IMAGE, LAYER, UNIT, LABEL = "IMAGE", "--layer", "--unit", "--label"


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes
    ----------
    takes
        Which of :data:`IMAGE`, :data:`LAYER`, :data:`UNIT` and :data:`LABEL` can be given.
    shows
        What it shows, in a line or two.
    """

    takes: frozenset[str]
    shows: str


def _plot(shows: str, *takes: str) -> Plot:
    return Plot(frozenset(takes), shows)


PLOTS: Final = {
    "filters": _plot("the kernels of the first two convolutions, or of --layer", LAYER),
    "maps": _plot("the output of every layer, and the probabilities", IMAGE),
    "patches": _plot(
        "the patch matrix of the first convolution, or of --layer, and how one patch becomes one "
        "number", IMAGE, LAYER,
    ),
    "gradients": _plot(
        "the gradient of the loss at every layer, for a wrong and the right label", IMAGE, LABEL
    ),
    "col2im": _plot(
        "the gradient of a convolution's input: overlapping patches added up", IMAGE, LAYER, LABEL
    ),
    "rotation": _plot(
        "the same gradient by the kernel turned by 180°, side by side", IMAGE, LAYER, LABEL
    ),
    "switches": _plot(
        "the winners of the last max pooling, or of --layer, and the gradient that they get",
        IMAGE, LAYER, LABEL,
    ),
    "deconv": _plot(
        "the pixels behind the strongest units of the last pooling, or of --layer, or one --unit: "
        "deconvolution (Zeiler & Fergus) and gradient", IMAGE, LAYER, UNIT,
    ),
    "field": _plot(
        "nested receptive fields, down from the strongest unit of the last map, or of --layer, or "
        "one --unit", IMAGE, LAYER, UNIT,
    ),
    "edges": _plot("edge kernels, and average compared with max pooling", IMAGE),
    "embedding": _plot("the last hidden layer for 1,000 test images, in two dimensions"),
    "reliability": _plot("how often the network is right, by the probability of its prediction"),
}  # fmt: skip
