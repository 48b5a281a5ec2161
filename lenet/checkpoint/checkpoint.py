"""Checkpoints: one .npz file, written atomically, safe to load from an untrusted source.

The file is described in docs/checkpoint.md. Its first member is a JSON text. The specification of
the network in it determines the names, types and shapes of all arrays;
:mod:`lenet.checkpoint.archive` reads and writes the bytes.

In order: what a checkpoint contains, saving, loading, the arrays, the JSON text, where it was made.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.archive import Array, Member, read_arrays, read_text, refuse, write_archive
from lenet.config.schema import Config
from lenet.data.measure import TrainingImages
from lenet.data.preprocessing import Preprocessing
from lenet.errors import CheckpointError, ConfigError, GateFailed, LenetError
from lenet.models.specification import Specification, expanded
from lenet.system.files import open_regular, reading, replacing
from lenet.system.machine import describe_machine

Number: TypeAlias = float | None

FORMAT: Final = 2
NEEDS: Final = "0.2.0"  # the first version that reads this format
MAX_META: Final = 64 * 1024
MAX_STRING: Final = 200
MAX_DEPTH: Final = 6  # config, model, layers, a layer, its table, a row
MAX_BYTES: Final = 2**30
MAX_SIDE: Final = 2**16
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
    model: Specification
    """The network as data; together with the arrays it is all that is needed to build it."""
    parameters: Mapping[str, Array]
    """The weights to evaluate (averaged if training averages) by name, in the layers' order."""
    state: Mapping[str, Array]
    """What layers store besides parameters, in float64, by name: running means and the like."""
    preprocessing: Preprocessing
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
    images: TrainingImages | None = None
    """What the training images look like; None in files of earlier versions."""


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


def load_checkpoint(path: str | os.PathLike[str], *, resume: bool = False) -> Checkpoint:
    """Read a checkpoint, which need not come from a trusted source.

    Parameters
    ----------
    path
        A regular file, or a symbolic link to one.
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
        with reading(path, CheckpointError), open_regular(path, CheckpointError) as file:
            checkpoint = _read(file)
        if resume and checkpoint.training is None:
            problem = "contains no training state: it can be evaluated, not resumed"
            refuse(None, problem, "resume from last.npz, or start a new run")
    except LenetError as error:
        error.file = str(path)
        raise
    return checkpoint


def _read(file: BufferedReader) -> Checkpoint:
    first, text = read_text(file, "meta", MAX_META)
    meta = _decoded(text)
    arrays = read_arrays(file, first, _layout(meta))
    values, training = meta.values, meta.values["training"]

    def under(group: str) -> dict[str, Array]:
        return {name[len(group) :]: a for name, a in arrays.items() if name.startswith(group)}

    return Checkpoint(
        config=meta.config,
        model=meta.model,
        parameters=under("parameters/"),
        state=under("state/"),
        preprocessing=meta.preprocessing,
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
        images=_training_images(values["preprocessing"]),
    )


def _training_images(preprocessing: Mapping[str, Any]) -> TrainingImages | None:
    stored = preprocessing.get("images")
    if stored is None:
        return None
    (C, H, W), (low, high) = stored["shape"], stored["levels"]
    return TrainingImages(**{**stored, "shape": (C, H, W), "levels": (float(low), float(high))})


# --- The arrays ----------------------------------------------------------------------------------


def _content(checkpoint: Checkpoint) -> list[tuple[Member, NDArray[Any]]]:
    """Return the members with their arrays, checked by the rules of loading."""
    arrays = {f"parameters/{name}": a for name, a in checkpoint.parameters.items()}
    arrays |= {f"state/{name}": a for name, a in checkpoint.state.items()}
    progress: Mapping[str, Number] = {}
    if (training := checkpoint.training) is not None:
        arrays["training/parameters"] = training.parameters
        arrays |= {f"training/optimizer/{name}": a for name, a in training.optimizer.items()}
        arrays |= {f"training/average/{name}": a for name, a in training.average.items()}
        progress = training.progress
    _check_finite({**arrays, **checkpoint.metrics, **progress})
    text = _encoded(checkpoint)
    if len(text) > MAX_META:
        remedy = "choose a network of fewer layers, or shorter names"
        refuse("meta", f"is over {MAX_META:,} bytes", remedy)
    members = _layout(_decoded(text))
    if [member.name for member in members] != list(arrays):
        raise ValueError(f"the arrays {list(arrays)} are not those of the network: {members}")
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


def _layout(meta: _Meta) -> list[Member]:
    """Return the members between the text and the checksum."""
    with _refusing("meta"):
        parameters, state = meta.model.parameter_shapes(), meta.model.state_shapes()
    for name in (*parameters, *state):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
            problem = f"has an array of the name {name[:100]!r}"
            refuse("meta.model", problem, "name layers with letters, digits and . _ - only")
    dtype = DTYPES[meta.config.train.precision]
    size = sum(map(math.prod, parameters.values()))
    members = [Member(f"parameters/{name}", dtype, shape) for name, shape in parameters.items()]
    members += [Member(f"state/{name}", "<f8", shape) for name, shape in state.items()]
    if (training := meta.values["training"]) is not None:
        vectors = [
            "parameters",
            *(f"optimizer/{name}" for name in training["optimizer"]),
            *(f"average/{name}" for name in training["average"]),
        ]
        members += [Member(f"training/{name}", dtype, (size,)) for name in vectors]
    if sum(member.nbytes for member in members) > MAX_BYTES:
        problem = f"makes checkpoints of over {MAX_BYTES:,} bytes"
        refuse("meta.model", problem, "choose a smaller network")
    return members


# --- The JSON text -------------------------------------------------------------------------------


def _encoded(checkpoint: Checkpoint) -> bytes:
    model, preprocessing = checkpoint.model, checkpoint.preprocessing
    training = checkpoint.training
    values = {
        "format": FORMAT,
        "needs": NEEDS,
        "config": checkpoint.config.to_dict(),
        "model": {
            "input": model.input_shape,
            "layers": model.layers,
            "initializer": model.initializer,
        },
        "preprocessing": {
            "scale": preprocessing.scale,
            "shift": preprocessing.shift,
            "background": preprocessing.background,
            **({} if checkpoint.images is None else {"images": asdict(checkpoint.images)}),
        },
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


class _Meta(NamedTuple):
    """The JSON text, read and checked."""

    values: Mapping[str, Any]
    config: Config
    model: Specification
    preprocessing: Preprocessing


def _decoded(text: bytes) -> _Meta:
    """Read and check the JSON text, the only part of a checkpoint that is parsed."""
    values = _parsed(text)
    _check_fields(values)
    with _refusing("config"):
        config = Config.from_dict(values["config"])
    stored = values["preprocessing"]
    with _refusing("meta"):
        if values["format"] == 1:
            model = config.model.specification()
            if model.input_shape != (1, stored["input_size"], stored["input_size"]):
                refuse("meta.preprocessing", f"must have the input_size of {model.input_shape}")
        else:
            model = _specification(values["model"])
        model = replace(model, scale=stored["scale"], shift=stored["shift"])
        classes = model.classes()
    if len(values["class_names"]) != classes:
        refuse("meta.class_names", f"must be {classes} names, one for each output")
    background = stored.get("background", 0)
    preprocessing = Preprocessing(model.input_shape, model.scale, model.shift, background)
    return _Meta(values, config, model, preprocessing)


def _specification(model: Mapping[str, Any]) -> Specification:
    C, H, W = model["input"]
    layers = expanded(model["layers"])
    if list(layers) != model["layers"]:
        refuse("meta.model.layers", "are not written out as lenet writes them")
    return Specification((C, H, W), layers, initializer=model["initializer"])


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Refuse the file where a part of it is no valid configuration or specification."""
    try:
        yield
    except ConfigError as error:
        refuse(f"{what}.{error.key}"[:200], error.problem[:300])


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
    found = values.get("format", FORMAT)
    if not _is_count(found) or found not in FIELDS:
        refuse("meta.format", f"must be {' or '.join(map(str, FIELDS))}")
    fields = FIELDS[found]
    if odd := sorted(set(values) ^ set(fields)):
        refuse(f"meta.{odd[0][:40]}", "is missing" if odd[0] in fields else "is unknown")
    for name, (words, fits) in fields.items():
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


def _is_plain(value: object, depth: int = MAX_DEPTH) -> bool:
    """Return whether ``value`` is nested at most so deep, and its integers are of 64 bits."""
    if isinstance(value, dict | list):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(item, depth - 1) for item in inner)
    return value is None or isinstance(value, bool | str) or _is_number(value)


def _is_model(value: object) -> bool:
    match value:
        case {"input": [_, _, _] as shape, "layers": list(), "initializer": str(), **others}:
            return not others and all(_is_count(n) and n > 0 for n in shape) and _is_plain(value)
    return False


def _is_preprocessing(value: object) -> bool:
    match value:
        case {"background": background, "images": images, **numbers}:
            known = _are_images(images)
            return known and _is_level(background) and _are_scale_and_shift(numbers)
        case {"background": background, **numbers}:
            return _is_count(background) and _are_scale_and_shift(numbers)
    return False


def _are_images(value: object) -> bool:
    match value:
        case {
            "shape": [_, _, _] as shape,
            "darkest": darkest,
            "lightest": lightest,
            "paper": paper,
            "drawn_as_mnist": bool(),
            "levels": [low, high],
            **others,
        }:
            return (
                not others
                and all(_is_count(n) and 0 < n <= MAX_SIDE for n in shape)
                and _is_level(darkest)
                and _is_level(lightest)
                and (paper is None or _is_level(paper))
                and _is_number(low)
                and _is_number(high)
                and low < high
            )
    return False


def _is_level(value: object) -> bool:
    return type(value) is int and 0 <= value <= 255


def _is_preprocessing_1(value: object) -> bool:
    match value:
        case {"input_size": size, **numbers}:
            return _is_count(size) and _are_scale_and_shift(numbers)
    return False


def _are_scale_and_shift(numbers: Mapping[Any, Any]) -> bool:
    return set(numbers) == {"scale", "shift"} and all(map(_is_number, numbers.values()))


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


Fields: TypeAlias = Mapping[str, tuple[str, Callable[[Any], bool]]]
_SHARED: Final[Fields] = {
    "format": ("a count", _is_count),
    "needs": ("a version", _is_string),
    "config": (
        f"an object of at most {MAX_DEPTH} levels",
        lambda value: isinstance(value, dict) and _is_plain(value),
    ),
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
FIELDS: Final[Mapping[int, Fields]] = {
    1: {
        **_SHARED,
        "preprocessing": ("the numbers scale, shift and input_size", _is_preprocessing_1),
    },
    2: {
        **_SHARED,
        "model": (
            f"input, layers and initializer, of at most {MAX_DEPTH} levels",
            _is_model,
        ),
        "preprocessing": ("scale, shift, background and, if known, images", _is_preprocessing),
    },
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
