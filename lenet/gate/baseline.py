"""The baseline file: an earlier measurement, its configuration and machine, and the tolerances.

Its form is described in docs/regress.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources import as_file
from pathlib import Path
from typing import Any, TypeVar

from lenet.config.limits import Tolerances
from lenet.config.packaged import BASELINE, find_packaged, packaged_files
from lenet.config.schema import Config
from lenet.errors import DataError, LenetError
from lenet.gate.measure import Measurement
from lenet.system.files import replacing
from lenet.system.machine import THREAD_VARIABLES, describe_machine

T = TypeVar("T")

SCHEMA_VERSION = 2


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

FIELD_TYPES: dict[str, type | tuple[type, ...]] = {
    "float": (int, float),
    "str": str,
    "bool": bool,
    "tuple[float, ...]": list,
}

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
    """Read a baseline file, or the packaged baseline of this name.

    Raises
    ------
    LenetError
        There is none, or it is not what :func:`write_baseline` writes.
    """
    packaged = find_packaged(path, BASELINE)
    if packaged is None:
        return read_baseline(path)
    with as_file(packaged) as file:
        return read_baseline(file)


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file of this version or of version 1.

    Raises
    ------
    DataError
        It is missing, or not what :func:`write_baseline` writes.
    """
    remedy = "make it with lenet regress --update"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        packaged = ", ".join(packaged_files(BASELINE))
        raise DataError(
            "there is no such file",
            remedy=f"{remedy}, or name a packaged one: {packaged}",
            file=path,
        ) from None
    except (ValueError, RecursionError):
        raise DataError("is not JSON", remedy=remedy, file=path) from None
    try:
        if values["schema_version"] not in (1, SCHEMA_VERSION):
            raise DataError(
                f"is {values['schema_version']}, this version reads 1 and {SCHEMA_VERSION}",
                remedy=f"use the version of lenet that wrote it, or {remedy}",
                key="schema_version",
            )
        return Baseline(
            config=Config.from_dict(values["config"]),
            machine=dict(values["machine"]),
            measurement=_section(Measurement, values, "measurement"),
            tolerances=_section(Tolerances, values, "tolerances"),
        )
    except LenetError as error:
        raise DataError(error.problem, remedy=error.remedy, file=path, key=error.key) from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError("is not a baseline of the gate", remedy=remedy, file=path) from None


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
    """Return a section of the file as a dataclass whose fields are of :data:`FIELD_TYPES`."""
    old = values["schema_version"] == 1
    name_in_file = OLD_SECTIONS[name] if old else name
    section, made = values[name_in_file], {}
    for field in fields(kind):  # type: ignore[arg-type]  # both kinds are dataclasses
        key = OLD_KEYS[name].get(field.name, field.name) if old else field.name
        value = section.get(key)
        if not isinstance(value, FIELD_TYPES[str(field.type)]):
            raise DataError(
                "is missing or of the wrong type",
                remedy="make the file again with lenet regress --update",
                key=f"{name_in_file}.{key}",
            )
        made[field.name] = tuple(map(float, value)) if isinstance(value, list) else value
    return kind(**made)
