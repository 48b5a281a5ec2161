"""Optimizers: update rules that work in place on the flat parameter vector.

A network's parameters are views of one flat vector and its gradients of another, so a rule is a
few vector operations, independent of the layers. Each rule allocates its memory once: a step
allocates nothing that grows with the vector.

Notation: parameters w, gradients g, learning rate lr, weight decay λ, and t = 1, 2, 3 … the
number of this step. Rules have no step counter: lr and t are passed to each step, so a checkpoint
needs only the vectors of ``state()`` to resume with the same bits.

``part`` is the slice of the vector that a step updates. Vectors have their full length
everywhere, so workers that update disjoint parts can share one state (``zeros`` allocates it).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.errors import CheckpointError, ConfigError
from lenet.system.registry import lookup, option

Vector: TypeAlias = NDArray[np.floating[Any]]
Zeros: TypeAlias = Callable[[int, DTypeLike], Vector]

Matrix: TypeAlias = tuple[int, int, int]
"""A matrix of weights in the flat vector: where it starts, its rows and its columns."""

EVERYTHING = slice(None)


class Stateful:
    """An object whose complete state is a few named vectors."""

    def __init__(self, vectors: dict[str, Vector]) -> None:
        self.vectors = vectors

    def state(self) -> dict[str, Vector]:
        """Return the vectors themselves, not copies, by name."""
        return dict(self.vectors)

    def restore(self, state: Mapping[str, Vector]) -> None:
        """Copy the vectors of an earlier ``state()`` into this one's.

        Raises
        ------
        CheckpointError
            The names, shapes or types are not those of ``state()``; nothing is changed then.
        """
        if _outline(state) != _outline(self.vectors):
            raise CheckpointError(
                f"contains {_outline(state)}, but {_outline(self.vectors)} is needed",
                remedy="resume with the original optimizer and network",
                key="optimizer",
            )
        for name, vector in self.vectors.items():
            np.copyto(vector, state[name])


def _outline(vectors: Mapping[str, Vector]) -> dict[str, str]:
    """Describe vectors by name, type and shape, in the order of their names."""
    return {name: f"{v.dtype} {v.shape}" for name, v in sorted(vectors.items())}


@dataclass(eq=False, kw_only=True)
class Optimizer(Stateful, ABC):
    """The base class of all rules: memory and weight decay.

    The loss has the term ½·λ·Σ‖W‖² on weights, never on biases, so its gradient has λW. λ is stored
    as a vector that is 0 at the biases: one more multiply-add, but cheaper than a loop over the
    slices of the layers, and correct for any ``part``.

    Parameters
    ----------
    size
        Number of parameters.
    dtype
        Their type.
    weight_decay
        λ.
    decays
        Mask of the parameters that decay, shape (size,): the weights. True stands for all. Numbers
        are factors of λ.
    lr_multipliers
        Factors of the learning rate, shape (size,); None where all are 1.
    matrices
        The matrices among the parameters, for rules that treat them as such.
    zeros
        Allocates the vectors of the rule: ``zeros(size, dtype)``.
    """

    vector_names: ClassVar[tuple[str, ...]]
    """Names of the vectors that the rule stores from step to step."""

    needs_whole_matrices: ClassVar[bool] = False
    """Whether a ``part`` may not cut a matrix."""

    default_lr: ClassVar[float] = 0.05
    """The learning rate where none is given."""

    size: int = field(kw_only=False)
    dtype: DTypeLike = field(default=np.float32, kw_only=False)
    weight_decay: float = 0.0
    decays: NDArray[Any] | bool = True
    lr_multipliers: Vector | None = None
    matrices: Sequence[Matrix] = ()
    zeros: Zeros = np.zeros

    def __post_init__(self) -> None:
        super().__init__({name: self.zeros(self.size, self.dtype) for name in self.vector_names})
        self.scratch: Vector = np.empty(self.size, self.dtype)
        self.decay: Vector | None = None
        if self.weight_decay:
            self.decay = np.empty(self.size, self.dtype)
            self.decay[:] = np.multiply(self.decays, self.weight_decay)

    @abstractmethod
    def step(
        self, parameters: Vector, gradients: Vector, lr: float, t: int, part: slice = EVERYTHING
    ) -> None:
        """Update ``parameters[part]`` in place from ``gradients[part]``, which do not change.

        Parameters
        ----------
        parameters, gradients
            The network's flat vectors, shape (size,).
        lr
            Learning rate.
        t
            Number of this step, starting at 1.
        part
            The slice to update.
        """

    def move(self, w: Vector, s: Vector, part: slice) -> None:
        """Set w to w − s, where s is the step for a learning rate multiplier of 1."""
        if self.lr_multipliers is not None:
            s *= self.lr_multipliers[part]
        w -= s

    def decayed(self, w: Vector, g: Vector, part: slice) -> Vector:
        """Return g + λw, in scratch memory; without weight decay g itself."""
        if self.decay is None:
            return g
        s = self.scratch[part]
        np.multiply(w, self.decay[part], out=s)
        s += g
        return s


OPTIMIZERS: Final[dict[str, type[Optimizer]]] = {}
"""The rules by name; :func:`register` adds them."""

Rule = TypeVar("Rule", bound=type[Optimizer])


def register(name: str) -> Callable[[Rule], Rule]:
    """Add the decorated rule to :data:`OPTIMIZERS`.

    Its fields declared by :func:`~lenet.system.registry.option` become keys of the configuration.
    """

    def add(rule: Rule) -> Rule:
        OPTIMIZERS[name] = rule
        return rule

    return add


@register("sgd")
@dataclass(eq=False, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum μ (plain descent for μ = 0).

    ::

        v ← μ·v + g + λw
        w ← w − lr·v

    References
    ----------
    Polyak (1964); in this form, with lr outside v, as in PyTorch.

    Examples
    --------
    >>> w, g = np.array([1.0]), np.array([2.0])
    >>> sgd = SGD(1, np.float64, momentum=0.5)
    >>> for t in (1, 2):  # v is 2, then 0.5·2 + 2 = 3
    ...     sgd.step(w, g, lr=0.1, t=t)
    >>> print(w)  # 1 − 0.1·2 − 0.1·3
    [0.5]
    """

    vector_names = ("velocity",)

    momentum: float = option(0.9, "Momentum", at_least=0, below=1)

    def step(
        self,
        parameters: Vector,
        gradients: Vector,
        lr: float,
        t: int,  # noqa: ARG002 (the rule is the same at every step)
        part: slice = EVERYTHING,
    ) -> None:
        """Update in place; see :meth:`Optimizer.step`."""
        w, v, s = parameters[part], self.vectors["velocity"][part], self.scratch[part]
        v *= self.momentum
        v += self.decayed(w, gradients[part], part)
        np.multiply(v, lr, out=s)
        self.move(w, s, part)


@register("nesterov")
@dataclass(eq=False, kw_only=True)
class Nesterov(Optimizer):
    """Nesterov's accelerated gradient: the gradient taken one momentum step ahead.

    Sutskever's form moves w by v and takes the gradient at the look-ahead point, w + μv. Written
    for the look-ahead point, where the network always is (PyTorch's form)::

        v ← μ·v + g + λw
        w ← w − lr·(g + λw + μ·v)

    The stored vector is m = μ·v, which saves a pass over the vector: m ← μ·(m + g) and
    w ← w − lr·(g + m).

    References
    ----------
    Nesterov (1983); Sutskever, Martens, Dahl, Hinton (2013), On the importance of initialization
    and momentum in deep learning, eq. 3 and 4; Bengio, Boulanger-Lewandowski, Pascanu (2013),
    Advances in optimizing recurrent networks, eq. 7.

    Examples
    --------
    >>> w, g = np.array([1.0]), np.array([2.0])
    >>> nesterov = Nesterov(1, np.float64, momentum=0.5)
    >>> nesterov.step(w, g, lr=0.1, t=1)
    >>> print(w)  # v is 2; 1 − 0.1·(2 + 0.5·2)
    [0.7]
    """

    vector_names = ("lookahead",)

    momentum: float = option(0.9, "Momentum", at_least=0, below=1)

    def step(
        self,
        parameters: Vector,
        gradients: Vector,
        lr: float,
        t: int,  # noqa: ARG002 (the rule is the same at every step)
        part: slice = EVERYTHING,
    ) -> None:
        """Update in place; see :meth:`Optimizer.step`."""
        w = parameters[part]
        s = self.direction(w, gradients[part], part)
        s *= lr
        self.move(w, s, part)

    def direction(self, w: Vector, g: Vector, part: slice) -> Vector:
        """Update m; return g + λw + m, in scratch memory."""
        m, s = self.vectors["lookahead"][part], self.scratch[part]
        g = self.decayed(w, g, part)
        m += g
        m *= self.momentum
        np.add(g, m, out=s)
        return s


@register("adam")
@dataclass(eq=False, kw_only=True)
class Adam(Optimizer):
    """Adam: the mean gradient over the root of its mean square.

    ::

        m̂ = mean of g,  weighted by β1^age        w ← w − lr·m̂ / (√v̂ + ε)
        v̂ = mean of g², weighted by β2^age

    The stored vectors are the weighted sums M ← β1·M + g and V ← β2·V + g². Divided by the sums of
    their weights, c1 = 1 + β1 + … + β1^(t−1) and c2 likewise, they are the paper's bias-corrected
    means, which saves its two passes of averaging::

        lr·(M/c1) / (√(V/c2) + ε)  =  (lr·√c2/c1) · M / (√V + ε·√c2)

    Adam's weight decay is coupled: λw is added to g, and is divided by √v̂ with it. AdamW's is
    decoupled: w ← w − lr·λ·w in addition to the step.

    References
    ----------
    Kingma, Ba (2015), Adam: a method for stochastic optimization, algorithm 1 and section 2;
    Loshchilov, Hutter (2019), Decoupled weight decay regularization, algorithm 2 (λ scaled by
    lr, as in PyTorch).

    Examples
    --------
    >>> w, g = np.array([1.0, 1.0]), np.array([200.0, -0.003])
    >>> Adam(2, np.float64).step(w, g, lr=0.25, t=1)
    >>> print(w.round(3))  # the first step is lr, against the sign of the gradient
    [0.75 1.25]
    """

    vector_names = ("first_moment", "second_moment")

    default_lr = 0.001

    beta1: float = option(0.9, "Decay of the mean of the gradient", at_least=0, below=1)
    beta2: float = option(0.999, "Decay of the mean of the squared gradient", at_least=0, below=1)
    epsilon: float = option(1e-8, "Added to the root of the mean square", above=0, at_most=1)
    decoupled: ClassVar[bool] = False

    def step(
        self, parameters: Vector, gradients: Vector, lr: float, t: int, part: slice = EVERYTHING
    ) -> None:
        """Update in place; see :meth:`Optimizer.step`."""
        w, g, s = parameters[part], gradients[part], self.scratch[part]
        m, v = self.vectors["first_moment"][part], self.vectors["second_moment"][part]
        if self.decoupled:
            self.shrink(w, lr, part)
        else:
            g = self.decayed(w, g, part)
        m *= self.beta1
        m += g
        v *= self.beta2
        np.multiply(g, g, out=s)
        v += s

        c1 = (1 - self.beta1**t) / (1 - self.beta1)
        c2 = (1 - self.beta2**t) / (1 - self.beta2)
        np.sqrt(v, out=s)
        s += self.epsilon * c2**0.5
        np.divide(m, s, out=s)
        s *= lr * c2**0.5 / c1
        self.move(w, s, part)

    def shrink(self, w: Vector, lr: float, part: slice) -> None:
        """Decay the weights themselves: w ← w − lr·λ·w."""
        if self.decay is None:
            return
        s = self.scratch[part]
        np.multiply(w, self.decay[part], out=s)
        s *= lr
        self.move(w, s, part)


@register("adamw")
class AdamW(Adam):
    """Adam with decoupled weight decay; see :class:`Adam`."""

    decoupled = True


def make_optimizer(
    name: str,
    size: int,
    dtype: DTypeLike = np.float32,
    **options: Any,  # noqa: ANN401 - those of the rule
) -> Optimizer:
    """Build an optimizer by its name in :data:`OPTIMIZERS`.

    Parameters
    ----------
    name
        ``sgd``, ``nesterov``, ``adam``, ``adamw`` or ``muon``.
    size, dtype
        Of the flat parameter vector.
    options
        ``weight_decay``, ``decays``, ``lr_multipliers``, ``matrices`` and ``zeros``: see
        :class:`Optimizer`. Hyperparameters such as ``momentum`` or ``beta1``: each optimizer uses
        those that it has; the others have the defaults of its class.

    Raises
    ------
    ConfigError
        There is no optimizer of that name, or no optimizer has a hyperparameter of that name.

    Examples
    --------
    >>> optimizer = make_optimizer("adamw", 61706, weight_decay=0.01)
    >>> list(optimizer.state())
    ['first_moment', 'second_moment']
    """
    rule = lookup(OPTIMIZERS, name, key="optimizer.name")
    shared = {field.name for field in fields(Optimizer)}
    for given in options.keys() - shared:
        if not any(given in hyperparameters(other) for other in OPTIMIZERS.values()):
            own = ", ".join(hyperparameters(rule)) or "none"
            raise ConfigError(
                f"there is no hyperparameter {given!r}",
                remedy=f"{name} has {own}",
                key=f"optimizer.{given}",
            )
    known = shared | hyperparameters(rule).keys()
    return rule(size, dtype, **{key: value for key, value in options.items() if key in known})


def hyperparameters(rule: type[Optimizer]) -> dict[str, Field[Any]]:
    """Return an optimizer's own hyperparameters by name, without those that all share.

    Examples
    --------
    >>> list(hyperparameters(SGD))
    ['momentum']
    """
    return {field.name: field for field in fields(rule) if "bounds" in field.metadata}
