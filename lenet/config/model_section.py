"""The section of the network, and the checks of its keys against each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from lenet.config.rules import (
    LAYER_LIST,
    Checked,
    choice,
    integer,
    number,
    pair,
    sequence,
    setting,
)
from lenet.errors import ConfigError
from lenet.models.lenet5 import POOLINGS
from lenet.models.packaged import MODELS, model_options, packaged_model
from lenet.models.specification import Entry, Specification, expanded
from lenet.nn.activations import FUNCTIONS
from lenet.nn.initializers import INITIALIZERS
from lenet.system.text import listed

LENET5: Final[dict[str, Any]] = model_options("lenet5")


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
        LAYER_LIST,
        "The network as a list with one layer per line: type, name and options of the type; "
        "`lenet config --model lenet5` prints an example",
    )
    input: tuple[int, int, int] | None = setting(
        None,
        sequence(integer(1, 4096), 3),
        "Channels, height and width of the input; null means input_size, with the channels of the "
        "images, or with one for layers",
    )
    scale: float | None = setting(
        None,
        number(above=-1e6, below=1e6),
        "The input is pixel * scale + shift, with pixels from 0 to 255; null is the default of the "
        "network: 1.275/255, or 1/256 for caffe-lenet",
    )
    shift: float | None = setting(
        None,
        number(above=-1e6, below=1e6),
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
        integer(2, 100_000),
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
        choice(*INITIALIZERS),
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
