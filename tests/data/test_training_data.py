"""Data of one's own from the command line: trained on, evaluated, reported; data that moved."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet.checkpoint.restore import read_checkpoint
from lenet.config.reader import load_config
from lenet.config.schema import Config
from lenet.data.catalogue import CATALOGUE
from lenet.data.formats.idx import read_idx, write_idx
from lenet.data.measure import fit_preprocessing, image_facts
from lenet.data.preprocessing import Preprocessing
from lenet.data.strokes import draw
from lenet.errors import ConfigError, DataError, WorkersUnavailable
from lenet.evaluation.images import build_distorter, load_split, training_preprocessing, with_data
from lenet.parallel.communicator import Communicator
from lenet.parallel.process_group import ProcessGroup
from lenet.train import run as run_module
from lenet.train.build import build_trainer
from lenet.train.callbacks import ChanceWarning
from lenet.train.events import Callback, EpochEvent, Snapshot, StepEvent
from lenet.train.run import run_training

OPTIONS = (
    "--set",
    "data.validation=60",
    "--set",
    "train.epochs=1",
    "--set",
    "train.batch_size=10",
    "--workers",
    "1",
    "--quiet",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("LENET_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def squares(count: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images 28×28 of a bright square in one of several places, and the places."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = np.zeros((count, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = 4 + rng.integers(0, 3), 2 + 8 * label
        image[top : top + 8, left : left + 6] = 255
    return images, labels.astype(np.uint8)


def write_folder(root: Path, names=("left", "middle", "right"), colour: bool = False) -> Path:
    for split, count, seed in (("train", 240, 1), ("test", 60, 2)):
        images, labels = squares(count, seed, len(names))
        for k, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = root / split / names[label] / f"{k}.{'ppm' if colour else 'pgm'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if colour:
                pixels = np.stack([image, 255 - image, image // 2], -1)
                path.write_bytes(b"P6 28 28 255\n" + pixels.tobytes())
            else:
                path.write_bytes(b"P5 28 28 255\n" + image.tobytes())
    return root


def write_files(root: Path, change=lambda images: images, shift: int = 0) -> Path:
    root.mkdir()
    for split, count, seed in (("train", 240, 1), ("test", 60, 2)):
        images, labels = squares(count, seed)
        write_idx(root / f"{split}-images", change(images))
        write_idx(root / f"{split}-labels", labels + np.uint8(shift))
    return root


def write_npz(path: Path) -> Path:
    (x, y), (x_test, y_test) = squares(240, 1), squares(60, 2)
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return path


def write_csv(path: Path) -> Path:
    images, labels = squares(300, 1)
    table = np.c_[labels, images.reshape(len(images), -1)]
    np.savetxt(path, table, fmt="%d", delimiter=",")
    return path


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: write_folder(Path("mine")), ("left", "middle", "right")),
        (lambda: write_files(Path("mine")), ("0", "1", "2")),
        (lambda: write_npz(Path("mine.npz")), ("0", "1", "2")),
        (lambda: write_csv(Path("mine.csv")), ("0", "1", "2")),
    ],
    ids=["folder", "idx", "npz", "csv"],
)
def test_train_evaluate_and_report(lenet, make, names):
    options = (*OPTIONS, "--set", "model.classes=3", "--set", "train.epochs=3")
    run = lenet("train", "--data", make(), *options, "--output", "run")
    assert (run.code, run.err) == (0, "")
    assert read_checkpoint("run/best.npz").class_names == names
    evaluated = lenet("eval", "run/best.npz", "--json")
    count = json.loads(evaluated.out)["count"]
    divided = Path("mine.csv").exists()  # the others have a test part
    assert 30 < count < 100 if divided else count == 60
    assert json.loads(evaluated.out)["accuracy"] > 0.9
    assert lenet("report", "run").code == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert all(name in page for name in names)
    assert "no test images" not in page


def test_class_names_of_the_configuration(lenet):
    write_files(Path("mine"))
    names = ("--set", "data.class_names=[left, middle, right]", "--set", "model.classes=3")
    assert lenet("train", "--data", "mine", *OPTIONS, *names, "--output", "run").code == 0
    assert read_checkpoint("run/best.npz").class_names == ("left", "middle", "right")
    assert "middle" in lenet("eval", "run/best.npz").out


# --- The number of classes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda: write_folder(Path("mine")), lambda: write_files(Path("mine"))]
)
def test_the_data_determine_the_number_of_classes(lenet, make):
    run = lenet("train", "--data", make(), *OPTIONS, "--output", "run")
    assert (run.code, run.err) == (0, "")
    assert load_config(Path("run/config.yaml")).model.classes == 3
    assert read_checkpoint("run/best.npz").config.model.classes == 3
    resumed = lenet("train", "--data", "mine", *OPTIONS, "--output", "run", "--resume")
    assert (resumed.code, resumed.err) == (0, "")  # without run/config.yaml, too
    assert "already complete" in resumed.out


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            ["model.classes=5"],
            "model.classes: is 5, but mine has 3 classes; set it to 3, or remove",
        ),
        (
            ["model.layers=[{type: linear, name: last, units: 4}]"],
            "model.layers: the last layer, last, gives 4 scores, but mine has 3 classes; make it",
        ),
        (
            ["model.name=lenet5-1998"],
            "model.name: lenet5-1998 has 10 outputs, not 3; choose another",
        ),
    ],
)
def test_a_network_with_another_number_of_outputs(lenet, keys, said):
    options = [part for key in keys for part in ("--set", key)]
    run = lenet(
        "train", "--data", write_folder(Path("mine")), *OPTIONS, *options, "--output", "run"
    )
    assert run.code == 2
    assert said in run.err
    assert run.err.count("\n") == 1


def test_layers_with_more_outputs_than_labels(lenet):
    """Data without names: four classes, one of them without images."""
    layers = ("--set", "model.layers=[{type: linear, units: 4}]")
    run = lenet("train", "--data", write_files(Path("mine")), *OPTIONS, *layers, "--output", "run")
    assert run.code == 0
    assert run.err == "lenet: warning: no training images of class 3\n"
    assert read_checkpoint("run/best.npz").class_names == ("0", "1", "2", "3")


def test_one_class_is_too_few(lenet):
    shutil.rmtree(write_folder(Path("mine")) / "train" / "left")
    shutil.rmtree(Path("mine/train/right"))
    run = lenet("train", "--data", "mine", *OPTIONS, "--output", "run")
    assert (run.code, run.out) == (3, "")
    assert "mine: all images are of one class, middle; add images of another class" in run.err


def test_labels_from_one_are_reported(lenet):
    write_files(Path("mine"), shift=1)
    run = lenet("train", "--data", "mine", *OPTIONS, "--set", "model.classes=3", "--output", "run")
    assert run.code == 3
    assert "train-labels" in run.err
    assert "subtract 1 from them, or set model.classes to 4" in run.err


@pytest.mark.parametrize("keys", [[], ["--set", "model.classes=4"]])
def test_a_class_without_images_is_reported(lenet, keys):
    write_files(Path("mine"), shift=1)
    run = lenet("train", "--data", "mine", *OPTIONS, *keys, "--output", "run")
    assert run.code == 0
    assert run.err == (
        "lenet: warning: no training images of class 0: the labels seem to begin at 1; subtract 1 "
        "from them, or leave them so, with an unused class (model.classes 4)\n"
    )


class NoWorkers(ProcessGroup):
    """One without a second process, which has no room for shared memory."""

    def __init__(self, size: int) -> None:
        super().__init__(1)
        self.wanted = size

    def start(self, *work: Any) -> Communicator:
        if self.wanted > 1:
            raise WorkersUnavailable("no room", remedy="make some")
        return super().start(*work)


def test_where_a_second_worker_cannot_be_had_remarks_are_made_once(monkeypatch):
    write_files(Path("mine"), shift=1)
    remove("mine/test-labels")
    monkeypatch.setattr(run_module, "ProcessGroup", NoWorkers)
    monkeypatch.setattr(run_module, "choose_workers", lambda *_: 2)
    said: list[str] = []
    keys = ["data.name=idx", "data.path=mine", "data.validation=60", "train.epochs=1"]
    run_training(load_config(None, keys), warn=said.append)
    assert [line.split(":")[0] for line in said] == [
        "no training images of class 0",
        "no usable test images",
        "training with one worker instead of 2",
    ]


def test_labels_from_one_for_a_network_that_counts_from_zero(lenet):
    lenet("train", "--data", write_files(Path("mine")), *OPTIONS, "--output", "run")
    ended = lenet("eval", "run/best.npz", "--data", write_files(Path("one"), shift=1))
    assert ended.code == 2
    assert "subtract 1 from the labels, which seem to begin at 1" in ended.err


def test_pictures_are_scaled_to_the_size_of_the_training_images(lenet):
    write_folder(Path("mine"))
    size = ("--set", "data.size=[14,14]")
    assert lenet("train", "--data", "mine", *OPTIONS, *size, "--output", "small").code == 0
    assert lenet("train", "--data", "mine", *OPTIONS, "--output", "run").code == 0
    assert read_checkpoint("small/best.npz").images.shape == (1, 14, 14)
    for name in ("left", "middle", "right"):
        Path("other", name).mkdir(parents=True)
        for k in range(5):
            Path("other", name, f"{k}.pgm").write_bytes(b"P5 60 50 255\n" + bytes(3000))
        Path("other", name, "9.pgm").write_bytes(b"P5 70 50 255\n" + bytes(3500))
    null = ("--set", "data.size=null")
    assert "set data.size to auto" in lenet("data", "check", "other", *null).err
    for name in ("run", "small"):
        assert lenet("eval", f"{name}/best.npz", "--data", "other").code == 0


def test_the_number_of_validation_images_of_a_small_set(lenet):
    """A fifth; with the same number, the same bits."""
    write_files(Path("mine"))
    options = ("--set", "train.epochs=1", "--set", "train.batch_size=10", "--workers", "1")
    for name, keys in (("a", ()), ("b", ("--set", "data.validation=48"))):
        run = lenet("train", "--data", "mine", *options, *keys, "--quiet", "--output", name)
        assert run.code == 0
    a, b = (read_checkpoint(f"{name}/best.npz") for name in "ab")
    assert all((a.parameters[name] == b.parameters[name]).all() for name in a.parameters)
    found = json.loads(lenet("eval", "a/best.npz", "--split", "validation", "--json").out)
    assert found["count"] == 48


# --- Advice -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ("mine.h5", "load it in Python and save it: numpy.savez(path, x_train=…, y_train=…"),
        ("mine.zip", "unpack it, and name the directory"),
        ("mine.png", "name the directory that contains one directory of pictures per class"),
        (
            "loose/a.png",
            "loose: contains pictures without labels; move them into directories, one per",
        ),
        ("void/x/y.txt", "void: is not a data set; name a directory with IDX files or with pic"),
    ],
)
@pytest.mark.parametrize("command", [("train", "--data"), ("data", "check")])
def test_what_to_do_with_other_things(lenet, make, said, command):
    Path(make).parent.mkdir(parents=True, exist_ok=True)
    Path(make).write_bytes(b"\x89PNG")
    ended = lenet(*command, Path(make).parts[0])
    assert (ended.code, ended.err.count("\n")) == (3, 1)
    assert said in ended.err


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("npz", "mine", "mine: is a directory, but data.name is npz; set data.name to idx, or"),
        ("csv", "mine", "mine: is a directory, but data.name is csv; set data.name to idx"),
        (
            "folder",
            "mine.npz",
            "mine.npz: is a file, but data.name is folder; set data.name to npz",
        ),
        ("idx", "mine.npz", "mine.npz: is a file; IDX files are in a directory; set data.name to"),
        (
            "idx",
            "none",
            "none: there is no such file or directory; check the path, or name the data",
        ),
        (
            "csv",
            "none.csv",
            "none.csv: there is no such file or directory; check the path, or name",
        ),
        (
            "npz",
            "none.npz",
            "none.npz: there is no such file or directory; check the path, or name",
        ),
        ("folder", "none", "none: there is no such file or directory; check the path, or name the"),
    ],
)
def test_a_path_of_another_format(lenet, name, path, said):
    write_files(Path("mine"))
    write_npz(Path("mine.npz"))
    ended = lenet("train", "--set", f"data.name={name}", "--set", f"data.path={path}")
    assert (ended.code, ended.err.count("\n")) == (3, 1)
    assert said in ended.err


# --- Test images that do not fit ----------------------------------------------------------------


def remove(path):
    Path(path).unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda: remove("mine/test-labels"),
            "no usable test images: mine: contains no file of the test labels; name one test-",
        ),
        (
            lambda: write_idx("mine/test-labels", np.zeros(59, np.uint8)),
            "no usable test images: mine/test-labels: contains 59 labels for 60 images; name files",
        ),
        (
            lambda: write_idx("mine/test-labels", np.full(60, 7, np.uint8)),
            "no usable test images: mine/test-labels: label 0 is 7, the 3 classes are 0 to 2",
        ),
        (
            lambda: write_idx("mine/test-images", squares(60, 2)[0][:, 4:-4, 4:-4].copy()),
            "training images are of 1×28×28, test images of 1×20×20",
        ),
        (
            lambda: write_idx("mine/test-images", squares(60, 2)[0] // 255),
            "levels of the training images are 0 to 255, of the test images 0 to 1",
        ),
        (
            lambda: write_idx("mine/test-images", 255 - squares(60, 2)[0]),
            "the background of the training images is 0, of the test images 255",
        ),
        (
            lambda: write_idx("mine/test-labels", np.arange(60, dtype=np.uint8) % 2),
            "no test images of class 2",
        ),
    ],
)
def test_test_images_are_checked_before_the_first_epoch(lenet, spoil, said):
    write_files(Path("mine"))
    spoil()
    run = lenet("train", "--data", "mine", *OPTIONS, "--output", "run")
    assert run.code == 0
    assert run.err.startswith(f"lenet: warning: {said}")
    assert run.err.count("\n") == 1


# --- Evaluation on other data -------------------------------------------------------------------


def test_class_names_count_in_evaluation_not_their_order(lenet):
    """A directory without one of the classes, and the network's classes in another order."""
    lenet("train", "--data", write_folder(Path("mine")), *OPTIONS, "--output", "run",
          "--set", "train.epochs=3")  # fmt: skip
    expected = json.loads(lenet("eval", "run/best.npz", "--json").out)
    assert expected["accuracy"] > 0.9
    for split in ("train", "test"):
        shutil.rmtree(Path("mine", split, "left"))
    fewer = lenet("eval", "run/best.npz", "--data", "mine", "--json")
    found = json.loads(fewer.out)
    assert (found["count"], fewer.err) == (40, "")
    assert found["confusion"][1:] == expected["confusion"][1:]
    assert found["without_images"] == ["left"]


def test_classes_with_other_names_are_compared_by_number(lenet):
    lenet("train", "--data", write_folder(Path("mine")), *OPTIONS, "--output", "run")
    write_folder(Path("other"), names=("a", "b", "c"))
    ended = lenet("eval", "run/best.npz", "--data", "other")
    assert ended.code == 0
    assert "other: its classes (a, b, c) have other names than those of the network" in ended.err
    write_folder(Path("more"), names=("a", "b", "c", "d"))
    ended = lenet("eval", "run/best.npz", "--data", "more")
    assert ended.code == 2
    assert "more: has 4 classes (a, b, c, d), the network has 3 (left, middle, right)" in ended.err


# --- Keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"data.path": "x"}, "data.path"),
        ({"data.name": "folder"}, "data.path"),
        ({"data.name": "csv", "data.path": "x", "data.size": [8, 8]}, "data.size"),
        (
            {"data.name": "npz", "data.path": "x", "data.class_names": ["a", "a"]},
            "data.class_names",
        ),
        ({"data.test_fraction": 1.0}, "data.test_fraction"),
        ({"data.invert": 1}, "data.invert"),
    ],
)
def test_keys_that_contradict_each_other(keys, key):
    with pytest.raises(ConfigError) as caught:
        Config().with_values(keys)
    assert caught.value.key == key


def test_idx_needs_files_or_a_directory():
    assert Config().with_values({"data.name": "idx", "data.path": "mine"}).data.train_images is None
    with pytest.raises(ConfigError, match=r"or data\.path, the directory"):
        Config().with_values({"data.name": "idx"})


# --- Images that do not fit ----------------------------------------------------------------------


def test_remedies_for_images_that_do_not_fit():
    write_files(Path("large"), lambda images: images.repeat(2, axis=1).repeat(2, axis=2))
    write_folder(Path("colour"), colour=True)
    config = Config().with_values({"model.classes": 3})
    with pytest.raises(DataError, match=r"set model\.input_size to 56"):
        load_split(with_data(config, "large"), "train")
    grey = config.with_values({"model.input": [1, 32, 32]})
    with pytest.raises(DataError, match=r"set model\.input to \[3, 32, 32\]"):
        load_split(with_data(grey, "colour"), "train")
    caffe = config.with_values({"model.name": "caffe-lenet"})
    with pytest.raises(DataError, match=r"set model\.input to \[1, 56, 56\]"):
        load_split(with_data(caffe, "large"), "train")
    caffe = caffe.with_values({"model.input": [1, 56, 56]})
    assert load_split(with_data(caffe, "large"), "train").images.shape == (240, 56, 56)
    with pytest.raises(DataError, match=r"set model\.input to \[3, 32, 32\]"):
        load_split(with_data(config.with_layers(), "colour"), "train")


def test_a_colour_folder(lenet):
    """The network takes the channels of the data, and a run resumes without stating them."""
    write_folder(Path("mine"), colour=True)
    train = ("train", "--data", "mine", *OPTIONS, "--output", "run")
    run = lenet(*train, "--set", "train.epochs=3")
    assert (run.code, run.err) == (0, "")
    assert read_checkpoint("run/best.npz").preprocessing.input_shape == (3, 32, 32)
    assert json.loads(lenet("eval", "run/best.npz", "--json").out)["accuracy"] > 0.9
    assert lenet(*train, "--set", "train.epochs=3", "--resume").code == 0
    predicted = lenet("predict", "run/best.npz", "mine/test/middle/1.ppm").out
    assert predicted.startswith("mine/test/middle/1.ppm: middle ")
    assert lenet("report", "run").code == 0
    write_folder(Path("grey"))  # read in colour, as the network has seen it
    assert lenet("eval", "run/best.npz", "--data", "grey").code == 0
    images, labels = squares(60, 1)
    np.savez("grey.npz", x=images, y=labels)
    ended = lenet("eval", "run/best.npz", "--data", "grey.npz")
    assert ended.code == 3
    assert (
        "grey.npz: images: images with 1 channel do not fit a network with an input of 3"
        in ended.err
    )
    assert "give images of at most 32×32 with 3 channels" in ended.err


def test_a_colour_folder_with_layers(lenet):
    write_folder(Path("mine"), colour=True)
    made = Config().with_values({"model.classes": 3}).with_layers()
    layers = made.with_values({"model.input": [3, 32, 32]})
    found = load_split(with_data(layers, "mine"), "test")
    assert found.images.shape == (60, 3, 28, 28)
    assert found.class_names == ("left", "middle", "right")


def test_47_classes_from_files_to_a_report(lenet, tmp_path):
    """EMNIST's balanced part in its published form, with a drawn pattern for each class."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2, (47, 7, 7), np.uint8).repeat(4, 1).repeat(4, 2) * 255
    names = CATALOGUE["emnist-balanced"].class_names
    (tmp_path / "here" / "emnist").mkdir(parents=True)
    for split, count in (("train", 940), ("test", 141)):
        labels = (np.arange(count) % 47).astype(np.uint8)
        images = np.minimum(patterns[labels], rng.integers(100, 256, (count, 28, 28), np.uint8))
        for what, array in (("images-idx3", images.transpose(0, 2, 1)), ("labels-idx1", labels)):
            path = tmp_path / "here" / "emnist" / f"emnist-balanced-{split}-{what}-ubyte"
            write_idx(path, np.ascontiguousarray(array))
    here = ("--data-dir", tmp_path / "here")
    options = ("--set", "train.epochs=6", "--set", "train.batch_size=16", "--workers", "1")
    balanced = ("train.class_weights={F: 2, f: 2}", "train.best_metric=balanced_accuracy")
    keys = [part for key in balanced for part in ("--set", key)]
    run = lenet("train", "--data", "emnist-balanced", *here, *options, *keys, "--output", "run")
    assert (run.code, run.out.count("validation balanced accuracy")) == (0, 1)
    assert read_checkpoint("run/best.npz").class_names == names
    assert load_config(Path("run/config.yaml")).train.class_weights == {"F": 2.0, "f": 2.0}
    evaluated = lenet("eval", "run/best.npz", *here).out
    assert "most frequent mistakes" in evaluated or "no mistakes" in evaluated
    assert float(re.findall(r"balanced accuracy (\S+)", evaluated)[0]) > 50
    Path("F.pgm").write_bytes(b"P5 28 28 255\n" + patterns[names.index("F")].tobytes())
    assert lenet("predict", "run/best.npz", "F.pgm").out.startswith("F.pgm: F ")
    assert lenet("report", "run", *here).code == 0
    assert "f</t" in Path("report.html").read_text(encoding="utf-8")


def test_transposed_inverted_and_scaled():
    write_folder(Path("mine"))
    config = with_data(Config().with_values({"model.classes": 3}), "mine")
    plain = load_split(config, "test").images
    changed = config.with_values({"data.transpose": True, "data.invert": True})
    np.testing.assert_array_equal(
        load_split(changed, "test").images, 255 - plain.transpose(0, 2, 1)
    )
    small = load_split(config.with_values({"data.size": [14, 20]}), "test").images
    assert small.shape == (60, 14, 20)


def test_options_of_the_data_are_kept_for_the_same_format_only():
    write_files(Path("mine"))
    write_npz(Path("mine.npz"))
    config = with_data(Config(), "mine").with_values({"data.invert": True})
    shutil.move("mine", "moved")
    assert with_data(config, "moved").data.invert
    assert with_data(config, "moved").data.path == "moved"
    assert not with_data(config, "mine.npz").data.invert
    assert with_data(config, None) == config
    with pytest.raises(ConfigError, match="is a format for user-supplied data; give the path"):
        with_data(config, "idx")


# --- Levels and background -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_nothing_changes_for_published_data(mnist_dir, name):
    if not (mnist_dir / name).is_dir():
        pytest.skip(f"{name} is not here")
    config = Config().with_values({"data.name": name, "data.dir": str(mnist_dir)})
    images = load_split(config, "train").images
    assert training_preprocessing(config, images) == Preprocessing()


def test_nothing_changes_for_strokes():
    assert fit_preprocessing(Preprocessing(), image_facts(draw(500, seed=3)[0])) == Preprocessing()


def test_levels_and_background_are_those_of_the_training_images(lenet):
    write_files(Path("mine"), lambda images: 1 - images // 255)
    run = lenet("train", "--data", "mine", *OPTIONS, "--set", "model.classes=3", "--output", "run")
    assert run.code == 0
    assert "levels are 0 to 1, not 0 to 255: training scales the input by them" in run.err
    assert "the background is light (level 1)" in run.err
    preprocessing = read_checkpoint("run/best.npz").preprocessing
    images = read_idx(Path("mine") / next(Path("mine").glob("train-images*")).name)
    x = images * preprocessing.scale + preprocessing.shift
    assert (x.mean(), x.std()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    assert preprocessing.background == 1


def test_a_scale_of_the_configuration_is_not_changed():
    ones = squares(60, 1)[0] // 255
    config = Config().with_values({"model.scale": 1.0, "model.shift": 0.0})
    assert training_preprocessing(config, ones) == Preprocessing(scale=1.0, shift=0.0)


def test_distortions_fill_with_the_background():
    white = 255 - squares(60, 1)[0]
    labels = np.arange(60, dtype=np.uint8) % 10
    values = {"augment.rotation": 40.0, "data.validation": 0, "train.batch_size": 60}
    config = Config().with_values(values)
    preprocessing = training_preprocessing(config, white)
    assert build_distorter(config.augment, preprocessing) is not None
    trainer = build_trainer(config, white, labels)
    x = next(trainer.loader.epoch()).x
    assert float(x[:, 0].min()) == pytest.approx(1.175, abs=1e-5)


# --- Data that moved -----------------------------------------------------------------------------


@pytest.fixture
def stopped(lenet) -> tuple[str, ...]:
    """The options of a run of one epoch that was stopped before it, with files below ``a``."""
    write_files(Path("a"))
    options = ("--set", "model.classes=3", "--set", "train.epochs=2", *OPTIONS[:2], *OPTIONS[4:])
    roles = ("train_images", "train_labels", "test_images", "test_labels")
    files = [f"data.{role}=a/{role.replace('_', '-')}" for role in roles]
    own = [part for file in ("data.name=idx", *files) for part in ("--set", file)]
    config = ("train", *options, *own, "--output", "a/run")

    class Stopped(Callback):
        def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:
            if event.epoch == 2:
                raise KeyboardInterrupt

    overrides = [value for value in config if "=" in value]
    with pytest.raises(KeyboardInterrupt):
        run_training(
            load_config(None, [*overrides, "train.workers=1", "output.dir=a/run"]),
            callbacks=[Stopped()],
        )
    return options


def test_moved_files_resume_evaluate_and_report(lenet, stopped):
    shutil.move("a", "b")
    assert lenet("eval", "b/run/best.npz").code == 3
    assert lenet("eval", "b/run/best.npz", "--data", "b").code == 0
    assert lenet("eval", "b/run/best.npz", "--data-dir", "b").code == 0
    assert lenet("report", "b/run", "--data", "b").err == ""
    assert lenet("eval", "pretrained", "--data", "idx", "--data-dir", "b").code == 0
    run = lenet("train", "--resume", "--output", "b/run", "--data", "b", "--quiet")
    assert (run.code, run.err) == (0, "")
    assert read_checkpoint("b/run/last.npz").epoch == 2
    assert read_checkpoint("b/run/last.npz").config.data.path == "b"
    assert lenet("eval", "b/run/last.npz").code == 0


def test_the_same_images_in_another_format_resume(lenet, stopped):
    write_npz(Path("mine.npz"))
    run = lenet("train", "--resume", "--output", "a/run", "--data", "mine.npz", "--quiet")
    assert (run.code, run.err) == (0, "")


def test_other_images_do_not_resume(lenet, stopped):
    before = Path("a/run/last.npz").read_bytes()
    write_files(Path("other"), lambda images: images[::-1])
    run = lenet("train", "--resume", "--output", "a/run", "--data", "other", "--quiet")
    assert run.code == 3
    assert "a/run/last.npz: data: the training images, labels or class names are not" in run.err
    run = lenet("train", "--resume", "--output", "a/run", "--set", "data.validation=50")
    assert run.code == 3
    assert "data.validation" in run.err
    assert Path("a/run/last.npz").read_bytes() == before


# --- Chance --------------------------------------------------------------------------------------


def chance(counts: list[int], *accuracies: float, steps: int = 60, **values: float) -> list[str]:
    """The warnings of a run with these accuracies and options of the optimizer."""
    options = {f"optimizer.{name}": value for name, value in values.items()}
    said: list[str] = []
    warning = ChanceWarning(Config().with_values(options), said.append)
    warning.on_classes(np.array(counts))
    for epoch, accuracy in enumerate(accuracies, 1):
        event = EpochEvent(epoch, steps * epoch, 0.1, 1.0, accuracy, 1.0, accuracy, 1.0, 1.0)
        warning.on_epoch(event, False, lambda: read_checkpoint("pretrained"))
    return said


def test_chance_is_the_share_of_the_most_frequent_class():
    assert chance([50, 50], 0.62) == []  # learns from noisy labels
    assert len(chance([50, 50], 0.51)) == 1
    assert len(chance([95, 5], 0.95)) == 1
    assert chance([95, 5], 0.97) == []
    assert len(chance([300] + 9 * [78], 0.30)) == 1
    assert chance([10] * 10, 0.2) == []
    assert "most frequent class gives 95.0%" in chance([95, 5], 0.95)[0]


def test_chance_is_reported_once_with_advice_that_fits():
    said = chance([10] * 10, 0.1, 0.1, 0.1)
    assert len(said) == 1
    assert "train longer, change optimizer.lr" in said[0]
    assert len(chance([10] * 10, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3, steps=10)) == 1
    assert chance([10] * 10, 0.1, 0.1, 0.1, 0.3, steps=10) == []  # of a small set, learns later
    assert len(chance([10] * 10, *[0.1] * 8, steps=2)) == 1
    assert "raise optimizer.lr, which is 1e-07" in chance([10] * 10, 0.1, lr=1e-7)[0]
    assert "lower optimizer.weight_decay, which is 2" in chance([10] * 10, 0.1, weight_decay=2.0)[0]
