"""examples/lenet5.py, the complete algorithm in one file, against the package."""

from __future__ import annotations

import ast
import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lenet import SoftmaxCrossEntropy, make_optimizer, prepare, train_step
from lenet import lenet5 as package_lenet5
from lenet.data.strokes import draw

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import lenet5  # noqa: E402 - from examples/


def convolutions(layers):
    return [layer for layer in layers if isinstance(layer, lenet5.Convolution)]


def weights_of_the_package(layers, network):
    """Give the package's network the weights of the file: (C·k·k, F) becomes (F, C, k, k)."""
    parameters = iter(network.parameter_list)
    for layer in convolutions(layers):
        for values in (layer.W.T, layer.b):
            p = next(parameters)
            p.value[...] = values.reshape(p.shape)


@pytest.mark.parametrize("fused", [False, True])
def test_the_first_ten_losses_are_those_of_the_package(fused):
    images, labels = draw(640, seed=0)
    layers = lenet5.lenet5(np.random.default_rng(0))
    network = package_lenet5(fused=fused)
    weights_of_the_package(layers, network)
    optimizer = make_optimizer("sgd", network.parameters.size, momentum=0.9)
    loss = SoftmaxCrossEntropy(classes=10)
    ours, theirs = [], []
    for t in range(10):
        part = slice(64 * t, 64 * (t + 1))
        ours.append(lenet5.gradients(layers, lenet5.prepare(images[part]), labels[part]))
        lenet5.step(layers, 0.03)
        x = prepare(images[part])
        theirs.append(train_step(network, loss, optimizer, x, labels[part], 0.03, t + 1))
    assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_it_has_the_weights_of_lenet5():
    layers = lenet5.lenet5(np.random.default_rng(0))
    counts = [layer.W.size + layer.b.size for layer in convolutions(layers)]
    assert counts == [156, 2_416, 48_120, 10_164, 850]


def test_im2col_and_col2im_are_adjoint():
    rng = np.random.default_rng(0)
    for k, s in ((2, 2), (3, 1), (5, 1)):
        x = rng.normal(size=(2, 3, 8, 8))
        cols = lenet5.im2col(x, k, s)
        c = rng.normal(size=cols.shape)
        assert np.vdot(cols, c) == pytest.approx(np.vdot(x, lenet5.col2im(c, x.shape, k, s)))


def test_it_fits_on_three_screens_and_imports_nothing_but_numpy():
    code = (EXAMPLES / "lenet5.py").read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 150
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    assert found - sys.stdlib_module_names == {"numpy"}


def write_idx(path, array):
    head = struct.pack(f">4B{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes(), 1))


def test_it_reads_trains_and_fails_below_its_target(tmp_path, capsys):
    for part, stream, count in (("train", 0, 1_280), ("t10k", 1, 200)):
        images, labels = draw(count, seed=0, stream=stream)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels)
    assert_array_equal(lenet5.read(tmp_path / "t10k-labels-idx1-ubyte.gz"), labels)
    lenet5.main(tmp_path, epochs=3, target=0.3)
    assert "epoch 3  loss of the last batch" in capsys.readouterr().out
    with pytest.raises(AssertionError, match=r"the target is 99\.9%"):
        lenet5.main(tmp_path, epochs=1, target=0.999)
