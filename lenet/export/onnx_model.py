"""ONNX: the open format that other runtimes read (https://onnx.ai).

Needs the extra ``onnx``. The graph takes ``images``, float32 (N,C,H,W) of raw levels 0 to 255, for
any N, and returns ``scores`` and ``probabilities``, (N, classes). Every value has the name of the
layer that computes it. Operators are of opset 17, which runtimes have supported since 2022.

A layer is translated by the function of its class in :data:`TRANSLATIONS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final

import numpy as np

from lenet.data.preprocessing import Preprocessing
from lenet.export.exported import ExportedNetwork, average_factors, not_exported
from lenet.nn.activations import Activation, Function, LeCunTanh, ReLU, Sigmoid, Tanh
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.im2col import Array, extent
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, MaxPooling, Pooling
from lenet.nn.rbf import RBF
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import MaxUnpooling, RepeatUnpooling
from lenet.system.errors import GateFailed
from lenet.system.extras import require
from lenet.version import __version__

OPSET: Final = 17
IR_VERSION: Final = 8  # the version of the file format that belongs to this opset
TOLERANCE: Final = 1e-4  # of scores, relative to the largest where that is above 1
RESERVED: Final = ("images", "scores", "probabilities")  # names of the graph's input and outputs


def onnx_model(exported: ExportedNetwork) -> bytes:
    """Return the network as the bytes of an ONNX file, checked by ONNX's own checker.

    Raises
    ------
    ConfigError
        ONNX, or this module, has no translation of a layer.
    SystemFailure
        The extra ``onnx`` is not installed.
    """
    onnx = require("onnx", extra="onnx")
    unpooled = [x.pooling.name for x in exported.network.layers if isinstance(x, MaxUnpooling)]
    graph = Graph(onnx, unpooled)
    _preprocess(graph, exported)
    for layer in exported.network.layers:
        if type(layer) not in TRANSLATIONS:
            raise not_exported(layer, "ONNX")
        TRANSLATIONS[type(layer)](graph, layer)
    # Of distances the smallest is the answer, of scores the largest.
    last = "Neg" if exported.network.layers[-1].outputs_are_distances else "Identity"
    graph.nodes.append(onnx.helper.make_node(last, [graph.value], ["scores"], name="scores"))
    graph.nodes.append(
        onnx.helper.make_node("Softmax", ["scores"], ["probabilities"], "probabilities", axis=1)
    )
    model = onnx.helper.make_model(
        graph.finish(exported),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lenet",
        producer_version=__version__,
        doc_string=f"A network {exported.origin}.",
    )
    onnx.helper.set_model_props(model, _metadata(exported))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def checked_model(exported: ExportedNetwork) -> tuple[bytes, float]:
    """Return the ONNX file, and how far its scores are from this package's on 16 images of noise.

    Raises
    ------
    ConfigError, GateFailed, SystemFailure
        As for :func:`onnx_model` and :func:`compare`.
    """
    model = onnx_model(exported)
    noise = np.random.default_rng(0).integers(256, size=(16, *exported.image_shape))
    return model, compare(model, exported, noise.astype(np.uint8))


def compare(model: bytes, exported: ExportedNetwork, images: Array) -> float:
    """Return the largest difference of ONNX's reference evaluator from this package's scores.

    Parameters
    ----------
    model
        What :func:`onnx_model` returned for ``exported``.
    exported
        The network.
    images
        Raw images, uint8 (N,C,H,W).

    Raises
    ------
    GateFailed
        It is larger than rounding explains.
    """
    reference = require("onnx.reference", extra="onnx")
    evaluator = reference.ReferenceEvaluator(require("onnx", extra="onnx").load_from_string(model))
    (scores,) = evaluator.run(["scores"], {"images": images.astype(np.float32)})
    own = exported.scores(images)
    difference = float(np.max(np.abs(scores - own)))
    if not difference <= TOLERANCE * max(1, float(np.max(np.abs(own)))):
        raise GateFailed(
            f"the exported network's scores are off by {difference:.1e}",
            remedy="do not use it, and report this with the versions of onnx and NumPy",
            key="scores",
        )
    return difference


def _size(preprocessing: Preprocessing) -> dict[str, object]:
    """Return the input's shape and background: ``input_size`` for a square grey input on 0."""
    C, H, W = preprocessing.input_shape
    if (C, H, preprocessing.background) == (1, W, 0):
        return {"input_size": H}
    return {"input_shape": [C, H, W], "background": preprocessing.background}


def _metadata(exported: ExportedNetwork) -> dict[str, str]:
    C, H, W = exported.image_shape
    top, left, bottom, right = exported.padding
    preprocessing = exported.preprocessing
    return {
        "input": (
            f"images, float32 (N,{C},{H},{W}): levels from 0 "
            f"{'(background) to 255 (ink)' if C == 1 else 'to 255'}, not scaled, not padded"
        ),
        "preprocessing": json.dumps(
            {"scale": preprocessing.scale, "shift": preprocessing.shift}
            | _size(preprocessing)
            | (
                {"padding_before": top, "padding_after": bottom}
                if (top, bottom) == (left, right)
                else {"padding": [top, left, bottom, right]}
            )
        ),
        "preprocessing_where": (
            f"inside the graph: pad with {preprocessing.background}, times scale, plus shift"
        ),
        "class_names": json.dumps(exported.class_names),
        "origin": exported.origin,
        "parameters": str(exported.network.parameters.size),
    }


class Graph:
    """Nodes and constants in the making.

    Attributes
    ----------
    value
        The name of the last node's output.
    unpooled
        The names of max poolings whose switches a later layer needs.
    switches
        For these, the name of the places of the maxima.
    """

    def __init__(self, onnx: Any, unpooled: Sequence[str]) -> None:  # noqa: ANN401 - a module
        self.onnx = onnx
        self.unpooled = unpooled
        self.switches: dict[str, str] = {}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names = set(RESERVED)
        self.value = "images"

    def node(
        self, operator: str, name: str, *others: str, second: str = "", **attributes: object
    ) -> None:
        """Append a node that takes the last value and others; it may have a second output."""
        name = self.unique(name)
        inputs, outputs = [self.value, *others], [name, second] if second else [name]
        self.nodes.append(
            self.onnx.helper.make_node(operator, inputs, outputs, name=name, **attributes)
        )
        self.value = name

    def constant(self, name: str, array: Array) -> str:
        """Add an array and return its name."""
        name = self.unique(name)
        # Little-endian on every machine, as the format requires.
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, name: str, number: float) -> str:
        """Add a single float32 and return its name."""
        return self.constant(name, np.array(number, np.float32))

    def pad(self, name: str, edges: tuple[int, int, int, int], value: float) -> None:
        """Append a node that surrounds images with ``value``: above, left, below, right."""
        top, left, bottom, right = edges
        pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
        pads_name = self.constant(f"{name}.pads", pads)
        self.node("Pad", name, pads_name, self.number(f"{name}.value", value))

    def finish(self, exported: ExportedNetwork) -> Any:  # noqa: ANN401 - protobuf's own type
        """Return the graph with its input and outputs."""

        def tensor(name: str, *shape: int) -> Any:  # noqa: ANN401
            return self.onnx.helper.make_tensor_value_info(
                name, self.onnx.TensorProto.FLOAT, ["N", *shape]
            )

        classes = len(exported.class_names)
        return self.onnx.helper.make_graph(
            self.nodes,
            "lenet",
            [tensor("images", *exported.image_shape)],
            [tensor("scores", classes), tensor("probabilities", classes)],
            initializer=self.constants,
        )

    def unique(self, name: str) -> str:
        """Return a name that no other value has: layers may have any names."""
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def _preprocess(graph: Graph, exported: ExportedNetwork) -> None:
    """Pad with background, scale and shift."""
    preprocessing = exported.preprocessing
    graph.pad("padded", exported.padding, preprocessing.background)
    graph.node("Mul", "scaled", graph.number("scale", preprocessing.scale))
    graph.node("Add", "input", graph.number("shift", preprocessing.shift))


# --- Layers ---------------------------------------------------------------------------------------


def _convolution(graph: Graph, layer: Convolution) -> None:
    kernels = layer.kernels[:, :, ::-1, ::-1] if layer.flip else layer.kernels
    graph.node(
        "Conv",
        layer.name,
        graph.constant(layer.weight.name, kernels),
        graph.constant(layer.bias.name, layer.bias.value),
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=layer.edges,
        dilations=layer.dilation,
        group=layer.groups,
    )


def _transposed_convolution(graph: Graph, layer: TransposedConvolution) -> None:
    """Translate groups as zeros: onnx 1.23's evaluator gives every group the first one's bias."""
    C, g = layer.shape[0], layer.groups
    kernels = np.zeros((g, C // g, g, *layer.weight.shape[1:]), np.float32)
    for group, part in enumerate(np.split(layer.weight.value, g)):
        kernels[group, :, group] = part
    graph.node(
        "ConvTranspose",
        layer.name,
        graph.constant(layer.weight.name, kernels.reshape(C, layer.F, *layer.kernel)),
        graph.constant(layer.bias.name, layer.bias.value),
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=layer.edges,
        dilations=layer.dilation,
        output_padding=layer.output_padding,
    )


def _pads(layer: Pooling) -> tuple[int, int, int, int]:
    """Return padding that gives the layer's windows without ``ceil_mode``.

    Runtimes differ in the number of windows under that option, and in what they count as padding.
    """
    (_, H, W), (_, Ho, Wo), (top, left, _, _) = layer.shape, layer.output_shape, layer.edges
    (sh, sw), (eh, ew) = layer.stride, extent(layer.kernel, layer.dilation)
    below, right = (Ho - 1) * sh + eh - top - H, (Wo - 1) * sw + ew - left - W
    return top, left, max(below, 0), max(right, 0)


def _are_small(pads: tuple[int, int, int, int], layer: Pooling) -> bool:
    """Return whether the padding is smaller than the kernel, as runtimes require of poolings."""
    return all(p < k for p, k in zip(pads, 2 * layer.kernel, strict=True))


def _max_pooling(graph: Graph, layer: MaxPooling) -> None:
    pads = _pads(layer)
    if not _are_small(pads, layer):
        graph.pad(f"{layer.name}.padded", pads, -np.inf)
        pads = (0, 0, 0, 0)
    places = ""
    if layer.name in graph.unpooled:
        places = graph.unique(f"{layer.name}.places")
        graph.switches[layer.name] = places
    graph.node(
        "MaxPool",
        layer.name,
        second=places,
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=pads,
        dilations=layer.dilation,
    )


def _max_unpooling(graph: Graph, layer: MaxUnpooling) -> None:
    """Translate unpooling where the windows cover the image and do not overlap.

    The operator does not add numbers, and runtimes differ in the place of the rest of an image.
    """
    pooling = layer.pooling
    covered = extent(pooling.kernel, pooling.dilation)
    (_, *size), (_, *count), stride = pooling.shape, pooling.output_shape, pooling.stride
    separate = all(s >= e for s, e in zip(stride, covered, strict=True))
    reached = [(n - 1) * s + e for n, s, e in zip(count, stride, covered, strict=True)]
    if pooling.padded or not separate or reached != size:
        raise not_exported(layer, "ONNX", "windows that do not divide the image")
    graph.node(
        "MaxUnpool",
        layer.name,
        graph.switches[pooling.name],
        kernel_shape=pooling.kernel,
        strides=stride,
    )


def _average_pooling(graph: Graph, layer: AveragePooling) -> None:
    pads, (_, _, bottom, right) = _pads(layer), layer.edges
    within_padding = pads[2] <= bottom and pads[3] <= right
    if layer.dilation == (1, 1) and within_padding and _are_small(pads, layer):
        graph.node(
            "AveragePool",
            layer.name,
            kernel_shape=layer.kernel,
            strides=layer.stride,
            pads=pads,
            count_include_pad=int(layer.count_padding),
        )
        return
    # This operator has no dilation, and no window that reaches beyond the padding: the sums are a
    # convolution of every channel by itself with a kernel of ones.
    C = layer.shape[0]
    graph.node(
        "Conv",
        f"{layer.name}.sums",
        graph.constant(f"{layer.name}.ones", np.ones((C, 1, *layer.kernel), np.float32)),
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=pads,
        dilations=layer.dilation,
        group=C,
    )
    graph.node("Mul", layer.name, graph.constant(f"{layer.name}.factors", average_factors(layer)))


def _subsampling(graph: Graph, layer: Subsampling) -> None:
    """Translate w · Σ x + b: the mean times w · kh·kw, plus b."""
    weight = layer.weight.value * np.float32(prod(layer.kernel))
    columns = (-1, 1, 1)
    name = layer.name
    graph.node("AveragePool", f"{name}.means", kernel_shape=layer.kernel, strides=layer.stride)
    graph.node("Mul", f"{name}.scaled", graph.constant(layer.weight.name, weight.reshape(columns)))
    graph.node("Add", name, graph.constant(layer.bias.name, layer.bias.value.reshape(columns)))


def _batch_normalization(graph: Graph, layer: BatchNormalization) -> None:
    graph.node(
        "BatchNormalization",
        layer.name,
        graph.constant(layer.weight.name, layer.weight.value),
        graph.constant(layer.bias.name, layer.bias.value),
        graph.constant(f"{layer.name}.mean", layer.mean.astype(np.float32)),
        graph.constant(f"{layer.name}.variance", layer.variance.astype(np.float32)),
        epsilon=layer.epsilon,
    )


def _repeat(graph: Graph, layer: RepeatUnpooling) -> None:
    no_region = graph.constant(f"{layer.name}.region", np.empty(0, np.float32))
    scales = graph.constant(f"{layer.name}.scales", np.array([1, 1, *layer.factor], np.float32))
    graph.node(
        "Resize",
        layer.name,
        no_region,
        scales,
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


def _linear(graph: Graph, layer: Linear) -> None:
    if len(layer.shape) > 1:
        graph.node("Flatten", f"{layer.name}.input")
    weight = graph.constant(layer.weight.name, layer.weight.value)
    bias = graph.constant(layer.bias.name, layer.bias.value)
    graph.node("Gemm", layer.name, weight, bias, transB=1)


def _rbf(graph: Graph, layer: RBF) -> None:
    """Translate Σ (x − w)², over x of (N,1,D) and w of (classes,D)."""
    if len(layer.shape) > 1:
        graph.node("Flatten", f"{layer.name}.input")
    axis = graph.constant(f"{layer.name}.axis", np.array([1], np.int64))
    graph.node("Unsqueeze", f"{layer.name}.column", axis)
    centres = graph.constant(f"{layer.name}.centres", layer.centres.astype(np.float32))
    graph.node("Sub", f"{layer.name}.difference", centres)
    graph.node("ReduceSumSquare", layer.name, axes=[2], keepdims=0)


def _nothing(graph: Graph, layer: Layer) -> None:
    """Dropout does nothing outside of training."""


def _activation(graph: Graph, layer: Activation) -> None:
    if layer.function not in ACTIVATIONS:
        raise not_exported(layer, "ONNX", layer.function.__name__)
    ACTIVATIONS[layer.function](graph, layer.name)


def _lecun_tanh(graph: Graph, name: str) -> None:
    graph.node("Mul", f"{name}.inner", graph.number(f"{name}.S", LeCunTanh.S))
    graph.node("Tanh", f"{name}.tanh")
    graph.node("Mul", name, graph.number(f"{name}.A", LeCunTanh.A))


ACTIVATIONS: Final[dict[type[Function], Callable[[Graph, str], None]]] = {
    ReLU: lambda graph, name: graph.node("Relu", name),
    Sigmoid: lambda graph, name: graph.node("Sigmoid", name),
    Tanh: lambda graph, name: graph.node("Tanh", name),
    LeCunTanh: _lecun_tanh,
}
TRANSLATIONS: Final[dict[type[Layer], Callable[[Graph, Any], None]]] = {
    Convolution: _convolution,
    TransposedConvolution: _transposed_convolution,
    MaxPooling: _max_pooling,
    AveragePooling: _average_pooling,
    Subsampling: _subsampling,
    MaxUnpooling: _max_unpooling,
    RepeatUnpooling: _repeat,
    BatchNormalization: _batch_normalization,
    Linear: _linear,
    RBF: _rbf,
    Activation: _activation,
    Dropout: _nothing,
}
