"""Initial weights: LeCun, Glorot and He initialisation.

A weighted sum of ``fan_in`` inputs of variance 1 has the variance ``fan_in · Var[w]``, and on the
way back a sum of ``fan_out`` gradients multiplies theirs by ``fan_out · Var[w]``. Each rule below
chooses Var[w] so that neither grows nor vanishes from layer to layer. For a convolution with F
filters of C×kh×kw in g groups, fan_in = C/g·kh·kw and fan_out = F/g·kh·kw; for a linear layer they
are its inputs and outputs. Biases start at zero.

Every rule draws in float64 and rounds once, so that one seed gives the same network in float32
and float64, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.arrays import Shape

Fan: TypeAlias = int | NDArray[np.int64]
"""The inputs or outputs that one unit is connected to: of all units, or an array of each."""

Initializer: TypeAlias = Callable[[np.random.Generator, Shape, Fan, Fan, DTypeLike], NDArray[Any]]
"""``(rng, shape, fan_in, fan_out, dtype) -> weights of that shape and type``."""

Scale: TypeAlias = Callable[[Fan, Fan], Any]
"""``(fan_in, fan_out) -> standard deviation, or bound``."""


def normal(deviation: Scale) -> Initializer:
    """Return the initializer that draws normal weights of this standard deviation."""

    @wraps(deviation)
    def draw(
        rng: np.random.Generator, shape: Shape, fan_in: Fan, fan_out: Fan, dtype: DTypeLike
    ) -> NDArray[Any]:
        return rng.normal(0.0, deviation(fan_in, fan_out), shape).astype(dtype)

    return draw


def uniform(bound: Scale) -> Initializer:
    """Return the initializer that draws uniform weights between −bound and bound."""

    @wraps(bound)
    def draw(
        rng: np.random.Generator, shape: Shape, fan_in: Fan, fan_out: Fan, dtype: DTypeLike
    ) -> NDArray[Any]:
        limit = bound(fan_in, fan_out)
        return rng.uniform(-limit, limit, shape).astype(dtype)

    return draw


@normal
def lecun(fan_in: Fan, _fan_out: Fan) -> Any:  # noqa: ANN401 - a number, or an array like fan_in
    """Draw normal weights of variance 1 / fan_in: for LeCun's scaled tanh.

    LeCun, Bottou, Orr, Müller (1998), Efficient BackProp, eq. 16.
    """
    return (1 / fan_in) ** 0.5


@uniform
def lecun_uniform(fan_in: Fan, _fan_out: Fan) -> Any:  # noqa: ANN401
    """Draw uniform weights in ±√(3 / fan_in), of the variance of ``lecun``: Caffe's ``xavier``.

    ``XavierFiller`` in Caffe's ``filler.hpp``. Caffe names it after Xavier Glorot, but its default
    leaves fan_out aside.
    """
    return (3 / fan_in) ** 0.5


@uniform
def glorot(fan_in: Fan, fan_out: Fan) -> Any:  # noqa: ANN401
    """Draw uniform weights in ±√(6 / (fan_in + fan_out)): for sigmoid, tanh and softmax.

    Their variance is 2 / (fan_in + fan_out), the compromise between forward and backward.
    Glorot, Bengio (2010), Understanding the difficulty of training deep feedforward neural
    networks, eq. 16.
    """
    return (6 / (fan_in + fan_out)) ** 0.5


@normal
def he(fan_in: Fan, _fan_out: Fan) -> Any:  # noqa: ANN401
    """Draw normal weights of variance 2 / fan_in: for ReLU, which halves the variance.

    He, Zhang, Ren, Sun (2015), Delving deep into rectifiers, eq. 10.

    Examples
    --------
    >>> weights = he(np.random.default_rng(0), (1000, 200), 200, 1000, np.float32)
    >>> round(float(weights.std()), 2)  # √(2 / 200)
    0.1
    """
    return (2 / fan_in) ** 0.5


@uniform
def lecun1998(fan_in: Fan, _fan_out: Fan) -> Any:  # noqa: ANN401
    """Draw uniform weights in ±2.4 / fan_in: those of the first LeNet-5.

    LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document recognition,
    appendix A.
    """
    return 2.4 / fan_in


INITIALIZERS: dict[str, Initializer] = {
    "lecun": lecun,
    "lecun_uniform": lecun_uniform,
    "lecun1998": lecun1998,
    "glorot": glorot,
    "he": he,
}
