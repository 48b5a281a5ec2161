"""Helpers of tests that compare, stop or kill training runs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import read_checkpoint
from lenet.config.schema import Config
from lenet.train.events import Callback, EpochEvent, Snapshot, StepEvent

# Everything that carries state from step to step is in use.
STATEFUL = {
    "train__epochs": 3,
    "train__average": 0.9,
    "augment__shift": 2.0,
    "schedule__warmup": 0.5,
    "train__patience": 3,
}


def checkpoint(config: Config, name: str = "last.npz") -> Checkpoint:
    return read_checkpoint(Path(config.output.dir) / name, resume=name == "last.npz")


def log(config: Config) -> list[dict[str, float]]:
    text = (Path(config.output.dir) / "log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def timeless(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Log rows without the times."""
    clock = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in clock} for row in rows]


def assert_same_state(a: Checkpoint, b: Checkpoint) -> None:
    """Weights, optimizer, average and counters have the same bits; times may differ."""
    for name in a.parameters:
        np.testing.assert_array_equal(a.parameters[name], b.parameters[name], strict=True)
    for name in a.state:
        np.testing.assert_array_equal(a.state[name], b.state[name], strict=True)
    assert a.metrics == b.metrics
    assert a.training is not None
    assert b.training is not None
    np.testing.assert_array_equal(a.training.parameters, b.training.parameters)
    for ours, theirs in (
        (a.training.optimizer, b.training.optimizer),
        (a.training.average, b.training.average),
    ):
        assert set(ours) == set(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert {**a.training.progress, "seconds": 0} == {**b.training.progress, "seconds": 0}


class StopAfter(Callback):
    """Sends SIGTERM to this process; the run stops after the next step, with all its workers."""

    def __init__(self, *, step: int = 0, epoch: int = 0) -> None:
        self.step, self.epoch = step, epoch

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:
        if event.step == self.step:
            signal.raise_signal(signal.SIGTERM)

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        if event.epoch == self.epoch:
            signal.raise_signal(signal.SIGTERM)


def children(pid: int) -> list[int]:
    """The living children of a process."""
    family = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[1]) == pid and fields[0] != "Z":
            family.append(int(stat.parent.name))
    return family
