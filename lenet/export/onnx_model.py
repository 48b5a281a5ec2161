"""ONNX: the open format that other runtimes read (https://onnx.ai).

Needs the extra ``onnx``. The graph takes ``images``, float32 (N,1,H,W) of raw grey levels 0 to
255, for any N, and gives ``scores`` and ``probabilities``, (N, classes). Every value carries the
name of the layer that it comes from. Operators of opset 17, which runtimes have had since 2022.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np

from lenet.export.subject import Subject, not_exported
from lenet.nn.activations import Activation, Function, LeCunTanh, ReLU, Sigmoid, Tanh
from lenet.nn.convolution import Convolution
from lenet.nn.im2col import Array
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.system.errors import GateFailed
from lenet.system.extras import require
from lenet.version import __version__

OPSET: Final = 17
IR_VERSION: Final = 8  # the version of the file format that goes with this opset
TOLERANCE: Final = 1e-4  # of scores, relative to the largest where that is above 1
OPERATORS: Final[dict[type[Function], str]] = {ReLU: "Relu", Sigmoid: "Sigmoid", Tanh: "Tanh"}


def onnx_model(subject: Subject) -> bytes:
    """Return the network as the bytes of an ONNX file, checked by ONNX's own checker.

    Raises
    ------
    SystemFailure
        The extra ``onnx`` is not installed.
    """
    onnx = require("onnx", extra="onnx")
    graph = _Graph(onnx)
    graph.prepare(subject)
    for layer in subject.network.layers:
        graph.add(layer)
    scores = graph.node("Identity", "scores", [graph.value])
    graph.node("Softmax", "probabilities", [scores], axis=1)
    model = onnx.helper.make_model(
        graph.finish(subject),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lenet",
        producer_version=__version__,
        doc_string=f"LeNet-5, {subject.origin}.",
    )
    onnx.helper.set_model_props(model, _metadata(subject))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def compare(model: bytes, subject: Subject, images: Array) -> float:
    """Return how far the scores of ONNX's reference evaluator are from this package's.

    Parameters
    ----------
    model
        What :func:`onnx_model` returned for ``subject``.
    subject
        The network.
    images
        Raw images (N,1,H,W).

    Raises
    ------
    GateFailed
        Further than rounding explains.
    """
    reference = require("onnx.reference", extra="onnx")
    evaluator = reference.ReferenceEvaluator(require("onnx", extra="onnx").load_from_string(model))
    (scores,) = evaluator.run(["scores"], {"images": images.astype(np.float32)})
    own = subject.scores(images)
    difference = float(np.max(np.abs(scores - own)))
    if not difference <= TOLERANCE * max(1, float(np.max(np.abs(own)))):
        raise GateFailed(
            f"the exported network's scores are off by {difference:.1e}",
            remedy="do not use it, and report this with the versions of onnx and NumPy",
            key="scores",
        )
    return difference


def _metadata(subject: Subject) -> dict[str, str]:
    before, after = subject.margins
    return {
        "input": (
            f"images, float32 (N,1,{subject.image},{subject.image}): grey levels from 0 "
            "(background) to 255 (ink), not scaled, not padded"
        ),
        "preprocessing": json.dumps(
            {
                "input_size": subject.preprocessing.input_size,
                "scale": subject.preprocessing.scale,
                "shift": subject.preprocessing.shift,
                "padding_before": before,
                "padding_after": after,
            }
        ),
        "preprocessing_where": "inside the graph: pad with 0, times scale, plus shift",
        "class_names": json.dumps(subject.class_names),
        "origin": subject.origin,
        "parameters": str(subject.network.parameters.size),
    }


class _Graph:
    """Nodes and constants in the making; ``value`` is the name of what the last node gave."""

    def __init__(self, onnx: Any) -> None:  # noqa: ANN401 - a module has no better type
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.value = "images"

    def node(self, operator: str, output: str, inputs: list[str], **attributes: object) -> str:
        self.nodes.append(
            self.onnx.helper.make_node(operator, inputs, [output], name=output, **attributes)
        )
        self.value = output
        return output

    def constant(self, name: str, array: Array) -> str:
        # Little-endian whatever the machine, as the format wants it.
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, name: str, number: float) -> str:
        return self.constant(name, np.array(number, np.float32))

    def prepare(self, subject: Subject) -> None:
        """Pad with grey level 0, which scale and shift turn into background."""
        before, after = subject.margins
        pads = np.array([0, 0, before, before, 0, 0, after, after], np.int64)
        scale, shift = subject.preprocessing.scale, subject.preprocessing.shift
        self.node("Pad", "padded", [self.value, self.constant("padding", pads)])
        self.node("Mul", "scaled", [self.value, self.number("scale", scale)])
        self.node("Add", "input", [self.value, self.number("shift", shift)])

    def add(self, layer: Layer) -> None:
        window = {"kernel_shape": layer.kernel, "strides": layer.stride}
        weights = [self.constant(p.name, p.value) for p in layer.parameters]
        match layer:
            case Convolution() if layer.groups == 1 and not layer.flip:
                inputs = [self.value, *weights]
                self.node("Conv", layer.name, inputs, pads=2 * layer.padding, **window)
            case MaxPooling():
                self.node("MaxPool", layer.name, [self.value], **window)
            case AveragePooling():
                self.node("AveragePool", layer.name, [self.value], **window)
            case Linear():
                if len(layer.shape) > 1:
                    self.node("Flatten", f"{layer.name}.input", [self.value])
                self.node("Gemm", layer.name, [self.value, *weights], transB=1)
            case Activation() if layer.function is LeCunTanh:
                inner = [self.value, self.number(f"{layer.name}.S", LeCunTanh.S)]
                self.node("Mul", f"{layer.name}.inner", inner)
                self.node("Tanh", f"{layer.name}.tanh", [self.value])
                outer = [self.value, self.number(f"{layer.name}.A", LeCunTanh.A)]
                self.node("Mul", layer.name, outer)
            case Activation():
                self.node(OPERATORS[layer.function], layer.name, [self.value])
            case _:
                raise not_exported(layer, "ONNX")

    def finish(self, subject: Subject) -> Any:  # noqa: ANN401 - protobuf's own type
        def tensor(name: str, *shape: int) -> Any:  # noqa: ANN401
            return self.onnx.helper.make_tensor_value_info(
                name, self.onnx.TensorProto.FLOAT, ["N", *shape]
            )

        classes = len(subject.class_names)
        return self.onnx.helper.make_graph(
            self.nodes,
            "LeNet-5",
            [tensor("images", 1, subject.image, subject.image)],
            [tensor("scores", classes), tensor("probabilities", classes)],
            initializer=self.constants,
        )
