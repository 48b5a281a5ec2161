"""Configurations that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lenet.config.reader import load_config
from lenet.errors import ConfigError


def refused(path: Path | None, *overrides: str) -> ConfigError:
    """Return the error, having checked its form: file, one line, a remedy."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    error = caught.value
    assert error.exit_code == 2
    assert error.remedy
    assert str(error).isprintable()
    assert len(str(error)) < 400
    assert error.file == (None if (error.key or "").startswith("--set") else str(path))
    return error
