"""A network as data: a list of layers that can be written in YAML and stored in a checkpoint.

A specification is plain data, one entry per layer::

    {"type": "convolution", "name": "C1", "filters": 6, "kernel": 5, "activation": "relu"}
    {"type": "max_pooling", "name": "S2"}

``type`` is a name of :data:`lenet.models.registry.LAYERS`; the other keys are that type's options.
There are two abbreviations: ``name`` may be omitted (C1, S2, F3 …), and ``activation`` adds a layer
of that type. :func:`expanded` writes both out; the result is what checkpoints contain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Shape
from lenet.errors import ConfigError
from lenet.models.registry import LAYERS, LayerType
from lenet.nn.activations import FUNCTIONS
from lenet.nn.gemm import DEFAULT_BLOCK
from lenet.nn.layer import Layer
from lenet.nn.network import Network
from lenet.nn.pooling import MaxPooling
from lenet.system.registry import lookup
from lenet.system.text import clipped, listed, nearest

Entry: TypeAlias = Mapping[str, Any]

MAX_LAYERS: Final = 1000
MAX_NAME: Final = 60  # characters of a layer's name
NAME: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MAX_NAME - 1}}}")  # as in checkpoints
MAX_INTEGER: Final = 1 << 62
MAX_SIZE: Final = 1 << 30  # numbers in the parameters, or in the activations of one image


@dataclass(frozen=True)
class Specification:
    """A network as data, with the preprocessing of its images.

    Attributes
    ----------
    input_shape
        The shape (C,H,W) of an image.
    layers
        The entries, expanded.
    scale, shift
        The input is pixel · scale + shift for pixels from 0 to 255; by default those of
        Y. LeCun et al. (1998), section II-B: background −0.1, foreground 1.175.
    initializer
        What draws the weights of layers that name none.
    """

    input_shape: tuple[int, int, int]
    layers: tuple[Entry, ...]
    scale: float = 1.275 / 255
    shift: float = -0.1
    initializer: str = "he"

    def build(
        self,
        *,
        dtype: DTypeLike = np.float32,
        fused: bool = True,
        block: int = DEFAULT_BLOCK,
    ) -> Network:
        """Return the network, its weights still zero."""
        self.parameter_shapes()
        return Network(build_layers(self.layers, block), self.input_shape, dtype, fused=fused)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return the names and shapes of the parameters; nothing is allocated."""
        layers = built_layers(self.layers, self.input_shape)
        return {p.name: p.shape for layer in layers for p in layer.parameters}

    def state_shapes(self) -> dict[str, Shape]:
        """Return the names and shapes of the arrays that are stored but not trained."""
        return {
            f"{layer.name}.{name}": array.shape
            for layer in built_layers(self.layers, self.input_shape)
            for name, array in layer.state.items()
        }

    def output_shape(self) -> Shape:
        """Return the shape of the scores of one image."""
        return built_shapes(build_layers(self.layers), self.input_shape)[-1]

    def classes(self) -> int:
        """Return the number of classes: one score each."""
        return class_count(self.output_shape(), self.layers[-1]["name"])


def expanded(entries: object) -> tuple[Entry, ...]:
    """Check a list of layers, and return it with all names and activation layers written out.

    Examples
    --------
    >>> for entry in expanded([
    ...     {"type": "convolution", "filters": 6, "kernel": 5, "activation": "relu"},
    ...     {"type": "max_pooling"},
    ...     {"type": "linear", "units": 10},
    ... ]):
    ...     print(entry)
    {'type': 'convolution', 'name': 'C1', 'filters': 6, 'kernel': 5}
    {'type': 'relu', 'name': 'C1.activation'}
    {'type': 'max_pooling', 'name': 'S2'}
    {'type': 'linear', 'name': 'F3', 'units': 10}
    >>> expanded([{"type": "linear", "unit": 10}])
    Traceback (most recent call last):
    lenet.errors.ConfigError: model.layers[1]: unit: unknown option of linear;
    did you mean units?
    """
    if not isinstance(entries, list | tuple) or not entries:
        raise ConfigError(
            "must be a list of layers",
            remedy="write one layer per line: - {type: linear, units: 10}",
            key="model.layers",
        )
    if len(entries) > MAX_LAYERS:
        raise ConfigError(
            f"has {len(entries):,} layers",
            remedy=f"use at most {MAX_LAYERS:,}",
            key="model.layers",
        )
    result: list[Entry] = []
    names: set[str] = set()
    for place, entry in enumerate(entries, start=1):
        kind, given = _checked(entry, place)
        name = given.pop("name", None) or _default_name(kind, given["type"], result, names)
        activation = given.pop("activation", None)
        own = [{"type": given.pop("type"), "name": name, **given}]
        if activation is not None:
            own.append({"type": activation, "name": f"{name}.activation"})
        for made in own:
            if made["name"] in names:
                raise ConfigError(
                    f"the name {made['name']} is given twice",
                    remedy="layer names must be unique",
                    key=_place(place),
                )
            names.add(made["name"])
        result += own
    return tuple(result)


def build_layers(entries: Sequence[Entry], block: int = DEFAULT_BLOCK) -> list[Layer]:
    """Return the layers of expanded entries, not built yet."""
    layers: dict[str, Layer] = {}
    for entry in entries:
        name, kind = entry["name"], LAYERS[entry["type"]]
        options = {k: v for k, v in entry.items() if k not in ("type", "name")}
        if "pooling" in options:
            options["pooling"] = _max_pooling(options["pooling"], layers, name)
        arguments = {k: _tuples(v) for k, v in options.items()}
        if kind.takes_block:
            arguments["block"] = block
        try:
            layers[name] = kind.layer(name, **arguments, **kind.fixed)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                str(error),
                remedy=f"options of {entry['type']} are {listed(kind.options, 'and')}",
                key=f"layer {name}",
            ) from None
    return list(layers.values())


def _max_pooling(pooling: object, layers: Mapping[str, Layer], unpooling: str) -> Layer:
    """Return the max pooling layer of that name, whose switches an unpooling layer uses."""
    poolings = {name: layer for name, layer in layers.items() if isinstance(layer, MaxPooling)}
    if poolings:
        return lookup(poolings, pooling, key=f"layer {unpooling}: pooling")
    raise ConfigError(
        "needs the switches of a max_pooling layer, and there is none before it",
        remedy="put a max_pooling layer before it, or use repeat_unpooling",
        key=f"layer {unpooling}: pooling",
    )


def built_layers(entries: Sequence[Entry], input_shape: Shape) -> list[Layer]:
    """Return the layers of expanded entries, built for an input; no parameter is allocated."""
    layers = build_layers(entries)
    built_shapes(layers, input_shape)
    return layers


def built_shapes(layers: Sequence[Layer], input_shape: Shape) -> list[Shape]:
    """Build layers one after the other; return the shapes of their outputs."""
    shapes, shape, size = [], input_shape, 0
    for layer in layers:
        shape = layer.build(shape)
        size += sum(p.size for p in layer.parameters)
        if size > MAX_SIZE or prod(shape) > MAX_SIZE:
            raise ConfigError(
                f"makes a network of more than {MAX_SIZE:,} "
                f"{'weights' if size > MAX_SIZE else 'activations an image'}",
                remedy="choose a smaller layer or input",
                key=f"layer {layer.name}",
            )
        shapes.append(shape)
    return shapes


def class_count(output_shape: Shape, name: str) -> int:
    """Return the number of classes of a network, from the output of its last layer ``name``."""
    if len(output_shape) != 1 or output_shape[0] < 2:
        raise ConfigError(
            f"has outputs of the shape {_times(output_shape)}, not one score for each class",
            remedy="end with a linear layer of as many units as there are classes",
            key=f"layer {name}",
        )
    return output_shape[0]


# --- Layers that were built in Python -------------------------------------------------------------


def layers_from(items: object) -> list[Layer]:
    """Return the layers of a list whose items are layers or entries of a specification.

    Examples
    --------
    >>> from lenet.nn.convolution import Convolution
    >>> layers_from([Convolution("C1", 6, kernel=5), {"type": "max_pooling"}])[1].name
    'S2'
    """
    if not isinstance(items, list | tuple):
        return build_layers(expanded(items))
    own = [item for item in items if isinstance(item, Layer) and not _is_registered(item)]
    # A class that no type names has no entry; an activation stands in its place.
    stand_ins = {id(layer): {"type": "relu", "name": layer.name} for layer in own}
    entries = [
        stand_ins.get(id(item)) or (entry_of(item) if isinstance(item, Layer) else item)
        for item in items
    ]
    by_name = {layer.name: layer for layer in own}
    return [by_name.get(layer.name, layer) for layer in build_layers(expanded(entries))]


def specification_of(
    network: Network, scale: float = 1.275 / 255, shift: float = -0.1, initializer: str = "he"
) -> Specification:
    """Return the specification of a network that was built in Python."""
    C, H, W = network.input_shape
    entries = tuple(map(entry_of, network.layers))
    return Specification((C, H, W), entries, scale, shift, initializer)


def entry_of(layer: Layer) -> Entry:
    """Return a layer as an entry of a specification."""
    for name, kind in LAYERS.items():
        if kind.fits(layer):
            return {"type": name, "name": layer.name, **kind.options_of(layer)}
    raise ConfigError(
        f"its class {type(layer).__name__} is not registered",
        remedy="register it with lenet.register_layer",
        key=f"layer {layer.name}",
    )


def _is_registered(layer: Layer) -> bool:
    return any(kind.fits(layer) for kind in LAYERS.values())


def layer_lines(entries: Sequence[Entry]) -> list[str]:
    r"""Return expanded entries as lines of YAML, one layer per line, to save and edit.

    Examples
    --------
    >>> print("\n".join(layer_lines(expanded([{"type": "linear", "units": 2}]))))
    layers:
      - {type: linear, name: F1, units: 2}
    """
    return ["layers:", *(f"  - {_flow(entry)}" for entry in _contracted(entries))]


# --- Checking one entry ---------------------------------------------------------------------------


def _checked(entry: object, place: int) -> tuple[LayerType, dict[str, Any]]:
    """Return the type of an entry and a copy of it, if all its keys are known."""
    if not isinstance(entry, Mapping):
        raise ConfigError(
            f"must be a layer, is {clipped(repr(entry))}",
            remedy="write {type: linear, units: 10}",
            key=_place(place),
        )
    if "type" not in entry:
        raise ConfigError(
            "has no type", remedy=f"types are {listed(LAYERS, 'and')}", key=_place(place)
        )
    kind = lookup(LAYERS, entry["type"], key=f"{_place(place)}: type")
    known = ["type", "name", "activation", *kind.options]
    for key in entry:
        if key not in known:
            near = nearest(str(key), known)
            options = listed(known[1:], "and")
            raise ConfigError(
                f"unknown option of {entry['type']}",
                remedy=f"did you mean {near}?" if near else f"its options are {options}",
                key=f"{_place(place)}: {clipped(str(key))}",
            )
    missing = [k for k, p in kind.options.items() if p.default is p.empty and k not in entry]
    if missing:
        raise ConfigError(
            f"{entry['type']} needs {listed(missing, 'and')}",
            remedy=f"add {missing[0]}",
            key=_place(place),
        )
    name = entry.get("name")
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ConfigError(
            f"must be 1 to {MAX_NAME} letters, digits and . _ -, is {clipped(repr(name))}",
            remedy="choose another, or leave it out",
            key=f"{_place(place)}: name",
        )
    for option, parameter in kind.options.items():
        if option in entry:
            _check_value(entry[option], parameter.default, f"{_place(place)}: {option}")
    if entry.get("activation") is not None:
        lookup(FUNCTIONS, entry["activation"], key=f"{_place(place)}: activation")
    return kind, {key: _lists(value) for key, value in entry.items()}


def _check_value(value: object, default: object, key: str) -> None:
    """Refuse booleans in place of numbers, anything else in place of booleans, and huge numbers.

    The layers refuse the rest.
    """
    if isinstance(default, bool) and not isinstance(value, bool):
        problem, remedy = (
            f"must be true or false, is {clipped(repr(value))}",
            "write one of the two",
        )
        raise ConfigError(problem, remedy=remedy, key=key)
    if isinstance(value, list | tuple):
        for item in value:
            _check_value(item, None, key)
    elif isinstance(value, bool) and not isinstance(default, bool):
        problem, remedy = f"takes no {str(value).lower()}", "write a number or leave it out"
        raise ConfigError(problem, remedy=remedy, key=key)
    elif isinstance(value, int) and abs(value) >= MAX_INTEGER:
        raise ConfigError("is too large", remedy="give a smaller number", key=key)


def _default_name(kind: LayerType, type_name: str, before: Sequence[Entry], taken: set[str]) -> str:
    """Return C1, S2, F3 … by the place among such layers; others are named after the last one."""
    if kind.letter:
        number = 1 + sum(bool(LAYERS[entry["type"]].letter) for entry in before)
        return f"{kind.letter}{number}"
    lettered = [e["name"] for e in before if LAYERS[e["type"]].letter]
    suffix = "activation" if type_name in FUNCTIONS else type_name
    name = f"{lettered[-1]}.{suffix}" if lettered else suffix
    number = 2
    while name in taken:
        name = f"{name.rstrip('0123456789')}{number}"
        number += 1
    return name


def _place(number: int) -> str:
    return f"model.layers[{number}]"


def _lists(value: object) -> object:
    """Return a value as JSON gives it back."""
    return list(map(_lists, value)) if isinstance(value, list | tuple) else value


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


# --- Writing --------------------------------------------------------------------------------------


def _contracted(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return entries with an activation layer as an option of the layer before it."""
    result: list[dict[str, Any]] = []
    for entry in entries:
        before = result[-1] if result else {}
        belongs = entry["name"] == f"{before.get('name')}.activation"
        if belongs and entry["type"] in FUNCTIONS and "activation" not in before:
            before["activation"] = entry["type"]
        else:
            result.append(dict(entry))
    return result


def _flow(value: object) -> str:
    """Write a value as YAML in one line."""
    match value:
        case Mapping():
            return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case bool():
            return str(value).lower()
        case float():
            return repr(value)
    return str(value)


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape))
