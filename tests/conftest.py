"""What every test shares: the directory of real data, where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The directory that holds ``mnist/``; tests that need it are skipped where it is missing."""
    named = os.environ.get("LENET_DATA_DIR")
    if not named or not (Path(named) / "mnist").is_dir():
        pytest.skip("MNIST is not here: set LENET_DATA_DIR to a directory with mnist/ in it")
    return Path(named).resolve()
