"""The nodes of an ONNX file that lie one behind the other, and the constants that they take.

Nothing in the file is trusted: a constant's dimensions must agree with its bytes before an array is
made, and what a file beside it may contain is determined by the tensor that refers to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from lenet.arrays import Array
from lenet.errors import DataError
from lenet.system.extras import require
from lenet.system.files import open_regular
from lenet.system.text import clipped

MAX_NODES: Final = 10_000
MAX_CONSTANT: Final = 1 << 28  # numbers
FLOATS: Final = ("FLOAT", "DOUBLE", "FLOAT16")


@dataclass
class Node:
    """A node of the graph: what it takes besides the value before it, and its attributes."""

    proto: Any
    attributes: dict[str, Any]
    value: str
    """The input that is not a constant."""

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


@dataclass
class Chain:
    """The nodes from the graph's input to its scores, in order.

    Attributes
    ----------
    model
        The file.
    input_name, input_dims, input_type
        The graph's input: its name, its dimensions (0 for one of any size) and its ONNX type.
    nodes
        The nodes that take the input to the output.
    folder
        Where files to which the model refers may be.
    constants
        Tensors by name.
    """

    model: Any
    folder: Path
    input_name: str = ""
    input_dims: list[int] = field(default_factory=list)
    input_type: str = ""
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    producers: dict[str, Any] = field(default_factory=dict)

    def constant(self, name: str) -> Array | None:
        """Return a constant, or None if there is none of that name."""
        for _ in range(MAX_NODES):
            if name in self.constants:
                return self._array(self.constants[name])
            producer = self.producers.get(name)
            if producer is None or producer.op_type != "Identity" or len(producer.input) != 1:
                return None
            name = producer.input[0]
        return None

    def is_constant(self, name: str) -> bool:
        """Return whether a value does not depend on the graph's input."""
        waiting, seen = [name], set[str]()
        while waiting:
            name = waiting.pop()
            if name == self.input_name:
                return False
            if name in seen or name in self.constants or not name:
                continue
            seen.add(name)
            producer = self.producers.get(name)
            if producer is None:
                return False
            waiting += producer.input
        return True

    def _array(self, tensor: Any) -> Array:  # noqa: ANN401 - protobuf's own type
        """Return a tensor as an array, its sizes compared with its bytes first."""
        onnx = require("onnx", extra="onnx")
        name, dims = clipped(tensor.name), list(tensor.dims)
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        except (KeyError, ValueError, TypeError):
            raise _wrong(name, "has a type that is unknown") from None
        if dtype.kind not in "fiub" or dtype.hasobject:
            raise _wrong(name, f"is of the type {dtype}")
        if any(n < 0 for n in dims) or len(dims) > 8 or prod(dims) > MAX_CONSTANT:
            raise _wrong(name, f"has {len(dims)} dimensions of {prod(dims):,} numbers in all")
        size = prod(dims) * dtype.itemsize
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
        if list(array.shape) != dims or not np.isfinite(array[array != -np.inf]).all():
            raise _wrong(name, "has numbers that are not finite, or too few")
        return array

    def _external(self, tensor: Any, size: int) -> bytes:  # noqa: ANN401 - protobuf's own type
        """Read a tensor's bytes from a file in the model's own folder."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location, name = entries.get("location", ""), clipped(tensor.name)
        plain = location not in ("", ".", "..") and not set(location) & set("/\\:\0")
        path = self.folder / location if plain else self.folder
        if not plain or path.is_symlink():
            raise _wrong(name, f"is in {clipped(repr(location))}, not in a file beside the model")
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
            with open_regular(path, DataError) as file:
                if offset < 0 or length != size or path.stat().st_size < offset + size:
                    raise _wrong(name, f"is not in {clipped(location)} completely")
                file.seek(offset)
                return file.read(size)
        except (OSError, ValueError):
            raise _wrong(name, f"cannot be read from {clipped(repr(location))}") from None


def _wrong(name: str, problem: str) -> DataError:
    return DataError(problem, remedy="export the network to ONNX again", key=f"tensor {name}")


def chain_of(model: Any, folder: Path) -> Chain:  # noqa: ANN401 - protobuf's own type
    """Return the nodes between the graph's one input and its scores.

    The scores are the output of that name, otherwise the first output of floats.

    Raises
    ------
    DataError
        The graph is not of this kind.
    """
    onnx = require("onnx", extra="onnx")
    graph = model.graph
    if len(graph.node) > MAX_NODES:
        raise DataError(f"has {len(graph.node):,} nodes", remedy=f"use at most {MAX_NODES:,}")
    made = Chain(model, folder)
    made.constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and len(node.output) == 1:
            tensor = _constant(onnx, node)
            if tensor is not None:
                made.constants[node.output[0]] = tensor
        made.producers.update((output, node) for output in node.output if output)
    inputs = [value for value in graph.input if value.name not in made.constants]
    if len(inputs) != 1:
        raise DataError(
            f"has {len(inputs)} inputs", remedy="export a network with one, the images", key="graph"
        )
    made.input_name = inputs[0].name
    tensor_type = inputs[0].type.tensor_type
    made.input_dims = [max(0, d.dim_value) for d in tensor_type.shape.dim]
    known = onnx.TensorProto.DataType
    made.input_type = (
        known.Name(tensor_type.elem_type) if tensor_type.elem_type in known.values() else "unknown"
    )
    _walk(made, _scores(made))
    return made


def _constant(onnx: Any, node: Any) -> Any:  # noqa: ANN401
    """Return the tensor of a node Constant, or None for another kind of value."""
    for attribute in node.attribute:
        match attribute.name:
            case "value":
                return attribute.t
            case "value_float":
                return onnx.numpy_helper.from_array(np.array(attribute.f, np.float32))
            case "value_int":
                return onnx.numpy_helper.from_array(np.array(attribute.i, np.int64))
            case "value_ints":
                return onnx.numpy_helper.from_array(np.array(attribute.ints, np.int64))
            case "value_floats":
                return onnx.numpy_helper.from_array(np.array(attribute.floats, np.float32))
    return None


def _scores(chain: Chain) -> str:
    """Return the name of the output to import."""
    onnx = require("onnx", extra="onnx")
    outputs = list(chain.model.graph.output)
    for output in outputs:
        if output.name == "scores":
            return "scores"
    floats = {getattr(onnx.TensorProto, name) for name in FLOATS}
    for output in outputs:
        if output.type.tensor_type.elem_type in floats:
            return str(output.name)
        producer = chain.producers.get(output.name)
        if producer is not None and producer.op_type == "ZipMap" and producer.input:
            return str(producer.input[0])  # scikit-learn's probabilities, before they get names
    raise DataError("has no output of floats", remedy="export a network of scores", key="graph")


def _walk(chain: Chain, value: str) -> None:
    """Collect the nodes back from a value to the input."""
    onnx = require("onnx", extra="onnx")
    while value != chain.input_name:
        proto = chain.producers.get(value)
        if proto is None or len(chain.nodes) >= len(chain.producers):
            raise DataError(
                f"its value {clipped(repr(value))} does not come from the input",
                remedy="export the network to ONNX again",
                key="graph",
            )
        try:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        except ValueError:
            attributes = {}
        node = Node(proto, attributes, "")
        data = list(proto.input)
        if proto.op_type == "Reshape":  # its second input may be computed from a shape
            data = data[:1]
        depends = [name for name in data if name and not chain.is_constant(name)]
        if len(depends) != 1 or proto.output[0] != value:
            raise node.refuse("does not take one value and constants: the network is no chain")
        node.value = value = depends[0]
        # Lists in protobuf are of types of their own.
        node.attributes = {k: list(v) if _is_list(v) else v for k, v in attributes.items()}
        chain.nodes.append(node)
    chain.nodes.reverse()


def _is_list(value: object) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes)
