"""The sections of the configuration: each key with its type, default, accepted values and meaning.

The checks, the comments of ``lenet config`` and the tables of docs/configuration.md are derived
from these declarations. Choices and defaults of optimizers, schedules, layers and data sets are
imported from where those are defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields, replace
from typing import Any, Final

from lenet.config.limits import LIMITS
from lenet.config.rules import (
    BOOLEAN,
    CLASS_WEIGHTS,
    LAYER_LIST,
    LAYER_NAMES,
    LAYER_RATES,
    NULL,
    SECONDS,
    STRING,
    Rule,
    accepted,
    choice,
    declared,
    either,
    integer,
    names,
    number,
    pair,
    sequence,
    setting,
    with_keys,
)
from lenet.data.augmentation import MAX_CROP
from lenet.data.catalogue import CATALOGUE
from lenet.data.degradation import DEGRADATIONS
from lenet.data.splits import MAX_VALIDATION
from lenet.errors import ConfigError
from lenet.models.lenet5 import POOLINGS
from lenet.models.packaged import MODELS, model_options, packaged_model
from lenet.models.specification import Entry, Specification, expanded
from lenet.nn.activations import FUNCTIONS
from lenet.nn.initializers import INITIALIZERS
from lenet.nn.scores import SCORES
from lenet.optim import OPTIMIZERS, hyperparameters
from lenet.optim.schedules import SCHEDULES, ScheduleOptions
from lenet.system.text import listed

LENET5: Final[dict[str, Any]] = model_options("lenet5")
AUTO: Final = choice("auto")
MAX_CLASS_WEIGHT: Final = 10
NAMED: Final[dict[str, Any]] = {
    "augment.auto": False,
    "model.name": "lenet5",
    "train.epochs": 8,
    "train.batch_size": 64,
    "train.class_weights": "none",
    "train.patience": 0,
    "optimizer.lr": 0.05,
    "optimizer.weight_decay": 5e-4,
    "schedule.warmup": ScheduleOptions.warmup,
}
"""What ``auto`` is for named data sets and images in memory; others: lenet/train/recipe.py."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Validates its own keys on construction."""

    def __post_init__(self) -> None:
        for key in own_settings(type(self)):
            value = accepted(key, self.dotted(key.name), getattr(self, key.name))
            object.__setattr__(self, key.name, value)

    @classmethod
    def dotted(cls, name: str) -> str:
        """Return the name of one of its keys in the complete configuration."""
        return f"{cls.__name__.lower()}.{name}"


def own_settings(section: type[Checked]) -> list[Field[Any]]:
    """Return the fields that are keys of a section itself."""
    return [key for key in fields(section) if "rule" in key.metadata]


@dataclass(frozen=True, kw_only=True)
class Data(Checked):
    """The data set."""

    name: str = setting(
        "strokes",
        choice(*CATALOGUE),
        "Data set; strokes is built in and needs no download; idx, folder, labelled, npz, csv, "
        "parquet and mat read your own files",
    )
    path: str | None = setting(
        None,
        either(NULL, STRING),
        "File or directory of your own data",
    )
    validation_path: str | None = setting(
        None,
        either(NULL, STRING),
        "File or directory of images for validation; null uses the validation part of the data, "
        "or some of the training images",
    )
    dir: str | None = setting(
        None,
        either(NULL, STRING),
        "Directory that is searched first, before the cache and the download",
    )
    train_images: str | None = setting(
        None, either(NULL, STRING), "IDX file of the training images; only with name idx"
    )
    train_labels: str | None = setting(
        None, either(NULL, STRING), "IDX file of the training labels; only with name idx"
    )
    test_images: str | None = setting(
        None, either(NULL, STRING), "IDX file of the test images; only with name idx"
    )
    test_labels: str | None = setting(
        None, either(NULL, STRING), "IDX file of the test labels; only with name idx"
    )
    size: tuple[int, int] | str | None = setting(
        "auto",
        either(NULL, choice("auto"), pair(integer(1, 4096))),
        "Height and width that every image file is scaled to; auto is their median, reduced to fit "
        "the network; null requires that all have the same",
    )
    label_column: str | int | None = setting(
        None,
        either(NULL, integer(-100_000, 100_000), STRING),
        "Column of the labels in a table: its name, or its number from 0; null means the one that "
        "is called label or class, or where it is plain",
    )
    label_pattern: str | None = setting(
        None,
        either(NULL, STRING),
        "Regular expression for labels in the names of image files; its first group is the label",
    )
    labels: str | None = setting(
        None,
        either(NULL, STRING),
        "CSV file of corrected labels with the columns path and label",
    )
    damaged: str = setting(
        "refuse",
        choice("refuse", "skip"),
        "What to do with image files that cannot be read",
    )
    transpose: bool = setting(False, BOOLEAN, "Exchange rows and columns of the images")
    invert: bool = setting(False, BOOLEAN, "Exchange dark and light")
    test_fraction: float = setting(
        0.2,
        number(above=0, below=1),
        "Fraction of each class used as the test set, if your own data have no test set",
    )
    class_names: tuple[str, ...] | None = setting(
        None,
        either(NULL, names(100_000)),
        "Classes of your own data: some or all of their names, in the order to use; or names for "
        "labels that are numbers; null means all, in alphabetical order",
    )
    validation: int | None = setting(
        None,
        either(NULL, integer(0, 10**9)),
        "Training images used for validation, to select the best epoch; null means "
        f"{MAX_VALIDATION}, or a fifth of fewer than {5 * MAX_VALIDATION}; 0 disables validation",
    )
    validation_seed: int = setting(
        0, integer(0, 2**63 - 1), "Seed of the random choice of validation images"
    )
    drawn: int = setting(
        0,
        integer(0, 60_000),
        "Built-in digits that are added to the training images, but not to the validation images; "
        "only where the classes are the digits",
    )
    limit: int | None = setting(
        None,
        either(NULL, integer(1, 10**9)),
        "Use only this many images of the training set, including those for validation: a random "
        "choice with as many of each class as possible",
    )

    @property
    def title(self) -> str:
        """The path of the user's own data, or the name of the data set."""
        return self.path or self.name


def _amount(degradation: str) -> Rule:
    return number(at_least=0, at_most=DEGRADATIONS[degradation].limit)


@dataclass(frozen=True, kw_only=True)
class Augment(Checked):
    """Random distortions of the training images; none if all ranges are zero."""

    auto: bool = setting(
        True,
        BOOLEAN,
        "Choose the ranges for your own images, if all are zero; no effect on named data sets",
    )

    rotation: float = setting(
        0.0, number(at_least=0, at_most=180), "Maximum rotation in either direction, in degrees"
    )
    scale: float = setting(
        0.0, number(at_least=0, below=0.5), "Maximum enlargement or reduction, as a fraction"
    )
    shear: float = setting(0.0, number(at_least=0, at_most=1), "Maximum shear in either direction")
    shift: float = setting(
        0.0, number(at_least=0, at_most=14), "Maximum shift along each axis, in pixels"
    )
    elastic_alpha: float = setting(
        0.0,
        number(at_least=0, at_most=1000),
        "Strength of the elastic field, in pixels: factor of smoothed uniform noise from -1 to 1",
    )
    elastic_sigma: float = setting(
        4.0,
        number(above=0, at_most=14),
        "Standard deviation of the Gaussian that smooths the elastic field, in pixels",
    )
    stretch: float = setting(
        0.0,
        number(at_least=0, at_most=1),
        "Probability with which the box of an image's ink is stretched to a square",
    )
    flip: float = setting(
        0.0,
        number(at_least=0, at_most=1),
        "Probability with which an image is mirrored, left to right",
    )
    crop: float = setting(
        0.0,
        number(at_least=0, at_most=MAX_CROP),
        "Maximum fraction of each side that is left out: a window at a random place is enlarged to "
        "the whole image",
    )
    stroke: float = setting(
        0.0,
        _amount("stroke"),
        "Maximum movement of the edges of strokes, which become thicker or thinner, in pixels",
    )
    gaps: float = setting(0.0, _amount("gaps"), "Maximum number of gaps of 3 pixels in strokes")
    line: float = setting(
        0.0, _amount("line"), "Maximum width of a straight line across the image, in pixels"
    )
    blur: float = setting(
        0.0, _amount("blur"), "Maximum standard deviation of a Gaussian blur, in pixels"
    )
    faint: float = setting(
        0.0, _amount("faint"), "Maximum fraction of the difference from the background that is lost"
    )
    brightness: float = setting(
        0.0, _amount("brightness"), "Maximum change of brightness, as a fraction of all levels"
    )
    contrast: float = setting(0.0, _amount("contrast"), "Maximum change of contrast, as a fraction")
    noise: float = setting(
        0.0, _amount("noise"), "Maximum standard deviation of added noise, in levels from 0 to 255"
    )
    chance: float = setting(
        0.3,
        number(above=0, at_most=1),
        "Probability with which an image gets each of stroke, gaps, line, blur, faint, brightness, "
        "contrast and noise",
    )


@dataclass(frozen=True, kw_only=True)
class Model(Checked):
    """The network: a packaged network by name, or a list of layers."""

    name: str = setting(
        "auto",
        choice("auto", *MODELS),
        "Packaged network; auto compares lenet5 and mini-vgg on your own images, and is lenet5 for "
        "named data sets; ignored if layers is given",
    )
    layers: tuple[Entry, ...] | None = setting(
        None,
        either(NULL, LAYER_LIST),
        "The network as a list with one layer per line: type, name and options of the type; "
        "`lenet config --model lenet5` prints an example",
    )
    input: tuple[int, int, int] | None = setting(
        None,
        either(NULL, sequence(integer(1, 4096), 3)),
        "Channels, height and width of the input; null means input_size, with the channels of the "
        "images, or with one for layers",
    )
    scale: float | None = setting(
        None,
        either(NULL, number(above=-1e6, below=1e6)),
        "The input is pixel * scale + shift, with pixels from 0 to 255; null is the default of the "
        "network: 1.275/255, or 1/256 for caffe-lenet",
    )
    shift: float | None = setting(
        None,
        either(NULL, number(above=-1e6, below=1e6)),
        "See scale; null is the default of the network: -0.1, or 0 for caffe-lenet",
    )
    input_size: int = setting(
        LENET5["input_size"],
        integer(28, 512),
        "lenet5: height and width of the input; smaller images are padded with background",
    )
    channels: tuple[int, int] = setting(
        LENET5["channels"], pair(integer(1, 4096)), "lenet5: filters of C1 and of C3"
    )
    units: tuple[int, int] = setting(
        LENET5["units"], pair(integer(1, 4096)), "lenet5: units of C5 and of F6"
    )
    classes: int | None = setting(
        None,
        either(NULL, integer(2, 100_000)),
        "Number of classes; null means that of the data set or, with layers, the outputs of the "
        "last layer",
    )
    activation: str = setting(
        LENET5["activation"],
        choice(*FUNCTIONS),
        "lenet5: activation; lecun_tanh is 1.7159 tanh(2x/3)",
    )
    pooling: str = setting(LENET5["pooling"], choice(*POOLINGS), "lenet5: pooling of S2 and S4")
    initializer: str | None = setting(
        None,
        either(NULL, choice(*INITIALIZERS)),
        "Initial weights of layers that do not set their own; null is the default of the network",
    )
    fuse: str = setting(
        "auto",
        choice("auto", "off"),
        "auto fuses convolution, activation and pooling into one product; off keeps them separate",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers is None:
            self._check_packaged()
        else:
            self._complete_layers()

    def specification(self) -> Specification:
        """Return the network as data."""
        if self.layers is not None and self.input is not None:
            made = Specification(self.input, self.layers)
        else:
            known = model_options(self.network)
            made = packaged_model(
                self.network,
                {k: getattr(self, k) for k in known if getattr(self, k) is not None},
            )
            made = replace(made, input_shape=self.input or made.input_shape)
        own = {k: getattr(self, k) for k in ("scale", "shift", "initializer")}
        return replace(made, **{k: v for k, v in own.items() if v is not None})

    @property
    def network(self) -> str:
        """The name of the packaged network; lenet5 until ``auto`` has been decided."""
        return "lenet5" if self.name == "auto" else self.name

    def _check_packaged(self) -> None:
        """Reject options of another packaged network, and an input that it cannot take."""
        known = model_options(self.network)
        if self.input is not None:
            self.specification().classes()
        if "classes" not in known and self.classes is not None:
            self._check_outputs(self.classes)
        for key in LENET5:
            if key not in {*known, "classes"} and getattr(self, key) != getattr(Model, key):
                raise ConfigError(
                    f"is not an option of {self.name}",
                    remedy=f"its options are {listed(known, 'and')}" if known else "remove it",
                    key=f"model.{key}",
                )

    def _check_outputs(self, classes: int) -> None:
        outputs = packaged_model(self.name).classes()
        if classes != outputs:
            raise ConfigError(
                f"{self.name} has {outputs} outputs, not {classes}",
                remedy="choose another network, or write it as layers "
                f"(lenet config --model {self.name}) and change the last one",
                key="model.name",
            )

    def _complete_layers(self) -> None:
        """Complete the entries, the input and the classes, and check that the layers fit."""
        for key in ("channels", "units", "activation", "pooling"):
            if getattr(self, key) != LENET5[key]:
                raise ConfigError(
                    "is an option of lenet5, but model.layers is given",
                    remedy="remove one of the two",
                    key=f"model.{key}",
                )
        object.__setattr__(self, "layers", expanded(self.layers))
        size = self.input_size
        object.__setattr__(self, "input", self.input or (1, size, size))
        classes = self.specification().classes()
        if self.classes not in (classes, LENET5["classes"], None):
            raise ConfigError(
                f"is {self.classes}, but the last of model.layers gives {classes} scores",
                remedy=f"set model.classes to {classes}, or remove it",
                key="model.classes",
            )
        object.__setattr__(self, "classes", classes)


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
        either(NULL, STRING, names(100)),
        "Checkpoint of a trained network, or a list of several, whose probabilities are learned "
        "beside the labels",
    )
    teacher_weight: float = setting(
        0.5,
        number(at_least=0, at_most=1),
        "Share of the teacher in the loss; the rest is the labels'",
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
        "Probability with which such a copy is mixed with another image; it keeps the label of its "
        "larger part",
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
        either(NULL, integer(1, 10**9), SECONDS),
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
    options: dict[str, dict[str, Field[Any]]] = {}
    for name, rule in OPTIMIZERS.items():
        for option, declaration in hyperparameters(rule).items():
            options.setdefault(option, {})[name] = declaration
    return {
        option: declared(
            *rules.values(),
            null=True,
            doc=f"{next(iter(rules.values())).metadata['doc']}; null is the optimizer's default: "
            + ", ".join(f"{name} {key.default:g}" for name, key in rules.items()),
        )
        for option, rules in options.items()
    }


@dataclass(frozen=True, kw_only=True)
@with_keys(_hyperparameters())
class Optimizer(Checked):
    """The optimizer."""

    name: str = setting("nesterov", choice(*OPTIMIZERS), "Method")
    lr: float = setting(
        "auto",
        either(AUTO, number(above=0, below=1000)),
        "Learning rate; the highest value of the schedule; auto is "
        f"{NAMED['optimizer.lr']} for named data sets",
    )
    lr_batch: int | None = setting(
        None,
        either(NULL, integer(1, 65_536)),
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


_SCHEDULE: Final = {option.name: option for option in fields(ScheduleOptions)}


@dataclass(frozen=True, kw_only=True)
@with_keys({name: declared(option) for name, option in _SCHEDULE.items() if name != "warmup"})
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


_LIMITS: Final = {
    name: setting(
        None,
        either(NULL, number(at_least=0)),
        f"{limit.metadata['doc']}; initial value {limit.default:g}",
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
