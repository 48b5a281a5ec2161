"""C for microcontrollers: the network of :mod:`lenet.targets.c.quantization`, in integers only.

A layer becomes a call of a function in ``int8.c``.
"""

from __future__ import annotations

from math import prod
from typing import Final

from lenet.targets.c.frame import Code, c_files, c_rows, functions_of
from lenet.targets.c.quantization import Quantized, Stage
from lenet.targets.exported import sample_image

FIELDS: Final = {"weight": "int8_t", "bias": "int32_t", "multiplier": "int32_t", "shift": "int8_t"}

# What goes into the frame.
FORM: Final = {
    "FORM": ", in 8 bits",
    "NEEDS": ", integer arithmetic only; compile lenet.c.",
    "BLANK": "An image whose levels differ by at most 1 is taken for blank.",
    "HEADERINCLUDES": "#include <stdint.h>\n",
    "INCLUDES": "",
    "SCORE": "int32_t",
    "NUMBER": "int8_t",
    "IMAGE": "const unsigned char *bytes",
    "GIVEN": "bytes",
    "REST": "",
    "DIFFERS": "scores[c] != test_scores[c]",
    "ISIMAGE": """\
/* Whether the levels of an image differ by more than 1. */
static int is_image(const unsigned char *bytes)
{
    int minimum = 255, maximum = 0;
    for (int k = 0; k < LENET_PIXELS; k++) {
        minimum = bytes[k] < minimum ? bytes[k] : minimum;
        maximum = bytes[k] > maximum ? bytes[k] : maximum;
    }
    return maximum - minimum > 1;
}""",
    "DEFINITIONS": """\
void lenet_scores(const unsigned char image[LENET_PIXELS], int32_t scores[LENET_CLASSES])
{
    scores_of(image, scores);
}""",
}


def int8_source(network: Quantized, prefix: str = "lenet") -> dict[str, str]:
    """Return the two files by name, as :func:`lenet.targets.c.float32.c_source` does."""
    exported, code = network.exported, Code()
    *stages, last = network.stages
    for number, stage in enumerate(stages, start=1):
        code.call(stage.kind, prod(stage.geometry.output), *_constants(code, stage, number))
    code.call("scored", prod(last.geometry.output), *_constants(code, last, len(stages) + 1))
    used = {"common", *(step.function for step in code.steps)}
    if used & {"weighted", "average_pooling"}:
        used.add("requantized")
    scores = network.scores(sample_image(exported)[None])[0]
    form = {
        "TESTSCORES": c_rows([str(score) for score in scores]),
        "INPUT": f"(int8_t)((inside ? bytes[k] : {exported.preprocessing.background}) - 128)",
        "DECLARATIONS": f"""\
/* The scores of all classes, in units of {network.unit:.6g}. */
void lenet_scores(const unsigned char image[LENET_PIXELS], int32_t scores[LENET_CLASSES]);""",
    }
    return c_files(exported, code, functions_of("int8.c", used), FORM | form, prefix)


def _constants(code: Code, stage: Stage, number: int) -> list[str]:
    """Declare the constants of a layer; return the arguments of its call."""
    g = stage.geometry
    sizes = (*g.shape, *g.output, *g.kernel, *g.stride, *g.edges[:2])
    zeros = (stage.zero_in, stage.zero_out, stage.lowest)
    arguments = [code.structure(f"layer_{number}", "layer", (*sizes, *zeros))]
    for name, kind in FIELDS.items():
        values = [str(n) for n in getattr(stage, name).ravel()]
        if values:
            arguments.append(code.array(f"{name}_{number}", kind, values))
    return arguments
