"""Reading .safetensors files, which need not come from a trusted source.

A file is the length of a header (8 bytes, little-endian), the header (a JSON object with type,
shape and place of every tensor), and the tensors' bytes, one behind the other without gaps
(https://github.com/huggingface/safetensors). Before a tensor is read, all of that is checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from lenet.arrays import Array, Shape
from lenet.errors import DataError
from lenet.system.files import open_regular, reading
from lenet.system.text import clipped

MAX_HEADER: Final = 1 << 20  # bytes: some 10,000 tensors
MAX_DIMENSIONS: Final = 8
# Bytes of a number; others have no byte of their own, or are too coarse for weights.
SIZES: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
DTYPES: Final = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}


@dataclass(frozen=True)
class Tensor:
    """A tensor in the file: its type and shape, and where its bytes begin."""

    name: str
    dtype: str
    shape: Shape
    start: int

    @property
    def stop(self) -> int:
        """Where its bytes end."""
        return self.start + SIZES[self.dtype] * prod(self.shape)


@dataclass(frozen=True)
class SafeTensors:
    """An open file whose header has been checked."""

    file: BufferedReader
    tensors: dict[str, Tensor]

    def array(self, name: str) -> Array:
        """Read a tensor of floats as float32 or float64.

        Raises
        ------
        DataError
            It is of another type.
        """
        tensor = self.tensors[name]
        if tensor.dtype not in DTYPES:
            raise _wrong(f"is of the type {tensor.dtype}", f"tensor {clipped(name)}")
        self.file.seek(tensor.start)
        content = self.file.read(tensor.stop - tensor.start)
        if len(content) != tensor.stop - tensor.start:
            raise _wrong("was cut short while it was read", f"tensor {clipped(name)}")
        array = np.frombuffer(content, DTYPES[tensor.dtype]).reshape(tensor.shape)
        if tensor.dtype == "BF16":  # the upper half of a float32
            return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return array.astype(np.float64 if tensor.dtype == "F64" else np.float32)


@contextmanager
def open_safetensors(path: Path) -> Iterator[SafeTensors]:
    """Open a file and check its header.

    Raises
    ------
    DataError
        There is no such file, or it is no .safetensors file.
    SystemFailure
        It cannot be read.
    """
    with (
        reading(path, DataError),
        open_regular(path, DataError, remedy="name a .safetensors file") as file,
    ):
        yield SafeTensors(file, _tensors(file))


def _tensors(file: BufferedReader) -> dict[str, Tensor]:
    """Return the tensors by name; they cover the file from the header to the end."""
    size, start = os.fstat(file.fileno()).st_size, file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= size - 8:
        raise _wrong("is no .safetensors file")
    if length > MAX_HEADER:
        raise _wrong(f"has a header of {length:,} bytes, more than {MAX_HEADER:,}")
    header = _parsed(file.read(length))
    header.pop("__metadata__", None)
    tensors = [_tensor(name, entry, 8 + length) for name, entry in header.items()]
    place = 8 + length
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start != place:
            raise _wrong("does not begin where the one before it ends", _key(tensor.name))
        place = tensor.stop
    if place != size:
        raise _wrong(f"has {size:,} bytes, its header describes {place:,}")
    return {tensor.name: tensor for tensor in tensors}


def _parsed(text: bytes) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            raise ValueError("a key is given twice")
        return made

    try:
        header = json.loads(text.decode(), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise _wrong("is no .safetensors file")
    return header


def _tensor(name: str, entry: object, begin: int) -> Tensor:
    """Return a tensor of the header whose shape, type and place agree."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _wrong("has no dtype, shape and data_offsets", _key(name))
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise _wrong(f"is of the type {clipped(repr(dtype))}", _key(name))
    if not _are_counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise _wrong(f"has the shape {clipped(repr(shape))}", _key(name))
    if not _are_counts(offsets) or len(offsets) != 2:
        raise _wrong(f"has the place {clipped(repr(offsets))}", _key(name))
    tensor = Tensor(name, dtype, tuple(shape), begin + offsets[0])
    if tensor.stop != begin + offsets[1]:
        raise _wrong(
            f"has {offsets[1] - offsets[0]:,} bytes, not {tensor.stop - tensor.start:,}", _key(name)
        )
    return tensor


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in value)


def _key(name: str) -> str:
    return f"tensor {clipped(name)}"


def _wrong(problem: str, key: str | None = None) -> DataError:
    return DataError(
        problem, remedy="write the file again with safetensors.torch.save_file", key=key
    )
