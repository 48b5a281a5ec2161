"""The sections of the configuration: each key with its type, default, accepted values and meaning.

The checks, the comments of ``lenet config`` and the tables of docs/configuration.md are derived
from these declarations. Choices and defaults of optimizers, schedules, layers and data sets are
imported from where those are defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from functools import partial
from typing import Any, Final

from lenet.config.rules import (
    CLASS_WEIGHTS,
    LAYER_NAMES,
    LAYER_RATES,
    NULL,
    SECONDS,
    STRING,
    Checked,
    choice,
    declared,
    either,
    integer,
    names,
    number,
    setting,
    with_keys,
)
from lenet.nn.scores import SCORES
from lenet.optim import OPTIMIZERS, hyperparameters
from lenet.optim.schedules import SCHEDULES, ScheduleOptions
from lenet.system.registry import option

AUTO: Final = choice("auto")
MAX_CLASS_WEIGHT: Final = 10
NAMED: Final[dict[str, Any]] = {
    "augment.auto": False,
    "model.name": "lenet5",
    "train.epochs": 8,
    "train.batch_size": 64,
    "train.class_weights": "none",
    "train.patience": 0,
    "optimizer.lr": OPTIMIZERS["nesterov"].default_lr,
    "optimizer.weight_decay": 5e-4,
    "schedule.warmup": ScheduleOptions.warmup,
}
"""What ``auto`` is for named data sets and images in memory; others: lenet/train/recipe.py."""


@dataclass(frozen=True, kw_only=True)
class Train(Checked):
    """The training run."""

    epochs: int = setting(
        "auto",
        either(AUTO, integer(1, 100_000)),
        f"Passes over the training set; auto is {NAMED['train.epochs']} for named data sets",
    )
    batch_size: int = setting(
        "auto",
        either(AUTO, integer(1, 65_536)),
        f"Images per step; auto is {NAMED['train.batch_size']} for named data sets",
    )
    workers: int | str = setting(
        "auto",
        either(choice("auto", "mpi"), integer(1, 1024)),
        "Number of processes that share each batch; auto uses the cores of this machine, mpi the "
        "ranks of mpiexec",
    )
    label_smoothing: float = setting(
        0.0,
        number(at_least=0, below=1),
        "Part of each label's probability that is spread over all classes",
    )
    class_weights: str | tuple[float, ...] | Mapping[str, float] = setting(
        "auto",
        either(choice("auto", "none", "balanced"), CLASS_WEIGHTS),
        "Factor of the training loss of each image, by its class: balanced makes all classes count "
        f"alike, up to a factor of {MAX_CLASS_WEIGHT}; auto is none for named data sets; a class "
        "that a mapping leaves out has 1",
    )
    start: str | None = setting(
        None,
        either(NULL, STRING),
        "Checkpoint to train from: its network, and its weights where they fit",
    )
    start_rate: float = setting(
        0.2,
        number(at_least=0, at_most=1),
        "Factor of the learning rate for the layers that are taken over from start",
    )
    layer_rates: Mapping[str, float] | None = setting(
        None,
        either(NULL, LAYER_RATES),
        "Factor of the learning rate for each layer, by name; a layer that is left out has 1",
    )
    freeze: tuple[str, ...] | None = setting(
        None,
        either(NULL, LAYER_NAMES),
        "Layers that are not trained: their weights and running averages stay",
    )
    teacher: str | tuple[str, ...] | None = setting(
        None,
        either(STRING, names(100)),
        "Checkpoint of a trained network, or a list of several, whose probabilities are learned "
        "beside the labels",
    )
    teacher_weight: float = setting(
        0.5,
        number(at_least=0, at_most=1),
        "Weight of the teacher's loss; the labels get the remainder",
    )
    temperature: float = setting(
        4.0,
        number(above=0, at_most=1000),
        "The scores of teacher and network are divided by this before the softmax",
    )
    teacher_copies: int = setting(
        10,
        integer(1, 10_000),
        "Distorted copies of the training images that the teacher evaluates before training; each "
        "epoch uses the next one",
    )
    teacher_mixup: float = setting(
        0.0,
        number(at_least=0, at_most=1),
        "Probability of mixing such a copy with another image; the label is that of the larger "
        "component",
    )
    average: float = setting(
        0.0,
        number(at_least=0, below=1),
        "Decay per step of the running average of the weights, used for evaluation; 0 disables it",
    )
    best_metric: str = setting(
        "accuracy",
        choice(*SCORES),
        "Validation result by which the best epoch is chosen, for best.npz and early stopping; if "
        "tied, the one with the lower loss",
    )
    patience: int = setting(
        "auto",
        either(AUTO, integer(0, 100_000)),
        "Stop after this many epochs without a better validation result; 0 disables early "
        "stopping; auto is 0 for named data sets",
    )
    checkpoint_every: int | str | None = setting(
        None,
        either(integer(1, 10**9), SECONDS),
        "Also save every so many steps or seconds within epochs; null saves only after each epoch",
    )
    block: int | str = setting(
        "auto",
        either(choice("auto"), integer(1, 2**31 - 1)),
        "Maximum number of multiply-adds in one matrix product over many patches; auto is 1000000",
    )
    precision: str = setting(
        "float32", choice("float32", "float64"), "Floating-point type of weights and arithmetic"
    )


def _hyperparameters() -> dict[str, Any]:
    """Return a key for every hyperparameter of an optimizer; null is that optimizer's default."""
    found: dict[str, dict[str, Field[Any]]] = {}
    for name, rule in OPTIMIZERS.items():
        for key, declaration in hyperparameters(rule).items():
            found.setdefault(key, {})[name] = declaration
    return {
        key: declared(
            *rules.values(),
            null=True,
            doc=f"{next(iter(rules.values())).metadata['doc']}; null is the optimizer's default: "
            + ", ".join(f"{name} {one.default:g}" for name, one in rules.items()),
        )
        for key, rules in found.items()
    }


_RATES: Final = ", ".join(f"{name} {rule.default_lr:g}" for name, rule in OPTIMIZERS.items())


@dataclass(frozen=True, kw_only=True)
@with_keys(_hyperparameters())
class Optimizer(Checked):
    """The optimizer."""

    name: str = setting("nesterov", choice(*OPTIMIZERS), "Method")
    lr: float = setting(
        "auto",
        either(AUTO, number(above=0, below=1000)),
        "Learning rate; the highest value of the schedule; auto is the optimizer's default for "
        f"named data sets: {_RATES}",
    )
    lr_batch: int | None = setting(
        None,
        integer(1, 65_536),
        "Batch size that lr is meant for; for other batch sizes lr is scaled in proportion; null "
        "disables scaling",
    )
    weight_decay: float = setting(
        "auto",
        either(AUTO, number(at_least=0, below=1000)),
        "L2 penalty on the weights, not on the biases; decoupled from the gradient in adamw; auto "
        f"is {NAMED['optimizer.weight_decay']} for named data sets",
    )

    def hyperparameters(self) -> dict[str, float]:
        """Return the hyperparameters of the optimizer: those given, else its defaults."""
        given: dict[str, Any] = {}
        for name, key in hyperparameters(OPTIMIZERS[self.name]).items():
            value = getattr(self, name)
            given[name] = key.default if value is None else value
        return given


_SCHEDULE: Final = {key.name: key for key in fields(ScheduleOptions)}


@dataclass(frozen=True, kw_only=True)
@with_keys({name: declared(key) for name, key in _SCHEDULE.items() if name != "warmup"})
class Schedule(Checked):
    """The learning-rate schedule: lr times a factor for each step."""

    name: str = setting("cosine", choice(*SCHEDULES), "Schedule")
    warmup: float = setting(
        "auto",
        either(AUTO, number(**_SCHEDULE["warmup"].metadata["bounds"])),
        f"{_SCHEDULE['warmup'].metadata['doc']}; auto is 0 for named data sets",
    )

    def options(self) -> dict[str, float]:
        """Return the options of the schedule."""
        return {name: getattr(self, name) for name in _SCHEDULE}


@dataclass(frozen=True, kw_only=True)
class Output(Checked):
    """The output of a run."""

    dir: str = setting(
        "runs/default", STRING, "Run directory, for checkpoints, logs and the configuration"
    )


_limit = partial(option, at_least=0)


@dataclass(frozen=True)
class Tolerances:
    """The limits of a gate, with the defaults of a first baseline."""

    min_accuracy: float = _limit(0.85, "Lowest accuracy, whatever that of the baseline")
    max_loss: float = _limit(0.5, "Highest loss, whatever that of the baseline")
    accuracy_drop: float = _limit(
        0.01, "Fall of the accuracy below the baseline's, in absolute terms"
    )
    loss_rise: float = _limit(0.05, "Rise of the loss above the baseline's, as a fraction")
    first_losses: float = _limit(
        0.001,
        "Distance of the first ten losses from the baseline's, as abs(ln(measured / expected))",
    )
    curve: float = _limit(
        0.1, "Distance of the loss curve from the baseline's, as abs(ln(measured / expected))"
    )
    curve_rise: float = _limit(
        0.25, "Rise of the loss from one twentieth of the run to the next, as a fraction"
    )
    gradient_error: float = _limit(1e-6, "Relative error of a gradient, in float64")
    identity_error: float = _limit(1e-10, "Relative error of an identity, in float64")
    slowdown: float = _limit(
        0.12, "Loss of speed, as a fraction, on the baseline's processor and libraries"
    )
    slowdown_busy: float = _limit(
        0.13, "Loss of speed if a quarter of the time or more was spent waiting for a core"
    )
    slowdown_elsewhere: float = _limit(
        0.5, "Loss of speed on another processor or with other libraries"
    )


LIMITS: Final = {limit.name: limit for limit in fields(Tolerances)}

_LIMITS: Final = {
    name: declared(
        limit, null=True, doc=f"{limit.metadata['doc']}; initial value {limit.default:g}"
    )
    for name, limit in LIMITS.items()
}


@dataclass(frozen=True, kw_only=True)
@with_keys(_LIMITS)
class Regress(Checked):
    """Limits of lenet regress; null means the limit in the baseline file."""

    def given(self) -> dict[str, float]:
        """Return the limits that are not null."""
        return {name: value for name in LIMITS if (value := getattr(self, name)) is not None}
