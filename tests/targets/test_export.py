"""Exported networks return this package's scores: as ONNX, and as C.

Both are compared with an oracle, :func:`scores`: the fused network of the checkpoint on
images scaled and padded here by hand.
"""

from __future__ import annotations

import base64
import ctypes
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from networks import STACKS, colour_stack, randomized, unpooling_stack
from numpy.testing import assert_allclose, assert_array_equal
from random_stacks import stacks
from tiny import bars, write_bars
from untrained import untrained, untrained_colour

from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.checkpoint.restore import read_checkpoint, restore_network
from lenet.cli import cli
from lenet.data.preprocessing import Preprocessing
from lenet.data.strokes import draw
from lenet.errors import ConfigError, DataError, GateFailed, SystemFailure
from lenet.evaluation.images import load_split
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import MaxPooling
from lenet.nn.rbf import RBF
from lenet.nn.unpooling import MaxUnpooling
from lenet.targets.c import float32 as c
from lenet.targets.c import int8 as quantization
from lenet.targets.c.int8 import int8_source
from lenet.targets.networks import ExportedNetwork, exported_network
from lenet.targets.onnx.check import compare
from lenet.targets.onnx.export import IR_VERSIONS, OPSET, onnx_model

NETWORKS = {
    "relu, max": {},
    "sigmoid, average": {"model__activation": "sigmoid", "model__pooling": "average"},
    "tanh, max, odd sizes": {"model__activation": "tanh", "model__input_size": 35},
    "lecun_tanh, average, C5 of 2x2": {
        "model__activation": "lecun_tanh",
        "model__pooling": "average",
        "model__input_size": 36,
        "model__classes": 3,
        "train__precision": "float64",
    },
}
every_network = pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)


def raw_images(N, size=28):
    return np.random.default_rng(5).integers(0, 256, (N, 1, size, size), dtype=np.uint8)


def scores(checkpoint, images):
    size, preprocessing = checkpoint.config.model.input_size, checkpoint.preprocessing
    before = (size - images.shape[-1]) // 2
    after = size - images.shape[-1] - before
    margins = (before, after)
    grey = np.pad(images, ((0, 0), (0, 0), margins, margins)).astype(np.float64)
    x = (grey * preprocessing.scale + preprocessing.shift).astype(checkpoint.config.train.precision)
    return restore_network(checkpoint).forward(np.ascontiguousarray(x.transpose(1, 2, 3, 0))).T


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


every_stack = pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)


def exported_stack(stack):
    """A network for raw images that are 3 rows lower and 2 columns narrower than its input."""
    network = stack(np.float32)
    C, H, W = network.input_shape
    preprocessing = Preprocessing((C, H, W), scale=1 / 100, shift=-0.5, background=40)
    names = tuple(f"class {k}" for k in range(network.output_shape[0]))
    return ExportedNetwork(network, (H - 3, W - 2), preprocessing, names, "of a test")


def raw_images_and_scores(exported):
    """Raw images, and the scores by a network in float64 of images that are padded here."""
    C, H, W = exported.image_shape
    images = np.random.default_rng(6).integers(0, 256, (5, C, H, W), dtype=np.uint8)
    levels = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (1, 2), (1, 1)), constant_values=40)
    precise = exported.network.rebuilt(dtype=np.float64)
    z = precise.forward(np.ascontiguousarray((levels / 100 - 0.5).transpose(1, 2, 3, 0))).T
    return images, -z if isinstance(precise.layers[-1], RBF) else z


def assert_scores(z, expected):
    assert_allclose(z, expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))


# --- ONNX -----------------------------------------------------------------------------------------


@every_network
@pytest.mark.parametrize("N", [1, 3])
def test_onnx_reference_evaluator(settings, N):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    checkpoint, images = untrained(**settings), raw_images(N)
    model = onnx.load_from_string(onnx_model(exported_network(checkpoint)))
    onnx.checker.check_model(model, full_check=True)
    evaluator = reference.ReferenceEvaluator(model)
    z, probabilities = evaluator.run(None, {"images": images})
    expected = scores(checkpoint, images)
    assert_allclose(z, expected, atol=1e-4)
    assert_array_equal(z.argmax(axis=1), expected.argmax(axis=1))
    assert_allclose(probabilities, softmax(expected), atol=1e-5)


@every_network
def test_onnxruntime(settings):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    checkpoint, images = untrained(**settings), raw_images(8)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(
        onnx_model(exported_network(checkpoint)), options, providers=["CPUExecutionProvider"]
    )
    z, _ = session.run(None, {"images": images})
    assert_allclose(z, scores(checkpoint, images), atol=1e-4)


every_onnx_stack = pytest.mark.parametrize(
    "stack", [*STACKS.values(), unpooling_stack], ids=[*STACKS, "unpooling_stack"]
)


@every_onnx_stack
def test_onnx_of_any_network(stack):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    exported = exported_stack(stack)
    images, expected = raw_images_and_scores(exported)
    model = onnx_model(exported)
    evaluator = reference.ReferenceEvaluator(onnx.load_from_string(model))
    z, probabilities = evaluator.run(None, {"images": images})
    assert_scores(z, expected)
    assert_allclose(probabilities, softmax(expected), atol=1e-3)
    assert compare(model, exported, images) <= 1e-4 * max(1, np.abs(expected).max())


@every_onnx_stack
def test_onnxruntime_of_any_network(stack):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    exported = exported_stack(stack)
    images, expected = raw_images_and_scores(exported)
    session = runtime.InferenceSession(onnx_model(exported), providers=["CPUExecutionProvider"])
    z, _ = session.run(None, {"images": images})
    assert_scores(z, expected)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(stacks())
def test_onnx_of_random_stacks(stack):
    pytest.importorskip("onnx")
    layers, shape = stack
    exported = exported_stack(lambda dtype: randomized(Network(layers, shape, dtype)))
    images, expected = raw_images_and_scores(exported)
    assert_scores(exported.scores(images), expected)
    compare(onnx_model(exported), exported, images)


@pytest.mark.parametrize("options", [{"stride": 1}, {"padding": 1}, {"dilation": 2}, {"stride": 3}])
def test_unpooling_that_onnx_does_not_have(options):
    pytest.importorskip("onnx")
    pooling = MaxPooling("pool", 2, **options)
    network = Network([pooling, MaxUnpooling("unpool", pooling), Linear("class", 2)], (1, 6, 6))
    made = ExportedNetwork(network, (6, 6), Preprocessing((1, 6, 6)), ("a", "b"), "of a test")
    with pytest.raises(ConfigError, match="unpool: MaxUnpooling with windows that do not"):
        onnx_model(made)
    with pytest.raises(ConfigError, match="unpool: MaxUnpooling cannot be exported to C"):
        c.c_source(made)


def test_onnx_describes_its_input():
    onnx = pytest.importorskip("onnx")
    made = exported_network(untrained(class_names=tuple("abcdefghij")))
    model = onnx.load_from_string(onnx_model(made))
    (images,), outputs = model.graph.input, model.graph.output
    shape = [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim]
    assert (images.name, shape) == ("images", ["N", 1, 28, 28])
    assert [output.name for output in outputs] == ["scores", "probabilities"]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["class_names"]) == list("abcdefghij")
    assert json.loads(metadata["preprocessing"]) == {
        "input_size": 32,
        "scale": 1.275 / 255,
        "shift": -0.1,
        "padding_before": 2,
        "padding_after": 2,
    }
    assert "0 (background) to 255 (ink)" in metadata["input"]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert metadata["input"].startswith("images, uint8 (N,1,28,28): levels from 0")
    assert {"C1", "S2", "C3", "S4", "C5", "F6", "F7"} <= {node.name for node in model.graph.node}
    assert onnx_model(made) == onnx_model(made)


@pytest.mark.parametrize("opset", [11, 12, 13, 14, 15, 16, 17])
@pytest.mark.parametrize("stack", [*STACKS.values(), unpooling_stack])
def test_onnx_is_legal_in_every_opset(stack, opset):
    """Whatever the file declares; so the declared opset can simply be changed, too."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(onnx_model(exported_stack(stack), "float", opset))
    assert model.opset_import[0].version == opset
    oldest = onnx.load_from_string(onnx_model(exported_stack(stack), "float"))
    assert oldest.opset_import[0].version == 11
    assert oldest.ir_version == 6
    assert oldest.graph == model.graph


@pytest.mark.parametrize("target", [11, 13, 17])
def test_onnx_version_converter(target):
    onnx = pytest.importorskip("onnx")
    converter = pytest.importorskip("onnx.version_converter")
    reference = pytest.importorskip("onnx.reference")
    checkpoint, images = untrained(), raw_images(3)
    model = onnx.load_from_string(onnx_model(exported_network(checkpoint)))
    converted = converter.convert_version(model, target)
    z, _ = reference.ReferenceEvaluator(converted).run(None, {"images": images})
    assert_allclose(z, scores(checkpoint, images), atol=1e-4)


def test_an_unknown_opset():
    for opset in (0, 10, 18, 99):
        with pytest.raises(ConfigError, match=f"--opset: opset {opset} is not supported"):
            onnx_model(exported_network(untrained()), "bytes", opset)


def test_onnx_input_as_float():
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    checkpoint, images = untrained(), raw_images(3)
    model = onnx.load_from_string(onnx_model(exported_network(checkpoint), "float"))
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    evaluator = reference.ReferenceEvaluator(model)
    z, _ = evaluator.run(None, {"images": images.astype(np.float32)})
    assert_allclose(z, scores(checkpoint, images), atol=1e-4)


def test_onnx_of_blank_images_is_uncertain():
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    images = raw_images(4).astype(np.float32)
    images[0] = 0
    images[1] = 200
    images[2] /= 255
    model = onnx_model(exported_network(untrained()), "float")
    evaluator = reference.ReferenceEvaluator(onnx.load_from_string(model))
    z, probabilities = evaluator.run(None, {"images": images})
    assert_allclose(probabilities[:3], 0.1, rtol=1e-6)
    assert_allclose(probabilities[3], softmax(z[3:])[0], rtol=1e-5)


def test_a_model_with_other_scores_is_refused():
    pytest.importorskip("onnx")
    model = onnx_model(exported_network(untrained(seed=0)))
    with pytest.raises(GateFailed, match="scores are off by"):
        compare(model, exported_network(untrained(seed=1)), raw_images(2))


def test_an_evaluator_that_fails(monkeypatch):
    pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    monkeypatch.setattr(reference.ReferenceEvaluator, "run", lambda *_: [][0])
    made = exported_network(untrained())
    with pytest.raises(GateFailed, match="cannot be run by the evaluator of onnx 1"):
        compare(onnx_model(made), made, raw_images(2))


def test_the_test_images_of_mnist(mnist_dir):
    runtime = pytest.importorskip("onnxruntime")
    checkpoint = untrained(data__name="mnist")
    images = load_split(checkpoint.config, "test", mnist_dir).images[:1000, None]
    session = runtime.InferenceSession(onnx_model(exported_network(checkpoint)))
    z, _ = session.run(None, {"images": images})
    expected = scores(checkpoint, images)
    assert_allclose(z, expected, atol=1e-4)
    assert_array_equal(z.argmax(axis=1), expected.argmax(axis=1))


# --- C --------------------------------------------------------------------------------------------


def compiled(place, exported):
    """The C file as a library, compiled with every warning as an error."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform == "win32":
        pytest.skip("no C compiler here")
    for name, text in c.c_source(exported).items():
        (place / name).write_text(text, encoding="ascii")
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
    library = place / "lenet.so"
    subprocess.run(
        [compiler, *strict, "-shared", "-fPIC", "-o", library, place / "lenet.c", "-lm"],
        check=True,
    )
    return ctypes.CDLL(str(library))


def floats(array):
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def levels(image):
    return image.ctypes.data_as(ctypes.POINTER(ctypes.c_ubyte))


@every_network
def test_c(tmp_path, settings):
    checkpoint, images = untrained(**settings), raw_images(8)
    library = compiled(tmp_path, exported_network(checkpoint))
    expected = scores(checkpoint, images)
    assert library.lenet_self_test() == 0
    for raw, row in zip(images, expected, strict=True):
        image = raw.astype(np.float32)
        z, probabilities = np.empty((2, len(row)), np.float32)
        library.lenet_scores(floats(image), floats(z))
        assert_allclose(z, row, atol=1e-4)
        assert library.lenet_predict(levels(raw)) == row.argmax()
        assert library.lenet_probabilities(floats(image), floats(probabilities)) == row.argmax()
        assert_allclose(probabilities, softmax(row[None])[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["zeros", "one level", "0 to 1", "NaN", "one NaN", "infinity"])
def test_c_of_blank_images(tmp_path, kind):
    """No class is certain, whatever is not an image of levels from 0 to 255."""
    library = compiled(tmp_path, exported_network(untrained()))
    image = raw_images(1)[0].astype(np.float32)
    match kind:
        case "zeros":
            image[...] = 0
        case "one level":
            image[...] = 200
        case "0 to 1":
            image /= 255
        case "NaN":
            image[...] = np.nan
        case "one NaN":
            image[0, 14, 14] = np.nan
        case _:
            image[0, 0, 0] = np.inf
    probabilities = np.empty(10, np.float32)
    assert library.lenet_probabilities(floats(image), floats(probabilities)) == 0
    assert_allclose(probabilities, 0.1, rtol=1e-6)
    if np.isfinite(image).all():
        assert library.lenet_predict(levels(image.astype(np.uint8))) == -1


def test_the_program_in_the_documentation(tmp_path):
    checkpoint, image = untrained(class_names=tuple("abcdefghij")), raw_images(1)
    compiled(tmp_path, exported_network(checkpoint))
    page = Path(__file__).resolve().parents[2] / "docs" / "export.md"
    (text,) = re.findall(r"```c\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "main.c").write_text(text)
    program = [tmp_path / "main.c", tmp_path / "lenet.c", "-lm", "-o", tmp_path / "digit"]
    subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", *program], check=True)
    for content, expected in (
        (image.tobytes(), str(scores(checkpoint, image).argmax())),
        (bytes(784), "-1"),
        (b"short", "-1"),
    ):
        done = subprocess.run([tmp_path / "digit"], input=content, capture_output=True, check=True)
        assert done.stdout.decode().strip() == expected


def test_c_self_test_fails_with_another_weight(tmp_path):
    exported = exported_network(untrained())
    compiled(tmp_path, exported)
    text = (tmp_path / "lenet.c").read_text()
    found = re.search(r"static const float F7_bias\[10\] = {[^\n]*\n", text)
    (tmp_path / "lenet.c").write_text(text[: found.end()] + "1e3f+" + text[found.end() :])
    library = tmp_path / "other.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, tmp_path / "lenet.c", "-lm"], check=True
    )
    assert ctypes.CDLL(str(library)).lenet_self_test() == 1


@every_stack
def test_c_of_any_network(tmp_path, stack):
    exported = exported_stack(stack)
    library = compiled(tmp_path, exported)
    images, expected = raw_images_and_scores(exported)
    for image, row in zip(images.astype(np.float32), expected, strict=True):
        z = np.empty(len(row), np.float32)
        library.lenet_scores(floats(image), floats(z))
        assert_scores(z, row)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(stacks())
def test_c_of_random_stacks(stack):
    layers, shape = stack
    exported = exported_stack(lambda dtype: randomized(Network(layers, shape, dtype)))
    images, expected = raw_images_and_scores(exported)
    with tempfile.TemporaryDirectory() as place:
        library = compiled(Path(place), exported)
        for image, row in zip(images.astype(np.float32), expected, strict=True):
            z = np.empty(len(row), np.float32)
            library.lenet_scores(floats(image), floats(z))
            assert_scores(z, row)


@every_stack
def test_export_leaves_the_network_as_it_is(stack):
    exported = exported_stack(stack)
    images, _ = raw_images_and_scores(exported)
    before = exported.scores(images).copy()
    c.c_source(exported)
    assert_array_equal(exported.scores(images), before)


def test_c_of_colour_images_defines_their_layout():
    header = c.c_source(exported_stack(colour_stack))["lenet.h"]
    for line in ("CHANNELS 3", "HEIGHT 15", "WIDTH 12", "PIXELS 540 "):
        assert f"#define LENET_{line}" in header


def test_c_names_are_identifiers_and_differ(tmp_path):
    layers = [
        Linear("1-é", 3), Linear("a.b", 3), Linear("a_b", 3), Linear("while", 3), Linear("_", 2),
    ]  # fmt: skip
    network = randomized(Network(layers, (1, 2, 2)))
    made = ExportedNetwork(network, (2, 2), Preprocessing((1, 2, 2)), ("a", "b"), "of a test")
    images = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)
    z = np.empty(2, np.float32)
    compiled(tmp_path, made).lenet_scores(floats(images.astype(np.float32)), floats(z))
    assert_allclose(z, made.scores(images)[0], atol=1e-5)


def test_c_class_names(tmp_path):
    names = ('"; evil() //', "??/", "é\n\\", "a b")
    library = compiled(tmp_path, exported_network(untrained(class_names=names, model__classes=4)))
    stored = (ctypes.c_char_p * 4).in_dll(library, "lenet_class_names")
    assert [name.decode() for name in stored] == list(names)


def test_c_of_other_images(tmp_path):
    checkpoint, images = untrained(), raw_images(1, size=21)
    library = compiled(tmp_path, exported_network(checkpoint, (21, 21)))
    z = np.empty(10, np.float32)
    library.lenet_scores(floats(images.astype(np.float32)), floats(z))
    assert_allclose(z, scores(checkpoint, images)[0], atol=1e-4)
    assert "#define LENET_PIXELS 441" in (tmp_path / "lenet.h").read_text()


def test_c_weights_are_exact():
    checkpoint = untrained()
    text = c.c_source(exported_network(checkpoint))["lenet.c"]
    for name, value in checkpoint.parameters.items():
        numbers = re.search(
            rf"{name.replace('.', '_')}\[\d+\] = {{ /\* [^*]* \*/\n(.*?)\}};", text, re.DOTALL
        )
        read = [np.float32(number.strip().rstrip("f")) for number in numbers[1].split(",")]
        assert_array_equal(read, value.ravel())


def test_a_network_too_large_for_c_is_refused(monkeypatch):
    large = exported_network(untrained(model__input_size=256))
    with pytest.raises(ConfigError, match="bytes of stack") as caught:
        c.c_source(large)
    assert caught.value.key == "--c"
    monkeypatch.setattr(c, "MAX_WEIGHTS", 100)
    with pytest.raises(ConfigError, match="weights are more than the 100"):
        c.c_source(exported_network(untrained()))


def test_a_comment_stays_a_comment():
    made = replace(exported_network(untrained()), origin="*/ evil() /* \n é")
    texts = c.c_source(made)
    assert all("evil()" not in text and text.isascii() for text in texts.values())


# --- C of 8 bits ----------------------------------------------------------------------------------


def compiled_int8(place, network):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform == "win32":
        pytest.skip("no C compiler here")
    for name, text in int8_source(network).items():
        (place / name).write_text(text, encoding="ascii")
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
    checked = ["-fsanitize=undefined", "-fno-sanitize-recover"]
    main = place / "main.c"
    main.write_text(MAIN)
    program = [place / "lenet.c", main, "-o", place / "program"]
    subprocess.run([compiler, *strict, *checked, *program], check=True)
    return place / "program"


MAIN = """\
#include <stdio.h>
#include "lenet.h"

int main(void)
{
    unsigned char image[LENET_PIXELS];
    int32_t scores[LENET_CLASSES];
    printf("%d", lenet_self_test());
    while (fread(image, 1, LENET_PIXELS, stdin) == LENET_PIXELS) {
        lenet_scores(image, scores);
        printf(" %d", lenet_predict(image));
        for (int c = 0; c < LENET_CLASSES; c++)
            printf(" %ld", (long)scores[c]);
    }
    return 0;
}
"""
INT8 = {
    "max": lambda: untrained(),
    "average, odd sizes": lambda: untrained(model__pooling="average", model__input_size=36),
    "caffe-lenet": lambda: untrained(model__name="caffe-lenet"),
    "a linear layer": lambda: untrained_layers({"type": "linear", "units": 3}),
    "pooling first": lambda: untrained_layers(
        {"type": "max_pooling"}, {"type": "linear", "units": 3}
    ),
    "padding, stride, colour": lambda: untrained_layers(
        {"type": "convolution", "filters": 5, "kernel": 3, "padding": 1, "activation": "relu"},
        {"type": "convolution", "filters": 4, "kernel": [3, 2], "stride": 2, "padding": [0, 1]},
        {"type": "dropout"},
        {"type": "linear", "units": 7, "activation": "relu"},
        {"type": "linear", "units": 3},
    ),
}


def untrained_layers(*layers):
    settings = {"model__layers": list(layers), "model__input": [3, 12, 16], "model__classes": 3}
    return untrained(class_names=("red", "green", "blue"), **settings)


@pytest.mark.parametrize("made", INT8.values(), ids=INT8)
def test_c_of_8_bits(tmp_path, made):
    """C and its model in NumPy are equal to the bit, and near the network in float."""
    exported = exported_network(made())
    rng = np.random.default_rng(2)
    images = rng.integers(256, size=(12, *exported.image_shape)).astype(np.uint8)
    network = quantization.quantized(exported, images)
    images[0] = 77  # blank
    expected = network.scores(images)
    program = compiled_int8(tmp_path, network)
    done = subprocess.run([program], input=images.tobytes(), capture_output=True, check=True)
    self_test, *numbers = map(int, done.stdout.split())
    answers, *scores_c = np.array(numbers).reshape(len(images), -1).T
    assert self_test == 0
    assert_array_equal(np.transpose(scores_c), expected)
    assert_array_equal(answers, [-1, *expected[1:].argmax(axis=1)])
    precise = exported.scores(images[1:])
    spread = precise.max() - precise.min()
    assert_allclose(network.unit * expected[1:], precise, rtol=0, atol=0.05 * spread)


def test_c_of_8_bits_has_integers_only(tmp_path):
    network = quantization.quantized(exported_network(untrained()), raw_images(4))
    sources = int8_source(network)
    code = re.sub(r"/\*.*?\*/", "", "".join(sources.values()), flags=re.DOTALL)
    assert not re.search(r"\b(float|double|malloc|math\.h)\b|\d\.\d", code)


def test_c_of_8_bits_fits_a_microcontroller():
    """At most 70 KB of constants and 12 KB of working memory, as its header states."""
    network = exported_network(read_checkpoint("pretrained"))
    header = int8_source(quantization.quantized(network, draw(20, seed=1)[0]))["lenet.h"]
    constants, memory = map(int, re.findall(r"(\d+) bytes", header))
    assert constants <= 70_000
    assert memory <= 12_000


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model__activation": "tanh"}, "C1.activation: Activation cannot be exported to C of 8"),
        ({"model__name": "lenet5-1998"}, "cannot be exported to C of 8 bits"),
    ],
)
def test_layers_without_a_form_in_8_bits(settings, words):
    exported = exported_network(untrained(**settings))
    with pytest.raises(ConfigError, match=words):
        quantization.quantized(exported, raw_images(2))


def test_calibration_images_that_are_sorted():
    """Of many images some are taken from everywhere."""
    exported = exported_network(untrained())
    images = raw_images(2001)
    images[:1000] = 0
    few = quantization.quantized(exported, images[::3])
    many = quantization.quantized(exported, images)
    assert [stage.zero_out for stage in many.stages] == [stage.zero_out for stage in few.stages]


@pytest.mark.parametrize("shape", [(2, 20, 28), (2, 3, 28, 28)])
def test_calibration_images_of_another_size(shape):
    with pytest.raises(DataError, match=r"calibration images: are .* network takes 1×28×28; name"):
        quantization.quantized(exported_network(untrained()), np.zeros(shape, np.uint8))


def test_the_accuracy_in_8_bits(mnist_dir):
    checkpoint = read_checkpoint("pretrained")
    exported = exported_network(checkpoint)
    calibration = load_split(checkpoint.config, "train", mnist_dir).images
    network = quantization.quantized(exported, calibration)
    images = load_split(checkpoint.config, "test", mnist_dir).images[:1000]
    expected = exported.scores(images).argmax(axis=1)
    assert np.mean(network.scores(images[:, None]).argmax(axis=1) == expected) >= 0.998


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "best.npz"
    save_checkpoint(path, untrained())
    return path


def run(*arguments):
    return CliRunner().invoke(cli, ["export", *map(str, arguments)])


def test_both_at_once(saved, tmp_path):
    pytest.importorskip("onnx")
    model, place = tmp_path / "new" / "lenet.onnx", tmp_path / "c"
    result = run(saved, "--onnx", model, "--c", place)
    assert result.exit_code == 0, result.exception
    first, second = result.stdout.splitlines()
    assert float(re.search(r"within (\S+) of", first)[1]) < 1e-4
    assert "-lm" in second
    assert model.read_bytes() == onnx_model(exported_network(read_checkpoint(saved)))
    assert sorted(path.name for path in place.iterdir()) == ["lenet.c", "lenet.h"]


def test_what_is_refused(saved, tmp_path):
    assert run(saved).exit_code == 2
    result = run(saved, "--c", tmp_path / "c", "--image-size", 33)
    assert isinstance(result.exception, ConfigError)
    assert "--image-size: is 33, larger than the network's input of 32" in str(result.exception)
    (tmp_path / "file").write_text("in the way")
    result = run(saved, "--c", tmp_path / "file")
    assert isinstance(result.exception, SystemFailure)
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_size_of_raw_images(saved, tmp_path):
    """28×28 for a grey network that takes them, otherwise the input's; or what is given."""
    assert exported_network(untrained()).image_shape == (1, 28, 28)
    assert exported_network(untrained_colour()).image_shape == (3, 12, 16)
    assert exported_network(untrained_colour(channels=1)).image_shape == (1, 12, 16)
    assert run(saved, "--c", tmp_path, "--image-size", "20x24").exit_code == 0
    header = (tmp_path / "lenet.h").read_text()
    assert "#define LENET_HEIGHT 20\n#define LENET_WIDTH 24\n" in header
    for size in ("0", "20x", "-1", "20x20x3", "1e3"):
        result = run(saved, "--c", tmp_path, "--image-size", size)
        assert result.exit_code == 2
        assert "is not a size, such as 28 or 32x24" in result.stderr


def test_without_the_extra(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = run(saved, "--onnx", tmp_path / "lenet.onnx")
    assert isinstance(result.exception, SystemFailure)
    assert str(result.exception) == "onnx: is not installed; pip install 'lenet[onnx]'"
    assert not (tmp_path / "lenet.onnx").exists()


@pytest.mark.parametrize("form", ["bytes", "float"])
def test_check_of_a_file(saved, tmp_path, form):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "lenet.onnx"
    result = run(saved, "--onnx", path, "--input", form, "--opset", 13, "--check", path)
    assert result.exit_code == 0, result.exception
    answer = re.search(r"the answer is (\d), its scores within (\S+) of", result.stdout)
    assert float(answer[2]) < 1e-4
    model = onnx.load(path)
    assert model.opset_import[0].version == 13
    stored = {entry.key: entry.value for entry in model.metadata_props}
    image = np.frombuffer(base64.b64decode(stored["test_image"]), np.uint8).reshape(1, 1, 28, 28)
    assert scores(read_checkpoint(saved), image).argmax() == int(answer[1])
    assert "20 x 20" in stored["placement"]
    for entry in model.metadata_props:
        if entry.key == "test_scores":
            entry.value = json.dumps([0.0] * 10)
    onnx.save(model, path)
    failed = run("--check", path)
    assert isinstance(failed.exception, GateFailed)
    assert "lenet.onnx: scores: its scores are off by" in str(failed.exception)


def test_check_of_other_files(saved, tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "lenet.onnx"
    for content in (b"", b"text", saved.read_bytes()):
        path.write_bytes(content)
        result = run("--check", path)
        assert isinstance(result.exception, DataError)
        assert str(result.exception).startswith(f"{path}: is not an ONNX file")
    model = onnx.load_from_string(onnx_model(exported_network(untrained())))
    del model.metadata_props[:]
    onnx.save(model, path)
    assert "has no test image in its metadata" in str(run("--check", path).exception)
    assert "there is no such file" in str(run("--check", tmp_path / "none").exception)
    assert "is a directory" in str(run("--check", tmp_path).exception)


def test_the_opsets_in_the_help():
    text = " ".join(run("--help").stdout.split())
    first, last = min(IR_VERSIONS), max(IR_VERSIONS)
    assert f"operators, from {first} to {last}. [default: {OPSET}]" in text


def test_options_of_onnx(saved, tmp_path):
    pytest.importorskip("onnx")
    result = run(saved, "--onnx", tmp_path / "lenet.onnx", "--opset", 99)
    assert isinstance(result.exception, ConfigError)
    assert "choose one from 11 to 17" in str(result.exception)
    result = run("--onnx", tmp_path / "lenet.onnx")
    assert result.exit_code == 2
    assert "Missing argument" in result.stderr
    assert run(saved, "--onnx", tmp_path / "lenet.onnx", "--input", "text").exit_code == 2


def test_two_networks_in_one_program(tmp_path):
    """Symbols, files, macros and guards differ by their prefix; C++ can call them."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None or sys.platform == "win32":
        pytest.skip("no C++ compiler here")
    letters = tmp_path / "letters.npz"
    save_checkpoint(letters, untrained(class_names=("lenet_a", *"bcdefghi", "LENET_J")))
    assert run("pretrained", "--c", tmp_path, "--prefix", "digits").exit_code == 0
    result = run(letters, "--c", tmp_path, "--prefix", "letters_8", "--int8", "--data", "strokes")
    assert result.exit_code == 0, result.exception
    text = "".join(path.read_text() for path in tmp_path.glob("*.[ch]"))
    assert not re.search(r"(?<![\"\w])lenet_|(?<![\"\w])LENET_|lenet\.[ch]", text)
    (tmp_path / "main.cpp").write_text(
        '#include <cstdio>\n#include "digits.h"\n#include "letters_8.h"\n'
        'int main() { return std::printf("%d %d %s %d %d", digits_self_test(),'
        " letters_8_self_test(), letters_8_class_names[0], DIGITS_CLASSES, LETTERS_8_CLASSES) < 0;"
        " }"
    )
    objects = []
    for name in ("digits", "letters_8"):
        objects.append(tmp_path / f"{name}.o")
        source = ["-c", tmp_path / f"{name}.c", "-o", objects[-1]]
        subprocess.run([shutil.which("cc") or "gcc", "-std=c99", *source], check=True)
    program = tmp_path / "program"
    sources = [tmp_path / "main.cpp", *objects, "-lm", "-o", program]
    subprocess.run([compiler, *sources], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout == "0 0 lenet_a 10 10"


@pytest.mark.parametrize("prefix", ["", "8bit", "a-b", "é", "a b", "a/b"])
def test_a_prefix_that_is_not_an_identifier(saved, tmp_path, prefix):
    result = run(saved, "--c", tmp_path / "c", "--prefix", prefix)
    assert isinstance(result.exception, ConfigError)
    assert "--prefix: " in str(result.exception)
    assert not (tmp_path / "c").exists()
    assert run(saved, "--onnx", tmp_path / "x.onnx", "--prefix", "digits").exit_code == 2


def test_int8_of_the_pretrained_network_needs_no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("LENET_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = run("pretrained", "--c", tmp_path / "c", "--int8")
    assert result.exit_code == 0, result.exception
    checkpoint = read_checkpoint("pretrained")
    network = quantization.quantized(exported_network(checkpoint), draw(1000, seed=0)[0])
    assert (tmp_path / "c" / "lenet.c").read_text() == int8_source(network)["lenet.c"]


def test_the_onnx_file_has_no_pad_value_of_zero():
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(onnx_model(exported_network(untrained())))
    (pad,) = (node for node in model.graph.node if node.op_type == "Pad")
    assert len(pad.input) == 2
    other = replace(
        exported_network(untrained()), preprocessing=Preprocessing((1, 32, 32), 1, 0, 9)
    )
    (pad,) = (n for n in onnx.load_from_string(onnx_model(other)).graph.node if n.op_type == "Pad")
    assert len(pad.input) == 3


def test_int8_on_the_command_line(tmp_path):
    path = tmp_path / "bars.npz"
    settings = {name.replace(".", "__"): value for name, value in write_bars(tmp_path).items()}
    save_checkpoint(path, untrained(**settings))
    result = run(path, "--c", tmp_path / "c", "--int8")
    assert result.exit_code == 0, result.exception
    header = (tmp_path / "c" / "lenet.h").read_text()
    assert "in 8 bits" in header
    other = tmp_path / "other.npz"
    save_checkpoint(other, untrained(data__name="arrays", model__classes=3))
    result = run(other, "--c", tmp_path / "d", "--int8")
    assert "name a data set" in str(result.exception)
    images, labels = bars(300, seed=300)
    np.savez(tmp_path / "bars.data.npz", x_train=images, y_train=labels)
    result = run(other, "--c", tmp_path / "d", "--int8", "--data", tmp_path / "bars.data.npz")
    assert result.exit_code == 0, result.exception
    result = run(path, "--c", tmp_path / "d", "--int8", "--image-size", 20)
    assert isinstance(result.exception, DataError)
    assert "are 1×28×28, the exported network takes 1×20×20" in str(result.exception)
    assert run(path, "--onnx", tmp_path / "n.onnx", "--int8").exit_code == 2
