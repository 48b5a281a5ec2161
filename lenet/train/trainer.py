"""The training loop, over given objects.

Each worker runs a :class:`Trainer` on its slice of every batch. All workers have the same epoch
and validation result and stop at the same step, because they see the same sums. Only rank 0 has
callbacks (:mod:`lenet.train.callbacks`), for progress, logs and checkpoints.

Random values are pure functions of seed, epoch and step. All other state is in :class:`Progress`
and a few vectors, so a resumed run is bit-identical to an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NoReturn

import numpy as np

from lenet.arrays import Array, small_buffer
from lenet.checkpoint.checkpoint import Training
from lenet.data.loader import Batch, Loader
from lenet.errors import CheckpointError, GateFailed
from lenet.evaluation.loop import evaluate
from lenet.evaluation.metrics import Evaluation
from lenet.nn.distillation import Distillation
from lenet.nn.losses import Loss
from lenet.nn.network import Network
from lenet.nn.scores import SCORES
from lenet.optim.averaging import Average
from lenet.optim.optimizers import Optimizer
from lenet.optim.schedules import Schedule
from lenet.parallel.communicator import SIGNALS, Communicator, SingleProcess
from lenet.train.events import Callback, EpochEvent, Snapshot, StepEvent


@dataclass
class Progress:
    """The progress of a run. Together with the vectors, it is the state needed to resume.

    ``loss`` and ``correct`` are sums over the ``images`` of the current epoch so far. ``best_*``
    belong to the epoch with the best validation result so far: ``best_score`` is its score, negated
    if lower is better; ``stale`` counts the epochs since.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_score: float = -1e300
    best_loss: float = 1e300
    stale: int = 0


@dataclass(frozen=True)
class TrainerState:
    """The state of a trainer between two steps; its arrays are views, not copies."""

    parameters: Mapping[str, Array]
    """The weights for evaluation, by name: averaged if there is an average."""
    state: Mapping[str, Array]
    """Vectors that are stored but not trained, by name, such as running statistics."""
    training: Training
    """The vectors and the progress needed to resume."""
    step: int
    epoch: int
    metrics: Mapping[str, float | None]
    """Losses and accuracies of the last complete epoch; empty before the first."""


class Trainer:
    """The training loop of one worker.

    Examples
    --------
    >>> from lenet.data.preprocessing import Preprocessing
    >>> from lenet.data.strokes import draw
    >>> from lenet.models.lenet5 import lenet5
    >>> from lenet.nn.losses import SoftmaxCrossEntropy
    >>> from lenet.optim.optimizers import make_optimizer
    >>> from lenet.optim.schedules import cosine
    >>> network = lenet5()
    >>> network.initialize(np.random.default_rng(0))
    >>> loader = Loader(
    ...     *draw(256, seed=0), batch_size=64, preprocessing=Preprocessing(), seed=0
    ... )
    >>> optimizer = make_optimizer("nesterov", network.parameters.size)
    >>> trainer = Trainer(
    ...     network, SoftmaxCrossEntropy(10), optimizer, cosine(0.05, steps=12), loader, epochs=3
    ... )
    >>> trainer.run().step
    12
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        schedule: Schedule,
        loader: Loader,
        *,
        epochs: int,
        validation: Loader | None = None,
        average: Average | None = None,
        best_metric: str = "accuracy",
        patience: int = 0,
        distillation: Distillation | None = None,
        communicator: Communicator | None = None,
    ) -> None:
        self.network, self.loss = network, loss
        self.optimizer, self.schedule = optimizer, schedule
        self.loader, self.validation = loader, validation
        self.average, self.distillation = average, distillation
        self.score = SCORES[best_metric]
        self.epochs, self.patience = epochs, patience
        self.communicator = communicator or SingleProcess()
        self.parameters = network.parameters
        self._earlier = np.empty_like(network.gradients)  # of the slices of a batch so far
        self._figures: list[tuple[float, int]] = []  # loss and correct predictions of each slice
        self.progress = Progress()
        self.metrics: Mapping[str, float | None] = {}
        self.signals: list[int] = []  # received by this worker
        self.stopped_by: int | None = None  # a signal received by any worker

    def run(self, callbacks: Sequence[Callback] = (), snapshot: Snapshot | None = None) -> Progress:
        """Train to the last epoch, to early stopping, or until a signal stops the run."""
        self.callbacks = callbacks
        self.snapshot = snapshot or _no_snapshot
        # Every step checks the loss.
        with np.errstate(over="ignore", invalid="ignore"), small_buffer():
            self._train_epochs()
        return self.progress

    def _train_epochs(self) -> None:
        while self.progress.epoch < self.epochs and not self._has_converged():
            if not self._train_epoch():
                for callback in self.callbacks:
                    callback.on_stop(self.snapshot)
                break
            self._evaluate_epoch()

    def _has_converged(self) -> bool:
        return bool(self.patience) and self.progress.stale >= self.patience

    def _train_epoch(self) -> bool:
        """Run the remaining steps of the current epoch; return False if a signal stopped it."""
        progress, steps = self.progress, self.loader.steps_per_epoch
        done = progress.step - progress.epoch * steps
        started = time.perf_counter() - progress.seconds
        for batch in self.loader.epoch(progress.epoch, first=done):
            self._add_gradients(batch)
            if not batch.last:
                continue
            stop = self._step(batch.size)
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

    def _add_gradients(self, batch: Batch) -> None:
        """Compute the gradients of a slice, and add those of the slices of the batch before it."""
        gradients = self.network.gradients
        if batch.labels.size:
            self.network.set_step(self.loader.seed or 0, batch.step, batch.first)
            z = self.network.forward(batch.x)
            loss = self.loss.forward(z, batch.labels, batch.size)
            dz = self.loss.backward()
            if self.distillation is not None and batch.teacher is not None:
                loss = self.distillation(z, batch.teacher, dz, loss, batch.size)
            self.network.backward(dz)
            self._figures.append((loss, self.loss.correct))
        else:  # fewer images than workers
            gradients.fill(0)
            self._figures.append((0.0, 0))
        if len(self._figures) > 1:
            gradients += self._earlier
        if not batch.last:
            np.copyto(self._earlier, gradients)

    def _step(self, images: int) -> bool:
        """Sum over the workers and update; return whether any worker received a signal."""
        figures = [sum(slices) for slices in zip(*self._figures, strict=True)]
        self._figures.clear()
        figures += [self.signals.count(number) for number in SIGNALS]
        part, sums = self.communicator.sum_gradients(np.array(figures, np.float64))
        loss, correct, *signals = sums.tolist()
        progress = self.progress
        lr = self.schedule(progress.step)
        if not math.isfinite(loss):
            raise _diverged(
                f"the loss is {loss} at step {progress.step + 1} with learning rate {lr:g}"
            )
        progress.step += 1
        progress.loss += loss * images
        progress.correct += int(correct)
        progress.images += images
        self.optimizer.step(self.parameters, self.network.gradients, lr, progress.step, part)
        if self.average:
            self.average.update(self.parameters, progress.step, part)
        self.communicator.barrier()
        for number, times in zip(SIGNALS, signals, strict=True):
            if times:
                self.stopped_by = number
        return self.stopped_by is not None

    def _evaluate_epoch(self) -> None:
        """Evaluate on the validation images, update the progress, call the callbacks."""
        progress = self.progress
        self._share_state()
        result = self._validate()
        best, score = True, None
        if result is not None:
            if not math.isfinite(result.loss):
                raise _diverged(
                    f"the validation loss is {result.loss} after epoch {progress.epoch + 1}"
                )
            score = self.score.value(result.confusion, result.loss)
            rank = self.score.rank(score, result.loss)
            best = rank > (progress.best_score, -progress.best_loss)
            if best:
                progress.best_score, progress.best_loss = rank[0], result.loss
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
            score,
        )
        self.metrics = {
            "train_loss": event.train_loss,
            "train_accuracy": event.train_accuracy,
            "val_loss": event.val_loss,
            "val_accuracy": event.val_accuracy,
        }
        progress.epoch += 1
        progress.stale = 0 if best else progress.stale + 1
        if best:
            progress.best_epoch = progress.epoch
        progress.loss, progress.correct, progress.images, progress.seconds = 0.0, 0, 0, 0.0
        for callback in self.callbacks:
            callback.on_epoch(event, best, self.snapshot)

    def _share_state(self) -> None:
        """Give all workers the layers' state of rank 0, which is the one that is stored."""
        arrays = list(self.network.state_arrays().values())
        if not arrays or self.communicator.size == 1:
            return
        flat = np.concatenate([array.ravel() for array in arrays]).astype(np.float64)
        flat = self.communicator.sum_figures(flat * (self.communicator.rank == 0))
        start = 0
        for array in arrays:
            array[...] = flat[start : start + array.size].reshape(array.shape)
            start += array.size

    def _validate(self) -> Evaluation | None:
        if self.validation is None or not self.validation.count:
            return None
        if self.average is None:
            return evaluate(self.network, self.validation, self.communicator)
        gradients = self.network.gradients
        self.network.bind(self.average.weights, gradients)
        result = evaluate(self.network, self.validation, self.communicator)
        self.network.bind(self.parameters, gradients)
        return result

    def state(self) -> TrainerState:
        """Return the state between two steps."""
        weights = self.average.weights if self.average else self.parameters
        if not np.isfinite(weights).all() or not np.isfinite(self.parameters).all():
            raise _diverged(f"weights are no longer finite after step {self.progress.step}")
        named, start = {}, 0
        for p in self.network.parameter_list:
            named[p.name] = weights[start : start + p.size].reshape(p.shape)
            start += p.size
        return TrainerState(
            parameters=named,
            state=self.network.state_arrays(),
            training=Training(
                parameters=self.parameters,
                optimizer=self.optimizer.state(),
                average=self.average.state() if self.average else {},
                progress=asdict(self.progress),
            ),
            step=self.progress.step,
            epoch=self.progress.epoch,
            metrics=self.metrics,
        )

    def restore(
        self,
        training: Training,
        metrics: Mapping[str, float | None],
        state: Mapping[str, Array],
    ) -> None:
        """Restore the state of a checkpoint."""
        self.progress = self._checked_progress(training.progress)
        self.metrics = dict(metrics)
        np.copyto(self.parameters, training.parameters)
        self.network.load_state_dict({**self.network.state_dict(), **state})
        self.optimizer.restore(training.optimizer)
        if self.average:
            self.average.restore(training.average)

    def _checked_progress(self, stored: Mapping[str, float | None]) -> Progress:
        if self.validation is not None and (mistakes := stored.get("best_mistakes")) is not None:
            # Of an earlier version, which had the number of mistakes in place of the score.
            count = self.validation.count
            known = mistakes <= count > 0
            stored = {**stored, "best_score": (count - mistakes) / count if known else -1e300}
        try:
            kinds = {name: type(value) for name, value in asdict(Progress()).items()}
            progress = Progress(**{name: kind(stored[name]) for name, kind in kinds.items()})
        except (KeyError, TypeError) as error:
            raise _impossible(f"has no valid {error}") from None
        steps = self.loader.steps_per_epoch
        done = progress.step - progress.epoch * steps
        if not (0 <= progress.epoch <= self.epochs and 0 <= done <= steps):
            raise _impossible(
                f"is epoch {progress.epoch}, step {progress.step}, with {steps} steps per epoch"
            )
        if progress.images != min(done * self.loader.batch_size, self.loader.count):
            raise _impossible(f"is {progress.images} images after {done} steps of an epoch")
        return progress


def _no_snapshot() -> NoReturn:
    raise RuntimeError("Trainer.run was given no snapshot function")


def _diverged(problem: str) -> GateFailed:
    return GateFailed(
        f"{problem}: training has diverged",
        remedy="lower optimizer.lr, or use schedule.warmup",
        key="optimizer.lr",
    )


def _impossible(problem: str) -> CheckpointError:
    return CheckpointError(
        f"{problem}, which no run of this configuration and data reaches",
        remedy="resume with the original data, or train again",
        key="progress",
    )
