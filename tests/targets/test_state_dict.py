"""Weights from .safetensors files: bytes written by hand here, and by the safetensors library."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal
from untrained import untrained

from lenet.checkpoint.restore import plain_network, read_checkpoint
from lenet.cli import cli
from lenet.errors import ConfigError, DataError, SystemFailure
from lenet.targets.networks import exported_network
from lenet.targets.torch.state_dict import (
    import_state_dict,
    read_safetensors,
    save_state_dict,
)

safetensors = pytest.importorskip("safetensors")
DOCS = Path(__file__).resolve().parents[2] / "docs"

RNG = np.random.default_rng(4)
NAMES = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64", "uint16": "BF16"}


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def packed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def written(path, tensors, **others):
    """Write the format by its definition; uint16 stands for bfloat16."""
    header, data = dict(others), b""
    for name, array in tensors.items():
        place = [len(data), len(data) + array.nbytes]
        dtype = NAMES[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": place}
        data += array.astype(array.dtype.newbyteorder("<")).tobytes()
    path.write_bytes(packed(header, data))
    return path


def yaml(tmp_path, *layers, shape=(1, 8, 8), more=""):
    path = tmp_path / "net.yaml"
    lines = "\n".join(f"    - {{{layer}}}" for layer in layers)
    path.write_text(f"model:\n  input: {list(shape)}\n{more}  layers:\n{lines}\n")
    return path


CONVOLUTIONS = (
    "type: convolution, filters: 4, kernel: 3, activation: relu",
    "type: batch_normalization",
    "type: convolution, filters: 5, kernel: 6, activation: tanh",
    "type: linear, units: 3",
)


def state_dict():
    """The weights of these layers as PyTorch names them; the second convolution is linear there."""
    return {
        "net.fc1.weight": numbers(5, 4 * 6 * 6),
        "net.fc1.bias": numbers(5),
        "net.bn1.num_batches_tracked": np.array(7),
        "net.bn1.weight": numbers(4),
        "net.bn1.bias": numbers(4),
        "net.bn1.running_mean": numbers(4),
        "net.bn1.running_var": numbers(4) ** 2,
        "net.conv1.weight": numbers(4, 1, 3, 3),
        "net.classifier.weight": numbers(3, 5),
        "net.classifier.bias": numbers(3),
    }


def expected_scores(tensors, images):
    """The network in loops over the places of the kernel, in float64."""
    w = {name.removeprefix("net."): a.astype(np.float64) for name, a in tensors.items()}
    x = images / 255
    z = np.zeros((len(x), 4, 6, 6))
    for i in range(6):
        for j in range(6):
            patch = x[:, i : i + 3, j : j + 3]
            z[:, :, i, j] = np.einsum("nhw,fhw->nf", patch, w["conv1.weight"][:, 0])
    z, column = np.maximum(z, 0), (4, 1, 1)
    z = (z - w["bn1.running_mean"].reshape(column)) / np.sqrt(
        w["bn1.running_var"].reshape(column) + 1e-5
    )
    z = z * w["bn1.weight"].reshape(column) + w["bn1.bias"].reshape(column)
    h = np.tanh(z.reshape(len(x), -1) @ w["fc1.weight"].T + w["fc1.bias"])
    return h @ w["classifier.weight"].T + w["classifier.bias"]


def test_scores_of_a_state_dict(tmp_path):
    """A bias that is missing is 0; running averages; a linear module for a convolution."""
    tensors = state_dict()
    path = written(tmp_path / "w.safetensors", tensors, __metadata__={"format": "pt"})
    checkpoint, modules = import_state_dict(path, yaml(tmp_path, *CONVOLUTIONS))
    images = RNG.integers(256, size=(3, 8, 8)).astype(np.uint8)
    z = plain_network(checkpoint).forward(checkpoint.preprocessing.prepare(images)).T
    assert_allclose(z, expected_scores(tensors, images), atol=1e-4)
    assert list(modules.values()) == ["net.conv1", "net.bn1", "net.fc1", "net.classifier"]
    assert checkpoint.class_names == ("0", "1", "2")


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "bfloat16"])
def test_types_of_numbers(tmp_path, kind):
    weight, bias = numbers(3, 64), numbers(3)
    if kind == "bfloat16":
        bits = [(a.view(np.uint32) >> 16).astype(np.uint16) for a in (weight, bias)]
        weight, bias = ((b.astype(np.uint32) << 16).view(np.float32) for b in bits)
        tensors = dict(zip(("fc.weight", "fc.bias"), bits, strict=True))
    else:
        weight, bias = weight.astype(kind), bias.astype(kind)
        tensors = {"fc.weight": weight, "fc.bias": bias}
    path = written(tmp_path / "w.safetensors", tensors)
    checkpoint, _ = import_state_dict(path, yaml(tmp_path, "type: linear, units: 3"))
    assert_array_equal(checkpoint.parameters["F1.weight"], weight.astype(np.float32))
    assert_array_equal(checkpoint.parameters["F1.bias"], bias.astype(np.float32))


def test_layers_of_the_same_shapes_in_the_order_of_numbers(tmp_path):
    tensors = {f"layers.{k}.weight": numbers(64, 64) for k in (10, 2, 33)}
    path = written(tmp_path / "w.safetensors", tensors)
    layers = ["type: linear, units: 64"] * 3
    checkpoint, modules = import_state_dict(path, yaml(tmp_path, *layers))
    assert modules == {"F1": "layers.2", "F2": "layers.10", "F3": "layers.33"}
    assert_array_equal(checkpoint.parameters["F1.weight"], tensors["layers.2.weight"])


def test_layers_by_name(tmp_path):
    tensors = {"b.weight": numbers(64, 64), "a.0.weight": numbers(64, 64)}
    path = written(tmp_path / "w.safetensors", tensors)
    unnamed = yaml(tmp_path, *["type: linear, units: 64"] * 2)
    with pytest.raises(DataError, match=r"layer F1: may be any of the modules a\.0, b; give"):
        import_state_dict(path, unnamed)
    named = [f"type: linear, units: 64, name: {name}" for name in ("b", "a.0")]
    checkpoint, _ = import_state_dict(path, yaml(tmp_path, *named))
    assert_array_equal(checkpoint.parameters["b.weight"], tensors["b.weight"])


def test_a_true_convolution_has_its_kernels_turned(tmp_path):
    kernels, last = numbers(2, 1, 3, 3), numbers(3, 72)
    path = written(tmp_path / "w.safetensors", {"c.weight": kernels, "f.weight": last})
    layers = ("type: convolution, filters: 2, kernel: 3, flip: true", "type: linear, units: 3")
    checkpoint, _ = import_state_dict(path, yaml(tmp_path, *layers))
    assert_array_equal(checkpoint.parameters["C1.weight"], kernels[:, :, ::-1, ::-1])


def test_scale_and_shift(tmp_path):
    path = written(tmp_path / "w.safetensors", {"f.weight": numbers(3, 64)})
    linear = "type: linear, units: 3"
    made = import_state_dict(path, yaml(tmp_path, linear)).checkpoint.preprocessing
    assert (made.scale, made.shift) == (1 / 255, 0)
    stated = yaml(tmp_path, linear, more="  scale: 0.5\n  shift: -3\n")
    made = import_state_dict(path, stated).checkpoint.preprocessing
    assert (made.scale, made.shift) == (0.5, -3)
    made = import_state_dict(path, stated, scale=2, shift=1).checkpoint.preprocessing
    assert (made.scale, made.shift) == (2, 1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"net.fc1.weight": None}, "layer C2: has weight 5×4×6×6, bias 5, and of the file"),
        ({"net.fc1.weight": numbers(5, 7)}, "layer C2: has weight 5×4×6×6, bias 5, and of"),
        ({"net.bn1.running_var": None}, "layer C1.batch_normalization: has weight 4, bias 4, runn"),
        ({"net.fc2.weight": numbers(2, 2)}, "module net.fc2: belongs to no layer of the network"),
        ({"net.conv1.weight_g": numbers(4)}, "tensor net.conv1.weight_g: is none of weight, bias"),
        ({"net.fc1.weight": np.ones((5, 144), np.int64)}, "layer C2: has a weight of the type I64"),
        ({"net.fc1.bias": numbers(5) * np.inf}, "C2.bias: is not finite in float32"),
        ({"net.fc1.bias": np.full(5, 1e39)}, "C2.bias: is not finite in float32"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path, change, problem):
    tensors = {name: a for name, a in (state_dict() | change).items() if a is not None}
    path = written(tmp_path / "w.safetensors", tensors)
    with pytest.raises(DataError) as caught:
        import_state_dict(path, yaml(tmp_path, *CONVOLUTIONS))
    assert str(caught.value).startswith(f"{path}: {problem}")
    assert "\n" not in str(caught.value)


# --- The format -----------------------------------------------------------------------------------


def entry(dtype="F32", shape=(1,), place=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(place)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\x07\x12\x04test",
        struct.pack("<Q", 2**62),
        struct.pack("<Q", 2**31) + bytes(100),
        packed(b"[]"),
        packed(b"{" * 9000),
        packed(b'{"a":' * 9000 + b"}" * 9000),
        packed(b'{"\xff":1}'),
        packed({"a": 1}),
        packed({"a": entry(dtype="F8")}, bytes(4)),
        packed({"a": entry(dtype=[])}, bytes(4)),
        packed({"a": entry(shape=(-1,))}, bytes(4)),
        packed({"a": entry(shape=(True,))}, bytes(4)),
        packed({"a": entry(shape=(2**40,))}, bytes(4)),
        packed({"a": entry(shape=(2**40,) * 3)}, bytes(4)),
        packed({"a": entry(place=(0, 4, 8))}, bytes(8)),
        packed({"a": entry(place=(4, 0))}, bytes(4)),
        packed({"a": entry(place=(4, 8))}, bytes(8)),
        packed({"a": entry(), "b": entry()}, bytes(4)),
        packed({"a": entry()}, bytes(3)),
        packed({"a": entry()}, bytes(5)),
    ],
)
def test_wrong_files(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is not a \.safetensors file") as caught:
        read_safetensors(path)
    assert "\n" not in str(caught.value)


def test_a_pointer_of_git_lfs(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(DataError, match="pointer of Git LFS, not the file itself; git lfs pull"):
        import_state_dict(path, yaml(tmp_path, "type: linear, units: 3"))


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    path = written(tmp_path / "w.safetensors", state_dict())
    with pytest.raises(SystemFailure, match=r"pip install 'lenet\[safetensors\]'"):
        import_state_dict(path, yaml(tmp_path, *CONVOLUTIONS))


# --- Export ---------------------------------------------------------------------------------------

SAVED = {
    "lenet5": {},
    "mini-vgg": {"model__name": "mini-vgg"},
    "lenet5-1998": {"model__name": "lenet5-1998"},
    "flipped": {
        "model__layers": [
            {"type": "convolution", "filters": 4, "kernel": 3, "flip": True},
            {"type": "batch_normalization"},
            {"type": "sigmoid"},
            {"type": "linear", "units": 10},
        ],
    },
}


@pytest.mark.parametrize("settings", SAVED.values(), ids=SAVED)
def test_what_was_saved_comes_back(tmp_path, settings):
    checkpoint, path = untrained(**settings), tmp_path / "net.safetensors"
    reason = save_state_dict(path, checkpoint)
    back, _ = import_state_dict(path, path.with_suffix(".yaml"))
    assert back.preprocessing == checkpoint.preprocessing
    for name, array in {**checkpoint.parameters, **checkpoint.state}.items():
        assert_allclose((back.parameters | back.state)[name], array, rtol=1e-6)
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    assert ("modules" in metadata) == (not reason)
    assert reason.startswith(
        "layer C1.activation: LeCunTanh has no" if "1998" in str(settings) else ""
    )
    assert json.loads(metadata["class_names"]) == list(checkpoint.class_names)


@pytest.mark.parametrize("name", ["lenet5", "mini-vgg", "flipped"])
def test_pytorch_loads_what_was_saved(tmp_path, name):
    """With the lines of docs/export.md."""
    torch = pytest.importorskip("torch", reason="PyTorch is not here to load the weights")
    checkpoint, path = untrained(**SAVED[name]), tmp_path / "net.safetensors"
    save_state_dict(path, checkpoint)
    lines = (DOCS / "export.md").read_text("utf-8").partition("from collections import")[2]
    code = f"from collections import{lines.partition('```')[0]}"
    names = {}
    exec(code.replace("net.safetensors", str(path)), names)
    exported = exported_network(checkpoint)
    images = RNG.integers(256, size=(5, *exported.image_shape)).astype(np.uint8)
    x = checkpoint.preprocessing.prepare(images).transpose(3, 0, 1, 2)
    with torch.no_grad():
        scores = names["network"].eval()(torch.tensor(np.ascontiguousarray(x)))
    assert_allclose(scores.numpy(), exported.scores(images), atol=1e-4)


# --- The command ----------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(cli, ["import", *map(str, arguments)])


def test_the_command(tmp_path):
    path, out = written(tmp_path / "w.safetensors", state_dict()), tmp_path / "new.npz"
    model = yaml(tmp_path, *CONVOLUTIONS)
    result = run(path, "--model", model, "--out", out, "--classes", "a,b,c")
    assert result.exit_code == 0, result.exception
    assert "C1 from net.conv1, C1.batch_normalization from net.bn1, C2 from net" in result.stdout
    assert "its input is 0.00392157 × level + 0" in result.stdout
    assert read_checkpoint(out).class_names == ("a", "b", "c")


def test_what_the_command_refuses(tmp_path):
    path, out = written(tmp_path / "w.safetensors", state_dict()), tmp_path / "new.npz"
    result = run(path, "--out", out)
    assert result.exit_code == 2
    assert "a .safetensors file contains no network: add --model" in result.stderr
    for model, problem in ((tmp_path / "none.yaml", "does not exist"), ("lenet6", "lenet5")):
        result = run(path, "--model", model, "--out", out)
        assert isinstance(result.exception, ConfigError)
        assert problem in str(result.exception)
    result = run(path, "--model", yaml(tmp_path, *CONVOLUTIONS), "--out", out, "--classes", "a,b")
    assert isinstance(result.exception, ConfigError)
    result = run(tmp_path / "none.safetensors", "--model", "lenet5", "--out", out)
    assert isinstance(result.exception, DataError)
    assert not out.exists()
