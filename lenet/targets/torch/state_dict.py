"""PyTorch's weights, a ``state_dict`` in a .safetensors file: to checkpoints, and from them.

A file contains names, shapes and numbers, and no network; a specification gives the layers. A
module, all tensors with the same name before the last dot, belongs to the layer of its name if
there is one, otherwise to the layer of its shapes. Several layers of the same shapes get theirs in
the order of the numbers in the names: the file itself has no order.

PyTorch's orders are this package's: filters (F,C,kh,kw), units (F,D) with D in the order C, H, W.
A linear module may belong to a convolution whose kernel is the whole image, and the other way
round: LeNet-5's C5 is written both ways.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from lenet.arrays import Array, Shape
from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import plain_network
from lenet.config.reader import load_config
from lenet.config.schema import Config, to_yaml
from lenet.errors import ConfigError, DataError, LenetError
from lenet.models.specification import Specification, built_layers
from lenet.nn.convolution import Convolution
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.system.extras import require
from lenet.system.files import open_regular, reading, replacing
from lenet.system.text import clipped
from lenet.targets.networks import imported_checkpoint, refuse_pointer
from lenet.targets.operations import DESCRIPTIONS, dispatched, is_one_patch
from lenet.targets.torch.twin import module_name, named_modules

MAX_BYTES: Final = 1 << 30
DTYPES: Final = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}

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


class Tensor(NamedTuple):
    """A tensor of a file."""

    dtype: str
    shape: Shape
    content: bytes


Module = Mapping[str, Tensor]


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
    """Return a network with the weights of a .safetensors file as a checkpoint."""
    specification = _specification(model, scale, shift)
    try:
        return _imported(read_safetensors(path), specification, class_names)
    except LenetError as error:
        error.file = error.file or str(path)
        raise


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of at most 1 GiB, which need not come from a trusted source."""
    library = require("safetensors", extra="safetensors")
    remedy = "write the file again with safetensors.torch.save_file"
    with (
        reading(path, DataError),
        open_regular(path, DataError, remedy="name a .safetensors file") as file,
    ):
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise DataError("is larger than 1 GiB", remedy="give a smaller network")
        content = file.read()
    refuse_pointer(content)
    try:
        entries = library.deserialize(content)
    except library.SafetensorError as error:
        reason = clipped(str(error).removeprefix("Error while deserializing: "))
        raise DataError(f"is not a .safetensors file ({reason})", remedy=remedy) from None
    return {
        name: Tensor(entry["dtype"], tuple(entry["shape"]), bytes(entry["data"]))
        for name, entry in sorted(entries, key=itemgetter(0))  # the library has no order
    }


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
    tensors: dict[str, Tensor], model: Specification, class_names: tuple[str, ...] | None
) -> ImportedWeights:
    layers = [
        layer
        for layer in built_layers(model.layers, model.input_shape)
        if layer.parameters or layer.state
    ]
    for layer in layers:
        dispatched(DESCRIPTIONS, layer, "has no counterpart in PyTorch", "use another --model")
    modules = _modules(tensors)
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
        for part, shape in _shapes(layer).items():
            arrays[f"{layer.name}.{part}"] = _array(layer, part, shape, modules[places[layer.name]])
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
    places = {
        layer.name: name
        for layer in layers
        for name in (layer.name, module_name(layer.name))
        if name in modules
    }
    free = {name: module for name, module in modules.items() if name not in places.values()}
    alike: dict[tuple[str, ...], list[Layer]] = {}  # by the modules that fit
    for layer in layers:
        if layer.name not in places:
            fitting = tuple(name for name, module in free.items() if _fits(layer, module))
            alike.setdefault(fitting, []).append(layer)
        elif not _fits(layer, modules[places[layer.name]]):
            raise _misfit(layer, {places[layer.name]: modules[places[layer.name]]})
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
    if type(layer) is Convolution and layer.table is not None and len(shape) == 3:
        yield (layer.F, layer.shape[0], *layer.kernel)


def _array(layer: Layer, part: str, shape: Shape, module: Module) -> Array:
    """Return a part of a layer, in the layer's order."""
    if part not in module:
        return np.full(shape, _defaults(layer)[part])
    tensor = module[part]
    if tensor.dtype not in DTYPES:
        raise DataError(
            f"has a {PARTS[part]} of the type {tensor.dtype}",
            remedy="write the file again with floats",
            key=f"layer {layer.name}",
        )
    array = np.frombuffer(tensor.content, DTYPES[tensor.dtype]).reshape(tensor.shape)
    if tensor.dtype == "BF16":  # the upper half of a float32
        array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if part == "weight" and type(layer) is Convolution:
        if layer.table is not None and array.ndim == 4:  # PyTorch has all connections
            array = array[layer.connected]
        if layer.flip:  # PyTorch computes cross-correlations
            return array.reshape(shape)[..., ::-1, ::-1]
    return array.reshape(shape)


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


# --- Export ---------------------------------------------------------------------------------------


def save_state_dict(path: Path, checkpoint: Checkpoint) -> str:
    """Write a checkpoint's weights as PyTorch names them, and its configuration beside.

    The metadata is JSON: ``modules``, the network as classes of ``torch.nn`` with their names and
    arguments, ``preprocessing`` and ``class_names``.
    """
    library = require("safetensors.numpy", extra="safetensors")
    network, preprocessing = plain_network(checkpoint), checkpoint.preprocessing
    described = {
        "preprocessing": json.dumps(
            {
                "input_shape": preprocessing.input_shape,
                "scale": preprocessing.scale,
                "shift": preprocessing.shift,
                "background": preprocessing.background,
            }
        ),
        "class_names": json.dumps(checkpoint.class_names),
        "format": "pt",
    }
    reason, shapes = "", dict[str, Shape]()
    try:
        modules = named_modules(network.layers)
    except ConfigError as error:
        reason = f"{error.key}: {error.problem}"
    else:
        described["modules"] = json.dumps([[n, m.name, m.options] for n, m in modules])
        shapes = {n: tuple(m.options.values())[::-1] for n, m in modules if m.name == "Linear"}
    tensors = dict[str, Array]()
    for layer in network.layers:
        name = module_name(layer.name)
        arrays = {p.name.rpartition(".")[2]: p.value for p in layer.parameters} | layer.state
        if type(layer) is Convolution:
            arrays["weight"] = layer.multiplied
        for part, array in arrays.items():
            shape = shapes.get(name, array.shape) if part == "weight" else array.shape
            ready = np.ascontiguousarray(array, np.float32).reshape(shape)
            tensors[f"{name}.{PARTS.get(part, part)}"] = ready
        if layer.state:
            tensors[f"{name}.{COUNTER}"] = np.array(0)
    with replacing(path) as file:
        file.write(library.save(tensors, described))
    with replacing(path.with_suffix(".yaml")) as file:
        levels = {"model.scale": preprocessing.scale, "model.shift": preprocessing.shift}
        file.write(to_yaml(checkpoint.config.with_values(levels)).encode())
    return reason
