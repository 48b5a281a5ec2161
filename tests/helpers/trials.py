"""A small training run, started as a user starts it, and its results: for tests and trials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tiny import write_bars

from lenet.checkpoint.restore import read_checkpoint
from lenet.config.schema import Config, to_yaml

ROOT = Path(__file__).resolve().parents[2]
CLOCK = ("seconds", "images_per_second")
# Everything that carries state from step to step is in use.
SETTINGS = {
    "train.average": 0.9,
    "train.checkpoint_every": 7,
    "train.patience": 1000,
    "augment.shift": 2.0,
    "schedule.warmup": 0.5,
    "model.channels": [2, 3],
    "model.units": [8, 6],
}


def write_config(place: Path, epochs: int) -> Path:
    """Write the images, and the configuration of a run of 8 steps an epoch."""
    config = Config().with_values({**write_bars(place), **SETTINGS, "train.epochs": epochs})
    path = place / "config.yaml"
    path.write_text(to_yaml(config))
    return path


def start(
    config: Path,
    run: Path,
    workers: int,
    *options: str,
    cwd: Path = ROOT,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start ``lenet train`` in a session of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "lenet", "train", "--quiet", "--config", str(config)),
            *("--output", str(run), "--workers", str(workers), *options),
        ],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a run that must succeed; return what it wrote to stderr."""
    _, err = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"a run ended with {process.returncode}: {err}")
    return err


def state(run: Path) -> dict[str, object]:
    """Return everything that a run has computed, by name: arrays as bytes, and no times."""
    last = read_checkpoint(run / "last.npz", resume=True)
    best = read_checkpoint(run / "best.npz")
    training = last.training
    assert training is not None
    arrays = {
        **{f"last {name}": array for name, array in last.parameters.items()},
        **{f"best {name}": array for name, array in best.parameters.items()},
        "parameters": training.parameters,
        **training.optimizer,
        **training.average,
    }
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    table = [line.split(",") for line in (run / "log.csv").read_text().splitlines()]
    clock = [table[0].index(name) for name in CLOCK]
    return {
        **{name: array.tobytes() for name, array in arrays.items()},
        "steps": (last.step, last.epoch, best.step, best.epoch),
        "progress": {k: v for k, v in training.progress.items() if k not in CLOCK},
        "log.jsonl": [{k: v for k, v in row.items() if k not in CLOCK} for row in rows],
        "log.csv": [[v for i, v in enumerate(row) if i not in clock] for row in table],
    }


def differences(a: dict[str, object], b: dict[str, object]) -> list[str]:
    """Return the names of what differs between two runs."""
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
