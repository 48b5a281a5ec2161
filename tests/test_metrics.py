"""Metrics, against an example worked by hand and loops over random labels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lenet.system.errors import DataError
from lenet.training.metrics import Evaluation, confusion_matrix

# Four classes, the last never occurs and is never predicted; class 2 is never predicted.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 0], np.uint8)
PREDICTED = np.array([0, 0, 1, 0, 1, 1, 0, 0, 1, 0])
CONFUSION = [[4, 1, 0, 0], [1, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation(loss=0.25, count=10, confusion=confusion_matrix(LABELS, PREDICTED, 4))


def test_confusion_worked_by_hand(evaluation):
    assert evaluation.confusion.tolist() == CONFUSION
    assert evaluation.confusion.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.uint64])
def test_confusion_by_loops(dtype):
    rng = np.random.default_rng(3)
    labels, predicted = rng.integers(0, 47, (2, 500)).astype(dtype)
    expected = [[0] * 47 for _ in range(47)]
    for label, guess in zip(labels, predicted, strict=True):
        expected[label][guess] += 1
    found = confusion_matrix(labels, predicted, 47)
    assert found.tolist() == expected
    halves = (slice(0, 200), slice(200, None))
    assert (sum(confusion_matrix(labels[h], predicted[h], 47) for h in halves) == found).all()


def test_no_items_give_zeros():
    nothing = np.array([], np.int64)
    assert confusion_matrix(nothing, nothing, 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("labels", "predicted", "line"),
    [
        ([0, 3, 9], [0, 0, 0], "index 1: label 3 is not one of 3 classes; use data with"),
        ([0, 1, -1], [0, 0, 0], "index 2: label -1 is not one of 3 classes; use data with"),
        ([0, 1, 2], [5, 0, 0], "index 0: prediction 5 is not one of 3 classes; use data with"),
    ],
)
def test_a_label_out_of_range_is_named_with_its_index(labels, predicted, line):
    with pytest.raises(DataError, match=line):
        confusion_matrix(np.array(labels), np.array(predicted), 3)


def test_shares_worked_by_hand(evaluation):
    assert (evaluation.accuracy, evaluation.error, evaluation.mistakes) == (0.6, 0.4, 4)


def test_scores_worked_by_hand(evaluation):
    zero, one, two, three = evaluation.per_class
    assert (zero.label, zero.support) == (0, 5)
    assert (zero.precision, zero.recall) == (4 / 6, 4 / 5)
    assert zero.f1 == pytest.approx(2 * (4 / 6) * (4 / 5) / (4 / 6 + 4 / 5))
    assert (one.precision, one.recall, one.f1, one.support) == (2 / 4, 2 / 3, 4 / 7, 3)
    assert (two.precision, two.recall, two.f1, two.support) == (None, 0.0, 0.0, 2)
    assert (three.precision, three.recall, three.f1, three.support) == (None, None, None, 0)


def test_scores_by_counting():
    rng = np.random.default_rng(5)
    labels, predicted = rng.integers(0, 6, (2, 300))
    scores = Evaluation(0.0, 300, confusion_matrix(labels, predicted, 6)).per_class
    for c, score in enumerate(scores):
        pairs = [(a == c, b == c) for a, b in zip(labels, predicted, strict=True)]
        hits = pairs.count((True, True))
        precision = hits / (hits + pairs.count((False, True)))
        recall = hits / (hits + pairs.count((True, False)))
        assert score.precision == pytest.approx(precision)
        assert score.recall == pytest.approx(recall)
        assert score.f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_the_json_object(evaluation):
    found = json.loads(json.dumps(evaluation.to_dict()))
    assert found == {
        "schema_version": 1,
        "count": 10,
        "loss": 0.25,
        "accuracy": 0.6,
        "error": 0.4,
        "per_class": [
            {"label": 0, "precision": 4 / 6, "recall": 4 / 5, "f1": 8 / 11, "support": 5},
            {"label": 1, "precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7, "support": 3},
            {"label": 2, "precision": None, "recall": 0.0, "f1": 0.0, "support": 2},
            {"label": 3, "precision": None, "recall": None, "f1": None, "support": 0},
        ],
        "confusion": CONFUSION,
    }


def test_the_table(evaluation):
    assert evaluation.to_table(["ant", "bee", "cat", "dragonfly"]).splitlines() == [
        "accuracy 60.00 %   error 40.00 % (4 of 10)   loss 0.2500",
        "",
        "class       precision    recall        f1   support",
        "0 ant         66.67 %   80.00 %   72.73 %         5",
        "1 bee         50.00 %   66.67 %   57.14 %         3",
        "2 cat               -    0.00 %    0.00 %         2",
        "3 dragonfly         -         -         -         0",
        "",
        "true \\ predicted",
        "               0    1    2    3",
        "0 ant          4    1    .    .",
        "1 bee          1    2    .    .",
        "2 cat          1    1    .    .",
        "3 dragonfly    .    .    .    .",
    ]


@pytest.mark.parametrize("names", [None, ["18 characters long"] * 10])
def test_ten_classes_fit_into_80_ascii_columns(names):
    confusion = np.full((10, 10), 6_000)
    table = Evaluation(0.1, 600_000, confusion).to_table(names)
    assert max(map(len, table.splitlines())) <= 80
    assert table.isascii()
    assert table == "\n".join(line.rstrip() for line in table.splitlines())
