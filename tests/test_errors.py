"""The classes of errors, as a program catches them."""

from __future__ import annotations

import pickle

import pytest

from lenet.checkpoint.checkpoint import load_checkpoint
from lenet.config.reader import load_config
from lenet.data.imagefile import read_array
from lenet.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ImageError,
    LenetError,
    SystemFailure,
    missing,
)


def test_a_data_error_is_a_value_error():
    assert issubclass(DataError, ValueError)


@pytest.mark.parametrize(
    ("read", "kind"),
    [(load_config, ConfigError), (load_checkpoint, CheckpointError), (read_array, ImageError)],
)
def test_a_missing_file_is_a_file_not_found_error_too(tmp_path, read, kind):
    with pytest.raises(FileNotFoundError) as caught:
        read(tmp_path / "nowhere.png")
    assert isinstance(caught.value, kind)
    assert str(caught.value).startswith(str(tmp_path / "nowhere.png"))
    assert caught.value.exit_code == kind.exit_code


@pytest.mark.parametrize("kind", [ConfigError, DataError, CheckpointError, ImageError])
def test_such_an_error_has_its_fields_and_is_pickled_with_them(kind):
    error = missing(kind)("there is no such file", remedy="check the path", file="a", key="b")
    for made in (error, pickle.loads(pickle.dumps(error))):
        assert isinstance(made, kind)
        assert isinstance(made, LenetError)
        assert isinstance(made, FileNotFoundError)
        assert str(made) == "a: b: there is no such file; check the path"


def test_other_errors_have_no_such_class():
    assert missing(SystemFailure) is SystemFailure
