"""Networks from ONNX files: our own, and graphs as other programs write them.

The import itself compares its scores with those of ONNX's reference evaluator, the oracle here;
the tests look at what the network has become, and compare round trips with the original.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose
from untrained import untrained, untrained_colour

from lenet.checkpoint.restore import read_checkpoint, restore_network
from lenet.cli import cli
from lenet.data.strokes import draw
from lenet.errors import ConfigError, DataError
from lenet.targets.networks import exported_network
from lenet.targets.onnx import graph as onnx_graph
from lenet.targets.onnx import translation
from lenet.targets.onnx.export import onnx_model
from lenet.targets.onnx.importer import import_onnx

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def scores(checkpoint, images):
    return restore_network(checkpoint).forward(checkpoint.preprocessing.prepare(images)).T


# --- Round trips ----------------------------------------------------------------------------------

OWN = {
    "lenet5": lambda: untrained(),
    "lenet5, tanh of 1998": lambda: untrained(
        model__activation="lecun_tanh", model__pooling="average"
    ),
    "caffe-lenet": lambda: untrained(model__name="caffe-lenet"),
    "colour": lambda: untrained_colour(),
}


@pytest.mark.parametrize("form", ["bytes", "float"])
@pytest.mark.parametrize("made", OWN.values(), ids=OWN)
def test_own_exports_come_back(tmp_path, made, form):
    checkpoint, path = made(), tmp_path / "net.onnx"
    exported = exported_network(checkpoint)
    path.write_bytes(onnx_model(exported, form))
    imported, difference, origin, *_ = import_onnx(path)
    assert difference < 1e-5
    assert origin.startswith("lenet ")
    types = [entry["type"] for entry in checkpoint.model.layers]
    assert [entry["type"] for entry in imported.model.layers] == types
    assert imported.class_names == checkpoint.class_names
    assert_allclose(imported.model.scale, checkpoint.model.scale, rtol=1e-6)
    assert imported.preprocessing.input_shape == checkpoint.preprocessing.input_shape
    images = np.random.default_rng(0).integers(256, size=(4, *exported.image_shape))
    images = images.astype(np.uint8)
    assert_allclose(scores(imported, images), scores(checkpoint, images), atol=1e-5)


# --- Graphs as others write them ------------------------------------------------------------------

RNG = np.random.default_rng(3)


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32) * np.float32(0.3)


def written(path, nodes, constants, dims, *, opset=13, dtype="float32", outputs=("y",)):
    """Write a graph of nodes (operator, inputs, outputs, attributes)."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node(op, i, o, name=f"{op}_{o[0]}", **a) for op, i, o, a in nodes],
        "graph",
        [helper.make_tensor_value_info("x", element, dims)],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        initializer=[numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    path.write_bytes(model.SerializeToString())
    return path


def types(imported):
    return [entry["type"] for entry in imported.checkpoint.model.layers]


def test_channels_last_as_tf2onnx_writes_them(tmp_path):
    """Conv between transpositions; Flatten in the order H, W, C; MatMul and Add."""
    nodes = [
        ("Transpose", ["x"], ["a"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["a", "k"], ["b"], {"kernel_shape": [3, 3], "auto_pad": b"SAME_UPPER"}),
        ("Add", ["b", "kb"], ["c"], {}),
        ("Relu", ["c"], ["d"], {}),
        ("MaxPool", ["d"], ["e"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Transpose", ["e"], ["f"], {"perm": [0, 2, 3, 1]}),
        ("Reshape", ["f", "shape"], ["g"], {}),
        ("MatMul", ["g", "w"], ["h"], {}),
        ("Add", ["h", "wb"], ["i"], {}),
        ("Softmax", ["i"], ["y"], {}),
    ]
    constants = {
        "k": numbers(4, 3, 3, 3),
        "kb": numbers(1, 4, 1, 1),
        "shape": np.array([-1, 4 * 5 * 4]),
        "w": numbers(80, 6),
        "wb": numbers(6),
    }
    imported = import_onnx(written(tmp_path / "k.onnx", nodes, constants, ["N", 8, 10, 3]))
    assert types(imported) == ["convolution", "relu", "max_pooling", "linear"]
    assert imported.checkpoint.model.input_shape == (3, 8, 10)
    assert imported.checkpoint.class_names == tuple("012345")
    assert imported.checkpoint.model.scale == 1 / 255


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_a_view_as_pytorch_writes_it(tmp_path, opset):
    """The shape of a reshaping is computed; mean and deviation become the preprocessing."""
    axes = {} if opset >= 13 else {"axes": [0]}
    nodes = [
        ("Sub", ["x", "mean"], ["a"], {}),
        ("Div", ["a", "deviation"], ["b"], {}),
        ("Conv", ["b", "k", "kb"], ["c"], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("BatchNormalization", ["c", "s", "o", "m", "v"], ["d"], {"epsilon": 1e-3}),
        ("Sigmoid", ["d"], ["e"], {}),
        ("AveragePool", ["e"], ["f"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Dropout", ["f"], ["g"], {}),
        ("Shape", ["g"], ["g1"], {}),
        ("Gather", ["g1", "zero"], ["g2"], {"axis": 0}),
        ("Unsqueeze", ["g2", *(["first"] if opset >= 13 else [])], ["g3"], axes),
        ("Concat", ["g3", "rest"], ["g4"], {"axis": 0}),
        ("Reshape", ["g", "g4"], ["h"], {}),
        ("Gemm", ["h", "w", "wb"], ["y"], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ]
    constants = {
        "mean": np.float32(0.1307), "deviation": np.float32(0.3081),
        "k": numbers(4, 1, 3, 3), "kb": numbers(4),
        "s": numbers(4), "o": numbers(4), "m": numbers(4), "v": numbers(4) ** 2,
        "zero": np.array(0), "first": np.array([0]), "rest": np.array([-1]),
        "w": numbers(3, 64), "wb": numbers(3),
    }  # fmt: skip
    path = written(tmp_path / "p.onnx", nodes, constants, ["N", 1, 16, 16], opset=opset)
    imported = import_onnx(path)
    assert types(imported) == [
        *("convolution", "batch_normalization", "sigmoid", "average_pooling", "dropout", "linear")
    ]
    model = imported.checkpoint.model
    assert_allclose([model.scale, model.shift], [1 / 255 / 0.3081, -0.1307 / 0.3081], rtol=1e-5)


def test_a_perceptron_as_skl2onnx_writes_it(tmp_path):
    nodes = [
        ("Cast", ["x"], ["a"], {"to": 1}),
        ("MatMul", ["a", "w"], ["b"], {}),
        ("Add", ["b", "wb"], ["c"], {}),
        ("Tanh", ["c"], ["d"], {}),
        ("MatMul", ["d", "v"], ["e"], {}),
        ("Add", ["e", "vb"], ["f"], {}),
        ("Softmax", ["f"], ["y"], {"axis": 1}),
        ("ArgMax", ["y"], ["label"], {"axis": 1}),
    ]
    constants = {"w": numbers(64, 5), "wb": numbers(1, 5), "v": numbers(5, 3), "vb": numbers(1, 3)}
    imported = import_onnx(
        written(tmp_path / "s.onnx", nodes, constants, ["N", 64]), scale=16 / 255, shift=0.0
    )
    assert types(imported) == ["linear", "tanh", "linear"]
    assert imported.checkpoint.model.input_shape == (1, 8, 8)
    assert imported.checkpoint.model.scale == 16 / 255


@pytest.mark.parametrize(
    ("value", "node", "kind"),
    [
        (0.0, ("Conv", ["p", "k"], ["c"], {}), "convolution"),
        (-np.inf, ("MaxPool", ["p"], ["c"], {"kernel_shape": [3, 3]}), "max_pooling"),
        (0.0, ("AveragePool", ["p"], ["c"], {"kernel_shape": [3, 3]}), "average_pooling"),
    ],
)
def test_padding_goes_to_the_next_layer(tmp_path, value, node, kind):
    nodes = [
        ("Conv", ["x", "k"], ["a"], {}),
        ("Pad", ["a", "pads", "value"], ["p"], {}),
        node,
        ("Mul", ["c", "factor"], ["d"], {}),
        ("GlobalAveragePool", ["d"], ["e"], {}),
        ("Flatten", ["e"], ["f"], {}),
        ("MatMul", ["f", "w"], ["y"], {}),
    ]
    constants = {
        "k": numbers(1, 1, 2, 2), "pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]),
        "value": np.float32(value), "factor": numbers(1, 1, 1), "w": numbers(1, 2),
    }  # fmt: skip
    imported = import_onnx(written(tmp_path / "n.onnx", nodes, constants, ["N", 1, 7, 7]))
    assert types(imported)[1] == kind
    assert imported.checkpoint.model.layers[1]["padding"] == [1, 0, 2, 1]


def test_a_number_of_images_that_is_fixed_and_bytes(tmp_path):
    nodes = [
        ("Cast", ["x"], ["a"], {"to": 1}),
        ("Mul", ["a", "scale"], ["b"], {}),
        ("Reshape", ["b", "shape"], ["c"], {}),
        ("Gemm", ["c", "w"], ["y"], {}),
    ]
    constants = {"scale": np.float32(1 / 255), "shape": np.array([2, 36]), "w": numbers(36, 2)}
    path = written(tmp_path / "n.onnx", nodes, constants, [2, 1, 6, 6], dtype="uint8")
    imported = import_onnx(path)
    assert_allclose(imported.checkpoint.model.scale, 1 / 255, rtol=1e-6)


def test_numbers_for_each_channel_become_a_normalization(tmp_path):
    nodes = [
        ("Sub", ["x", "mean"], ["a"], {}),
        ("Div", ["a", "deviation"], ["b"], {}),
        ("Flatten", ["b"], ["c"], {}),
        ("Gemm", ["c", "w"], ["y"], {}),
    ]
    constants = {"mean": numbers(1, 3, 1, 1), "deviation": numbers(3, 1, 1), "w": numbers(48, 2)}
    imported = import_onnx(written(tmp_path / "n.onnx", nodes, constants, ["N", 3, 4, 4]))
    assert types(imported) == ["batch_normalization", "linear"]


def test_flatten_and_global_pooling_as_tf2onnx_writes_them(tmp_path):
    """The shape is that of the value before the transposition, put in order by Gather."""
    nodes = [
        ("Reshape", ["x", "images"], ["a"], {}),
        ("Conv", ["a", "k"], ["b"], {}),
        ("Transpose", ["b"], ["c"], {"perm": [0, 2, 3, 1]}),
        ("Shape", ["b"], ["s1"], {}),
        ("Gather", ["s1", "order"], ["s2"], {}),
        ("Cast", ["s2"], ["s3"], {"to": 6}),
        ("Slice", ["s3", "zero", "one", "zero"], ["s4"], {}),
        ("Concat", ["s4", "rest"], ["s5"], {"axis": 0}),
        ("Cast", ["s5"], ["s6"], {"to": 7}),
        ("Reshape", ["c", "s6"], ["d"], {}),
        ("MatMul", ["d", "w"], ["y"], {}),
    ]
    constants = {
        "images": np.array([-1, 1, 6, 6]), "order": np.array([0, 2, 3, 1]), "zero": np.array([0]),
        "one": np.array([1]), "rest": np.array([32], np.int32), "k": numbers(2, 1, 3, 3),
        "w": numbers(32, 3),
    }  # fmt: skip
    path = written(tmp_path / "n.onnx", nodes, constants, ["N", 6, 6, 1])
    assert types(import_onnx(path)) == ["convolution", "linear"]
    last = [
        ("GlobalMaxPool", ["b"], ["c"], {}),
        ("Squeeze", ["c", "axes"], ["d"], {}),
        ("MatMul", ["d", "w"], ["y"], {}),
    ]
    constants |= {"axes": np.array([2, 3]), "w": numbers(2, 3)}
    path = written(tmp_path / "n.onnx", nodes[:2] + last, constants, ["N", 6, 6, 1])
    assert types(import_onnx(path)) == ["convolution", "max_pooling", "linear"]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_the_mean_of_each_channel(tmp_path, keepdims, last):
    """As the newer exporter of PyTorch writes adaptive pooling; a Reshape has no zeros in it."""
    nodes = [
        ("Conv", ["x", "k"], ["a"], {}),
        *([("Transpose", ["a"], ["b"], {"perm": [0, 2, 3, 1]})] if last else []),
        ("ReduceMean", ["b" if last else "a", "axes"], ["c"], {"keepdims": keepdims}),
        ("Reshape", ["c", "shape"], ["d"], {"allowzero": 1}),
        ("Gemm", ["d", "w"], ["y"], {"transB": 1}),
    ]
    constants = {
        "k": numbers(4, 3, 3, 3), "axes": np.array([1, 2] if last else [-1, -2]),
        "shape": np.array([-1, 4]), "w": numbers(5, 4),
    }  # fmt: skip
    path = written(tmp_path / "n.onnx", nodes, constants, ["N", 3, 8, 9], opset=18)
    assert types(import_onnx(path)) == ["convolution", "average_pooling", "linear"]


def test_padding_that_is_computed(tmp_path):
    """As the older exporter of PyTorch writes ``F.pad``: the pairs reversed, then transposed."""
    nodes = [
        ("ConstantOfShape", ["four"], ["a"], {"value": numpy_helper.from_array(np.array([0]))}),
        ("Concat", ["given", "a"], ["b"], {"axis": 0}),
        ("Reshape", ["b", "pairs"], ["c"], {}),
        ("Slice", ["c", "minus", "end", "axis", "minus"], ["d"], {}),
        ("Transpose", ["d"], ["e"], {"perm": [1, 0]}),
        ("Reshape", ["e", "minus"], ["f"], {}),
        ("Conv", ["x", "k"], ["g"], {}),
        ("Pad", ["g", "f"], ["h"], {}),
        ("MaxPool", ["h"], ["i"], {"kernel_shape": [4, 4]}),
        ("Flatten", ["i"], ["j"], {}),
        ("Gemm", ["j", "w"], ["y"], {}),
    ]
    constants = {
        "four": np.array([4]), "given": np.array([1, 2, 3, 0]), "pairs": np.array([-1, 2]),
        "minus": np.array([-1]), "end": np.array([-(2**63) + 1]), "axis": np.array([0]),
        "k": numbers(1, 1, 2, 2), "w": numbers(25, 2),
    }  # fmt: skip
    path = written(tmp_path / "n.onnx", nodes, constants, ["N", 1, 6, 6])
    with pytest.raises(DataError, match="MaxPool after Pad with 0 cannot be imported"):
        import_onnx(path)
    nodes[-3] = ("AveragePool", ["h"], ["i"], {"kernel_shape": [4, 4]})
    imported = import_onnx(written(path, nodes, constants, ["N", 1, 6, 6]))
    assert imported.checkpoint.model.layers[1]["padding"] == [3, 1, 0, 2]


def test_a_shape_that_doubles_at_each_step(tmp_path):
    """Every node takes the one before eight times; each is computed once, and to a limit."""
    nodes = [
        ("Concat", [f"s{k}"] * 8, [f"s{k + 1}"], {"axis": 0}) for k in range(19)
    ]  # fmt: skip
    nodes += [("Reshape", ["x", "s19"], ["a"], {}), GEMM]
    path = written(tmp_path / "n.onnx", nodes, {"s0": np.array([1]), "w": numbers(9, 2)}, ["N", 9])
    with pytest.raises(DataError, match="Concat of these constants cannot be imported"):
        import_onnx(path)


def test_a_pipeline_with_a_scaler_as_skl2onnx_writes_it(tmp_path):
    """A number for each pixel becomes part of the linear layer."""
    nodes = [
        ("Mul", ["x", "spread"], ["a"], {}),
        ("Add", ["a", "least"], ["b"], {}),
        ("MatMul", ["b", "w"], ["y"], {}),
    ]
    constants = {"spread": numbers(1, 9), "least": numbers(1, 9), "w": numbers(9, 4)}
    path = written(tmp_path / "n.onnx", nodes, constants, ["N", 9])
    assert types(import_onnx(path)) == ["linear"]
    model = onnx.load(path)
    first = helper.make_node(
        "Scaler", ["x"], ["b"], domain="ai.onnx.ml",
        offset=constants["least"][0].tolist(), scale=constants["spread"][0].tolist(),
    )  # fmt: skip
    last = model.graph.node[2]
    del model.graph.node[:]
    model.graph.node.extend([first, last])
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    onnx.save(model, path)
    assert types(import_onnx(path)) == ["linear"]


# --- What is refused ------------------------------------------------------------------------------

GEMM = ("Gemm", ["a", "w"], ["y"], {})


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ([("Erf", ["x"], ["a"], {}), GEMM], "node Erf_a: Erf cannot be imported"),
        ([("Add", ["x", "x"], ["a"], {}), GEMM], "node Add_a: Add does not take one value"),
        ([("Softmax", ["x"], ["a"], {}), GEMM], "node Gemm_y: Gemm after Softmax"),
        ([("Flatten", ["x"], ["a"], {"axis": 0}), GEMM], "node Flatten_a: Flatten of these axes"),
        ([("Gemm", ["x", "v"], ["y"], {})], "node Gemm_y: Gemm of values of the shape"),
        ([("Transpose", ["x"], ["a"], {"perm": [1, 0]}), GEMM], "Transpose of the first axis"),
        ([("Reshape", ["x", "w"], ["a"], {}), GEMM], "Reshape to a shape that is not constant"),
        ([("Clip", ["x"], ["a"], {}), GEMM], "node Clip_a: Clip cannot be imported; import a"),
        ([("Reshape", ["x", "huge"], ["a"], {}), GEMM], "does not keep the images apart"),
        (
            [("Mul", ["x", "wide"], ["b"], {}), ("Relu", ["b"], ["a"], {}), GEMM],
            "node Mul_b: Mul with a number for each pixel",
        ),
        ([("Cast", ["x"], ["a"], {"to": 7}), GEMM], "Cast to another type than float"),
        ([("Identity", ["x"], ["y"], {})], "graph: has no layers"),
        ([("Relu", ["x"], ["y"], {})], "not one score for each class"),
        ([("Gemm", ["missing", "w"], ["y"], {})], "value 'missing' does not come from the input"),
    ],
)
def test_a_node_that_cannot_be_imported_is_named(tmp_path, nodes, problem):
    constants = {
        "w": numbers(9, 2), "v": numbers(8, 2), "wide": numbers(1, 9),
        "huge": np.array([2**40, 9]),
    }  # fmt: skip
    path = written(tmp_path / "n.onnx", nodes, constants, ["N", 9])
    with pytest.raises(DataError) as caught:
        import_onnx(path)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def changed(path, change):
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def small(tmp_path):
    nodes = [("Gemm", ["x", "w"], ["y"], {})]
    return written(tmp_path / "n.onnx", nodes, {"w": numbers(9, 2)}, ["N", 9])


def test_a_producer_that_is_no_text(small):
    content = small.read_bytes()
    field = b"\x12\x02\xff\xfe"  # the producer's name
    small.write_bytes(content[:2] + field + content[2:])
    assert "xff" in import_onnx(small).origin


def make_external(location, offset="0"):
    def change(model):
        (tensor,) = model.graph.initializer
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", "72")):
            tensor.external_data.add(key=key, value=value)

    return change


def test_data_in_a_file_beside_the_model(small):
    raw = onnx.load(small).graph.initializer[0].raw_data
    (small.parent / "n.data").write_bytes(bytes(8) + raw)
    expected = import_onnx(small).checkpoint.parameters["F1.weight"]
    imported = import_onnx(changed(small, make_external("n.data", "8")))
    assert_allclose(imported.checkpoint.parameters["F1.weight"], expected, rtol=0)


@pytest.mark.parametrize(
    "location", ["../n.data", "/etc/passwd", "..", "", "a/b", "link", "none", "short", "."]
)
def test_data_elsewhere_is_refused(small, location):
    (small.parent.parent / "n.data").write_bytes(bytes(72))
    (small.parent / "link").symlink_to("/etc/passwd")
    (small.parent / "short").write_bytes(bytes(71))
    with pytest.raises(DataError, match=r"tensor w|is a directory"):
        import_onnx(changed(small, make_external(location)))


def test_dimensions_that_are_not_those_of_the_data(small):
    def huge(model):
        model.graph.initializer[0].dims[:] = [2**31, 2**31]

    with pytest.raises(DataError, match="tensor w: has 2 dimensions of 4,611,686"):
        import_onnx(changed(small, huge))

    def more(model):
        model.graph.initializer[0].dims[:] = [9, 3]

    with pytest.raises(DataError, match="tensor w: has 72 bytes, not 108"):
        import_onnx(changed(small, more))


def test_a_network_that_is_too_large(tmp_path, monkeypatch):
    nodes = [("Conv", ["x", "k"], ["y"], {})]
    path = written(tmp_path / "n.onnx", nodes, {"k": numbers(2, 1, 3, 3)}, ["N", 1, 2**15, 2**15])
    with pytest.raises(DataError, match="its input has 1,073,741,824 numbers"):
        import_onnx(path)
    path = written(tmp_path / "n.onnx", nodes, {"k": numbers(2, 1, 3, 3)}, ["N", 1, 9, 9])
    monkeypatch.setattr(translation, "MAX_PRODUCTS", 100)
    with pytest.raises(DataError, match="Conv makes a network that is too large"):
        import_onnx(path)
    monkeypatch.setattr(onnx_graph, "MAX_NODES", 0)
    with pytest.raises(DataError, match="has 1 nodes"):
        import_onnx(path)


def test_constants_that_are_computed(tmp_path):
    """Only known operators, and no more numbers than fit; by a loop, never."""
    pixels = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [pixels("i", 7, []), pixels("go", 9, []), pixels("v", 1, [])],
        [pixels("on", 9, []), pixels("w", 1, [])],
    )
    half = numpy_helper.from_array(np.array([0.5], np.float32))
    big = {"n": np.array([1 << 33]), "m": np.array([1 << 20] * 2), "v": np.float32(0.5)}
    big |= {"M": np.array(1 << 62), "C": np.array(True)}
    for node, problem in (
        (("Loop", ["M", "C", "v"], ["e"], {"body": body}), "Loop of constants cannot"),
        (("ConstantOfShape", ["n"], ["e"], {"value": half}), "of these constants cannot"),
        (("Expand", ["v", "m"], ["e"], {}), "Expand of these constants cannot"),
        (("RandomNormal", [], ["e"], {"shape": [9, 2]}), "RandomNormal of constants cannot"),
        (("EyeLike", ["m"], ["e"], {}), "EyeLike of constants cannot"),
    ):
        path = written(tmp_path / "n.onnx", [node, ("Gemm", ["x", "e"], ["y"], {})], big, ["N", 9])
        with pytest.raises(DataError, match=problem):
            import_onnx(path)


def test_long_chains_are_linear(tmp_path):
    """In any order; a circle is refused."""
    names = ["x", *(f"v{k}" for k in range(9000)), "a"]
    nodes = [("Identity", [a], [b], {}) for a, b in itertools.pairwise(names)]
    chain = [("Identity", [f"w{k}"], [f"w{k + 1}"], {}) for k in range(900)]
    constants = {"w0": numbers(9, 2)}
    gemm = ("Gemm", ["a", "w900"], ["y"], {})
    path = tmp_path / "n.onnx"
    assert types(import_onnx(written(path, [gemm, *nodes[::-1], *chain], constants, ["N", 9])))
    circle = [("Identity", ["b"], ["a"], {}), ("Identity", ["a"], ["b"], {}), gemm, *chain]
    with pytest.raises(DataError, match="does not come from the input"):
        import_onnx(written(path, circle, constants, ["N", 9]))


def test_the_scale_is_tried_on_drawn_digits(tmp_path):
    """A network that compares levels from 0 to 255 with the mean of each drawn digit."""
    images, labels = draw(400, seed=5)
    means = np.array([images[labels == k].mean(axis=0).ravel() for k in range(10)]) / 255
    weight = means.T.astype(np.float32)
    bias = (-(means**2).sum(axis=1) / 2 * 255).astype(np.float32)
    nodes = [("Flatten", ["x"], ["a"], {}), ("Gemm", ["a", "w", "b"], ["y"], {})]
    path = written(tmp_path / "n.onnx", nodes, {"w": weight, "b": bias}, ["N", 1, 28, 28])
    imported = import_onnx(path)
    assert imported.scale == "0.00392157 × level + 0, assumed"
    assert "import it again with --scale 1 --shift 0" in imported.warning
    assert import_onnx(path, scale=1).warning == ""
    assert import_onnx(path, scale=1).scale == "1 × level + 0, as given"
    result = run(path, "--out", tmp_path / "n.npz")
    assert "lenet: warning: it recognises" in result.stderr
    assert "(--scale and --shift give another)" in result.stdout


# --- The command ----------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(cli, ["import", *map(str, arguments)])


def test_the_command(small, tmp_path):
    result = run(small, "--out", tmp_path / "new.npz", "--classes", "yes,no")
    assert result.exit_code == 0, result.exception
    assert ": linear; from an unknown program; scores within " in result.stdout
    assert read_checkpoint(tmp_path / "new.npz").class_names == ("yes", "no")
    summary = CliRunner().invoke(cli, ["summary", str(tmp_path / "new.npz")])
    assert summary.exit_code == 0, summary.exception


def test_what_the_command_refuses(small, tmp_path):
    out = tmp_path / "new.npz"
    assert run(small).exit_code == 2
    result = run(small, "--out", out, "--classes", "a,b,c")
    assert isinstance(result.exception, ConfigError)
    assert "--classes: are 3 names for 2 classes" in str(result.exception)
    assert isinstance(run(tmp_path / "none", "--out", out).exception, DataError)
    assert isinstance(run(Path(__file__), "--out", out).exception, DataError)
    assert not out.exists()
