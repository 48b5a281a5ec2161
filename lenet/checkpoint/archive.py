"""The bytes of a checkpoint: a ZIP archive of .npy arrays, with exactly one valid form.

The formats are NumPy's (https://numpy.org/neps/nep-0001-npy-format.html) and PKWARE's
(APPNOTE.TXT), the latter as :mod:`zipfile` writes it: members stored, not compressed, with fixed
headers. The last member is the SHA-256 of all bytes before it.

The reader parses none of this. It is given the names, types and shapes of the arrays, from which
every other byte follows; it compares the file with them, a little at a time, and allocates arrays
only when the checksum is right. So bombs, pickles and paths need no separate checks: their
bytes differ.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import PurePath
from typing import IO, Any, Final, NoReturn, TypeAlias
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from lenet.errors import CheckpointError
from lenet.system.text import clipped

Array: TypeAlias = NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, ...]

CHUNK: Final = 2**20
NPY_HEADER: Final = 128
UNIX: Final = 3
READABLE: Final = 0o644 << 16
CRC: Final = slice(14, 18)  # in the header that ZIP puts before a member
SIZE: Final = slice(18, 22)
TORCH: Final = (
    'in Python: torch.onnx.export(network, images, "net.onnx"); then: '
    "lenet import net.onnx --out net.npz"
)
KERAS: Final = (
    'in Python: keras.saving.load_model(FILE).export("net.onnx", format="onnx"); then: '
    "lenet import net.onnx --out net.npz"
)
NPZ: Final = (
    "in Python: model = lenet.Model.from_layers(LAYERS, SHAPE); "
    "model.network.load_state_dict(dict(numpy.load(FILE))); model.save(NAME)"
)
REMEDY: Final = "take another checkpoint of the run, or train again"


@dataclass(frozen=True)
class Member:
    """An array in the archive: all bytes but its numbers and their CRC-32 follow from it."""

    name: str
    dtype: str
    shape: Shape

    def __str__(self) -> str:
        return f"{np.dtype(self.dtype)}, {'×'.join(map(str, self.shape))}"

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def info(self, crc: int = 0, offset: int = 0) -> ZipInfo:
        """Return what its headers in the archive say; dated 1980-01-01, ZipInfo's default."""
        info = ZipInfo(f"{self.name}.npy")
        info.create_system, info.external_attr = UNIX, READABLE
        info.file_size = info.compress_size = NPY_HEADER + self.nbytes
        info.CRC, info.header_offset = crc, offset
        return info

    @property
    def npy_header(self) -> bytes:
        """The header of its .npy file. NumPy may pad it to other lengths; here it is always 128."""
        text = f"{{'descr': '{self.dtype}', 'fortran_order': False, 'shape': {self.shape}, }}"
        length = NPY_HEADER - 10
        return b"\x93NUMPY\1\0" + struct.pack("<H", length) + f"{text:{length - 1}}\n".encode()

    def header(self, crc: int = 0) -> bytes:
        """Return all bytes before its numbers."""
        return self.info(crc).FileHeader() + self.npy_header


CHECKSUM: Final = Member("sha256", "|u1", (32,))


def write_archive(file: IO[bytes], content: Iterable[tuple[Member, NDArray[Any]]]) -> None:
    """Write the arrays, which must be of their members' types and shapes, and the checksum."""
    digest = hashlib.sha256()
    with ZipFile(file, "w") as archive:

        def put(member: Member, array: NDArray[Any]) -> None:
            info, numbers = member.info(), array.tobytes()
            with archive.open(info, "w") as stream:
                stream.write(member.npy_header)
                stream.write(numbers)
            digest.update(member.header(info.CRC))
            digest.update(numbers)

        for member, array in content:
            put(member, array)
        put(CHECKSUM, np.frombuffer(digest.digest(), np.uint8))


def read_text(file: BufferedReader, name: str, longest: int) -> tuple[Member, bytes]:
    """Read the first member, a text of at most ``longest`` bytes, and check its CRC-32.

    It is the only member whose length is not known beforehand.
    """
    head = file.read(len(Member(name, "|u1", (0,)).header()))
    if not head:
        refuse(None, "is empty")
    if not head.startswith(b"PK"):
        found = _foreign(head, file)
        refuse(
            None, *(found or ("is not an npz archive", "name a file that lenet train has written"))
        )
    crc, size = _number(head[CRC]), _number(head[SIZE])
    member = Member(name, "|u1", (size - NPY_HEADER,))
    if not 0 < member.nbytes <= longest or head != member.header(crc):
        own = f"{name}.npy".encode() in head or b"parameters/" in head
        if not own and (found := _foreign(head, file)):
            refuse(None, *found)
        refuse(name, "is not the first member, or is packed as lenet does not pack it")
    text = file.read(member.nbytes)
    if zlib.crc32(text, zlib.crc32(member.npy_header)) != crc:
        refuse(name, "is damaged or cut short")
    return member, text


def read_arrays(file: BufferedReader, text: Member, members: Sequence[Member]) -> dict[str, Array]:
    """Return the arrays of a file that consists of ``text``, ``members`` and the checksum."""
    start = _verified(file, [text, *members, CHECKSUM])
    return {member.name: _read_array(file, member, start[member]) for member in members}


def _verified(file: BufferedReader, members: Sequence[Member]) -> dict[Member, int]:
    """Compare the whole file with what it must be; return where each member's numbers start.

    Reads a little at a time: a file that is not right costs no memory, however long it is.
    """
    file.seek(0)
    digest, infos, start = hashlib.sha256(), [], {}
    for member in members:
        checksum = digest.digest()
        offset = file.tell()
        head = file.read(len(member.header()))
        crc = _number(head[CRC])
        if head != member.header(crc):
            refuse(member.name, f"is missing, or is not the array that belongs here: {member}")
        start[member] = file.tell()
        digest.update(head)
        actual = zlib.crc32(member.npy_header)
        for chunk in _chunks(file, member.nbytes):
            digest.update(chunk)
            actual = zlib.crc32(chunk, actual)
        if actual != crc:
            refuse(member.name, "is damaged or cut short")
        infos.append(member.info(crc, offset))
    directory = _directory(infos, file.tell())
    if file.read(len(directory) + 1) != directory:
        refuse(None, "its archive is cut short, or has more in it than it should")
    file.seek(start[CHECKSUM])
    if file.read(CHECKSUM.nbytes) != checksum:
        refuse(CHECKSUM.name, "is not that of the content: the file was changed")
    return start


def _number(field: bytes) -> int:
    return int.from_bytes(field, "little")


def _chunks(file: BufferedReader, count: int) -> Iterator[bytes]:
    """Read ``count`` bytes, or to the end of the file, a little at a time."""
    while count > 0 and (chunk := file.read(min(count, CHUNK))):
        yield chunk
        count -= len(chunk)


class _End(io.BytesIO):
    """The end of a file, from ``start`` on; nothing before it is stored."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def tell(self) -> int:
        return self.start + super().tell()

    def seek(self, place: int, whence: int = io.SEEK_SET, /) -> int:
        return self.start + super().seek(place - self.start, whence)


def _directory(infos: Iterable[ZipInfo], start: int) -> bytes:
    """Return the directory at the end of the archive, as zipfile writes it at ``start``."""
    end = _End(start)
    with ZipFile(end, "w") as archive:
        archive.filelist.extend(infos)
    return end.getvalue()


def _read_array(file: BufferedReader, member: Member, start: int) -> Array:
    array: Array = np.empty(member.shape, member.dtype)
    file.seek(start)
    if file.readinto(array.data) != member.nbytes:
        refuse(member.name, "was cut short while it was read")
    if not np.isfinite(array).all():
        refuse(member.name, "contains NaN or infinite numbers")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


# Files of other programs: how they begin, or a part of their first bytes; what they are, and how
# they come in. Of several that fit, the first counts.
FOREIGN: Final = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself", "git lfs pull"),
    (b"\x89HDF", "is a Keras or HDF5 file, not a checkpoint", KERAS),
    (b"model.weights.h5", "is a Keras file, not a checkpoint", KERAS),
    (b"data.pkl", "is a file of PyTorch, not a checkpoint", TORCH),
    (b"\x80\x02", "is a file of PyTorch, not a checkpoint", TORCH),
    (b".npy", "is an npz archive of another program, not a checkpoint", NPZ),
)


def _foreign(head: bytes, file: BufferedReader) -> tuple[str, str] | None:
    """Return what a file of another program is, and the lines that bring it in."""
    if head[30:].startswith((b"meta.npy", b"parameters")):  # a checkpoint, but a damaged one
        return None
    start, name = head + file.read(2**16), clipped(PurePath(str(file.name)).name)
    for mark, problem, remedy in FOREIGN:
        if mark in start if start.startswith(b"PK") else start.startswith(mark):
            return problem, remedy
    if name.endswith(".onnx") or b"onnx" in start[:200] or b"pytorch" in start[:200]:
        return "is an ONNX file, not a checkpoint", f"lenet import {name} --out net.npz"
    if start[8:9] == b"{":
        options = "--model NAME|FILE.yaml --out net.npz"
        return "is a .safetensors file, not a checkpoint", f"lenet import {name} {options}"
    return None


def refuse(key: str | None, problem: str, remedy: str = REMEDY) -> NoReturn:
    """Raise the error of a file that is not a checkpoint."""
    raise CheckpointError(problem, remedy=remedy, key=key)
