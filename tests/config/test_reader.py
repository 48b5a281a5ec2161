"""Reading a configuration: files and overrides, and the errors of both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from configurations import refused

from lenet.config.reader import load_config
from lenet.config.schema import Config, differences
from lenet.errors import ConfigError, SystemFailure


def test_no_file_is_the_default_configuration():
    config = load_config(None)
    assert config == Config()
    assert (config.data.name, config.optimizer.lr, config.model.channels) == (
        "strokes",
        0.05,
        (6, 16),
    )


def test_a_file_states_what_differs(written):
    config = load_config(written("train:\n  epochs: 3\nmodel: {channels: [4, 8]}\noutput:\n"))
    assert differences(config, Config()) == ["model.channels", "train.epochs"]
    assert config.model.channels == (4, 8)


def test_overrides_replace_values_of_the_file_and_the_last_one_is_used(written):
    config = load_config(
        written("seed: 1\noptimizer: {lr: 1}"),
        ["optimizer.lr=0.5", "optimizer.lr=1e-3", "model.units=[30, 20]", "output.dir=a=b"],
    )
    assert (config.seed, config.optimizer.lr, config.model.units) == (1, 0.001, (30, 20))
    assert config.output.dir == "a=b"


def test_an_override_can_set_null_and_correct_an_error_of_the_file(written):
    config = load_config(written("data: {limit: -1}"), ["data.limit=null"])
    assert config.data.limit is None


@pytest.mark.parametrize(
    ("override", "key", "said"),
    [
        ("optimizer.lr", "--set optimizer.lr", "has no value"),
        ("", "--set", "has no value"),
        ("optimizer=sgd", "--set optimizer", "is a section"),
        ("optimizer.lr=-1", "--set optimizer.lr", "> 0 and < 1000, is -1"),
        ("optimizer.lr='0.1'", "--set optimizer.lr", "write 0.1 without quotes"),
        ("optimizer.lr=", "--set optimizer.lr", "is null"),
        ("optimizer.lr={a: 1}", "--set optimizer.lr", "is a section"),
        ("model.channels=[4", "--set model.channels", "not YAML"),
        ("optimizer.lr=*a", "--set optimizer.lr", "anchors"),
        ("lr=1", "--set lr", "did you mean optimizer.lr"),
        ("optimiser.lr=1", "--set optimiser.lr", "did you mean optimizer?"),
    ],
)
def test_a_bad_override(override, key, said):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert caught.value.key == key
    assert caught.value.file is None
    assert said in str(caught.value)


def test_an_error_of_the_file_is_not_reported_for_an_override(written):
    path = written("optimizer: {lr: 1, lr: 2}")
    assert refused(path, "optimizer.lr=0.1").key == "optimizer.lr"


def test_row_1_missing_directory_empty_not_a_mapping(tmp_path, written):
    assert "does not exist" in refused(tmp_path / "none.yaml").problem
    assert "does not exist" in refused(written("seed: 1") / "below").problem
    assert "is a directory" in refused(tmp_path).problem
    for content in ("", "# a comment\n", "---\n", "null"):
        assert "is empty" in refused(written(content)).problem
    for content, kind in (
        ("- seed", "list"),
        ("seed", "string"),
        ("3", "number"),
        ("true", "boolean"),
    ):
        error = refused(written(content))
        assert "top level" in error.problem
        assert kind in error.problem


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_row_42_a_pipe_is_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe, socket or device" in refused(tmp_path / "pipe").problem
    assert "is a pipe, socket or device" in refused(Path(os.devnull)).problem


def test_a_path_that_the_system_refuses(tmp_path):
    assert "cannot be read" in refused(Path("a\0b")).problem


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file"
)
def test_a_file_without_read_permission_is_an_environment_error(written):
    path = written("seed: 1")
    path.chmod(0)
    with pytest.raises(SystemFailure, match="cannot be read: no permission"):
        load_config(path)
