"""The JSON text of a checkpoint: the only part of the file that is parsed, strictly.

The specification of the network in it determines the names, types and shapes of all arrays.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias

from lenet.checkpoint.archive import Member, refuse
from lenet.config.schema import Config
from lenet.data.preprocessing import Preprocessing
from lenet.errors import ConfigError, DataError
from lenet.models.specification import Specification, expanded

FORMAT: Final = 2
NEEDS: Final = "0.2.0"  # the first version that reads this format
MAX_META: Final = 2**20  # 65,536 classes that are numbers fit
MAX_STRING: Final = 200
MAX_DEPTH: Final = 6  # config, model, layers, a layer, its table, a row
MAX_BYTES: Final = 2**30
MAX_SIDE: Final = 2**16
DTYPES: Final = {"float32": "<f4", "float64": "<f8"}


def canonical(values: object) -> bytes:
    """Return the only accepted JSON of these values; ValueError for what JSON cannot express."""
    text = json.dumps(values, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


class Meta(NamedTuple):
    """The JSON text, read and checked."""

    values: Mapping[str, Any]
    config: Config
    model: Specification
    preprocessing: Preprocessing


def decoded(text: bytes) -> Meta:
    """Read and check the text."""
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
    return Meta(values, config, model, preprocessing)


def layout(meta: Meta) -> list[Member]:
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


def _specification(model: Mapping[str, Any]) -> Specification:
    C, H, W = model["input"]
    layers = expanded(model["layers"])
    if list(layers) != model["layers"]:
        refuse("meta.model.layers", "are not written out as lenet writes them")
    return Specification((C, H, W), layers, initializer=model["initializer"])


def check_class_names(names: Sequence[str]) -> None:
    """Reject names of classes that a checkpoint cannot store."""
    for k, name in enumerate(names):
        if not _is_string(name):
            raise DataError(
                f"the name of class {k} has {len(name):,} characters, and a checkpoint stores 1 to "
                f"{MAX_STRING}",
                remedy="give the classes other names (data.class_names)",
                key="class_names",
            )


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Refuse the file where a part of it is not a valid configuration or specification."""
    try:
        yield
    except ConfigError as error:
        refuse(f"{what}.{error.key}"[:200], error.problem[:300])


def _parsed(text: bytes) -> dict[str, Any]:
    """Read a JSON object of this format; of a later one, only the version that it needs."""
    try:
        values = json.loads(text)
        written = canonical(values)
    except (ValueError, RecursionError):
        refuse("meta", "is not JSON")
    if not isinstance(values, dict):
        refuse("meta", "is not a JSON object")
    found: Any = values.get("format")
    if _is_count(found) and found > FORMAT:
        needs = values.get("needs")
        version = needs if _is_string(needs) else "a later version"
        refuse("format", f"is {found}, which needs lenet >= {version}", "update lenet")
    if written != text:  # repeated keys, numbers beyond the range, other spellings
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
