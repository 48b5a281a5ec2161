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
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Fan: TypeAlias = int | NDArray[np.int64]
"""The inputs or outputs that one unit is connected to: of all units, or an array of each."""

Initializer: TypeAlias = Callable[
    [np.random.Generator, tuple[int, ...], Fan, Fan, DTypeLike], NDArray[Any]
]
"""``(rng, shape, fan_in, fan_out, dtype) -> weights of that shape and type``."""


def lecun(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    fan_in: Fan,
    _fan_out: Fan,
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """Draw normal weights of variance 1 / fan_in: for LeCun's scaled tanh.

    References
    ----------
    LeCun, Bottou, Orr, Müller (1998), Efficient BackProp, eq. 16.

    Examples
    --------
    >>> weights = lecun(np.random.default_rng(0), (1000, 100), 100, 1000)
    >>> round(float(weights.std()), 2)  # √(1 / 100)
    0.1
    """
    return rng.normal(0.0, (1 / fan_in) ** 0.5, shape).astype(dtype)


def lecun_uniform(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    fan_in: Fan,
    _fan_out: Fan,
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """Draw uniform weights in ±√(3 / fan_in), of the variance of ``lecun``: Caffe's ``xavier``.

    Caffe names it after Xavier Glorot, but its default leaves fan_out aside.

    References
    ----------
    ``XavierFiller`` in Caffe's ``filler.hpp``; the variance is that of LeCun, Bottou, Orr, Müller
    (1998), Efficient BackProp, eq. 16.

    Examples
    --------
    >>> weights = lecun_uniform(np.random.default_rng(0), (1000, 300), 300, 1000)
    >>> round(float(abs(weights).max()), 3)  # √(3 / 300)
    0.1
    """
    bound = (3 / fan_in) ** 0.5
    return rng.uniform(-bound, bound, shape).astype(dtype)


def glorot(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    fan_in: Fan,
    fan_out: Fan,
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """Draw uniform weights in ±√(6 / (fan_in + fan_out)): for sigmoid, tanh and softmax.

    Their variance is 2 / (fan_in + fan_out), the compromise between forward and backward.

    References
    ----------
    Glorot, Bengio (2010), Understanding the difficulty of training deep feedforward neural
    networks, eq. 16.

    Examples
    --------
    >>> weights = glorot(np.random.default_rng(0), (1000, 200), 200, 1000)
    >>> round(float(abs(weights).max()), 3)  # √(6 / 1200)
    0.071
    """
    bound = (6 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-bound, bound, shape).astype(dtype)


def he(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    fan_in: Fan,
    _fan_out: Fan,
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """Draw normal weights of variance 2 / fan_in: for ReLU, which halves the variance.

    References
    ----------
    He, Zhang, Ren, Sun (2015), Delving deep into rectifiers, eq. 10.

    Examples
    --------
    >>> weights = he(np.random.default_rng(0), (1000, 200), 200, 1000)
    >>> round(float(weights.std()), 2)  # √(2 / 200)
    0.1
    """
    return rng.normal(0.0, (2 / fan_in) ** 0.5, shape).astype(dtype)


def lecun1998(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    fan_in: Fan,
    _fan_out: Fan,
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """Draw uniform weights in ±2.4 / fan_in: those of the first LeNet-5.

    References
    ----------
    LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document
    recognition, appendix A.

    Examples
    --------
    >>> weights = lecun1998(np.random.default_rng(0), (1000, 100), 100, 1000)
    >>> round(float(abs(weights).max()), 3)  # 2.4 / 100
    0.024
    """
    bound = 2.4 / fan_in
    return rng.uniform(-bound, bound, shape).astype(dtype)


INITIALIZERS: dict[str, Initializer] = {
    "lecun": lecun,
    "lecun_uniform": lecun_uniform,
    "lecun1998": lecun1998,
    "glorot": glorot,
    "he": he,
}
