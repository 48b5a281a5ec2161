"""C: one C99 file with the weights in it, and its header; it needs nothing but the C library.

Layers become calls of three plain functions over two buffers on the stack, so that the code can
run in any number of threads. The inner loop of the convolution runs along a row of the output,
which compilers vectorise. The functions are written out below, as they appear in the file; the
calls and the weights follow from the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Final

import numpy as np

from lenet.export.subject import Subject, not_exported
from lenet.nn.activations import Activation, Function, LeCunTanh, ReLU, Sigmoid, Tanh
from lenet.nn.convolution import Convolution
from lenet.nn.layer import Layer, Parameter
from lenet.nn.linear import Linear
from lenet.nn.pooling import AveragePooling, MaxPooling, Pooling
from lenet.system.errors import ConfigError
from lenet.version import __version__

MAX_WEIGHTS: Final = 4_000_000  # a C file of some 50 MB
MAX_STACK: Final = 256 * 1024  # bytes: a thread may have as little as 512 KiB

HEADER: Final = """\
/* LeNet-5, @ORIGIN@.
 * Written by lenet @VERSION@. C99; compile lenet.c and link with -lm.
 *
 * An image is @IMAGE@ rows of @IMAGE@ grey levels from 0 (background) to 255 (ink); scaling and
 * padding are done inside. All functions can be called from any number of threads; they use
 * @STACK@ KiB of stack.
 */
#ifndef LENET_H
#define LENET_H

#define LENET_PIXELS @PIXELS@
#define LENET_CLASSES @CLASSES@

#ifdef __cplusplus
extern "C" {
#endif

/* The names of the classes. */
extern const char *const lenet_class_names[LENET_CLASSES];

/* The class of an image. */
int lenet_predict(const float image[LENET_PIXELS]);

/* The class of an image, and the probabilities of all classes. */
int lenet_probabilities(const float image[LENET_PIXELS], float probabilities[LENET_CLASSES]);

/* The scores of all classes, of which the softmax would be the probabilities. */
void lenet_scores(const float image[LENET_PIXELS], float scores[LENET_CLASSES]);

#ifdef __cplusplus
}
#endif

#endif
"""

SOURCE: Final = """\
/* LeNet-5, @ORIGIN@; written by lenet @VERSION@. See lenet.h. */
#include "lenet.h"

#include <math.h>

const char *const lenet_class_names[LENET_CLASSES] = {
@NAMES@
};

@WEIGHTS@

/* x[S][S] = scale * image + shift, the image in the middle of the background. */
static void prepare(const float *image, float *x)
{
    for (int i = 0; i < @SIZE@; i++)
        for (int j = 0; j < @SIZE@; j++) {
            int h = i - @MARGIN@, w = j - @MARGIN@;
            int inside = h >= 0 && h < @IMAGE@ && w >= 0 && w < @IMAGE@;
            x[i * @SIZE@ + j] = @SCALE@ * (inside ? image[h * @IMAGE@ + w] : 0.0f) + @SHIFT@;
        }
}

/* z[F][Ho][Wo] = b + the sum over c, m, n of W[F][C][k][k] * x[C][i + m][j + n]. */
static void convolution(const float *x, int C, int H, int W, const float *weight,
                        const float *bias, int F, int k, float *z)
{
    int Ho = H - k + 1, Wo = W - k + 1;
    for (int f = 0; f < F; f++, z += Ho * Wo) {
        for (int i = 0; i < Ho * Wo; i++)
            z[i] = bias[f];
        for (int c = 0; c < C; c++)
            for (int m = 0; m < k; m++)
                for (int n = 0; n < k; n++) {
                    float w = *weight++;
                    for (int i = 0; i < Ho; i++) {
                        const float *row = x + (c * H + i + m) * W + n;
                        for (int j = 0; j < Wo; j++)
                            z[i * Wo + j] += w * row[j];
                    }
                }
    }
}

static void activate(float *x, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = @ACTIVATION@;
}

/* The @POOLING@ of a window of 2 by 2 in rows of W. */
static float pooled(const float *window, int W)
{
    float a = window[0], b = window[1], c = window[W], d = window[W + 1];
@POOL@
}

/* y[C][H / 2][W / 2] = pooled x[C][H][W]. */
static void pooling(const float *x, int C, int H, int W, float *y)
{
    for (int c = 0; c < C; c++)
        for (int i = 0; i < H / 2; i++)
            for (int j = 0; j < W / 2; j++)
                *y++ = pooled(x + (c * H + 2 * i) * W + 2 * j, W);
}

/* z[F] = W[F][D] * x[D] + b. */
static void linear(const float *x, int D, const float *weight, const float *bias, int F, float *z)
{
    for (int f = 0; f < F; f++, weight += D) {
        z[f] = bias[f];
        for (int d = 0; d < D; d++)
            z[f] += weight[d] * x[d];
    }
}

void lenet_scores(const float image[LENET_PIXELS], float scores[LENET_CLASSES])
{
    float a[@A@], b[@B@];
    prepare(image, a);
@CALLS@
}

static int largest(const float scores[LENET_CLASSES])
{
    int best = 0;
    for (int c = 1; c < LENET_CLASSES; c++)
        if (scores[c] > scores[best])
            best = c;
    return best;
}

int lenet_predict(const float image[LENET_PIXELS])
{
    float scores[LENET_CLASSES];
    lenet_scores(image, scores);
    return largest(scores);
}

int lenet_probabilities(const float image[LENET_PIXELS], float probabilities[LENET_CLASSES])
{
    float sum = 0.0f, *p = probabilities;
    lenet_scores(image, p);
    int best = largest(p);
    float maximum = p[best]; /* subtracted, so that expf cannot overflow */
    for (int c = 0; c < LENET_CLASSES; c++)
        sum += p[c] = expf(p[c] - maximum);
    for (int c = 0; c < LENET_CLASSES; c++)
        p[c] /= sum;
    return best;
}
"""

ACTIVATIONS: Final[dict[type[Function], str]] = {
    ReLU: "x[i] > 0.0f ? x[i] : 0.0f",
    Sigmoid: "0.5f * (1.0f + tanhf(0.5f * x[i]))",
    Tanh: "tanhf(x[i])",
    LeCunTanh: "1.7159f * tanhf(2.0f / 3.0f * x[i])",
}
POOLINGS: Final[dict[type[Pooling], tuple[str, str]]] = {
    MaxPooling: (
        "maximum",
        "    float upper = a > b ? a : b, lower = c > d ? c : d;\n"
        "    return upper > lower ? upper : lower;",
    ),
    AveragePooling: ("mean", "    return 0.25f * (a + b + c + d);"),
}


def c_source(subject: Subject) -> dict[str, str]:
    """Return the two files by name, ``lenet.h`` and ``lenet.c``.

    Raises
    ------
    ConfigError
        The network is too large to be a C file, or its activations to lie on a stack.
    """
    size = subject.network.parameters.size
    if size > MAX_WEIGHTS:
        raise _too_large(f"{size} weights are more than the {MAX_WEIGHTS} that a C file may have")
    calls, A, B = _calls(subject)
    stack = 4 * (A + B)
    if stack > MAX_STACK:
        raise _too_large(f"its activations take {stack} bytes of stack, more than {MAX_STACK}")
    function, pooling, pool = _functions(subject)
    values = {
        "ORIGIN": re.sub(r"[^A-Za-z0-9 ,.-]", "?", subject.origin),
        "VERSION": __version__,
        "IMAGE": subject.image,
        "PIXELS": subject.image**2,
        "CLASSES": len(subject.class_names),
        "STACK": -(-stack // 1024),
        "NAMES": "\n".join(f"    {_string(name)}," for name in subject.class_names),
        "WEIGHTS": "\n\n".join(_array(p) for p in subject.network.parameter_list),
        "SIZE": subject.preprocessing.input_size,
        "MARGIN": subject.margins[0],
        "SCALE": _float(np.float32(subject.preprocessing.scale)),
        "SHIFT": _float(np.float32(subject.preprocessing.shift)),
        "ACTIVATION": function,
        "POOLING": pooling,
        "POOL": pool,
        "A": A,
        "B": B,
        "CALLS": "\n".join(f"    {call};" for call in calls),
    }
    return {"lenet.h": _filled(HEADER, values), "lenet.c": _filled(SOURCE, values)}


def _too_large(problem: str) -> ConfigError:
    return ConfigError(problem, remedy="export it with --onnx", key="--c")


def _functions(subject: Subject) -> tuple[str, str, str]:
    """Return the C text of the activation and the pooling, and the pooling's name."""
    activations = [x.function for x in subject.network.layers if isinstance(x, Activation)]
    poolings = [type(x) for x in subject.network.layers if isinstance(x, Pooling)]
    return ACTIVATIONS[activations[0]], *POOLINGS[poolings[0]]


def _calls(subject: Subject) -> tuple[list[str], int, int]:
    """Return the calls that take an image from buffer a to the scores, and the buffers' sizes."""
    *layers, last = subject.network.layers
    sizes = {"a": subject.preprocessing.input_size**2, "b": 1}
    here, there = "a", "b"
    calls = []
    for layer in layers:
        if isinstance(layer, Activation):
            calls.append(f"activate({here}, {prod(layer.shape)})")
            continue
        call, count = _call(layer, here, there)
        calls.append(call)
        sizes[there] = max(sizes[there], count)
        here, there = there, here
    calls.append(_call(last, here, "scores")[0])
    return calls, sizes["a"], sizes["b"]


def _call(layer: Layer, x: str, y: str) -> tuple[str, int]:
    """Return the call that takes x to y through a layer, and how many numbers it writes."""
    match layer:
        case Convolution() if (
            layer.stride == (1, 1)
            and layer.padding == (0, 0)
            and layer.kernel[0] == layer.kernel[1]
            and layer.groups == 1
            and not layer.flip
        ):
            C, H, W = layer.shape
            count = layer.F * layer.Ho * layer.Wo
            weights = f"{_name(layer.weight)}, {_name(layer.bias)}, {layer.F}"
            if layer.kernel == (H, W):  # the inner loop would be of length one
                return f"linear({x}, {layer.K}, {weights}, {y})", count
            return f"convolution({x}, {C}, {H}, {W}, {weights}, {layer.kernel[0]}, {y})", count
        case Pooling() if layer.kernel == layer.stride == (2, 2):
            C, H, W = layer.shape
            return f"pooling({x}, {C}, {H}, {W}, {y})", prod(layer.output_shape)
        case Linear():
            weights = f"{_name(layer.weight)}, {_name(layer.bias)}, {layer.F}"
            return f"linear({x}, {layer.D}, {weights}, {y})", layer.F
    raise not_exported(layer, "C")


def _name(parameter: Parameter) -> str:
    return parameter.name.replace(".", "_")


def _array(parameter: Parameter) -> str:
    numbers = [_float(number) for number in parameter.value.reshape(-1)]
    rows = ["    " + ", ".join(numbers[i : i + 6]) for i in range(0, len(numbers), 6)]
    shape = " x ".join(map(str, parameter.shape))
    start = f"static const float {_name(parameter)}[{parameter.size}] = {{ /* {shape} */\n"
    return start + ",\n".join(rows) + "\n};"


def _float(number: np.float32) -> str:
    """Return the shortest decimal that reads back as the same float; it has a point or an e."""
    return f"{number!s}f"


def _string(text: str) -> str:
    """Return a C string of the UTF-8 bytes: letters, digits and spaces as they are."""
    return f'"{re.sub(rb"[^A-Za-z0-9 ]", _octal, text.encode()).decode()}"'


def _octal(byte: re.Match[bytes]) -> bytes:
    return b"\\%03o" % byte[0][0]


def _filled(template: str, values: Mapping[str, object]) -> str:
    """Return the template with every @NAME@ replaced by its value."""
    return re.sub("@([A-Z]+)@", lambda found: str(values[found[1]]), template)
