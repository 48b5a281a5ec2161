"""A sequence of layers over one flat parameter vector and one flat gradient vector.

Every layer's parameters are views into the two vectors, in the order of the layers: an optimizer,
a checkpoint or a sum over workers works on one array, whatever the layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.arrays import Array, Shape
from lenet.errors import ConfigError, OrderError
from lenet.nn.fused import fuse
from lenet.nn.initializers import INITIALIZERS
from lenet.nn.layer import Layer, Parameter
from lenet.nn.losses import Loss, MAPLoss, SoftmaxCrossEntropy, softmax
from lenet.nn.randomness import RandomKey
from lenet.nn.summary import describe, to_table
from lenet.system.registry import lookup
from lenet.system.text import clipped, listed


class Network:
    """Layers run one after the other, forward and backward.

    A network can be copied (``copy.deepcopy``) and pickled; buffers are not part of the copy.
    ``repr`` is the table of :mod:`lenet.nn.summary`.

    Parameters
    ----------
    layers
        The layers, with different names; they are built here and belong to this network.
    input_shape
        The shape (C,H,W) of an image.
    dtype
        float32 or float64, of parameters and activations alike.
    fused
        Replace convolution, activation and pooling by one fast layer where possible
        (:func:`lenet.nn.fused.fuse`): the same parameters and, to rounding, the same results.

    Attributes
    ----------
    layers
        The layers as they were given; those that a given layer is fused of, in its place.
    executed
        The layers that run: ``layers``, or fused ones in the place of some of them.

    Raises
    ------
    ConfigError
        A layer does not fit the output of the one before it, or two have the same name.

    Examples
    --------
    >>> from lenet.nn.linear import Linear
    >>> network = Network([Linear("F1", 3)], input_shape=(1, 2, 2))
    >>> network.initialize(np.random.default_rng(0))
    >>> network.parameters.size, network.forward(np.ones((1, 2, 2, 5), np.float32)).shape
    (15, (3, 5))
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Shape,
        dtype: DTypeLike = np.float32,
        *,
        fused: bool = False,
    ) -> None:
        if not layers:
            raise ConfigError("has no layers", remedy="give at least one", key="network")
        self.input_shape, self.dtype = tuple(input_shape), np.dtype(dtype)
        self.layers = [part for layer in layers for part in layer.parts]
        self.executed = fuse(self.layers) if fused else list(layers)
        _refuse_equal_names("layers", (layer.name for layer in self.layers))
        self.output_shapes = self._build(self.layers)
        if self.fused:
            self._build(self.executed)
        self.output_shape = self.output_shapes[-1]
        self.parameter_list: list[Parameter] = [
            p for layer in self.executed for p in layer.parameters
        ]
        size = sum(p.size for p in self.parameter_list)
        self.bind(np.zeros(size, self.dtype), np.zeros(size, self.dtype))
        for layer in self.layers:
            layer.own_state()
        names = [p.name for p in self.parameter_list]
        _refuse_equal_names("parameters", [*names, *self.state_arrays()])
        # No gradient is needed below the first layer with parameters.
        trained = [i for i, layer in enumerate(self.executed) if layer.parameters]
        self.first_trained = trained[0] if trained else 0
        for i, layer in enumerate(self.executed):
            layer.needs_dx = i != self.first_trained
        self.frozen: set[str] = set()
        self.training = True
        self._random_layers = [(i, p) for i, p in enumerate(self.layers) if p.draws_random]
        self.set_step()
        self.N = 0

    def _build(self, layers: Sequence[Layer]) -> list[Shape]:
        """Build the layers one after the other; return the shapes of their outputs."""
        shapes, shape = [], self.input_shape
        for layer in layers:
            shape = layer.build(shape)
            shapes.append(shape)
        return shapes

    # --- Parameters and state ---------------------------------------------------------------------

    def bind(self, parameters: Array, gradients: Array) -> None:
        """Let all parameters be views of these two vectors from now on; no number is copied."""
        start = 0
        for p in self.parameter_list:
            part = slice(start, start + p.size)
            p.value = parameters[part].reshape(p.shape)
            p.gradient = gradients[part].reshape(p.shape)
            start = part.stop
        self.parameters, self.gradients = parameters, gradients

    def initialize(self, rng: np.random.Generator, initializer: str = "he") -> None:
        """Draw the weights by one of :data:`INITIALIZERS`; set the biases to zero.

        A parameter that names an initializer or a number (``Parameter.initial``) is set by that.

        Raises
        ------
        ConfigError
            There is no initializer of this name.
        """
        for p in self.parameter_list:
            initial = p.initial
            if initial is None:
                initial = initializer if p.decays else 0.0
            if isinstance(initial, str):
                draw = lookup(INITIALIZERS, initial, key="initializer")
                p.value[...] = draw(rng, p.shape, p.fan_in, p.fan_out, self.dtype)
            else:
                p.value[...] = initial

    @property
    def decays(self) -> NDArray[Any]:
        """Which numbers of the flat vector are weights, to which weight decay applies.

        A mask, or factors of the weight decay where a parameter has one other than 1.
        """
        if all(p.decay_mult == 1 for p in self.parameter_list):
            return self._by_parameter([p.decays for p in self.parameter_list])
        return self._by_parameter([p.decays * p.decay_mult for p in self.parameter_list])

    @property
    def lr_multipliers(self) -> NDArray[Any] | None:
        """The factors of the learning rate for the flat vector, or None where all are 1."""
        if all(p.lr_mult == 1 for p in self.parameter_list):
            return None
        return self._by_parameter([p.lr_mult for p in self.parameter_list]).astype(self.dtype)

    @property
    def matrices(self) -> list[tuple[int, int, int]]:
        """The weights (filters × inputs) of all trained layers but the last, as matrices.

        For each, where it starts in the flat vector, its rows and its columns.
        """
        found, start = [], 0
        for p in self.parameter_list:
            if len(p.shape) in (2, 4):
                found.append((start, p.shape[0], p.size // p.shape[0]))
            start += p.size
        return found[:-1]

    def _by_parameter(self, values: Sequence[float]) -> NDArray[Any]:
        return np.repeat(values, np.array([p.size for p in self.parameter_list], np.intp))

    def state_dict(self) -> dict[str, Array]:
        """Return all that is stored of the network, by name: the parameters, then the state.

        The arrays are the network's, not copies; a name is that of the layer and of the array in
        it: ``C1.weight``, ``B2.running_mean``.
        """
        return {p.name: p.value for p in self.parameter_list} | self.state_arrays()

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        """Copy parameters and state, by name, as :meth:`state_dict` returns them.

        Raises
        ------
        ConfigError
            An array is missing, of another shape, or of no layer; nothing has been copied.

        Examples
        --------
        >>> from lenet.nn import Linear
        >>> network = Network([Linear("F1", 3)], input_shape=(1, 2, 2))
        >>> network.load_state_dict({"F1.weight": np.ones((3, 4)), "F1.bias": np.zeros(3)})
        >>> float(network.parameters.sum())
        12.0
        """
        own = self.state_dict()
        for name in (name for name in (*own, *arrays) if name not in own or name not in arrays):
            problem = "is missing" if name in own else "is of no layer"
            raise ConfigError(problem, remedy="give the arrays of this network", key=name)
        for name, array in own.items():
            if np.shape(arrays[name]) != array.shape:
                raise ConfigError(
                    f"has the shape {np.shape(arrays[name])}, the network's is {array.shape}",
                    remedy="give the arrays of this network",
                    key=name,
                )
        for name, array in own.items():
            np.copyto(array, arrays[name])

    def state_arrays(self) -> dict[str, Array]:
        """Return the arrays that are stored but not trained, by name: themselves, not copies."""
        return {
            f"{layer.name}.{name}": array
            for layer in self.layers
            for name, array in layer.state.items()
        }

    # --- Training and evaluation ------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """Whether the layers are in training mode: True from the start, False in evaluation."""
        return self._training

    @training.setter
    def training(self, training: bool) -> None:
        self._training = training
        for layer in self.executed:
            layer.training = training and layer.name not in self.frozen

    def set_rates(self, rates: Mapping[str, float]) -> None:
        """Multiply the learning rates of layers, by name; 0 freezes a layer.

        A frozen layer keeps its parameters and its running averages, which it then uses in training
        too.

        Raises
        ------
        ConfigError
            There is no layer of that name, or it has no parameters.
        """
        layers = {layer.name: layer for layer in self.layers}
        for name, rate in rates.items():
            if name not in layers or not layers[name].parameters:
                trained = [layer.name for layer in self.layers if layer.parameters]
                raise ConfigError(
                    f"there is no layer {clipped(name)} with weights",
                    remedy=f"name some of {listed(trained, 'and')}",
                    key="layer",
                )
            for p in layers[name].parameters:
                p.lr_mult *= rate
                p.decay_mult *= bool(rate)
        self.frozen |= {name for name, rate in rates.items() if not rate}
        self.training = self.training

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch to evaluation mode for a ``with`` block, and back after it."""
        before, self.training = self.training, False
        try:
            yield
        finally:
            self.training = before

    def set_step(self, seed: int = 0, step: int = 0, first_image: int = 0) -> None:
        """Set what the random numbers of the next forward passes depend on.

        Parameters
        ----------
        seed
            The seed of the run.
        step
            The number of the training step.
        first_image
            The number in the whole batch of the first image of this worker's part.
        """
        for i, layer in self._random_layers:
            layer.random = RandomKey(seed, step, first_image, i)

    # --- Forward and backward ---------------------------------------------------------------------

    def allocate(self, N: int) -> None:
        """Size all buffers for batches of N images; ``forward`` calls it when N changes."""
        for layer in self.executed:
            layer.allocate(N, self.dtype)
        self.N = N

    def forward(self, x: Array) -> Array:
        """Return the scores (classes, N) of images x (C,H,W,N); they belong to the network."""
        if x.shape[-1] != self.N:
            self.allocate(x.shape[-1])
        for layer in self.executed:
            x = layer.forward(x)
        return x

    def backward(self, dz: Array) -> None:
        """Overwrite the gradients of all parameters, given ∂E/∂ scores (classes, N).

        Raises
        ------
        OrderError
            There has been no forward pass.
        """
        if not self.N:
            raise OrderError(
                "backward was called before forward",
                remedy="call forward with a batch of images first",
                key="network",
            )
        dy: Array | None = dz
        for layer in reversed(self.executed[self.first_trained :]):
            assert dy is not None  # noqa: S101 - only the first trained layer returns None
            dy = layer.backward(dy)

    def scores(self, z: Array) -> Array:
        """Return outputs z (classes, N) so that the largest is predicted: distances negated."""
        return -z if self.executed[-1].outputs_are_distances else z

    def default_loss(self) -> Loss:
        """Return the loss that belongs to the outputs: scores or distances."""
        loss = MAPLoss if self.executed[-1].outputs_are_distances else SoftmaxCrossEntropy
        return loss(self.output_shape[0])

    def predict(self, images: Array, batch: int = 64) -> Array:
        """Return the class probabilities (N, classes) of preprocessed images (N,C,H,W)."""
        probabilities = np.empty((len(images), *self.output_shape), self.dtype)
        with self.evaluating():
            for start in range(0, len(images), batch):
                x = np.ascontiguousarray(
                    images[start : start + batch].transpose(1, 2, 3, 0), self.dtype
                )
                probabilities[start : start + batch] = softmax(self.scores(self.forward(x))).T
        return probabilities

    @property
    def mixes_images(self) -> bool:
        """Whether a batch is more than its images, as for batch normalisation.

        Otherwise it may be divided: the gradients of its slices add up to those of the batch.
        """
        return any(layer.mixes_images for layer in self.layers)

    # --- Copies -----------------------------------------------------------------------------------

    @property
    def fused(self) -> bool:
        """Whether one of the layers is fused of several."""
        return any(len(layer.parts) > 1 for layer in self.executed)

    def rebuilt(self, *, dtype: DTypeLike | None = None, fused: bool | None = None) -> Network:
        """Return an independent network of the same layers, parameters and state.

        Parameters
        ----------
        dtype
            Its precision; by default the same.
        fused
            Whether to fuse its layers; by default if this network's are.
        """
        other = Network(
            deepcopy(self.layers),
            self.input_shape,
            self.dtype if dtype is None else dtype,
            fused=self.fused if fused is None else fused,
        )
        other.load_state_dict(self.state_dict())
        other.training = self.training
        for layer, original in zip(other.layers, self.layers, strict=True):
            layer.random = original.random
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the flat vectors: the parameters have copies of their parts."""
        return {k: v for k, v in vars(self).items() if k not in ("parameters", "gradients")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.N = 0  # nothing is allocated
        values = [p.value.ravel() for p in self.parameter_list]
        gradients = [p.gradient.ravel() for p in self.parameter_list]
        none = np.empty(0, self.dtype)
        self.bind(np.concatenate([none, *values]), np.concatenate([none, *gradients]))

    def __repr__(self) -> str:
        return to_table(describe(self.layers, self.output_shapes))


def _refuse_equal_names(what: str, names: Iterable[str]) -> None:
    """Reject layers or parameters with equal names: a checkpoint could not distinguish them."""
    name, times = max(Counter(names).items(), key=lambda item: item[1], default=("", 1))
    if times > 1:
        raise ConfigError(
            f"{times} {what} have this name",
            remedy="layer names must be unique",
            key=f"{what.removesuffix('s')} {name}",
        )
