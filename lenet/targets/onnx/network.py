"""A checkpoint from an ONNX file, compared with ONNX's own evaluation of the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from lenet.arrays import Array
from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import plain_network
from lenet.errors import ConfigError, DataError, LenetError
from lenet.models.specification import Specification, expanded
from lenet.system.extras import require
from lenet.targets.imported import imported_checkpoint
from lenet.targets.onnx.file import read_onnx
from lenet.targets.onnx.graph import chain_of
from lenet.targets.onnx.operators import translated
from lenet.targets.onnx.translation import Translation

IMAGES: Final = 3  # of noise, for the comparison
TOLERANCE: Final = 1e-4  # of scores, relative to the largest where that is above 1


class Imported(NamedTuple):
    """A network that was imported."""

    checkpoint: Checkpoint
    difference: float
    """Of its scores from those of ONNX's reference evaluator, at most."""
    origin: str
    """The program that wrote the file."""


def import_onnx(
    path: Path,
    scale: float | None = None,
    shift: float | None = None,
    class_names: tuple[str, ...] | None = None,
) -> Imported:
    """Return the network of an ONNX file as a checkpoint that can be evaluated.

    Parameters
    ----------
    path
        The file, which need not come from a trusted source.
    scale, shift
        The graph's input is scale·level + shift for levels from 0 to 255. By default 1 and 0 if it
        takes bytes or makes its input less than a tenth, otherwise 1/255 and 0.
    class_names
        By default those in the metadata of :mod:`lenet.targets.onnx.export`, otherwise 0, 1, 2 …

    Raises
    ------
    DataError
        It is no ONNX file, a node cannot be imported, or the scores are others than ONNX's.
    ConfigError
        The class names are not as many as the classes.
    SystemFailure
        The extra ``onnx`` is not installed, or the file cannot be read.
    """
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
    chain = chain_of(model, path.parent)
    with np.errstate(all="ignore"):
        made = translated(chain, scale, shift)
    if not made.steps:
        raise DataError("has no layers", remedy="export a network to ONNX", key="graph")
    specification, arrays = _network(made)
    names = class_names or _class_names(model, specification.classes())
    checkpoint = imported_checkpoint(specification, arrays, names, int(made.background))
    difference = _difference(made, checkpoint)
    writer = " ".join(str(part) for part in (model.producer_name, model.producer_version) if part)
    return Imported(checkpoint, difference, writer[:100] or "an unknown program")


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
    """Return the largest difference of scores on images of noise.

    Raises
    ------
    DataError
        It is larger than rounding explains, or the file cannot be evaluated.
    """
    network, chain = plain_network(checkpoint), made.chain
    N = chain.input_dims[0] or IMAGES
    images = np.random.default_rng(0).integers(256, size=(N, *made.image)).astype(np.uint8)
    scale, shift = made.levels
    is_bytes = chain.input_type == "UINT8"
    dtype = {"UINT8": np.uint8, "DOUBLE": np.float64}.get(chain.input_type, np.float32)
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
    """Return the scores by ONNX's reference evaluator; only the nodes of the chain are run."""
    onnx, chain = require("onnx", extra="onnx"), made.chain
    reference = require("onnx.reference", extra="onnx")
    last = made.softmax_input or chain.nodes[-1].proto.output[0]
    nodes = [node.proto for node in chain.nodes]
    if made.softmax_input:
        nodes = nodes[: [node.value for node in chain.nodes].index(last)]
    wanted, waiting = {id(node) for node in nodes}, [name for node in nodes for name in node.input]
    while waiting:
        producer = chain.producers.get(waiting.pop())
        if producer is not None and id(producer) not in wanted:
            wanted.add(id(producer))
            waiting += producer.input
    graph = onnx.helper.make_graph(
        [node for node in chain.model.graph.node if id(node) in wanted],
        "chain",
        [value for value in chain.model.graph.input if value.name == chain.input_name],
        [onnx.helper.make_empty_tensor_value_info(last)],
        initializer=list(chain.model.graph.initializer),
    )
    opsets = [onnx.helper.make_opsetid(o.domain, o.version) for o in chain.model.opset_import]
    if any(opset.domain in ("", "ai.onnx") and opset.version < 14 for opset in opsets):
        _rewrite_normalizations(graph, made)
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    try:
        return np.asarray(
            reference.ReferenceEvaluator(model).run([last], {chain.input_name: images})[0],
            np.float64,
        )
    except Exception as error:  # the evaluator raises errors of many classes
        raise DataError(
            "cannot be evaluated by ONNX's reference evaluator",
            remedy="export the network to ONNX again",
            key="graph",
        ) from error


def _rewrite_normalizations(graph: Any, made: Translation) -> None:  # noqa: ANN401
    """Put a product and a sum in the place of each batch normalization.

    Before opset 14, onnx 1.23's evaluator takes this operator for that of training.
    """
    onnx = require("onnx", extra="onnx")
    nodes = []
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        value = node.input[0]
        constants = made.normalizations[node.output[0]]
        for operator, array in zip(("Mul", "Add"), constants, strict=True):
            name, shaped = f"{node.output[0]}/{operator}", array.astype(np.float32)
            graph.initializer.append(onnx.numpy_helper.from_array(shaped, name))
            result = node.output[0] if operator == "Add" else f"{name}/result"
            nodes.append(onnx.helper.make_node(operator, [value, name], [result]))
            value = result
    del graph.node[:]
    graph.node.extend(nodes)
