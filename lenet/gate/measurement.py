"""Measure the code: train a small network twice, in one process and with the same bits.

Speed is counted in images per 10⁹ operations of a matrix product that is timed between the very
same steps, so that it can be compared between a fast and a slow machine of one kind.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lenet.checkpoint.restore import build_network
from lenet.config.schema import Config
from lenet.data.dataset import Split
from lenet.errors import ConfigError
from lenet.nn.gradcheck import check_gradients, check_identities
from lenet.system.text import supports_progress_bar
from lenet.train.build import build_loss, build_trainer, initialize
from lenet.train.events import Callback, EpochEvent, Snapshot, StepEvent

FIRST_LOSSES = 10  # so few that rounding has not grown: the same losses on every machine
CURVE_POINTS = 20
STEPS_PER_PROBE = 8
PROBE_SIZE = 256  # of the timed product's matrices: three of them fit into the cache of a core
NEGLIGIBLE_LOSS = 1e-3  # lower ones are compared as this: near zero, rounding decides
FASTEST = 0.01  # this fraction of the steps is taken to be undisturbed
MAX_RUNS = 30  # a slow run counts only if all of so many were slow, or all in MAX_SECONDS
MAX_SECONDS = 100.0


@dataclass(frozen=True)
class Measurement:
    """The results of a gate's training runs and checks."""

    accuracy: float
    """On the validation images, after the last epoch."""
    loss: float
    """On the validation images, after the last epoch."""
    first_losses: tuple[float, ...]
    """Training loss of each of the first ten steps."""
    curve: tuple[float, ...]
    """Mean training loss of twenty equal parts of the run."""
    gradient_error: float
    """Largest relative error of an analytic gradient against central differences."""
    identity_error: float
    """Largest relative difference between the two sides of an identity of the derivation."""
    images_per_gflop: float
    """Speed: images trained in the time of 10⁹ operations of a matrix product."""
    images_per_second: float
    sgemm_gflops: float
    """Rate of the matrix product, in 10⁹ operations per second."""
    wait_fraction: float
    """Fraction of the time spent waiting for a core; 0 where the system does not report it."""
    reproducible: bool
    """Whether all runs of the gate gave the same bits."""
    data_sha256: str
    """Checksum of the images and labels."""
    bits_sha256: str
    """Checksum of the weights, their average, the state and the loss of every step."""


def measure(config: Config, split: Split, fast_enough: float = 0.0) -> Measurement:
    """Train twice with ``config``, and check gradients and identities.

    While no run has reached the speed ``fast_enough`` (images per 10⁹ operations), training is
    repeated, up to thirty runs or 100 seconds: temporary slowdowns are those of the machine.
    ``train.workers`` is ignored.
    """
    if config.data.validation == 0:
        raise ConfigError(
            "is 0, and the gate measures accuracy on validation images",
            remedy="set a thousand or more aside",
            key="data.validation",
        )
    end = time.monotonic() + MAX_SECONDS
    runs = [_train(config, split), _train(config, split)]
    shown = supports_progress_bar(sys.stderr)
    with tqdm(desc="fastest of", total=MAX_RUNS, initial=2, leave=False, disable=not shown) as bar:
        while (
            len(runs) < MAX_RUNS
            and time.monotonic() < end
            and max(run.images_per_gflop for run in runs) < fast_enough
        ):
            runs.append(_train(config, split))
            bar.update()
    first, fastest = runs[0], max(runs, key=lambda run: run.images_per_gflop)
    network = build_network(config)
    initialize(network, config)
    loss = build_loss(network, config)
    return Measurement(
        accuracy=first.accuracy,
        loss=first.loss,
        first_losses=tuple(first.losses[:FIRST_LOSSES]),
        curve=tuple(float(part.mean()) for part in np.array_split(first.losses, CURVE_POINTS)),
        gradient_error=max(
            check.error if check.kinks <= check.checked else math.inf
            for check in check_gradients(network, loss, seed=config.seed)
        ),
        identity_error=max(check.error for check in check_identities(network, seed=config.seed)),
        images_per_gflop=fastest.images_per_gflop,
        images_per_second=fastest.images_per_second,
        sgemm_gflops=fastest.sgemm_gflops,
        wait_fraction=fastest.wait_fraction,
        reproducible=all(run.bits == first.bits for run in runs),
        data_sha256=hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest(),
        bits_sha256=first.bits,
    )


def largest_rise(curve: Sequence[float]) -> float:
    """Return the largest rise from a point to the next, as a fraction; negative if all fall.

    Examples
    --------
    >>> largest_rise([2.0, 1.0, 1.5, 0.5])
    0.5
    """
    losses = np.maximum(curve, NEGLIGIBLE_LOSS)
    return float(np.max(losses[1:] / losses[:-1])) - 1


def _train(config: Config, split: Split) -> _RecordedRun:
    trainer = build_trainer(config, split.images, split.labels, class_names=split.class_names)
    steps = config.train.epochs * trainer.loader.steps_per_epoch
    if steps < CURVE_POINTS:
        raise ConfigError(
            f"gives {steps} steps, and the loss curve has {CURVE_POINTS} points",
            remedy="train for more epochs, or in smaller batches",
            key="train.epochs",
        )
    run = _RecordedRun(config.train.batch_size)
    wall, own = time.perf_counter(), seconds()
    trainer.run([run])
    run.wait_fraction = 1 - (seconds() - own) / (time.perf_counter() - wall)
    digest = hashlib.sha256(np.array(run.losses).tobytes())
    digest.update(trainer.parameters.tobytes())
    digest.update(trainer.average.weights.tobytes() if trainer.average else b"")
    for array in trainer.network.state_arrays().values():
        digest.update(array.tobytes())
    run.bits = digest.hexdigest()
    return run


class _RecordedRun(Callback):
    """Records a training run step by step; between the steps it times a matrix product."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.losses: list[float] = []
        self.accuracy = self.loss = self.wait_fraction = math.nan
        self.bits = ""
        self._step_seconds: list[float] = []
        self._probe_seconds: list[float] = []
        rng = np.random.default_rng(0)
        self._a, self._b, self._c = rng.standard_normal((3, PROBE_SIZE, PROBE_SIZE), np.float32)
        self._loss_sum, self._images = 0.0, 0
        self._started = seconds()

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:  # noqa: ARG002
        spent, images = seconds() - self._started, event.images - self._images
        if images == self.batch_size:  # the last batch of an epoch is smaller and takes less time
            self._step_seconds.append(spent)
        total = event.loss * event.images  # the event's loss is the mean of the epoch so far
        self.losses.append((total - self._loss_sum) / images)
        self._loss_sum, self._images = total, event.images
        if event.step % STEPS_PER_PROBE == 0:
            self._probe_seconds.append(self._time_product())
        self._started = seconds()

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:  # noqa: ARG002
        assert event.val_accuracy is not None  # noqa: S101 - there are validation images
        assert event.val_loss is not None  # noqa: S101
        self.accuracy, self.loss = event.val_accuracy, event.val_loss
        self._loss_sum, self._images = 0.0, 0
        self._started = seconds()

    def _time_product(self) -> float:
        fastest = math.inf
        for _ in range(4):
            start = seconds()
            np.matmul(self._a, self._b, out=self._c)
            fastest = min(fastest, seconds() - start)
        return fastest

    @property
    def images_per_second(self) -> float:
        """Over the undisturbed steps."""
        return self.batch_size / float(np.quantile(self._step_seconds, FASTEST))

    @property
    def sgemm_gflops(self) -> float:
        """Over the undisturbed products."""
        return 2e-9 * PROBE_SIZE**3 / float(np.quantile(self._probe_seconds, FASTEST))

    @property
    def images_per_gflop(self) -> float:
        """The speed."""
        return self.images_per_second / self.sgemm_gflops


# --- The clock: it stops while the thread waits for a core --------------------------------------

# The wall clock also counts the time that other programs use: beside a busy loop on the same core
# every step takes twice as long. Processor time leaves out sleeping and waiting for a disk.
SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Linux: nanoseconds on a core, nanoseconds waiting for one, number of time slices."""


def seconds() -> float:
    """Return the wall clock's time less the time that this thread has waited for a core.

    Where the system does not report the waiting (anywhere but on Linux), this is the wall clock.
    """
    waited = _waited()
    while True:
        now, before = time.perf_counter(), waited
        waited = _waited()
        if waited == before:  # otherwise the thread had to wait between the two readings
            return now - waited


def _waited() -> float:
    try:
        return int(SCHEDSTAT.read_bytes().split()[1]) * 1e-9
    except OSError:
        return 0.0
