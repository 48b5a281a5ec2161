"""The registry of layer types: the name that a specification uses, the class, and its options.

The options of a type are the parameters of the class's constructor, apart from its name and from
what the configuration decides for all layers at once (``block``). A new layer is its file in
``nn/`` and one entry of :data:`LAYERS`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from lenet.nn.activations import FUNCTIONS, Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.layer import Layer, option_parameters, plain
from lenet.nn.linear import Linear
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, GlobalAveragePooling, MaxPooling
from lenet.nn.rbf import RBF
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import MaxUnpooling, RepeatUnpooling


@dataclass(frozen=True)
class LayerType:
    """A type of layer that a specification can name.

    Attributes
    ----------
    layer
        The class.
    letter
        Begins the default name of a layer of this type: ``C1``, ``S2``; empty for layers that
        are named after the one before them: ``C1.dropout``.
    fixed
        Arguments of the constructor that the type decides.
    """

    layer: type[Layer]
    letter: str = ""
    fixed: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options by name, in the order of the constructor."""
        found = option_parameters(self.layer).items()
        return {name: parameter for name, parameter in found if name not in self.fixed}

    @cached_property
    def takes_block(self) -> bool:
        """Whether the layer's products are cut into blocks (:mod:`lenet.nn.gemm`)."""
        return "block" in inspect.signature(self.layer.__init__).parameters

    def fits(self, layer: Layer) -> bool:
        """Whether a built layer is of this type."""
        fixed = self.fixed.items()
        return type(layer) is self.layer and all(layer.option(k) == v for k, v in fixed)

    def options_of(self, layer: Layer) -> dict[str, object]:
        """Return the options of a layer that differ from their defaults, as plain data."""
        return {k: v for k, v in layer.options().items() if k not in self.fixed}


LAYERS: Final[dict[str, LayerType]] = {
    "convolution": LayerType(Convolution, "C"),
    "max_pooling": LayerType(MaxPooling, "S"),
    "average_pooling": LayerType(AveragePooling, "S"),
    "global_average_pooling": LayerType(GlobalAveragePooling, "S"),
    "subsampling": LayerType(Subsampling, "S"),
    "linear": LayerType(Linear, "F"),
    "rbf": LayerType(RBF, "R"),
    "transposed_convolution": LayerType(TransposedConvolution, "T"),
    "max_unpooling": LayerType(MaxUnpooling, "U"),
    "repeat_unpooling": LayerType(RepeatUnpooling, "U"),
    "dropout": LayerType(Dropout),
    "batch_normalization": LayerType(BatchNormalization),
    **{name: LayerType(Activation, fixed={"function": name}) for name in FUNCTIONS},
}

PACKAGED: Final = frozenset(LAYERS)


def register_layer(name: str, layer: type[Layer], letter: str = "") -> None:
    """Register a layer class, so that specifications can name it.

    The constructor's parameters must be kept as attributes of the same names, so that a network
    that was built in Python can be saved.

    Parameters
    ----------
    name
        The type that specifications use.
    layer
        The class; the first parameter of its constructor is the layer's name.
    letter
        Begins the default name of such layers.

    Examples
    --------
    >>> from lenet.nn.linear import Linear
    >>> class Head(Linear):
    ...     pass
    >>> register_layer("head", Head)
    >>> list(LAYERS.pop("head").options)[0]
    'units'
    """
    LAYERS[name] = LayerType(layer, letter)


def registered_layers() -> dict[str, tuple[type[Layer], str]]:
    """Return what :func:`register_layer` has added: class and letter by name."""
    return {name: (LAYERS[name].layer, LAYERS[name].letter) for name in LAYERS.keys() - PACKAGED}


def reference_markdown() -> str:
    """Return the table of docs/networks.md: all types with their options and defaults."""
    lines = ["| type | options | layer |", "|---|---|---|"]
    for name, kind in LAYERS.items():
        options = ", ".join(f"`{option}`{_default(p)}" for option, p in kind.options.items())
        doc = inspect.getdoc(FUNCTIONS.get(name, kind.layer)) or ""
        lines.append(f"| `{name}` | {options or '-'} | {_first_line(doc)} |")
    return "\n".join(lines) + "\n"


def _first_line(doc: str) -> str:
    return doc.partition("\n")[0].rstrip(".").replace("``", "`").replace("|", "\\|")


def _default(option: inspect.Parameter) -> str:
    if option.default is inspect.Parameter.empty:
        return " (required)"
    return "" if option.default is None else f" = {json.dumps(plain(option.default))}"
