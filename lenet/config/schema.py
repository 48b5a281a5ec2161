"""The configuration: YAML into frozen, validated dataclasses.

Every key is declared once, in its section, with its type, default, what it accepts and what it
means. From that declaration come the checks, the comments of ``lenet config`` and the tables of
docs/configuration.md. Choices and defaults that belong to an optimizer, a schedule, a layer or a
data set are taken from where that is defined.

In order: the sections, the whole, from nested values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from lenet.config.rules import (
    LAYER_LIST,
    NULL,
    SECONDS,
    TEXT,
    accepted,
    choice,
    either,
    number,
    pair,
    sequence,
    setting,
    shown,
    whole,
)
from lenet.data.catalogue import CATALOGUE
from lenet.models.lenet5 import POOLINGS
from lenet.models.packaged import MODELS, model_options, packaged_model
from lenet.models.specification import Entry, Specification, expanded
from lenet.nn.activations import FUNCTIONS
from lenet.nn.initializers import INITIALIZERS
from lenet.optim.optimizers import OPTIMIZERS, SGD, Adam
from lenet.optim.schedules import SCHEDULES, ScheduleOptions
from lenet.system.errors import ConfigError
from lenet.system.text import clipped, listed, nearest

if TYPE_CHECKING:
    pass

LENET5: Final[dict[str, Any]] = model_options("lenet5")

# --- The sections -------------------------------------------------------------------------------


class _Checked:
    """Checks the keys of its own when it is made, whatever makes it."""

    def __post_init__(self) -> None:
        for key in _own_settings(type(self)):
            prefix = "" if isinstance(self, Config) else f"{type(self).__name__.lower()}."
            value = accepted(key, prefix + key.name, getattr(self, key.name))
            object.__setattr__(self, key.name, value)


def _own_settings(section: type) -> list[Field[Any]]:
    return [key for key in fields(section) if "rule" in key.metadata]


@dataclass(frozen=True, kw_only=True)
class Data(_Checked):
    """The images to learn from."""

    name: str = setting(
        "strokes",
        choice(*CATALOGUE),
        "Data set; strokes is built in and needs no download, idx means files of your own",
    )
    dir: str | None = setting(
        None,
        either(NULL, TEXT),
        "Directory to look in first, before the cache and the download",
    )
    train_images: str | None = setting(
        None, either(NULL, TEXT), "IDX file of the training images; with name idx only"
    )
    train_labels: str | None = setting(
        None, either(NULL, TEXT), "IDX file of the training labels; with name idx only"
    )
    test_images: str | None = setting(
        None, either(NULL, TEXT), "IDX file of the test images; with name idx only"
    )
    test_labels: str | None = setting(
        None, either(NULL, TEXT), "IDX file of the test labels; with name idx only"
    )
    validation: int = setting(
        5000,
        whole(0, 10**9),
        "Images of the training set held out to choose the best epoch; 0 holds out none",
    )
    validation_seed: int = setting(
        0, whole(0, 2**63 - 1), "Seed of the choice of the images held out"
    )
    limit: int | None = setting(
        None,
        either(NULL, whole(1, 10**9)),
        "Use only the first so many images of the training set, those held out included",
    )


@dataclass(frozen=True, kw_only=True)
class Augment(_Checked):
    """Random distortions of every training image; all zero means none."""

    rotation: float = setting(
        0.0, number(at_least=0, at_most=180), "Rotate by up to so many degrees either way"
    )
    scale: float = setting(
        0.0, number(at_least=0, below=0.5), "Grow or shrink by up to this fraction"
    )
    shear: float = setting(0.0, number(at_least=0, at_most=1), "Shear by up to this, either way")
    shift: float = setting(
        0.0, number(at_least=0, at_most=14), "Shift by up to so many pixels along each axis"
    )
    elastic_alpha: float = setting(
        0.0,
        number(at_least=0, at_most=1000),
        "Strength of the elastic field, in pixels: smoothed uniform noise from -1 to 1, times this",
    )
    elastic_sigma: float = setting(
        4.0,
        number(above=0, at_most=14),
        "Standard deviation of the Gaussian that smooths the elastic field, in pixels",
    )


@dataclass(frozen=True, kw_only=True)
class Model(_Checked):
    """The network: a packaged one by its name, or a list of layers."""

    name: str = setting("lenet5", choice(*MODELS), "Packaged network; layers takes its place")
    layers: tuple[Entry, ...] | None = setting(
        None,
        either(NULL, LAYER_LIST),
        "The network as a list, a layer a line: type, name and that type's options; "
        "`lenet config --model lenet5` prints one to edit",
    )
    input: tuple[int, int, int] | None = setting(
        None,
        either(NULL, sequence(whole(1, 4096), 3)),
        "Channels, height and width of the input of layers; null is one channel of input_size",
    )
    scale: float | None = setting(
        None,
        either(NULL, number(above=-1e6, below=1e6)),
        "The input is pixel * scale + shift, for pixels from 0 to 255; null is the network's own: "
        "1.275/255, but 1/256 for caffe-lenet",
    )
    shift: float | None = setting(
        None,
        either(NULL, number(above=-1e6, below=1e6)),
        "See scale; null is the network's own: -0.1, but 0 for caffe-lenet",
    )
    input_size: int = setting(
        LENET5["input_size"],
        whole(28, 512),
        "lenet5: height and width of the input; images are padded with background to it",
    )
    channels: tuple[int, int] = setting(
        LENET5["channels"], pair(whole(1, 4096)), "lenet5: filters of C1 and of C3"
    )
    units: tuple[int, int] = setting(
        LENET5["units"], pair(whole(1, 4096)), "lenet5: units of C5 and of F6"
    )
    classes: int = setting(
        LENET5["classes"],
        whole(2, 100_000),
        "Classes, as many as the data set has; with layers, the scores of the last one",
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
        "Distribution of the initial weights of layers that name none; null is the network's own",
    )
    fuse: str = setting(
        "auto",
        choice("auto", "off"),
        "auto runs convolution, activation and pooling as one product; off, one by one",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers is None:
            self._check_packaged()
        else:
            self._complete_layers()

    def specification(self) -> Specification:
        """Return the network as data.

        Raises
        ------
        ConfigError
            A layer does not fit what comes in.
        """
        if self.layers is not None and self.input is not None:
            made = Specification(self.input, self.layers)
        else:
            known = model_options(self.name)
            made = packaged_model(
                self.name,
                {k: getattr(self, k) for k in known if getattr(self, k) is not None},
            )
        own = {k: getattr(self, k) for k in ("scale", "shift", "initializer")}
        return replace(made, **{k: v for k, v in own.items() if v is not None})

    def _check_packaged(self) -> None:
        """Refuse options of another packaged network, and an input without layers."""
        known = model_options(self.name)
        if self.input is not None:
            raise ConfigError(
                "goes with model.layers only",
                remedy="give the layers, or remove the input",
                key="model.input",
            )
        for key in LENET5:
            if key not in known and getattr(self, key) != LENET5[key] and key != "initializer":
                raise ConfigError(
                    f"is no option of {self.name}",
                    remedy=f"its options are {listed(known, 'and')}" if known else "remove it",
                    key=f"model.{key}",
                )

    def _complete_layers(self) -> None:
        """Write out the entries, the input and the classes, and check that the layers fit."""
        for key in ("channels", "units", "activation", "pooling"):
            if getattr(self, key) != LENET5[key]:
                raise ConfigError(
                    "is an option of lenet5, and model.layers is given",
                    remedy="remove one of the two",
                    key=f"model.{key}",
                )
        object.__setattr__(self, "layers", expanded(self.layers))
        size = self.input_size
        object.__setattr__(self, "input", self.input or (1, size, size))
        classes = self.specification().classes()
        if self.classes not in (classes, LENET5["classes"]):
            raise ConfigError(
                f"is {self.classes}, but the last of model.layers gives {classes} scores",
                remedy=f"set model.classes to {classes}, or remove it",
                key="model.classes",
            )
        object.__setattr__(self, "classes", classes)


@dataclass(frozen=True, kw_only=True)
class Train(_Checked):
    """The training run."""

    epochs: int = setting(8, whole(1, 100_000), "Passes over the training set")
    batch_size: int = setting(64, whole(1, 65_536), "Images a step")
    workers: int | str = setting(
        "auto",
        either(choice("auto", "mpi"), whole(1, 1024)),
        "Processes that share every batch; auto takes what this machine has cores for, mpi those "
        "that mpiexec started",
    )
    label_smoothing: float = setting(
        0.0,
        number(at_least=0, below=1),
        "Part of every label's probability that is spread over all classes",
    )
    average: float = setting(
        0.0,
        number(at_least=0, below=1),
        "Decay a step of the running average of the weights that is evaluated; 0 is off",
    )
    patience: int = setting(
        0,
        whole(0, 100_000),
        "Stop after so many epochs without a better validation result; 0 never stops early",
    )
    checkpoint_every: int | str | None = setting(
        None,
        either(NULL, whole(1, 10**9), SECONDS),
        "Save within epochs too, every so many steps or seconds; null saves after each epoch",
    )
    block: int | str = setting(
        "auto",
        either(choice("auto"), whole(1, 2**31 - 1)),
        "Most multiply-adds of one matrix product over many patches; auto is 1000000",
    )
    precision: str = setting(
        "float32", choice("float32", "float64"), "Floating-point type of weights and arithmetic"
    )


@dataclass(frozen=True, kw_only=True)
class Optimizer(_Checked):
    """How the weights follow the gradient."""

    name: str = setting("nesterov", choice(*OPTIMIZERS), "Method")
    lr: float = setting(
        0.05, number(above=0, below=1000), "Learning rate; the highest that the schedule reaches"
    )
    lr_batch: int | None = setting(
        None,
        either(NULL, whole(1, 65_536)),
        "Batch size that lr is meant for: with another, lr grows in proportion; null takes lr as "
        "it is",
    )
    momentum: float = setting(
        SGD.momentum, number(at_least=0, below=1), "Momentum of sgd and nesterov"
    )
    weight_decay: float = setting(
        5e-4,
        number(at_least=0, below=1000),
        "L2 penalty on the weights, not on the biases; decoupled from the gradient in adamw",
    )
    beta1: float = setting(
        Adam.beta1,
        number(at_least=0, below=1),
        "adam and adamw: decay of the mean of the gradient",
    )
    beta2: float = setting(
        Adam.beta2, number(at_least=0, below=1), "adam and adamw: decay of the mean of its square"
    )
    epsilon: float = setting(
        Adam.epsilon,
        number(above=0, at_most=1),
        "adam and adamw: added to the root of the mean square",
    )


@dataclass(frozen=True, kw_only=True)
class Schedule(_Checked):
    """The learning rate over the run: lr times a factor for each step."""

    name: str = setting(
        "cosine",
        choice(*SCHEDULES),
        "Course of the learning rate",
    )
    warmup: float = setting(
        ScheduleOptions.warmup,
        number(at_least=0, at_most=100_000),
        "Epochs in which the learning rate first rises in a straight line, such as 0.5",
    )
    step_epochs: float = setting(
        ScheduleOptions.step_epochs,
        number(above=0, at_most=100_000),
        "step: epochs between two drops",
    )
    gamma: float = setting(
        ScheduleOptions.gamma,
        number(above=0, at_most=1),
        "step: factor of each drop; exponential: factor an epoch (0.9, say); "
        "inv: lr (1 + gamma t)^-power after t steps (0.0001, say)",
    )
    power: float = setting(ScheduleOptions.power, number(above=0, at_most=10), "inv: exponent")
    final: float = setting(
        ScheduleOptions.final,
        number(at_least=0, at_most=1),
        "cosine and one-cycle: fraction of lr that is left at the end",
    )
    peak: float = setting(
        ScheduleOptions.peak,
        number(above=0, below=1),
        "one-cycle: fraction of the run in which the rate rises, from lr/25 to lr",
    )


@dataclass(frozen=True, kw_only=True)
class Output(_Checked):
    """What the run leaves behind."""

    dir: str = setting("runs/default", TEXT, "Directory of checkpoints, log and configuration")


# --- The whole ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Config(_Checked):
    """A complete, valid configuration; without arguments, the default one.

    Raises
    ------
    ConfigError
        A value, or two values together, make no sense; ``key`` is the dotted key.

    Examples
    --------
    >>> Config().optimizer.lr
    0.05
    >>> Config(train=Train(epochs=0))
    Traceback (most recent call last):
    lenet.system.errors.ConfigError: train.epochs: must be a whole number from 1 to 100000, is 0;
    the default is 8
    """

    seed: int = setting(
        0, whole(0, 2**63 - 1), "Seed of weights, shuffling and distortions: same seed, same run"
    )
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_files(self.data)
        _check_elastic_field(self.augment)
        _check_lengths(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object], *, file: str | None = None) -> Config:
        """Check ``values`` (section, key, value) as those of a file; missing keys get the default.

        Parameters
        ----------
        values
            What :meth:`to_dict` gives, or a part of it.
        file
            The file to name in an error.

        Raises
        ------
        ConfigError
            An unknown key, or a value that is not accepted.
        """
        try:
            return built(flattened(values))
        except ConfigError as error:
            error.file = file
            raise

    def to_dict(self) -> dict[str, Any]:
        """Return sections, keys and values as JSON and YAML know them."""
        nested: dict[str, Any] = {}
        for dotted, value in self._flat().items():
            section, _, name = dotted.rpartition(".")
            place = nested.setdefault(section, {}) if section else nested
            place[name] = list(value) if isinstance(value, tuple) else value
        return nested

    def with_values(self, values: Mapping[str, object]) -> Config:
        """Return a copy with other values at some dotted keys, checked as a whole.

        Examples
        --------
        >>> Config().with_values({"train.epochs": 2, "seed": 1}).train.epochs
        2
        """
        return built({**self._flat(), **values})

    def _flat(self) -> dict[str, Any]:
        return {dotted: attrgetter(dotted)(self) for dotted in SETTINGS}


SECTIONS: Final[dict[str, type]] = {
    section.__name__.lower(): section
    for section in (Data, Augment, Model, Train, Optimizer, Schedule, Output)
}
SETTINGS: Final[dict[str, Field[Any]]] = {
    **{key.name: key for key in _own_settings(Config)},
    **{
        f"{name}.{key.name}": key
        for name, section in SECTIONS.items()
        for key in _own_settings(section)
    },
}


def differences(a: Config, b: Config) -> list[str]:
    """Return the dotted keys whose values differ, in the order of declaration.

    Examples
    --------
    >>> differences(Config(), Config(seed=1, train=Train(epochs=2)))
    ['seed', 'train.epochs']
    """
    return [dotted for dotted in SETTINGS if attrgetter(dotted)(a) != attrgetter(dotted)(b)]


def _check_files(data: Data) -> None:
    """Files by path belong to ``name: idx``, all four of them."""
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        given = getattr(data, name) is not None
        if data.name == "idx" and not given:
            raise ConfigError(
                "is missing: data.name is idx",
                remedy="give the four files, train_images, train_labels, test_images, test_labels",
                key=f"data.{name}",
            )
        if data.name != "idx" and given:
            raise ConfigError(
                f"goes with data.name idx only, which is {data.name}",
                remedy="set data.name to idx, or remove the file",
                key=f"data.{name}",
            )


def _check_elastic_field(augment: Augment) -> None:
    """Refuse an elastic field that folds the image, by the rule of ``data/augment.py``.

    The field's slope has the standard deviation alpha / (2·√(6π)·σ²) (uniform noise: 1/√3; a
    Gaussian of σ pixels leaves 1/(2√π·σ) of it; the slope is 1/(√2·σ) of the field). The image
    folds where the slope reaches -1, which must be four deviations away.
    """
    strongest = 2 * math.sqrt(6 * math.pi) * augment.elastic_sigma**2 / 4
    if augment.elastic_alpha > strongest:
        raise ConfigError(
            f"{augment.elastic_alpha:g} folds the image with elastic_sigma "
            f"{augment.elastic_sigma:g}",
            remedy=f"lower it to {math.floor(10 * strongest) / 10:g} or less, or raise "
            "augment.elastic_sigma",
            key="augment.elastic_alpha",
        )


def _check_lengths(config: Config) -> None:
    """Hold counts of images and epochs against each other."""
    data, train, schedule = config.data, config.train, config.schedule
    if data.limit is not None and data.validation >= data.limit:
        raise ConfigError(
            f"{data.validation} held out of data.limit {data.limit} leave none to train on",
            remedy="lower data.validation, or raise data.limit",
            key="data.validation",
        )
    if train.patience and not data.validation:
        raise ConfigError(
            "needs images held out, and data.validation is 0",
            remedy="set data.validation above 0, or train.patience to 0",
            key="train.patience",
        )
    if schedule.warmup > train.epochs:
        raise ConfigError(
            f"{schedule.warmup:g} epochs are longer than train.epochs {train.epochs}",
            remedy="lower schedule.warmup, or raise train.epochs",
            key="schedule.warmup",
        )


# --- From nested values --------------------------------------------------------------------------


def flattened(values: Mapping[str, object]) -> dict[str, object]:
    """Return dotted keys and values; refuse unknown keys and sections that are none."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        if name not in SECTIONS:
            if name in SETTINGS and "." in name:
                section, _, key = name.partition(".")
                raise ConfigError(
                    "is written with a dot", remedy=f"put {key} under {section}:", key=name
                )
            check_known(str(name))
            flat[name] = value
        elif isinstance(value, Mapping):
            for key in value:
                check_known(f"{name}.{key}")
            flat.update((f"{name}.{key}", inner) for key, inner in value.items())
        elif value is not None:  # a section without a key, all of them commented out, is fine
            raise ConfigError(
                f"must be a section of keys, is {shown(value)}",
                remedy=f"write its keys under it, such as {_first_key(name)}",
                key=name,
            )
    return flat


def built(flat: Mapping[str, object]) -> Config:
    """Make the configuration of dotted keys and values."""
    arguments: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for dotted, value in flat.items():
        check_known(dotted)
        section, _, name = dotted.rpartition(".")
        (sections.setdefault(section, {}) if section else arguments)[name] = value
    made = {name: SECTIONS[name](**keys) for name, keys in sections.items()}
    return Config(**arguments, **made)


def check_known(dotted: str) -> None:
    """Refuse an unknown key, with the one that is meant: of that name elsewhere, or nearest."""
    if dotted in SETTINGS:
        return
    section, _, name = dotted.rpartition(".")
    problem = "unknown key"
    beside = [known for known in (*SETTINGS, *SECTIONS) if known.rpartition(".")[0] == section]
    if dotted in SECTIONS:
        problem, remedy = "is a section", f"name one of its keys, such as {_first_key(dotted)}"
    elif section and section not in SECTIONS:
        near = nearest(section, SECTIONS)
        problem = f"there is no section {clipped(section)}"
        remedy = f"did you mean {near}?" if near else f"sections are {listed(SECTIONS, 'and')}"
    elif elsewhere := [known for known in SETTINGS if known.rpartition(".")[2] == name]:
        home = elsewhere[0].rpartition(".")[0]
        where = f", in section {home}" if home else ", at the top level"
        remedy = f"did you mean {listed(elsewhere, 'or')}{where if len(elsewhere) == 1 else ''}?"
    elif near := _nearest_key(name, beside) or _nearest_key(name, SETTINGS):
        remedy = f"did you mean {near}?"
    else:
        remedy = f"known here are {listed(beside, 'and')}"
    raise ConfigError(problem, remedy=remedy, key=clipped(dotted))


def _first_key(section: str) -> str:
    return f"{section}.{fields(SECTIONS[section])[0].name}"


def _nearest_key(name: str, known: Iterable[str]) -> str | None:
    """Return the first of the dotted keys whose last part is nearest to ``name``."""
    by_name: dict[str, str] = {}
    for dotted in known:
        by_name.setdefault(dotted.rpartition(".")[2], dotted)
    near = nearest(name, by_name)
    return None if near is None else by_name[near]
