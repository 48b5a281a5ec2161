"""Checkpoints: one .npz file that is whole or not there, and that need not be trusted.

The file is described in docs/checkpoint.md, after the .npy format of NumPy
(https://numpy.org/neps/nep-0001-npy-format.html) and the ZIP format of PKWARE (APPNOTE.TXT,
sections 4.3.7, 4.3.12 and 4.3.16).

There is one way to write a given checkpoint: members stored, in a fixed order, with fixed
headers. So the reader parses nothing but the JSON text of the first member. From the
configuration in it follows what every other byte must be, except the numbers themselves; the
reader compares, keeps to a fixed amount of memory, and makes arrays only when the checksum is
right. What no network needs, a bomb, a pickle, a path, is not looked for: it is not what must be
there.

In order: what a checkpoint holds, saving, loading, the JSON text, the bytes of the archive, facts
of the machine.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Final, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.config.schema import Config
from lenet.system.errors import CheckpointError, ConfigError, GateFailed, LenetError, SystemFailure
from lenet.system.files import open_regular, replacing
from lenet.system.machine import describe_machine

Array: TypeAlias = NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, ...]
Number: TypeAlias = float | None

FORMAT: Final = 1
NEEDS: Final = "0.1.0"  # the first version that reads this format
MAX_META: Final = 64 * 1024
MAX_TEXT: Final = 200
MAX_BYTES: Final = 2**30
CHUNK: Final = 2**20
DTYPES: Final = {"float32": "<f4", "float64": "<f8"}
REMEDY: Final = "take another checkpoint of the run, or train again"


# --- What a checkpoint holds ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Training:
    """What going on with a run needs beyond evaluating it.

    There is no random state: what is random is a pure function of seed, epoch and step.
    """

    parameters: Array
    """The flat vector (P,) that the optimizer works on; not averaged."""
    optimizer: Mapping[str, Array]
    """The optimizer's vectors (P,) by name."""
    average: Mapping[str, Array]
    """The vectors (P,) of the running average by name; empty without one."""
    progress: Mapping[str, Number]
    """The trainer's counters and sums."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """A network with all that judging it, using it and training it further needs."""

    config: Config
    parameters: Mapping[str, Array]
    """What is evaluated, by name in the layers' order: the averaged weights, if there are."""
    preprocessing: Mapping[str, float]
    """``scale``, ``shift``, ``input_size``: an input is grey · scale + shift, padded to size."""
    class_names: tuple[str, ...]
    dataset: str
    step: int
    epoch: int
    metrics: Mapping[str, Number]
    training: Training | None
    facts: Mapping[str, str | int]
    """Versions and machine; see :func:`facts`."""


# --- Saving --------------------------------------------------------------------------------------


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``path``: until it is whole and on the disk, the old file stays.

    A symbolic link at ``path`` is replaced, never followed.

    Raises
    ------
    GateFailed
        A number is NaN or infinite.
    CheckpointError
        The network is too large for a checkpoint (1 GiB), or the texts are (64 KiB).
    SystemFailure
        The disk is full, or the directory cannot be written.
    """
    path = Path(path)
    try:
        content = _content(checkpoint)
        with replacing(path) as file:
            _write_archive(file, content)
    except LenetError as error:
        error.file = str(path)
        raise


# --- Loading -------------------------------------------------------------------------------------


def load_checkpoint(
    path: str | os.PathLike[str],
    shapes: Callable[[Config], Mapping[str, Shape]],
    *,
    resume: bool = False,
) -> Checkpoint:
    """Read a checkpoint, which may come from anywhere.

    Parameters
    ----------
    path
        A regular file, or a symbolic link to one.
    shapes
        Gives the names and shapes of the parameters of a configuration, in the layers' order.
    resume
        The training state is needed.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, of a later format, or anything but what
        :func:`save_checkpoint` writes; or ``resume`` is asked of one without training state.
    SystemFailure
        The file is there and cannot be read.
    """
    path = Path(path)
    try:
        with open_regular(path, CheckpointError) as file:
            checkpoint = _read(file, shapes)
        if resume and checkpoint.training is None:
            remedy = "resume from last.npz, or start a new run"
            _refuse("training", "holds no training state: it can be evaluated, not resumed", remedy)
    except LenetError as error:
        error.file = str(path)
        raise
    except (FileNotFoundError, NotADirectoryError):
        problem, remedy = "there is no such file", "check the path"
        raise CheckpointError(problem, remedy=remedy, file=path) from None
    except OSError as error:
        reason = error.strerror or error
        remedy = "check its permissions and the disk"
        raise SystemFailure(f"cannot be read: {reason}", remedy=remedy, file=path) from error
    return checkpoint


def _read(file: BufferedReader, shapes: Callable[[Config], Mapping[str, Shape]]) -> Checkpoint:
    meta, text = _read_meta(file)
    values, config = _decoded(text)
    try:
        needed = shapes(config)
    except ConfigError as error:
        _refuse(f"config.{error.key}", error.problem)
    members = _layout(config, needed, values["training"])
    start = _verified(file, [meta, *members, CHECKSUM])
    arrays = {member.name: _read_array(file, member, start[member]) for member in members}

    def under(group: str) -> dict[str, Array]:
        return {name[len(group) :]: a for name, a in arrays.items() if name.startswith(group)}

    training = values["training"]
    return Checkpoint(
        config=config,
        parameters=under("parameters/"),
        preprocessing=values["preprocessing"],
        class_names=tuple(values["class_names"]),
        dataset=values["dataset"],
        step=values["step"],
        epoch=values["epoch"],
        metrics=values["metrics"],
        training=None
        if training is None
        else Training(
            parameters=arrays["training/parameters"],
            optimizer=under("training/optimizer/"),
            average=under("training/average/"),
            progress=training["progress"],
        ),
        facts=values["facts"],
    )


def _read_meta(file: BufferedReader) -> tuple[Member, bytes]:
    """Read the first member, whose length alone is not known beforehand."""
    head = file.read(len(Member("meta", "|u1", (0,)).head(crc=0)))
    if not head:
        _refuse(None, "is empty")
    if not head.startswith(b"PK"):
        _refuse(None, "is no npz archive", "name a file that lenet train has written")
    crc, _, size = LOCAL_SIZES.unpack_from(head.ljust(30, b"\0"), 14)
    meta = Member("meta", "|u1", (size - NPY_HEADER,))
    if not 0 < meta.nbytes <= MAX_META or head != meta.head(crc):
        _refuse("meta", "is not the first member, or is packed as lenet does not pack it")
    text = file.read(meta.nbytes)
    if zlib.crc32(text, zlib.crc32(head[-NPY_HEADER:])) != crc:
        _refuse("meta", "is damaged or cut short")
    return meta, text


def _verified(file: BufferedReader, members: Sequence[Member]) -> dict[Member, int]:
    """Hold the whole file against what it must be; return where each member's numbers start.

    Reads a little at a time: a file that is not right costs no memory, however long it is.
    """
    file.seek(0)
    digest, crcs, start = hashlib.sha256(), [], {}
    for member in members:
        checksum = digest.digest()
        head = file.read(len(member.head(crc=0)))
        crc, _, _ = LOCAL_SIZES.unpack_from(head.ljust(30, b"\0"), 14)
        if head != member.head(crc):
            _refuse(member.name, f"is missing, or is not the array that belongs here: {member}")
        start[member] = file.tell()
        digest.update(head)
        actual = zlib.crc32(head[-NPY_HEADER:])
        for chunk in _chunks(file, member.nbytes):
            digest.update(chunk)
            actual = zlib.crc32(chunk, actual)
        if actual != crc:
            _refuse(member.name, "is damaged or cut short")
        crcs.append(crc)
    directory = _directory(members, crcs)
    if file.read(len(directory) + 1) != directory:
        _refuse(None, "its archive is cut short, or has more in it than it should")
    file.seek(start[CHECKSUM])
    if file.read(CHECKSUM.nbytes) != checksum:
        _refuse(CHECKSUM.name, "is not that of the content: the file was changed")
    return start


def _chunks(file: BufferedReader, count: int) -> Iterator[bytes]:
    """Read ``count`` bytes, or to the end of the file, a little at a time."""
    while count > 0 and (chunk := file.read(min(count, CHUNK))):
        yield chunk
        count -= len(chunk)


def _read_array(file: BufferedReader, member: Member, start: int) -> Array:
    array: Array = np.empty(member.shape, member.dtype)
    file.seek(start)
    if file.readinto(array.data) != member.nbytes:
        _refuse(member.name, "was cut short while it was read")
    if not np.isfinite(array).all():
        _refuse(member.name, "holds NaN or infinite numbers")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _refuse(key: str | None, problem: str, remedy: str = REMEDY) -> NoReturn:
    raise CheckpointError(problem, remedy=remedy, key=key)


# --- The JSON text -------------------------------------------------------------------------------


def _encoded(checkpoint: Checkpoint) -> bytes:
    training = checkpoint.training
    values = {
        "format": FORMAT,
        "needs": NEEDS,
        "config": checkpoint.config.to_dict(),
        "preprocessing": dict(checkpoint.preprocessing),
        "class_names": checkpoint.class_names,
        "dataset": checkpoint.dataset,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "metrics": dict(checkpoint.metrics),
        "training": None
        if training is None
        else {
            "optimizer": list(training.optimizer),
            "average": list(training.average),
            "progress": dict(training.progress),
        },
        "facts": dict(checkpoint.facts),
    }
    return _canonical(values)


def _canonical(values: object) -> bytes:
    """Return the one text of these values; ValueError for what JSON or UTF-8 do not know."""
    text = json.dumps(values, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def _decoded(text: bytes) -> tuple[dict[str, Any], Config]:
    """Read and check the text, the only thing in a checkpoint that is parsed."""
    values = _parsed(text)
    _check_fields(values)
    try:
        config = Config.from_dict(values["config"])
    except ConfigError as error:
        _refuse(f"config.{error.key}", error.problem)
    if len(values["class_names"]) != config.model.classes:
        _refuse("meta.class_names", f"must be as many as model.classes, {config.model.classes}")
    if values["preprocessing"]["input_size"] != config.model.input_size:
        _refuse("meta.preprocessing", f"must have the input_size {config.model.input_size}")
    return values, config


def _parsed(text: bytes) -> dict[str, Any]:
    """Read a JSON object of this format; of a later one, only what it needs."""
    try:
        values = json.loads(text)
        canonical = _canonical(values)
    except (ValueError, RecursionError):
        _refuse("meta", "is not JSON")
    if not isinstance(values, dict):
        _refuse("meta", "is not a JSON object")
    found: Any = values.get("format")
    if _is_count(found) and found > FORMAT:
        needs = values.get("needs")
        version = needs if _is_text(needs) else "a later version"
        _refuse("format", f"is {found}, which needs lenet >= {version}", "update lenet")
    if canonical != text:  # repeated keys, numbers beyond the range, other spellings
        _refuse("meta", "is not JSON as lenet writes it")
    return values


def _check_fields(values: dict[str, Any]) -> None:
    if odd := sorted(set(values) ^ set(FIELDS)):
        _refuse(f"meta.{odd[0][:40]}", "is missing" if odd[0] in FIELDS else "is unknown")
    for name, (words, fits) in FIELDS.items():
        if not fits(values[name]):
            _refuse(f"meta.{name}", f"must be {words}")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT


def _are_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(n is None or _is_number(n) for n in value.values())


def _are_facts(value: object) -> bool:
    return isinstance(value, dict) and all(_is_text(f) or _is_count(f) for f in value.values())


def _is_preprocessing(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"scale", "shift", "input_size"}
        and all(map(_is_number, value.values()))
    )


def _are_names(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 8
        and all(isinstance(name, str) and re.fullmatch("[a-z_]{1,32}", name) for name in value)
        and len(set(value)) == len(value)
    )


def _is_training(value: object) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, dict)
        and set(value) == {"optimizer", "average", "progress"}
        and _are_names(value["optimizer"])
        and _are_names(value["average"])
        and _are_numbers(value["progress"])
    )


FIELDS: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "format": (f"{FORMAT}", lambda value: _is_count(value) and value == FORMAT),
    "needs": ("a version", _is_text),
    "config": ("an object", lambda value: isinstance(value, dict)),
    "preprocessing": ("the numbers scale, shift and input_size", _is_preprocessing),
    "class_names": (
        "a list of short texts",
        lambda value: isinstance(value, list) and all(map(_is_text, value)),
    ),
    "dataset": ("a short text", _is_text),
    "step": ("a count", _is_count),
    "epoch": ("a count", _is_count),
    "metrics": ("numbers by name", _are_numbers),
    "training": ("null, or the names of vectors and the progress", _is_training),
    "facts": ("short texts and counts by name", _are_facts),
}


# --- The bytes of the archive --------------------------------------------------------------------

LOCAL: Final = struct.Struct("<4s5H3I2H")
LOCAL_SIZES: Final = struct.Struct("<3I")  # at 14: CRC-32, length in the file, length
CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
END: Final = struct.Struct("<4s4H2IH")
VERSION: Final = 20
UNIX: Final = 3 << 8
READABLE: Final = 0o644 << 16
FIRST_OF_1980: Final = 0x21  # no time of its own: the same content gives the same bytes
NPY_HEADER: Final = 128


@dataclass(frozen=True)
class Member:
    """An array in the archive: the bytes around its numbers follow from name, type and shape."""

    name: str
    dtype: str
    shape: Shape

    def __str__(self) -> str:
        return f"{np.dtype(self.dtype)}, {'×'.join(map(str, self.shape))}"

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def head(self, crc: int) -> bytes:
        """Return what stands before the numbers: the headers of ZIP and of NumPy."""
        name = self.file_name
        size = NPY_HEADER + self.nbytes
        lengths = (crc, size, size, len(name), 0)
        return LOCAL.pack(b"PK\3\4", VERSION, 0, 0, 0, FIRST_OF_1980, *lengths) + name + self.npy

    def entry(self, crc: int, offset: int) -> bytes:
        """Return the member's entry in the directory at the end."""
        name = self.file_name
        size = NPY_HEADER + self.nbytes
        fields = (UNIX + VERSION, VERSION, 0, 0, 0, FIRST_OF_1980, crc, size, size, len(name))
        return CENTRAL.pack(b"PK\1\2", *fields, 0, 0, 0, 0, READABLE, offset) + name

    @property
    def file_name(self) -> bytes:
        """Its name in the archive, from which NumPy takes the suffix off again."""
        return f"{self.name}.npy".encode("ascii")

    @property
    def npy(self) -> bytes:
        """The header of its .npy file; any length that fits would do, this one is always it."""
        text = f"{{'descr': '{self.dtype}', 'fortran_order': False, 'shape': {self.shape}, }}"
        length = NPY_HEADER - 10
        return b"\x93NUMPY\1\0" + struct.pack("<H", length) + f"{text:{length - 1}}\n".encode()


CHECKSUM: Final = Member("sha256", "|u1", (32,))


def _content(checkpoint: Checkpoint) -> list[tuple[Member, NDArray[Any]]]:
    """Return the members with their arrays, held to the same rules as what is loaded."""
    arrays = {f"parameters/{name}": a for name, a in checkpoint.parameters.items()}
    progress: Mapping[str, Number] = {}
    if (training := checkpoint.training) is not None:
        arrays["training/parameters"] = training.parameters
        arrays |= {f"training/optimizer/{name}": a for name, a in training.optimizer.items()}
        arrays |= {f"training/average/{name}": a for name, a in training.average.items()}
        progress = training.progress
    _check_finite({**arrays, **checkpoint.metrics, **progress})
    text = _encoded(checkpoint)
    if len(text) > MAX_META:
        _refuse("meta", f"is over {MAX_META:,} bytes", "shorten the names of the classes")
    values, config = _decoded(text)
    shapes = {name: a.shape for name, a in checkpoint.parameters.items()}
    members = _layout(config, shapes, values["training"])
    return [
        (Member("meta", "|u1", (len(text),)), np.frombuffer(text, np.uint8)),
        *(
            (member, array.astype(member.dtype, casting="equiv", copy=False).reshape(member.shape))
            for member, array in zip(members, arrays.values(), strict=True)
        ),
    ]


def _check_finite(numbers: Mapping[str, Array | Number]) -> None:
    for name, value in numbers.items():
        if value is not None and not np.isfinite(value).all():
            problem = "is NaN or infinite: training has diverged"
            remedy = "lower optimizer.lr, or begin with schedule.warmup"
            raise GateFailed(problem, remedy=remedy, key=name)


def _layout(
    config: Config, shapes: Mapping[str, Shape], training: Mapping[str, Any] | None
) -> list[Member]:
    """Return the members between the text and the checksum."""
    dtype = DTYPES[config.train.precision]
    size = sum(map(math.prod, shapes.values()))
    members = [Member(f"parameters/{name}", dtype, shape) for name, shape in shapes.items()]
    if training is not None:
        vectors = [
            "parameters",
            *(f"optimizer/{name}" for name in training["optimizer"]),
            *(f"average/{name}" for name in training["average"]),
        ]
        members += [Member(f"training/{name}", dtype, (size,)) for name in vectors]
    if sum(member.nbytes for member in members) > MAX_BYTES:
        problem = f"makes checkpoints of over {MAX_BYTES:,} bytes"
        _refuse("config.model", problem, "choose a smaller network")
    return members


def _write_archive(file: IO[bytes], content: Iterable[tuple[Member, NDArray[Any]]]) -> None:
    digest, members, crcs = hashlib.sha256(), [], []

    def put(member: Member, array: NDArray[Any]) -> None:
        numbers = array.tobytes()
        crc = zlib.crc32(numbers, zlib.crc32(member.npy))
        for part in (member.head(crc), numbers):
            digest.update(part)
            file.write(part)
        members.append(member)
        crcs.append(crc)

    for member, array in content:
        put(member, array)
    put(CHECKSUM, np.frombuffer(digest.digest(), np.uint8))
    file.write(_directory(members, crcs))


def _directory(members: Sequence[Member], crcs: Sequence[int]) -> bytes:
    """Return the directory at the end of the archive."""
    entries, offset = b"", 0
    for member, crc in zip(members, crcs, strict=True):
        entries += member.entry(crc, offset)
        offset += len(member.head(crc)) + member.nbytes
    count = len(members)
    return entries + END.pack(b"PK\5\6", 0, 0, count, count, len(entries), offset, 0)


# --- Facts of the machine ------------------------------------------------------------------------


@cache
def facts(workers: int) -> Mapping[str, str | int]:
    """Return what the last bits of a run depend on beyond its configuration.

    Examples
    --------
    >>> list(facts(workers=2))
    ['lenet', 'numpy', 'blas', 'simd', 'processor', 'platform', 'python', 'workers']
    """
    texts = describe_machine()
    return {**{name: text[:MAX_TEXT] for name, text in texts.items()}, "workers": workers}
