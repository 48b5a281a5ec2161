"""LeNet-5, complete, in one file of NumPy: the algorithm, and nothing for speed.

Every layer is a product with a patch matrix of (N·Ho·Wo) × (C·k·k), as in docs/derivation.md;
docs/one-file.md goes through this file. MNIST is read from its four files:

    python examples/lenet5.py DIRECTORY
"""

import gzip
import sys

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def read(path):
    """Return the array of an IDX file: a magic number with its dimensions, its sizes, bytes."""
    data = gzip.decompress(np.fromfile(path, np.uint8))
    shape = np.frombuffer(data, ">i4", data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def prepare(images):
    """Return images (N,28,28) of 0 to 255 as (N,1,32,32): blank is -0.1, ink 1.175."""
    x = images[:, None].astype(np.float32) * (1.275 / 255) - 0.1
    return np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=-0.1)


def im2col(x, k, s):
    """Return the patches k×k of images (N,C,H,W) at stride s: (N·Ho·Wo, C·k·k)."""
    patches = sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::s, ::s]
    return patches.transpose(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1] * k * k)


def col2im(cols, shape, k, s):
    """Add every patch back to its place in images of a shape (N,C,H,W): the adjoint of im2col."""
    N, C, H, W = shape
    Ho, Wo = (H - k) // s + 1, (W - k) // s + 1
    patches = cols.reshape(N, Ho, Wo, C, k, k).transpose(0, 3, 1, 2, 4, 5)
    x = np.zeros(shape, cols.dtype)
    for i, j in np.ndindex(k, k):
        x[:, :, i : i + s * Ho : s, j : j + s * Wo : s] += patches[..., i, j]
    return x


class Convolution:
    """F filters of k×k over C channels. A linear layer is one whose k is the whole image."""

    def __init__(self, C, F, k, rng):
        self.k = k
        self.W = rng.normal(0, np.sqrt(2 / (C * k * k)), (C * k * k, F)).astype(np.float32)
        self.b, self.vW, self.vb = np.zeros(F, np.float32), 0, 0

    def forward(self, x):
        N, _, H, W = self.shape = x.shape
        self.cols = im2col(x, self.k, 1)
        Z = self.cols @ self.W + self.b  # (N·Ho·Wo × C·k·k) · (C·k·k × F)
        return Z.reshape(N, H - self.k + 1, W - self.k + 1, -1).transpose(0, 3, 1, 2)

    def backward(self, dz):
        dZ = dz.transpose(0, 2, 3, 1).reshape(-1, dz.shape[1])
        self.dW = self.cols.T @ dZ  # (C·k·k × N·Ho·Wo) · (N·Ho·Wo × F)
        self.db = dZ.sum(axis=0)
        dcols = dZ @ self.W.T  # (N·Ho·Wo × F) · (F × C·k·k)
        return col2im(dcols, self.shape, self.k, 1)


class ReLU:
    def forward(self, z):
        self.y = np.maximum(z, 0)
        return self.y

    def backward(self, dy):
        return dy * (self.y > 0)


class MaxPooling:
    """The maximum of every 2×2 window; its gradient goes to the first pixel that has it."""

    def forward(self, x):
        N, C, H, W = self.shape = x.shape
        cols = im2col(x.reshape(N * C, 1, H, W), 2, 2)  # (N·C·Ho·Wo, 4)
        self.first = cols.argmax(axis=1)[:, None]
        return np.take_along_axis(cols, self.first, axis=1).reshape(N, C, H // 2, W // 2)

    def backward(self, dy):
        N, C, H, W = self.shape
        dcols = np.zeros((dy.size, 4), dy.dtype)
        np.put_along_axis(dcols, self.first, dy.reshape(-1, 1), axis=1)
        return col2im(dcols, (N * C, 1, H, W), 2, 2).reshape(self.shape)


def lenet5(rng):
    """Return the layers of LeNet-5: 61,706 weights."""
    return [
        *(Convolution(1, 6, 5, rng), ReLU(), MaxPooling()),  # C1, S2
        *(Convolution(6, 16, 5, rng), ReLU(), MaxPooling()),  # C3, S4
        *(Convolution(16, 120, 5, rng), ReLU()),  # C5
        *(Convolution(120, 84, 1, rng), ReLU()),  # F6
        Convolution(84, 10, 1, rng),  # F7
    ]


def scores(layers, x):
    """Return the scores (N, classes) of images (N,1,32,32)."""
    for layer in layers:
        x = layer.forward(x)
    return x[:, :, 0, 0]


def gradients(layers, x, labels):
    """Set the gradients of all weights; return the loss, the mean of -ln p(label)."""
    z, rows = scores(layers, x), np.arange(len(x))
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[rows, labels]).mean()
    p[rows, labels] -= 1
    dy = (p / len(x))[:, :, None, None]  # ∂E/∂z
    for layer in reversed(layers):
        dy = layer.backward(dy)
    return loss


def step(layers, rate, momentum=0.9):
    """Take one step of gradient descent with momentum: v = μ·v + dW, then W = W - η·v."""
    for layer in layers:
        if isinstance(layer, Convolution):
            layer.vW = momentum * layer.vW + layer.dW
            layer.vb = momentum * layer.vb + layer.db
            layer.W -= rate * layer.vW
            layer.b -= rate * layer.vb


def main(directory, epochs=4, batch=64, rate=0.03, target=0.985):
    parts = "train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"
    x, labels, tests, digits = (read(f"{directory}/{part}-ubyte.gz") for part in parts)
    layers, steps = lenet5(rng := np.random.default_rng(0)), len(x) // batch
    for epoch in range(epochs):
        order = rng.permutation(len(x))[: steps * batch].reshape(steps, batch)
        for t, n in enumerate(order, start=epoch * steps):
            loss = gradients(layers, prepare(x[n]), labels[n])
            step(layers, rate * (1 - t / (epochs * steps)))
        found = [scores(layers, prepare(part)).argmax(axis=1) for part in np.split(tests, 100)]
        accuracy = np.mean(np.concatenate(found) == digits)
        print(f"epoch {epoch + 1}  loss of the last batch {loss:.4f}  test accuracy {accuracy:.2%}")
    assert accuracy >= target, f"the target is {target:.1%}"


if __name__ == "__main__":
    main(*sys.argv[1:])
