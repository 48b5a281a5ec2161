"""The strict YAML reader: what it rejects, with line and column."""

from __future__ import annotations

from itertools import pairwise

import pytest
from configurations import refused
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet.config.reader import load_config
from lenet.config.schema import Config
from lenet.config.strict_yaml import parse
from lenet.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E-3", 0.001), ("+.5", 0.5), ("1", 1.0), ("5.", 5.0), ("2.5e+1", 25.0)],
)
def test_row_3_numbers_in_every_notation(written, text, value):
    lr = load_config(written(f"optimizer:\n  lr: {text}\n")).optimizer.lr
    assert lr == value
    assert type(lr) is float


def test_words_that_are_booleans_in_yaml_1_1_are_strings(written):
    assert load_config(written("model: {fuse: off}")).model.fuse == "off"
    assert load_config(written("output: {dir: no}")).output.dir == "no"


def test_utf_8_with_a_byte_order_mark_and_other_scripts(written):
    config = load_config(written("\ufeffoutput:\n  dir: 实验/é\n"))
    assert config.output.dir == "实验/é"


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        ("train:\n  epochs: [1\nseed: 1\n", "line 3, column 5", "expected ',' or ']'"),
        ("train:\n\tepochs: 1\n", "line 2, column 1", "not with tabs"),
        ("seed: 1\n  epochs: 2\n", "line 2, column 9", "mapping values are not allowed"),
        ("seed: 'x\n", "line 2, column 1", "(while scanning a quoted scalar from line 1)"),
        ('seed: "\\UFFFFFFFF"\n', "line 1, column 10", "out of range"),
        (f"%YAML {'9' * 5000}.1\n---\nseed: 1\n", "line 1, column 7", "out of range"),
        ("? [a]\n: 1\n", "line 1, column 3", "a key must be a name"),
    ],
)
def test_row_2_syntax_with_line_and_column(written, content, place, said):
    error = refused(written(content))
    assert error.key == place
    assert said in str(error)


@pytest.mark.parametrize("text", ["'0.1'", '"0.1"', "|\n    0.1"])
def test_row_4_a_quoted_number_is_a_string(written, text):
    error = refused(written(f"optimizer:\n  lr: {text}\n"))
    assert error.key == "optimizer.lr"
    assert "the string '0.1" in error.problem
    assert "write 0.1 without quotes" in error.remedy


def test_row_5_a_duplicate_key_with_both_lines(written):
    error = refused(written("optimizer:\n  lr: 0.1\n  name: sgd\n  lr: 0.2\n"))
    assert (error.key, error.problem) == ("optimizer.lr", "is given twice, on lines 2 and 4")
    error = refused(written("train: {epochs: 1}\nseed: 1\ntrain: {epochs: 1}\n"))
    assert (error.key, error.problem) == ("train", "is given twice, on lines 1 and 3")


def test_row_11_an_integer_too_long_to_read(written):
    error = refused(written(f"seed: {'9' * 5000}"))
    assert (error.key, error.problem) == ("line 1, column 7", "a number of 5000 characters")


BILLION_LAUGHS = "a: &a [ha]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        ("train: &t {epochs: 1}\n", "line 1, column 8", "anchors"),
        ("seed: 1\ntrain: *t\n", "line 2, column 8", "aliases"),
        ("train:\n  <<: {epochs: 1}\n", "line 2, column 3", "merge keys"),
        (BILLION_LAUGHS, "line 1, column 4", "anchors"),
    ],
)
def test_row_12_anchors_aliases_merge_keys_and_the_billion_laughs(written, content, place, said):
    error = refused(written(content))
    assert error.key == place
    assert said in error.problem


@pytest.mark.parametrize(
    "content", ["a: " + "[" * 30 + "]" * 30, "[" * 60_000, "{a: " * 16_000, "- " * 30_000]
)
def test_row_13_nesting(written, content):
    assert "nested more than 20 levels" in refused(written(content)).problem


def test_row_13_size(written):
    assert "longer than 64 KiB" in refused(written("#" * (64 * 1024 + 1))).problem
    assert load_config(written("#" * (64 * 1024 - 8) + "\nseed: 1")).seed == 1
    assert "more than 2000" in refused(written(f"seed: [{'1,' * 30_000}]")).problem


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.mkdir [canary]", "!!python/name:os.system ''", "!!str 3", "!x 1"],
)
def test_row_14_tags_are_never_executed(written, tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    error = refused(written(f"seed: {tag}"))
    assert (error.key, error.problem) == ("line 1, column 7", "tags (!) are not allowed")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        (b"seed: 1\nb\xc3\xa4: \xff\n", "line 2, column 5", "not UTF-8"),
        ("seed: 1\n".encode("utf-16"), "line 1, column 1", "not UTF-8"),
        (b"seed: 1\n# a\0b\n", "line 2, column 4", "U+0000"),
        (b"seed: 1\n---\nseed: 2\n", "line 2, column 1", "second document"),
    ],
)
def test_row_15_encoding_nul_and_several_documents(written, content, place, said):
    error = refused(written(content))
    assert error.key == place
    assert said in error.problem


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="a:0-[]{}&*!|>'\"#%@`,?~<.\\ \n\t\r\ue000\x85é1e_", max_size=60))
def test_any_text_gives_a_configuration_or_a_configuration_error(text):
    said = []
    try:
        Config.from_dict({"output": parse(text)})
        load_config(None, [f"output.dir={text}"])
        load_config(None, [text])
    except ConfigError as error:
        said.append(str(error))
    assert all(line.isprintable() for line in said)
