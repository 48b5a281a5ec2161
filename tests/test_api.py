"""The public API: what ``lenet`` exports, that it loads late, and that docs/api.md is true."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import lenet
from lenet.data.preprocessing import Preprocessing
from lenet.data.strokes import draw
from lenet.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = {"onnx": "onnx", "matplotlib": "plot", "sklearn": "sklearn"}
EXPORTED = [
    "Config",
    "Evaluation",
    "History",
    "LenetError",
    "Model",
    "Network",
    "SoftmaxCrossEntropy",
    "__version__",
    "check_layer",
    "col2im",
    "evaluate",
    "im2col",
    "lenet5",
    "lenet5_layers",
    "load",
    "load_config",
    "load_data",
    "make_optimizer",
    "output_size",
    "prepare",
    "register_layer",
    "run_training",
    "train_step",
]


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_exports_exactly_these_names():
    assert sorted(lenet.__all__) == EXPORTED
    assert set(EXPORTED) <= set(dir(lenet))
    for name in EXPORTED:
        assert getattr(lenet, name) is not None


def test_type_checkers_see_the_names_where_they_are():
    tree = ast.parse((ROOT / "lenet" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {a.name: n.module for n in block.body for a in n.names}
    assert declared == lenet._MODULES


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'lenet' has no attribute 'nothing'"):
        _ = lenet.nothing


def test_importing_the_package_is_light():
    modules = run("import sys, lenet; print(*sys.modules)").split()
    assert "lenet" in modules
    assert not [m for m in modules if m.startswith(("numpy", "scipy", "tqdm", "yaml", "lenet."))
                and m != "lenet.version"]  # fmt: skip


def test_the_patch_matrix_loads_no_scipy_and_no_data_code():
    modules = run("import sys; from lenet import im2col, lenet5, train_step; print(*sys.modules)")
    assert not [m for m in modules.split() if m.startswith("scipy")]


@pytest.mark.parametrize(
    "first",
    [
        "import lenet.nn.im2col",
        "from lenet.nn.im2col import pad",
        "import lenet.models.lenet5",
        "pass",
    ],
)
def test_im2col_is_the_function_whatever_was_imported_before(first):
    assert run(f"{first}\nfrom lenet import im2col; print(im2col.__name__)") == "im2col\n"


def test_data_by_name(mnist_dir):
    found = lenet.load_data("mnist", "test", directory=mnist_dir)
    assert found.images.shape == (10_000, 28, 28)
    assert found.labels[:4].tolist() == [7, 2, 1, 0]  # as everybody knows
    assert found.class_names == tuple("0123456789")


def test_data_of_an_unknown_name():
    with pytest.raises(lenet.LenetError, match="emnist"):
        lenet.load_data("emnist")


def test_the_page_shows_every_name():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in EXPORTED if not re.search(rf"\b{name}\b", page)] == []


def test_the_page_runs():
    """The examples of an extra that is not installed, and what they leave, are left out."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(page, {}, "api.md", "docs/api.md", 0)
    missing = [name for extra, name in EXTRAS.items() if find_spec(extra) is None]
    test.examples = [
        example
        for example in test.examples
        if not any(name in example.source for name in (*missing, *["iterdir"][: len(missing)]))
    ]
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.attempted > 60
    assert result.failed == 0


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (1, 28, 28), (1, 1, 28, 28), (1, 784)])
def test_one_image_is_one_whatever_its_unit_axes(shape):
    image = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    np.testing.assert_array_equal(lenet.prepare(image.reshape(shape)), lenet.prepare(image[None]))


@pytest.mark.parametrize("shape", [(28, 28, 3), (2, 28, 28, 3), (2, 3, 28, 28)])
def test_colour_images_do_not_fit_a_grey_network(shape):
    with pytest.raises(DataError, match="images: images with 3 channels do not fit"):
        lenet.prepare(np.zeros(shape, np.uint8))
    colour = Preprocessing((3, 32, 32))
    assert lenet.prepare(np.zeros(shape, np.uint8), colour).shape == (
        max(1, shape[0] % 28),
        3,
        32,
        32,
    )


def test_data_by_path(tmp_path):
    images, labels = draw(50, seed=0)
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    found = lenet.load_data(tmp_path / "mine.npz", "test")
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, labels)
    with pytest.raises(
        ConfigError,
        match="there is no data set mine; choose one of mnist",
    ):
        lenet.load_data("mine")
