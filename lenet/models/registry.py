"""The registry of layer types: the name that a specification uses, the class, and its options.

The options of a type are the parameters of the class's constructor, apart from its name and from
what the configuration decides for all layers at once (``block``). A new layer is its file in
``nn/`` and one entry of :data:`LAYERS`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np

from lenet.nn.activations import FUNCTIONS, Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, GlobalAveragePooling, MaxPooling
from lenet.nn.rbf import CENTRES, RBF
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import MaxUnpooling, RepeatUnpooling

NOT_OPTIONS: Final = ("self", "name", "block")


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
    attributes
        How a built layer is asked for an option that it does not keep under the option's name.
    """

    layer: type[Layer]
    letter: str = ""
    fixed: Mapping[str, object] = field(default_factory=dict)
    attributes: Mapping[str, Callable[[Any], object]] = field(default_factory=dict)

    @cached_property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options by name, in the order of the constructor."""
        return {
            name: parameter
            for name, parameter in inspect.signature(self.layer.__init__).parameters.items()
            if name not in NOT_OPTIONS and name not in self.fixed
        }

    @cached_property
    def takes_block(self) -> bool:
        """Whether the layer's products are cut into blocks (:mod:`lenet.nn.gemm`)."""
        return "block" in inspect.signature(self.layer.__init__).parameters

    def fits(self, layer: Layer) -> bool:
        """Whether a built layer is of this type."""
        return type(layer) is self.layer and all(
            self._stored(layer, name) == value for name, value in self.fixed.items()
        )

    def options_of(self, layer: Layer) -> dict[str, object]:
        """Return the options of a layer that differ from their defaults, as plain data."""
        found = {}
        for option, parameter in self.options.items():
            value = _plain(self._stored(layer, option))
            if not _same(value, parameter.default):
                found[option] = value
        return found

    def _stored(self, layer: Layer, parameter: str) -> object:
        read = self.attributes.get(parameter)
        return read(layer) if read else getattr(layer, parameter)


def _plain(value: object) -> object:
    """Return an option as numbers, strings and lists; a pair of equal numbers as one number."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple | list):
        items = [_plain(item) for item in value]
        same = len(items) in (2, 4) and all(item == items[0] for item in items)
        return items[0] if same and isinstance(items[0], int | float) else items
    return value


def _same(value: object, default: object) -> bool:
    return (type(value) is not str and value == _plain(default)) or value == default


def _centres(layer: RBF) -> object:
    named = [name for name, table in CENTRES.items() if np.array_equal(table, layer.centres)]
    return named[0] if named else layer.centres


def _function(layer: Activation) -> object:
    return next(name for name, function in FUNCTIONS.items() if function is layer.function)


def _own_stride(layer: Any) -> object:  # noqa: ANN401 - any layer with a kernel and a stride
    return None if layer.stride == layer.kernel else layer.stride


_EDGES: Final = {"padding": lambda layer: layer.edges}
_FILTERS: Final = {"filters": lambda layer: layer.F, **_EDGES}
_POOLING: Final = {"stride": _own_stride, **_EDGES}

LAYERS: Final[dict[str, LayerType]] = {
    "convolution": LayerType(Convolution, "C", attributes=_FILTERS),
    "max_pooling": LayerType(MaxPooling, "S", attributes=_POOLING),
    "average_pooling": LayerType(AveragePooling, "S", attributes=_POOLING),
    "global_average_pooling": LayerType(GlobalAveragePooling, "S"),
    "subsampling": LayerType(Subsampling, "S", attributes={"stride": _own_stride}),
    "linear": LayerType(Linear, "F", attributes={"units": lambda layer: layer.F}),
    "rbf": LayerType(RBF, "R", attributes={"centres": _centres}),
    "transposed_convolution": LayerType(TransposedConvolution, "T", attributes=_FILTERS),
    "max_unpooling": LayerType(
        MaxUnpooling, "U", attributes={"pooling": lambda layer: layer.pooling.name}
    ),
    "repeat_unpooling": LayerType(
        RepeatUnpooling, "U", attributes={"kernel": lambda layer: layer.factor}
    ),
    "dropout": LayerType(Dropout),
    "batch_normalization": LayerType(BatchNormalization),
    **{
        name: LayerType(Activation, fixed={"function": name}, attributes={"function": _function})
        for name in FUNCTIONS
    },
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
    return "" if option.default is None else f" = {json.dumps(_plain(option.default))}"
