"""What differs on Windows and macOS, simulated: missing modules, other locks, short names.

docs/platforms.md lists what was checked how.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from tiny import write_bars

from lenet.config.schema import Config, to_yaml
from lenet.errors import SystemFailure
from lenet.parallel import process_group
from lenet.parallel.process_group import ProcessGroup
from lenet.system import files, lock

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def windows(monkeypatch):
    """The modules of this package that distinguish systems, as on Windows."""
    for module in (files, lock, process_group):
        monkeypatch.setattr(module, "sys", SimpleNamespace(platform="win32"))
    locked: set[tuple[int, int]] = set()
    msvcrt = ModuleType("msvcrt")
    msvcrt.LK_NBLCK = 2

    def locking(descriptor: int, mode: int, count: int) -> None:
        """Lock bytes from the position of the descriptor on, as the system does."""
        assert (mode, count) == (msvcrt.LK_NBLCK, 1)
        place = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        if place in locked:
            raise PermissionError(13, "Permission denied")
        locked.add(place)

    msvcrt.locking = locking
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    return locked


def test_windows_locks_one_byte_behind_the_content(windows, tmp_path):
    """Others can read the content, and a file that has grown is still locked."""
    with (tmp_path / "part").open("a+b") as file:
        lock.lock(file)
        file.write(b"received")
        file.flush()
        with (tmp_path / "part").open("a+b") as second, pytest.raises(PermissionError):
            lock.lock(second)
        assert [place for _, place in windows] == [2**31 - 2]
        assert (tmp_path / "part").read_bytes() == b"received"


def test_a_directory_in_use_on_windows(windows, tmp_path):
    with lock.lock_directory(tmp_path, user="another run", warn=pytest.fail):
        pass
    with pytest.raises(SystemFailure, match="another run is in this directory right now"):
        lock.lock_directory(tmp_path, user="another run", warn=pytest.fail)


@pytest.mark.parametrize("times", [0, 1, 5])
def test_windows_replaces_a_file_once_other_programs_have_closed_it(
    windows, tmp_path, monkeypatch, times
):
    refusals = refuse(monkeypatch, times)
    (tmp_path / "last.npz").write_bytes(b"old")
    with files.replacing(tmp_path / "last.npz") as file:
        file.write(b"new")
    assert (tmp_path / "last.npz").read_bytes() == b"new"
    assert next(refusals, None) is None


def test_a_file_that_stays_open_on_windows_is_one_line(windows, tmp_path, monkeypatch):
    refuse(monkeypatch, 1000)
    (tmp_path / "last.npz").write_bytes(b"old")
    with (
        pytest.raises(SystemFailure, match="cannot be written: Access is denied"),
        files.replacing(tmp_path / "last.npz") as file,
    ):
        file.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["last.npz"]


def refuse(monkeypatch, times: int):
    """Refuse to rename files so many times; return an iterator over the refusals to come."""
    replace, refusals = Path.replace, iter(range(times))

    def replaced(path: Path, target: Path) -> Path:
        if next(refusals, None) is not None:
            raise PermissionError(13, "Access is denied")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(files, "PAUSE", 0.0)
    return refusals


def test_names_of_segments_are_short_enough_for_macos(monkeypatch):
    monkeypatch.setattr(process_group.os, "getpid", lambda: 99_998)  # the highest
    names = []

    def record(name: str, size: int, what: str) -> None:
        names.append(f"/{name}-99")  # the communicator adds a number
        raise MemoryError

    monkeypatch.setattr(process_group, "create_segment", record)
    group = ProcessGroup(1)
    group.size = 2
    for create in (lambda: group.start(print, {}, None), lambda: group._vectors(group._name, 1)):
        with pytest.raises(MemoryError):
            create()
    assert len(names) == 2
    assert max(map(len, names)) <= 30


# As a system without any of the modules and functions of POSIX would run it, as far as another
# system can pretend.
WITHOUT_POSIX = """
import os, pkgutil, sys
from importlib import import_module
from types import ModuleType, SimpleNamespace

for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("geteuid", "getuid", "posix_fallocate", "sched_getaffinity", "O_NONBLOCK"):
    if hasattr(os, name):
        delattr(os, name)

import lenet
for module in pkgutil.walk_packages(lenet.__path__, "lenet."):
    if module.name not in ("lenet.__main__", "lenet.bench.jax_training"):
        import_module(module.name)
for name in ("system.files", "system.lock", "parallel.process_group", "parallel.shared_memory"):
    import_module(f"lenet.{name}").sys = SimpleNamespace(platform="win32")
sys.modules["msvcrt"] = msvcrt = ModuleType("msvcrt")
msvcrt.LK_NBLCK, msvcrt.locking = 2, lambda *_: None

from lenet.cli import main
main(["train", "--config", "config.yaml", "--output", "run", "--quiet"])
"""


def test_everything_is_imported_and_a_run_trains_without_posix(tmp_path):
    config = Config().with_values(write_bars(tmp_path) | {"train.workers": 1})
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "run" / "best.npz").exists()


def test_no_two_files_differ_only_in_the_case_of_their_names():
    names = [
        path.relative_to(ROOT).as_posix()
        for folder in ("lenet", "tests", "scripts", "docs", "configs", "examples")
        for path in (ROOT / folder).rglob("*")
        if "__pycache__" not in path.parts
    ]
    assert len({name.lower() for name in names}) == len(names)
    assert [name for name in names if set(name) & set('<>:"\\|?*') or len(name) > 100] == []
