"""C in float: one C99 file that contains the weights, and its header; it needs only the C library.

A layer is translated by the function of its class in :data:`TRANSLATIONS`, to calls of the
functions in ``float32.c``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Final

import numpy as np

from lenet.arrays import Array, Shape
from lenet.errors import ConfigError
from lenet.nn.activations import Activation, Function, LeCunTanh, ReLU, Sigmoid, Tanh
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.rbf import RBF
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import RepeatUnpooling
from lenet.targets.c.frame import Code, c_files, c_rows, functions_of
from lenet.targets.exported import (
    ExportedNetwork,
    average_factors,
    batch_factors,
    is_one_patch,
    not_exported,
    sample_image,
)

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
    "DECLARATIONS": """\
/* The class of an image, and the probabilities of all classes; for a blank image 0, and equal
 * probabilities. */
int lenet_probabilities(const float image[LENET_PIXELS], float probabilities[LENET_CLASSES]);

/* The scores of all classes, whose softmax is the probabilities unless the image is blank. */
void lenet_scores(const float image[LENET_PIXELS], float scores[LENET_CLASSES]);""",
    "ISIMAGE": """\
/* Whether the levels of an image are finite and differ by more than 1. */
static int is_image(const unsigned char *bytes, const float *floats)
{
    float minimum = HUGE_VALF, maximum = -HUGE_VALF;
    for (int k = 0; k < LENET_PIXELS; k++) {
        float level = bytes ? (float)bytes[k] : floats[k];
        if (!(level - level == 0.0f)) /* NaN or an infinity */
            return 0;
        minimum = level < minimum ? level : minimum;
        maximum = level > maximum ? level : maximum;
    }
    return maximum - minimum > 1.0f;
}""",
    "DEFINITIONS": """\
void lenet_scores(const float image[LENET_PIXELS], float scores[LENET_CLASSES])
{
    scores_of(0, image, scores);
}

int lenet_probabilities(const float image[LENET_PIXELS], float probabilities[LENET_CLASSES])
{
    float sum = 0.0f, *p = probabilities;
    for (int c = 0; c < LENET_CLASSES; c++)
        p[c] = 0.0f;
    if (is_image(0, image))
        scores_of(0, image, p);
    int best = largest(p);
    float maximum = p[best]; /* subtracted, so that expf cannot overflow */
    for (int c = 0; c < LENET_CLASSES; c++)
        sum += p[c] = expf(p[c] - maximum);
    for (int c = 0; c < LENET_CLASSES; c++)
        p[c] /= sum;
    return best;
}""",
}


def c_source(exported: ExportedNetwork) -> dict[str, str]:
    """Return the two files by name, ``lenet.h`` and ``lenet.c``.

    Raises
    ------
    ConfigError
        A layer has no translation, or the network is too large for a C file, or its activations
        for the stack.
    """
    network, preprocessing = exported.network, exported.preprocessing
    size = network.parameters.size
    if size > MAX_WEIGHTS:
        raise _too_large(f"{size} weights are more than the {MAX_WEIGHTS} that a C file may have")
    code = Code()
    for layer in network.layers:
        if type(layer) not in TRANSLATIONS:
            raise not_exported(layer, "C")
        TRANSLATIONS[type(layer)](code, layer)
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
    return c_files(exported, code, functions_of("float32.c", used), FORM | form)


def _too_large(problem: str) -> ConfigError:
    return ConfigError(problem, remedy="export it with --onnx", key="--c")


def _array(code: Code, name: str, values: Array) -> str:
    """Declare an array and return its name in C."""
    return code.array(name, "float", _floats(values), " x ".join(map(str, values.shape)))


def _window(
    code: Code,
    layer: Any,  # noqa: ANN401 - any layer with a kernel
    output: Shape,
    edges: tuple[int, ...],
    groups: int = 1,
) -> str:
    """Declare the window of a layer and return its address in C."""
    (F, Ho, Wo), (top, left, *_) = output, edges
    numbers = (*layer.shape, F, Ho, Wo, *layer.kernel, *layer.stride, top, left)
    return code.structure(f"{layer.name}.window", "window", (*numbers, *layer.dilation, groups))


def _floats(values: Array) -> list[str]:
    return [_float(number) for number in values.ravel()]


def _float(number: float | np.floating[Any]) -> str:
    """Return the shortest decimal that reads back as the same float; it has a point or an e."""
    return f"{np.float32(number)!s}f"


# --- Layers ---------------------------------------------------------------------------------------


def _convolution(code: Code, layer: Convolution) -> None:
    kernels = layer.kernels[:, :, ::-1, ::-1] if layer.flip else layer.kernels
    weight = _array(code, layer.weight.name, kernels)
    bias = _array(code, layer.bias.name, layer.bias.value)
    if is_one_patch(layer):  # the loops of a convolution would be of length one
        code.call("linear", layer.F, layer.K, weight, bias, layer.F)
        return
    output = layer.F, layer.Ho, layer.Wo
    window = _window(code, layer, output, layer.edges, layer.groups)
    code.call("convolution", prod(output), window, weight, bias)


def _transposed_convolution(code: Code, layer: TransposedConvolution) -> None:
    weight = _array(code, layer.weight.name, layer.weight.value)
    bias = _array(code, layer.bias.name, layer.bias.value)
    output = layer.F, layer.Ho, layer.Wo
    window = _window(code, layer, output, layer.edges, layer.groups)
    code.call("transposed_convolution", prod(output), window, weight, bias)


def _max_pooling(code: Code, layer: MaxPooling) -> None:
    window = _window(code, layer, layer.output_shape, layer.edges)
    code.call("max_pooling", prod(layer.output_shape), window)


def _average_pooling(code: Code, layer: AveragePooling) -> None:
    window = _window(code, layer, layer.output_shape, layer.edges)
    factors = average_factors(layer)
    if (factors == factors[0, 0]).all():
        one = _float(np.float32(factors[0, 0]))
        code.call("sum_pooling", prod(layer.output_shape), window, one)
        return
    code.call("sum_pooling", prod(layer.output_shape), window, "1.0f")
    weights = _array(code, f"{layer.name}.factors", factors)
    code.in_place("scale_places", layer.shape[0], factors.size, weights)


def _subsampling(code: Code, layer: Subsampling) -> None:
    output = layer.shape[0], layer.Ho, layer.Wo
    window = _window(code, layer, output, (0, 0, 0, 0))
    code.call("sum_pooling", prod(output), window, "1.0f")
    weight = _array(code, layer.weight.name, layer.weight.value)
    bias = _array(code, layer.bias.name, layer.bias.value)
    code.in_place("scale_channels", layer.shape[0], layer.Ho * layer.Wo, weight, bias)


def _batch_normalization(code: Code, layer: BatchNormalization) -> None:
    factor, offset = batch_factors(layer)
    weights = _array(code, f"{layer.name}.factor", factor)
    biases = _array(code, f"{layer.name}.offset", offset)
    code.in_place("scale_channels", layer.C, prod(layer.shape) // layer.C, weights, biases)


def _repeat(code: Code, layer: RepeatUnpooling) -> None:
    count = prod(layer.shape) * prod(layer.factor)
    code.call("repeat", count, *layer.shape, *layer.factor)


def _linear(code: Code, layer: Linear) -> None:
    weight = _array(code, layer.weight.name, layer.weight.value)
    bias = _array(code, layer.bias.name, layer.bias.value)
    code.call("linear", layer.F, layer.D, weight, bias, layer.F)


def _rbf(code: Code, layer: RBF) -> None:
    classes, D = layer.centres.shape
    centres = _array(code, f"{layer.name}.centres", layer.centres)
    code.call("squared_distances", classes, D, centres, classes)


def _activation(code: Code, layer: Activation) -> None:
    if layer.function not in ACTIVATIONS:
        raise not_exported(layer, "C", layer.function.__name__)
    code.in_place(ACTIVATIONS[layer.function], prod(layer.shape))


def _nothing(code: Code, layer: Layer) -> None:
    """Dropout does nothing outside of training."""


ACTIVATIONS: Final[dict[type[Function], str]] = {
    ReLU: "relu",
    Sigmoid: "sigmoid",
    Tanh: "hyperbolic_tangent",
    LeCunTanh: "lecun_tanh",
}
TRANSLATIONS: Final[dict[type[Layer], Callable[[Code, Any], None]]] = {
    Convolution: _convolution,
    TransposedConvolution: _transposed_convolution,
    MaxPooling: _max_pooling,
    AveragePooling: _average_pooling,
    Subsampling: _subsampling,
    RepeatUnpooling: _repeat,
    BatchNormalization: _batch_normalization,
    Linear: _linear,
    RBF: _rbf,
    Activation: _activation,
    Dropout: _nothing,
}
