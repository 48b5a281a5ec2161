"""ONNX files as they are stored: their nodes in the order of computation, and their constants.

Nothing in a file is trusted. A constant's dimensions must agree with its bytes before an array is
made; what a file beside it may contain is determined by the tensor that refers to it. Constants are
computed from constants one node at a time, by :data:`FOLDED` operators only, after the size of the
result has been limited: no loop, no random number, no subgraph of a file is ever run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from lenet.arrays import Array
from lenet.errors import DataError
from lenet.system.extras import require
from lenet.system.files import open_regular, reading
from lenet.system.text import clipped
from lenet.targets.networks import refuse_pointer

MAX_BYTES: Final = 1 << 30  # of a file, and of all constants together
MAX_NODES: Final = 10_000
MAX_CONSTANT: Final = 1 << 28  # numbers
MAX_COMPUTED: Final = 1 << 24  # numbers of a constant that is computed without being as large
FLOATS: Final = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")
TYPES: Final = (*FLOATS, "INT8", "INT16", "INT32", "INT64", "UINT8", "BOOL")
AGAIN: Final = "export the network to ONNX again"

# Operators that compute constants from constants: those that make no more numbers than they take,
# and those whose result is as large as is computed before.
REARRANGING: Final = frozenset(
    (
        *("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat"),
        *("Slice", "Neg", "Sqrt", "Reciprocal", "Floor", "Shape", "ReduceProd"),
    )
)
BROADCASTING: Final = frozenset(["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"])
FOLDED: Final = REARRANGING | BROADCASTING | {"Gather", "ConstantOfShape", "Expand"}


def read_onnx(path: Path, remedy: str = AGAIN) -> Any:  # noqa: ANN401 - protobuf's own type
    """Return an ONNX file of at most 1 GiB; other files to which it refers are not read."""
    onnx = require("onnx", extra="onnx")
    message = require("google.protobuf.message", extra="onnx")
    with (
        reading(path, DataError),
        open_regular(path, DataError, remedy="name an ONNX file") as file,
    ):
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise DataError("is larger than 1 GiB", remedy="give a smaller network")
        content = file.read()
    refuse_pointer(content)
    try:
        model = onnx.ModelProto.FromString(content)
    except (message.DecodeError, ValueError, RecursionError):
        model = None
    if model is None or not model.graph.node or not model.opset_import:
        raise DataError("is not an ONNX file", remedy=remedy)
    return model


@dataclass
class Node:
    """A node of the graph: its attributes, and the input that is not a constant."""

    proto: Any
    attributes: dict[str, Any]
    value: str = ""

    @property
    def operator(self) -> str:
        """The operator, with its domain if that is another one than ONNX's own."""
        domain, operator = self.proto.domain, self.proto.op_type
        return f"{domain}.{operator}" if domain not in ("", "ai.onnx") else str(operator)

    def refuse(self, problem: str = "cannot be imported") -> DataError:
        """Return an error that names the node and its operator."""
        name = self.proto.name or (self.proto.output[0] if self.proto.output else "")
        return DataError(
            f"{clipped(self.operator)} {problem}",
            remedy="import a network of layers that follow each other, of those in docs/export.md",
            key=f"node {clipped(name)}",
        )

    def input(self, place: int) -> str:
        """Return the name of an input, empty if it is left out."""
        return self.proto.input[place] if place < len(self.proto.input) else ""

    def numbers(self, name: str, default: Sequence[int]) -> list[int]:
        """Return an attribute that is a list of integers, as long as its default."""
        value = self.attributes.get(name, list(default))
        if not isinstance(value, list) or not all(type(n) is int and abs(n) < 2**31 for n in value):
            raise self.refuse(f"has a wrong {name}")
        if len(value) != len(default):
            raise self.refuse(f"with {len(value)} numbers as {name} cannot be imported")
        return value

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is a finite number."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise self.refuse(f"has a wrong {name}")
        return value


def _node(proto: Any) -> Node:  # noqa: ANN401
    onnx = require("onnx", extra="onnx")
    try:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
    except ValueError:
        attributes = {}
    # Lists in protobuf have special types.
    lists = {k: list(v) for k, v in attributes.items() if hasattr(v, "__len__")}
    texts = {k: v for k, v in attributes.items() if isinstance(v, str | bytes)}
    return Node(proto, attributes | lists | texts)


# --- Constants ------------------------------------------------------------------------------------


@dataclass
class Constants:
    """The constants of a file by name; a tensor becomes an array when it is asked for."""

    folder: Path
    opset: int
    tensors: dict[str, Any]
    arrays: dict[str, Array] = field(default_factory=dict)
    nbytes: int = 0

    def __contains__(self, name: str) -> bool:
        return name in self.arrays or name in self.tensors

    def get(self, name: str) -> Array | None:
        """Return a constant, or None if there is none of that name."""
        if name not in self.arrays and name in self.tensors:
            self.put(name, self._array(self.tensors[name]))
        return self.arrays.get(name)

    def put(self, name: str, array: Array) -> None:
        """Add an array, if all are not too large together."""
        self.nbytes += array.nbytes
        if self.nbytes > MAX_BYTES:
            raise DataError("has more than 1 GiB of constants", remedy="give a smaller network")
        self.arrays[name] = array

    def fold(self, node: Node) -> None:
        """Compute a node of constants by ONNX's own implementation of this one operator."""
        if node.operator == "Constant":
            self.put(node.proto.output[0], self._array(_tensor(node)))
            return
        inputs = {name: self.get(name) for name in node.proto.input if name}
        values = [inputs[name] for name in node.proto.input if name]
        arrays = [array for array in values if array is not None]
        if node.operator not in FOLDED or not arrays or len(node.proto.input) > 64:
            raise node.refuse("of constants cannot be imported")
        try:
            with np.errstate(all="ignore"):
                if _size(node.operator, arrays) > MAX_COMPUTED:
                    raise ValueError("too large")
                array = evaluated([node.proto], node.proto.output[0], inputs, {"": self.opset})
        except Exception:
            raise node.refuse("of these constants cannot be imported") from None
        if array.dtype.kind not in "fiub":
            raise node.refuse(f"to {array.dtype} cannot be imported")
        self.put(node.proto.output[0], array)

    def _array(self, tensor: Any) -> Array:  # noqa: ANN401 - protobuf's own type
        """Return a tensor as an array, its sizes compared with its bytes first."""
        onnx = require("onnx", extra="onnx")
        name, dims, kinds = clipped(tensor.name), list(tensor.dims), onnx.TensorProto.DataType
        kind = kinds.Name(tensor.data_type) if tensor.data_type in kinds.values() else "unknown"
        if kind not in TYPES:
            raise _wrong(name, f"is of the type {kind}")
        if any(n < 0 for n in dims) or len(dims) > 8 or prod(dims) > MAX_CONSTANT:
            raise _wrong(name, f"has {len(dims)} dimensions of {prod(dims):,} numbers in all")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        size = prod(dims) * (2 if kind == "BFLOAT16" else dtype.itemsize)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.raw_data = self._external(tensor, size)
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
        if tensor.HasField("raw_data") and len(tensor.raw_data) != size:
            raise _wrong(name, f"has {len(tensor.raw_data):,} bytes, not {size:,}")
        try:
            array = np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, OverflowError):
            raise _wrong(name, "has another number of values than its dimensions") from None
        array = array.astype(np.float32) if kind in ("FLOAT16", "BFLOAT16") else array
        if list(array.shape) != dims or not np.isfinite(array[array != -np.inf]).all():
            raise _wrong(name, "has numbers that are not finite, or too few")
        return array

    def _external(self, tensor: Any, size: int) -> bytes:  # noqa: ANN401 - protobuf's own type
        """Read a tensor's bytes from a file in the model's own folder."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location, name = entries.get("location", ""), clipped(tensor.name)
        plain = location not in ("", ".", "..") and not set(location) & set("/\\:\0")
        path = self.folder / location if plain else self.folder
        shown = clipped(location)
        if not plain or path.is_symlink():
            raise _wrong(name, f"is in {shown!r}, not in a file beside the model")
        if not path.exists():
            raise _wrong(name, f"is in {shown}, which is not here", f"put {shown} beside the file")
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
            with open_regular(path, DataError) as file:
                refuse_pointer(file.read(64))
                if offset < 0 or length != size or path.stat().st_size < offset + size:
                    remedy = f"put the {shown} that belongs to the file beside it"
                    raise _wrong(name, f"is not in {shown} completely", remedy)
                file.seek(offset)
                return file.read(size)
        except (OSError, ValueError):
            raise _wrong(name, f"cannot be read from {shown}") from None


def evaluated(
    nodes: Sequence[Any], output: str, inputs: Mapping[str, Array | None], opsets: Mapping[str, int]
) -> Array:
    """Return a value that ONNX's reference evaluator computes of nodes; it raises any error."""
    onnx = require("onnx", extra="onnx")
    reference, helper = require("onnx.reference", extra="onnx"), onnx.helper
    values = [helper.make_empty_tensor_value_info(name) for name in inputs]
    result = helper.make_empty_tensor_value_info(output)
    model = helper.make_model(
        helper.make_graph(nodes, "part", values, [result]),
        opset_imports=[helper.make_opsetid(*opset) for opset in opsets.items()],
    )
    return np.asarray(reference.ReferenceEvaluator(model).run([output], dict(inputs))[0])


def _wrong(name: str, problem: str, remedy: str = AGAIN) -> DataError:
    return DataError(problem, remedy=remedy, key=f"tensor {name}")


def _size(operator: str, arrays: list[Array]) -> int:
    """Return how many numbers an operator makes, at most."""
    first, last = arrays[0], arrays[-1]
    if operator == "Concat":
        return sum(array.size for array in arrays)
    if operator in REARRANGING:
        return 0  # no more than it takes
    if operator in BROADCASTING:
        return prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    if operator == "Gather":
        return first.size * last.size
    lengths = [int(n) for n in last.ravel()[:9]]
    if len(lengths) > 8 or min(lengths, default=0) < 0:
        raise ValueError("a wrong shape")
    return prod(lengths) * (first.size if operator == "Expand" else 1)


def _tensor(node: Node) -> Any:  # noqa: ANN401
    """Return the tensor of a node Constant."""
    onnx = require("onnx", extra="onnx")
    dtypes = {"value_float": "<f4", "value_floats": "<f4", "value_int": "<i8", "value_ints": "<i8"}
    for name, value in node.attributes.items():
        if name == "value" and isinstance(value, onnx.TensorProto):
            return value
        if name in dtypes:
            return onnx.numpy_helper.from_array(np.array(value, dtypes[name]))
    raise node.refuse("of another kind than numbers cannot be imported")


# --- Graphs ---------------------------------------------------------------------------------------


@dataclass
class Graph:
    """A graph between its one input (0 for a dimension of any size) and its scores."""

    model: Any
    constants: Constants
    input_name: str
    input_dims: list[int]
    input_type: str
    nodes: list[Node]


def graph_of(model: Any, folder: Path) -> Graph:  # noqa: ANN401 - protobuf's own type
    """Return the graph of a file; other files to which it refers are in ``folder``."""
    onnx, graph = require("onnx", extra="onnx"), model.graph
    if len(graph.node) > MAX_NODES:
        raise DataError(f"has {len(graph.node):,} nodes", remedy=f"use at most {MAX_NODES:,}")
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    constants = Constants(folder, opset, {tensor.name: tensor for tensor in graph.initializer})
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise DataError(
            f"has {len(inputs)} inputs", remedy="export a network with one, the images", key="graph"
        )
    (images,) = inputs
    tensor_type, known = images.type.tensor_type, onnx.TensorProto.DataType
    dims = [max(0, d.dim_value) for d in tensor_type.shape.dim]
    is_known = tensor_type.elem_type in known.values()
    kind = known.Name(tensor_type.elem_type) if is_known else "unknown"
    producers = {output: node for node in graph.node for output in node.output if output}
    scores = _scores(graph, producers)
    nodes = _sorted(producers, scores, {images.name, *constants.tensors})
    return Graph(model, constants, images.name, dims, kind, nodes)


def _scores(graph: Any, producers: dict[str, Any]) -> str:  # noqa: ANN401
    """Return the output named scores, otherwise the first of floats, or what an ArgMax takes."""
    onnx = require("onnx", extra="onnx")
    floats = {getattr(onnx.TensorProto, name) for name in FLOATS}
    outputs = {output.name: output.type.tensor_type.elem_type for output in graph.output}
    if "scores" in outputs:
        return "scores"
    for name, kind in outputs.items():
        if kind in floats:
            return str(name)
        producer = producers.get(name)  # scikit-learn's probabilities, before they get names
        if producer is not None and producer.op_type in ("ZipMap", "ArgMax") and producer.input:
            return str(producer.input[0])
    raise DataError("has no output of floats", remedy="export a network of scores", key="graph")


def _sorted(producers: dict[str, Any], scores: str, known: set[str]) -> list[Node]:
    """Return the nodes that the scores depend on, each after those that compute its inputs."""
    ready, nodes, waiting = set(known), list[Node](), [(scores, False)]
    begun = set[str]()
    while waiting:
        name, inputs_done = waiting.pop()
        proto = producers.get(name)
        if name in ready or not name:
            continue
        if proto is None or (name in begun and not inputs_done):
            raise DataError(
                f"its value {clipped(repr(name))} does not come from the input",
                remedy=AGAIN,
                key="graph",
            )
        if inputs_done:
            nodes.append(_node(proto))
            ready |= set(proto.output)
        else:
            begun.add(name)
            waiting.append((name, True))
            waiting += [(other, False) for other in reversed(proto.input) if other not in ready]
    return nodes
