"""What a target has no translation for is refused in one line with the layer's name and type.

A registered subclass computes something else than its base: no target may take it for that.
"""

from __future__ import annotations

import numpy as np
import pytest

from lenet.data.preprocessing import Preprocessing
from lenet.errors import ConfigError
from lenet.models.registry import LAYERS, register_layer
from lenet.nn.activations import FUNCTIONS, Activation, Function, Identity, ReLU
from lenet.nn.linear import Linear
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.nn.network import Network
from lenet.nn.pooling import MaxPooling
from lenet.optim.optimizers import SGD
from lenet.targets.c.float32 import c_source
from lenet.targets.c.int8 import int8_source, quantized
from lenet.targets.networks import ExportedNetwork
from lenet.targets.onnx.check import compare
from lenet.targets.onnx.export import onnx_model
from lenet.targets.operations import DESCRIPTIONS, NUMPY, formulas, written
from lenet.targets.page.html import to_html
from lenet.targets.torch.twin import _loss, _optimizer, torch_modules

POOLING = MaxPooling("pool", 2)
BASES = {
    "convolution": lambda kind: [kind("odd", 2, 3), Linear("class", 2)],
    "linear": lambda kind: [kind("odd", 2)],
    "max_pooling": lambda kind: [kind("odd", 2), Linear("class", 2)],
    "average_pooling": lambda kind: [kind("odd", 2), Linear("class", 2)],
    "global_average_pooling": lambda kind: [kind("odd"), Linear("class", 2)],
    "subsampling": lambda kind: [kind("odd", 2), Linear("class", 2)],
    "transposed_convolution": lambda kind: [kind("odd", 2, 3), Linear("class", 2)],
    "repeat_unpooling": lambda kind: [kind("odd", 2), Linear("class", 2)],
    "max_unpooling": lambda kind: [POOLING, kind("odd", POOLING), Linear("class", 2)],
    "batch_normalization": lambda kind: [kind("odd"), Linear("class", 2)],
    "dropout": lambda kind: [kind("odd"), Linear("class", 2)],
    "rbf": lambda kind: [Linear("code", 2), kind("odd", [[0.0, 1.0], [1.0, 0.0]])],
    "relu": lambda kind: [kind("odd", "relu"), Linear("class", 2)],
}
TARGETS = {
    "C": lambda made: c_source(made),
    "C of 8 bits": lambda made: int8_source(quantized(made, np.eye(6, dtype=np.uint8)[None] * 9)),
    "ONNX": lambda made: onnx_model(made),
    "the page": lambda made: to_html(made),
    "PyTorch": lambda made: torch_modules(made.network.layers),
}


def exported(layers):
    network = Network(layers, (1, 6, 6), np.float32)
    return ExportedNetwork(network, (6, 6), Preprocessing((1, 6, 6)), ("a", "b"), "of a test")


def test_every_packaged_type_is_tried():
    kinds = {LAYERS[name].layer for name in BASES}
    assert kinds == {kind.layer for kind in LAYERS.values()} == set(DESCRIPTIONS)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("base", BASES)
def test_a_subclass_is_not_its_base(base, target):
    if target == "ONNX":
        pytest.importorskip("onnx")
    tripled = type("Tripled", (LAYERS[base].layer,), {})
    tripled.forward = lambda self, x: 3 * super(tripled, self).forward(x)
    register_layer("tripled", tripled)
    try:
        made = exported(BASES[base](tripled))
        with pytest.raises(ConfigError, match="Tripled") as caught:
            TARGETS[target](made)
    finally:
        del LAYERS["tripled"]
    assert caught.value.key == "layer odd"
    assert "\n" not in str(caught.value)
    assert "without it" in caught.value.remedy or target == "PyTorch"
    assert "other format" not in caught.value.remedy


@pytest.mark.parametrize("target", TARGETS)
def test_a_function_without_a_formula(target):
    if target == "ONNX":
        pytest.importorskip("onnx")
    layer = Activation("odd", "relu")
    layer.function = Identity
    with pytest.raises(ConfigError, match=r"odd: .*(Identity|Activation)"):
        TARGETS[target](exported([Linear("first", 3), layer, Linear("class", 2)]))


def test_a_loss_and_an_optimizer_that_are_subclasses():
    class OwnSGD(SGD):
        pass

    class OwnLoss(SoftmaxCrossEntropy):
        pass

    with pytest.raises(ConfigError, match=r"optimizer\.name: OwnSGD has no counterpart"):
        _optimizer(OwnSGD(3, np.float64), 0.1)
    with pytest.raises(ConfigError, match="loss: OwnLoss has no counterpart"):
        _loss(OwnLoss(3))


# --- Formulas of activations ----------------------------------------------------------------------


class Softplus(Function):
    """f(x) = log(1 + exp(x)); f′ = 1 − exp(−y)."""

    expression, slope = "max(x, 0) + log(1 + exp(-abs(x)))", "1 - exp(-y)"
    torch = "Softplus"

    def apply(self, x, out):
        np.logaddexp(x, 0, out=out)

    def derive(self, y, dy, out):
        np.multiply(dy, -np.expm1(-y), out=out)


@pytest.fixture
def softplus(monkeypatch):
    monkeypatch.setitem(FUNCTIONS, "softplus", Softplus)


@pytest.mark.parametrize("function", [*FUNCTIONS.values(), Softplus])
def test_formulas_are_the_functions(function):
    x, dy = np.linspace(-6, 6, 97), np.linspace(1, 2, 97)
    made, y, dx = function(x.shape, np.float64), np.empty(97), np.empty(97)
    made.apply(x, y)
    made.derive(y, dy, dx)
    expression, slope = formulas(function)
    np.testing.assert_allclose(written(expression, NUMPY, x), y, atol=1e-12)
    np.testing.assert_allclose(dy * written(slope, NUMPY, y), dx, atol=1e-12)


def test_a_subclass_does_not_inherit_formulas():
    class Leaky(ReLU):
        pass

    assert formulas(Leaky) is None
    assert formulas(Identity) is None


@pytest.mark.parametrize("formula", ["x ** 2", "sin(x)", "x if x > 0 else 0", "__import__('os')"])
def test_an_unknown_formula(formula):
    with pytest.raises(ValueError, match="is unknown"):
        written(formula, NUMPY, 1.0)


@pytest.mark.usefixtures("softplus")
def test_an_activation_of_one_file_is_in_every_target():
    made = exported([Linear("first", 5), Activation("soft", "softplus"), Linear("class", 2)])
    made.network.parameters[:] = np.random.default_rng(0).normal(size=made.network.parameters.size)
    assert "logf((1.0f + expf((-fabsf(x[i])))))" in c_source(made)["lenet.c"]
    assert 'softplus": { f: (x) => ((x > 0 ? x : 0) + Math.log(' in to_html(made)
    names = [module.name for module in torch_modules(made.network.layers)]
    assert names == ["Flatten", "Linear", "Softplus", "Linear"]
    pytest.importorskip("onnx")
    images = np.random.default_rng(1).integers(256, size=(4, 1, 6, 6)).astype(np.uint8)
    assert compare(onnx_model(made), made, images) < 1e-4
