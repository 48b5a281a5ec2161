"""The log of a run: read whole or refused, and the best epoch found in it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from lenet.errors import DataError
from lenet.train.events import EpochEvent
from lenet.train.log import best_epoch, read_log


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
