"""Outputs that are inputs, under any name, are refused before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from lenet.cli.options import refuse_inputs


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("a.png", "folder/b.png"):
        (tmp_path / name).write_bytes(b"x")
    os.link("a.png", "hard.png")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "given"),
    [
        ("a.png", "a.png"),
        ("./folder/../a.png", "a.png"),
        ("hard.png", "a.png"),
        ("folder/b.png", "folder"),  # one of the files in it
        ("new.png", "new.png"),  # of which neither exists
    ],
)
def test_an_output_that_is_an_input_is_refused(place, output, given):
    with pytest.raises(click.UsageError, match=r"--out would overwrite .* read as IMAGE"):
        refuse_inputs({"--out": Path(output)}, {"IMAGE": Path(given)})
    absolute = {"IMAGE": place / given}
    with pytest.raises(click.UsageError):
        refuse_inputs({"--out": Path(output)}, absolute)


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_to_an_input_is_refused(place):
    (place / "link.png").symlink_to(place / "a.png")
    with pytest.raises(click.UsageError):
        refuse_inputs({"--out": Path("link.png")}, {"IMAGE": Path("a.png")})


def test_two_outputs_in_one_file_are_refused(place):
    with pytest.raises(click.UsageError, match=r"--junit would overwrite .* written as --markdown"):
        refuse_inputs({"--markdown": Path("o"), "--junit": place / "o"}, {})


def test_other_files_are_written(place):
    inputs = {"IMAGE": Path("a.png"), "DIR": Path("folder"), "none": None}
    refuse_inputs({"--out": Path("folder/new.png"), "--plot": Path("b.png"), "--x": None}, inputs)


def test_the_gate_does_not_overwrite_its_baseline(lenet, place):
    (place / "b.json").write_text("{}")
    ended = lenet("regress", "--baseline", "b.json", "--junit", "./b.json")
    assert ended.code == 2
    assert "--junit would overwrite b.json, which is read as --baseline" in ended.err
    assert (place / "b.json").read_text() == "{}"
