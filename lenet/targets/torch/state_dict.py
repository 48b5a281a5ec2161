"""A checkpoint from PyTorch's weights, a ``state_dict`` in a .safetensors file.

The file contains names, shapes and numbers, and no network; a specification gives the layers. A
module, all tensors with the same name before the last dot, belongs to the layer of its name if
there is one, otherwise to the layer of its shapes. Several layers of the same shapes get theirs in
the order of the numbers in the names: the file itself has no order.

PyTorch's orders are this package's: filters (F,C,kh,kw), units (F,D) with D in the order C, H, W.
A linear module may belong to a convolution whose kernel is the whole image, and the other way
round: LeNet-5's C5 is written both ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from lenet.arrays import Array, Shape
from lenet.checkpoint.checkpoint import Checkpoint
from lenet.config.reader import load_config
from lenet.config.schema import Config
from lenet.errors import DataError, LenetError
from lenet.models.specification import Specification, built_layers
from lenet.nn.convolution import Convolution
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.system.text import clipped
from lenet.targets.imported import imported_checkpoint
from lenet.targets.operations import DESCRIPTIONS, dispatched, is_one_patch
from lenet.targets.torch.safetensors_file import SafeTensors, Tensor, open_safetensors

Module = Mapping[str, Tensor]

# PyTorch's names of what a layer has, by the names here.
PARTS: Final = {
    "weight": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}
COUNTER: Final = "num_batches_tracked"  # of batch normalizations; only training uses it
NUMBER: Final = re.compile("[0-9]+")
SHOWN: Final = 5  # modules in a message


class ImportedWeights(NamedTuple):
    """Weights that were imported."""

    checkpoint: Checkpoint
    modules: dict[str, str]
    """The module of each layer that has weights, by name."""


def import_state_dict(
    path: Path,
    model: Path,
    scale: float | None = None,
    shift: float | None = None,
    class_names: tuple[str, ...] | None = None,
) -> ImportedWeights:
    """Return a network with the weights of a .safetensors file as a checkpoint.

    Parameters
    ----------
    path
        The file, which need not come from a trusted source.
    model
        The network: the name of a packaged one, or a configuration.
    scale, shift
        The network's input is scale·level + shift for levels from 0 to 255. By default those of
        the configuration, otherwise 1/255 and 0, the input of PyTorch's ``ToTensor``.
    class_names
        By default 0, 1, 2 …

    Raises
    ------
    DataError
        It is no .safetensors file, or its tensors are not those of the layers.
    ConfigError
        The network is wrong, or the class names are not as many as its classes.
    SystemFailure
        A file cannot be read.
    """
    specification = _specification(model, scale, shift)
    try:
        with open_safetensors(path) as file:
            return _imported(file, specification, class_names)
    except LenetError as error:
        error.file = error.file or str(path)
        raise


def _specification(model: Path, scale: float | None, shift: float | None) -> Specification:
    is_file = model.suffix in (".yaml", ".yml")
    config = load_config(model) if is_file else Config().with_values({"model.name": str(model)})
    scale = config.model.scale if scale is None else scale
    shift = config.model.shift if shift is None else shift
    made = config.model.specification()
    return Specification(
        made.input_shape,
        made.layers,
        1 / 255 if scale is None else scale,
        0.0 if shift is None else shift,
        made.initializer,
    )


def _imported(
    file: SafeTensors, model: Specification, class_names: tuple[str, ...] | None
) -> ImportedWeights:
    layers = [
        layer
        for layer in built_layers(model.layers, model.input_shape)
        if layer.parameters or layer.state
    ]
    for layer in layers:
        dispatched(DESCRIPTIONS, layer, "has no counterpart in PyTorch", "use another --model")
    modules = _modules(file.tensors)
    places = _places(layers, modules)
    left = [name for name in modules if name not in places.values()]
    if left:
        raise DataError(
            f"belongs to no layer of the network ({_described(modules[left[0]])})",
            remedy="add its layer to --model, or write the file without it",
            key=f"module {clipped(left[0])}",
        )
    arrays = {}
    for layer in layers:
        module = modules[places[layer.name]]
        for part, shape in _shapes(layer).items():
            arrays[f"{layer.name}.{part}"] = _array(file, layer, part, shape, module)
    return ImportedWeights(imported_checkpoint(model, arrays, class_names), places)


# --- Modules and layers ---------------------------------------------------------------------------


def _modules(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the tensors by module and part."""
    parts = {theirs: ours for ours, theirs in PARTS.items()}
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if part == COUNTER:
            continue
        if part not in parts:
            raise DataError(
                f"is none of {', '.join(parts)}",
                remedy="write the file without parametrizations such as weight_norm",
                key=f"tensor {clipped(name)}",
            )
        modules.setdefault(module, {})[parts[part]] = tensor
    return modules


def _places(layers: Sequence[Layer], modules: Mapping[str, Module]) -> dict[str, str]:
    """Return the name of each layer's module."""
    places = {layer.name: layer.name for layer in layers if layer.name in modules}
    free = {name: module for name, module in modules.items() if name not in places}
    alike: dict[tuple[str, ...], list[Layer]] = {}  # by the modules that fit
    for layer in layers:
        if layer.name not in places:
            fitting = tuple(name for name, module in free.items() if _fits(layer, module))
            alike.setdefault(fitting, []).append(layer)
        elif not _fits(layer, modules[layer.name]):
            raise _misfit(layer, {layer.name: modules[layer.name]})
    for fitting, group in alike.items():
        if len(fitting) < len(group):
            raise _misfit(group[len(fitting)], free)
        if len(fitting) > len(group) or len({NUMBER.sub("#", name) for name in fitting}) > 1:
            raise DataError(
                f"may be any of the modules {_listed(fitting)}",
                remedy="give the layers in --model the names of their modules",
                key=f"layer {group[0].name}",
            )
        places |= {
            layer.name: name
            for layer, name in zip(group, sorted(fitting, key=_numbers), strict=True)
        }
    return {layer.name: places[layer.name] for layer in layers}


def _numbers(name: str) -> list[int]:
    """Return the numbers in a name: ``blocks.2.conv10`` comes after ``blocks.2.conv9``."""
    return [int(digits[:1000]) for digits in NUMBER.findall(name)]


def _shapes(layer: Layer) -> dict[str, Shape]:
    """Return the shapes of what a layer stores, by the name in the layer."""
    parameters = {p.name.rpartition(".")[2]: p.shape for p in layer.parameters}
    return parameters | {name: array.shape for name, array in layer.state.items()}


def _defaults(layer: Layer) -> dict[str, float]:
    """Return the numbers that stand for a part that a module may lack."""
    given = {p.name.rpartition(".")[2]: p.initial for p in layer.parameters}
    return {"bias": 0.0} | {
        name: initial for name, initial in given.items() if isinstance(initial, float)
    }


def _fits(layer: Layer, module: Module) -> bool:
    """Return whether a module's tensors are all in the layer, and all that it must have."""
    shapes = _shapes(layer)
    needed = shapes.keys() - _defaults(layer).keys()
    return needed <= module.keys() <= shapes.keys() and all(
        tensor.shape in _accepted(layer, shapes[part]) for part, tensor in module.items()
    )


def _accepted(layer: Layer, shape: Shape) -> Iterator[Shape]:
    """Yield the shapes that a tensor may have: also the other form of the same product."""
    yield shape
    if type(layer) is Linear and len(shape) == 2:
        yield (layer.F, *layer.shape)
    if type(layer) is Convolution and len(shape) == 4 and is_one_patch(layer):
        yield (layer.F, layer.K)


def _array(file: SafeTensors, layer: Layer, part: str, shape: Shape, module: Module) -> Array:
    """Read a part of a layer, in the layer's order."""
    if part not in module:
        return np.full(shape, _defaults(layer)[part])
    array = file.array(module[part].name).reshape(shape)
    if part == "weight" and type(layer) is Convolution and layer.flip:
        return array[..., ::-1, ::-1]  # PyTorch computes cross-correlations
    return array


# --- Messages -------------------------------------------------------------------------------------


def _misfit(layer: Layer, modules: Mapping[str, Module]) -> DataError:
    wanted = ", ".join(f"{PARTS.get(k, k)} {_times(s)}" for k, s in _shapes(layer).items())
    found = _listed([f"{name} ({_described(module)})" for name, module in modules.items()])
    return DataError(
        f"has {wanted}, and of the file {found or 'nothing'} is left",
        remedy="correct --model, or import the weights of this network",
        key=f"layer {layer.name}",
    )


def _described(module: Module) -> str:
    return ", ".join(f"{PARTS[part]} {_times(t.shape)}" for part, t in module.items())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(clipped, names[:SHOWN])) + (" …" if len(names) > SHOWN else "")


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "()"
