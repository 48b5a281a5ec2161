"""The baseline file: an earlier measurement, its configuration and machine, and its limits.

Its form is described in docs/regress.md.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import as_file
from pathlib import Path
from typing import Any, Final, TypeVar

from lenet.config.packaged import BASELINE, find_packaged, packaged_files
from lenet.config.schema import Config
from lenet.config.sections import Tolerances
from lenet.errors import DataError, LenetError
from lenet.gate.measurement import Measurement, largest_rise
from lenet.system.files import open_regular, replacing
from lenet.system.machine import THREAD_VARIABLES, describe_machine
from lenet.system.text import printable

T = TypeVar("T")

SCHEMA_VERSION = 2
MAX_BYTES = 1 << 20


class DamagedBaseline(DataError):
    """The file is not a baseline, or no longer: ``--update`` may replace it."""


@dataclass(frozen=True)
class Baseline:
    """An earlier measurement to compare with."""

    config: Config
    machine: Mapping[str, str | int]
    measurement: Measurement
    tolerances: Tolerances


def machine() -> dict[str, str | int]:
    """Return what the last bits of a result depend on beyond the configuration and the code."""
    threads = next((os.environ[name] for name in THREAD_VARIABLES if name in os.environ), "all")
    here = {key: value for key, value in describe_machine().items() if key != "lenet"}
    if kernels := os.environ.get("OPENBLAS_CORETYPE"):
        here["blas"] = f"{here['blas']} for {kernels}"
    return {**here, "threads": threads}


# --- Reading and writing ------------------------------------------------------------------------

# Version 1 of the file: its names of the sections and of their keys.
OLD_SECTIONS = {"measurement": "seen", "tolerances": "allowed"}
OLD_KEYS = {
    "measurement": {
        "first_losses": "early",
        "wait_fraction": "waited",
        "reproducible": "repeats",
    },
    "tolerances": {
        "min_accuracy": "accuracy",
        "max_loss": "loss",
        "first_losses": "early",
        "curve_rise": "bump",
    },
}


def find_baseline(path: Path) -> Baseline:
    """Read a baseline file, or the packaged baseline of this name."""
    packaged = find_packaged(path, BASELINE)
    if packaged is None:
        return read_baseline(path)
    with as_file(packaged) as file:
        return read_baseline(file)


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file of this version or of version 1."""
    try:
        with open_regular(path, DataError, remedy="name a baseline") as file:
            content = file.read(MAX_BYTES)
    except FileNotFoundError:
        packaged = ", ".join(packaged_files(BASELINE))
        raise DataError(
            "there is no such file",
            remedy=f"make it with lenet regress --update, or name a packaged one: {packaged}",
            file=path,
        ) from None
    if content.strip() and b'"schema_version"' not in content and b"<<<<<<<" not in content:
        remedy = "delete it, or name another file, then run lenet regress --update"
        raise DataError("is not a baseline of the gate", remedy=remedy, file=path)
    remedy = "resolve a merge conflict in it, or make a new one with lenet regress --update"
    try:
        values = json.loads(content)
        if values["schema_version"] not in (1, SCHEMA_VERSION):
            raise DataError(
                f"is {values['schema_version']}, this version reads 1 and {SCHEMA_VERSION}",
                remedy="use the version of lenet that wrote it, or make a new one with lenet "
                "regress --update",
                key="schema_version",
            )
        return Baseline(
            config=Config.from_dict(values["config"]),
            machine={
                k: v if isinstance(v, int) else printable(v) for k, v in values["machine"].items()
            },
            measurement=_section(Measurement, values, "measurement"),
            tolerances=_section(Tolerances, values, "tolerances"),
        )
    except LenetError as error:
        raise DamagedBaseline(error.problem, remedy=remedy, file=path, key=error.key) from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise DamagedBaseline("is not a baseline of the gate", remedy=remedy, file=path) from None


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline file, atomically."""
    values = {
        "schema_version": SCHEMA_VERSION,
        "tolerances": asdict(baseline.tolerances),
        "measurement": asdict(baseline.measurement),
        "machine": dict(baseline.machine),
        "config": baseline.config.to_dict(),
    }
    with replacing(path) as file:
        file.write((json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())


def _section(kind: type[T], values: dict[str, Any], name: str) -> T:
    """Return a section of the file as a dataclass."""
    old = values["schema_version"] == 1
    name_in_file = OLD_SECTIONS[name] if old else name
    section, made = values[name_in_file], {}
    for field in fields(kind):  # type: ignore[arg-type]  # both kinds are dataclasses
        key = OLD_KEYS[name].get(field.name, field.name) if old else field.name
        value = section.get(key)
        numbers = value if isinstance(value, list) else [value]
        if "float" in str(field.type):
            low = 0.0 if kind is Tolerances else -1e300
            fits = all(type(number) in (int, float) and low <= number < 1e300 for number in numbers)
        else:
            fits = isinstance(value, bool if field.type == "bool" else str)
        if not fits or isinstance(value, list) != ("tuple" in str(field.type)):
            raise DataError(
                "is missing, of the wrong type or out of range",
                remedy="",
                key=f"{name_in_file}.{key}",
            )
        made[field.name] = (
            tuple(map(float, value))
            if isinstance(value, list)
            else printable(value)
            if isinstance(value, str)
            else value
        )
    return kind(**made)


# --- The limits of a first baseline, which any task meets ---------------------------------------

TASK_LIMITS: Final = ("min_accuracy", "max_loss", "curve_rise")
"""Limits whose defaults do not suit every task."""


def adjusted(
    tolerances: Tolerances, measurement: Measurement, names: Collection[str]
) -> Tolerances:
    """Return tolerances that a first baseline meets.

    Those of ``names`` that the measurement does not meet are widened to it, plus the tolerance of
    later runs.
    """
    now, rise = measurement, largest_rise(measurement.curve)
    wider = {}
    if now.accuracy < tolerances.min_accuracy:
        wider["min_accuracy"] = _rounded(math.floor, now.accuracy - tolerances.accuracy_drop)
    if now.loss > tolerances.max_loss:
        wider["max_loss"] = _rounded(math.ceil, now.loss * (1 + tolerances.loss_rise))
    if tolerances.curve_rise < rise < math.inf:
        wider["curve_rise"] = _rounded(math.ceil, 2 * rise)
    return replace(tolerances, **{name: wider[name] for name in wider if name in names})


def changed_limits(before: Tolerances, after: Tolerances) -> list[str]:
    """Return the limits that differ, as ``name=value``."""
    old = asdict(before)
    return [f"{name}={value:g}" for name, value in asdict(after).items() if value != old[name]]


def _rounded(direction: Callable[[float], int], value: float) -> float:
    return max(0.0, direction(1000 * value) / 1000)
