"""The programs that ``lenet bench`` measures, each in its own process.

BLAS reads the number of its threads when NumPy is first imported, and memory is counted by process.
A program prints results, each a line of JSON, and waits for a line on stdin after each, so that
several programs can alternate on the same processors.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any, TypeAlias

import numpy as np

from lenet.arrays import Array, small_buffer
from lenet.bench.jax_training import train_jax
from lenet.bench.measured_processes import peak_memory
from lenet.bench.torch_training import train_torch
from lenet.config.schema import Config
from lenet.data.loader import slice_size
from lenet.errors import LenetError
from lenet.evaluation.images import load_split
from lenet.nn.fused import FusedConvolution
from lenet.nn.layer import Layer
from lenet.system.extras import require
from lenet.train.build import build_trainer
from lenet.train.events import Callback, EpochEvent, Snapshot, StepEvent
from lenet.train.run import run_training
from lenet.train.trainer import Trainer

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


# --- The parts of a step --------------------------------------------------------------------------

SGEMM_SIZE = 1024  # of the square matrices whose product measures the processor
SGEMM_REPEATS = 10

Part: TypeAlias = tuple[str, str]
"""A layer or another part of a step, and ``forward`` or ``backward``."""


def measure_parts(config: Config) -> dict[str, Any]:
    """Return the highest rate of sgemm, and the median time per image of every part of a step.

    The parts run one after another as in training, so that each finds the cache as the part before
    it left it; sgemm runs between the epochs.
    """
    data = load_split(config, "train")
    trainer = build_trainer(config, data.images, data.labels, class_names=data.class_names)
    laps: dict[Part, list[float]] = defaultdict(list)
    products: list[float] = []
    for epoch in range(config.train.epochs):
        _time_epoch(trainer, epoch, laps)
        products += _time_sgemm()
    sgemm_gflops = 2 * SGEMM_SIZE**3 / min(products) / 1e9  # of the least disturbed product
    flop = _flop_per_image(trainer)
    parts = []
    for (part, direction), times in laps.items():
        us_per_image = median(times) * 1e6
        gflops = flop.get((part, direction), 0) / us_per_image / 1e3
        parts.append(
            {
                "part": part,
                "direction": direction,
                "us_per_image": us_per_image,
                "flop_per_image": flop.get((part, direction), 0),
                "gflops": gflops or None,
                "share_of_sgemm": gflops / sgemm_gflops or None,
            }
        )
    return {"sgemm_gflops": sgemm_gflops, "parts": parts}


@small_buffer()
def _time_epoch(trainer: Trainer, epoch: int, laps: dict[Part, list[float]]) -> None:
    """Train an epoch as the trainer does, and append the seconds per image of every part."""
    network, loss = trainer.network, trainer.loss
    size = trainer.loader.batch_size
    network.allocate(slice_size(size))
    last = time.perf_counter()

    def lap(name: str, direction: str) -> None:
        nonlocal last
        now = time.perf_counter()
        laps[name, direction].append((now - last) / images)
        last = now

    for step, batch in enumerate(trainer.loader.epoch(epoch), start=1):
        if batch.size < size:
            break  # the times of a smaller batch are not comparable
        images = batch.labels.size
        lap("input", "forward")
        x = batch.x
        for layer in network.executed:
            x = layer.forward(x)
            lap(_title(layer), "forward")
        loss.forward(x, batch.labels, size)
        lap("loss", "forward")
        dy: Array | None = loss.backward()
        lap("loss", "backward")
        for layer in reversed(network.executed[network.first_trained :]):
            assert dy is not None  # noqa: S101 - only the first trained layer returns None
            dy = layer.backward(dy)
            lap(_title(layer), "backward")
        if not batch.last:
            continue
        images = batch.size
        lr = trainer.schedule(step)
        trainer.optimizer.step(trainer.parameters, network.gradients, lr, step, slice(None))
        lap("update", "backward")


def _time_sgemm() -> list[float]:
    """Return the seconds of products of two square float32 matrices."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, SGEMM_SIZE, SGEMM_SIZE), np.float32)
    out = np.empty_like(a)
    times = []
    for _ in range(SGEMM_REPEATS):
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        times.append(time.perf_counter() - start)
    return times


def _flop_per_image(trainer: Trainer) -> dict[Part, int]:
    """Return the floating-point operations per image of every part that is a matrix product."""
    flop: dict[Part, int] = {}
    for layer in trainer.network.executed:
        product = layer.conv if isinstance(layer, FusedConvolution) else layer
        forward = 2 * product.multiply_adds
        flop[_title(layer), "forward"] = forward
        # The backward pass has two products of that size, dW and dX; the first layer has no dX.
        flop[_title(layer), "backward"] = 2 * forward if layer.needs_dx else forward
    return flop


def _title(layer: Layer) -> str:
    if isinstance(layer, FusedConvolution):
        return f"{layer.conv.name}+{layer.pooling.name}"
    return layer.name


# --- The program ----------------------------------------------------------------------------------

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
