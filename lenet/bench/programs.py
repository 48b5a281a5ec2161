"""The programs that ``lenet bench`` measures, each in a process of its own.

BLAS reads the number of its threads when NumPy is first imported, and memory is counted by process.
A program prints answers, each a line of JSON, and waits for a line on stdin after each, so that
several programs can take turns on the same processors.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from lenet.bench.jax_training import train_jax
from lenet.bench.parts import measure_parts
from lenet.bench.processes import peak_memory
from lenet.bench.torch_training import train_torch
from lenet.config.schema import Config
from lenet.errors import LenetError
from lenet.system.extras import require
from lenet.train.events import Callback, EpochEvent, Snapshot, StepEvent
from lenet.train.run import run_training

TENTHS = 10

Answer = Callable[[dict[str, Any]], None]


def version(answer: Answer, module: str, extra: str) -> None:
    """Answer the version of a framework."""
    answer({"version": str(require(module, extra).__version__)})


def time_parts(answer: Answer, config: dict[str, Any]) -> None:
    """Answer the parts of a step and their times."""
    answer(measure_parts(Config.from_dict(config)))


def train_lenet(answer: Answer, config: dict[str, Any]) -> None:
    """Train, and answer after every epoch; last, answer the peak of the memory."""
    outcome = run_training(Config.from_dict(config), callbacks=[_AnswerEpochs(answer)])
    answer({"peak_bytes": peak_memory(outcome.workers)})


class _AnswerEpochs(Callback):
    """Answers the speed of every epoch, and of every tenth of it but the first."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.marks: list[tuple[float, int]] = []

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:  # noqa: ARG002
        step = event.step - (event.epoch - 1) * event.steps_per_epoch
        if step * TENTHS >= (len(self.marks) + 1) * event.steps_per_epoch:
            self.marks.append((time.perf_counter(), event.images))

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:  # noqa: ARG002
        pairs = zip(self.marks, self.marks[1:], strict=False)
        tenths = [(n - m) / (end - start) for (start, m), (end, n) in pairs]
        self.marks = []
        self.answer({"images_per_second": event.images_per_second, "tenths": tenths})


PROGRAMS: dict[str, Callable[..., None]] = {
    program.__name__: program
    for program in (version, time_parts, train_lenet, train_torch, train_jax)
}


def _print(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)
    if not sys.stdin.readline():
        raise SystemExit(1)  # the process that reads the answers has ended


def main(name: str, arguments: str) -> None:
    """Run a program with arguments in JSON; its last answer may be a LenetError."""
    try:
        PROGRAMS[name](_print, **json.loads(arguments))
    except LenetError as error:
        where = {"file": error.file, "key": error.key}
        problem = {"problem": error.problem, "remedy": error.remedy} | where
        print(json.dumps({"exit_code": error.exit_code, "error": problem}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
