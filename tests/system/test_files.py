"""Opening regular files only, and the errors of reading."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from lenet.errors import DataError, ImageError, SystemFailure
from lenet.system.files import open_regular, reading


def opened(path: Path, **options: str) -> bytes:
    with open_regular(path, DataError, **options) as file:
        return file.read()


def test_a_regular_file_is_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert opened(tmp_path / "file") == opened(tmp_path / "link") == b"content"


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        opened(tmp_path / "nowhere")


def test_the_error_is_of_the_class_and_with_the_remedy_of_the_caller(tmp_path):
    with pytest.raises(ImageError) as caught, open_regular(tmp_path, ImageError):
        pass
    assert str(caught.value) == f"{tmp_path}: is a directory; name a regular file"
    with pytest.raises(DataError, match="name one of its files"):
        opened(tmp_path, remedy="none", directory_remedy="name one of its files")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.parametrize("replaced", [False, True])
def test_a_fifo_is_refused_without_waiting_for_its_writer(tmp_path, monkeypatch, replaced):
    """Also one that takes the place of a regular file between the check and the opening."""
    os.mkfifo(tmp_path / "fifo")
    errors: list[DataError] = []

    def read() -> None:
        with pytest.raises(DataError) as caught:
            opened(tmp_path / "fifo", remedy="choose a file")
        errors.append(caught.value)

    if replaced:
        regular = Path(__file__).stat()
        monkeypatch.setattr(os, "stat", lambda *_, **__: regular)
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert [(e.problem, e.remedy) for e in errors] == [
        ("is a pipe, socket or device", "choose a file")
    ]


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_device_is_refused():
    with pytest.raises(DataError, match="is a pipe, socket or device"):
        opened(Path("/dev/zero"))


def test_errors_of_reading_are_those_of_the_caller_or_of_the_system(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "nowhere", tmp_path / "file" / "below"):
        with (
            pytest.raises(ImageError, match=r": there is no such file; check the path$"),
            reading(path, ImageError),
        ):
            path.read_bytes()
    with (
        pytest.raises(SystemFailure, match=r"^a: cannot be read: Input/output error; check its"),
        reading(Path("a"), ImageError),
    ):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(DataError, match=r"^other; remedy$"), reading(Path("a"), ImageError):
        raise DataError("other", remedy="remedy")
