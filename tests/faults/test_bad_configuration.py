"""Configurations that cannot be used: one line, exit code 2, nothing changed."""

from __future__ import annotations

import pytest

BILLION = "a: &a [ha]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in ("ab", "bc", "cd"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(content, words, id=f"{row} {words[0]}")
        for row, content, *words in [
            (1, b"", "is empty"),
            (1, b"- seed\n", "top level"),
            (2, b"train:\n  epochs: [1\nseed: 1\n", "line 3, column 5"),
            (4, b"optimizer:\n  lr: '0.1'\n", "optimizer.lr", "without quotes"),
            (5, b"seed: 1\ntrain: {epochs: 1}\nseed: 2\n", "seed: ", "lines 1 and 3"),
            (6, b"optimizer: {momentun: 1}", "did you mean optimizer.momentum?"),
            (6, b"model: {lr: 1}", "did you mean optimizer.lr, in section optimizer?"),
            (7, b"train: {epochs: [8]}", "train.epochs"),
            (7, b"train: {epochs: true}", "train.epochs: ", "true"),
            *((8, f"optimizer: {{lr: {lr}}}".encode(), "optimizer.lr") for lr in (0, -1, ".nan")),
            (8, b"optimizer: {lr: .inf}", "optimizer.lr"),
            (9, b"train: {batch_size: 0}", "train.batch_size"),
            (9, b"train: {batch_size: -64}", "train.batch_size"),
            (11, b"train: {epochs: 0}", "train.epochs"),
            (11, b"train: {epochs: " + b"9" * 50 + b"}", "train.epochs"),
            (11, b"seed: -1", "seed"),
            (12, BILLION.encode(), "anchors", "line 1, column 4"),
            (12, b"seed: 1\ntrain: *t\n", "aliases", "line 2, column 8"),
            (12, b"train:\n  <<: {epochs: 1}\n", "merge keys", "line 2, column 3"),
            (13, b"a: " + b"[" * 30 + b"]" * 30, "nested more than 20 levels"),
            (13, b"#" * 70_000, "longer than 64 KiB"),
            (14, b"seed: !!python/object/apply:os.mkdir [canary]", "tags"),
            (15, b"seed: 1\n# \xff\n", "not UTF-8", "line 2, column 3"),
            (15, b"seed: 1\n# \0\n", "U+0000", "line 2, column 3"),
            (15, b"seed: 1\n---\nseed: 2\n", "second document", "line 2, column 1"),
        ]
    ],
)
def test_a_wrong_configuration_is_refused(refuses, tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    line = refuses(2, "train", "--config", file, words=words)
    assert line.startswith(f"{file}: ")
    assert list(tmp_path.iterdir()) == [file]  # and no directory, of a run or of the tag's


def test_configuration_missing_or_a_directory(refuses, tmp_path):
    refuses(2, "train", "--config", tmp_path / "none", words=(tmp_path / "none", "does not exist"))
    refuses(2, "train", "--config", tmp_path, words=(tmp_path, "is a directory"))


def test_a_number_as_people_write_it(lenet, tmp_path):
    (tmp_path / "run.yaml").write_text("optimizer:\n  lr: 1e-3\n")
    ended = lenet("config", "--config", tmp_path / "run.yaml")
    assert (ended.code, ended.err) == (0, "")
    assert "  lr: 0.001\n" in ended.out


def test_a_batch_larger_than_the_data(refuses, tiny, tmp_path):
    train = ("train", "--config", tiny, "--output", tmp_path / "run")
    words = ("train.batch_size", "is 241, but there are 240 images", "at most 240")
    refuses(2, *train, "--set", "train.batch_size=241", words=words)
