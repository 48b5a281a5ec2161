"""C in float: one C99 file that contains the weights, and its header; it needs only the C library.

An operation of a layer becomes calls of the functions in ``float32.c`` by :data:`TRANSLATIONS`; the
function of an activation is written from its formula.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Final

import numpy as np

from lenet.arrays import Array
from lenet.errors import ConfigError
from lenet.targets import operations as op
from lenet.targets.c.frame import Code, c_files, c_rows
from lenet.targets.networks import ExportedNetwork, sample_image
from lenet.targets.operations import dispatched, formulas, operations_of, refused, written

PROBLEM, REMEDY = "cannot be exported to C", "export it with --onnx, or train a network without it"
MAX_WEIGHTS: Final = 4_000_000  # a C file of some 50 MB
TOLERANCE: Final = 1e-4  # of scores in the self-test, relative to the largest if above 1
MAX_STACK: Final = 256 * 1024  # bytes: a thread may have as little as 512 KiB

# What goes into the frame. An image is bytes, or else floats.
FORM: Final = {
    "FORM": "",
    "NEEDS": "; compile lenet.c and link with -lm.",
    "BLANK": (
        "Levels from 0 to 1 are wrong: such an image is taken for blank. So is an image whose\n"
        " * levels differ by at most 1, or that contains NaN or an infinity."
    ),
    "HEADERINCLUDES": "",
    "INCLUDES": "\n#include <math.h>\n",
    "SCORE": "float",
    "NUMBER": "float",
    "IMAGE": "const unsigned char *bytes, const float *floats",
    "GIVEN": "bytes, floats",
    "REST": ", 0",
}


def c_source(exported: ExportedNetwork, prefix: str = "lenet") -> dict[str, str]:
    """Return the two files by name, ``lenet.h`` and ``lenet.c``."""
    network, preprocessing = exported.network, exported.preprocessing
    size = network.parameters.size
    if size > MAX_WEIGHTS:
        raise _too_large(f"{size} weights are more than the {MAX_WEIGHTS} that a C file may have")
    code = Code()
    for layer in network.layers:
        for operation in operations_of(layer):
            dispatched(TRANSLATIONS, operation, PROBLEM, REMEDY)(code, operation)
    if network.layers[-1].outputs_are_distances:
        code.in_place("negate", len(exported.class_names))
    stack = 4 * sum(code.calls(prod(network.input_shape))[1].values())
    if stack > MAX_STACK:
        raise _too_large(f"its activations take {stack} bytes of stack, more than {MAX_STACK}")
    used = {step.function for step in code.steps}
    if any("struct window" in constant for constant in code.constants):
        used.add("window")
    scores = exported.scores(sample_image(exported)[None])[0].astype(np.float32)
    tolerance = _float(TOLERANCE * max(1, np.abs(scores).max()))
    level = f"inside ? bytes ? (float)bytes[k] : floats[k] : {_float(preprocessing.background)}"
    form = {
        "TESTSCORES": c_rows(_floats(scores)),
        "DIFFERS": f"!(fabsf(scores[c] - test_scores[c]) <= {tolerance})",
        "INPUT": f"{_float(preprocessing.scale)} * ({level}) + {_float(preprocessing.shift)}",
    }
    return c_files(exported, code, "float32.c", used, FORM | form, prefix)


def _too_large(problem: str) -> ConfigError:
    return ConfigError(problem, remedy="export it with --onnx", key="--c")


def _array(code: Code, operation: op.Operation, part: str, values: Array) -> str:
    """Declare an array and return its name in C."""
    name, shape = f"{operation.layer}.{part}", " x ".join(map(str, values.shape))
    return code.array(name, "float", _floats(values), shape)


def _window(code: Code, operation: op.Operation, window: op.Window, groups: int = 1) -> str:
    """Declare the window of a layer and return its address in C."""
    sizes = (*operation.shape, *operation.output, *window.kernel, *window.stride)
    numbers = (*sizes, *window.edges[:2], *window.dilation, groups)
    return code.structure(f"{operation.layer}.window", "window", numbers)


def _floats(values: Array) -> list[str]:
    return [_float(number) for number in values.ravel()]


def _float(number: float | np.floating[Any]) -> str:
    """Return the shortest decimal that reads back as the same float; it has a point or an e."""
    return f"{np.float32(number)!s}f"


# --- Operations -----------------------------------------------------------------------------------


def _product(code: Code, operation: op.Product) -> None:
    weight = _array(code, operation, "weight", operation.weight)
    bias = _array(code, operation, "bias", operation.bias)
    F = len(operation.bias)
    if operation.is_one_patch:  # the loops of a convolution would be of length one
        code.call("linear", F, operation.weight.size // F, weight, bias, F)
        return
    window = _window(code, operation, operation.window, operation.groups)
    code.call("convolution", prod(operation.output), window, weight, bias)


def _affine(code: Code, operation: op.Affine) -> None:
    weight = _array(code, operation, "weight", operation.weight)
    bias = _array(code, operation, "bias", operation.bias)
    F, D = operation.weight.shape
    code.call("linear", F, D, weight, bias, F)


def _transposed(code: Code, operation: op.Transposed) -> None:
    weight = _array(code, operation, "weight", operation.weight)
    bias = _array(code, operation, "bias", operation.bias)
    window = _window(code, operation, operation.window, operation.groups)
    code.call("transposed_convolution", prod(operation.output), window, weight, bias)


def _maximum(code: Code, operation: op.Maximum) -> None:
    window = _window(code, operation, operation.window)
    code.call("max_pooling", prod(operation.output), window)


def _sum(code: Code, operation: op.Sum) -> None:
    window, factor = _window(code, operation, operation.window), operation.factor
    one = _float(1 if factor is None else factor)
    code.call("sum_pooling", prod(operation.output), window, one)
    if factor is None:
        weights = _array(code, operation, "factors", operation.factors)
        code.in_place("scale_places", operation.output[0], operation.factors.size, weights)


def _scale(code: Code, operation: op.Scale) -> None:
    weights = _array(code, operation, "factor", operation.factor)
    biases = _array(code, operation, "offset", operation.offset)
    C = len(operation.factor)
    code.in_place("scale_channels", C, prod(operation.shape) // C, weights, biases)


def _repeat(code: Code, operation: op.Repeat) -> None:
    code.call("repeat", prod(operation.output), *operation.shape, *operation.factor)


def _distances(code: Code, operation: op.Distances) -> None:
    classes, D = operation.centres.shape
    centres = _array(code, operation, "centres", operation.centres)
    code.call("squared_distances", classes, D, centres, classes)


def _pointwise(code: Code, operation: op.Pointwise) -> None:
    formula = formulas(operation.function)
    if formula is None:
        raise refused(operation, f"with {operation.function.__name__} {PROBLEM}", REMEDY)
    value = written(formula[0], op.C, "x[i]")
    code.in_place(code.pointwise(operation.function.__name__, value), prod(operation.shape))


TRANSLATIONS: Final[dict[type[op.Operation], Callable[[Code, Any], None]]] = {
    op.Product: _product,
    op.Affine: _affine,
    op.Transposed: _transposed,
    op.Maximum: _maximum,
    op.Sum: _sum,
    op.Scale: _scale,
    op.Repeat: _repeat,
    op.Distances: _distances,
    op.Pointwise: _pointwise,
}
