"""Fixtures of all tests: the directory of real data, if there is one; an unprivileged user."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Ended

# One BLAS thread, before NumPy is imported: the networks are too small for more, and the bits of a
# product vary with their number.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def signals_heard() -> None:
    """As at the start of a process in the foreground.

    The command line, called in this process, leaves them ignored, as it ends its process; and a
    shell that runs the tests in the background has them begin with Ctrl-C ignored.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture
def lenet(capsys):
    """Call the command line in this process; the streams are no terminal."""
    from lenet.cli import main

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return Ended(end.value.code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The directory that holds ``mnist/``; tests that need it are skipped where it is missing."""
    named = os.environ.get("LENET_DATA_DIR")
    if not named or not (Path(named) / "mnist").is_dir():
        pytest.skip("MNIST is not here: set LENET_DATA_DIR to a directory with mnist/ in it")
    return Path(named).resolve()


@pytest.fixture
def bound_by_permissions() -> Iterator[Path]:
    """A directory, and a user for whom permissions count, which for the superuser they do not."""
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has other permissions")
    superuser = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if superuser:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            if not os.access(folder, os.W_OK, effective_ids=True):
                pytest.skip("the directory for temporary files is closed to other users")
            yield folder
            folder.chmod(0o700)
        finally:
            if superuser:
                os.seteuid(0)
