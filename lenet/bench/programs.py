"""What ``lenet bench`` measures: the parts of a step, a training run, the same run in PyTorch.

Every program here runs in a process of its own, started by :mod:`lenet.bench.bench`: BLAS reads
the number of its threads when NumPy is first imported, and memory is counted by process. A program
gives answers, each a line of JSON on stdout, and waits for a line on stdin after each, so that
several can take turns on the same processors.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from lenet.config.schema import Config, Optimizer
from lenet.data.preprocessing import Preprocessing
from lenet.nn.fused import FusedConvolution
from lenet.nn.im2col import Array
from lenet.nn.layer import Layer
from lenet.system.errors import LenetError
from lenet.system.extras import require
from lenet.system.machine import usable_cores
from lenet.training.build import build_trainer, load_split
from lenet.training.events import Callback, EpochEvent, Snapshot, StepEvent
from lenet.training.run import run_training
from lenet.training.trainer import Trainer

SGEMM_SIZE = 1024  # of the square matrices whose product is the measure of the processor
SGEMM_REPEATS = 10
TENTHS = 10

Answer = Callable[[dict[str, Any]], None]
Part = tuple[str, str]  # of a step: what, and in which direction


def torch_version(answer: Answer) -> None:
    """Answer the version of PyTorch.

    Raises
    ------
    SystemFailure
        It is not installed.
    """
    answer({"version": str(require("torch", extra="bench").__version__)})


def time_parts(answer: Answer, config: dict[str, Any]) -> None:
    """Answer the best rate of sgemm and the median time an image of every part of a step.

    The parts run one after another as in training, so that each finds in the cache what the one
    before it left there; sgemm runs between the epochs.
    """
    settings = Config.from_dict(config)
    data = load_split(settings, "train")
    trainer = build_trainer(settings, data.images, data.labels)
    laps: dict[Part, list[float]] = defaultdict(list)
    products: list[float] = []
    for epoch in range(settings.train.epochs):
        _time_epoch(trainer, epoch, laps)
        products += _time_sgemm()
    flop = _flop(trainer)
    answer(
        {
            # A limit: the fastest product is the one that nothing disturbed.
            "sgemm_gflops": 2 * SGEMM_SIZE**3 / min(products) / 1e9,
            "parts": [
                {
                    "part": part[0],
                    "direction": part[1],
                    "us_per_image": median(times) / settings.train.batch_size * 1e6,
                    "flop_per_image": flop.get(part, 0),
                }
                for part, times in laps.items()
            ],
        }
    )


def _time_epoch(trainer: Trainer, epoch: int, laps: dict[Part, list[float]]) -> None:
    """Train an epoch as the trainer does, a look at the clock after every part."""
    network, loss = trainer.network, trainer.loss
    size = trainer.loader.batch_size
    network.allocate(size)
    last = time.perf_counter()

    def lap(name: str, direction: str) -> None:
        nonlocal last
        now = time.perf_counter()
        laps[name, direction].append(now - last)
        last = now

    for step, batch in enumerate(trainer.loader.epoch(epoch), start=1):
        if batch.size < size:
            break  # an incomplete batch has times of its own
        lap("input", "forward")
        x = batch.x
        for layer in network.layers:
            x = layer.forward(x)
            lap(_title(layer), "forward")
        loss.forward(x, batch.labels, size)
        lap("loss", "forward")
        dy: Array | None = loss.backward()
        lap("loss", "backward")
        for layer in reversed(network.layers[network.first_trained :]):
            assert dy is not None  # noqa: S101 - only the first trained layer returns None
            dy = layer.backward(dy)
            lap(_title(layer), "backward")
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


def _flop(trainer: Trainer) -> dict[Part, int]:
    """Return the floating-point operations an image of every part that is a matrix product."""
    flop: dict[Part, int] = {}
    for layer in trainer.network.layers:
        product = layer.conv if isinstance(layer, FusedConvolution) else layer
        forward = 2 * product.multiply_adds
        flop[_title(layer), "forward"] = forward
        # Backward are two products as large, dW and dX, but for the first layer, without dX.
        flop[_title(layer), "backward"] = 2 * forward if layer.needs_dx else forward
    return flop


def _title(layer: Layer) -> str:
    if isinstance(layer, FusedConvolution):
        return f"{layer.conv.name}+{layer.pooling.name}"
    return layer.name


def train_lenet(answer: Answer, config: dict[str, Any]) -> None:
    """Train, with an answer after every epoch; in the end answer the peak of the memory."""
    outcome = run_training(Config.from_dict(config), callbacks=[_Epochs(answer)])
    answer({"peak_bytes": peak_memory(outcome.workers)})


class _Epochs(Callback):
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


def train_torch(answer: Answer, config: dict[str, Any], channels_last: bool) -> None:
    """Train the same network on the same batches' worth of images in eager PyTorch.

    What is in PyTorch's favour: its images are float32, scaled and padded beforehand, and it
    keeps no count of loss and accuracy.
    """
    torch = require("torch", extra="bench")
    torch.set_num_threads(usable_cores())
    settings = Config.from_dict(config)
    data = load_split(settings, "train")
    preprocessing = Preprocessing((1, *2 * (settings.model.input_size,)))
    x = preprocessing.blank(len(data.images), np.float32)
    preprocessing.apply(data.images, x)
    images = torch.from_numpy(np.ascontiguousarray(x.transpose(3, 0, 1, 2)))
    labels = torch.from_numpy(data.labels.astype(np.int64))
    del x
    torch.manual_seed(settings.seed)
    model = _torch_lenet5(torch.nn, settings)
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
        model = model.to(memory_format=torch.channels_last)
    optimizer = _torch_optimizer(torch.optim, model.parameters(), settings.optimizer)
    loss = torch.nn.CrossEntropyLoss()
    for _ in range(settings.train.epochs):
        start = time.perf_counter()
        for part in torch.randperm(len(images)).split(settings.train.batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss(model(images[part]), labels[part]).backward()
            optimizer.step()
        answer({"images_per_second": len(images) / (time.perf_counter() - start)})
    answer({"peak_bytes": peak_memory(1)})


def _torch_lenet5(nn: Any, config: Config) -> Any:  # noqa: ANN401 - modules have no better type
    """Return LeNet-5 as PyTorch's users write it, C5 as a linear layer."""
    (c1, c3), (c5, f6) = config.model.channels, config.model.units
    return nn.Sequential(
        nn.Conv2d(1, c1, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(c1, c3, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(c3 * 5 * 5, c5),
        nn.ReLU(),
        nn.Linear(c5, f6),
        nn.ReLU(),
        nn.Linear(f6, config.model.classes),
    )


def _torch_optimizer(optim: Any, parameters: Any, optimizer: Optimizer) -> Any:  # noqa: ANN401
    return optim.SGD(
        parameters,
        lr=optimizer.lr,
        momentum=optimizer.momentum,
        weight_decay=optimizer.weight_decay,
        nesterov=optimizer.name == "nesterov",
    )


def peak_memory(processes: int) -> int | None:
    """Return the peak of the resident memory, as if every other worker had that of the largest.

    None where the system does not say. What processes share is counted in each.
    """
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return unit * (own + (processes - 1) * largest)


PROGRAMS: dict[str, Callable[..., None]] = {
    program.__name__: program for program in (torch_version, time_parts, train_lenet, train_torch)
}


def _print(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)
    if not sys.stdin.readline():
        raise SystemExit(1)  # nobody asks any more


def main(name: str, arguments: str) -> None:
    """Run a program with arguments in JSON; an error that is foreseen is its last answer."""
    try:
        PROGRAMS[name](_print, **json.loads(arguments))
    except LenetError as error:
        where = {"file": error.file, "key": error.key}
        problem = {"problem": error.problem, "remedy": error.remedy} | where
        print(json.dumps({"exit_code": error.exit_code, "error": problem}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
