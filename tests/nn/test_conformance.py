"""The conformance cases of ONNX for convolution, pooling and batch normalisation.

All two-dimensional cases of Conv, ConvTranspose, MaxPool, AveragePool and BatchNormalization that
the ``onnx`` package carries: those written for ONNX, and those converted from PyTorch. Those of one
and three dimensions are left out, because the layers are two-dimensional.
"""

from __future__ import annotations

import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import batch_first, batch_last

from lenet.nn.convolution import Convolution
from lenet.nn.network import Network
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.transposed import TransposedConvolution

onnx = pytest.importorskip("onnx", reason="the conformance cases are part of the onnx package")

MODULES = ("conv", "convtranspose", "maxpool", "averagepool", "batch_normalization")
# Its expected values are printed with four digits.
FOUR_DIGITS = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}


def node_cases():
    """Name → (node, inputs, outputs) of the cases that onnx makes when its modules are imported."""
    from onnx.backend.test.case import node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in MODULES:
            import_module(f"{node.__name__}.{name}")
    for case in node._NodeTestCases:
        inputs, outputs = case.data_sets[0]
        yield case.name, case.model.graph.node[0], inputs, outputs


def converted_cases():
    """The same of the cases that are stored in files, converted from PyTorch."""
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for folder in sorted([*data.glob("pytorch-converted/*"), *data.glob("pytorch-operator/*")]):
        model = onnx.load(folder / "model.onnx")
        if len(model.graph.node) == 1 and model.graph.node[0].op_type in LAYERS:
            files = folder / "test_data_set_0"
            inputs, outputs = (
                [tensor(path) for path in sorted(files.glob(f"{kind}_*.pb"))]
                for kind in ("input", "output")
            )
            weights = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
            names = [n for n in model.graph.node[0].input if n not in weights]
            given = dict(zip(names, inputs, strict=True)) | weights
            inputs = [given[name] for name in model.graph.node[0].input]
            yield folder.name, model.graph.node[0], inputs, outputs


def tensor(path):
    return onnx.numpy_helper.to_array(onnx.load_tensor(path))


# --- A node of ONNX as a layer ------------------------------------------------------------------


def edges(options, size, kernel):
    """The padding (top, left, bottom, right) that ``pads`` or ``auto_pad`` stands for."""
    auto = options.get("auto_pad", b"NOTSET").decode()
    if auto in ("NOTSET", "VALID"):
        return tuple(options.get("pads", (0, 0, 0, 0)))
    strides, dilations = options.get("strides", (1, 1)), options.get("dilations", (1, 1))
    before, after = [], []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    return *before, *after


def common(options):
    return {
        "stride": tuple(options.get("strides", (1, 1))),
        "dilation": tuple(options.get("dilations", (1, 1))),
    }


def convolution(options, x, w, b=None):
    layer = Convolution(
        "C",
        len(w),
        w.shape[2:],
        padding=edges(options, x.shape[2:], w.shape[2:]),
        groups=options.get("group", 1),
        **common(options),
    )
    return layer, [w, np.zeros(len(w)) if b is None else b]


def transposed_convolution(options, x, w, b=None):
    groups, kernel = options.get("group", 1), w.shape[2:]
    F, extra = w.shape[1] * groups, options.get("output_padding", (0, 0))
    padding = tuple(options.get("pads", (0, 0, 0, 0)))
    wanted = options.get("output_shape")
    if options.get("auto_pad", b"NOTSET") == b"SAME_UPPER":
        wanted = [n * s for n, s in zip(x.shape[2:], options["strides"], strict=True)]
    if wanted:
        # ONNX: total padding = s·(n − 1) + o + d·(k − 1) + 1 − wanted; below 0 it adds rows.
        settings = common(options)
        reached = [
            s * (n - 1) + d * (k - 1) + 1
            for s, n, d, k in zip(
                settings["stride"], x.shape[2:], settings["dilation"], kernel, strict=True
            )
        ]
        total = [r - size for r, size in zip(reached, wanted, strict=True)]
        extra = [max(0, -t) for t in total]
        total = [max(0, t) for t in total]
        # SAME_UPPER has the larger half of the padding at the end.
        padding = (*(t // 2 for t in total), *(t - t // 2 for t in total))
    layer = TransposedConvolution(
        "T",
        F,
        kernel,
        padding=padding,
        output_padding=tuple(extra),
        groups=groups,
        **common(options),
    )
    return layer, [w, np.zeros(F) if b is None else b]


def pooling(kind, options, x, **more):
    kernel = tuple(options["kernel_shape"])
    return kind(
        "S",
        kernel,
        padding=edges(options, x.shape[2:], kernel),
        round_up=bool(options.get("ceil_mode", 0)),
        **common(options),
        **more,
    ), []


def average_pooling(options, x):
    count = bool(options.get("count_include_pad", 0))
    return pooling(AveragePooling, options, x, count_padding=count)


def max_pooling(options, x):
    return pooling(MaxPooling, options, x)


def normalisation(options, x, scale, bias, mean, variance):
    return BatchNormalization("B", epsilon=options.get("epsilon", 1e-5)), [scale, bias]


LAYERS = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "MaxPool": max_pooling,
    "AveragePool": average_pooling,
    "BatchNormalization": normalisation,
}
CASES = {
    name: case
    for cases in (node_cases(), converted_cases())
    for name, *case in cases
    if case[0].op_type in LAYERS and np.ndim(case[1][0]) == 4
}


def run(node, inputs):
    """Run the node's layer in float64; return the layer and its outputs (N,C,H,W)."""
    options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    x = inputs[0].astype(np.float64)
    layer, weights = LAYERS[node.op_type](options, x, *inputs[1:])
    network = Network([layer], x.shape[1:], np.float64)
    for p, value in zip(network.parameter_list, weights, strict=True):
        p.value[...] = value
    network.training = bool(options.get("training_mode", 0))
    for name, value in zip(layer.state, inputs[3:], strict=False):
        layer.state[name][...] = value
    return layer, batch_first(network.forward(batch_last(x)))


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    node, inputs, outputs = CASES[name]
    layer, y = run(node, inputs)
    assert y.shape == outputs[0].shape
    assert_allclose(y, outputs[0], rtol=1e-5, atol=1e-4 if name in FOUR_DIGITS else 1e-5)
    if node.op_type == "MaxPool" and len(outputs) == 2:
        order = next((a.i for a in node.attribute if a.name == "storage_order"), 0)
        assert_array_equal(indices(layer, column_major=bool(order)), outputs[1])


def indices(layer, column_major):
    """Where each maximum of one image was found, as a flat index: what the switches mark."""
    C, H, W = layer.shape
    pixels = np.arange(C * H * W).reshape(C, H, W)
    if column_major:
        pixels = np.arange(C * H * W).reshape(C, W, H).swapaxes(1, 2)
    around = np.zeros((C, *layer.surrounded, 1), int)
    around[layer.inside] = pixels[..., None]
    found = np.zeros(layer.y.shape, int)
    for place, switch in zip(layer.places(around), layer.switches, strict=True):
        found += place * switch
    return batch_first(found)


def test_how_many_cases_there_are():
    """A change of the onnx package that hides them would not go unnoticed."""
    counts = Counter(node.op_type for node, *_ in CASES.values())
    assert counts["Conv"] >= 16
    assert counts["ConvTranspose"] >= 11
    assert counts["MaxPool"] >= 16
    assert counts["AveragePool"] >= 15
    assert counts["BatchNormalization"] >= 4
