"""Sweeps: what is planned, what runs, what is left after an interruption, what is chosen."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from command import ERROR, Ended
from runs import assert_same_state, children, timeless
from tiny import bars, write_bars

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import read_checkpoint
from lenet.config.reader import load_config
from lenet.config.schema import Config, to_yaml
from lenet.errors import CheckpointError, GateFailed, SystemFailure
from lenet.evaluation.ensemble import evaluate_checkpoints
from lenet.sweep import executors, one_run
from lenet.sweep.grid import Plan, Range, make_plan
from lenet.sweep.one_run import Result, SweepTask, train_task, write_json
from lenet.sweep.ranking import Results
from lenet.sweep.sweep_directory import SweepDirectory, members, read_plan

ROOT = Path(__file__).resolve().parents[2]


def in_this_process(task: SweepTask) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_result(train_task(task))
    return future


@contextmanager
def no_processes(jobs: int) -> Iterator[executors.Submit]:
    yield in_this_process


@pytest.fixture
def lenet(lenet, monkeypatch):
    """The command line; its runs are trained in this process, one after the other."""
    monkeypatch.setattr(executors, "local_processes", no_processes)
    return lenet


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("bars")
    keys = {**write_bars(place), "optimizer.lr": 0.02, "output.dir": str(place / "run")}
    (place / "tiny.yaml").write_text(to_yaml(Config().with_values(keys)))
    return place / "tiny.yaml"


GRID = ("--grid", "optimizer.lr=0.001,0.02", "--seeds", "2")


@pytest.fixture(scope="module")
def swept(config, tmp_path_factory) -> Path:
    """The directory of a whole sweep, made by real processes."""
    place = tmp_path_factory.mktemp("swept") / "sweep"
    done = subprocess.run(command(config, place, *GRID), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (place.parent / "stdout").write_text(done.stdout)
    (place.parent / "stderr").write_text(done.stderr)
    return place


def command(config: Path, output: Path, *options: str) -> list[str]:
    lenet = [sys.executable, "-W", "error", "-m", "lenet"]
    return [*lenet, "sweep", "--config", str(config), "--output", str(output), *options]


def results(directory: Path) -> dict:
    return json.loads((directory / "results.json").read_text())


def last(directory: Path) -> Checkpoint:
    return read_checkpoint(directory / "last.npz", resume=True)


def log(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def run_directories(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_dir())


def contents(directory: Path) -> dict[str, bytes]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def refused(ended: Ended, code: int, *words: str) -> None:
    assert (ended.code, ended.out) == (code, "")
    assert ERROR.fullmatch(ended.err), ended.err
    for word in words:
        assert word in ended.err


# --- The plan -----------------------------------------------------------------------------------


def plan(*grid: str, random: int | None = None, seeds: int = 1, **changes: object) -> Plan:
    values = {key.replace("__", "."): value for key, value in changes.items()}
    made, problems = make_plan(Config().with_values(values), grid, random, seeds)
    assert [str(problem) for problem in problems] == []
    return made


def test_a_grid_is_every_combination_and_every_seed():
    made = plan("optimizer.lr=0.01,1e-1", "model.channels=[4,8],[6,16]", seeds=2, seed=7)
    runs = made.runs(Path("out"))
    assert [(run.point["optimizer.lr"], run.point["model.channels"], run.seed) for run in runs] == [
        (lr, channels, seed)
        for lr in (0.01, 0.1)
        for channels in ((4, 8), (6, 16))
        for seed in (7, 8)
    ]
    for run in runs:
        assert run.config.optimizer.lr == run.point["optimizer.lr"]
        assert run.config.model.channels == run.point["model.channels"]
        assert (run.config.seed, run.config.train.workers) == (run.seed, 1)
        assert run.config.output.dir == str(Path("out") / run.name)
    assert runs[0].name == "1-lr=0.01-channels=4x8-seed=7"


def test_names_differ_and_are_names_of_files():
    keys = [f"augment.{key}=0,0.123456789" for key in ("shift", "rotation", "scale", "shear")]
    keys += [f"optimizer.{key}=0.5,0.123456789" for key in ("momentum", "beta1", "beta2")]
    runs = plan(*keys).runs(Path("out"))
    names = {run.name for run in runs}
    assert len(names) == len(runs) == 2**7
    assert max(map(len, names)) < 200
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.=_-") for name in names)


def test_random_points_lie_in_their_ranges_and_are_spread_on_their_scales():
    made = plan(
        "optimizer.lr=log:0.001:0.1", "train.batch_size=log:16:256", "schedule.final=linear:0:0.5",
        "optimizer.name=sgd,nesterov", random=400,
    )  # fmt: skip
    points = made.points()
    rates = [point["optimizer.lr"] for point in points]
    assert 0.001 <= min(rates) < 0.002
    assert 0.05 < max(rates) <= 0.1
    assert statistics.median(rates) == pytest.approx(0.01, rel=0.3)  # the middle in logarithms
    assert statistics.median(p["schedule.final"] for p in points) == pytest.approx(0.25, rel=0.2)
    sizes = [point["train.batch_size"] for point in points]
    assert {type(size) for size in sizes} == {int}
    assert (min(sizes), max(sizes)) >= (16, 200)
    assert {point["optimizer.name"] for point in points} == {"sgd", "nesterov"}
    assert len({tuple(point.values()) for point in points}) == 400


def test_random_points_are_of_the_seed_and_more_begin_with_the_same():
    grid = ("optimizer.lr=log:0.001:0.1",)
    few, many = plan(*grid, random=5).points(), plan(*grid, random=9).points()
    assert many[:5] == few
    assert plan(*grid, random=5, seed=1).points() != few


def test_random_points_of_a_list_never_repeat():
    points = plan("optimizer.lr=0.1,0.2", "train.epochs=1,2", random=4).points()
    assert len({tuple(point.values()) for point in points}) == 4


def test_seeds_alone_are_runs_of_one_configuration():
    runs = plan(seeds=3, seed=7).runs(Path("out"))
    assert [(run.name, run.point, run.config.seed) for run in runs] == [
        ("1-seed=7", {}, 7), ("2-seed=8", {}, 8), ("3-seed=9", {}, 9),
    ]  # fmt: skip


def test_a_range_never_leaves_its_bounds_by_rounding():
    rng = np.random.default_rng(0)
    for draw in (Range("linear", 0.12345, 0.12346), Range("log", 0.12345, 0.12346)):
        assert all(0.12345 <= draw.draw(rng) <= 0.12346 for _ in range(50))


@pytest.mark.parametrize(
    ("grid", "options", "words"),
    [
        ([], {}, ["--grid", "nothing to compare"]),
        ([], {"random": 2, "seeds": 2}, ["--grid", "nothing to compare"]),
        (["optimizer.lr="], {}, ["--grid optimizer.lr", "has no values"]),
        (["optimizer.lr"], {}, ["has no values"]),
        (["=1"], {}, ["unknown key"]),
        (["optimizer.momentun=0.9"], {}, ["did you mean optimizer.momentum?"]),
        (["lr=0.1"], {}, ["did you mean optimizer.lr, in section optimizer?"]),
        (["optimizer=0.1"], {}, ["is a section"]),
        (["optimizer.lr=0.1,-1"], {}, ["--grid optimizer.lr", "is -1"]),
        (["optimizer.lr=0.1,1e-1"], {}, ["contains 0.1 twice"]),
        (["optimizer.lr=0.1,,0.2"], {}, ["not YAML"]),
        (["optimizer.lr=[0.1"], {}, ["not YAML"]),
        (["optimizer.lr=0.1", "optimizer.lr=0.2"], {}, ["is given twice"]),
        (["optimizer.name=sdg"], {}, ["did you mean sgd?"]),
        (["optimizer.lr=log:0.1:1"], {}, ["--random N"]),
        (["optimizer.lr=log:1:0.1"], {"random": 3}, ["0 < LOW < HIGH"]),
        (["schedule.final=log:0:0.1"], {"random": 3}, ["0 < LOW < HIGH"]),
        (["optimizer.lr=log:-1:0.1"], {"random": 3}, ["is -1"]),
        (["optimizer.lr=linear:a:b"], {"random": 3}, ["the string 'a'"]),
        (["optimizer.name=linear:sgd:adam"], {"random": 3}, ["not a range of numbers"]),
        (["train.batch_size=log:1.5:8"], {"random": 3}, ["an integer"]),
        (["optimizer.lr=0.1,0.2"], {"random": 3}, ["--random", "the grid has 2"]),
        (["seed=1,2"], {}, ["--seeds N"]),
        (["data.limit=100,200"], {}, ["evaluated on the same images"]),
        (["model.classes=10,11"], {}, ["evaluated on the same images"]),
        (["output.dir=a,b"], {}, ["--output"]),
        (["train.workers=1,2"], {}, ["--jobs"]),
        ([f"train.epochs={','.join(map(str, range(1, 102)))}"], {"seeds": 100}, ["10,100 runs"]),
        (["train.epochs=1,3", "schedule.warmup=0,2"], {}, ["epochs=1 warmup=2", "train.epochs 1"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_problems_of_a_grid_are_reported_in_a_line(grid, options, words):
    _, problems = make_plan(Config(), grid, **options)
    assert len(problems) == 1, list(map(str, problems))
    for word in words:
        assert word in str(problems[0])


def test_seeds_beyond_the_largest_are_refused():
    config = Config(seed=2**63 - 2)
    assert make_plan(config, ["optimizer.lr=0.1"], seeds=2)[1] == []
    (problem,) = make_plan(config, ["optimizer.lr=0.1"], seeds=3)[1]
    assert "seed" in str(problem)


def test_every_problem_is_listed_and_nothing_is_made(lenet, config, tmp_path):
    ended = lenet(
        "sweep", "--config", config, "--output", tmp_path / "out",
        "--grid", "optimizer.lr=-1,0.1,0", "--grid", "train.epoch=1", "--grid", "model.pooling=",
        "--set", "data.validation=0",
    )  # fmt: skip
    assert (ended.code, ended.out) == (2, "")
    lines = ended.err.splitlines(keepends=True)
    assert all(map(ERROR.fullmatch, lines))
    found = [line.split(": ")[2] for line in lines]
    assert found == [*["--grid optimizer.lr"] * 2, "--grid train.epoch", "--grid model.pooling",
                     "data.validation"]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_batches_larger_than_the_data_are_found_before_anything_runs(lenet, config, tmp_path):
    ended = lenet("sweep", "--config", config, "--output", tmp_path / "out",
                  "--grid", "train.batch_size=32,241,300")  # fmt: skip
    assert ended.code == 2
    assert [line.split(", but")[0] for line in ended.err.splitlines()] == [
        "lenet: error: train.batch_size: is 241",
        "lenet: error: train.batch_size: is 300",
    ]
    assert list(tmp_path.iterdir()) == []


def test_missing_data_are_found_before_anything_runs(lenet, config, tmp_path):
    ended = lenet("sweep", "--config", config, "--output", tmp_path / "out", *GRID,
                  "--set", "data.train_images=nowhere")  # fmt: skip
    refused(ended, 3, "nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--resume", "--overwrite"], "exclude each other"),
        (["--executor", "mpi", "--jobs", "2"], "mpiexec -n"),
        (["--seeds", "0"], "--seeds"),
        (["--jobs", "0"], "--jobs"),
        (["--random", "0"], "--random"),
        (["--plot", "plot.pdf", *GRID], "plot.pdf"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(lenet, config, tmp_path, options, word):
    ended = lenet("sweep", "--config", config, "--output", tmp_path / "out", *options)
    refused(ended, 2, word)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_read_as_it_was_written(tmp_path):
    made = plan(
        "optimizer.lr=log:0.00001:0.1", "model.channels=[4,8],[6,16]", "train.block=auto,5000",
        random=3, seeds=2,
    )  # fmt: skip
    write_json(tmp_path / "sweep.json", made.to_dict())
    assert read_plan(tmp_path / "sweep.json") == made


# --- A whole sweep ------------------------------------------------------------------------------


def test_every_run_is_a_run_of_lenet_train_with_a_log_of_its_own(swept, config):
    assert [path.name for path in run_directories(swept)] == [
        "1-lr=0.001-seed=0",
        "2-lr=0.001-seed=1",
        "3-lr=0.02-seed=0",
        "4-lr=0.02-seed=1",
    ]
    for path, lr, seed in zip(run_directories(swept), [0.001, 0.001, 0.02, 0.02], [0, 1, 0, 1],
                              strict=True):  # fmt: skip
        own = load_config(path / "config.yaml")
        assert own == load_config(config).with_values(
            {"optimizer.lr": lr, "seed": seed, "output.dir": str(path)}
        )
        assert (path / "train.log").read_text().count("\nepoch ") == 2
        assert read_checkpoint(path / "last.npz", resume=True).epoch == 2


def test_a_run_has_the_bits_of_lenet_train(swept, lenet, tmp_path):
    path = swept / "4-lr=0.02-seed=1"
    ended = lenet("train", "--config", path / "config.yaml", "--output", tmp_path / "alone")
    assert ended.code == 0
    assert_same_state(last(path), last(tmp_path / "alone"))


def test_results_are_those_of_the_best_epochs_and_their_means(swept):
    found = results(swept)
    assert [run["run"] for run in found["runs"]] == [p.name for p in run_directories(swept)]
    for run, path in zip(found["runs"], run_directories(swept), strict=True):
        best = read_checkpoint(path / "best.npz")
        evaluation, _ = evaluate_checkpoints([best], "validation")
        assert run["val_accuracy"] == evaluation.accuracy
        assert run["val_loss"] == pytest.approx(evaluation.loss, rel=1e-5)
        assert (run["best_epoch"], run["epochs"], run["error"]) == (best.epoch, 2, None)
    for row in found["configurations"]:
        of_it = [run for run in found["runs"] if run["point"] == row["point"]]
        assert row["runs"] == [run["run"] for run in of_it]
        for figure in ("val_accuracy", "val_loss"):
            a, b = (run[figure] for run in of_it)
            assert row[f"{figure}_mean"] == pytest.approx((a + b) / 2)
            assert row[f"{figure}_deviation"] == pytest.approx(abs(a - b) / 2**0.5)  # of two, n - 1
    first, second = found["configurations"]
    assert first["val_accuracy_mean"] >= second["val_accuracy_mean"]
    assert (found["best"], found["chosen_on"]) == (first, "validation")


def test_ends_with_a_table_and_a_line_a_run(swept):
    out = (swept.parent / "stdout").read_text().splitlines()
    assert out[0].split("   ")[0].strip() == "lr"
    best = results(swept)["best"]
    assert out[1].startswith(f"{best['point']['optimizer.lr']:g} ")
    assert f"{100 * best['val_accuracy_mean']:.2f} ± " in out[1]
    assert out[1].endswith("chosen")
    assert "chosen" not in out[2]
    err = (swept.parent / "stderr").read_text().splitlines()
    assert [line.split("  ")[0] for line in err] == [f"run {i}/4" for i in (1, 2, 3, 4)]


def test_the_table_for_programs(swept):
    with (swept / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = results(swept)["runs"]
    assert [row["run"] for row in rows] == [run["run"] for run in found]
    for row, run in zip(rows, found, strict=True):
        assert float(row["optimizer.lr"]) == run["point"]["optimizer.lr"]
        assert int(row["seed"]) == run["seed"]
        assert float(row["val_accuracy"]) == run["val_accuracy"]


def test_best_yaml_trains(swept, lenet, config, tmp_path):
    best = load_config(swept / "best.yaml")
    chosen = results(swept)["best"]["point"]["optimizer.lr"]
    assert best == load_config(config).with_values({"optimizer.lr": chosen})
    ended = lenet("train", "--config", swept / "best.yaml", "--output", tmp_path / "run", "--json")
    assert ended.code == 0
    first = results(swept)["best"]["runs"][0]
    same = next(run for run in results(swept)["runs"] if run["run"] == first)
    assert json.loads(ended.out)["best"]["val_accuracy"] == same["val_accuracy"]


def test_the_test_images_are_never_read(lenet, config, tmp_path):
    ended = lenet("sweep", "--config", config, "--output", tmp_path / "out", "--quiet",
                  "--grid", "train.epochs=1", "--set", "data.test_images=nowhere")  # fmt: skip
    assert (ended.code, ended.err) == (0, "")


def test_json_is_what_is_written(lenet, config, tmp_path):
    ended = lenet("sweep", "--config", config, "--output", tmp_path / "out", "--json",
                  "--grid", "train.epochs=1", "--quiet")  # fmt: skip
    printed = json.loads(ended.out)
    assert printed.pop("directory") == str(tmp_path / "out")
    assert printed == results(tmp_path / "out")
    assert printed["best"]["val_accuracy_deviation"] is None


def test_chosen_by_the_mean_and_never_with_a_failed_run():
    made = plan("optimizer.lr=0.1,0.2,0.3", seeds=2)
    runs = made.runs(Path("out"))
    accuracies = [0.99, 0.90, 0.95, 0.96, 1.0, None]
    ended = {
        run.name: Result(1, 1, a, 0.1) if a is not None else Result(error="diverged", exit_code=5)
        for run, a in zip(runs, accuracies, strict=True)
    }
    found = Results.of(made, runs, ended)
    assert [row.point["optimizer.lr"] for row in found.rows] == [0.2, 0.1, 0.3]
    assert found.best is found.rows[0]
    failure = found.failure(Path("out"))
    assert str(failure).startswith("out: 1 of 6 runs failed; ")
    assert isinstance(failure, GateFailed)
    assert found.to_table().splitlines()[3].split() == ["0.3", "1/2", "100.00", "%", "0.1000"]
    ended[runs[0].name] = Result(error="a bug", exit_code=1)
    ended[runs[2].name] = Result(error="no room", exit_code=4)
    found = Results.of(made, runs, ended)
    failure = found.failure(Path("out"))
    assert failure is not None
    assert (found.best, failure.exit_code) == (None, 1)


def test_of_equal_accuracies_the_lower_loss():
    made = plan("optimizer.lr=0.1,0.2")
    runs = made.runs(Path("out"))
    ended = {runs[0].name: Result(1, 1, 0.9, 0.3), runs[1].name: Result(1, 1, 0.9, 0.2)}
    best = Results.of(made, runs, ended).best
    assert best is not None
    assert best.point == {"optimizer.lr": 0.2}


@pytest.mark.parametrize(
    ("metric", "best", "heading"),
    [
        ("accuracy", 0.1, "validation accuracy"),
        ("loss", 0.2, "validation accuracy"),
        ("balanced_accuracy", 0.3, "validation balanced accuracy"),
    ],
)
def test_the_metric_of_the_configuration_ranks(metric, best, heading):
    made = plan("optimizer.lr=0.1,0.2,0.3", train__best_metric=metric)
    runs = made.runs(Path("out"))
    results = [
        Result(1, 1, 0.95, 0.3, val_score=0.6),
        Result(1, 1, 0.90, 0.1, val_score=0.7),
        Result(1, 1, 0.80, 0.2, val_score=0.8),
    ]
    ended = {run.name: result for run, result in zip(runs, results, strict=True)}
    found = Results.of(made, runs, ended)
    assert found.best is not None
    assert found.best.point == {"optimizer.lr": best}
    assert heading in found.to_table()


def test_a_plot_of_the_runs(lenet, swept, tmp_path):
    pytest.importorskip("matplotlib")
    for plot in (tmp_path / "a.svg", tmp_path / "b.svg"):
        ended = lenet("sweep", "--output", swept, "--resume", "--plot", plot)
        assert ended.code == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"4 runs, a dot each" in (tmp_path / "a.svg").read_bytes()


# --- Runs that fail -----------------------------------------------------------------------------


def test_divergence_is_a_line_and_stops_no_other_run(lenet, config, tmp_path):
    options = ("--config", config, "--output", tmp_path / "out", "--quiet",
               "--grid", "optimizer.lr=0.02,900", "--set", "schedule.name=constant",
               "--set", "train.epochs=3")  # fmt: skip
    ended = lenet("sweep", *options)
    assert ended.code == 5
    its_own, in_the_end = ended.err.splitlines()
    failed = tmp_path / "out" / "2-lr=900-seed=0"
    assert its_own.startswith(f"lenet: error: {failed}: optimizer.lr: the loss is ")
    assert its_own.partition("seed=0: ")[2] in (failed / "train.log").read_text()
    assert in_the_end.startswith(f"lenet: error: {tmp_path / 'out'}: 1 of 2 runs failed; ")
    assert results(tmp_path / "out")["best"]["point"] == {"optimizer.lr": 0.02}

    before = contents(tmp_path / "out")
    again = lenet("sweep", *options, "--resume")  # it would diverge again: it is not repeated
    assert (again.code, again.err) == (ended.code, ended.err)
    assert again.out == ended.out
    assert contents(tmp_path / "out") == before


def test_without_a_complete_configuration_none_is_chosen(lenet, config, tmp_path):
    ended = lenet("sweep", "--config", config, "--output", tmp_path / "out", "--quiet",
                  "--grid", "optimizer.lr=900", "--set", "schedule.name=constant",
                  "--set", "train.epochs=3")  # fmt: skip
    assert ended.code == 5
    assert ended.out.endswith("none is chosen\n")
    assert not (tmp_path / "out" / "best.yaml").exists()
    refused(lenet("eval", tmp_path / "out"), 3, "has chosen")


def test_an_internal_error_or_a_full_disk_fails_its_run_alone_and_is_tried_again(
    lenet, config, tmp_path, monkeypatch
):
    train = one_run.run_training

    def spoilt(given, **options):
        if given.seed == 1:
            raise ZeroDivisionError("unforeseen")
        if given.seed == 2:
            raise OSError(28, "No space left on device")
        if given.seed == 3:
            raise MemoryError
        if given.seed == 4:
            raise SystemFailure("is full", remedy="make room", file="disk")
        return train(given, **options)

    monkeypatch.setattr(one_run, "run_training", spoilt)
    options = ("--config", config, "--output", tmp_path / "out", "--quiet", "--seeds", 5,
               "--grid", "train.epochs=1")  # fmt: skip
    ended = lenet("sweep", *options)
    assert ended.code == 1
    lines = ended.err.splitlines(keepends=True)
    assert all(map(ERROR.fullmatch, lines))
    expected = [
        "internal error",
        "No space",
        "out of memory",
        "disk: is full",
        "4 of 5 runs failed",
    ]
    for line, words in zip(lines, expected, strict=True):
        assert words in line
    one, two = (tmp_path / "out" / f"{i + 1}-epochs=1-seed={i}" for i in (0, 1))
    assert "Traceback" in (two / "train.log").read_text()
    before = (one / "result.json").stat().st_mtime_ns

    monkeypatch.setattr(one_run, "run_training", train)
    assert lenet("sweep", *options, "--resume").code == 0
    assert (one / "result.json").stat().st_mtime_ns == before
    assert len(results(tmp_path / "out")["best"]["runs"]) == 5


# --- Its directory ------------------------------------------------------------------------------


def test_a_sweep_is_not_replaced_without_overwrite(lenet, swept, config):
    before = contents(swept)
    refused(lenet("sweep", "--config", config, "--output", swept, *GRID), 2, "--resume", "--overw")
    assert contents(swept) == before


def test_another_sweep_is_refused_with_what_differs(lenet, swept, config):
    before = contents(swept)
    ended = lenet("sweep", "--config", config, "--output", swept, "--resume", "--seeds", "3",
                  "--grid", "optimizer.lr=0.02", "--set", "optimizer.momentum=0.5")  # fmt: skip
    refused(ended, 2, "another sweep: --grid, --seeds, optimizer.momentum differ")
    assert contents(swept) == before


@pytest.mark.parametrize("option", [[], ["--resume"], ["--overwrite"]], ids=str)
def test_a_directory_of_something_else_is_refused(lenet, config, tmp_path, option):
    (tmp_path / "thesis.tex").write_text("years of work")
    ended = lenet("sweep", "--config", config, "--output", tmp_path, *GRID, *option)
    refused(ended, 2, "something other", "thesis.tex")
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_run_of_lenet_train_is_something_else(lenet, swept, config):
    refused(lenet("sweep", "--config", config, "--output", run_directories(swept)[0], *GRID), 2,
            "something other")  # fmt: skip


@pytest.mark.parametrize("grid", [GRID, ()], ids=["the same command", "--resume alone"])
def test_nothing_to_resume(lenet, config, tmp_path, grid):
    given = ("--config", config, *grid) if grid else ()
    ended = lenet("sweep", *given, "--output", tmp_path / "none", "--resume")
    refused(ended, 2)
    assert list(tmp_path.iterdir()) == []


def test_overwrite_replaces_its_runs_and_nothing_else(lenet, config, tmp_path):
    out = tmp_path / "out"
    sweep = ("sweep", "--config", config, "--output", out, "--quiet", "--grid")
    assert lenet(*sweep, "train.epochs=1,2").code == 0
    (out / "notes").write_text("mine")
    assert lenet(*sweep, "train.batch_size=64", "--overwrite").code == 0
    assert [path.name for path in run_directories(out)] == ["1-batch_size=64-seed=0"]
    assert (out / "notes").read_text() == "mine"
    assert results(out)["best"]["point"] == {"train.batch_size": 64}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"grid": {"optimizer.lr": [0.1]}}'])
def test_a_damaged_plan_is_refused(lenet, config, tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    ended = lenet("sweep", "--config", config, "--output", tmp_path, *GRID, "--resume")
    refused(ended, 3, "sweep.json")


def test_two_sweeps_in_one_directory(lenet, swept, config):
    with SweepDirectory(swept, read_plan(swept / "sweep.json"), resume=True, overwrite=False):
        ended = lenet("sweep", "--config", config, "--output", swept, *GRID, "--resume")
    refused(ended, 4, "right now")


def test_a_sweep_that_has_ended_gives_its_table_again(lenet, swept):
    before = {name: text for name, text in contents(swept).items() if "=" in name}
    ended = lenet("sweep", "--output", swept, "--resume")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (swept.parent / "stdout").read_text()
    assert {name: text for name, text in contents(swept).items() if "=" in name} == before


# --- Tasks of an array --------------------------------------------------------------------------


def test_tasks_do_together_what_a_sweep_does(lenet, swept, config, tmp_path):
    out = tmp_path / "out"
    sweep = ("sweep", "--config", config, "--output", out, "--quiet", *GRID, "--task")
    ended = lenet(*sweep, "2/3")
    assert ended.code == 0
    assert ended.out == (
        f"task 2 of 3: 1 runs done; after all tasks: lenet sweep --collect {out}\n"
    )
    assert [path.name[0] for path in run_directories(out)] == ["2"]

    early = lenet("sweep", "--collect", out)
    assert early.code == 4
    assert early.err.endswith("3 of 4 runs failed; --resume repeats all of them but those that "
                              "diverged\n")  # fmt: skip
    assert results(out)["best"] is None

    assert lenet(*sweep, "1/3").code == 0  # runs 1 and 4
    assert (
        lenet("sweep", "--output", out, "--task", "3/3", "--quiet").code == 0
    )  # the plan is there
    assert lenet("sweep", "--collect", out, "--json").code == 0
    assert results(out)["best"]["point"] == results(swept)["best"]["point"]
    for mine, other in zip(run_directories(out), run_directories(swept), strict=True):
        assert mine.name == other.name
        assert_same_state(last(mine), last(other))


def test_a_task_repeated_trains_nothing_and_one_without_runs_neither(lenet, config, tmp_path):
    out = tmp_path / "out"
    sweep = ("sweep", "--config", config, "--output", out, "--quiet", "--seeds", "2", "--task")
    assert lenet(*sweep, "1/4").code == 0
    before = contents(out)
    assert lenet(*sweep, "1/4").code == 0
    assert lenet(*sweep, "4/4").out.startswith("task 4 of 4: 0 runs done")
    assert contents(out) == before


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "-1/3", "a/b", "1/2/3", "", "１/３"])
def test_an_impossible_task_is_refused(lenet, config, tmp_path, text):
    ended = lenet("sweep", "--config", config, "--output", tmp_path / "out", "--task", text)
    refused(ended, 2, "K/N")


@pytest.mark.parametrize(
    "options",
    [
        ("--task", "1/2", "--resume"),
        ("--task", "1/2", "--overwrite"),
        ("--task", "1/2", "--executor", "mpi"),
        ("--collect", "out"),
        ("--task", "1/2", "--json"),
    ],
    ids=" ".join,
)
def test_options_that_exclude_each_other(lenet, config, tmp_path, options):
    refused(lenet("sweep", "--config", config, "--output", tmp_path / "out", *options), 2)
    assert list(tmp_path.iterdir()) == []


def test_tasks_of_other_sweeps_are_refused(lenet, swept, config):
    before = contents(swept)
    ended = lenet("sweep", "--config", config, "--output", swept, "--seeds", "7", "--task", "1/2")
    refused(ended, 2, "contains another sweep", "--seeds differ")
    assert contents(swept) == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 99_999,
        '{"val_loss": "\\u001b[2J"}',
        '{"epochs": 1}',
        '{"error": 3}',
        "{}",
    ],
    ids=range(8),
)
def test_a_run_with_a_damaged_result_is_not_finished(lenet, swept, tmp_path, text):
    out = tmp_path / "copy"
    shutil.copytree(swept, out)
    first = run_directories(out)[0]
    (first / "result.json").write_text(text)
    ended = lenet("sweep", "--collect", out)
    assert ended.code == 4
    assert "1 of 4 runs failed" in ended.err
    assert "\x1b" not in ended.out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("name", ["sweep.json", "results.json"])
def test_a_pipe_is_not_waited_for(lenet, swept, tmp_path, name):
    out = tmp_path / "copy"
    shutil.copytree(swept, out)
    (out / name).unlink()
    os.mkfifo(out / name)
    command = ("sweep", "--collect", out) if name == "sweep.json" else ("eval", out)
    refused(lenet(*command), 3, str(out))


def test_what_is_not_a_sweep_is_not_collected(lenet, tmp_path):
    refused(lenet("sweep", "--collect", tmp_path), 3, "sweep.json")
    refused(lenet("sweep"), 2, "--output DIR")


def test_a_sweep_takes_a_data_set_as_train_does(lenet, tmp_path):
    images, labels = bars(120, seed=0)
    np.savez(tmp_path / "own.npz", x=images, y=labels)
    out = tmp_path / "out"
    changes = ("data.validation=30", "train.epochs=1", "model.channels=[2,3]", "model.units=[4,5]")
    options = [part for change in changes for part in ("--set", change)]
    ended = lenet("sweep", "--data", tmp_path / "own.npz", "--seeds", 2, "--output", out, *options)
    assert ended.code == 0, ended.err
    plan = read_plan(out / "sweep.json")
    assert plan.config.data.path == str(tmp_path / "own.npz")


def no_threads(*_: object, **__: object) -> None:
    raise RuntimeError("can't start new thread")


def test_where_no_thread_can_be_started_each_run_fails_in_one_line(config, tmp_path, monkeypatch):
    monkeypatch.setattr(executors.threading.Thread, "start", no_threads)
    with executors.local_processes(2) as submit:
        task = SweepTask(load_config(config), None, tmp_path / "stop")
        found = [submit(task).result(timeout=10) for _ in range(3)]
    assert {result.exit_code for result in found} == {4}
    assert "its process cannot be started: can't start new thread" in str(found[0].error)


def test_where_no_process_can_be_started_each_run_fails_in_one_line(config, tmp_path, monkeypatch):
    def no_process(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("lenet.parallel.spawn.Process.start", no_process)
    with executors.local_processes(2) as submit:
        task = SweepTask(load_config(config), None, tmp_path / "stop")
        result = submit(task).result(timeout=10)
    assert result.exit_code == 4
    assert "Resource temporarily unavailable" in str(result.error)


# --- Interruptions ------------------------------------------------------------------------------

LONG = ("--grid", "train.epochs=120,1")  # some seconds; of tests that resume it to its end
ENDLESS = ("--grid", "train.epochs=100000,1")


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("it takes too long")


@contextmanager
def started(
    config: Path, output: Path, *options: str, jobs: int = 1
) -> Iterator[subprocess.Popen[str]]:
    """A sweep of long runs, of which each job's first has made an epoch; over at the end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command(config, output, *options, "--jobs", str(jobs)),
        cwd=ROOT, stdout=pipe, stderr=pipe, text=True,
    ) as process:  # fmt: skip
        try:
            for number in range(1, jobs + 1):
                wait_for(lambda n=number: any(output.glob(f"{n}-*/last.npz")), process)
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="no signals between processes there")
def test_interrupted_and_resumed_it_has_the_bits_of_an_uninterrupted_one(lenet, config, tmp_path):
    out = tmp_path / "out"
    with started(config, out, *LONG) as process:
        process.send_signal(signal.SIGINT)
        text, err = process.communicate(timeout=120)
    assert (process.returncode, text) == (130, "")
    assert err == (
        "lenet: stopped by signal 2 with 0 of 2 runs done; "
        f"resume with lenet sweep --resume --output {out}\n"
    )
    assert not (out / ".stop").exists()
    (half,) = run_directories(out)
    assert 0 < last(half).epoch < 120
    assert "was stopped" in (half / "train.log").read_text()

    ended = lenet("sweep", "--resume", "--output", out, "--quiet")
    assert (ended.code, ended.err) == (0, "")
    whole = lenet("train", "--config", half / "config.yaml", "--output", tmp_path / "whole")
    assert whole.code == 0
    assert_same_state(last(half), last(tmp_path / "whole"))
    assert timeless(log(half)) == timeless(log(tmp_path / "whole"))
    assert len(run_directories(out)) == 2
    assert results(out)["runs"][0]["val_accuracy"] == max(
        row["val_accuracy"] for row in log(tmp_path / "whole")
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no signals between processes there")
def test_when_stopped_it_ends_all_jobs_and_starts_no_more(config, tmp_path):
    out = tmp_path / "out"
    options = (*ENDLESS, "--seeds", "3", "--set", "optimizer.lr=1e-3")
    with started(config, out, *options, jobs=2) as process:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert err.endswith(f"with 0 of 6 runs done; resume with lenet sweep --resume --output {out}\n")
    assert len(run_directories(out)) == 2


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
def test_a_killed_process_fails_its_run_and_no_other(config, tmp_path):
    out = tmp_path / "out"
    with started(config, out, *ENDLESS) as process:
        os.kill(job_of(process), signal.SIGKILL)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 4
    failed, other, in_the_end = err.splitlines()
    assert failed.startswith(
        f"lenet: error: {out / '1-epochs=100000-seed=0'}: its process was killed; "
    )
    assert other.startswith("run 2/2  2-epochs=1-seed=0 ")
    assert in_the_end.startswith(f"lenet: error: {out}: 1 of 2 runs failed; ")
    assert results(out)["best"]["point"] == {"train.epochs": 1}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
def test_when_killed_it_leaves_no_process_and_can_be_resumed(lenet, config, tmp_path):
    out = tmp_path / "out"
    with started(config, out, *LONG) as process:
        family = children(process.pid)
        assert job_of(process) in family
        process.kill()
        process.wait()
        for _ in range(500):
            if not any(Path(f"/proc/{pid}").exists() for pid in family):
                break
            time.sleep(0.01)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()], "an orphan"
    ended = lenet("sweep", "--config", config, "--output", out, *LONG, "--resume")
    assert ended.code == 0
    assert [row["epoch"] for row in log(out / "1-epochs=120-seed=0")] == list(range(1, 121))


def job_of(process: subprocess.Popen[str]) -> int:
    (pid,) = (
        pid for pid in children(process.pid)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )  # fmt: skip
    return pid


def test_a_run_without_a_checkpoint_starts_again(lenet, config, tmp_path):
    out = tmp_path / "out"
    options = ("--config", config, "--output", out, "--grid", "train.epochs=1", "--quiet")
    assert lenet("sweep", *options).code == 0
    (run,) = run_directories(out)
    for name in ("result.json", "last.npz", "best.npz"):
        (run / name).unlink()
    assert lenet("sweep", *options, "--resume").code == 0
    assert last(run).epoch == 1
    assert len(log(run)) == 1


# --- MPI ----------------------------------------------------------------------------------------


@pytest.fixture
def mpiexec() -> list[str]:
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else which("mpiexec")
    if found is None or find_spec("mpi4py") is None:
        pytest.skip("mpiexec and mpi4py are not here: pip install 'lenet[mpi]'")
    return [found, "-n", "2"]


def test_under_mpiexec_the_runs_are_the_same(mpiexec, swept, config, tmp_path):
    out = tmp_path / "out"
    done = subprocess.run(
        mpiexec + command(config, out, *GRID, "--executor", "mpi", "--quiet"),
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    there = (swept.parent / "stdout").read_text().replace(str(swept), str(out))
    assert done.stdout == there  # once, from the first rank
    for a, b in zip(run_directories(swept), run_directories(out), strict=True):
        assert_same_state(last(a), last(b))


def test_under_mpiexec_one_rank_reports_the_error(mpiexec, config, tmp_path):
    arguments = command(config, tmp_path / "out", "--grid", "optimizer.lr=", "--executor", "mpi")
    done = subprocess.run(
        mpiexec + arguments, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert ERROR.fullmatch(done.stderr), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no signals between processes there")
def test_under_mpiexec_an_interruption_saves_and_resumes(mpiexec, lenet, config, tmp_path):
    out = tmp_path / "out"
    pipe = subprocess.PIPE
    arguments = command(config, out, *LONG, "--executor", "mpi")
    with subprocess.Popen(
        mpiexec + arguments, cwd=ROOT, stdout=pipe, stderr=pipe, text=True
    ) as process:
        wait_for(lambda: any(out.glob("1-*/last.npz")), process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "stopped by signal 15" in err
    half = run_directories(out)[0]
    assert 0 < last(half).epoch < 120
    assert lenet("sweep", "--resume", "--output", out, "--quiet").code == 0
    assert last(half).epoch == 120


# --- As an ensemble -----------------------------------------------------------------------------


def test_eval_takes_a_sweep_for_the_networks_it_has_chosen(lenet, swept):
    chosen = [swept / name / "best.npz" for name in results(swept)["best"]["runs"]]
    assert members(swept) == chosen
    of_sweep = json.loads(lenet("eval", swept, "--json").out)
    of_files = json.loads(lenet("eval", *chosen, "--json").out)
    assert of_sweep == of_files
    assert of_sweep["count"] == 100


def test_eval_of_another_directory_is_refused(lenet, tmp_path):
    refused(lenet("eval", tmp_path), 3, str(tmp_path), "has chosen")
    (tmp_path / "results.json").write_text('{"best": null}')
    with pytest.raises(CheckpointError, match="has chosen"):
        members(tmp_path)
