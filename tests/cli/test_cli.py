"""The command line as a user calls it: exit codes, one-line errors, what is printed where."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import ERROR, Ended
from tiny import write_bars

from lenet import __version__
from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.checkpoint.restore import read_checkpoint
from lenet.cli import COMMANDS, cli, main
from lenet.config.reader import load_config

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = [
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "seconds",
    "images_per_second",
    "val_score",
]


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """A configuration file that trains on a tiny data set."""
    place = tmp_path_factory.mktemp("tiny")
    lines = [f"{key}: {json.dumps(value)}" for key, value in write_bars(place).items()]
    sections: dict[str, list[str]] = {}
    for line in lines:
        section, _, rest = line.partition(".")
        sections.setdefault(section, []).append(f"  {rest}")
    text = "".join(f"{name}:\n" + "\n".join(keys) + "\n" for name, keys in sections.items())
    (place / "tiny.yaml").write_text(text)
    return place / "tiny.yaml"


@pytest.fixture(scope="module")
def run(config, tmp_path_factory) -> Path:
    """The directory of a finished run."""
    output = tmp_path_factory.mktemp("runs") / "done"
    with pytest.raises(SystemExit) as end:
        main(["train", "--config", str(config), "--output", str(output), "--quiet"])
    assert end.value.code == 0
    return output


def fails(ended: Ended, code: int, *words: str) -> None:
    """The exit code is ``code``, stdout empty, and stderr one line with all words."""
    assert ended.code == code
    assert ended.out == ""
    assert ERROR.fullmatch(ended.err), ended.err
    for word in words:
        assert word in ended.err


# --- Help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_has_an_example(lenet, command):
    for flag in ("--help", "-h"):
        ended = lenet(*command, flag)
        assert (ended.code, ended.err) == (0, "")
        assert re.search(f"^ +{' '.join(['lenet', *command])} ?", ended.out, re.M), ended.out


def test_help_lists_the_commands_in_order_with_what_they_do(lenet):
    listed = lenet("--help").out.partition("Commands:\n")[2]
    assert re.findall(r"^  (\w+)  +\S", listed, re.M) == list(COMMANDS)


def test_the_line_of_a_command_stands_once_and_fits_on_a_line():
    for name, line in COMMANDS.items():
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command.help.splitlines()[0] == line
        assert len(line) <= 80 - len("  gradcheck  "), name


def test_version(lenet):
    assert lenet("--version") == (0, f"lenet {__version__}\n", "")


def test_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "lenet", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"lenet {__version__}\n")


# --- Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tarin"], ["tarin", "--help"]),
        (["train", "--bogus"], ["--bogus", "lenet train --help"]),
        (["train", "--resume", "--overwrite"], ["exclude each other"]),
        (["train", "--set", "optimizer.rl=1"], ["optimizer.rl", "keys of optimizer are name, lr"]),
        (["train", "--set", "optimizer.lr=-1"], ["optimizer.lr", "-1"]),
        (["train", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["train", "--workers", "0"], ["train.workers"]),
        (["train", "--workers", "many"], ["train.workers", "many"]),
        (["train", "--workers", "65"], ["train.workers", "batch"]),
        (["train", "--seed", "-1"], ["seed"]),
        (["train", "--set", "model.input_size=30.5"], ["model.input_size"]),
        (["eval"], ["CHECKPOINT", "lenet eval --help"]),
        (["eval", "x.npz", "--min-accuracy", "2"], ["--min-accuracy"]),
        (["eval", "x.npz", "--split", "half"], ["--split"]),
        (["summary", "--set", "model.classes=1"], ["model.classes"]),
        (["data", "fetch", "imagenet"], ["imagenet"]),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_2(lenet, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails(lenet(*arguments), 2, *words)
    assert list(tmp_path.iterdir()) == []


def test_missing_checkpoint_is_exit_3(lenet, tmp_path):
    fails(lenet("eval", tmp_path / "none.npz"), 3, "none.npz")


def test_damaged_checkpoint_is_exit_3(lenet, run, tmp_path):
    damaged = bytearray((run / "best.npz").read_bytes())
    damaged[-5000] ^= 1
    (tmp_path / "best.npz").write_bytes(damaged)
    fails(lenet("eval", tmp_path / "best.npz"), 3, "best.npz")


def test_missing_data_file_is_exit_3(lenet, config, tmp_path):
    ended = lenet(
        "train", "--config", config, "--output", tmp_path / "run",
        "--set", f"data.train_labels={tmp_path / 'none'}",
    )  # fmt: skip
    fails(ended, 3, str(tmp_path / "none"))


def test_images_and_labels_that_do_not_match_are_exit_3(lenet, config, tmp_path):
    labels = config.parent / "test-labels"
    ended = lenet(
        "train", "--config", config, "--output", tmp_path / "run",
        "--set", f"data.train_labels={labels}",
    )  # fmt: skip
    fails(ended, 3, "labels")


def test_output_below_a_file_is_exit_4(lenet, config, tmp_path):
    (tmp_path / "file").touch()
    fails(lenet("train", "--config", config, "--output", tmp_path / "file" / "run"), 4, "file")


def test_an_internal_error_is_one_line_and_exit_1_with_a_traceback_on_demand(
    lenet, config, monkeypatch
):
    def broken(*arguments, **options):
        raise ZeroDivisionError("not foreseen")

    monkeypatch.setattr("lenet.train.run.run_training", broken)
    fails(lenet("train", "--config", config), 1, "internal error", "not foreseen", "--debug")
    assert "Traceback" in lenet("--debug", "train", "--config", config).err


def test_closed_pipe_is_exit_141():
    command = subprocess.Popen(
        [sys.executable, "-m", "lenet", "config"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert command.stdout is not None
    command.stdout.close()
    _, err = command.communicate()
    assert (command.returncode, err) == (141, b"")


# --- Train --------------------------------------------------------------------------------------


def test_train_leaves_configuration_log_and_checkpoints(run, config):
    assert sorted(path.name for path in run.iterdir() if path.name != ".lock") == [
        "best.npz",
        "config.yaml",
        "last.npz",
        "log.csv",
        "log.jsonl",
        "previous.npz",
    ]
    resolved = load_config(run / "config.yaml")
    assert resolved == load_config(config).with_values({"output.dir": str(run)})


def test_both_logs_have_the_same_columns_and_values(run):
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    with (run / "log.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [COLUMNS] * 2
    assert [{k: float(v) for k, v in row.items()} for row in table] == rows
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["step"] for row in rows] == [8, 16]  # ⌈(300 − 60)/32⌉ steps an epoch


def test_ends_with_a_summary_on_stdout_and_a_line_an_epoch_on_stderr(lenet, config, tmp_path):
    ended = lenet("train", "--config", config, "--output", tmp_path / "run")
    assert ended.code == 0
    assert re.match(r"best epoch \d of 2: validation accuracy [\d.]+%\n", ended.out)
    assert "lenet eval" in ended.out
    lines = ended.err.splitlines()
    assert lines[0].startswith("training on idx with 1 worker")
    assert [line.split("  ")[0] for line in lines[1:]] == ["epoch 1/2", "epoch 2/2"]
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", ended.err), "escape codes without a terminal"


def test_quiet_and_json(lenet, config, tmp_path):
    ended = lenet("train", "--config", config, "--output", tmp_path / "run", "--quiet", "--json")
    assert ended.err == ""
    result = json.loads(ended.out)
    assert list(result["best"]) == list(result["last"]) == COLUMNS
    assert (result["schema_version"], result["last"]["epoch"]) == (1, 2)
    assert Path(result["checkpoint"]).exists()


def test_options_override_the_file(lenet, config, tmp_path):
    output = tmp_path / "run"
    ended = lenet(
        "train", "--config", config, "--output", output, "--quiet", "--seed", "7",
        "--set", "train.epochs=1", "--set", "optimizer.lr=2e-2", "--workers", "1",
    )  # fmt: skip
    assert ended.code == 0
    resolved = load_config(output / "config.yaml")
    assert (resolved.seed, resolved.train.epochs, resolved.optimizer.lr) == (7, 1, 0.02)


def test_a_run_is_not_replaced_without_overwrite(lenet, config, run):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    ended = lenet("train", "--config", config, "--output", run)
    fails(ended, 2, str(run), "--resume", "--overwrite")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_overwrite_replaces_it(lenet, config, tmp_path):
    train = ("train", "--config", config, "--output", tmp_path, "--quiet")
    assert lenet(*train).code == 0
    assert lenet(*train, "--overwrite", "--seed", "3").code == 0
    assert load_config(tmp_path / "config.yaml").seed == 3
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("with_config", [True, False])
def test_nothing_to_resume(lenet, config, tmp_path, with_config):
    given = ("--config", config) if with_config else ()
    ended = lenet("train", *given, "--output", tmp_path / "none", "--resume")
    fails(ended, 2, "none", "leave out --resume")
    assert not (tmp_path / "none").exists()


def test_resume_of_a_finished_run_changes_neither_weights_nor_log(lenet, run):
    def state() -> tuple[bytes, str]:
        return (run / "last.npz").read_bytes(), (run / "log.jsonl").read_text()

    before = state()
    ended = lenet("train", "--output", run, "--resume", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{run}: this run is already complete, nothing to train\n"
    assert state() == before


def test_resume_with_another_configuration_names_the_keys(lenet, run, config):
    ended = lenet(
        "train", "--config", config, "--output", run, "--resume", "--set", "optimizer.lr=0.2"
    )
    fails(ended, 3, "last.npz", "optimizer.lr")


def test_chance_level_gets_a_warning(lenet, tmp_path, config):
    rng = np.random.default_rng(0)
    from lenet.data.formats.idx import write_idx

    write_idx(tmp_path / "labels", rng.integers(0, 3, 300, dtype=np.uint8))
    ended = lenet(
        "train", "--config", config, "--output", tmp_path / "run", "--quiet",
        "--set", f"data.train_labels={tmp_path / 'labels'}", "--set", "train.epochs=1",
        "--set", "optimizer.lr=1e-6",
    )  # fmt: skip
    assert ended.code == 0
    assert re.fullmatch(r"lenet: warning: accuracy is .* chance: .*optimizer.lr.*\n", ended.err)


def test_divergence_is_exit_5_with_step_and_learning_rate(lenet, config, tmp_path):
    ended = lenet(
        "train", "--config", config, "--output", tmp_path / "run", "--quiet",
        "--set", "optimizer.lr=900", "--set", "schedule.name=constant",
    )  # fmt: skip
    fails(ended, 5, "optimizer.lr", "step", "900", "diverged")


# --- Eval ---------------------------------------------------------------------------------------


def test_eval_prints_metrics_and_confusion_matrix(lenet, run):
    ended = lenet("eval", run / "best.npz")
    assert (ended.code, ended.err) == (0, "")
    assert "test images" in ended.out.splitlines()[0]
    for word in ("accuracy", "error", "loss", "precision", "recall", "true \\ predicted"):
        assert word in ended.out


def test_eval_json_has_a_schema(lenet, run):
    ended = lenet("eval", run / "best.npz", "--json")
    result = json.loads(ended.out)
    assert ended.out.count("\n") == 1
    assert result["schema_version"] == 1
    assert (result["data"], result["split"], result["count"]) == ("idx", "test", 100)
    assert [list(scores) for scores in result["per_class"]] == [
        ["label", "name", "precision", "recall", "f1", "support"]
    ] * 3
    confusion = np.array(result["confusion"])
    assert confusion.shape == (3, 3)
    assert confusion.sum() == 100
    assert result["accuracy"] == confusion.trace() / 100
    assert result["error"] == pytest.approx(1 - result["accuracy"])
    assert 0 <= result["loss"] < 1
    assert 0 <= result["calibration_error"] < 1


@pytest.mark.parametrize(("split", "count"), [("test", 100), ("validation", 60), ("train", 240)])
def test_splits_do_not_overlap(lenet, run, split, count):
    assert json.loads(lenet("eval", run / "best.npz", "--split", split, "--json").out)["count"] == (
        count
    )


def test_eval_on_validation_agrees_with_the_log(lenet, run):
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    best = min(rows, key=lambda row: (-row["val_accuracy"], row["val_loss"]))
    result = json.loads(lenet("eval", run / "best.npz", "--split", "validation", "--json").out)
    assert result["accuracy"] == best["val_accuracy"]
    assert result["loss"] == pytest.approx(best["val_loss"], rel=1e-5)
    assert read_checkpoint(run / "best.npz").epoch == best["epoch"]


def test_the_worst_mistakes_as_a_figure(lenet, run, tmp_path):
    """The network predicts class 0 for every image: all others are mistakes."""
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
    trained = read_checkpoint(run / "best.npz")
    zeros = {name: np.zeros_like(value) for name, value in trained.parameters.items()}
    save_checkpoint(tmp_path / "zero.npz", replace(trained, parameters=zeros, training=None))
    ended = lenet("eval", tmp_path / "zero.npz", "--mistakes", tmp_path / "worst.svg")
    assert (ended.code, ended.err) == (0, "")
    drawn = (tmp_path / "worst.svg").read_text(encoding="utf-8")
    (count,) = re.findall(r"The (\d+) worst mistakes on idx", drawn)
    assert drawn.count("<image ") == int(count) > 1
    assert "1 not 0" in drawn or "2 not 0" in drawn


def test_min_accuracy_is_a_gate(lenet, run):
    assert lenet("eval", run / "best.npz", "--min-accuracy", "0.5").code == 0
    failed = lenet(
        "eval", run / "best.npz", "--min-accuracy", "1", "--split", "train",
        "--data-dir", run,
    )  # fmt: skip
    accuracy = json.loads(lenet("eval", run / "best.npz", "--split", "train", "--json").out)
    assert failed.code == (0 if accuracy["accuracy"] == 1 else 5)


def test_below_the_gate_the_results_are_still_printed(lenet, run, config, tmp_path):
    wrong = tmp_path / "run"
    trained = lenet(
        "train", "--config", config, "--output", wrong, "--quiet", "--set", "optimizer.lr=1e-7",
        "--set", "train.epochs=1",
    )  # fmt: skip
    assert trained.code == 0
    ended = lenet("eval", wrong / "best.npz", "--min-accuracy", "0.99", "--json")
    assert ended.code == 5
    assert json.loads(ended.out)["accuracy"] < 0.99
    assert ERROR.fullmatch(ended.err)
    assert "below 0.99" in ended.err


def test_eval_on_another_data_set(lenet, run, mnist_dir):
    ended = lenet("eval", run / "best.npz", "--data", "mnist", "--data-dir", mnist_dir)
    fails(ended, 2, "mnist: has 10 classes", "the network has 3 (0, 1, 2)")


def test_eval_of_a_moved_checkpoint_needs_nothing_else(run, tmp_path):
    (tmp_path / "moved.npz").write_bytes((run / "best.npz").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "lenet", "eval", "moved.npz", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["checkpoint"] == "moved.npz"


# --- Other commands -----------------------------------------------------------------------------


def test_printed_configuration_loads_and_is_the_default(lenet, tmp_path):
    (tmp_path / "default.yaml").write_text(lenet("config").out, encoding="utf-8")
    assert load_config(tmp_path / "default.yaml") == load_config(None)
    changed = lenet("config", "--set", "optimizer.lr=0.1").out
    assert "lr: 0.1\n" in changed


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda f: f.name)
def test_every_packaged_configuration_is_accepted(lenet, file):
    assert lenet("config", "--config", file).code == 0


def test_data_list(lenet, tmp_path):
    ended = lenet("data", "list", "--data-dir", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0].split() == ["NAME", "FILES", "SIZE", "WHERE", "DESCRIPTION"]
    listed = json.loads(lenet("data", "list", "--json").out)
    assert listed["schema_version"] == 1
    assert {"mnist", "fashion-mnist", "kmnist"} <= {entry["name"] for entry in listed["datasets"]}


def test_a_directory_without_the_data_is_a_warning_in_one_line(tmp_path):
    """The cache has the files of ``fashion-mnist``, the directory that is named has nothing."""
    code = """
import sys
import numpy as np
from lenet.cli import main
from lenet.data.catalogue import CATALOGUE, Source, Archive, ROLES, NAMES
from lenet.data.formats.idx import header, write_idx
from lenet.data.cache import cache_directory
import hashlib
archives = {}
for role, name in zip(ROLES, NAMES):
    shape = (40, 28, 28) if "images" in role else 40
    array = np.resize(np.arange(256 if "images" in role else 1, dtype=np.uint8), shape)
    write_idx(cache_directory() / "fashion-mnist" / f"{name}.gz", array)
    content = header(array) + array.tobytes()
    archives[role] = Archive(name, content_sha256=hashlib.sha256(content).hexdigest())
CATALOGUE["fashion-mnist"] = Source("", tuple("0123456789"), archives)
main(["eval", "pretrained", "--data", "fashion-mnist", "--data-dir", sys.argv[1]])
"""
    env = {k: v for k, v in os.environ.items() if k != "LENET_DATA_DIR"}
    env["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    here = tmp_path / "here"
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(here)], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0
    assert done.stderr.startswith(f"lenet: warning: {here} contains no file of fashion-mnist; ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("group", [[], ["data"]])
def test_without_a_command_the_help_is_printed(lenet, group):
    ended = lenet(*group)
    lines = (ended.out + ended.err).splitlines()
    assert lines[0] == f"Usage: {' '.join(['lenet', *group])} [OPTIONS] COMMAND [ARGS]..."
    assert "Commands:" in lines
    assert ended.code in (0, 2)  # with older and newer versions of click
