"""Products and sums of constants, made part of the layers before them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from lenet.nn.activations import LeCunTanh
from lenet.targets.onnx.translation import Step

EPSILON: Final = 1e-5


def simplified(steps: list[Step]) -> list[Step]:
    """Make layers of all products and sums of constants."""
    result: list[Step] = []
    for step in _with_lecun_tanh(steps):
        before = result[-1] if result else None
        if step.entry or before is None:
            result.append(step)
        elif not before.entry:
            a, b = step.arrays["factor"], step.arrays["offset"]
            arrays = {
                "factor": a * before.arrays["factor"],
                "offset": a * before.arrays["offset"] + b,
            }
            result[-1] = replace(before, arrays=arrays)
        elif before.entry["type"] in ("linear", "convolution"):
            a, b = step.arrays["factor"], step.arrays["offset"]
            columns = (-1, *[1] * (before.arrays["weight"].ndim - 1))
            weight = before.arrays["weight"] * a.reshape(columns)
            arrays = {"weight": weight, "bias": before.arrays["bias"] * a + b}
            result[-1] = replace(before, arrays=arrays)
        else:
            result.append(step)
    return [step if step.entry else _as_normalization(step) for step in result]


def _with_lecun_tanh(steps: list[Step]) -> list[Step]:
    """Put this layer in the place of tanh between its two products."""
    result: list[Step] = []
    for step in steps:
        result.append(step)
        if len(result) >= 3 and result[-2].entry.get("type") == "tanh":
            inner, outer = result[-3], result[-1]
            if all(
                not one.entry
                and not one.arrays["offset"].any()
                and np.allclose(one.arrays["factor"], number, rtol=1e-6)
                for one, number in ((inner, LeCunTanh.S), (outer, LeCunTanh.A))
            ):
                result[-3:] = [Step({"type": "lecun_tanh"}, {}, inner.shape)]
    return result


def _as_normalization(step: Step) -> Step:
    """Return factors and offsets as a batch normalization whose mean is 0 and variance 1."""
    C = step.shape[0]
    arrays = {
        "weight": step.arrays["factor"],
        "bias": step.arrays["offset"],
        "mean": np.zeros(C),
        "variance": np.full(C, 1 - EPSILON),
    }
    return replace(step, entry={"type": "batch_normalization", "epsilon": EPSILON}, arrays=arrays)
