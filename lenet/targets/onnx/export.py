"""ONNX: the open format that other runtimes read (https://onnx.ai).

Needs the extra ``onnx``. The graph takes ``images``, raw levels from 0 to 255 of the shape
(N,C,H,W) for any N, as uint8 or, on request, as float32. It returns ``scores`` and
``probabilities``, (N, classes). For an image whose levels differ by at most 1, which is blank or
has been scaled to the range 0 to 1, all probabilities are equal. Every value has the name of the
layer that computes it; the last layer's is ``scores``.

All operators mean the same in opsets 11 to 17. The default, 11, is what runtimes load since 2020.

A layer is translated by the function of its class in :data:`TRANSLATIONS`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from lenet.arrays import Array
from lenet.data.preprocessing import Preprocessing
from lenet.errors import ConfigError, GateFailed
from lenet.nn.activations import Activation, Function, LeCunTanh, ReLU, Sigmoid, Tanh
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.im2col import extent
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, MaxPooling, Pooling
from lenet.nn.rbf import RBF
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import MaxUnpooling, RepeatUnpooling
from lenet.system.extras import require
from lenet.targets.exported import (
    ExportedNetwork,
    average_factors,
    batch_factors,
    not_exported,
    sample_image,
)
from lenet.version import __version__

Input: TypeAlias = Literal["bytes", "float"]

# By opset, the version of the file format that belongs to it.
IR_VERSIONS: Final = {11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8}
OPSET: Final = 11
DTYPES: Final[dict[Input, str]] = {"bytes": "uint8", "float": "float32"}
MIN_CONTRAST: Final = 1.0  # of the levels of an image that is not blank: more than this
TOLERANCE: Final = 1e-4  # of scores, relative to the largest where that is above 1
RESERVED: Final = ("images", "scores", "probabilities")  # names of the graph's input and outputs


def onnx_model(exported: ExportedNetwork, input_type: Input = "bytes", opset: int = OPSET) -> bytes:
    """Return the network as the bytes of an ONNX file, checked by ONNX's own checker.

    Parameters
    ----------
    exported
        The network.
    input_type
        Whether the graph takes levels as uint8 or as float32.
    opset
        The version of the operators that the file declares.

    Raises
    ------
    ConfigError
        ONNX, or this module, has no translation of a layer; or the opset is unknown.
    SystemFailure
        The extra ``onnx`` is not installed.
    """
    if opset not in IR_VERSIONS:
        raise ConfigError(
            f"{opset} is no opset that can be written",
            remedy=f"choose one from {min(IR_VERSIONS)} to {max(IR_VERSIONS)}",
            key="--opset",
        )
    onnx = require("onnx", extra="onnx")
    unpooled = [x.pooling.name for x in exported.network.layers if isinstance(x, MaxUnpooling)]
    graph = Graph(onnx, unpooled)
    levels = _preprocess(graph, exported, input_type)
    for layer in exported.network.layers:
        if type(layer) not in TRANSLATIONS:
            raise not_exported(layer, "ONNX")
        TRANSLATIONS[type(layer)](graph, layer)
    if exported.network.layers[-1].outputs_are_distances:  # the smallest is the answer
        graph.node("Neg", "negated")
    graph.rename_last("scores")
    _probabilities(graph, levels)
    model = onnx.helper.make_model(
        graph.finish(exported, input_type),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        ir_version=IR_VERSIONS[opset],
        producer_name="lenet",
        producer_version=__version__,
        doc_string=f"A network {exported.origin}.",
    )
    onnx.helper.set_model_props(model, _metadata(exported, input_type))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def checked_model(
    exported: ExportedNetwork, input_type: Input = "bytes", opset: int = OPSET
) -> tuple[bytes, float]:
    """Return the ONNX file, and how far its scores are from this package's on 16 images of noise.

    Raises
    ------
    ConfigError, GateFailed, SystemFailure
        As for :func:`onnx_model` and :func:`compare`.
    """
    model = onnx_model(exported, input_type, opset)
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
        It is larger than rounding explains, or the evaluator fails.
    """
    reference = require("onnx.reference", extra="onnx")
    onnx = require("onnx", extra="onnx")
    read = onnx.load_from_string(model)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(read.graph.input[0].type.tensor_type.elem_type)
    try:
        (scores,) = reference.ReferenceEvaluator(read).run(
            ["scores"], {"images": images.astype(dtype)}
        )
    except Exception as error:  # it raises errors of many classes
        raise GateFailed(
            f"the exported network cannot be run by the evaluator of onnx {onnx.__version__}",
            remedy="pip install --upgrade onnx",
            key="scores",
        ) from error
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


def _metadata(exported: ExportedNetwork, input_type: Input) -> dict[str, str]:
    image = sample_image(exported)
    scores = exported.scores(image[None])[0]
    C, H, W = exported.image_shape
    top, left, bottom, right = exported.padding
    preprocessing = exported.preprocessing
    return {
        "input": (
            f"images, {DTYPES[input_type]} (N,{C},{H},{W}): levels from 0 "
            f"{'(background) to 255 (ink)' if C == 1 else 'to 255'}, not scaled, not padded; "
            "levels from 0 to 1 are taken for blank, and all probabilities are equal then"
        ),
        "placement": exported.placement,
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
        "test_image": base64.b64encode(image.tobytes()).decode(),
        "test_scores": json.dumps([float(score) for score in scores]),
        "test_answer": exported.class_names[int(scores.argmax())],
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

    def rename_last(self, name: str) -> None:
        """Give the last value another name."""
        self.nodes[-1].output[0] = self.value = name

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

    def finish(self, exported: ExportedNetwork, input_type: Input) -> Any:  # noqa: ANN401
        """Return the graph with its input and outputs."""

        def tensor(name: str, *shape: int, dtype: str = "float32") -> Any:  # noqa: ANN401
            element = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            return self.onnx.helper.make_tensor_value_info(name, element, ["N", *shape])

        classes = len(exported.class_names)
        return self.onnx.helper.make_graph(
            self.nodes,
            "lenet",
            [tensor("images", *exported.image_shape, dtype=DTYPES[input_type])],
            [tensor("scores", classes), tensor("probabilities", classes)],
            initializer=self.constants,
        )

    def unique(self, name: str) -> str:
        """Return a name that no other value has: layers may have any names."""
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def _preprocess(graph: Graph, exported: ExportedNetwork, input_type: Input) -> str:
    """Convert to float32, pad with background, scale and shift; return the levels' name."""
    preprocessing = exported.preprocessing
    if input_type == "bytes":
        graph.node("Cast", "levels", to=graph.onnx.TensorProto.FLOAT)
    levels = graph.value
    graph.pad("padded", exported.padding, preprocessing.background)
    graph.node("Mul", "scaled", graph.number("scale", preprocessing.scale))
    graph.node("Add", "input", graph.number("shift", preprocessing.shift))
    return levels


def _probabilities(graph: Graph, levels: str) -> None:
    """Append the softmax of the scores, or of zeros for a blank image."""
    graph.value = levels
    graph.node("Flatten", "contrast.levels", axis=1)
    flat = graph.value
    graph.node("ReduceMin", "contrast.minimum", axes=[1], keepdims=1)
    minimum, graph.value = graph.value, flat
    graph.node("ReduceMax", "contrast.maximum", axes=[1], keepdims=1)
    graph.node("Sub", "contrast", minimum)
    graph.node("Greater", "has_contrast", graph.number("contrast.limit", MIN_CONTRAST))
    graph.node("Where", "certain", "scores", graph.number("contrast.none", 0))
    graph.node("Softmax", "softmax", axis=1)
    graph.rename_last("probabilities")


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
    """Translate as a product and a sum: the operator is another one in every few opsets."""
    factor, offset = batch_factors(layer)
    columns = (layer.C, 1, 1) if len(layer.shape) > 1 else (layer.C,)
    name = layer.name
    graph.node("Mul", f"{name}.scaled", graph.constant(f"{name}.factor", factor.reshape(columns)))
    graph.node("Add", name, graph.constant(f"{name}.offset", offset.reshape(columns)))


def _repeat(graph: Graph, layer: RepeatUnpooling) -> None:
    # Only another mode uses the region; but onnx up to 1.19 fails on an empty one.
    region = graph.constant(f"{layer.name}.region", np.array([0] * 4 + [1] * 4, np.float32))
    scales = graph.constant(f"{layer.name}.scales", np.array([1, 1, *layer.factor], np.float32))
    graph.node(
        "Resize",
        layer.name,
        region,
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
    row = graph.constant(f"{layer.name}.shape", np.array([-1, 1, prod(layer.shape)], np.int64))
    graph.node("Reshape", f"{layer.name}.row", row)
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
