"""The history of a gate: a file with a line for every run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from lenet.config.schema import SETTINGS, Config
from lenet.errors import DataError, SystemFailure
from lenet.gate.verdict import Verdict
from lenet.train.run_directory import FREE_TO_CHANGE

COMMIT_VARIABLES: Final = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")

Entry = dict[str, Any]
"""A run: the object on one line of the file."""


def entry_of(verdict: Verdict, config: Config) -> Entry | None:
    """Return the line for a run; None if training did not reach its end."""
    now = verdict.measurement
    if now is None:
        return None
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "passed": not verdict.failed,
        "accuracy": now.accuracy,
        "loss": now.loss,
        "images_per_gflop": now.images_per_gflop,
        "config_sha256": _checksum(config),
        "machine": dict(verdict.machine),
    }


def read_history(path: Path) -> list[Entry]:
    """Return the runs in a file, the oldest first; none if the file does not exist.

    Raises
    ------
    DataError
        A line is not what :func:`append` writes.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        lines = [""]
    return [_parsed(line, path, number) for number, line in enumerate(lines, start=1)]


def append(path: Path, entry: Entry) -> None:
    """Add a line to the file.

    Raises
    ------
    SystemFailure
        The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    except OSError as error:
        raise SystemFailure(
            f"cannot be written: {error.strerror}",
            remedy="choose another --history",
            file=path,
        ) from error


def _parsed(line: str, path: Path, number: int) -> Entry:
    try:
        entry: Entry = json.loads(line)
        metrics = [entry[name] for name in ("accuracy", "loss", "images_per_gflop")]
        if all(isinstance(metric, float) for metric in metrics):
            entry["machine"].items(), entry["config_sha256"]
            return entry
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DataError(
        "is not a run of the gate",
        remedy="remove the line, or choose another --history",
        file=path,
        key=f"line {number}",
    )


def _checksum(config: Config) -> str:
    """Return a checksum of the keys that affect the results and are not the default.

    So a run stays comparable if a later version of the package has more keys.
    """
    default = Config()
    changed = {
        key: attrgetter(key)(config)
        for key in SETTINGS
        if key not in FREE_TO_CHANGE and attrgetter(key)(config) != attrgetter(key)(default)
    }
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()


def _commit() -> str | None:
    """Return the commit from the environment of a CI system, or from Git."""
    for name in COMMIT_VARIABLES:
        if commit := os.environ.get(name):
            return commit
    try:
        git = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - Git is where the user has it
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return git.stdout.strip()
