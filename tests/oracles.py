"""What the tests compare with, none of it code of the package.

Worked examples of the course's slides, recomputed; loops written from the definitions, on arrays
(N,C,H,W); and central differences, which leave out kinks.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

EXAMPLES = json.loads((Path(__file__).parent / "oracles.json").read_text(encoding="utf-8"))


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


def correlate(x, w, b, stride, padding, groups):
    """z(i,j,f) = Σ a(i·s+m−p, j·s+n−p, c) · W(m,n,c,f) + b_f; outside, a is 0."""
    (N, _, H, W), (F, C, kh, kw) = x.shape, w.shape
    (sh, sw), (ph, pw) = stride, padding
    z = np.zeros((N, F, positions(H, kh, sh, ph), positions(W, kw, sw, pw)))
    for image, f, i, j in np.ndindex(z.shape):
        z[image, f, i, j] = b[f]
        for c, m, n in np.ndindex(C, kh, kw):
            row, column = i * sh + m - ph, j * sw + n - pw
            if 0 <= row < H and 0 <= column < W:
                channel = f // (F // groups) * C + c
                z[image, f, i, j] += x[image, channel, row, column] * w[f, c, m, n]
    return z


def max_pooling(x, kernel, stride):
    """The pooled images, and for each of their pixels where its first maximum was found in x."""
    (kh, kw), (sh, sw), (N, C, H, W) = kernel, stride, x.shape
    y = np.zeros((N, C, positions(H, kh, sh, 0), positions(W, kw, sw, 0)))
    source = {}
    for n, c, i, j in np.ndindex(y.shape):
        window = x[n, c, i * sh : i * sh + kh, j * sw : j * sw + kw]
        place = int(np.argmax(window))  # the first one in row order
        y[n, c, i, j] = window.flat[place]
        source[n, c, i, j] = n, c, i * sh + place // kw, j * sw + place % kw
    return y, source


def average_pooling(x, kernel, stride):
    """The means of the windows."""
    (kh, kw), (sh, sw), (N, C, H, W) = kernel, stride, x.shape
    y = np.zeros((N, C, positions(H, kh, sh, 0), positions(W, kw, sw, 0)))
    for n, c, i, j in np.ndindex(y.shape):
        y[n, c, i, j] = x[n, c, i * sh : i * sh + kh, j * sw : j * sw + kw].mean()
    return y


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
    """Hold a gradient to central differences within 1e-6 of its largest number.

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
    """Hold ∂E/∂x and the gradients of all parameters to central differences of E = ⟨r, f(x)⟩."""
    r = np.random.default_rng(2).standard_normal(layer.forward(x).shape)

    def loss():
        return float(np.vdot(r, layer.forward(x)))

    for _ in range(2):  # twice: gradients are overwritten, never added to
        layer.forward(x)
        dx = layer.backward(r).copy()
    gradients = [(x, dx), *((p.value, p.gradient.copy()) for p in layer.parameters)]
    for array, gradient in gradients:
        assert_gradient(loss, array, gradient, kinks=kinks)
