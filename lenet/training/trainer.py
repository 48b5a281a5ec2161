"""Training: the loop, and nothing that could stand outside it.

Every worker runs the same :class:`Trainer` on its slice of every batch. All of them know the
epoch, the validation result and when to stop, because all of them see the same sums; only rank 0
has callbacks (:mod:`lenet.training.callbacks`) for progress, logs and checkpoints.

What is random is a pure function of seed, epoch and step, and the rest of the state is in
:class:`TrainingProgress` and a few vectors: a resumed run makes the same bits as one that never
stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.config.schema import Config
from lenet.data.augmentation import Distorter
from lenet.data.loader import Batch, Loader
from lenet.data.preprocessing import Preprocessing
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.optim.averaging import Average
from lenet.optim.optimizers import make_optimizer
from lenet.optim.schedules import make_schedule, scaled
from lenet.parallel.communicator import SIGNALS, Communicator
from lenet.parallel.process_group import receive_signals
from lenet.system.errors import CheckpointError, ConfigError, GateFailed
from lenet.training.checkpoint import Checkpoint, Training, facts
from lenet.training.evaluation import evaluate, make_network, validation_images
from lenet.training.metrics import Evaluation


@dataclass
class TrainingProgress:
    """How far a run is: with the vectors, all that going on from a checkpoint needs.

    ``loss`` and ``correct`` are sums over the ``images`` seen in the current epoch; ``best_*``
    are of the best epoch on validation so far, and ``stale`` counts the epochs since.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_mistakes: int = 2**53
    best_loss: float = 1e300
    stale: int = 0


@dataclass(frozen=True)
class StepEvent:
    """A step is complete; the figures are those of the epoch so far."""

    epoch: int
    step: int
    steps_per_epoch: int
    images: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochEvent:
    """An epoch is complete and judged: a row of the log. Without validation, ``val_*`` is None."""

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float


Snapshot = Callable[[], Checkpoint]


class Callback:
    """What may be told of a run, in rank 0; ``snapshot`` gives the state as a checkpoint."""

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:
        """Hear that a step is complete."""

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        """Hear that an epoch is complete, and whether it is the best on validation so far."""

    def on_stop(self, snapshot: Snapshot) -> None:
        """Hear that the run was asked to stop and stands between two steps."""


class Trainer:
    """One worker's share of a training run.

    Parameters
    ----------
    workers
        Its place among the others.
    config
        The whole configuration; the same for all.
    images, labels, class_names
        The training set: uint8 (count,H,W) and (count,), and the names of the classes.
    start
        The checkpoint to go on from.

    Raises
    ------
    ConfigError
        The configuration does not fit the data.
    """

    def __init__(
        self,
        workers: Communicator,
        config: Config,
        images: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        class_names: tuple[str, ...],
        start: Checkpoint | None = None,
    ) -> None:
        self.workers, self.config, self.class_names = workers, config, class_names
        self.preprocessing = Preprocessing(config.model.input_size)
        self._make_network()
        self._make_loaders(images, labels)
        steps = self.loader.steps_per_epoch
        self.schedule = make_schedule(
            config.schedule.name,
            scaled(config.optimizer.lr, config.train.batch_size, config.optimizer.lr_batch),
            steps=config.train.epochs * steps,
            steps_per_epoch=steps,
            warmup=config.schedule.warmup,
            step_epochs=config.schedule.step_epochs,
            gamma=config.schedule.gamma,
            power=config.schedule.power,
            final=config.schedule.final,
            peak=config.schedule.peak,
        )
        self.progress = TrainingProgress()
        self.asked_to_stop: list[int] = []  # the signals received here
        self.stopped_by: int | None = None  # the signal that any worker received
        if start is not None:
            self._go_on_from(start)
        workers.barrier()

    def _make_network(self) -> None:
        config, workers = self.config, self.workers
        self.network = make_network(config)
        self.network.initialize(np.random.default_rng(config.seed), config.model.initializer)
        size, dtype = self.network.parameters.size, self.network.dtype
        shared = workers.zeros(size, dtype)
        np.copyto(shared, self.network.parameters)
        self.network.bind(shared, workers.gradients(size, dtype))
        optimizer = config.optimizer
        self.optimizer = make_optimizer(
            optimizer.name,
            size,
            dtype,
            momentum=optimizer.momentum,
            beta1=optimizer.beta1,
            beta2=optimizer.beta2,
            epsilon=optimizer.epsilon,
            weight_decay=optimizer.weight_decay,
            decays=self.network.decays,
            zeros=workers.zeros,
        )
        decay = config.train.average
        self.average = Average(shared, decay, zeros=workers.zeros) if decay else None
        self.parameters = shared
        self.loss = SoftmaxCrossEntropy(config.model.classes, config.train.label_smoothing)

    def _make_loaders(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        config, workers, dtype = self.config, self.workers, self.network.dtype
        held_out = validation_images(config, len(images))
        common: dict[str, Any] = {
            "batch_size": config.train.batch_size,
            "preprocessing": self.preprocessing,
            "rank": workers.rank,
            "size": workers.size,
            "dtype": dtype,
        }
        self.loader = Loader(
            images,
            labels,
            without=held_out,
            count=config.data.limit,
            seed=config.seed,
            distorter=make_distorter(config, self.preprocessing),
            **common,
        )
        if self.loader.count < config.train.batch_size:
            raise ConfigError(
                f"is {config.train.batch_size}, but there are {self.loader.count} images to "
                "train on",
                remedy=f"choose at most {self.loader.count}",
                key="train.batch_size",
            )
        self.validation = Loader(images, labels, only=held_out, **common)

    def run(self, callbacks: Sequence[Callback] = ()) -> TrainingProgress:
        """Train to the last epoch, to early stopping, or until a signal asks to stop.

        Raises
        ------
        GateFailed
            The loss is no longer finite: the run has diverged.
        """
        self.callbacks = callbacks
        with np.errstate(over="ignore", invalid="ignore"):  # every step asks if it has diverged
            self._train_epochs()
        return self.progress

    def _train_epochs(self) -> None:
        while self.progress.epoch < self.config.train.epochs and not self._enough():
            if not self._train_epoch():
                for callback in self.callbacks:
                    callback.on_stop(self.snapshot)
                break
            self._judge_epoch()

    def _train_epoch(self) -> bool:
        """Make the remaining steps of the current epoch; return False if asked to stop."""
        progress, steps = self.progress, self.loader.steps_per_epoch
        done = progress.step - progress.epoch * steps
        started = time.perf_counter() - progress.seconds
        for batch in self.loader.epoch(progress.epoch, first=done):
            stop = self._step(batch)
            progress.seconds = time.perf_counter() - started
            event = StepEvent(
                progress.epoch + 1,
                progress.step,
                steps,
                progress.images,
                progress.loss / progress.images,
                progress.correct / progress.images,
            )
            for callback in self.callbacks:
                callback.on_step(event, self.snapshot)
            if stop:
                return False
        return True

    def _step(self, batch: Batch) -> bool:
        """Make one step; return whether any worker was asked to stop."""
        figures = self._gradients(batch)
        part, (loss, correct, *asked) = self.workers.sum(figures)
        progress = self.progress
        lr = self.schedule(progress.step)
        if not math.isfinite(loss):
            raise GateFailed(
                f"the loss is {loss} at step {progress.step + 1} with learning rate {lr:g}: "
                "training has diverged",
                remedy="lower optimizer.lr, or begin with schedule.warmup",
                key="optimizer.lr",
            )
        progress.step += 1
        progress.loss += loss * batch.size
        progress.correct += int(correct)
        progress.images += batch.size
        self.optimizer.step(self.parameters, self.network.gradients, lr, progress.step, part)
        if self.average:
            self.average.update(self.parameters, progress.step, part)
        self.workers.barrier()
        for number, times in zip(SIGNALS, asked, strict=True):
            if times:
                self.stopped_by = number
        return self.stopped_by is not None

    def _gradients(self, batch: Batch) -> NDArray[np.float64]:
        """Set the gradients of this worker's part; return its loss, correct answers, signals."""
        asked = [self.asked_to_stop.count(number) for number in SIGNALS]
        if not batch.labels.size:  # fewer images than workers
            self.network.gradients.fill(0)
            return np.array([0.0, 0.0, *asked])
        z = self.network.forward(batch.x)
        loss = self.loss.forward(z, batch.labels, batch.size)
        self.network.backward(self.loss.backward())
        return np.array([loss, self.loss.correct, *asked])

    def _judge_epoch(self) -> None:
        """Evaluate on the images held out, remember whether it is the best, tell the callbacks."""
        progress = self.progress
        result = self._validate()
        best = result is None or (-result.mistakes, -result.loss) > (
            -progress.best_mistakes,
            -progress.best_loss,
        )
        seconds, images = progress.seconds, progress.images
        event = EpochEvent(
            progress.epoch + 1,
            progress.step,
            self.schedule(progress.step - 1),
            progress.loss / images,
            progress.correct / images,
            result.loss if result else None,
            result.accuracy if result else None,
            seconds,
            images / seconds,
        )
        progress.epoch += 1
        progress.stale = 0 if best else progress.stale + 1
        if best:
            progress.best_epoch = progress.epoch
            if result is not None:
                progress.best_mistakes, progress.best_loss = result.mistakes, result.loss
        progress.loss, progress.correct, progress.images, progress.seconds = 0.0, 0, 0, 0.0
        for callback in self.callbacks:
            callback.on_epoch(event, best, self.snapshot)

    def _validate(self) -> Evaluation | None:
        if not self.validation.count:
            return None
        if self.average is None:
            return evaluate(self.network, self.validation, self.workers)
        gradients = self.network.gradients
        self.network.bind(self.average.weights, gradients)
        result = evaluate(self.network, self.validation, self.workers)
        self.network.bind(self.parameters, gradients)
        return result

    def _enough(self) -> bool:
        patience = self.config.train.patience
        return bool(patience) and self.progress.stale >= patience

    def snapshot(self) -> Checkpoint:
        """Return the state between two steps.

        Raises
        ------
        GateFailed
            The weights are no longer finite: the run has diverged.
        """
        weights = self.average.weights if self.average else self.parameters
        if not np.isfinite(weights).all() or not np.isfinite(self.parameters).all():
            raise GateFailed(
                f"weights are no longer finite after step {self.progress.step}: "
                "training has diverged",
                remedy="lower optimizer.lr, or begin with schedule.warmup",
                key="optimizer.lr",
            )
        named, start = {}, 0
        for p in self.network.parameter_list:
            named[p.name] = weights[start : start + p.size].reshape(p.shape)
            start += p.size
        return Checkpoint(
            config=self.config,
            parameters=named,
            preprocessing=asdict(self.preprocessing),
            class_names=self.class_names,
            dataset=self.config.data.name,
            step=self.progress.step,
            epoch=self.progress.epoch,
            metrics={},
            training=Training(
                parameters=self.parameters,
                optimizer=self.optimizer.state(),
                average=self.average.state() if self.average else {},
                progress=asdict(self.progress),
            ),
            facts=facts(workers=self.workers.size),
        )

    def _go_on_from(self, start: Checkpoint) -> None:
        """Take over the state of a checkpoint that was read with ``resume``."""
        training = start.training
        assert training is not None  # noqa: S101 - reading it for resuming refuses others
        self.progress = _progress(training.progress, self.loader, self.config)
        np.copyto(self.parameters, training.parameters)
        self.optimizer.restore(training.optimizer)
        if self.average:
            self.average.restore(training.average)


def _progress(held: Mapping[str, float | None], loader: Loader, config: Config) -> TrainingProgress:
    """Return the progress that a checkpoint holds, if a run of this configuration can be there."""
    try:
        kinds = {name: type(value) for name, value in asdict(TrainingProgress()).items()}
        progress = TrainingProgress(**{name: kind(held[name]) for name, kind in kinds.items()})
    except (KeyError, TypeError) as error:
        raise _impossible(f"lacks or spoils {error}") from None
    steps = loader.steps_per_epoch
    done = progress.step - progress.epoch * steps
    if not (0 <= progress.epoch <= config.train.epochs and 0 <= done <= steps):
        raise _impossible(f"says epoch {progress.epoch}, step {progress.step} of {steps} an epoch")
    if progress.images != min(done * config.train.batch_size, loader.count):
        raise _impossible(f"says {progress.images} images after {done} steps of an epoch")
    return progress


def _impossible(problem: str) -> CheckpointError:
    return CheckpointError(
        f"{problem}, which no run of this configuration and data reaches",
        remedy="resume with the data that the run began with, or train again",
        key="progress",
    )


def make_distorter(config: Config, preprocessing: Preprocessing) -> Distorter | None:
    """Return what distorts the training images, or None where every range is zero."""
    augment, size = config.augment, preprocessing.input_size
    if not any(
        (augment.rotation, augment.scale, augment.shear, augment.shift, augment.elastic_alpha)
    ):
        return None
    return Distorter(
        size,
        size,
        rotation=augment.rotation,
        scale=augment.scale,
        shear=augment.shear,
        shift=augment.shift,
        elastic_alpha=augment.elastic_alpha,
        elastic_sigma=augment.elastic_sigma,
        gain=preprocessing.scale,
        offset=preprocessing.shift,
    )


def train_as_worker(
    workers: Communicator,
    arrays: dict[str, NDArray[np.uint8]],
    job: tuple[Config, tuple[str, ...], Checkpoint | None],
) -> None:
    """Run the trainer in a worker process: the program that a team is given."""
    config, class_names, start = job
    trainer = Trainer(workers, config, arrays["images"], arrays["labels"], class_names, start)
    receive_signals(trainer.asked_to_stop.append)
    trainer.run()
