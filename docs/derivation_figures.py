"""Draw the figures of docs/derivation.md whose numbers are small enough to be read.

    python docs/derivation_figures.py [--out docs/pictures]

All numbers are computed by the package. The running example is that of the page: an image of 3×3, a
kernel of 2×2, and a gradient dz of 2×2.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from svg import CELL, INK, MARK, SOFT, Figure, colour, number

from lenet import Network, col2im, im2col, lenet5
from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.layer import Layer
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.nn.pooling import AveragePooling, MaxPooling

X: Final = np.arange(1.0, 10).reshape(3, 3)
W: Final = np.array([[0.0, 1], [2, 3]])
DZ: Final = np.array([[1.0, -1], [2, 1]])
FOUR: Final = np.array([[1.0, 0, 1, 0], [2, 1, 3, 2], [1, 2, 0, 4], [2, 2, 3, 0]])

FIGURES: dict[str, Callable[[], Figure]] = {}


def figure(draw: Callable[[], Figure]) -> Callable[[], Figure]:
    FIGURES[f"{draw.__name__}.svg"] = draw
    return draw


def gradients(
    x: np.ndarray, w: np.ndarray, dz: np.ndarray, stride: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return dW and dX of a convolution of one channel."""
    layer = Convolution("C", 1, kernel=w.shape, stride=stride)
    network = Network([layer], (1, *x.shape), np.float64)
    layer.weight.value[0, 0] = w
    layer.needs_dx = True  # the first layer of a network computes none otherwise
    network.forward(x[None, :, :, None])
    dx = layer.backward(dz[None, :, :, None])[0, :, :, 0]
    return layer.weight.gradient[0, 0], dx


def pixels(i: int, j: int) -> list[tuple[int, int]]:
    """The pixels of the 2×2 patch at (i, j)."""
    return [(i + m, j + n) for m in range(2) for n in range(2)]


PLACES: Final = [(0, 0), (0, 1), (1, 0), (1, 1)]


# --- Forward ------------------------------------------------------------------------------------


@figure
def sharing() -> Figure:
    """From a full layer to a convolution: five inputs, three outputs, a kernel of three."""
    f = Figure(660, 230, "A fully connected layer, cut to a neighbourhood, with shared weights")
    shades = (colour(1, 1), colour(-1, 1), "#3c8d5a")
    titles = ("full: 15 weights", "cut: 9 weights", "shared: 3 weights")
    for panel, title in enumerate(titles):
        left = 30 + 215 * panel
        f.text(left + 80, 28, title, anchor="middle", bold=True)
        for j in range(3):
            for i in range(5):
                n = i - j
                if panel and not 0 <= n < 3:
                    continue
                shade = shades[n] if panel == 2 else SOFT
                thick = 2.5 if panel == 2 else 1.2
                f.line(left + 40 * i, 180, left + 40 + 40 * j, 70, stroke=shade, thick=thick)
        for j in range(3):
            f.circle(left + 40 + 40 * j, 70, 9, "#ffffff")
        for i in range(5):
            f.circle(left + 40 * i, 180, 9, "#ffffff")
        f.text(left - 20, 60, "z", fill=SOFT)
        f.text(left - 20, 205, "x", fill=SOFT)
    for n, name in enumerate(("w(0)", "w(1)", "w(2)")):
        f.text(470 + 62 * n, 218, name, fill=shades[n], bold=True)
    return f


@figure
def sliding_window() -> Figure:
    """The window of the running example at its four places."""
    z = im2col(X[None, None], kernel=2) @ W.ravel()
    f = Figure(700, 184, "A window slides over the image")
    f.table(20, 62, W, caption="kernel w")
    for k, (i, j) in enumerate(PLACES):
        left = 120 + 145 * k
        f.table(left, 48, X, caption=f"z({i}, {j})", marked=pixels(i, j))
        terms = " + ".join(
            f"{number(w)}·{number(x)}" for w, x in zip(W.ravel(), patch(i, j), strict=True)
        )
        f.text(left, 152, terms, size=11, fill=SOFT)
        f.text(left, 172, f"= {number(z[k])}", bold=True)
    return f


def patch(i: int, j: int) -> np.ndarray:
    """The numbers of the 2×2 patch at (i, j), in row order."""
    return X[i : i + 2, j : j + 2].ravel()


def curve(
    f: Figure,
    box: tuple[float, ...],
    values: Callable[[np.ndarray], np.ndarray],
    ends: tuple[float, ...],
) -> Callable[[float, float], tuple[float, float]]:
    """Draw a function in a box (left, top, width, height); return where a point of it stands.

    ``ends`` are the smallest and largest x, and the smallest and largest y.
    """
    left, top, width, height = box
    x0, x1, y0, y1 = ends

    def place(x: float, y: float) -> tuple[float, float]:
        return left + width * (x - x0) / (x1 - x0), top + height * (y1 - y) / (y1 - y0)

    xs = np.linspace(x0, x1, 121)
    points = [place(x, y) for x, y in zip(xs, values(xs), strict=True) if y0 <= y <= y1]
    for (x, y), (to_x, to_y) in pairwise(points):
        f.line(x, y, to_x, to_y, stroke=colour(1, 1), thick=2.5)
    for (x, y), (to_x, to_y) in (((x0, 0), (x1, 0)), ((0, y0), (0, y1))):
        if x0 <= x <= x1 and y0 <= y <= y1:
            f.line(*place(x, y), *place(to_x, to_y), stroke=SOFT, thick=1)
    return place


@figure
def relu() -> Figure:
    """ReLU and its derivative."""
    f = Figure(560, 210, "ReLU and its derivative")
    layer = Activation("a", "relu")
    Network([layer], (121,), np.float64)
    layer.allocate(1, np.float64)

    def forward(x: np.ndarray) -> np.ndarray:
        return layer.forward(x[:, None].copy())[:, 0].copy()

    def slope(x: np.ndarray) -> np.ndarray:
        forward(x)
        return layer.backward(np.ones((121, 1)))[:, 0].copy()

    curve(f, (30, 40, 220, 140), forward, (-2, 2, -0.4, 2.1))
    curve(f, (310, 40, 220, 140), slope, (-2, 2, -0.4, 2.1))
    f.text(140, 26, "y = max(z, 0)", anchor="middle", bold=True)
    f.text(420, 26, "dy/dz", anchor="middle", bold=True)
    f.text(30, 202, "z < 0: nothing passes", size=12, fill=SOFT)
    f.text(420, 202, "z > 0: the gradient passes", size=12, fill=SOFT)
    return f


@figure
def negative_log() -> Figure:
    """The loss of an image as a function of the probability of its class."""
    f = Figure(420, 230, "The loss −ln p")
    with np.errstate(divide="ignore"):
        place = curve(f, (50, 30, 340, 160), lambda p: -np.log(p), (0, 1, 0, 4))
    for p, what in ((0.1, "a guess among ten"), (0.9, "almost sure")):
        x, y = place(p, -np.log(p))
        f.circle(x, y, 5, MARK)
        f.text(
            x + 10,
            y - 8,
            f"p = {p}: {-np.log(p):.2f}, {what}",
            size=12,
            anchor="start" if p < 0.5 else "end",
        )
    f.text(50, 20, "−ln p", bold=True)
    f.text(390, 208, "p = 1", size=12, fill=SOFT, anchor="end")
    f.text(50, 208, "p = 0", size=12, fill=SOFT)
    return f


@figure
def chain_rule() -> Figure:
    """Derivatives are multiplied along a path and added over paths."""
    into, after = (2.0, -1.0), (3.0, 1.0)  # ∂z/∂x and ∂E/∂z
    total = sum(a * b for a, b in zip(into, after, strict=True))
    f = Figure(620, 220, "Multiply along a path, add over paths")
    for y, a, b, name in ((60, into[0], after[0], "z1"), (160, into[1], after[1], "z2")):
        f.line(70, 110, 280, y, stroke=SOFT, thick=2)
        f.line(320, y, 520, 110, stroke=SOFT, thick=2)
        f.text(150, y + (-2 if y < 110 else 14), f"∂{name}/∂x = {number(a)}", size=13)
        f.text(400, y + (-2 if y < 110 else 14), f"∂E/∂{name} = {number(b)}", size=13)
        f.circle(300, y, 22, "#ffffff")
        f.text(300, y + 5, name, anchor="middle", bold=True)
    for x, name in ((50, "x"), (540, "E")):
        f.circle(x, 110, 22, "#ffffff")
        f.text(x, 115, name, anchor="middle", bold=True)
    paths = " + ".join(f"({number(a)})·({number(b)})" for a, b in zip(into, after, strict=True))
    f.text(300, 212, f"∂E/∂x = {paths} = {number(total)}", anchor="middle", bold=True)
    return f


@figure
def descent() -> Figure:
    """Gradient descent on E = w²/2 with three rates."""
    f = Figure(700, 230, "Steps of gradient descent with three rates")
    for k, rate in enumerate((0.2, 0.8, 2.1)):
        left = 20 + 230 * k
        place = curve(f, (left, 40, 200, 150), lambda w: w * w / 2, (-3.2, 3.2, 0, 5))
        f.text(left + 100, 26, f"η = {rate}", anchor="middle", bold=True)
        w = 2.0
        for _ in range(4):
            after = w - rate * w
            f.line(*place(w, w * w / 2), *place(after, after * after / 2), stroke=MARK, thick=1.5)
            f.circle(*place(w, w * w / 2), 4, MARK)
            w = after
        f.text(left + 100, 212, f"w after 4 steps: {w:.2f}", anchor="middle", size=12, fill=SOFT)
    return f


@figure
def orientations() -> Figure:
    """The patch matrix of the running example, one patch per row and one patch per column."""
    cols = im2col(X[None, None], kernel=2)
    z = cols @ W.ravel()
    f = Figure(700, 340, "The two orientations of the patch matrix")
    mark = (0, 1)
    f.text(20, 28, "a patch is a row (the batch note, and lenet.im2col)", bold=True)
    f.table(20, 62, X, caption="image x", marked=pixels(*mark))
    f.table(140, 62, cols, caption="cols  (P × K)", marked=[(1, k) for k in range(4)])
    f.text(262, 122, "·", size=18)
    f.table(280, 62, W.reshape(4, 1), caption="Wᵀ  (K × F)")
    f.text(330, 122, "=", size=18)
    f.table(362, 62, z[:, None], caption="Z  (P × F)", marked=[(1, 0)], scale=1e9)
    f.arrow(410, 118, 450, 118)
    f.table(460, 90, z.reshape(2, 2), caption="z, as an image", marked=[mark], scale=1e9)
    f.text(20, 204, "a patch is a column (Caffe, and the layers of this package)", bold=True)
    f.table(20, 266, W.reshape(1, 4), caption="W  (F × K)")
    f.text(142, 286, "·", size=18)
    f.table(162, 222, cols.T, marked=[(k, 1) for k in range(4)])
    f.text(284, 232, "cols  (K × P)", size=12, fill=SOFT)
    f.text(288, 286, "=", size=18)
    f.table(316, 266, z[None], caption="Z  (F × P)", marked=[(0, 1)], scale=1e9)
    return f


# --- Loss and matrices --------------------------------------------------------------------------


@figure
def loss() -> Figure:
    """The gradient at the scores: probabilities minus the one-hot label."""
    scores, label = np.array([[2.0], [0.5], [-1], [1]]), np.array([1])
    entropy = SoftmaxCrossEntropy(classes=4)
    E = entropy.forward(scores, label)
    p = entropy.probs[:, 0].copy()
    dz = entropy.backward()[:, 0]
    f = Figure(560, 210, "The gradient at the scores is p − y")
    rows = (
        ("scores z", scores[:, 0]),
        ("p = softmax z", p),
        ("y, one-hot", p - dz),
        ("dz = p − y", dz),
    )
    f.text(150, 28, "one image, four classes, the right one is class 1", bold=True)
    for r, (name, values) in enumerate(rows):
        y = 42 + 38 * r
        f.text(20, y + 19, name)
        for c, value in enumerate(values):
            left = 150 + 84 * c
            shade = colour(float(value), 2.0 if r == 0 else 1.0)
            f.rectangle(
                left,
                y,
                76,
                28,
                fill=shade,
                stroke=MARK if c == 1 else "#b6bcc4",
                thick=2 if c == 1 else 1,
            )
            f.text(left + 38, y + 19, number(round(float(value), 2)), anchor="middle")
    f.text(
        150, 202, f"E = −ln p(1) = {E:.2f};  the four numbers of dz add up to 0", fill=SOFT, size=12
    )
    return f


def products(f: Figure, rows: list[tuple[str, str, str]], pixels_of: dict[str, int]) -> None:
    """Products of matrices in proportion, one below the other.

    A row has a title, the product as ``name rows columns`` three times, and a note.
    """
    for r, (title, product, note) in enumerate(rows):
        x, middle = 20.0, 98 + 168.0 * r
        f.text(x, middle - 74, title, bold=True)
        words = product.split()
        for k in range(3):
            name, height, width = words[3 * k : 3 * k + 3]
            h, w = pixels_of[height], max(pixels_of[width], 30)
            f.matrix(x, middle - h / 2, w, h, name, f"{height} × {width}")
            f.text(x + w + 16, middle + 6, ("·", "=", "")[k], anchor="middle", size=18)
            x += w + 32
        f.text(470, middle + 5, note, size=14)


@figure
def matrices() -> Figure:
    """The three products of a layer, as rectangles in proportion."""
    f = Figure(700, 516, "Forward and backward through a matrix")
    rows = [
        ("forward: Z = W · X", "W F D X D N Z F N", "δZ = δW · X + W · δX"),
        ("weights: dW = dZ · Xᵀ", "dZ F N Xᵀ N D dW F D", "tr(dZᵀ·δW·X) = ⟨dZ·Xᵀ, δW⟩"),
        ("data: dX = Wᵀ · dZ", "Wᵀ D F dZ F N dX D N", "tr(dZᵀ·W·δX) = ⟨Wᵀ·dZ, δX⟩"),
    ]
    products(f, rows, {"F": 44, "D": 80, "N": 116})
    return f


# --- Back through a convolution -----------------------------------------------------------------


@figure
def weight_gradient() -> Figure:
    """DW as a sum over the patches, each times its dz."""
    dw, _ = gradients(X, W, DZ)
    f = Figure(700, 250, "dW is the sum over the patches, each multiplied by its dz")
    f.table(20, 46, X, caption="image x")
    f.table(20, 166, DZ, caption="dz", scale=2)
    x, total = 150.0, np.zeros((2, 2))
    for number_, (i, j) in enumerate(PLACES):
        patch = X[i : i + 2, j : j + 2]
        total += DZ[i, j] * patch
        f.text(x, 26, f"patch ({i}, {j})", size=12, fill=SOFT)
        f.table(x, 46, patch, scale=9)
        f.text(x + 28, 124, f"× {number(DZ[i, j])}", anchor="middle", bold=True)
        f.text(x + 28, 148, "sum so far", anchor="middle", size=11, fill=SOFT)
        f.table(x, 156, total, scale=20)
        if number_ < 3:
            f.text(x + 74, 78, "+", anchor="middle", size=18)
            f.text(x + 74, 190, "→", anchor="middle", size=18)
        x += 92
    assert (total == dw).all()
    f.text(x - 10, 190, "=", size=18)
    f.table(x + 20, 156, dw, caption="dW", scale=20)
    f.text(
        150,
        240,
        "dW(m, n) = Σ dz(i, j) · x(i + m, j + n): the correlation of x with dz",
        size=12,
        fill=SOFT,
    )
    return f


@figure
def col2im_adds() -> Figure:
    """Col2im adds the four columns of dcols back onto the image."""
    dcols = DZ.reshape(4, 1) * W.reshape(1, 4) + 0.0  # a patch per row; −0 becomes 0
    _, dx = gradients(X, W, DZ)
    counts = col2im(np.ones((4, 4)), (1, 1, 3, 3), kernel=2)[0, 0]
    f = Figure(700, 290, "col2im adds overlapping patches")
    f.table(20, 46, W, caption="w")
    f.table(20, 140, DZ, caption="dz", scale=2)
    total = np.zeros((3, 3))
    for number_, (i, j) in enumerate(PLACES):
        x = 110 + 118.0 * number_
        f.text(x, 26, f"w · dz({i}, {j})", size=12, fill=SOFT)
        f.table(x + 14, 46, dcols[number_].reshape(2, 2), scale=6)
        total[i : i + 2, j : j + 2] += dcols[number_].reshape(2, 2)
        f.arrow(x + 42, 108, x + 42, 134)
        f.table(x, 140, total, scale=8, marked=pixels(i, j))
        f.text(
            x,
            246,
            ("dX, after 1", "after 2", "after 3", "after 4: dX")[number_],
            size=12,
            fill=SOFT,
        )
    assert (total == dx).all()
    f.table(590, 140, counts, caption="patches per pixel", scale=8)
    f.text(
        110,
        276,
        "the marked pixels got the new column; where columns overlap, the numbers add",
        size=12,
        fill=SOFT,
    )
    return f


@figure
def rotation() -> Figure:
    """DX as the full convolution: dz with a border of zeros, and the kernel turned by 180°."""
    _, dx = gradients(X, W, DZ)
    padded = np.pad(DZ, 1)
    f = Figure(700, 250, "The same dX as a correlation of dz with the kernel turned by 180°")
    f.table(20, 60, W, caption="w")
    f.arrow(82, 88, 112, 88)
    f.text(97, 78, "180°", anchor="middle", size=11, fill=SOFT)
    f.table(120, 60, W[::-1, ::-1], caption="ROT180(w)")
    border = [(i, j) for i in range(4) for j in range(4) if not (0 < i < 3 and 0 < j < 3)]
    place = (1, 0)
    f.table(240, 60, padded, caption="dz with zeros around (full)", scale=2, marked=pixels(*place))
    for i, j in border:
        f.rectangle(240 + j * CELL, 60 + i * CELL, CELL, CELL, stroke=SOFT, dashed=True)
    f.arrow(362, 116, 402, 116)
    f.table(412, 74, dx, caption="dX", scale=8, marked=[place])
    window, turned = padded[1:3, 0:2], W[::-1, ::-1]
    terms = " + ".join(
        f"{number(a)}·{number(b)}" for a, b in zip(window.ravel(), turned.ravel(), strict=True)
    )
    assert (window * turned).sum() == dx[place]
    f.text(240, 200, f"dX(1, 0) = {terms} = {number(dx[place])}")
    f.text(240, 222, "z(0, 0) used x(1, 0) with w(1, 0), z(1, 0) with w(0, 0)", size=12, fill=SOFT)
    return f


@figure
def stride() -> Figure:
    """The same with stride 2: dz is spread with zeros first."""
    x = np.arange(25.0).reshape(5, 5)
    kernel = np.array([[1.0, 0, 2], [0, 1, 0], [3, 0, 1]])
    _, dx = gradients(x, kernel, DZ, stride=2)
    spread = np.zeros((3, 3))
    spread[::2, ::2] = DZ
    f = Figure(700, 280, "Stride 2 in the rotated form: zeros between the numbers of dz")
    f.table(20, 60, DZ, caption="dz", scale=2)
    f.arrow(84, 88, 112, 88)
    zeros = [(i, j) for i in range(3) for j in range(3) if i % 2 or j % 2]
    f.table(122, 60, spread, caption="spread: s − 1 zeros", scale=2)
    for i, j in zeros:
        f.rectangle(122 + j * CELL, 60 + i * CELL, CELL, CELL, stroke=SOFT, dashed=True)
    f.text(228, 108, "full *", size=14)
    f.table(280, 60, kernel[::-1, ::-1], caption="ROT180(w)", scale=3)
    f.text(384, 108, "=", size=18)
    f.table(412, 60, dx, caption="dX", scale=6)
    full = np.pad(spread, 2)
    turned = kernel[::-1, ::-1]
    again = [[(full[i : i + 3, j : j + 3] * turned).sum() for j in range(5)] for i in range(5)]
    assert (np.array(again) == dx).all()
    f.text(
        20, 240, "forward: every second position of the image gives an output", size=12, fill=SOFT
    )
    f.text(20, 260, "backward: the outputs that were left out count as dz = 0", size=12, fill=SOFT)
    return f


# --- Pooling ------------------------------------------------------------------------------------


@figure
def switches() -> Figure:
    """Max and average pooling, forward and backward."""
    dy = np.array([[1.0, 2], [3, 4]])
    f = Figure(700, 250, "Pooling, forward and backward")
    found = {}
    for kind in (MaxPooling, AveragePooling):
        layer = kind("S", 2)
        y = Network([layer], (1, 4, 4), np.float64).forward(FOUR[None, :, :, None])
        found[kind] = y[0, :, :, 0].copy(), layer.backward(dy[None, :, :, None])[0, :, :, 0].copy()
    (y, dx), (mean, dmean) = found[MaxPooling], found[AveragePooling]
    winners = [tuple(map(int, place)) for place in np.argwhere(dx)]
    f.table(20, 60, FOUR, caption="x, winners marked", marked=winners, scale=8)
    f.arrow(138, 116, 160, 116)
    f.table(168, 88, y, caption="y = max", scale=8)
    f.table(258, 88, dy, caption="dy", scale=4)
    f.arrow(320, 116, 342, 116)
    f.table(350, 60, dx, caption="dx: to the winner", scale=4, marked=winners)
    f.table(500, 60, dmean, caption="dx of average pooling", scale=4, cell=36)
    for x0, cell in ((20, CELL), (350, CELL), (500, 36)):
        f.line(x0 + 2 * cell, 60, x0 + 2 * cell, 60 + 4 * cell, stroke=INK, thick=2)
        f.line(x0, 60 + 2 * cell, x0 + 4 * cell, 60 + 2 * cell, stroke=INK, thick=2)
    f.text(
        20,
        205,
        "The window at the lower left has three twos: the first in row order wins.",
        size=12,
        fill=SOFT,
    )
    averages = ", ".join(number(v) for v in mean.ravel())
    f.text(
        20,
        226,
        f"Average pooling gives y = {averages}; every pixel gets a quarter.",
        size=12,
        fill=SOFT,
    )
    return f


# --- The network and the products of the package ------------------------------------------------


@figure
def backward_shapes() -> Figure:
    """The gradients of LeNet-5 from the loss back to C1."""
    f = Figure(760, 250, "The shapes of the gradients, from the loss to C1")
    f.text(
        20,
        28,
        "from the right to the left: what each layer passes on; below: its dz and dW",
        bold=True,
    )
    plain = [layer for layer in lenet5(fused=False).layers if not isinstance(layer, Activation)]
    for k, layer in enumerate(reversed(plain)):
        x = 668 - 106 * k
        dz, dw, passed, how = shapes(layer)
        f.rectangle(x, 90, 72, 46, fill="#dfe8f4", stroke=SOFT)
        f.text(x + 36, 118, layer.name, anchor="middle", bold=True, size=15)
        f.text(x + 36, 158, dz, anchor="middle", size=12)
        if dw:
            f.arrow(x + 36, 168, x + 36, 190)
            f.text(x + 36, 206, f"dW {dw}", anchor="middle", size=11, fill=SOFT)
        if layer is not plain[0]:
            f.arrow(x - 2, 113, x - 32, 113)
            f.text(x - 17, 82, passed, anchor="middle", size=11)
            f.text(x - 17, 62, how, anchor="middle", size=11, fill=SOFT)
    note = "a patch is a row, as in the batch note; S4 and S2 have no weights"
    f.text(20, 236, note, size=12, fill=SOFT)
    return f


def shapes(layer: Layer) -> tuple[str, str, str, str]:
    """Return dz, dW, what is passed on, and how, with a patch as a row."""
    places, K = layer.patch_matrix
    rows = f"N·{places}" if places > 1 else "N"
    if isinstance(layer, MaxPooling):
        return rows, "", f"{rows} × {K}", "to the winner"
    F = layer.bias.value.size
    overlap = isinstance(layer, Convolution) and not layer.direct
    return f"{rows} × {F}", f"{K} × {F}", f"{rows} × {K}", "dZ·Wᵀ, col2im" if overlap else "dZ·Wᵀ"


@figure
def wide_kernels() -> Figure:
    """The four places of a 5×5 kernel in a 6×6 one."""
    f = Figure(640, 210, "Four outputs of a pooling window use one patch of 6×6")
    for number_, (a, b) in enumerate(PLACES):
        x, y = 20 + 152.0 * number_, 50.0
        f.rectangle(x, y, 120, 120, fill="#ffffff")
        f.rectangle(x + 20 * b, y + 20 * a, 100, 100, fill=colour(0.6, 1), stroke=SOFT)
        for k in range(1, 6):
            f.line(x + 20 * k, y, x + 20 * k, y + 120, stroke="#b6bcc4", thick=0.7)
            f.line(x, y + 20 * k, x + 120, y + 20 * k, stroke="#b6bcc4", thick=0.7)
        f.text(x + 60, 38, f"W{a}{b} → z{a}{b}", anchor="middle", bold=True)
    f.text(20, 196, "blue: the 5×5 kernel; white: zeros", size=12, fill=SOFT)
    return f


@figure
def caffe() -> Figure:
    """Caffe's three products for C3, with the transposition flags."""
    layer = Convolution("C3", 16, kernel=5)
    Network([layer], (6, 14, 14))
    F, K, S = layer.F, layer.K, layer.Ho * layer.Wo
    f = Figure(700, 516, "Caffe's three products, for C3 of LeNet-5")
    rows = [
        ("forward: NoTrans, NoTrans", f"W {F} {K} cols {K} {S} Z {F} {S}", (F, S, K)),
        ("data: Trans, NoTrans", f"Wᵀ {K} {F} dZ {F} {S} dcols {K} {S}", (K, S, F)),
        ("weights: NoTrans, Trans, β = 1", f"dZ {F} {S} colsᵀ {S} {K} dW {F} {K}", (F, K, S)),
    ]
    notes = ["M = {}, N = {}, K = {}".format(*sizes) for *_, sizes in rows]
    texts = [(title, product, note) for (title, product, _), note in zip(rows, notes, strict=True)]
    products(f, texts, {str(F): 26, str(K): 112, str(S): 84})
    return f


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    place = Path(__file__).resolve().parent.parent / "docs" / "pictures"
    parser.add_argument("--out", type=Path, default=place, help="the directory to write to")
    out = parser.parse_args().out
    for name, draw in FIGURES.items():
        draw().write(out / name)


if __name__ == "__main__":
    main()
