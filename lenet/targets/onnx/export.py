"""ONNX: the open format that other runtimes read (https://onnx.ai).

Needs the extra ``onnx``. The graph takes ``images``, raw levels from 0 to 255 of the shape
(N,C,H,W) for any N, as uint8 or, on request, as float32. It returns ``scores`` and
``probabilities``, (N, classes). For an image whose levels differ by at most 1, which is blank or
has been scaled to the range 0 to 1, all probabilities are equal. Every value has the name of the
layer that computes it; the last layer's is ``scores``.

All operators mean the same in opsets 11 to 17. The default, 11, is what runtimes load since 2020.

An operation of a layer is translated by :data:`TRANSLATIONS`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from lenet.arrays import Array, Edges
from lenet.data.preprocessing import Preprocessing
from lenet.errors import ConfigError
from lenet.nn.im2col import extent
from lenet.nn.unpooling import MaxUnpooling
from lenet.system.extras import require
from lenet.targets import operations as op
from lenet.targets.networks import ExportedNetwork, sample_image
from lenet.targets.operations import dispatched, formulas, operations_of, refused, written
from lenet.version import __version__

Input: TypeAlias = Literal["bytes", "float"]

# By opset, the version of the file format that belongs to it.
IR_VERSIONS: Final = {11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8}
OPSET: Final = 11
DTYPES: Final[dict[Input, str]] = {"bytes": "uint8", "float": "float32"}
MIN_CONTRAST: Final = 1.0  # of the levels of an image that is not blank: more than this
TOLERANCE: Final = 1e-4  # of scores, relative to the largest where that is above 1
PROBLEM, REMEDY = "cannot be exported to ONNX", "train a network without it"
RESERVED: Final = ("images", "scores", "probabilities")  # names of the graph's input and outputs


def onnx_model(exported: ExportedNetwork, input_type: Input = "bytes", opset: int = OPSET) -> bytes:
    """Return the network as the bytes of an ONNX file, checked by ONNX's own checker."""
    if opset not in IR_VERSIONS:
        raise ConfigError(
            f"opset {opset} is not supported",
            remedy=f"choose one from {min(IR_VERSIONS)} to {max(IR_VERSIONS)}",
            key="--opset",
        )
    onnx = require("onnx", extra="onnx")
    unpooled = [x.pooling.name for x in exported.network.layers if isinstance(x, MaxUnpooling)]
    graph = Graph(onnx, unpooled)
    levels = _preprocess(graph, exported, input_type)
    for layer in exported.network.layers:
        for operation in operations_of(layer):
            dispatched(TRANSLATIONS, operation, PROBLEM, REMEDY)(graph, operation)
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
    """Nodes and constants in the making; ``value`` is the last one's name.

    ``unpooled`` names the max poolings whose switches, the places of the maxima, a later layer
    needs.
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
        self.append(operator, name, [self.value, *others], second, **attributes)

    def append(
        self, operator: str, name: str, inputs: list[str], second: str = "", **attributes: object
    ) -> str:
        """Append a node with these inputs and return the name of its value."""
        name = self.unique(name)
        outputs = [name, second] if second else [name]
        self.nodes.append(
            self.onnx.helper.make_node(operator, inputs, outputs, name=name, **attributes)
        )
        self.value = name
        return name

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
        inputs = [self.constant(f"{name}.pads", pads)]
        if value:  # 0 is the default; TensorFlow Lite cannot convert a value that is given
            inputs.append(self.number(f"{name}.value", value))
        self.node("Pad", name, *inputs)

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


# --- Operations -----------------------------------------------------------------------------------


def _window(window: op.Window, edges: Edges | None = None) -> dict[str, Any]:
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "pads": window.edges if edges is None else edges,
        "dilations": window.dilation,
    }


def _product(graph: Graph, operation: op.Product) -> None:
    weight = graph.constant(f"{operation.layer}.weight", operation.weight)
    bias = graph.constant(f"{operation.layer}.bias", operation.bias)
    options = _window(operation.window)
    graph.node("Conv", operation.layer, weight, bias, **options, group=operation.groups)


def _affine(graph: Graph, operation: op.Affine) -> None:
    if len(operation.shape) > 1:
        graph.node("Flatten", f"{operation.layer}.input")
    weight = graph.constant(f"{operation.layer}.weight", operation.weight)
    bias = graph.constant(f"{operation.layer}.bias", operation.bias)
    graph.node("Gemm", operation.layer, weight, bias, transB=1)


def _transposed(graph: Graph, operation: op.Transposed) -> None:
    """Translate groups as zeros: onnx 1.23's evaluator gives every group the first one's bias."""
    C, g = operation.shape[0], operation.groups
    kernels = np.zeros((g, C // g, g, *operation.weight.shape[1:]), np.float32)
    for group, part in enumerate(np.split(operation.weight, g)):
        kernels[group, :, group] = part
    dense = kernels.reshape(C, operation.output[0], *operation.window.kernel)
    weight = graph.constant(f"{operation.layer}.weight", dense)
    bias = graph.constant(f"{operation.layer}.bias", operation.bias)
    options = {**_window(operation.window), "output_padding": operation.output_padding}
    graph.node("ConvTranspose", operation.layer, weight, bias, **options)


def _pads(operation: op.Maximum | op.Sum) -> Edges:
    """Return padding that gives the layer's windows without ``ceil_mode``.

    Runtimes differ in the number of windows under that option, and in what they count as padding.
    """
    (_, H, W), (_, Ho, Wo), window = operation.shape, operation.output, operation.window
    (sh, sw), (eh, ew) = window.stride, extent(window.kernel, window.dilation)
    top, left, _, _ = window.edges
    below, right = (Ho - 1) * sh + eh - top - H, (Wo - 1) * sw + ew - left - W
    return top, left, max(below, 0), max(right, 0)


def _are_small(pads: Edges, window: op.Window) -> bool:
    """Return whether the padding is smaller than the kernel, as runtimes require of poolings."""
    return all(p < k for p, k in zip(pads, 2 * window.kernel, strict=True))


def _maximum(graph: Graph, operation: op.Maximum) -> None:
    pads = _pads(operation)
    if not _are_small(pads, operation.window):
        graph.pad(f"{operation.layer}.padded", pads, -np.inf)
        pads = (0, 0, 0, 0)
    places = ""
    if operation.layer in graph.unpooled:
        places = graph.unique(f"{operation.layer}.places")
        graph.switches[operation.layer] = places
    graph.node("MaxPool", operation.layer, second=places, **_window(operation.window, pads))


def _unpool(graph: Graph, operation: op.Unpool) -> None:
    """Translate unpooling where the windows cover the image and do not overlap.

    The operator does not add numbers, and runtimes differ in the place of the rest of an image.
    """
    pooling = operation.pooling
    covered = extent(pooling.kernel, pooling.dilation)
    (_, *size), (_, *count), stride = pooling.shape, pooling.output_shape, pooling.stride
    separate = all(s >= e for s, e in zip(stride, covered, strict=True))
    reached = [(n - 1) * s + e for n, s, e in zip(count, stride, covered, strict=True)]
    if pooling.padded or not separate or reached != size:
        raise refused(operation, f"with windows that do not divide the image {PROBLEM}", REMEDY)
    places = graph.switches[pooling.name]
    options: dict[str, Any] = {"kernel_shape": pooling.kernel, "strides": stride}
    graph.node("MaxUnpool", operation.layer, places, **options)


def _sum(graph: Graph, operation: op.Sum) -> None:
    """Translate to a mean where the factors are those of a mean, otherwise to sums and factors."""
    window, pads, factors = operation.window, _pads(operation), operation.factors
    area, on_image = prod(window.kernel), _places_on_image(operation)
    counts_padding = int(operation.factor is not None)
    is_mean = counts_padding or np.allclose(factors * on_image, 1)
    if is_mean and window.dilation == (1, 1) and _are_small(pads, window):
        options = {k: v for k, v in _window(window, pads).items() if k != "dilations"}
        graph.node("AveragePool", operation.layer, **options, count_include_pad=counts_padding)
        if counts_padding and not np.isclose(float(factors[0, 0]) * area, 1):
            factor = graph.number(f"{operation.layer}.factor", float(factors[0, 0]) * area)
            graph.node("Mul", f"{operation.layer}.sums", factor)
        return
    # AveragePool has no dilation, and no window that reaches beyond the padding: the sums are a
    # convolution of every channel by itself with a kernel of ones.
    C = operation.shape[0]
    ones = np.ones((C, 1, *window.kernel), np.float32)
    kernels = graph.constant(f"{operation.layer}.ones", ones)
    graph.node("Conv", f"{operation.layer}.sums", kernels, **_window(window, pads), group=C)
    graph.node("Mul", operation.layer, graph.constant(f"{operation.layer}.factors", factors))


def _places_on_image(operation: op.Sum) -> Array:
    """Return how many places of each window (Ho,Wo) are on the image."""
    window, counts = operation.window, []
    for axis in (0, 1):
        starts = window.stride[axis] * np.arange(operation.output[1 + axis]) - window.edges[axis]
        places = starts[:, None] + window.dilation[axis] * np.arange(window.kernel[axis])
        counts.append(((places >= 0) & (places < operation.shape[1 + axis])).sum(axis=1))
    return np.outer(*counts)


def _scale(graph: Graph, operation: op.Scale) -> None:
    """Translate as a product and a sum: BatchNormalization is another one in every few opsets."""
    columns = (-1, *[1] * (len(operation.shape) - 1))
    factor = graph.constant(f"{operation.layer}.factor", operation.factor.reshape(columns))
    offset = graph.constant(f"{operation.layer}.offset", operation.offset.reshape(columns))
    graph.node("Mul", f"{operation.layer}.scaled", factor)
    graph.node("Add", operation.layer, offset)


def _repeat(graph: Graph, operation: op.Repeat) -> None:
    # Only another mode uses the region; but onnx up to 1.19 fails on an empty one.
    name, sizes = operation.layer, (1, 1, *operation.factor)
    region = graph.constant(f"{name}.region", np.array([0] * 4 + [1] * 4, np.float32))
    scales = graph.constant(f"{name}.scales", np.array(sizes, np.float32))
    places: dict[str, Any] = {"coordinate_transformation_mode": "asymmetric"}
    graph.node("Resize", name, region, scales, mode="nearest", nearest_mode="floor", **places)


def _distances(graph: Graph, operation: op.Distances) -> None:
    """Translate Σ (x − w)², over x of (N,1,D) and w of (classes,D)."""
    name = operation.layer
    if len(operation.shape) > 1:
        graph.node("Flatten", f"{name}.input")
    row = graph.constant(f"{name}.shape", np.array([-1, 1, prod(operation.shape)], np.int64))
    graph.node("Reshape", f"{name}.row", row)
    graph.node("Sub", f"{name}.difference", graph.constant(f"{name}.centres", operation.centres))
    graph.node("ReduceSumSquare", name, axes=[2], keepdims=0)


def _pointwise(graph: Graph, operation: op.Pointwise) -> None:
    function, name = operation.function, operation.layer
    formula = formulas(function)
    if "onnx" in vars(function):
        graph.node(function.onnx, name)
    elif formula is None:
        raise refused(operation, f"with {function.__name__} {PROBLEM}", REMEDY)
    else:
        graph.value = written(formula[0], _writer(graph, name), graph.value)


def _writer(graph: Graph, name: str) -> op.Writer:
    """Return formulas as nodes: their values are names of values."""

    def combine(operator: str, inputs: list[str]) -> str:
        if operator == ">":
            graph.append("Greater", f"{name}.positive", inputs)
            return graph.append("Cast", name, [graph.value], to=graph.onnx.TensorProto.FLOAT)
        return graph.append(OPERATORS.get(operator, operator.capitalize()), name, inputs)

    return op.Writer(lambda number: graph.number(f"{name}.number", number), combine)


OPERATORS: Final = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div"}
TRANSLATIONS: Final[dict[type[op.Operation], Callable[[Graph, Any], None]]] = {
    op.Product: _product,
    op.Affine: _affine,
    op.Transposed: _transposed,
    op.Maximum: _maximum,
    op.Unpool: _unpool,
    op.Sum: _sum,
    op.Scale: _scale,
    op.Repeat: _repeat,
    op.Distances: _distances,
    op.Pointwise: _pointwise,
}
