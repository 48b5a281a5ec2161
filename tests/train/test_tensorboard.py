"""Scalars for TensorBoard: read back with its own reader, and the error if it is missing."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from tiny import write_bars

from lenet.cli import main


def train(place: Path, *more: str) -> int:
    options = [p for k, v in write_bars(place).items() for p in ("--set", f"{k}={v}")]
    with pytest.raises(SystemExit) as caught:
        main(["train", *options, "--output", str(place / "run"), "--tensorboard", "--quiet", *more])
    return int(caught.value.code or 0)


def test_the_scalars_are_those_of_the_log(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert train(tmp_path) == 0
    assert train(tmp_path, "--overwrite") == 0
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()  # those of the first run are gone
    scalars = EventAccumulator(str(events))
    scalars.Reload()
    log = (tmp_path / "run" / "log.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(log.splitlines()))
    for tag, column in {
        "loss/train": "train_loss",
        "loss/validation": "val_loss",
        "accuracy/train": "train_accuracy",
        "accuracy/validation": "val_accuracy",
        "best_metric/validation": "val_score",
        "learning_rate": "lr",
        "images_per_second": "images_per_second",
    }.items():
        shown = [(event.step, event.value) for event in scalars.Scalars(tag)]
        logged = [(int(row["step"]), pytest.approx(float(row[column]), rel=1e-6)) for row in rows]
        assert shown == logged


def test_a_missing_tensorboard_is_one_line_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert train(tmp_path) == 4
    assert "pip install 'lenet[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
