"""The gradient check passes what is right and catches what is wrong."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from lenet.cli.gradcheck import gradcheck
from lenet.config.schema import Config
from lenet.nn import activations, fused, linear, pooling
from lenet.nn import convolution as conv
from lenet.nn.im2col import add_windows
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.system.errors import ConfigError, GateFailed
from lenet.training.gradcheck import check_gradients, check_identities

SMALL = {"model.channels": [2, 3], "model.units": [4, 5], "model.classes": 3}


def small(**values):
    return Config().with_values({**SMALL, **{k.replace("__", "."): v for k, v in values.items()}})


def names(checks):
    return {(check.layer, getattr(check, "kind", None) or check.name) for check in checks}


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "lecun_tanh"])
@pytest.mark.parametrize("pool", ["max", "average"])
def test_every_network_passes(activation, pool):
    config = small(model__activation=activation, model__pooling=pool)
    gradients, identities = check_gradients(config), check_identities(config)
    assert all(check.passed for check in [*gradients, *identities])
    assert all(check.checked > 0 for check in gradients)
    layers = ["C1", "S2", "C3", "S4", "C5", "F6", "F7", "loss", "network"]
    assert set(layers) <= {check.layer for check in gradients}
    assert {("C1", "adjoint"), ("C5", "rotated kernel"), ("C3", "fused = plain")} <= names(
        identities
    )


def test_odd_sizes_and_unfused():
    config = small(model__input_size=37, model__fuse="off", train__label_smoothing=0.1)
    gradients = check_gradients(config)
    assert all(check.passed for check in gradients)
    assert not any(check.kind.startswith("Fused") for check in gradients)


def test_same_numbers_again():
    assert check_gradients(small()) == check_gradients(small())


def test_one_layer():
    config = small()
    assert names(check_gradients(config, "C3")) == {
        ("C3", "Convolution"),
        ("C3", "FusedMaxPooling"),
    }
    assert {identity.layer for identity in check_identities(config, "C3")} == {"C3"}
    with pytest.raises(ConfigError, match=r"no layer C4; choose one of C1, C1\.activation, S2"):
        check_gradients(config, "C4")


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
    (check, *_) = check_gradients(small(), "C5")
    assert (check.array, check.error, check.passed) == ("C5.bias", 1.0, False)


def test_a_transposed_kernel(monkeypatch):
    def transpose(layer, dx):
        layer.weight.gradient[...] = layer.weight.gradient.swapaxes(2, 3).copy()
        return dx

    spoil(
        monkeypatch, fused.FusedMaxPooling, "backward", lambda layer, dx: transpose(layer.conv, dx)
    )
    config = small()
    assert failed(check_gradients(config)) == {"C1", "C3", "network"}
    assert failed(check_identities(config)) == {"C1", "C3"}


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
    assert where in failed(check_gradients(small(model__fuse="off")))


def test_a_kernel_that_is_not_turned(monkeypatch):
    """col2im that puts patches back turned by 180° is no adjoint, and no full convolution."""

    def turned(patches, stride, out):
        add_windows(np.ascontiguousarray(patches[:, ::-1, ::-1]), stride, out)

    monkeypatch.setattr(conv, "add_windows", turned)
    monkeypatch.setattr(sys.modules["lenet.nn.im2col"], "add_windows", turned)
    wrong = {
        (check.layer, check.name)
        for check in check_identities(small(model__fuse="off"))
        if not check.passed
    }
    assert {("C3", "adjoint"), ("C3", "rotated kernel")} <= wrong


def test_a_function_of_kinks_alone_is_not_passed(monkeypatch):
    """Leaving out kinks is no way around the check."""

    def saw(self, x):
        self.y[...] = np.floor(x * 1e5) * 1e-5
        return self.y

    monkeypatch.setattr(activations.Activation, "forward", saw)
    (check, *_) = check_gradients(small(), "F6.activation")
    assert not check.passed


# --- The command ----------------------------------------------------------------------------------


def run(*arguments):
    settings = [f"--set={key}={value}" for key, value in SMALL.items()]
    return CliRunner().invoke(gradcheck, [*settings, *arguments])


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
