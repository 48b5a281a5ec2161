"""Checkpoints: one .npz file that is complete or absent, and that need not be trusted.

The file is described in docs/checkpoint.md. Its first member is a JSON text, from which the names,
types and shapes of all arrays follow; :mod:`lenet.training.archive` reads and writes the bytes.

In order: what a checkpoint contains, saving, loading, the arrays, the JSON text, where it was made.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.config.schema import Config
from lenet.system.errors import CheckpointError, ConfigError, GateFailed, LenetError, SystemFailure
from lenet.system.files import open_regular, replacing
from lenet.system.machine import describe_machine
from lenet.training.archive import (
    Array,
    Member,
    Shape,
    read_arrays,
    read_text,
    refuse,
    write_archive,
)

Number: TypeAlias = float | None

FORMAT: Final = 1
NEEDS: Final = "0.1.0"  # the first version that reads this format
MAX_META: Final = 64 * 1024
MAX_STRING: Final = 200
MAX_BYTES: Final = 2**30
DTYPES: Final = {"float32": "<f4", "float64": "<f8"}


# --- What a checkpoint contains ------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Training:
    """What resuming a run needs beyond what evaluation needs.

    There is no random state: random numbers are a pure function of seed, epoch and step.
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
    """A trained network with all that is needed to evaluate it, use it and train it further."""

    config: Config
    parameters: Mapping[str, Array]
    """The weights to evaluate (averaged if training averages) by name, in the layers' order."""
    preprocessing: Mapping[str, float]
    """``scale``, ``shift``, ``input_size``: an input is grey · scale + shift, padded to size."""
    class_names: tuple[str, ...]
    dataset: str
    step: int
    epoch: int
    metrics: Mapping[str, Number]
    """``train_loss``, ``train_accuracy``, ``val_loss`` and ``val_accuracy`` of the last full epoch.

    ``val_*`` are None without a validation set; empty before the first epoch is complete.
    """
    training: Training | None
    facts: Mapping[str, str | int]
    """Versions and machine; see :func:`facts`."""


# --- Saving --------------------------------------------------------------------------------------


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``path``; the old file stays until the new one is complete on disk.

    A symbolic link at ``path`` is replaced, never followed.

    Raises
    ------
    GateFailed
        A number is NaN or infinite.
    CheckpointError
        The arrays are larger than 1 GiB, or the strings larger than 64 KiB.
    SystemFailure
        The disk is full, or the directory cannot be written.
    """
    path = Path(path)
    try:
        content = _content(checkpoint)
        with replacing(path) as file:
            write_archive(file, content)
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
    """Read a checkpoint, which need not come from a trusted source.

    Parameters
    ----------
    path
        A regular file, or a symbolic link to one.
    shapes
        Returns the names and shapes of the parameters of a configuration, in the order of the
        layers.
    resume
        Require the training state.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, of a later format, or anything but what
        :func:`save_checkpoint` writes; or ``resume`` is set and there is no training state.
    SystemFailure
        The file exists and cannot be read.
    """
    path = Path(path)
    try:
        with open_regular(path, CheckpointError) as file:
            checkpoint = _read(file, shapes)
        if resume and checkpoint.training is None:
            problem = "contains no training state: it can be evaluated, not resumed"
            refuse(None, problem, "resume from last.npz, or start a new run")
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
    meta, text = read_text(file, "meta", MAX_META)
    values, config = _decoded(text)
    try:
        needed = shapes(config)
    except ConfigError as error:
        refuse(f"config.{error.key}", error.problem)
    arrays = read_arrays(file, meta, _layout(config, needed, values["training"]))

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


# --- The arrays ----------------------------------------------------------------------------------


def _content(checkpoint: Checkpoint) -> list[tuple[Member, NDArray[Any]]]:
    """Return the members with their arrays, checked by the rules of loading."""
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
        refuse("meta", f"is over {MAX_META:,} bytes", "shorten the names of the classes")
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
            remedy = "lower optimizer.lr, or use schedule.warmup"
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
        refuse("config.model", problem, "choose a smaller network")
    return members


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
    """Return the only accepted JSON of these values; ValueError for what JSON cannot express."""
    text = json.dumps(values, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def _decoded(text: bytes) -> tuple[dict[str, Any], Config]:
    """Read and check the JSON text, the only part of a checkpoint that is parsed."""
    values = _parsed(text)
    _check_fields(values)
    try:
        config = Config.from_dict(values["config"])
    except ConfigError as error:
        refuse(f"config.{error.key}", error.problem)
    if len(values["class_names"]) != config.model.classes:
        refuse(
            "meta.class_names",
            f"must be {config.model.classes} names, one for each of model.classes",
        )
    if values["preprocessing"]["input_size"] != config.model.input_size:
        refuse("meta.preprocessing", f"must have input_size {config.model.input_size}")
    return values, config


def _parsed(text: bytes) -> dict[str, Any]:
    """Read a JSON object of this format; of a later one, only the version that it needs."""
    try:
        values = json.loads(text)
        canonical = _canonical(values)
    except (ValueError, RecursionError):
        refuse("meta", "is not JSON")
    if not isinstance(values, dict):
        refuse("meta", "is not a JSON object")
    found: Any = values.get("format")
    if _is_count(found) and found > FORMAT:
        needs = values.get("needs")
        version = needs if _is_string(needs) else "a later version"
        refuse("format", f"is {found}, which needs lenet >= {version}", "update lenet")
    if canonical != text:  # repeated keys, numbers beyond the range, other spellings
        refuse("meta", "is not JSON as lenet writes it")
    return values


def _check_fields(values: dict[str, Any]) -> None:
    if odd := sorted(set(values) ^ set(FIELDS)):
        refuse(f"meta.{odd[0][:40]}", "is missing" if odd[0] in FIELDS else "is unknown")
    for name, (words, fits) in FIELDS.items():
        if not fits(values[name]):
            refuse(f"meta.{name}", f"must be {words}")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _is_string(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_STRING


def _are_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(n is None or _is_number(n) for n in value.values())


def _are_facts(value: object) -> bool:
    return isinstance(value, dict) and all(_is_string(f) or _is_count(f) for f in value.values())


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
    "needs": ("a version", _is_string),
    "config": ("an object", lambda value: isinstance(value, dict)),
    "preprocessing": ("the numbers scale, shift and input_size", _is_preprocessing),
    "class_names": (
        "a list of short strings",
        lambda value: isinstance(value, list) and all(map(_is_string, value)),
    ),
    "dataset": ("a short string", _is_string),
    "step": ("a count", _is_count),
    "epoch": ("a count", _is_count),
    "metrics": ("numbers by name", _are_numbers),
    "training": ("null, or the names of vectors and the progress", _is_training),
    "facts": ("short strings and counts by name", _are_facts),
}


# --- Where it was made ---------------------------------------------------------------------------


def facts(workers: int) -> Mapping[str, str | int]:
    """Return what the last bits of a run depend on besides its configuration.

    Examples
    --------
    >>> list(facts(workers=2))
    ['lenet', 'numpy', 'blas', 'simd', 'processor', 'platform', 'python', 'workers']
    """
    machine = describe_machine()
    return {**{name: fact[:MAX_STRING] for name, fact in machine.items()}, "workers": workers}
