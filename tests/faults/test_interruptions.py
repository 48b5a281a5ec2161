"""Runs that are stopped, killed, or run out of disk, memory or finite numbers."""

from __future__ import annotations

import encodings.utf_8_sig  # noqa: F401 - a user without permissions may not load it
import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from command import ERROR
from faulty import (
    LINUX,
    POSIX,
    command,
    contents,
    environment,
    flipped,
    log_rows,
    process,
    running,
    same_weights,
)
from runs import children
from tiny import write_bars

from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.checkpoint.restore import read_checkpoint
from lenet.config.reader import load_config
from lenet.config.schema import Config, to_yaml
from lenet.parallel.communicator import Communicator
from lenet.parallel.process_group import ProcessGroup
from lenet.train.callbacks import Display


@POSIX
def test_a_file_size_limit_while_training(tiny, tmp_path):
    """The limit is the system's own; checkpoints of LeNet-5 have 740 KB, of this network 8."""
    output = tmp_path / "run"
    with running(tiny, output) as started:
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=20)
    before = contents(output)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))"
    # A measurement of coverage would not fit either.
    env = {k: v for k, v in environment().items() if not k.startswith("COVERAGE")}
    ended = process("train", "--output", output, "--resume", "--quiet", before=limit, env=env)
    assert (ended.code, ended.out) == (4, "")
    line = ERROR.fullmatch(ended.err)
    assert line, ended.err
    assert "File too large" in line[1]
    after = contents(output)
    assert after[output / "last.npz"] == before[output / "last.npz"]
    assert after.keys() == before.keys()  # nothing temporary
    assert read_checkpoint(output / "last.npz", resume=True).step > 0


def test_a_read_only_directory(lenet, bound_by_permissions):
    folder = bound_by_permissions
    for name in ("train.run", "cli.train", "config.strict_yaml", "data.strokes"):
        import_module(f"lenet.{name}")  # which this user may not be allowed to read
    (folder / "run.yaml").write_text(to_yaml(Config().with_values(write_bars(folder))))
    (folder / "closed").mkdir(mode=0o500)
    before = contents(folder)
    for output in (folder / "closed", folder / "closed" / "run"):
        ended = lenet("train", "--config", folder / "run.yaml", "--output", output)
        assert (ended.code, ended.out) == (4, ""), ended.err
        assert ERROR.fullmatch(ended.err)
        assert f"{output}: cannot be written to: Permission denied" in ended.err
    assert contents(folder) == before


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whom", ["main", "worker"])
def test_a_signal_saves_and_ends_within_a_few_steps(tiny, tmp_path, number, whom):
    if whom == "worker" and not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc to see processes")
    output = tmp_path / "run"
    with running(tiny, output, 2) as started:
        pids = [started.pid]
        if whom == "worker":
            pids = [
                pid
                for pid in children(started.pid)
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
        before = read_checkpoint(output / "last.npz").step
        os.kill(pids[0], number)
        _, err = started.communicate(timeout=60)
    assert before < read_checkpoint(output / "last.npz").step < before + 500
    assert started.returncode == 128 + number, err
    assert err.count("\n") == 1
    assert "--resume" in err
    assert len(log_rows(output)) == read_checkpoint(output / "last.npz", resume=True).epoch
    assert not list(output.glob(".*.part"))


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(lenet, tiny, tmp_path, monkeypatch, number):
    """Without another step, and without saving; what was saved before stays."""

    def receive_two(display, event, snapshot) -> None:
        if event.step == 11:
            signal.raise_signal(number)
            signal.raise_signal(number)
            raise AssertionError("the run goes on")

    monkeypatch.setattr(Display, "on_step", receive_two)
    ended = lenet("train", "--config", tiny, "--output", tmp_path / "run")
    assert (ended.code, ended.out) == (128 + number, "")
    assert ended.err.endswith("\nlenet: error: interrupted; the last checkpoint is complete\n")
    assert read_checkpoint(tmp_path / "run" / "last.npz", resume=True).step == 8
    assert not list(tmp_path.rglob(".*.part"))


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0, 0.1, 0.3])
def test_a_signal_to_all_processes_while_they_start(tiny, tmp_path, number, seconds):
    """Ctrl-C before there is anything to save: one line, wherever it strikes."""
    output = tmp_path / "run"
    with subprocess.Popen(
        command("train", "--config", tiny, "--output", output, "--workers", 2, "--quiet"),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    ) as started:
        while not (output / ".lock").exists():
            assert started.poll() is None
            time.sleep(0.005)
        time.sleep(seconds)
        if started.poll() is None:
            os.killpg(started.pid, number)
        _, err = started.communicate(timeout=60)
    assert "Traceback" not in err
    assert err.count("\n") <= 1
    assert not list(tmp_path.rglob(".*.part"))


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_all_is_done_changes_nothing(number):
    """Even when the interpreter ends already: the result is out, and the exit code is its own."""
    late = f"import atexit, signal; atexit.register(signal.raise_signal, {int(number)})"
    ended = process("config", before=late)
    assert (ended.code, ended.err) == (0, "")
    assert process("config", "--set", "train.epochs=0", before=late).code == 2


@POSIX
def test_kill_9_and_resume(tiny, lenet, tmp_path):
    """Old or new, the checkpoint is whole; what the killed process left is cleaned up."""
    output = tmp_path / "run"
    with running(tiny, output, 1, "--set", "train.checkpoint_every=1") as started:
        started.kill()
    (output / ".last.npz.0123456789abcdef.part").write_bytes(b"half a chec")
    (output / ".lock").touch()
    held = read_checkpoint(output / "last.npz", resume=True)
    config = load_config(output / "config.yaml").with_values({"train.epochs": held.epoch + 1})
    save_checkpoint(output / "last.npz", replace(held, config=config))
    (output / "config.yaml").write_text(to_yaml(config))
    assert lenet("train", "--output", output, "--resume", "--quiet").code == 0
    assert read_checkpoint(output / "last.npz").epoch == held.epoch + 1
    assert [row["epoch"] for row in log_rows(output)] == list(range(1, held.epoch + 2))
    assert not list(output.glob(".*.part"))


def test_the_newest_checkpoint_is_corrupt(lenet, refuses, finished, halfway):
    newest = halfway / "last.npz"
    newest.write_bytes(flipped(newest.read_bytes(), 5000))
    spoilt = newest.read_bytes()
    ended = lenet("train", "--output", halfway, "--resume", "--quiet")
    assert ended.code == 0
    assert re.fullmatch(
        rf"lenet: warning: {re.escape(str(newest))}: .*: "
        rf"resuming from {re.escape(str(halfway / 'previous.npz'))}, step 8\n",
        ended.err,
    )
    assert same_weights(halfway, finished)
    (halfway / "previous.npz").write_bytes(spoilt)
    newest.write_bytes(spoilt)
    refuses(3, "train", "--output", halfway, "--resume", words=(halfway / "previous.npz",))


@LINUX
@pytest.mark.parametrize("workers", [1, 2])
def test_out_of_memory(tiny, tmp_path, workers):
    """A limit on the address space, 24 MiB above what the program itself takes."""
    limit = """if __name__ == "__main__":
    import resource, lenet.train.run, lenet.cli.train
    taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (24 << 20),) * 2)
"""
    ended = process(
        *("train", "--config", tiny, "--output", tmp_path / "run", "--workers", workers),
        *("--set", "model.channels=[256,512]", "--set", "train.batch_size=240", "--quiet"),
        before=limit,
    )
    assert (ended.code, ended.out) == (4, ""), ended.err
    assert ended.err.startswith("lenet: error: out of memory; use a smaller train.batch_size")
    assert ended.err.count("\n") == 1
    assert contents(tmp_path) == {}


def takes_too_much(workers: Communicator, arrays: object, job: object) -> None:
    if workers.rank:
        np.empty(1 << 50)
    workers.barrier()


def test_out_of_memory_in_a_worker():
    with pytest.raises(MemoryError), ProcessGroup(2) as group:
        takes_too_much(group.start(takes_too_much, {}, None), {}, None)


def test_divergence_leaves_the_last_finite_checkpoint(refuses, halfway):
    """A run of good epochs that diverges: one step of an optimizer gone mad is enough."""
    held = read_checkpoint(halfway / "last.npz", resume=True)
    assert held.training is not None
    rng = np.random.default_rng(0)
    mad = {
        name: (1e30 * rng.normal(size=v.shape)).astype(v.dtype)
        for name, v in held.training.optimizer.items()
    }
    training = replace(held.training, optimizer=mad)
    save_checkpoint(halfway / "last.npz", replace(held, training=training))
    words = ("optimizer.lr: ", "at step 14 with learning rate", "diverged")
    refuses(5, "train", "--output", halfway, "--resume", "--quiet", words=words)
    for name in ("last.npz", "best.npz", "previous.npz"):
        read_checkpoint(halfway / name)  # which refuses what is not finite


@POSIX
def test_two_runs_in_one_directory(lenet, tiny, tmp_path):
    output = tmp_path / "run"
    train = ("train", "--config", tiny, "--output", output)
    with running(tiny, output) as first:
        for option in ("--resume", "--overwrite"):
            second = lenet(*train, option)
            assert (second.code, second.out) == (4, "")
            assert ERROR.fullmatch(second.err)
            assert f"{output}: another run is in this directory right now" in second.err
        assert first.poll() is None  # nobody waited for its end
        first.kill()
        first.wait()
    third = lenet(*train, "--overwrite", "--quiet")
    assert (third.code, third.err) == (0, "")
