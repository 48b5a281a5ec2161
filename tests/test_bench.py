"""``lenet bench``: that it measures, compares and cleans up; never how fast anything is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lenet.bench import bench as measure
from lenet.bench.bench import Case, Program
from lenet.cli import cli, main
from lenet.cli.bench import to_text
from lenet.config.schema import Config
from lenet.data.idx import read_idx
from lenet.system.errors import ConfigError, SystemFailure

PROJECT = Path(__file__).parents[1]
CORES = measure.usable_cores()

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


def test_the_object_says_what_was_measured_and_on_what(result: dict[str, Any]) -> None:
    assert (result["schema_version"], result["images"], result["rounds"]) == (1, 20, 2)
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


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
def test_pytorch_takes_turns_on_the_same_images(tmp_path: Path) -> None:
    files = measure.write_digits(tmp_path, 20, 10)
    config = measure._prepared(Config(), files, rounds=2)
    (rival,) = [case for case in measure._torch_cases(8) if "channels_last" in case.framework]
    ours, theirs = measure._race(config, [Case("lenet", 8, 1, 1), rival], tmp_path)
    pairs = sorted(a / b for a, b in zip(ours["rounds"], theirs["rounds"], strict=True))
    assert ours["ratios"]["torch channels_last"] == {
        "median": pytest.approx(sum(pairs) / 2),
        "min": pytest.approx(pairs[0]),
        "max": pytest.approx(pairs[1]),
    }
    assert theirs["ratios"] == {}


def test_the_text_is_tables_of_even_width(result: dict[str, Any]) -> None:
    ratios = {"torch": {"median": 4.125, "min": 3.5, "max": 12.0}}
    first, *rest = result["runs"]
    text = to_text({**result, "runs": [{**first, "ratios": ratios}, *rest]})
    assert "4.12 (3.50-12.00) |" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert [len(rows) for rows in tables] == [13, 2 + len(result["runs"])]
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
    assert "2,000" in to_text(found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mapped", [False, True])
def test_digits_are_noise_on_a_background(tmp_path: Path, mapped: bool) -> None:
    files = measure.write_digits(tmp_path, 9000, 7, mapped=mapped)
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
        measure.write_digits(tmp_path, 6_000_000, 10, mapped=True)
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
        (["--batch", "0"], "'0' is no whole number above 0"),
        (["--batch", "auto"], "'auto' is no whole number above 0"),
        (["--workers", "1,x"], "'x' is no whole number above 0"),
        (["--workers", "64", "--batch", "32"], "64 workers cannot share a batch of 32"),
        (["--scale", "9", "--against", "torch"], "exclude each other"),
        (["--against", "torch", "--set", "model.pooling=average"], "--set model.pooling=max"),
        (["--against", "torch", "--set", "optimizer.name=adam"], "--set optimizer.name=sgd"),
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


def test_a_program_that_is_left_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "END_SECONDS", 0.1)
    with pytest.raises(ZeroDivisionError), Program("time_parts", threads=1, config={}) as program:
        raise ZeroDivisionError
    assert program.process.returncode is not None


def test_a_program_that_dies_is_a_line_and_not_a_traceback() -> None:
    with Program("torch_version", threads=1) as program:
        program.process.kill()
        with pytest.raises(SystemFailure, match="ended with code"):
            program.answer()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_resident_memory_counts_the_processes_below() -> None:
    fill = "import sys; a = bytearray(b'x') * 50_000_000; print(flush=True); sys.stdin.read()"
    before = measure.resident_memory(os.getpid())
    assert before is not None
    with subprocess.Popen(
        [sys.executable, "-c", fill], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        after = measure.resident_memory(os.getpid())
        child.communicate()
    assert after is not None
    assert after - before > 40_000_000
    assert measure.resident_memory(child.pid) is None


def test_ratios_are_against_every_rival_and_only_for_ours() -> None:
    ours, theirs = Case("lenet", 8, 1, 1), Case("torch", 8, 1, 2)
    rates = {ours: (10.0, 20.0, 9.0), theirs: (5.0, 4.0, 3.0)}
    assert measure._ratios(ours, rates) == {"torch": {"median": 3.0, "min": 2.0, "max": 5.0}}
    assert measure._ratios(theirs, rates) == {}


def test_comparison_knows_the_default_network() -> None:
    measure._check_comparable(Config())
    with pytest.raises(ConfigError, match=r"is 5\.0, the comparison with PyTorch knows only 0\.0"):
        measure._check_comparable(Config().with_values({"augment.rotation": 5}))


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
