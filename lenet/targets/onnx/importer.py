"""A checkpoint from an ONNX file, compared with ONNX's own evaluation of the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from lenet.arrays import Array
from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import plain_network
from lenet.data.strokes import draw
from lenet.errors import ConfigError, DataError, LenetError
from lenet.models.specification import Specification, expanded
from lenet.system.extras import require
from lenet.targets.networks import imported_checkpoint
from lenet.targets.onnx.graph import AGAIN, evaluated, graph_of, read_onnx
from lenet.targets.onnx.operators import translated
from lenet.targets.onnx.translation import BATCH, Translation

IMAGES: Final = 3  # of noise, for the comparison
TOLERANCE: Final = 1e-4  # of scores, relative to the largest where that is above 1
DIGITS: Final = 300  # drawn, to try scales
BETTER: Final = 0.1  # of the drawn digits: by so much another scale must be better to be named

# What other programs make of a level from 0 to 255: scale and shift.
SCALES: Final = (
    *((1 / 255, 0.0), (1.0, 0.0), (1 / 255 / 0.3081, -0.1307 / 0.3081), (2 / 255, -1.0)),
    *((-1 / 255, 1.0), (-1.0, 255.0), (-2 / 255, 1.0)),
)


class Imported(NamedTuple):
    """A network that was imported."""

    checkpoint: Checkpoint
    difference: float
    """Of its scores from those of ONNX's reference evaluator, at most."""
    origin: str
    """The program that wrote the file."""
    scale: str
    """How the graph's input is made of levels, and how that is known."""
    left_out: str
    """The operator at the end that was not imported, or nothing."""
    warning: str
    """What the drawn digits say against the scale, or nothing."""


def import_onnx(
    path: Path,
    scale: float | None = None,
    shift: float | None = None,
    class_names: tuple[str, ...] | None = None,
) -> Imported:
    """Return the network of an ONNX file as a checkpoint that can be evaluated."""
    path = Path(path)
    try:
        return _imported(path, scale, shift, class_names)
    except LenetError as error:
        error.file = error.file or str(path)
        raise


def _imported(
    path: Path, scale: float | None, shift: float | None, class_names: tuple[str, ...] | None
) -> Imported:
    model = read_onnx(path, "export the network to ONNX, or its weights to a .safetensors file")
    with np.errstate(all="ignore"):
        made = translated(graph_of(model, path.parent), scale, shift)
    if not made.steps:
        raise DataError("has no layers", remedy="export a network to ONNX", key="graph")
    specification, arrays = _network(made)
    names = class_names or _class_names(model, specification.classes())
    checkpoint = imported_checkpoint(specification, arrays, names, int(made.background))
    difference = _difference(made, checkpoint)
    writer = " ".join(str(part) for part in (model.producer_name, model.producer_version) if part)
    given = scale is not None or shift is not None
    is_in_graph = made.levels == (1.0, 0.0)
    known = "as given" if given else "found in the graph" if is_in_graph else "assumed"
    return Imported(
        checkpoint,
        difference,
        writer[:100] or "an unknown program",
        f"{_line(*made.levels)}, {known}",
        made.left_out.operator if made.left_out else "",
        _tried_scales(made, checkpoint),
    )


def _line(scale: float, shift: float) -> str:
    return f"{scale:.6g} × level {'-' if shift < 0 else '+'} {abs(shift):.6g}"


def _tried_scales(made: Translation, checkpoint: Checkpoint) -> str:
    """Return a warning if the network recognises drawn digits far better at another scale."""
    digits = tuple("0123456789")
    if made.image != (1, 28, 28) or checkpoint.class_names != digits or not made.levels[0]:
        return ""
    images, labels = draw(DIGITS, seed=0)
    network, (scale, shift) = plain_network(checkpoint), made.levels
    # The preprocessing is that of the graph after the levels' scale and shift.
    inner = checkpoint.preprocessing.scale / scale
    rest = checkpoint.preprocessing.shift - inner * shift

    def accuracy(candidate: tuple[float, float]) -> float:
        a, b = candidate
        levels = replace(checkpoint.preprocessing, scale=inner * a, shift=inner * b + rest)
        with np.errstate(all="ignore"):
            scores = network.scores(network.forward(levels.prepare(images)))
        return float(np.mean(scores.argmax(axis=0) == labels))

    found, best = accuracy(made.levels), max(SCALES, key=accuracy)
    if accuracy(best) < found + BETTER:
        return ""
    return (
        f"it recognises {found:.0%} of {DIGITS} drawn digits, and {accuracy(best):.0%} if its "
        f"input is {_line(*best)}: import it again with --scale {best[0]:.6g} --shift {best[1]:.6g}"
    )


def _class_names(model: Any, classes: int) -> tuple[str, ...] | None:  # noqa: ANN401
    """Return the names in the metadata, if they are one for each class."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        names = json.loads(metadata.get("class_names", "[]"))
    except (ValueError, RecursionError):
        return None
    are_names = isinstance(names, list) and all(isinstance(n, str) and n for n in names)
    return tuple(name[:200] for name in names) if are_names and len(names) == classes else None


def _network(made: Translation) -> tuple[Specification, dict[str, Array]]:
    """Return the network as data, and its arrays by name."""
    try:
        layers = expanded([step.entry for step in made.steps])
        C, H, W = made.input_shape
        model = Specification((C, H, W), layers, made.scale, made.shift)
        model.classes()
        shapes = model.parameter_shapes() | model.state_shapes()
    except ConfigError as error:
        raise DataError(error.problem, remedy=error.remedy, key=error.key) from None
    arrays = {
        f"{entry['name']}.{name}": array
        for entry, step in zip(layers, made.steps, strict=True)
        for name, array in step.arrays.items()
    }
    if {name: array.shape for name, array in arrays.items()} != shapes:
        raise DataError(
            "has weights of other shapes than its layers",
            remedy="export the network to ONNX again",
            key="graph",
        )
    return model, arrays


# --- Comparing ------------------------------------------------------------------------------------


def _difference(made: Translation, checkpoint: Checkpoint) -> float:
    """Return the largest difference of scores on images of noise."""
    network, graph = plain_network(checkpoint), made.graph
    N = graph.input_dims[0] or IMAGES
    images = np.random.default_rng(0).integers(256, size=(N, *made.image)).astype(np.uint8)
    scale, shift = made.levels
    is_bytes = graph.input_type == "UINT8"
    dtype = np.uint8 if is_bytes else np.float32
    levels = images if is_bytes and made.levels == (1, 0) else images * np.float64(scale) + shift
    given = levels.reshape(N, -1)[:, made.input_places].astype(dtype)
    with np.errstate(all="ignore"):
        expected = _evaluated(made, given)
        own = network.scores(network.forward(checkpoint.preprocessing.prepare(images))).T
        if expected.size != own.size:
            raise _not_equal(f"has {expected.size} scores, not {own.size}")
        difference = float(np.abs(expected.reshape(own.shape) - own).max())
        limit = TOLERANCE * max(1, float(np.abs(own).max()))
    if not difference <= limit:
        raise _not_equal(f"has other scores than this package computes, by {difference:.1e}")
    return difference


def _not_equal(problem: str) -> DataError:
    return DataError(problem, remedy="report it, with the program that wrote the file", key="graph")


def _evaluated(made: Translation, images: Array) -> Array:
    """Return the scores by ONNX's reference evaluator, which runs the translated nodes only.

    Numbers of other types than float32 become float32: with 16 bits, rounding would be all that is
    compared.
    """
    onnx, graph = require("onnx", extra="onnx"), made.graph
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    stop = made.chain.index(made.left_out) if made.left_out else len(made.chain)
    nodes, inputs = [], {graph.input_name: images}
    for node in made.chain[:stop]:
        proto = node.proto
        if node.operator == "Cast":
            proto = helper.make_node("Cast", proto.input, proto.output, to=float32)
        if node.operator == "BatchNormalization":
            # Before opset 14, onnx 1.23's evaluator takes this operator for that of training.
            result, arrays = proto.output[0], made.normalizations[proto.output[0]]
            names = [f"{result}/product", f"{result}/factor", f"{result}/offset"]
            inputs |= {k: a.astype(np.float32) for k, a in zip(names[1:], arrays, strict=True)}
            nodes.append(helper.make_node("Mul", [node.value, names[1]], [names[0]]))
            proto = helper.make_node("Add", [names[0], names[2]], [result])
        for name in proto.input:
            array = graph.constants.get(name)
            if array is not None and array.dtype.kind == "f":
                inputs[name] = array.astype(np.float32)
            elif array is not None:
                inputs[name] = np.where(array == BATCH, len(images), array).astype(array.dtype)
        nodes.append(proto)
    last = made.left_out.value if made.left_out else made.value
    opsets = {opset.domain: opset.version for opset in graph.model.opset_import}
    try:
        return evaluated(nodes, last, inputs, opsets).astype(np.float64)
    except Exception as error:  # the evaluator raises errors of many classes
        raise DataError(
            "cannot be evaluated by ONNX's reference evaluator", remedy=AGAIN, key="graph"
        ) from error
