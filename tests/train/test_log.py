"""The log of a run: read whole or refused, and the best epoch found in it."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict, replace

import pytest

from lenet.errors import DataError
from lenet.train.events import EpochEvent
from lenet.train.log import Log, best_epoch, read_log


def epoch(number, val_accuracy=None, val_loss=None):
    return EpochEvent(number, 10 * number, 0.1, 0.5, 0.9, val_loss, val_accuracy, 1.0, 1000.0)


def test_what_was_written_is_read(tmp_path):
    log = [epoch(1, 0.5, 1.0), epoch(2)]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(asdict(event)) + "\n" for event in log))
    assert read_log(path) == log


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "contains no epoch"), ('{"epoch": 1', "is damaged"), ('{"epoch": 1}', "is damaged")],
)
def test_a_damaged_log_is_refused(tmp_path, text, problem):
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=problem):
        read_log(path)
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        read_log(path)


@pytest.mark.parametrize("name", [field for field in asdict(epoch(1)) if field != "val_score"])
@pytest.mark.parametrize("value", ["x", [1], {}, True, 10**400, float("nan"), float("inf")])
def test_a_value_that_is_not_a_number_is_refused(tmp_path, name, value):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(asdict(epoch(1, 0.5, 1.0)) | {name: value}) + "\n")
    with pytest.raises(DataError, match="is damaged"):
        read_log(path)


@pytest.mark.parametrize("row", ["[" * 100_000, "5", "[1, 2]", "null", "\0", '{"x": 1}', "\u2028"])
def test_a_row_that_is_not_an_epoch_is_refused(tmp_path, row):
    path = tmp_path / "log.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(DataError, match="is damaged"):
        read_log(path)


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(DataError, match="is a pipe"):
        read_log(tmp_path / "log.jsonl")


def test_both_files_have_the_same_epochs(tmp_path):
    log, events = Log(tmp_path), [epoch(1, 0.5, 1.0), epoch(2)]
    for event in events:
        log.on_epoch(event, True, None)
    assert read_log(tmp_path / "log.jsonl") == events
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    texts = [{k: "" if v is None else str(v) for k, v in asdict(e).items()} for e in events]
    assert rows == texts
    Log(tmp_path, complete_epochs=1)
    assert read_log(tmp_path / "log.jsonl") == events[:1]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("log", "best"),
    [
        ([epoch(1)], 1),
        ([epoch(1), epoch(2), epoch(3)], 3),
        ([epoch(1, 0.8, 0.5), epoch(2, 0.9, 0.7), epoch(3, 0.85, 0.1)], 2),
        ([epoch(1, 0.9, 0.5), epoch(2, 0.9, 0.4), epoch(3, 0.9, 0.6)], 2),
        ([epoch(1, 0.9, 0.5), epoch(2, 0.9, 0.5)], 1),
        ([epoch(1, 0.0, 5.0), epoch(2, 0.0, 4.0)], 2),
    ],
)
def test_the_best_epoch(log, best):
    assert best_epoch(log).epoch == best


@pytest.mark.parametrize(("metric", "best"), [("loss", 3), ("balanced_accuracy", 1)])
def test_the_best_epoch_by_another_metric(metric, best):
    log = [epoch(1, 0.8, 0.5), epoch(2, 0.9, 0.7), epoch(3, 0.85, 0.1)]
    scores = {"loss": [0.5, 0.7, 0.1], "balanced_accuracy": [0.6, 0.5, 0.55]}[metric]
    log = [replace(event, val_score=score) for event, score in zip(log, scores, strict=True)]
    assert best_epoch(log, metric).epoch == best
