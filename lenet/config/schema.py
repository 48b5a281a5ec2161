"""The complete configuration as a frozen, validated dataclass.

In order: the configuration, the checks of keys against each other, conversion from nested values,
writing as commented YAML and as the tables of its reference page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from operator import attrgetter
from textwrap import wrap
from typing import Any, Final

from lenet.config.data_section import Augment, Data, check_elastic_field, check_files
from lenet.config.model_section import LENET5, Model
from lenet.config.rules import Checked, as_yaml, integer, own_settings, setting, shown
from lenet.config.sections import (
    NAMED,
    Optimizer,
    Output,
    Regress,
    Schedule,
    Train,
)
from lenet.data.catalogue import CATALOGUE, FORMATS
from lenet.data.splits import validation_count
from lenet.errors import ConfigError
from lenet.models.specification import Specification, layer_lines
from lenet.optim import OPTIMIZERS
from lenet.system.text import clipped, listed, nearest

# --- The complete configuration ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Config(Checked):
    """A complete, valid configuration; without arguments, the defaults.

    Examples
    --------
    >>> Config().optimizer.lr
    0.05
    >>> Config(train=Train(epochs=0))
    Traceback (most recent call last):
    lenet.errors.ConfigError: train.epochs: must be auto or an integer from 1 to 100000, is 0;
    the default is auto
    """

    seed: int = setting(
        0,
        integer(0, 2**63 - 1),
        "Seed of initial weights, shuffling and distortions; the same seed gives the same run",
    )
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    output: Output = field(default_factory=Output)
    regress: Regress = field(default_factory=Regress)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data.name not in FORMATS:
            named = {**NAMED, "optimizer.lr": _default_lr(self)}
            for section, values in _by_section({key: named[key] for key in self.open()}).items():
                object.__setattr__(self, section, replace(getattr(self, section), **values))
        check_files(self.data)
        check_elastic_field(self.augment)
        _check_lengths(self)

    @classmethod
    def dotted(cls, name: str) -> str:
        return name

    @classmethod
    def from_dict(cls, values: Mapping[str, object], *, file: str | None = None) -> Config:
        """Return the configuration of nested ``values``; missing keys get defaults."""
        try:
            return built(flattened(values))
        except ConfigError as error:
            error.file = file
            raise

    def to_dict(self) -> dict[str, Any]:
        """Return sections, keys and values as types of JSON and YAML."""
        nested: dict[str, Any] = {}
        for dotted, value in self._flat().items():
            section, _, name = dotted.rpartition(".")
            place = nested.setdefault(section, {}) if section else nested
            place[name] = list(value) if isinstance(value, tuple) else value
        return nested

    def open(self) -> list[str]:
        """Return the keys whose values are chosen when the training images are known."""
        values = {key: attrgetter(key)(self) for key in NAMED}
        return [key for key, value in values.items() if value == "auto" or value is True]

    def completed_by(self, other: Config) -> Config:
        """Return a copy in which what is chosen for the user's data, or a start, is ``other``'s."""
        if self.data.name not in FORMATS and self.train.start is None:
            return self
        defaults = {key: SETTINGS[key].default for key in SETTINGS if _is_chosen(key)}
        mine, theirs = self._flat(), other._flat()
        return self.with_values({k: theirs[k] for k, v in defaults.items() if mine[k] == v})

    def with_values(self, values: Mapping[str, object]) -> Config:
        """Return a copy with new values for some dotted keys, validated as a whole.

        Examples
        --------
        >>> Config().with_values({"train.epochs": 2, "seed": 1}).train.epochs
        2
        >>> Config().with_values({"optimizer.name": "adam"}).optimizer.lr
        0.001
        """
        flat, name = self._flat(), self.optimizer.name
        if values.get("optimizer.name", name) != name and self.optimizer.lr == _default_lr(self):
            flat["optimizer.lr"] = "auto"  # another optimizer has another rate
        return built({**flat, **values})

    def for_data(self, classes: int, channels: int, data: str) -> Config:
        """Return a copy whose network has the classes and the channels of data.

        Examples
        --------
        >>> Config().for_data(10, 3, "cifar-10").model.input
        (3, 32, 32)
        """
        model = self.model
        if model.layers is not None and model.classes != classes:
            last = model.layers[-1]["name"]
            raise ConfigError(
                f"the last layer, {last}, gives {model.classes} scores, but {data} has {classes} "
                "classes",
                remedy=f"make it give {classes}, or use other data",
                key="model.layers",
            )
        if model.classes not in (classes, None):
            raise ConfigError(
                f"is {model.classes}, but {data} has {classes} classes",
                remedy=f"set it to {classes}, or remove it",
                key="model.classes",
            )
        values: dict[str, object] = {"model.classes": classes}
        if model.input is None and channels != 1:
            _, H, W = model.specification().input_shape
            values["model.input"] = channels, H, W
        return self.with_values(values)

    def for_named_data(self) -> Config:
        """Return a copy for the data set, if its name determines classes and channels."""
        source = CATALOGUE[self.data.name]
        classes = len(source.class_names)
        if not classes or self.model.classes not in (None, classes):
            return self
        return self.for_data(classes, source.channels, self.data.name)

    def with_layers(self) -> Config:
        """Return a copy whose network is written out as a list of layers.

        Examples
        --------
        >>> Config().with_layers().model.layers[0]
        {'type': 'convolution', 'name': 'C1', 'filters': 6, 'kernel': 5}
        """
        made = self.model.specification()
        options = {f"model.{key}": getattr(Model, key) for key in LENET5}
        scaling = {
            f"model.{key}": getattr(made, key)
            for key in ("scale", "shift")
            if getattr(made, key) != getattr(Specification, key)
        }
        return self.with_values(
            {
                **options,
                **scaling,
                "model.layers": made.layers,
                "model.input": made.input_shape,
                "model.initializer": made.initializer,
            }
        )

    def _flat(self) -> dict[str, Any]:
        return {dotted: attrgetter(dotted)(self) for dotted in SETTINGS}


def _default_lr(config: Config) -> float:
    return OPTIMIZERS[config.optimizer.name].default_lr


def _is_chosen(dotted: str) -> bool:
    """Return whether a key may be chosen when the training images are known."""
    chosen = {*NAMED, "train.layer_rates"}
    return dotted in chosen or dotted.startswith(("augment.", "model."))


SECTIONS: Final[dict[str, type[Checked]]] = {
    section.__name__.lower(): section
    for section in (Data, Augment, Model, Train, Optimizer, Schedule, Output, Regress)
}
SETTINGS: Final[dict[str, Field[Any]]] = {
    **{key.name: key for key in own_settings(Config)},
    **{
        f"{name}.{key.name}": key
        for name, section in SECTIONS.items()
        for key in own_settings(section)
    },
}


def differences(a: Config, b: Config) -> list[str]:
    """Return the dotted keys whose values differ, in the order of declaration.

    Examples
    --------
    >>> differences(Config(), Config(seed=1, train=Train(epochs=2)))
    ['seed', 'train.epochs']
    """
    return [dotted for dotted in SETTINGS if _effective(a, dotted) != _effective(b, dotted)]


def _effective(config: Config, dotted: str) -> object:
    """Return the value of a key; null is that of the network, named data set or optimizer."""
    if dotted == "model.initializer":
        return config.model.specification().initializer
    if dotted in ("model.classes", "model.input"):
        config = config.for_named_data()
    if dotted == "data.validation" and (count := CATALOGUE[config.data.name].count):
        return validation_count(config.data.validation, min(count, config.data.limit or count))
    section, _, name = dotted.rpartition(".")
    if section == "optimizer" and name not in ("name", "lr", "lr_batch", "weight_decay"):
        return config.optimizer.hyperparameters().get(name)
    return attrgetter(dotted)(config)


def _check_lengths(config: Config) -> None:
    """Check counts of images and epochs against each other."""
    data, train, schedule = config.data, config.train, config.schedule
    if data.limit is not None and (data.validation or 0) >= data.limit:
        raise ConfigError(
            f"is {data.validation}, which leaves none of data.limit {data.limit} to train on",
            remedy="lower data.validation, or raise data.limit",
            key="data.validation",
        )
    if data.drawn and (data.limit is not None or data.name in ("arrays", "strokes")):
        other = "images given in Python" if data.name == "arrays" else "data.name strokes"
        raise ConfigError(
            f"cannot be used with {'data.limit' if data.limit else other}",
            remedy="set it to 0",
            key="data.drawn",
        )
    if train.patience not in (0, "auto") and data.validation == 0:
        raise ConfigError(
            "needs validation images, but data.validation is 0",
            remedy="set data.validation above 0, or train.patience to 0",
            key="train.patience",
        )
    if train.best_metric != Train.best_metric and data.validation == 0:
        raise ConfigError(
            "needs validation images, but data.validation is 0",
            remedy=f"set data.validation above 0, or train.best_metric to {Train.best_metric}",
            key="train.best_metric",
        )
    stated = not {"schedule.warmup", "train.epochs"} & set(config.open())
    if stated and schedule.warmup > train.epochs:
        raise ConfigError(
            f"is {schedule.warmup:g} epochs, longer than train.epochs {train.epochs}",
            remedy="lower schedule.warmup, or raise train.epochs",
            key="schedule.warmup",
        )


# --- From nested values --------------------------------------------------------------------------


def flattened(values: Mapping[str, object]) -> dict[str, object]:
    """Return dotted keys and values; reject unknown keys and values that are not sections."""
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
        elif value is not None:  # an empty section, with all keys commented out, is valid
            raise ConfigError(
                f"must be a section with keys, is {shown(value)}",
                remedy=f"write its keys under it, such as {_first_key(name)}",
                key=name,
            )
    return flat


def built(flat: Mapping[str, object]) -> Config:
    """Return the configuration with these dotted keys and values."""
    for dotted in flat:
        check_known(dotted)
    sections = _by_section(flat)
    arguments = sections.pop("", {})
    made: dict[str, Any] = {name: SECTIONS[name](**keys) for name, keys in sections.items()}
    return Config(**arguments, **made)


def _by_section(flat: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """Return the keys without their section, and their values, by section."""
    sections: dict[str, dict[str, Any]] = {}
    for dotted, value in flat.items():
        section, _, name = dotted.rpartition(".")
        sections.setdefault(section, {})[name] = value
    return sections


def check_known(dotted: str) -> None:
    """Reject an unknown key; suggest the same name in another section, or the most similar key."""
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
        names = listed([known.rpartition(".")[2] for known in beside], "and")
        remedy = f"the keys{f' of {section}' if section else ''} are {names}"
    raise ConfigError(problem, remedy=remedy, key=clipped(dotted))


def _first_key(section: str) -> str:
    return f"{section}.{fields(SECTIONS[section])[0].name}"


def _nearest_key(name: str, known: Iterable[str]) -> str | None:
    """Return the first dotted key whose last part is most similar to ``name``."""
    by_name: dict[str, str] = {}
    for dotted in known:
        by_name.setdefault(dotted.rpartition(".")[2], dotted)
    near = nearest(name, by_name)
    return None if near is None else by_name[near]


# --- Writing --------------------------------------------------------------------------------------


def to_yaml(config: Config) -> str:
    """Return the complete configuration as YAML with a comment above each key.

    Loading the result gives an equal configuration.
    """
    lines = ["# Configuration of lenet: all keys with their meaning and accepted values.", ""]
    section = ""
    for dotted, key in SETTINGS.items():
        within, _, name = dotted.rpartition(".")
        if within != section:
            section = within
            lines += ["", f"# {SECTIONS[section].__doc__}", f"{section}:"]
        indent = "  " if section else ""
        value = attrgetter(dotted)(config)
        about = f"{key.metadata['doc']} ({key.metadata['rule'].words})"
        lines += wrap(about, 98, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        if dotted == "model.layers" and config.model.layers is not None:
            lines += [f"{indent}{line}" for line in layer_lines(config.model.layers)]
        else:
            lines += [f"{indent}{name}: {as_yaml(value)}"]
    return "\n".join(lines) + "\n"


def reference_markdown() -> str:
    """Return the tables of docs/configuration.md: all sections with their keys."""
    lines: list[str] = []
    section = None
    for dotted, key in SETTINGS.items():
        within = dotted.rpartition(".")[0]
        if within != section:
            section = within
            title = f"`{section}`" if section else "Top level"
            about = SECTIONS[section].__doc__ if section else "The only key outside the sections."
            lines += ["", f"## {title}", "", f"{about}", ""]
            lines += ["| key | default | accepts | meaning |", "|---|---|---|---|"]
        lines.append(
            f"| `{dotted}` | `{as_yaml(key.default)}` | {key.metadata['rule'].words} "
            f"| {key.metadata['doc']} |"
        )
    return "\n".join(lines[1:]) + "\n"
