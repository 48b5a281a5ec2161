"""The gradient check passes what is right and catches what is wrong."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from lenet.cli import cli
from lenet.errors import ConfigError, GateFailed
from lenet.models.lenet5 import lenet5
from lenet.nn import activations, fused, linear, pooling
from lenet.nn import convolution as conv
from lenet.nn.gradcheck import check_gradients, check_identities, check_layer
from lenet.nn.im2col import add_windows
from lenet.nn.losses import SoftmaxCrossEntropy

SMALL = {"model.channels": [2, 3], "model.units": [4, 5], "model.classes": 3}


def small(**options):
    network = lenet5(channels=(2, 3), units=(4, 5), classes=3, **options)
    network.initialize(np.random.default_rng(0))
    return network


def names(checks):
    return {(check.layer, getattr(check, "kind", None) or check.name) for check in checks}


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "lecun_tanh"])
@pytest.mark.parametrize("pool", ["max", "average"])
def test_every_network_passes(activation, pool):
    network = small(activation=activation, pooling=pool)
    gradients = check_gradients(network, SoftmaxCrossEntropy(3))
    identities = check_identities(network)
    assert all(check.passed for check in [*gradients, *identities])
    assert all(check.checked > 0 for check in gradients)
    layers = ["C1", "S2", "C3", "S4", "C5", "F6", "F7", "loss", "network"]
    assert set(layers) <= {check.layer for check in gradients}
    assert {("C1", "adjoint"), ("C5", "rotated kernel"), ("C3", "fused = plain")} <= names(
        identities
    )


def test_odd_sizes_and_unfused():
    network = small(input_size=37, fused=False)
    gradients = check_gradients(network, SoftmaxCrossEntropy(3, label_smoothing=0.1))
    assert all(check.passed for check in gradients)
    assert not any(check.kind.startswith("Fused") for check in gradients)


def test_same_numbers_again():
    assert check_gradients(small()) == check_gradients(small())


def test_one_layer():
    network = small()
    assert names(check_gradients(network, layer="C3")) == {
        ("C3", "Convolution"),
        ("C3", "FusedMaxPooling"),
    }
    assert {identity.layer for identity in check_identities(network, layer="C3")} == {"C3"}
    with pytest.raises(ConfigError, match=r"no layer C4; choose one of C1, C1\.activation, S2"):
        check_gradients(network, layer="C4")


def test_the_network_is_left_as_it_is():
    network = small()
    before = network.parameters.copy()
    x = np.random.default_rng(0).random((1, 32, 32, 2), np.float32)
    scores = network.forward(x).copy()
    check_gradients(network)
    check_identities(network)
    np.testing.assert_array_equal(network.parameters, before)
    np.testing.assert_array_equal(network.forward(x), scores)


# --- What it must catch ---------------------------------------------------------------------------


def failed(checks):
    return {check.layer for check in checks if not check.passed}


def spoil(monkeypatch, owner, method, change):
    """Let a method run and then change what it has done."""
    right = getattr(owner, method)

    def wrong(self, *arguments):
        return change(self, right(self, *arguments))

    monkeypatch.setattr(owner, method, wrong)


def test_a_dropped_bias_gradient(monkeypatch):
    def drop(layer, dx):
        layer.bias.gradient[...] = 0
        return dx

    spoil(monkeypatch, conv.Convolution, "backward", drop)
    (check, *_) = check_gradients(small(), layer="C5")
    assert (check.array, check.error, check.passed) == ("C5.bias", 1.0, False)


def test_a_transposed_kernel(monkeypatch):
    def transpose(layer, dx):
        layer.weight.gradient[...] = layer.weight.gradient.swapaxes(2, 3).copy()
        return dx

    spoil(
        monkeypatch, fused.FusedMaxPooling, "backward", lambda layer, dx: transpose(layer.conv, dx)
    )
    network = small()
    assert failed(check_gradients(network)) == {"C1", "C3", "network"}
    assert failed(check_identities(network)) == {"C1", "C3"}


@pytest.mark.parametrize(
    ("owner", "method", "change", "where"),
    [
        (linear.Linear, "backward", lambda _, dx: dx * (1 + 1e-5), "F6"),
        (pooling.MaxPooling, "backward", lambda _, dx: dx + 1e-4, "S4"),
        (activations.Activation, "backward", lambda _, dx: -dx, "C1.activation"),
        (SoftmaxCrossEntropy, "backward", lambda _, dz: dz * np.nan, "loss"),
    ],
)
def test_a_wrong_gradient(monkeypatch, owner, method, change, where):
    spoil(monkeypatch, owner, method, change)
    assert where in failed(check_gradients(small(fused=False), SoftmaxCrossEntropy(3)))


def test_a_kernel_that_is_not_turned(monkeypatch):
    """col2im that puts patches back turned by 180° is neither an adjoint nor a full convolution."""

    def turned(patches, stride, out, dilation):
        add_windows(np.ascontiguousarray(patches[:, ::-1, ::-1]), stride, out, dilation)

    monkeypatch.setattr(conv, "add_windows", turned)
    monkeypatch.setattr(sys.modules["lenet.nn.im2col"], "add_windows", turned)
    wrong = {
        (check.layer, check.name)
        for check in check_identities(small(fused=False))
        if not check.passed
    }
    assert {("C3", "adjoint"), ("C3", "rotated kernel")} <= wrong


def test_a_function_of_kinks_alone_is_not_passed(monkeypatch):
    """Leaving out kinks does not pass the check."""

    def saw(self, x):
        self.y[...] = np.floor(x * 1e5) * 1e-5
        return self.y

    monkeypatch.setattr(activations.Activation, "forward", saw)
    (check, *_) = check_gradients(small(), layer="F6.activation")
    assert not check.passed


# --- A user's layer -----------------------------------------------------------------------


class Swish(activations.Activation):
    """y = x·σ(x), with a backward pass that may forget a term."""

    def __init__(self, name, forgetful):
        super().__init__(name, "sigmoid")
        self.forgetful = forgetful

    def forward(self, x):
        self.x = x
        return x * super().forward(x)

    def backward(self, dy):
        slope = self.x * self.y * (1 - self.y)
        return dy * (slope if self.forgetful else slope + self.y)


def test_check_layer():
    layer = Swish("own", forgetful=False)
    check = check_layer(layer, (2, 3, 4))
    assert check.passed
    assert str(check).startswith("own (Swish): passed, 25 entries checked, 0 left out; the largest")
    assert not hasattr(layer, "shape")  # a copy was built
    check = check_layer(Swish("own", forgetful=True), (5,))
    assert not check.passed
    assert "own (Swish): FAILED, " in str(check)
    assert check.array == "input"


def test_check_layer_with_parameters():
    spoilt = linear.Linear("F", 3)
    check = check_layer(spoilt, (4,))
    assert (check.layer, check.kind, check.checked) == ("F", "Linear", 12 + 3 + 12)
    assert check.passed
    with pytest.raises(ConfigError, match=r"^layer C: takes images"):
        check_layer(conv.Convolution("C", 2, 3), (4,))


# --- The command ----------------------------------------------------------------------------------


def run(*arguments):
    settings = [f"--set={key}={value}" for key, value in SMALL.items()]
    return CliRunner().invoke(cli, ["gradcheck", *settings, *arguments])


def test_tables():
    result = run()
    assert result.exit_code == 0
    assert "rotated kernel  C1" in result.stdout
    assert "FusedMaxPooling" in result.stdout
    assert "FAILED" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_json():
    facts = json.loads(run("--json", "--layer", "C1").stdout)
    assert facts["passed"] is True
    assert [line["kind"] for line in facts["gradients"]] == ["Convolution", "FusedMaxPooling"]
    assert all(line["error"] < facts["tolerance"] == 1e-6 for line in facts["gradients"])


def test_failure_ends_with_5(monkeypatch):
    spoil(monkeypatch, linear.Linear, "backward", lambda _, dx: dx * 2)
    result = run()
    assert isinstance(result.exception, GateFailed)
    assert result.exception.exit_code == 5
    assert "layer F6" in str(result.exception)
    assert result.stdout.count("FAILED") == 3  # F6, F7, network
