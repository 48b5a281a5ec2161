"""``lenet.sklearn.LeNetClassifier``: scikit-learn's own checks, and its tools around it."""

# ruff: noqa: E402
from __future__ import annotations

import pickle
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import joblib
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from lenet.sklearn import LeNetClassifier

pytestmark = [
    pytest.mark.filterwarnings("ignore:accuracy is .* which is chance"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
]
FAST = [{"type": "linear", "units": 10}]
PLAIN = {"augment.shift": 0, "augment.rotation": 0, "augment.scale": 0}


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


@parametrize_with_checks([LeNetClassifier()])  # no check is expected to fail
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_five_folds_of_the_digits(digits):
    """At least 98 %, as docs/api.md says."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    accuracies = cross_val_score(LeNetClassifier(random_state=0), *digits, cv=folds)
    assert accuracies.mean() >= 0.98


def fast(**options: object) -> LeNetClassifier:
    return LeNetClassifier(FAST, epochs=20, settings=PLAIN, random_state=0, **options)


def test_a_search_with_two_processes(digits):
    X, y = digits
    search = GridSearchCV(fast(), {"lr": [1e-6, 0.02]}, cv=2, n_jobs=2).fit(X[:400], y[:400])
    assert search.best_params_ == {"lr": 0.02}
    assert search.score(X[400:800], y[400:800]) > 0.8


def test_a_pipeline_and_calibration(digits):
    X, y = digits
    pipeline = make_pipeline(StandardScaler(), fast())
    calibrated = CalibratedClassifierCV(pipeline, cv=3).fit(X[:600], y[:600])
    assert calibrated.score(X[600:900], y[600:900]) > 0.8
    np.testing.assert_allclose(calibrated.predict_proba(X[:9]).sum(axis=1), 1)


def test_copies(digits):
    X, y = digits
    made = fast(image_shape=(8, 8)).fit(X[:300], y[:300])
    stream = BytesIO()
    joblib.dump(made, stream)
    stream.seek(0)
    expected = made.predict_proba(X)
    for same in (pickle.loads(pickle.dumps(made)), joblib.load(stream)):
        np.testing.assert_array_equal(same.predict_proba(X), expected)
    again = clone(made)
    assert again.get_params() == made.get_params()
    assert not hasattr(again, "model_")
    np.testing.assert_array_equal(again.fit(X[:300], y[:300]).predict_proba(X), expected)


def test_labels_of_any_type(digits):
    X, y = digits[0][:300], digits[1][:300]
    names = np.array([f"digit {k}" for k in y], object)
    by_name = fast().fit(X, names)
    assert by_name.classes_[3] == "digit 3"
    by_number = fast().fit(X, y * 10 - 7)
    assert (by_name.predict(X) == [f"digit {(k + 7) // 10}" for k in by_number.predict(X)]).all()
    assert by_number.score(X, y * 10 - 7) > 0.9


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (4, 16), (4, 8, 2)])
def test_images_and_their_rows_are_the_same(digits, shape):
    X, y = digits[0][:200], digits[1][:200]
    rows = fast(image_shape=shape).fit(X, y)
    images = fast().fit(X.reshape(-1, *shape), y)
    np.testing.assert_array_equal(
        rows.predict_proba(X), images.predict_proba(X.reshape(-1, *shape))
    )
    assert rows.n_features_in_ == images.n_features_in_ == 64


def test_the_levels_of_bytes_are_as_they_are():
    rng = np.random.default_rng(0)
    X, y = rng.integers(50, 200, (40, 14, 14), np.uint8), np.arange(40) % 2
    model = LeNetClassifier(epochs=1, random_state=0).fit(X, y).model_
    assert [p.name for p in model.network.parameter_list[::2]][:2] == ["C1.weight", "C3.weight"]
    assert model.preprocessing.shift == pytest.approx(-X.mean() / X.std())


def test_what_does_not_fit_is_refused(digits):
    X, y = digits
    with pytest.raises(ValueError, match=r"image_shape is \(5, 5\), but X has 64 features"):
        LeNetClassifier(image_shape=(5, 5)).fit(X, y)
    with pytest.raises(TypeError, match="sample_weight"):
        fast().fit(X, y, sample_weight=np.ones(len(y)))


def test_without_scikit_learn_the_extra_is_named():
    code = """
import sys
class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "sklearn":
            raise ModuleNotFoundError("missing", name="sklearn")
sys.meta_path.insert(0, Missing)
import lenet.sklearn
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is not installed; pip install 'lenet[sklearn]'" in done.stderr
