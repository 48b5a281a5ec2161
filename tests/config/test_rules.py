"""What keys accept, and the error for what they reject."""

from __future__ import annotations

import pytest
from configurations import refused

from lenet.config.sections import Train


@pytest.mark.parametrize("value", [1, 500, "30s", None])
def test_checkpoint_every_is_steps_seconds_or_null(value):
    assert Train(checkpoint_every=value).checkpoint_every == value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("train: {epochs: true}", "is true"),
        ("train: {epochs: 8.0}", "is 8.0"),
        ("train: {epochs: null}", "is null"),
        ("train: {epochs: [8]}", "is [8]"),
        ("train: {epochs: {a: 1}}", "is a section"),
        ("optimizer: {lr: false}", "is false"),
        ("optimizer: {lr: 2024-01-01}", "is the string '2024-01-01'"),
        ("optimizer: {name: 3}", "must be sgd, nesterov, adam, adamw or muon, is 3"),
        ("optimizer: {name: nestrov}", "did you mean nesterov?"),
        ("output: {dir: 3}", "put it in quotes"),
        ("output: {dir: ''}", "is the string ''"),
        ('output: {dir: "a\\0b"}', "is the string"),
        ('output: {dir: "\\uD800"}', "is the string"),
        ("model: {channels: [6]}", "a list of two values"),
        ("model: {channels: [6, 16, 26, 36]}", "is a list of 4"),
        ("model: {channels: [6, true]}", "is [6, true]"),
        ("train: 3", "must be a section"),
        ("train: {workers: atuo}", "did you mean auto?"),
        ("train: {checkpoint_every: 30 s}", "is the string '30 s'"),
    ],
)
def test_row_7_the_wrong_type(written, content, said):
    assert said in str(refused(written(content)))


@pytest.mark.parametrize("text", ["0", "-0.1", ".nan", "nan", ".inf", "-.INF", "1e999", "1000"])
def test_row_8_an_invalid_learning_rate(written, text):
    error = refused(written(f"optimizer: {{lr: {text}}}"))
    assert error.key == "optimizer.lr"
    assert "> 0 and < 1000" in error.problem


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("train.batch_size", ["0", "-64", "65537"]),  # row 9
        ("train.epochs", ["0", "-1", "100001", "9" * 99]),  # row 11
        ("seed", ["-1", str(2**63), "1_000", "012", "0x10"]),
        ("train.workers", ["0", "-2", "1.5"]),
        ("train.average", ["1", "-0.1"]),
        ("train.block", ["0"]),
        ("augment.rotation", ["-1", "181"]),
        ("augment.shift", ["15"]),
        ("augment.scale", ["0.5"]),
        ("augment.elastic_sigma", ["0", "15"]),
        ("model.input_size", ["27"]),
        ("schedule.peak", ["0", "1"]),
    ],
)
def test_rows_9_and_11_out_of_range(key, values):
    for value in values:
        assert refused(None, f"{key}={value}").key == f"--set {key}"
