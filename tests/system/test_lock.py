"""One process at a time in a directory; file systems without locks."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from lenet.config.schema import Config
from lenet.errors import SystemFailure
from lenet.system import lock
from lenet.system.lock import LOCK_FILE, lock_directory
from lenet.train.run import run_training


def locked(directory: Path, warnings: list[str]):
    return lock_directory(directory, user="another run", warn=warnings.append)


def lock_and_wait(directory: Path, connection) -> None:
    with locked(directory, []):
        connection.send("locked")
        connection.recv()


def test_a_directory_is_made_locked_and_cleaned(tmp_path):
    directory, warnings = tmp_path / "a" / "b", []
    directory.mkdir(parents=True)
    (directory / ".last.npz.0123456789abcdef.part").touch()
    with locked(directory, warnings):
        assert [path.name for path in directory.iterdir()] == [LOCK_FILE]
    with locked(directory, warnings):  # it was released
        pass
    assert warnings == []


def test_a_second_process_is_refused(tmp_path):
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=lock_and_wait, args=(tmp_path, there), daemon=True
    )
    process.start()
    assert here.recv() == "locked"
    with pytest.raises(SystemFailure) as caught:
        locked(tmp_path, [])
    assert str(caught.value) == (
        f"{tmp_path}: another run is in this directory right now; wait for it or choose another "
        "--output"
    )
    here.send("end")
    process.join(60)
    locked(tmp_path, []).close()


def answers(monkeypatch, number: int) -> None:
    """Let the system answer with an error whenever a file is to be locked."""

    def refuse(_file: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock, "lock", refuse)


@pytest.mark.parametrize("name", ["EAGAIN", "EWOULDBLOCK", "EACCES", "EDEADLK"])
def test_busy_is_the_error_of_a_lock_that_another_process_has(tmp_path, monkeypatch, name):
    answers(monkeypatch, getattr(errno, name))
    with pytest.raises(SystemFailure, match="another run is in this directory right now"):
        locked(tmp_path, [])


@pytest.mark.parametrize(
    "name",
    ["ENOLCK", "EOPNOTSUPP", "ENOTSUP", "ENOSYS", "EINVAL", "EBADF", "EIO", "ESTALE", "EPERM"],
)
def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, name):
    number, warnings = getattr(errno, name), []
    answers(monkeypatch, number)
    (tmp_path / ".last.npz.0123456789abcdef.part").touch()
    locked(tmp_path, warnings).close()
    assert warnings == [
        f"{tmp_path}: cannot be locked on this file system ({os.strerror(number)}); make sure that "
        "nothing else writes there"
    ]
    assert list(tmp_path.glob(".*.part"))  # another process may be writing it


def test_a_run_trains_on_a_file_system_without_locks(tmp_path, monkeypatch):
    answers(monkeypatch, errno.ENOLCK)
    values = {"data.limit": 100, "data.validation": 0, "train.epochs": 1, "train.workers": 1}
    config = Config().with_values({**values, "output.dir": str(tmp_path / "run")})
    warnings: list[str] = []
    run_training(config, warn=warnings.append)
    assert (tmp_path / "run" / "last.npz").exists()
    assert [line for line in warnings if "cannot be locked on this file system" in line] == warnings
    assert len(warnings) == 1


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemFailure, match="cannot be written to: Not a directory"):
        locked(tmp_path / "file" / "run", [])
