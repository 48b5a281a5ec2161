"""C: one C99 file that contains the weights, and its header; it needs only the C library.

A layer becomes calls of the functions in ``layers.c`` beside this file; the C file contains those
that are called. Activations are in two buffers on the stack, so that any number of threads can run
the code. Images are planar: channels, then rows, then columns.

A layer is translated by the function of its class in :data:`TRANSLATIONS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from math import prod
from typing import Any, Final

import numpy as np

from lenet.export.exported import (
    ExportedNetwork,
    average_factors,
    batch_factors,
    not_exported,
    sample_image,
)
from lenet.nn.activations import Activation, Function, LeCunTanh, ReLU, Sigmoid, Tanh
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.im2col import Array
from lenet.nn.layer import Layer, Shape
from lenet.nn.linear import Linear
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.rbf import RBF
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import RepeatUnpooling
from lenet.system.errors import ConfigError
from lenet.version import __version__

MAX_WEIGHTS: Final = 4_000_000  # a C file of some 50 MB
TOLERANCE: Final = 1e-4  # of scores in the self-test, relative to the largest if above 1
MAX_STACK: Final = 256 * 1024  # bytes: a thread may have as little as 512 KiB

HEADER_GUARD: Final = "#ifndef LENET_H\n#define LENET_H"
HEADER: Final = """\
/* A network @ORIGIN@.
 * Written by lenet @VERSION@. C99; compile lenet.c and link with -lm.
 *
 * An image is LENET_CHANNELS planes of LENET_HEIGHT rows of LENET_WIDTH levels, from 0@BLACK@ to
 * 255@WHITE@; scaling and padding are included. What it shows must be placed
 * @PLACEMENT@.
 *
 * Levels from 0 to 1 are wrong: such an image is taken for blank. So is an image whose levels
 * differ by at most 1, or that contains NaN or an infinity.
 *
 * All functions can be called from any number of threads. They use @STACK@ KiB of stack and no
 * heap.
 */
@GUARD@

#define LENET_CHANNELS @CHANNELS@
#define LENET_HEIGHT @HEIGHT@
#define LENET_WIDTH @WIDTH@
#define LENET_PIXELS @PIXELS@ /* numbers of an image, of all channels */
#define LENET_CLASSES @CLASSES@

#ifdef __cplusplus
extern "C" {
#endif

/* The names of the classes. */
extern const char *const lenet_class_names[LENET_CLASSES];

/* The class of an image, or -1 for a blank image. */
int lenet_predict(const unsigned char image[LENET_PIXELS]);

/* The class of an image, and the probabilities of all classes; for a blank image 0, and equal
 * probabilities. */
int lenet_probabilities(const float image[LENET_PIXELS], float probabilities[LENET_CLASSES]);

/* The scores of all classes, whose softmax is the probabilities unless the image is blank. */
void lenet_scores(const float image[LENET_PIXELS], float scores[LENET_CLASSES]);

/* 0 if this machine gives the scores that lenet gave for the image in lenet.c, otherwise 1. */
int lenet_self_test(void);

#ifdef __cplusplus
}
#endif

#endif
"""

SOURCE: Final = """\
/* A network @ORIGIN@; written by lenet @VERSION@. See lenet.h. */
#include "lenet.h"

#include <math.h>

const char *const lenet_class_names[LENET_CLASSES] = {
@NAMES@
};

@FUNCTIONS@

@CONSTANTS@

/* An image for lenet_self_test, and its scores. */
static const unsigned char test_image[LENET_PIXELS] = {
@TESTIMAGE@
};
static const float test_scores[LENET_CLASSES] = {
@TESTSCORES@
};

/* x[channels][@H@][@W@] = scale * level + shift, the image in the middle of the background. The
 * levels are bytes, or else floats. */
static void prepare(const unsigned char *bytes, const float *floats, float *x)
{
    for (int c = 0; c < LENET_CHANNELS; c++)
        for (int i = 0; i < @H@; i++)
            for (int j = 0; j < @W@; j++) {
                int h = i - @TOP@, w = j - @LEFT@, k = (c * LENET_HEIGHT + h) * LENET_WIDTH + w;
                int inside = h >= 0 && h < LENET_HEIGHT && w >= 0 && w < LENET_WIDTH;
                float level = !inside ? @BACKGROUND@ : bytes ? (float)bytes[k] : floats[k];
                *x++ = @SCALE@ * level + @SHIFT@;
            }
}

static void scores_of(const unsigned char *bytes, const float *floats, float *scores)
{
    float @BUFFERS@;
    prepare(bytes, floats, a);
@CALLS@
}

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
}

static int largest(const float scores[LENET_CLASSES])
{
    int best = 0;
    for (int c = 1; c < LENET_CLASSES; c++)
        if (scores[c] > scores[best])
            best = c;
    return best;
}

void lenet_scores(const float image[LENET_PIXELS], float scores[LENET_CLASSES])
{
    scores_of(0, image, scores);
}

int lenet_predict(const unsigned char image[LENET_PIXELS])
{
    float scores[LENET_CLASSES];
    if (!is_image(image, 0))
        return -1;
    scores_of(image, 0, scores);
    return largest(scores);
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
}

int lenet_self_test(void)
{
    float scores[LENET_CLASSES];
    scores_of(test_image, 0, scores);
    for (int c = 0; c < LENET_CLASSES; c++)
        if (!(fabsf(scores[c] - test_scores[c]) <= @TOLERANCE@))
            return 1;
    return 0;
}
"""


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
    C, H, W = network.input_shape
    calls, buffers = _calls(code.steps, C * H * W)
    stack = 4 * sum(buffers.values())
    if stack > MAX_STACK:
        raise _too_large(f"its activations take {stack} bytes of stack, more than {MAX_STACK}")
    _, height, width = exported.image_shape
    top, left, _, _ = exported.padding
    image = sample_image(exported)
    scores = exported.scores(image[None])[0].astype(np.float32)
    tolerance = TOLERANCE * max(1, float(np.abs(scores).max()))
    values = {
        "PLACEMENT": exported.placement.replace("fit ", "fit\n * "),
        "TESTIMAGE": c_rows([str(level) for level in image.ravel()], 16),
        "TESTSCORES": c_rows([_float(score) for score in scores], 6),
        "TOLERANCE": _float(np.float32(tolerance)),
        "ORIGIN": re.sub(r"[^A-Za-z0-9 ,.-]", "?", exported.origin),
        "VERSION": __version__,
        "BLACK": " (background)" if C == 1 else "",
        "WHITE": " (ink)" if C == 1 else "",
        "GUARD": HEADER_GUARD,
        "CHANNELS": C,
        "HEIGHT": height,
        "WIDTH": width,
        "PIXELS": C * height * width,
        "CLASSES": len(exported.class_names),
        "STACK": -(-stack // 1024),
        "NAMES": "\n".join(f"    {c_string(name)}," for name in exported.class_names),
        "FUNCTIONS": "\n\n".join(_functions(code)),
        "CONSTANTS": "\n\n".join(code.constants),
        "H": H,
        "W": W,
        "TOP": top,
        "LEFT": left,
        "BACKGROUND": _float(np.float32(preprocessing.background)),
        "SCALE": _float(np.float32(preprocessing.scale)),
        "SHIFT": _float(np.float32(preprocessing.shift)),
        "BUFFERS": ", ".join(f"{name}[{count}]" for name, count in buffers.items()),
        "CALLS": "\n".join(f"    {call};" for call in calls),
    }
    return {"lenet.h": filled(HEADER, values), "lenet.c": filled(SOURCE, values)}


def _too_large(problem: str) -> ConfigError:
    return ConfigError(problem, remedy="export it with --onnx", key="--c")


# --- Calls and constants --------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A call of a function on a buffer; ``count`` numbers go to another, or None: in place."""

    function: str
    arguments: tuple[object, ...]
    count: int | None


@dataclass
class Code:
    """The calls and constants of a C file."""

    steps: list[Step] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def call(self, function: str, count: int, *arguments: object) -> None:
        """Append a call that writes ``count`` numbers to another buffer."""
        self.steps.append(Step(function, arguments, count))

    def in_place(self, function: str, *arguments: object) -> None:
        """Append a call that changes the numbers of its buffer."""
        self.steps.append(Step(function, arguments, None))

    def array(self, name: str, values: Array) -> str:
        """Declare an array and return its name in C."""
        name = self._unique(name)
        numbers = [_float(number) for number in values.astype(np.float32).ravel()]
        shape = " x ".join(map(str, values.shape))
        start = f"static const float {name}[{values.size}] = {{ /* {shape} */\n"
        self.constants.append(f"{start}{c_rows(numbers, 6)}\n}};")
        return name

    def window(self, layer: Any, output: Shape, edges: tuple[int, ...], groups: int = 1) -> str:  # noqa: ANN401
        """Declare the window of a layer and return its address in C."""
        name = self._unique(f"{layer.name}.window")
        (F, Ho, Wo), (top, left, *_) = output, edges
        numbers = (*layer.shape, F, Ho, Wo, *layer.kernel, *layer.stride, top, left)
        written = ", ".join(map(str, (*numbers, *layer.dilation, groups)))
        self.constants.append(f"static const struct window {name} = {{\n    {written}\n}};")
        return f"&{name}"

    def _unique(self, name: str) -> str:
        """Return a C identifier that no other constant has: layers may have any names."""
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        name = f"layer_{name}" if not name[0].isalpha() else name
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def _calls(steps: list[Step], count: int) -> tuple[list[str], dict[str, int]]:
    """Return the calls that take an image in buffer a to the scores, and the buffers' sizes."""
    last = max(k for k, step in enumerate(steps) if step.count is not None)
    sizes, here, there = {"a": count}, "a", "b"
    calls = []
    for k, step in enumerate(steps):
        arguments = [here, *map(str, step.arguments)]
        if step.count is not None:
            here, there = ("scores" if k == last else there), here
            arguments.append(here)
            if k < last:
                sizes[here] = max(sizes.get(here, 0), step.count)
        calls.append(f"{step.function}({', '.join(arguments)})")
    return calls, sizes


def _functions(code: Code) -> list[str]:
    """Return the texts of the functions that are called, in the order of ``layers.c``."""
    text = files("lenet.export").joinpath("layers.c").read_text(encoding="ascii")
    _, *parts = re.split(r"^/\* \[(\w+)\] \*/\n", text, flags=re.MULTILINE)
    used = {step.function for step in code.steps}
    if any("struct window" in constant for constant in code.constants):
        used.add("window")
    return [
        part.strip() for name, part in zip(parts[::2], parts[1::2], strict=True) if name in used
    ]


# --- Layers ---------------------------------------------------------------------------------------


def _convolution(code: Code, layer: Convolution) -> None:
    kernels = layer.kernels[:, :, ::-1, ::-1] if layer.flip else layer.kernels
    weight = code.array(layer.weight.name, kernels)
    bias = code.array(layer.bias.name, layer.bias.value)
    if layer.direct and (layer.Ho, layer.Wo, layer.groups) == (1, 1, 1):
        # The only patch is the image: the loops of a convolution would be of length one.
        code.call("linear", layer.F, layer.K, weight, bias, layer.F)
        return
    output = layer.F, layer.Ho, layer.Wo
    window = code.window(layer, output, layer.edges, layer.groups)
    code.call("convolution", prod(output), window, weight, bias)


def _transposed_convolution(code: Code, layer: TransposedConvolution) -> None:
    weight = code.array(layer.weight.name, layer.weight.value)
    bias = code.array(layer.bias.name, layer.bias.value)
    output = layer.F, layer.Ho, layer.Wo
    window = code.window(layer, output, layer.edges, layer.groups)
    code.call("transposed_convolution", prod(output), window, weight, bias)


def _max_pooling(code: Code, layer: MaxPooling) -> None:
    window = code.window(layer, layer.output_shape, layer.edges)
    code.call("max_pooling", prod(layer.output_shape), window)


def _average_pooling(code: Code, layer: AveragePooling) -> None:
    window = code.window(layer, layer.output_shape, layer.edges)
    factors = average_factors(layer)
    if (factors == factors[0, 0]).all():
        one = _float(np.float32(factors[0, 0]))
        code.call("sum_pooling", prod(layer.output_shape), window, one)
        return
    code.call("sum_pooling", prod(layer.output_shape), window, "1.0f")
    weights = code.array(f"{layer.name}.factors", factors)
    code.in_place("scale_places", layer.shape[0], factors.size, weights)


def _subsampling(code: Code, layer: Subsampling) -> None:
    output = layer.shape[0], layer.Ho, layer.Wo
    window = code.window(layer, output, (0, 0, 0, 0))
    code.call("sum_pooling", prod(output), window, "1.0f")
    weight = code.array(layer.weight.name, layer.weight.value)
    bias = code.array(layer.bias.name, layer.bias.value)
    code.in_place("scale_channels", layer.shape[0], layer.Ho * layer.Wo, weight, bias)


def _batch_normalization(code: Code, layer: BatchNormalization) -> None:
    factor, offset = batch_factors(layer)
    weights = code.array(f"{layer.name}.factor", factor)
    biases = code.array(f"{layer.name}.offset", offset)
    code.in_place("scale_channels", layer.C, prod(layer.shape) // layer.C, weights, biases)


def _repeat(code: Code, layer: RepeatUnpooling) -> None:
    count = prod(layer.shape) * prod(layer.factor)
    code.call("repeat", count, *layer.shape, *layer.factor)


def _linear(code: Code, layer: Linear) -> None:
    weight = code.array(layer.weight.name, layer.weight.value)
    bias = code.array(layer.bias.name, layer.bias.value)
    code.call("linear", layer.F, layer.D, weight, bias, layer.F)


def _rbf(code: Code, layer: RBF) -> None:
    classes, D = layer.centres.shape
    centres = code.array(f"{layer.name}.centres", layer.centres)
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


# --- Text -----------------------------------------------------------------------------------------


def _float(number: np.float32) -> str:
    """Return the shortest decimal that reads back as the same float; it has a point or an e."""
    return f"{number!s}f"


def c_rows(numbers: Sequence[str], count: int) -> str:
    """Return the inside of an array's braces, ``count`` numbers a line."""
    rows = [", ".join(numbers[i : i + count]) for i in range(0, len(numbers), count)]
    return ",\n".join(f"    {row}" for row in rows)


def c_string(text: str) -> str:
    """Return a C string of the UTF-8 bytes: letters, digits and spaces as they are."""
    return f'"{re.sub(rb"[^A-Za-z0-9 ]", _octal, text.encode()).decode()}"'


def _octal(byte: re.Match[bytes]) -> bytes:
    return b"\\%03o" % byte[0][0]


def filled(template: str, values: Mapping[str, object]) -> str:
    """Return the template with every @NAME@ replaced by its value."""
    return re.sub("@([A-Z]+)@", lambda found: str(values[found[1]]), template)
