"""The forms in which other programs write sequential networks of images, as recipes.

Each row of :data:`FORMS` is one program and one way of writing; the oracle is ONNX's reference
evaluator, which is given the whole file.
"""

from __future__ import annotations

import numpy as np
import pytest

from lenet.checkpoint.restore import plain_network
from lenet.targets.onnx.importer import import_onnx

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


class File:
    """An ONNX file in the making: nodes after each other, and constants."""

    def __init__(self, shape, opset=13, dtype="float32", seed=0):
        self.shape, self.opset, self.dtype = shape, opset, dtype
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.value, self.count = [], {}, "x", 0

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def put(self, array):
        """Add a constant."""
        name = self.name()
        self.constants[name] = np.asarray(array)
        return name

    def numbers(self, *shape, scale=0.2):
        kind = "float16" if self.dtype == "float16" else "float32"
        return self.put((self.rng.standard_normal(shape) * scale).astype(kind))

    def positive(self, *shape):
        return self.put((self.rng.uniform(0.5, 1.5, shape)).astype("float32"))

    def node(self, operator, *inputs, **attributes):
        """Append a node of inputs, and return its value."""
        name = self.name()
        domain = attributes.pop("domain", "")
        node = helper.make_node(operator, inputs, [name], domain=domain, **attributes)
        self.nodes.append(node)
        return name

    def then(self, operator, *others, **attributes):
        """Append a node of the last value and constants."""
        self.value = self.node(operator, self.value, *others, **attributes)
        return self

    def written(self, path, outputs=None, producer=""):
        element = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        kinds = dict.fromkeys(outputs or [self.value], 1)
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("x", element, self.shape)],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
            [numpy_helper.from_array(a, n) for n, a in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("ai.onnx.ml", 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name=producer)
        path.write_bytes(model.SerializeToString())
        return model


def lenet(file, C=1, side=28, *, flatten=None, bias=True, padding=None, activation="Relu"):
    """Two convolutions with pooling, and two linear layers as Gemm."""
    for filters in (4, 6):
        attributes = padding or {"pads": [0, 0, 0, 0]}
        weights = [file.numbers(filters, C, 5, 5), *([file.numbers(filters)] if bias else [])]
        file.then("Conv", *weights, kernel_shape=[5, 5], **attributes)
        if not bias:
            file.then("Add", file.numbers(1, filters, 1, 1))
        file.then(activation).then("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        C, side = filters, (side if padding else side - 4) // 2
    (flatten or (lambda f, size: f.then("Flatten", axis=1)))(file, C * side * side)
    file.then("Gemm", file.numbers(12, C * side * side), file.numbers(12), transB=1)
    return file.then(activation).then("Gemm", file.numbers(10, 12), file.numbers(10), transB=1)


def gather_view(file, size, *, old):
    """``x.view(x.size(0), -1)`` of PyTorch before 2.0."""
    axes = {"axes": [0]} if old else {}
    shape = file.node("Shape", file.value)
    first = file.node("Gather", shape, file.put(np.array(0)), axis=0)
    extra = [] if old else [file.put(np.array([0]))]
    first = file.node("Unsqueeze", first, *extra, **axes)
    target = file.node("Concat", first, file.put(np.array([-1])), axis=0)
    file.then("Reshape", target)


def start_end_view(file, size):
    """``x.view(x.size(0), -1)`` of PyTorch 2.9, of the graph's input."""
    count = file.node("Shape", "x", start=0, end=1)
    target = file.node("Concat", count, file.put(np.array([size])), axis=0)
    file.then("Reshape", target, allowzero=1)


def constant_node(file, array):
    return file.node("Constant", value=numpy_helper.from_array(np.asarray(array)))


# --- PyTorch ---


def torch_1_4():
    file = File(["N", 1, 28, 28], opset=9)
    return lenet(file, flatten=lambda f, n: gather_view(f, n, old=True)).then("LogSoftmax", axis=1)


def torch_1_13():
    file = File(["N", 1, 28, 28], opset=14)
    return lenet(file, flatten=lambda f, n: gather_view(f, n, old=False))


def torch_dynamo_2_9():
    return lenet(File(["N", 1, 28, 28], opset=18), flatten=start_end_view)


def torch_dynamo_fixed():
    return lenet(
        File([1, 1, 28, 28], opset=18),
        flatten=lambda f, n: f.then("Reshape", constant_node(f, [1, n]), allowzero=1),
    )


def torch_matmul_add():
    """Linear layers of three dimensions and more, as MatMul and Add."""
    file = File(["N", 28, 28], opset=17).then("Flatten", axis=1)
    file.then("MatMul", file.numbers(784, 16)).then("Add", file.numbers(16)).then("Relu")
    return file.then("MatMul", file.numbers(16, 10)).then("Add", file.numbers(10))


def torch_transposed_weight():
    """The weight is stored (F,D) and transposed in the graph, without constant folding."""
    file = File(["N", 1, 28, 28], opset=13).then("Flatten", axis=1)
    transposed = file.node("Transpose", file.numbers(16, 784), perm=[1, 0])
    file.then("MatMul", transposed).then("Add", file.numbers(16)).then("Tanh")
    return file.then("Gemm", file.numbers(10, 16), file.numbers(10), transB=1)


def normalization(file, C, **attributes):
    numbers = [file.positive(C), file.numbers(C), file.numbers(C), file.positive(C)]
    return file.then("BatchNormalization", *numbers, epsilon=1e-5, **attributes)


def torch_batch_norm_1d_old():
    """Until 1.5: Unsqueeze, BatchNormalization, Squeeze."""
    file = File(["N", 1, 28, 28], opset=9).then("Flatten", axis=1)
    file.then("Gemm", file.numbers(8, 784), file.numbers(8), transB=1)
    file.then("Unsqueeze", axes=[2])
    normalization(file, 8).then("Squeeze", axes=[2]).then("Relu")
    return file.then("Gemm", file.numbers(10, 8), file.numbers(10), transB=1)


def torch_batch_norm_1d():
    file = File(["N", 784], opset=15)
    file.then("Gemm", file.numbers(8, 784), file.numbers(8), transB=1)
    normalization(file, 8, momentum=0.9).then("Relu")
    return file.then("Gemm", file.numbers(10, 8), file.numbers(10), transB=1)


def torch_half():
    file = lenet(File(["N", 1, 28, 28], opset=13, dtype="float16"))
    return file.then("Cast", to=1)


def torch_half_inside():
    """``network.half()`` behind an input and an output of float32."""
    file = File(["N", 1, 28, 28], opset=13)
    file.then("Cast", to=10)
    file.dtype = "float16"
    lenet(file).then("Cast", to=1)
    file.dtype = "float32"
    return file


def torch_fully_convolutional():
    """Scores of the shape 10×1×1."""
    file = File(["N", 1, 28, 28], opset=13)
    file.then("Conv", file.numbers(6, 1, 5, 5), file.numbers(6), strides=[2, 2]).then("Relu")
    return file.then("Conv", file.numbers(10, 6, 12, 12), file.numbers(10))


def torch_network_in_network():
    """Ends with the mean of each channel."""
    file = File(["N", 3, 32, 32], opset=13)
    file.then("Conv", file.numbers(6, 3, 3, 3), file.numbers(6), pads=[1, 1, 1, 1]).then("Relu")
    file.then("Conv", file.numbers(10, 6, 1, 1), file.numbers(10))
    return file.then("GlobalAveragePool").then("Flatten", axis=1)


def torch_adaptive_mean_18():
    file = File(["N", 3, 32, 32], opset=18)
    file.then("Conv", file.numbers(6, 3, 3, 3), file.numbers(6)).then("Relu")
    file.then("ReduceMean", file.put(np.array([-1, -2])), keepdims=1)
    file.then("Reshape", constant_node(file, [-1, 6]), allowzero=1)
    return file.then("Gemm", file.numbers(10, 6), file.numbers(10), transB=1)


def torch_normalize_inside():
    file = File(["N", 1, 28, 28], opset=13)
    file.then("Sub", file.put(np.float32([[[0.1307]]])))
    file.then("Div", file.put(np.float32([[[0.3081]]])))
    return lenet(file)


def torch_depthwise():
    file = File(["N", 4, 16, 16], opset=13)
    file.then("Conv", file.numbers(4, 1, 3, 3), group=4, pads=[1, 1, 1, 1])
    normalization(file, 4).then("Relu")
    file.then("Conv", file.numbers(8, 4, 1, 1), file.numbers(8)).then("Relu")
    file.then("AveragePool", kernel_shape=[2, 2], strides=[2, 2]).then("Flatten")
    return file.then("Gemm", file.numbers(5, 512), file.numbers(5), transB=1)


def torch_dropout_12():
    """Dropout with its rate and its mode as inputs."""
    file = File(["N", 1, 28, 28], opset=12).then("Flatten", axis=1)
    file.then("Gemm", file.numbers(16, 784), file.numbers(16), transB=1).then("Relu")
    file.then("Dropout", file.put(np.float32(0.5)), file.put(np.array(False)))
    return file.then("Gemm", file.numbers(10, 16), file.numbers(10), transB=1)


def torch_bytes():
    file = File(["N", 1, 28, 28], opset=13, dtype="uint8")
    file.then("Cast", to=1)
    file.dtype = "float32"
    file.then("Div", file.put(np.float32(255)))
    lenet(file)
    file.dtype = "uint8"
    return file


def torch_sigmoid_at_the_end():
    return lenet(File(["N", 1, 28, 28]), activation="Tanh").then("Sigmoid")


# --- Keras ---


def keras_dense(file, D, F):
    return file.then("MatMul", file.numbers(D, F)).then("Add", file.numbers(F))


def tf2onnx_lenet():
    file = File(["N", 28, 28, 1], opset=13)
    file.then("Transpose", perm=[0, 3, 1, 2])
    file.then("Conv", file.numbers(4, 1, 3, 3), file.numbers(4), auto_pad="SAME_UPPER")
    file.then("Relu").then("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    file.then("Transpose", perm=[0, 2, 3, 1]).then("Reshape", file.put(np.array([-1, 784])))
    return keras_dense(file, 784, 10).then("Softmax", axis=-1)


def tf2onnx_reshape_without_transpose():
    """One channel: the transposition is a Reshape."""
    file = File(["N", 28, 28, 1], opset=11)
    file.then("Reshape", file.put(np.array([-1, 1, 28, 28])))
    file.then("Conv", file.numbers(4, 1, 5, 5), file.numbers(4), strides=[2, 2]).then("Relu")
    file.then("Transpose", perm=[0, 2, 3, 1]).then("Flatten", axis=1)
    return keras_dense(file, 576, 10).then("Softmax", axis=1)


def tf2onnx_flatten_by_shape():
    file = File(["N", 28, 28, 1], opset=13)
    file.then("Transpose", perm=[0, 3, 1, 2]).then("Conv", file.numbers(2, 1, 3, 3)).then("Relu")
    file.then("Transpose", perm=[0, 2, 3, 1])
    shape = file.node("Cast", file.node("Shape", file.value), to=6)
    zero, one = file.put(np.array([0])), file.put(np.array([1]))
    first = file.node("Slice", shape, zero, one, zero)
    target = file.node("Concat", first, file.put(np.array([1352], np.int32)), axis=0)
    file.then("Reshape", file.node("Cast", target, to=7))
    return keras_dense(file, 1352, 10)


def tf2onnx_batch_norm_folded():
    file = File(["N", 16, 16, 3], opset=13)
    file.then("Transpose", perm=[0, 3, 1, 2])
    file.then("Conv", file.numbers(4, 3, 3, 3)).then("Mul", file.positive(1, 4, 1, 1))
    file.then("Add", file.numbers(1, 4, 1, 1)).then("Relu").then("GlobalAveragePool")
    file.then("Squeeze", file.put(np.array([2, 3])))
    return keras_dense(file, 4, 6).then("Softmax", axis=-1)


def keras_raw_levels():
    """Rescaling(1/255) in the network."""
    file = File(["N", 28, 28], opset=13)
    file.then("Mul", file.put(np.float32(1 / 255))).then("Reshape", file.put(np.array([-1, 784])))
    keras_dense(file, 784, 16).then("Relu")
    return keras_dense(file, 16, 10).then("Softmax")


def keras_sigmoid():
    """``Dense(10, activation="sigmoid")`` of many tutorials."""
    file = File(["N", 784], opset=13)
    keras_dense(file, 784, 16).then("Sigmoid")
    return keras_dense(file, 16, 10).then("Sigmoid")


def keras2onnx_backwards():
    """Nodes are stored in the reverse order."""
    file = File(["N", 28, 28, 1], opset=11)
    file.then("Transpose", perm=[0, 3, 1, 2])
    file.then("Conv", file.numbers(4, 1, 3, 3), file.numbers(4)).then("Relu")
    file.then("Transpose", perm=[0, 2, 3, 1]).then("Reshape", file.put(np.array([-1, 2704])))
    keras_dense(file, 2704, 10).then("Softmax", axis=-1)
    file.nodes.reverse()
    return file


def keras2onnx_identities():
    file = File(["N", 784], opset=10).then("Identity")
    keras_dense(file, 784, 10).then("Identity").then("Softmax", axis=1)
    return file.then("Identity")


def keras_zero_padding():
    file = File(["N", 28, 28, 1], opset=13)
    file.then("Transpose", perm=[0, 3, 1, 2])
    file.then("Pad", file.put(np.array([0, 0, 2, 2, 0, 0, 2, 2])))
    file.then("Conv", file.numbers(4, 1, 5, 5), file.numbers(4)).then("Relu")
    file.then("Transpose", perm=[0, 2, 3, 1]).then("Flatten")
    return keras_dense(file, 3136, 10)


def keras_global_max():
    file = File(["N", 16, 16, 3], opset=13)
    file.then("Transpose", perm=[0, 3, 1, 2]).then("Conv", file.numbers(8, 3, 3, 3)).then("Relu")
    file.then("Transpose", perm=[0, 2, 3, 1])
    file.then("ReduceMax", axes=[1, 2], keepdims=0)
    return keras_dense(file, 8, 4)


# --- Others ---


def cntk_zoo():
    """The MNIST network of the model zoo: weights through a Reshape of constants."""
    file = File([1, 1, 28, 28], opset=8)
    weights = file.node("Reshape", file.numbers(8, 14, 14, 10), file.put(np.array([1568, 10])))
    file.then("Conv", file.numbers(8, 1, 5, 5), kernel_shape=[5, 5], auto_pad="SAME_UPPER")
    file.then("Add", file.numbers(8, 1, 1)).then("Relu")
    file.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2], auto_pad="NOTSET")
    file.then("Reshape", file.put(np.array([1, 1568]))).then("MatMul", weights)
    return file.then("Add", file.numbers(1, 10))


def cntk_scaled():
    """Levels from 0 to 255, multiplied in the graph."""
    file = File([1, 1, 28, 28], opset=8)
    file.then("Mul", file.put(np.float32([0.00390625])))
    file.then("Conv", file.numbers(4, 1, 5, 5)).then("Relu")
    file.then("MaxPool", kernel_shape=[3, 3], strides=[3, 3])
    file.then("Reshape", file.put(np.array([1, 256]))).then("MatMul", file.numbers(256, 10))
    return file.then("Add", file.numbers(1, 10))


def matlab():
    """The mean image is subtracted; a softmax and a Flatten are the end."""
    file = File(["N", 1, 28, 28], opset=9)
    file.then("Sub", file.put(np.full((1, 1, 1, 1), 0.13, np.float32)))
    file.then("Conv", file.numbers(4, 1, 3, 3), file.numbers(4), pads=[1, 1, 1, 1])
    normalization(file, 4).then("Relu")
    file.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    file.then("Conv", file.numbers(10, 4, 14, 14), file.numbers(10))
    return file.then("Softmax", axis=1).then("Flatten", axis=1)


def matlab_mean_image():
    """A mean for each pixel, before a linear layer."""
    file = File(["N", 1, 28, 28], opset=9)
    file.then("Sub", file.numbers(1, 1, 28, 28)).then("Flatten", axis=1)
    return file.then("Gemm", file.numbers(784, 10), file.numbers(10))


def paddle():
    file = File(["N", 1, 28, 28], opset=11)
    file.then("Conv", file.numbers(6, 1, 3, 3), pads=[1, 1, 1, 1], dilations=[1, 1], group=1)
    file.then("Add", file.node("Reshape", file.numbers(6), file.put(np.array([1, 6, 1, 1]))))
    file.then("Relu").then("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0])
    file.then("Flatten", axis=1).then("MatMul", file.numbers(1176, 10)).then(
        "Add", file.numbers(10)
    )
    return file


def paddle_scale():
    file = File(["N", 1, 28, 28], opset=11).then("Identity")
    shape = file.node("Cast", file.node("Shape", file.value), to=6)
    zero, one = file.put(np.array([0])), file.put(np.array([1]))
    first = file.node("Slice", shape, zero, one)
    rest = constant_node(file, np.array([784], np.int32))
    target = file.node("Cast", file.node("Concat", first, rest, axis=0), to=7)
    file.then("Reshape", target).then("MatMul", file.numbers(784, 10))
    return file.then("Add", file.numbers(10)).then("Softmax", axis=-1)


def mxnet():
    file = File([1, 1, 28, 28], opset=9)
    file.then("Conv", file.numbers(5, 1, 5, 5), file.numbers(5), pads=[0, 0, 0, 0], group=1)
    normalization(file, 5, momentum=0.9).then("Tanh")
    file.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0]).then("Flatten")
    return file.then("Gemm", file.numbers(10, 720), file.numbers(10), alpha=1.0, beta=1.0, transB=1)


def mxnet_scaled_input():
    file = File([1, 3, 16, 16], opset=8)
    file.then("Sub", file.put(np.float32([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)))
    file.then("Div", file.put(np.float32([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)))
    file.then("Conv", file.numbers(4, 3, 3, 3), file.numbers(4)).then("Sigmoid").then("Flatten")
    return file.then("Gemm", file.numbers(4, 784), file.numbers(4), transB=1)


def scikit_learn():
    file = File(["N", 64], opset=13)
    file.then("Scaler", domain="ai.onnx.ml", offset=[8.0] * 64, scale=[0.25] * 64)
    file.then("MatMul", file.numbers(64, 12)).then("Add", file.numbers(1, 12)).then("Relu")
    return (
        file.then("MatMul", file.numbers(12, 10)).then("Add", file.numbers(1, 10)).then("Softmax")
    )


def caffe2():
    file = File([1, 1, 28, 28], opset=7)
    file.then("Conv", file.numbers(4, 1, 5, 5), file.numbers(4)).then("Relu")
    file.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    file.then("Reshape", constant_node(file, [0, -1]))
    return file.then("Gemm", file.numbers(10, 576), file.numbers(10), transB=1).then("Softmax")


def constants_as_nodes():
    """Every weight is a node Constant, and quantities are scaled on the way."""
    file = File(["N", 1, 28, 28], opset=13).then("Flatten")
    rng = np.random.default_rng(2)
    weight = constant_node(file, rng.standard_normal((784, 10)).astype("f4"))
    half = constant_node(file, np.float32(0.05))
    return file.then("MatMul", file.node("Mul", weight, half))


def weight_normalized():
    """v·g/|v| computed in the graph, as weight_norm without folding."""
    file = File(["N", 1, 28, 28], opset=13).then("Flatten")
    v, g = file.numbers(10, 784), file.positive(10, 1)
    norm = file.put(np.full((10, 1), 5.6, np.float32))
    scaled = file.node("Mul", file.node("Div", v, norm), g)
    return file.then("Gemm", scaled, file.numbers(10), transB=1)


FORMS = [
    *(torch_1_4, torch_1_13, torch_dynamo_2_9, torch_dynamo_fixed, torch_matmul_add),
    *(torch_transposed_weight, torch_batch_norm_1d_old, torch_batch_norm_1d, torch_half),
    *(torch_half_inside, torch_fully_convolutional, torch_network_in_network),
    *(torch_adaptive_mean_18, torch_normalize_inside, torch_depthwise, torch_dropout_12),
    *(torch_bytes, torch_sigmoid_at_the_end),
    *(tf2onnx_lenet, tf2onnx_reshape_without_transpose, tf2onnx_flatten_by_shape),
    *(tf2onnx_batch_norm_folded, keras_raw_levels, keras_sigmoid, keras2onnx_backwards),
    *(keras2onnx_identities, keras_zero_padding, keras_global_max),
    *(cntk_zoo, cntk_scaled, matlab, matlab_mean_image, paddle, paddle_scale, mxnet),
    *(mxnet_scaled_input, scikit_learn, caffe2, constants_as_nodes, weight_normalized),
]
assert len(FORMS) == 40


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_form_of_another_program(tmp_path, form):
    file = form()
    model = file.written(tmp_path / "net.onnx")
    imported = import_onnx(tmp_path / "net.onnx")
    network, preprocessing = plain_network(imported.checkpoint), imported.checkpoint.preprocessing
    N, *rest = (n if isinstance(n, int) else 6 for n in file.shape)
    levels = np.random.default_rng(1).integers(256, size=(N, *rest)).astype(np.uint8)
    found_in_graph = "found in the graph" in imported.scale
    given = levels if found_in_graph else levels / np.float32(255)
    with np.errstate(all="ignore"):
        if form is keras2onnx_backwards:
            model.graph.node.reverse()
        expected = reference.ReferenceEvaluator(model).run(None, {"x": given.astype(file.dtype)})[0]
    images = levels
    if len(rest) == 3 and rest[2] in (1, 3) and rest[0] != rest[2]:
        images = levels.transpose(0, 3, 1, 2)
    elif len(rest) < 3:
        images = levels.reshape(N, 1, *((int(rest[0] ** 0.5),) * 2 if len(rest) == 1 else rest))
    scores = network.scores(network.forward(preprocessing.prepare(images))).T
    assert scores.shape == (N, imported.checkpoint.model.classes())
    assert (scores.argmax(axis=1) == expected.reshape(N, -1).argmax(axis=1)).all()
