"""References that the tests compare with, independent of the package.

Worked examples of the course's slides, recomputed; loops written from the definitions, on arrays
(N,C,H,W); and central differences, which leave out kinks.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

EXAMPLES = json.loads((Path(__file__).parent / "oracles.json").read_text(encoding="utf-8"))

LECUN_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
"""The maps of S2 that each map of C3 is connected to: Y. LeCun et al. (1998), table I."""


def batch_last(x):
    """(N,C,H,W) to the network's (C,H,W,N)."""
    return np.ascontiguousarray(x.transpose(1, 2, 3, 0))


def batch_first(y):
    """The network's (C,H,W,N) to (N,C,H,W)."""
    return np.ascontiguousarray(y.transpose(3, 0, 1, 2))


# --- Definitions --------------------------------------------------------------------------------


def positions(size, kernel, stride, padding):
    """The largest n for which the n-th window still lies on the padded axis."""
    everything = range(1, size + 2 * padding + 1)
    return max(n for n in everything if (n - 1) * stride + kernel <= size + 2 * padding)


def patches(x, kernel, stride, padding):
    """The patch matrix, one row after the other: n, then i, then j."""
    (kh, kw), (sh, sw), (ph, pw), (N, C, H, W) = kernel, stride, padding, x.shape
    around = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    rows = [
        around[n, :, i * sh : i * sh + kh, j * sw : j * sw + kw].ravel()
        for n in range(N)
        for i in range(positions(H, kh, sh, ph))
        for j in range(positions(W, kw, sw, pw))
    ]
    return np.array(rows, x.dtype).reshape(-1, C * kh * kw)


def sides(padding):
    """Top, left, bottom and right of a padding that is a pair or has all four."""
    return tuple(padding) if len(padding) == 4 else (*padding, *padding)


def starts(size, covered, stride, before, after, round_up=False):
    """Where the windows of an axis begin, counted from the first number of the padding."""
    begins = range(0, before + size + after, stride)
    whole = [i for i in begins if i + covered <= before + size + after]
    if not round_up:
        return whole
    # As many as cover the padded axis; but a window that begins behind the image is none.
    needed = [i for i in begins if i == 0 or i - stride + covered < before + size + after]
    return [i for i in needed if i < before + size]


def taps(start, kernel, dilation, before):
    """The pixels of an axis that a window sees; beyond the image there are none."""
    return [start + m * dilation - before for m in range(kernel)]


def grid(shape, kernel, stride, padding, dilation, round_up=False):
    """For every window (i, j): the rows and the columns that it sees, outside the image too."""
    H, W = shape
    top, left, bottom, right = sides(padding)
    covered = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    rows = starts(H, covered[0], stride[0], top, bottom, round_up)
    columns = starts(W, covered[1], stride[1], left, right, round_up)
    return [
        [
            (taps(i, kernel[0], dilation[0], top), taps(j, kernel[1], dilation[1], left))
            for j in columns
        ]
        for i in rows
    ]


def correlate(x, w, b, stride, padding, groups, dilation=(1, 1)):
    """z(i,j,f) = Σ a(i·s+m·d−p, j·s+n·d−p, c) · W(m,n,c,f) + b_f; outside, a is 0."""
    (N, _, H, W), (F, C, kh, kw) = x.shape, w.shape
    windows = grid((H, W), (kh, kw), stride, padding, dilation)
    z = np.zeros((N, F, len(windows), len(windows[0])))
    for image, f, i, j in np.ndindex(z.shape):
        z[image, f, i, j] = b[f]
        rows, columns = windows[i][j]
        for c, m, n in np.ndindex(C, kh, kw):
            if 0 <= rows[m] < H and 0 <= columns[n] < W:
                channel = f // (F // groups) * C + c
                z[image, f, i, j] += x[image, channel, rows[m], columns[n]] * w[f, c, m, n]
    return z


def max_pooling(x, kernel, stride, padding=(0, 0), dilation=(1, 1), round_up=False):
    """The pooled images, and for each of their pixels where its first maximum was found in x."""
    N, C, H, W = x.shape
    windows = grid((H, W), kernel, stride, padding, dilation, round_up)
    y, source = np.zeros((N, C, len(windows), len(windows[0]))), {}
    for n, c, i, j in np.ndindex(y.shape):
        rows, columns = windows[i][j]
        seen = [(h, w) for h in rows for w in columns if 0 <= h < H and 0 <= w < W]
        first = int(np.argmax([x[n, c, h, w] for h, w in seen]))  # the first one in row order
        y[n, c, i, j] = x[n, c, *seen[first]]
        source[n, c, i, j] = n, c, *seen[first]
    return y, source


def average_pooling(
    x, kernel, stride, padding=(0, 0), dilation=(1, 1), round_up=False, count_padding=True
):
    """The means of the windows, and what every pixel of x counts in each: {window: {pixel: w}}."""
    N, C, H, W = x.shape
    _, _, bottom, right = sides(padding)
    windows = grid((H, W), kernel, stride, padding, dilation, round_up)
    y, shares = np.zeros((N, C, len(windows), len(windows[0]))), {}
    for n, c, i, j in np.ndindex(y.shape):
        places = [(h, w) for h in windows[i][j][0] for w in windows[i][j][1]]
        inside = [(h, w) for h, w in places if 0 <= h < H and 0 <= w < W]
        counted = inside
        if count_padding:
            counted = [(h, w) for h, w in places if h < H + bottom and w < W + right]
        y[n, c, i, j] = sum(x[n, c, h, w] for h, w in inside) / len(counted)
        shares[n, c, i, j] = {(n, c, h, w): 1 / len(counted) for h, w in inside}
    return y, shares


# --- Layers and their gradients -----------------------------------------------------------------


def ready(layer, shape, N, seed=0, dtype=np.float64):
    """Build a layer with random parameters, of which the gradients are still nonsense."""
    rng = np.random.default_rng([1, seed])
    layer.build(shape)
    for p in layer.parameters:
        p.value = rng.standard_normal(p.shape).astype(dtype)
        p.gradient = np.full(p.shape, np.nan, dtype)
    layer.allocate(N, dtype)
    return layer


def slopes(f, array, entries, step):
    """Central differences of f() with respect to chosen entries of an array."""
    flat = array.reshape(-1)
    assert np.shares_memory(flat, array)
    result = np.empty(len(entries))
    for k, entry in enumerate(entries):
        old = flat[entry]
        flat[entry] = old + step
        above = f()
        flat[entry] = old - step
        below = f()
        flat[entry] = old
        result[k] = (above - below) / (2 * step)
    return result


def assert_gradient(f, array, gradient, entries=None, kinks=0.0):
    """Compare a gradient with central differences, within 1e-6 of its largest number.

    Where two step lengths disagree, a kink (a changing maximum, a ReLU at zero) lies between
    them and the entry is left out; ``kinks`` is the largest share of entries for which it may.
    """
    entries = np.arange(array.size) if entries is None else entries
    gradient = gradient.reshape(-1)[entries]
    scale = np.abs(gradient).max()
    assert scale > 0
    long, short = (slopes(f, array, entries, step) for step in (1e-5, 5e-6))
    smooth = np.abs(long - short) <= 2e-7 * scale
    assert (~smooth).mean() <= kinks
    np.testing.assert_allclose(short[smooth], gradient[smooth], rtol=0, atol=1e-6 * scale)


def assert_layer_gradients(layer, x, kinks=0.0):
    """Compare ∂E/∂x and all gradients of parameters with differences of E = ⟨r, f(x)⟩."""
    r = np.random.default_rng(2).standard_normal(layer.forward(x).shape)

    def loss():
        return float(np.vdot(r, layer.forward(x)))

    for _ in range(2):  # twice: gradients are overwritten, never added to
        layer.forward(x)
        dx = layer.backward(r).copy()
    gradients = [(x, dx), *((p.value, p.gradient.copy()) for p in layer.parameters)]
    for array, gradient in gradients:
        assert_gradient(loss, array, gradient, kinks=kinks)
