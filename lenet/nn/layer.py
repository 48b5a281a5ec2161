"""The layer protocol: build once, allocate for a batch size, run forward and backward.

A layer is a function of arrays (C,H,W,N) or (D,N), C-contiguous, the batch innermost. Every layer
file has the same order: constructor, ``build``, ``allocate``, ``forward``, ``backward``.

* The constructor takes a name, then options that are plain numbers, strings and lists.

* ``build`` takes the shape of one input without the batch, rejects an input that does not fit,
  declares the layer's parameters and returns the shape of one output.
* ``allocate`` takes the number of images and sizes every buffer, so that ``forward`` and
  ``backward`` allocate nothing.
* ``forward`` returns an array that belongs to the layer and is overwritten by the next call;
  its argument must not change until ``backward`` has been called.
* ``backward`` takes ∂E/∂y, overwrites the gradients of the parameters (never adds to them), and
  returns ∂E/∂x, or None where :attr:`Layer.needs_dx` is False.

The network sets three things that a layer may depend on:

* :attr:`Layer.training`: whether the network is being trained or evaluated. Dropout and batch
  normalisation differ.
* :attr:`Layer.random`: the key of the random numbers of this step. ``forward`` is a function of its
  input, the parameters, the state and this key, so the same step repeated gives the same numbers.
  A class that uses it sets :attr:`Layer.draws_random`.
* :attr:`Layer.state`: arrays by name, declared in ``build``, that ``forward`` updates in training
  and that no optimizer changes. They are stored with the parameters. ``build`` takes no memory for
  them: it declares constants by :func:`numpy.broadcast_to`, which :meth:`Layer.own_state` copies.

A copied or unpickled layer is built but not allocated: whatever ``allocate`` and ``forward`` set is
left out (:meth:`Layer.__getstate__`), and must therefore be set by ``allocate`` again.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf, prod
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array, Edges, Padding, Pair, Shape, aligned, padding_edges, pair
from lenet.errors import ConfigError, OrderError
from lenet.nn.im2col import extent, output_size
from lenet.nn.initializers import INITIALIZERS, Fan
from lenet.nn.randomness import RandomKey
from lenet.system.registry import lookup

Multipliers: TypeAlias = float | tuple[float, ...]
Rational: TypeAlias = int | Fraction
Window: TypeAlias = tuple[tuple[Rational, Rational], tuple[Rational, Rational]]
"""Height and width of what an output depends on, and the steps from one output to the next."""


@dataclass
class Parameter:
    """A trained array of a layer; the network gives it its place in the two flat vectors.

    Attributes
    ----------
    name, shape
        The name of the layer and of the array in it: ``C1.weight``.
    fan_in, fan_out
        The numbers of inputs and outputs that one unit is connected to, for the initialisation:
        a number, or an array that broadcasts to the shape.
    decays
        Whether weight decay applies: to weights, and not to biases.
    lr_mult, decay_mult
        Factors of the learning rate and of the weight decay, for this array alone.
    initial
        The initializer by name, or the number to start with; None for the network's initializer
        where the array decays, and zero where it does not.
    """

    name: str
    shape: Shape
    fan_in: Fan
    fan_out: Fan
    decays: bool
    lr_mult: float = field(default=1.0, kw_only=True)
    decay_mult: float = field(default=1.0, kw_only=True)
    initial: str | float | None = field(default=None, kw_only=True)
    value: Array = field(default_factory=lambda: np.empty(0), repr=False)
    gradient: Array = field(default_factory=lambda: np.empty(0), repr=False)

    @property
    def size(self) -> int:
        """The number of trained numbers."""
        return prod(self.shape)


class Layer(ABC):
    """A step of the network with its derivative.

    Attributes
    ----------
    parameters
        The trained arrays, set by ``build``.
    state
        Arrays that are stored but not trained, by name, set by ``build``.
    needs_dx
        Whether ``backward`` must return ∂E/∂x.
    training
        Whether the network is being trained; False in evaluation.
    random
        The key of the layer's random numbers in this step.
    """

    draws_random = False
    """Whether the layer uses :attr:`random`; a class that does sets it to True."""

    mixes_images: ClassVar[bool] = False
    """Whether the outputs of an image depend on the other images of the batch, in training."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)

    outputs_are_distances: ClassVar[bool] = False
    """Whether the smallest output is the predicted class, not the largest; for the last layer."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parameters: tuple[Parameter, ...] = ()
        self.state: dict[str, Array] = {}
        self.needs_dx = True
        self.training = True
        self.random = RandomKey()
        self._memory: dict[str, Array] = {}
        self._built: frozenset[str] = frozenset()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Explain an attribute that ``build``, ``allocate`` or ``forward`` would have set."""
            if name.startswith("_") or "name" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            raise OrderError(
                f"has no {name!r}, or not yet",
                remedy="call build, allocate, forward and backward in this order",
                key=f"layer {self.name}",
            )

    @abstractmethod
    def build(self, shape: Shape) -> Shape:
        """Fit the layer to inputs of ``shape`` and return the shape of its outputs.

        Raises
        ------
        ConfigError
            The input does not fit the layer; the message names it.
        """

    @abstractmethod
    def allocate(self, N: int, dtype: DTypeLike) -> None:
        """Size every buffer for batches of N images."""

    @abstractmethod
    def forward(self, x: Array) -> Array:
        """Return y = f(x)."""

    @abstractmethod
    def backward(self, dy: Array) -> Array | None:
        """Return ∂E/∂x for ∂E/∂y, and set the gradients of the parameters."""

    @property
    def patch_matrix(self) -> tuple[int, int] | None:
        """The shape (Ho·Wo, K) of one image's patch matrix, for layers that have one."""
        return None

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of the matrix product for one image."""
        return 0

    @property
    def connections(self) -> int:
        """The connections of one image as LeCun et al. (1998) count them, biases included."""
        return 0

    @property
    def window(self) -> Window:
        """What one output depends on: the size of the patch of the input, and the steps."""
        return extent(self.kernel, self.dilation), self.stride

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The layers that this one replaces: itself, unless it is fused of several."""
        return (self,)

    def buffer(self, name: str, shape: Shape, dtype: DTypeLike) -> Array:
        """Return zeros of ``shape`` over memory that the layer keeps under ``name``.

        A smaller batch is given a view of the memory of the larger one: the last, incomplete
        batch of an epoch costs no additional memory.
        """
        if not self._memory:
            self._built = frozenset(vars(self))
        size = prod(shape)
        memory = self._memory.get(name)
        if memory is None or memory.size < size or memory.dtype != np.dtype(dtype):
            memory = self._memory[name] = aligned((size,), dtype)
        array = memory[:size].reshape(shape)
        array.fill(0)
        return array

    def own_state(self) -> None:
        """Copy the state into writable memory, unless it is there already."""
        self.state = {
            name: array if array.flags.writeable else array.copy()
            for name, array in self.state.items()
        }

    def option(self, name: str) -> object:
        """Return an option of the constructor: by default, the attribute of its name."""
        return getattr(self, name)

    def options(self) -> dict[str, object]:
        """Return the options that differ from the constructor's defaults, as plain data."""
        given = {
            name: (plain(self.option(name)), parameter.default)
            for name, parameter in option_parameters(type(self)).items()
        }
        return {k: value for k, (value, default) in given.items() if not _equal(value, default)}

    def __repr__(self) -> str:
        try:
            options = [f"{name}={value!r}" for name, value in self.options().items()]
        except AttributeError:  # a constructor that does not store its options
            options = []
        return f"{type(self).__name__}({', '.join([repr(self.name), *options])})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the state after ``build``, without what ``allocate`` and ``forward`` have set."""
        kept = {k: v for k, v in vars(self).items() if k in self._built or not self._built}
        return {**kept, "_memory": {}, "_built": frozenset()}

    def misfit(self, problem: str) -> ConfigError:
        """Return the error for an input that does not fit this layer."""
        return ConfigError(
            problem,
            key=f"layer {self.name}",
            remedy="change the input size or the model's options so that the shapes fit",
        )

    def wrong_option(self, option: str, problem: str, remedy: str) -> ConfigError:
        """Return the error for an option of the constructor."""
        return ConfigError(problem, key=f"layer {self.name}: {option}", remedy=remedy)

    def pair(self, option: str, value: Pair, least: int = 1) -> tuple[int, int]:
        """Return an option as a (vertical, horizontal) pair, or refuse it."""
        try:
            return pair(value, least)
        except ValueError as error:
            raise self.wrong_option(option, str(error), "give a number or a pair") from None

    def padding_edges(self, value: Padding) -> Edges:
        """Return the option ``padding`` as (top, left, bottom, right), or refuse it."""
        try:
            return padding_edges(value)
        except ValueError as error:
            remedy = "give a number, a pair (vertical, horizontal) or all four sides"
            raise self.wrong_option("padding", str(error), remedy) from None

    def count(self, option: str, value: int) -> int:
        """Return an option that is an integer of 1 or more, or refuse it."""
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            problem = f"must be an integer of 1 or more, is {value!r}"
            raise self.wrong_option(option, problem, "give such a number")
        return int(value)

    def image_shape(self, shape: Shape) -> tuple[int, int, int]:
        """Return ``shape`` as (C,H,W), or refuse it."""
        if len(shape) != 3:
            raise self.misfit(f"takes images (C,H,W), is given the shape {shape}")
        return shape[0], shape[1], shape[2]

    def output_image(self, shape: Shape, padding: Edges = (0, 0, 0, 0)) -> tuple[int, int]:
        """Return (Ho, Wo) for this layer's kernel and stride, or refuse a kernel that is larger."""
        _, H, W = self.image_shape(shape)
        top, left, bottom, right = padding
        sides = _side(top, bottom), _side(left, right)
        try:
            Ho, Wo = map(output_size, (H, W), self.kernel, self.stride, sides, self.dilation)
        except ValueError as error:
            raise self.misfit(str(error)) from None
        return Ho, Wo


class TrainedLayer(Layer):
    """A layer with a weight and a bias.

    Parameters
    ----------
    name
        The name used in parameters, summaries and messages.
    initializer
        Initializer of the weight, by name (:data:`lenet.nn.initializers.INITIALIZERS`); None for
        that of the network.
    lr_mult, decay_mult
        Factors of the learning rate and of the weight decay: of both, or a pair (weight, bias).
    """

    def __init__(
        self, name: str, initializer: str | None, lr_mult: Multipliers, decay_mult: Multipliers
    ) -> None:
        super().__init__(name)
        if initializer is not None:
            lookup(INITIALIZERS, initializer, key=f"layer {name}: initializer")
        self.initializer = initializer
        self.lr_mult = self._multipliers("lr_mult", lr_mult)
        self.decay_mult = self._multipliers("decay_mult", decay_mult)

    def _multipliers(self, option: str, value: Multipliers) -> tuple[float, float]:
        both = tuple(value) if isinstance(value, tuple | list) else (value, value)
        if len(both) != 2 or not all(isinstance(m, int | float) and 0 <= m < inf for m in both):
            problem = f"must be one or two numbers of 0 or more, is {value!r}"
            raise self.wrong_option(option, problem, "give a number, or a pair (weight, bias)")
        return float(both[0]), float(both[1])

    def weight_and_bias(
        self,
        weight: Shape,
        bias: Shape,
        fan_in: Fan,
        fan_out: Fan,
        initial: tuple[str | float | None, float] = (None, 0.0),
    ) -> tuple[Parameter, Parameter]:
        """Return a weight and a bias of these shapes, with fans for the initialisation.

        ``initial`` is what they start with where the layer's ``initializer`` is None: see
        :attr:`Parameter.initial`.
        """
        weight_initial = self.initializer or initial[0]
        made = zip(
            ("weight", "bias"),
            (weight, bias),
            (weight_initial, initial[1]),
            self.lr_mult,
            self.decay_mult,
            strict=True,
        )
        first, second = (
            Parameter(
                f"{self.name}.{kind}",
                shape,
                fan_in,
                fan_out,
                decay_mult > 0,
                lr_mult=lr_mult,
                decay_mult=decay_mult or 1.0,
                initial=start,
            )
            for kind, shape, start, lr_mult, decay_mult in made
        )
        return first, second


NOT_OPTIONS: Final = ("self", "name", "block")


def option_parameters(layer: type[Layer]) -> dict[str, inspect.Parameter]:
    """Return the options of a class of layers: its constructor's, without name and ``block``."""
    parameters = inspect.signature(layer.__init__).parameters
    return {name: p for name, p in parameters.items() if name not in NOT_OPTIONS}


def plain(value: object) -> object:
    """Return an option as numbers, strings and lists; a pair of equal numbers as one number."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple | list):
        items = [plain(item) for item in value]
        same = len(items) in (2, 4) and all(item == items[0] for item in items)
        return items[0] if same and isinstance(items[0], int | float) else items
    return value


def _equal(value: object, default: object) -> bool:
    return (type(value) is not str and value == plain(default)) or value == default


def transposed(window: Window) -> Window:
    """Return the window of a layer that runs another backwards, from its outputs to its inputs.

    A patch of n outputs depends on ⌊(n − 1 + k − 1)/s⌋ + 1 inputs at most.
    """
    (kh, kw), (sh, sw) = window
    size = Fraction(kh - 1) / sh + 1, Fraction(kw - 1) / sw + 1
    return size, (1 / Fraction(sh), 1 / Fraction(sw))


def _side(before: int, after: int) -> int | tuple[int, int]:
    """Return the padding of an axis: one number where both sides have the same."""
    return before if before == after else (before, after)
