"""The same training in PyTorch: a network's layers, loss and optimizer as classes of ``torch``.

The twin is derived from a trainer's objects, as data: what it consists of is known, and what has no
counterpart in PyTorch is reported, without PyTorch. :meth:`Twin.modules` are in the order of the
layers, so their parameters are in the order of the network's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import Array
from lenet.config.schema import Config
from lenet.errors import ConfigError
from lenet.evaluation.images import build_preprocessing, load_split
from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.losses import Loss, SoftmaxCrossEntropy
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, GlobalAveragePooling, MaxPooling, Pooling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import RepeatUnpooling
from lenet.optim.optimizers import SGD, Adam, AdamW, Nesterov, Optimizer
from lenet.train.build import build_trainer
from lenet.train.trainer import Trainer


@dataclass(frozen=True)
class TorchObject:
    """A class of a module of ``torch``, such as ``torch.nn``, with its arguments."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, module: Any, *arguments: Any) -> Any:  # noqa: ANN401 - PyTorch may be missing
        """Return an object of this class."""
        return getattr(module, self.name)(*arguments, **self.options)


@dataclass(frozen=True)
class Twin:
    """A trainer's counterparts in ``torch.nn`` and ``torch.optim``."""

    modules: tuple[TorchObject, ...]
    loss: TorchObject
    optimizer: TorchObject
    dtype: str


def load_twin(config: Config) -> tuple[Twin, Array, NDArray[Any]]:
    """Return the twin of a configuration's training, its images and its labels.

    The images are the input of the network (N,C,H,W), scaled and padded.
    """
    data = load_split(config, "train")
    twin = twin_of(build_trainer(config, data.images, data.labels, class_names=data.class_names))
    x = build_preprocessing(config).prepare(data.images, twin.dtype)
    return twin, np.ascontiguousarray(x.transpose(3, 0, 1, 2)), data.labels


def twin_of(trainer: Trainer) -> Twin:
    """Return the twin of a trainer.

    The weight decay applies to the biases too: so PyTorch needs no second group of parameters.
    """
    for key, present, what in (
        ("augment", trainer.loader.distorter, "distorts the images"),
        ("train.average", trainer.average, "averages the weights"),
        ("train.class_weights", trainer.loss.class_weights, "weights the classes"),
    ):
        if present is not None:
            raise ConfigError(
                f"{what}, which the comparison with PyTorch leaves out",
                remedy="switch it off with --set, or leave out --against",
                key=key,
            )
    return Twin(
        tuple(torch_modules(trainer.network.layers)),
        _loss(trainer.loss),
        _optimizer(trainer.optimizer, trainer.schedule(0)),
        trainer.network.dtype.name,
    )


# --- Layers -------------------------------------------------------------------------------------


def torch_modules(layers: Sequence[Layer]) -> list[TorchObject]:
    """Return the modules of layers that are built, in their order.

    Examples
    --------
    >>> linear = Linear("F1", 10)
    >>> _ = linear.build((1, 28, 28))
    >>> for module in torch_modules([linear]):
    ...     print(module.name, module.options)
    Flatten {}
    Linear {'in_features': 784, 'out_features': 10}
    """
    return [module for _, module in named_modules(layers)]


def named_modules(layers: Sequence[Layer]) -> list[tuple[str, TorchObject]]:
    """Return the modules with their names, those of the layers with ``_`` for dots."""
    modules: list[tuple[str, TorchObject]] = []
    flat = False
    for layer in layers:
        if type(layer) not in LAYERS:
            raise no_counterpart(f"layer {layer.name}", type(layer))
        module, name = LAYERS[type(layer)](layer), module_name(layer.name)
        if module.name == "Linear" and not flat:
            modules.append((f"{name}_input", TorchObject("Flatten")))
            flat = True
        elif module.name.endswith("2d") and flat:
            shape = {"dim": 1, "unflattened_size": layer.shape}  # type: ignore[attr-defined]
            modules.append((f"{name}_input", TorchObject("Unflatten", shape)))
            flat = False
        modules.append((name, module))
    return modules


def module_name(layer: str) -> str:
    """Return the name of a layer's module, which has no dots."""
    return layer.replace(".", "_")


def no_counterpart(key: str, kind: type) -> ConfigError:
    """Return the error for a class that PyTorch has none for."""
    return ConfigError(
        f"{kind.__name__} has no counterpart in PyTorch",
        remedy="choose another, or leave out --against",
        key=key,
    )


def _convolution(layer: Convolution) -> TorchObject:
    C, H, W = layer.shape
    if layer.table is not None:
        raise no_counterpart(f"layer {layer.name}", type(layer))
    if layer.direct and layer.groups == 1 and layer.kernel == (H, W):
        return _affine(layer.shape, layer.F)  # which is how users of PyTorch write it
    options = {"in_channels": C, "out_channels": layer.F, "groups": layer.groups}
    own = {"padding": _padding(layer), "dilation": layer.dilation}
    return TorchObject("Conv2d", options | _windows(layer) | own)


def _transposed(layer: TransposedConvolution) -> TorchObject:
    options = {"in_channels": layer.shape[0], "out_channels": layer.F, "groups": layer.groups}
    own = {
        "padding": _padding(layer),
        "dilation": layer.dilation,
        "output_padding": layer.output_padding,
    }
    return TorchObject("ConvTranspose2d", options | _windows(layer) | own)


def _padding(layer: Convolution | TransposedConvolution | Pooling) -> tuple[int, int]:
    """Return the padding (vertical, horizontal); PyTorch pads opposite sides alike."""
    top, left, bottom, right = layer.edges
    if (top, left) != (bottom, right):
        raise no_counterpart(f"layer {layer.name}: padding", type(layer))
    return top, left


def _linear(layer: Linear) -> TorchObject:
    return _affine(layer.shape, layer.F)


def _affine(shape: tuple[int, ...], F: int) -> TorchObject:
    return TorchObject("Linear", {"in_features": prod(shape), "out_features": F})


def _max_pooling(layer: MaxPooling) -> TorchObject:
    return TorchObject("MaxPool2d", _pooling(layer) | {"dilation": layer.dilation})


def _average_pooling(layer: AveragePooling) -> TorchObject:
    if layer.dilation != (1, 1):
        raise no_counterpart(f"layer {layer.name}: dilation", type(layer))
    return TorchObject("AvgPool2d", _pooling(layer) | {"count_include_pad": layer.count_padding})


def _pooling(layer: Pooling) -> dict[str, Any]:
    padding = _padding(layer)
    if any(2 * p > k for p, k in zip(padding, layer.kernel, strict=True)):
        raise no_counterpart(
            f"layer {layer.name}: padding", type(layer)
        )  # at most half of the kernel
    return _windows(layer) | {"padding": padding, "ceil_mode": layer.round_up}


def _repeat_unpooling(layer: RepeatUnpooling) -> TorchObject:
    return TorchObject("UpsamplingNearest2d", {"scale_factor": layer.kernel})


def _windows(layer: Layer) -> dict[str, Any]:
    return {"kernel_size": layer.kernel, "stride": layer.stride}


def _activation(layer: Activation) -> TorchObject:
    name = vars(layer.function).get("torch", "")
    if not name:
        raise no_counterpart(f"layer {layer.name}", layer.function)
    return TorchObject(name)


def _dropout(layer: Dropout) -> TorchObject:
    return TorchObject("Dropout", {"p": layer.rate})


def _batch_normalization(layer: BatchNormalization) -> TorchObject:
    options = {"num_features": layer.C, "eps": layer.epsilon, "momentum": layer.momentum}
    return TorchObject("BatchNorm2d" if len(layer.shape) == 3 else "BatchNorm1d", options)


LAYERS: dict[type[Layer], Callable[[Any], TorchObject]] = {
    Convolution: _convolution,
    TransposedConvolution: _transposed,
    Linear: _linear,
    MaxPooling: _max_pooling,
    AveragePooling: _average_pooling,
    GlobalAveragePooling: _average_pooling,
    RepeatUnpooling: _repeat_unpooling,
    Activation: _activation,
    Dropout: _dropout,
    BatchNormalization: _batch_normalization,
}

# --- Loss and optimizer -------------------------------------------------------------------------


def _loss(loss: Loss) -> TorchObject:
    if type(loss) is not SoftmaxCrossEntropy:
        raise no_counterpart("loss", type(loss))
    return TorchObject("CrossEntropyLoss", {"label_smoothing": loss.smoothing})


def _optimizer(optimizer: Optimizer, lr: float) -> TorchObject:
    if type(optimizer) not in OPTIMIZERS:
        raise no_counterpart("optimizer.name", type(optimizer))
    name, own = OPTIMIZERS[type(optimizer)]
    decay = optimizer.weight_decay
    return TorchObject(name, {"lr": lr, "weight_decay": decay} | own(optimizer))


def _adam(optimizer: Adam) -> dict[str, Any]:
    return {"betas": (optimizer.beta1, optimizer.beta2), "eps": optimizer.epsilon}


OPTIMIZERS: dict[type[Optimizer], tuple[str, Callable[[Any], dict[str, Any]]]] = {
    SGD: ("SGD", lambda sgd: {"momentum": sgd.momentum}),
    Nesterov: ("SGD", lambda sgd: {"momentum": sgd.momentum, "nesterov": True}),
    Adam: ("Adam", _adam),
    AdamW: ("AdamW", _adam),
}
