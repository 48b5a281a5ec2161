"""The packaged configurations by name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from configurations import refused

from lenet.cli import cli
from lenet.config import packaged
from lenet.config.packaged import CONFIGURATION, packaged_files
from lenet.config.reader import load_config
from lenet.config.schema import Config

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_file_in_configs_loads(path):
    assert load_config(path).output.dir != Config().output.dir


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_is_a_packaged_configuration(nowhere):
    assert load_config(Path("mnist")) == load_config(ROOT / "configs" / "mnist.yaml")
    assert set(packaged_files(CONFIGURATION)) == {p.stem for p in (ROOT / "configs").glob("*.yaml")}


def test_a_file_takes_precedence_over_a_name_and_a_name_over_a_directory(nowhere):
    (nowhere / "mnist").mkdir()  # as LENET_DATA_DIR has
    assert load_config("mnist").data.name == "mnist"
    (nowhere / "ci").write_text("seed: 5")
    assert load_config("ci").seed == 5
    assert "is a directory" in refused(nowhere).problem


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("mnits", "name the packaged configuration: mnist"),
        ("MNIST-fast", "name the packaged configuration: mnist-fast"),
        ("configs/ci.yaml", "name the packaged configuration: ci"),
        ("mine.yaml", "strokes"),
        ("xyz", "caffe-lenet, ci, digit-or-not, fashion-mnist"),
    ],
)
def test_a_name_that_there_is_not_lists_those_that_there_are(nowhere, path, said):
    error = refused(Path(path))
    assert said in error.remedy
    assert error.file == path


def test_an_installed_package_contains_the_configurations(tmp_path, monkeypatch):
    """The wheel's files are those that the package looks for."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    assert build["build"]["targets"]["wheel"]["force-include"] == {"configs": "lenet/configs"}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "only.yaml").write_text("# One line.\nseed: 7\n")
    monkeypatch.setattr(packaged, "files", lambda _: tmp_path)
    assert load_config("only").seed == 7
    assert packaged.descriptions() == {"only": "One line."}


def test_the_list_has_a_sentence_about_each():
    lines = CliRunner().invoke(cli, ["config", "--list"]).output.splitlines()
    assert len(lines) == len(list((ROOT / "configs").glob("*.yaml")))
    assert all(line.endswith(".") and len(line) <= 100 for line in lines)
