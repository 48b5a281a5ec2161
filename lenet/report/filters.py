"""The kernels of a network as images."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.restore import plain_network
from lenet.nn.convolution import Convolution
from lenet.report.charts import png
from lenet.report.run_summary import RunSummary
from lenet.system.text import NEGATIVE, POSITIVE, WORDS, ZERO

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
