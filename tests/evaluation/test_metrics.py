"""Metrics, against an example worked by hand and loops over random labels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lenet.errors import DataError
from lenet.evaluation.metrics import (
    BINS,
    Evaluation,
    calibration_error,
    confusion_matrix,
    reliability_bins,
)

# Four classes, the last never occurs and is never predicted; class 2 is never predicted.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 0], np.uint8)
PREDICTED = np.array([0, 0, 1, 0, 1, 1, 0, 0, 1, 0])
CONFUSION = [[4, 1, 0, 0], [1, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]


NAMES = ["ant", "bee", "cat", "dragonfly"]


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
    found = json.loads(json.dumps(evaluation.to_dict(NAMES)))
    assert found == {
        "schema_version": 1,
        "count": 10,
        "loss": 0.25,
        "accuracy": 0.6,
        "balanced_accuracy": (4 / 5 + 2 / 3 + 0) / 3,
        "error": 0.4,
        "calibration_error": None,
        "per_class": [
            {
                "label": 0,
                "name": "ant",
                "precision": 4 / 6,
                "recall": 4 / 5,
                "f1": 8 / 11,
                "support": 5,
            },
            {
                "label": 1,
                "name": "bee",
                "precision": 2 / 4,
                "recall": 2 / 3,
                "f1": 4 / 7,
                "support": 3,
            },
            {"label": 2, "name": "cat", "precision": None, "recall": 0.0, "f1": 0.0, "support": 2},
            {
                "label": 3,
                "name": "dragonfly",
                "precision": None,
                "recall": None,
                "f1": None,
                "support": 0,
            },
        ],
        "never_predicted": ["cat"],
        "without_images": ["dragonfly"],
        "confusion": CONFUSION,
    }
    assert evaluation.to_dict()["per_class"][2]["name"] == "2"


def test_the_table(evaluation):
    assert evaluation.to_table(NAMES).splitlines() == [
        "accuracy 60.00 %   error 40.00 % (4 of 10)   loss 0.2500",
        "balanced accuracy 48.89 %, the mean recall of the classes",
        "never predicted: cat",
        "no images: dragonfly",
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


def test_of_many_classes_the_most_frequent_mistakes_replace_the_matrix():
    rng = np.random.default_rng(0)
    confusion = np.diag(rng.integers(300, 400, 47))
    confusion[[15, 24, 1], [40, 42, 18]] = 90, 20, 30
    names = [*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"]
    evaluation = Evaluation(0.3, int(confusion.sum()), confusion)
    lines = evaluation.to_table(names).splitlines()
    assert lines[-5:] == [
        "most frequent mistakes",
        "true  predicted  images  of class",
        f"F     f              90  {100 * 90 / confusion[15].sum():6.2f} %",
        f"1     I              30  {100 * 30 / confusion[1].sum():6.2f} %",
        f"O     h              20  {100 * 20 / confusion[24].sum():6.2f} %",
    ]
    assert max(map(len, lines)) <= 80
    perfect = Evaluation(0.3, 47, np.eye(47, dtype=int))
    assert perfect.to_table(names).endswith("no mistakes")


def test_the_worst_pairs_by_sorting():
    confusion = np.random.default_rng(1).integers(0, 50, (9, 9))
    pairs = [(-confusion[t, p], t, p) for t in range(9) for p in range(9) if t != p]
    expected = [(t, p, -count) for count, t, p in sorted(pairs)[:20] if count]
    assert Evaluation(0.0, int(confusion.sum()), confusion).worst_pairs() == expected


def test_the_calibration_error_by_loops():
    """The definition of Guo et al. (2017), equations 2, 3 and 5, with 15 bins."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, 500)
    confidence[:3] = 1.0, 5 / 15, 1e-9  # the edges of bins
    correct = rng.random(500) < 0.8 * confidence
    expected = 0.0
    for b in range(15):
        inside = [i for i in range(500) if b / 15 < confidence[i] <= (b + 1) / 15]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            mean = sum(confidence[i] for i in inside) / len(inside)
            expected += len(inside) / 500 * abs(accuracy - mean)
    bins = reliability_bins(confidence, correct)
    assert bins.shape == (3, BINS)
    assert calibration_error(bins) == pytest.approx(expected, rel=1e-12)
    halves = (slice(0, 200), slice(200, None))
    parts = sum(reliability_bins(confidence[h], correct[h]) for h in halves)
    np.testing.assert_allclose(parts, bins)


def test_the_table_has_the_calibration_error():
    bins = reliability_bins(np.full(10, 0.75), LABELS == PREDICTED)
    result = Evaluation(0.25, 10, confusion_matrix(LABELS, PREDICTED, 4), bins)
    assert result.to_table().splitlines()[2] == "expected calibration error 15.00 %"
    assert result.to_dict()["calibration_error"] == pytest.approx(0.15)
