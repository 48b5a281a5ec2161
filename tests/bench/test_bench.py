"""``lenet bench``: what it measures and compares, and that it cleans up; never how fast it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lenet.bench import jax_training, measured_processes, speed
from lenet.bench.markdown import to_markdown
from lenet.bench.measured_processes import Program
from lenet.bench.speed import COMPETITORS, Case, Competitor
from lenet.cli import cli, main
from lenet.config.schema import Config
from lenet.data.formats.idx import read_idx
from lenet.errors import ConfigError, SystemFailure
from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import RepeatUnpooling
from lenet.targets.torch import twin as torch_twin
from lenet.train.build import build_trainer

PROJECT = Path(__file__).resolve().parents[2]
CORES = speed.usable_cores()

# 2 × (C1 28²·6·25, C3 10²·16·150, C5 120·400, F6 84·120, F7 10·84) multiply-adds, forward; as many
# for the weight gradients; and as many without C1 for the gradients of the inputs.
FLOP = 2 * (3 * (117_600 + 240_000 + 48_000 + 10_080 + 840) - 117_600)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes that are measured find the package, wherever the tests run."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, captured.err.splitlines()[-1]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one run prints, on twenty images."""
    arguments = ["--batch", "8", "--workers", "1,2", "--rounds", "2", "--images", "20", "--json"]
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(PROJECT))
        patch.setattr("tempfile.tempdir", str(folder))
        run = CliRunner().invoke(cli, ["bench", *arguments])
    assert run.exit_code == 0, run.output
    assert "training, batch 8" in run.stderr
    assert list(folder.iterdir()) == []
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_the_object_contains_what_was_measured_and_on_what(result: dict[str, Any]) -> None:
    assert (result["schema_version"], result["images"], result["rounds"]) == (2, 20, 2)
    machine = result["machine"]
    assert machine["cores"] == CORES
    assert machine["numpy"] == np.__version__


def test_parts_of_a_step_name_every_layer_and_count_every_operation(
    result: dict[str, Any],
) -> None:
    parts = {(part["part"], part["direction"]): part for part in result["parts"]}
    assert result["parts_batch"] == 8
    assert {"input", "C1+S2", "C3+S4", "C5", "F6", "F7", "loss", "update"} <= {n for n, _ in parts}
    assert sum(part["flop_per_image"] for part in parts.values()) == FLOP
    assert parts["update", "backward"]["gflops"] is None
    c3 = parts["C3+S4", "backward"]
    assert c3["gflops"] * 1e3 * c3["us_per_image"] == pytest.approx(4 * 240_000)
    assert c3["share_of_sgemm"] * result["sgemm_gflops"] == pytest.approx(c3["gflops"])


def test_runs_are_those_with_one_thread_and_all_then_those_with_workers(
    result: dict[str, Any],
) -> None:
    runs = result["runs"]
    found = [(run["framework"], run["workers"], run["threads"]) for run in runs]
    assert found == [("lenet", 1, n) for n in sorted({1, CORES})] + [("lenet", 2, 1)]
    for run in runs:
        assert len(run["rounds"]) == 2
        assert run["images_per_second"] == pytest.approx(np.median(run["rounds"]))
        assert run["us_per_image"] * run["images_per_second"] == pytest.approx(1e6)
        rate = run["images_per_second"] * FLOP / 1e9
        limit = result["sgemm_gflops"] * max(run["workers"], run["threads"])
        assert run["share_of_sgemm"] == pytest.approx(rate / limit)
        if sys.platform != "win32":
            assert run["peak_bytes"] > 10e6


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"no {name}"))
        for name in COMPETITORS
    ],
)
def test_another_framework_takes_turns_on_the_same_images(name: str, tmp_path: Path) -> None:
    files = speed.write_images(tmp_path, 20, 10, (28, 28))
    config = Config().with_values({"optimizer.name": "sgd"})
    config = speed.benchmark_config(config, files, rounds=2)
    competitor = COMPETITORS[name]
    rivals = [Case(f"{name} channels_last", 8, 1, 1)]
    rivals += [Case(f"{name} channels_last", 8, 2, 1)] if competitor.processes else []
    ours, *theirs = speed.race(config, [Case("lenet", 8, 1, 1), *rivals], tmp_path)
    assert [run["ratio"] for run in theirs] == [None] * len(rivals)
    pairs = sorted(a / b for a, b in zip(ours["rounds"], theirs[0]["rounds"], strict=True))
    assert (ours["ratio"]["min"], ours["ratio"]["max"]) == pytest.approx(tuple(pairs))
    assert ours["ratio"]["of"]["framework"] == f"{name} channels_last"


FAKE = """
from lenet.bench import torch_training

def train_torch(answer, config, layout, workers):
    for _ in range(config["train"]["epochs"]):
        answer({"images_per_second": {"slow": 1.0, "fast": 4.0}[layout] * workers})
    answer({"peak_bytes": 10**6})

torch_training.train_torch = train_torch
"""


def test_the_fastest_run_on_as_many_cores_is_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A competitor whose speeds are known, so that what is printed of it is known too."""
    (tmp_path / "sitecustomize.py").write_text(FAKE)
    (tmp_path / "torch.py").write_text("__version__ = '7.1'")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(PROJECT)]))
    fake = Competitor("train_torch", "bench", ("slow", "fast"), processes=True)
    monkeypatch.setitem(COMPETITORS, "torch", fake)
    monkeypatch.setattr(speed, "usable_cores", lambda: 2)
    arguments = ["--against", "torch", "--batch", "8", "--workers", "1,2", "--rounds", "1"]
    run = CliRunner().invoke(cli, ["bench", *arguments, "--images", "16", "--json"])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    assert found["machine"]["torch"] == "7.1"
    splits = [(1, 1), (1, 2), (2, 1)]
    assert [(r["framework"], r["workers"], r["threads"]) for r in found["runs"]] == [
        *(("lenet", *split) for split in splits),
        *(("torch slow", *split) for split in splits),
        *(("torch fast", *split) for split in splits),
    ]
    for ours in found["runs"][:3]:
        best = (1, 1) if ours["workers"] * ours["threads"] == 1 else (2, 1)
        of = ours["ratio"]["of"]
        assert (of["framework"], of["workers"], of["threads"]) == ("torch fast", *best)
        assert ours["ratio"]["median"] == pytest.approx(ours["images_per_second"] / 4 / best[0])
    lead = to_markdown(found).split("\n\n")[2].splitlines()
    assert [row.split("|")[1].strip() for row in lead[2:]] == ["1", "2"]
    assert "| torch fast, 1 thread" in lead[2]
    assert "| torch fast, 2 processes" in lead[3]


def test_compiled_is_measured_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = COMPETITORS["torch"]
    monkeypatch.setattr(speed, "has_compiler", lambda: False)
    assert torch.runs(1) == [("eager", 1, 1), ("channels_last", 1, 1)]
    monkeypatch.setattr(speed, "has_compiler", lambda: True)
    assert torch.runs(3)[-3:] == [("compiled", 1, 1), ("compiled", 1, 3), ("compiled", 3, 1)]


def test_without_a_compiler_on_the_path_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert not speed.has_compiler()


def test_the_text_is_tables_of_even_width(result: dict[str, Any]) -> None:
    first, *rest = result["runs"]
    rival = {**first, "framework": "torch eager", "ratio": None}
    ratio = {"median": 4.125, "min": 3.5, "max": 12.0, "of": {"framework": "torch eager"}}
    runs = [{**first, "ratio": ratio}, *rest, rival]
    text = to_markdown({**result, "against": "torch", "runs": runs})
    assert "4.12 (3.50-12.00) |" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert [len(rows) for rows in tables] == [3, 13, 2 + len(runs)]
    for rows in tables:
        assert len({len(row) for row in rows}) == 1


def test_a_mapped_file_is_trained_on_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    arguments = ["--scale", "2000", "--rounds", "1", "--images", "64", "--json"]
    run = CliRunner().invoke(cli, ["bench", *arguments, "--set", "train.workers=2"])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    scale = found["scale"]
    assert (scale["images"], scale["file_bytes"], scale["workers"]) == (2000, 2000 * 784, 2)
    assert len(scale["tenths"]) == 9
    assert len(scale["in_memory_rounds"]) == 2
    ratio = scale["images_per_second"] / scale["in_memory_images_per_second"]
    assert scale["ratio"] == pytest.approx(ratio)
    if sys.platform == "linux":
        assert scale["resident_bytes"] > 10e6
    assert "2,000" in to_markdown(found)
    assert list(tmp_path.iterdir()) == []


def test_images_of_a_network_may_have_several_channels(tmp_path: Path) -> None:
    files = speed.write_images(tmp_path, 30, 4, (3, 20, 16))
    images = read_idx(str(files["data.train_images"]))
    assert images.shape == (30, 3, 20, 16)
    assert not images[:, :, :4].any()
    assert (images[:, :, 4:16, 4:12].std(axis=(2, 3)) > 40).all()


@pytest.mark.parametrize("mapped", [False, True])
def test_images_are_noise_with_a_margin(tmp_path: Path, mapped: bool) -> None:
    files = speed.write_images(tmp_path, 9000, 7, (28, 28), mapped=mapped)
    images = read_idx(str(files["data.train_images"]))
    labels = read_idx(str(files["data.train_labels"]))
    assert images.shape == (9000, 28, 28)
    assert not images[:, :4].any()
    assert images[8999, 4:24, 4:24].std() > 60
    assert set(labels.tolist()) == set(range(7))


def test_a_file_that_does_not_fit_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 2**20))
    with pytest.raises(SystemFailure, match="4,491 MiB, 1 MiB are free"):
        speed.write_images(tmp_path, 6_000_000, 10, (28, 28), mapped=True)
    assert list(tmp_path.iterdir()) == []


def test_without_pytorch_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(name='torch')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(PROJECT)]))
    code, line = failure(["--against", "torch"], capsys)
    assert code == 4
    assert line == "lenet: error: torch: is not installed; pip install 'lenet[bench]'"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch", "0"], "'0' is not a positive integer"),
        (["--batch", "auto"], "'auto' is not a positive integer"),
        (["--workers", "1,x"], "'x' is not a positive integer"),
        (["--workers", "64", "--batch", "32"], "64 workers cannot share a batch of 32"),
        (["--scale", "9", "--against", "torch"], "exclude each other"),
        (["--against", "torch", "--set", "augment.shift=2"], "augment: distorts the images"),
        (["--against", "torch", "--set", "train.average=0.9"], "train.average: averages"),
        (
            ["--against", "torch", "--set", "model.activation=lecun_tanh"],
            "layer C1.activation: LeCunTanh has no counterpart in PyTorch",
        ),
        (["--against", "jax", "--set", "optimizer.name=adam"], "Adam is not translated to JAX"),
        (["--batch", "8", "--images", "4"], "there are 4 images to train on"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = failure(arguments, capsys)
    assert code == 2
    assert line.startswith("lenet: error: ")
    assert words in line


def test_a_program_ends_with_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_processes, "END_SECONDS", 0.1)
    with pytest.raises(ZeroDivisionError), Program("time_parts", threads=1, config={}) as program:
        raise ZeroDivisionError
    assert program.process.returncode is not None


def test_a_program_that_dies_is_a_line_and_not_a_traceback() -> None:
    with Program("version", threads=1, module="torch", extra="bench") as program:
        program.process.kill()
        with pytest.raises(SystemFailure, match="ended with code"):
            program.answer()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_resident_memory_counts_the_processes_below() -> None:
    fill = "import sys; a = bytearray(b'x') * 50_000_000; print(flush=True); sys.stdin.read()"
    before = measured_processes.resident_memory(os.getpid())
    assert before is not None
    with subprocess.Popen(
        [sys.executable, "-c", fill], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        after = measured_processes.resident_memory(os.getpid())
        child.communicate()
    assert after is not None
    assert after - before > 40_000_000
    assert measured_processes.resident_memory(child.pid) is None


def test_a_ratio_is_turn_by_turn_with_the_fastest_of_equal_cores() -> None:
    ours, slow, fast = (Case(name, 8, 1, 2) for name in ("lenet", "torch eager", "torch compiled"))
    faster_with_more = Case("torch eager", 8, 4, 1)
    rates = {
        ours: (10.0, 20.0, 9.0), slow: (5.0, 4.0, 3.0), fast: (6.0, 2.0, 5.0),
        faster_with_more: (9.0, 9.0, 9.0),
    }  # fmt: skip
    ratio = speed.ratio_to_best(ours, rates)
    assert ratio == {"median": 1.8, "min": 10 / 6, "max": 10.0, "of": vars(fast)}
    assert speed.ratio_to_best(slow, rates) is None


def test_the_twin_of_lenet5_is_the_network_as_users_of_pytorch_write_it() -> None:
    config = Config().with_values({"data.validation": 0})
    trainer = build_trainer(config, np.zeros((64, 28, 28), np.uint8), np.zeros(64, np.uint8))
    modules = torch_twin.twin_of(trainer).modules
    assert [module.name for module in modules] == [
        *("Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d", "Flatten"),
        *("Linear", "ReLU", "Linear", "ReLU", "Linear"),
    ]
    assert modules[3].options == {
        "in_channels": 6, "out_channels": 16, "groups": 1, "dilation": (1, 1),
        "kernel_size": (5, 5), "stride": (1, 1), "padding": (0, 0),
    }  # fmt: skip
    assert [m.options["in_features"] for m in modules if m.name == "Linear"] == [400, 120, 84]


@pytest.mark.parametrize(
    ("name", "torch_name", "own"),
    [
        ("sgd", "SGD", {"momentum": 0.5}),
        ("nesterov", "SGD", {"momentum": 0.5, "nesterov": True}),
        ("adam", "Adam", {"betas": (0.9, 0.999), "eps": 1e-8}),
        ("adamw", "AdamW", {"betas": (0.9, 0.999), "eps": 1e-8}),
    ],
)
def test_the_twin_has_the_same_optimizer_and_loss(name: str, torch_name: str, own: dict) -> None:
    keys = {
        "data.validation": 0, "train.label_smoothing": 0.1,
        "train.precision": "float64", "optimizer.name": name, "optimizer.momentum": 0.5,
        "optimizer.lr": 0.02, "optimizer.weight_decay": 0.01, "schedule.name": "constant",
        "schedule.warmup": 0,
    }  # fmt: skip
    images, labels = np.zeros((64, 28, 28), np.uint8), np.zeros(64, np.uint8)
    twin = torch_twin.twin_of(build_trainer(Config().with_values(keys), images, labels))
    assert twin.optimizer.name == torch_name
    assert twin.optimizer.options == {"lr": 0.02, "weight_decay": 0.01, **own}
    assert (twin.loss.name, twin.loss.options) == ("CrossEntropyLoss", {"label_smoothing": 0.1})
    assert twin.dtype == "float64"


STACKS: dict[str, tuple[tuple[int, ...], Callable[[], list[Layer]]]] = {
    "stride, padding and groups": ((2, 9, 11), lambda: [
        Convolution("C1", 4, kernel=(3, 2), stride=(2, 1), padding=(1, 0), groups=2),
        Activation("A1", "tanh"),
        AveragePooling("P1", kernel=3, stride=2),
        Linear("F1", 5),
        Activation("A2", "sigmoid"),
        Linear("F2", 3),
    ]),
    "dilation, rounding up": ((1, 13, 14), lambda: [
        Convolution("C1", 3, kernel=3, dilation=(2, 1), padding=(2, 1)),
        MaxPooling("P1", kernel=3, stride=2, padding=1, round_up=True),
        Activation("A1", "tanh"),
        AveragePooling("P2", kernel=2, padding=1, round_up=True),
        RepeatUnpooling("U1", kernel=(1, 2)),
        AveragePooling("P3", kernel=3, stride=1, padding=1, count_padding=False),
        Linear("F1", 3),
    ]),
    "batch normalisation": ((2, 6, 5), lambda: [
        Convolution("C1", 3, kernel=2),
        BatchNormalization("N1"),
        Activation("A1", "relu"),
        Linear("F1", 6),
        BatchNormalization("N2", momentum=0.2, epsilon=1e-3),
        Dropout("D1", rate=0.0),
        Linear("F2", 3),
    ]),
    "colour, transposed": ((3, 8, 8), lambda: [
        Convolution("C1", 6, kernel=1),
        MaxPooling("P1", kernel=(2, 3), stride=(2, 1)),
        TransposedConvolution(
            "T1", 2, kernel=3, stride=2, padding=1, groups=2, output_padding=(1, 0)
        ),
        Activation("A1", "relu"),
        Linear("F1", 4),
    ]),
    "convolution over the whole image": ((1, 6, 6), lambda: [
        Convolution("C1", 5, kernel=6),
        Activation("A1", "tanh"),
        Convolution("C2", 4, kernel=1),
        Linear("F1", 3),
    ]),
}  # fmt: skip


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("stack", STACKS)
def test_a_network_and_its_twin_have_the_same_outputs_and_gradients(stack: str) -> None:
    import torch

    shape, layers = STACKS[stack]
    network = Network(layers(), shape, np.float64)
    rng = np.random.default_rng(0)
    network.parameters[:] = rng.standard_normal(network.parameters.size)
    modules = torch_twin.torch_modules(network.layers)
    twin = torch.nn.Sequential(*(module.make(torch.nn) for module in modules)).double()
    with torch.no_grad():
        for theirs, ours in zip(twin.parameters(), network.parameter_list, strict=True):
            theirs.copy_(torch.tensor(ours.value).reshape(theirs.shape))
    x = rng.standard_normal((*shape, 7))
    z = network.forward(x)
    scores = twin(torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 0))))
    np.testing.assert_allclose(scores.detach().numpy(), z.T, rtol=0, atol=1e-12)
    r = rng.standard_normal(z.shape)
    network.backward(r)
    (scores * torch.tensor(r.T)).sum().backward()
    for theirs, ours in zip(twin.parameters(), network.parameter_list, strict=True):
        found = theirs.grad.numpy().reshape(ours.shape)
        np.testing.assert_allclose(found, ours.gradient, rtol=0, atol=1e-11)


@pytest.mark.skipif(
    None in (find_spec("torch"), find_spec("jax")), reason="PyTorch or JAX is not installed"
)
def test_jax_trains_the_same_network_as_pytorch() -> None:
    import jax
    import torch

    layers = [
        Convolution("C1", 4, kernel=3, padding=1), Activation("A1", "tanh"), MaxPooling("P1"),
        Convolution("C2", 3, kernel=(2, 3)), Activation("A2", "relu"), AveragePooling("P2"),
        Linear("F1", 5), Activation("A3", "sigmoid"), Linear("F2", 3),
    ]  # fmt: skip
    modules = torch_twin.torch_modules(Network(layers, (2, 10, 11)).layers)
    sgd = torch_twin.TorchObject(
        "SGD", {"lr": 0.1, "weight_decay": 0.01, "momentum": 0.9, "nesterov": True}
    )
    loss = torch_twin.TorchObject("CrossEntropyLoss", {"label_smoothing": 0.0})
    twin = torch_twin.Twin(tuple(modules), loss, sgd, "float32")
    jax_training.check_jax(twin)
    model = torch.nn.Sequential(*(module.make(torch.nn) for module in modules))
    parameters = jax_training.initial_parameters(twin, seed=0)
    with torch.no_grad():
        flat = [array for pair in parameters for array in pair]
        for theirs, array in zip(model.parameters(), flat, strict=True):
            theirs.copy_(torch.tensor(array))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 2, 10, 11), np.float32), rng.integers(3, size=6)
    velocity = jax.tree.map(np.zeros_like, parameters)
    step = jax_training.jitted_step(jax, twin, "channels_first")
    optimizer = sgd.make(torch.optim, model.parameters())
    for part in (np.arange(3), np.arange(3, 6)):
        parameters, velocity = step(parameters, velocity, x, y, part)
        optimizer.zero_grad()
        loss.make(torch.nn)(model(torch.tensor(x[part])), torch.tensor(y[part])).backward()
        optimizer.step()
    flat = [array for pair in parameters for array in pair]
    for theirs, array in zip(model.parameters(), flat, strict=True):
        np.testing.assert_allclose(array, theirs.detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "key"),
    [
        (Convolution("C1", 2, kernel=3, table=[[0], [1]]), "layer C1"),
        (Convolution("C1", 2, kernel=3, padding=(0, 0, 1, 1)), "layer C1: padding"),
        (MaxPooling("P1", kernel=3, padding=2), "layer P1: padding"),
        (AveragePooling("P1", kernel=2, dilation=2), "layer P1: dilation"),
        (Subsampling("S1"), "layer S1"),
        (Activation("A1", "lecun_tanh"), "layer A1"),
    ],
)
def test_a_layer_without_a_counterpart_is_named(layer: Layer, key: str) -> None:
    network = Network([layer, Linear("F1", 3)], (2, 6, 6))
    with pytest.raises(ConfigError, match="has no counterpart in PyTorch") as caught:
        torch_twin.torch_modules(network.layers)
    assert caught.value.key == key


@pytest.mark.skipif(shutil.which("bash") is None or sys.platform == "win32", reason="needs bash")
def test_the_script_writes_between_the_marks_and_nowhere_else(tmp_path: Path) -> None:
    for name in ("scripts", "docs", ".venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(PROJECT / "scripts/bench", tmp_path / "scripts")
    for path in (tmp_path / "scripts/install", tmp_path / ".venv/bin/lenet"):
        path.write_text('#!/bin/sh\necho "figures: $*"\n')
        path.chmod(0o755)
    document = tmp_path / "docs/benchmarks.md"
    begin, end = "<!-- speed, written by scripts/bench -->", "<!-- end of speed -->"
    document.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    for _ in range(2):
        subprocess.run([tmp_path / "scripts/bench", "--batch", "64"], check=True)
    before, figures, after = document.read_text().replace(end, begin).split(begin)
    assert (before, after) == ("before\n", "\nafter\n")
    assert figures.count("figures: bench --against torch --batch 64") == 1
    assert "old" not in figures
