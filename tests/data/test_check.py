"""What ``lenet data check`` finds, in made sets with known faults; and random samples."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lenet.cli import cli
from lenet.data.check import Duplicates, duplicates, random_sample, report
from lenet.data.dataset import Split
from lenet.data.formats.idx import write_idx
from lenet.data.measure import fit_preprocessing, image_facts
from lenet.data.preprocessing import Preprocessing
from lenet.data.strokes import draw

rng = np.random.default_rng(0)
NAMES = ("a", "b", "c")
IMAGES = rng.integers(0, 256, (30, 8, 8), np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 3


def split(images=IMAGES, labels=LABELS) -> Split:
    return Split(images, np.asarray(labels, np.uint8), NAMES)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("LENET_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_levels_and_paper():
    ink, _ = draw(50, seed=0)
    for images, paper, dark, remark in (
        (ink, 0, False, None),
        (255 - ink, 255, True, "the background is light (level 255), MNIST's is black"),
        (ink // 128, 0, False, "levels are 0 to 1, not 0 to 255"),
        (100 + ink // 5, 100, False, "levels are 100 to 151, not 0 to 255"),
        (np.stack([255 - ink] * 3, axis=1), 255, True, "the background is light"),
        (rng.integers(0, 256, (9, 20, 20), np.uint8), None, False, None),
        (
            np.full((2, 5, 5), 7, np.uint8),
            7,
            False,
            "all pixels are 7: the images contain no information",
        ),
    ):
        facts = image_facts(images)
        assert (facts.paper, facts.dark_on_light) == (paper, dark)
        assert facts.shape == (images.shape[1] if images.ndim == 4 else 1, *images.shape[-2:])
        assert (facts.darkest, facts.lightest) == (images.min(), images.max())
        assert facts.mean == pytest.approx(images.mean())
        remarks = " ".join(facts.remarks())
        assert remark in remarks if remark else remarks == ""


def test_digits_drawn_as_mnist_draws_them_are_recognised():
    ink, _ = draw(300, seed=0)
    large = ink.repeat(2, axis=1).repeat(2, axis=2)
    small = np.rint(ink.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))).astype(np.uint8)
    facts = image_facts(ink)
    assert facts.ink_side == pytest.approx(20 / 28)
    assert facts.ink_offset < 0.035  # pixel (14, 14) is half a pixel from the middle
    for images in (ink, 255 - ink, large, np.stack([ink] * 3, axis=1)):
        assert image_facts(images).drawn_as_mnist
    off_centre = np.roll(ink, 3, axis=1)
    tight = ink[:, 4:24, 4:24]
    for images in (off_centre, tight, rng.integers(0, 256, (50, 28, 28), np.uint8)):
        assert not image_facts(images).drawn_as_mnist
    assert image_facts(small).ink_side > 0.7
    assert not image_facts(np.zeros((5, 8, 8), np.uint8)).drawn_as_mnist  # nothing is drawn


def test_the_input_spans_the_same_range_whatever_the_levels():
    ink, _ = draw(50, seed=0)
    usual = Preprocessing()
    x = usual.prepare(ink)
    assert fit_preprocessing(usual, image_facts(ink)) == usual
    white = fit_preprocessing(usual, image_facts(255 - ink))
    assert (white.scale, white.shift, white.background) == (usual.scale, usual.shift, 255)
    padding = white.prepare(255 - ink)[0, :2]
    np.testing.assert_allclose(padding, 1.175, rtol=1e-6)
    for low, high in ((0, 1), (0, 15), (100, 155), (0, 100)):
        levels = np.rint(low + ink / 255 * (high - low)).astype(np.uint8)
        fitted = fit_preprocessing(usual, image_facts(levels))
        assert fitted.background == low
        error = np.abs(fitted.prepare(levels) - x).max()
        assert error <= 1.275 / (high - low) / 2 + 1e-6  # half a level of the coarser grey
    colour = rng.integers(0, 256, (9, 3, 32, 32), np.uint8)
    photos = Preprocessing((3, 32, 32))
    assert fit_preprocessing(photos, image_facts(colour)) == photos


def test_duplicates_within_and_between():
    images, labels = IMAGES.copy(), LABELS.copy()
    images[[7, 20, 25]] = images[[4, 3, 1]]  # 4 and 7: b and b; 3 and 20: a, c; 1 and 25: b, b
    assert duplicates(split(images, labels)) == Duplicates(3, 1, ((3, 20), (4, 7), (1, 25)))
    assert duplicates(split()) == Duplicates(0, 0, ())
    test = split(rng.integers(0, 256, (5, 8, 8), np.uint8), [0, 1, 2, 0, 1])
    test.images[[1, 2]] = images[[4, 4]]
    assert duplicates(test, split(images, labels)) == Duplicates(2, 1, ((4, 2), (4, 1)))


def test_the_remarks_of_a_report():
    images = IMAGES.copy()
    images[3] = images[0]
    labels = np.where(LABELS == 2, 1, LABELS)
    test = Split(images[:4, :, :7].copy(), LABELS[:4], NAMES)
    found = report({"train": split(images, labels), "test": test})
    assert found["splits"]["train"]["classes"] == {"a": 10, "b": 20, "c": 0}
    assert found["remarks"] == [
        "train: no images of class c",
        "train: 1 images appear more than once (number 0 and number 3)",
        "test: 1 images appear more than once (number 0 and number 3)",
        "training images are of 1×8×8, test images of 1×8×7",
    ]
    again = report({"train": split(images, labels), "test": replace(split(), images=images)})
    assert again["test_in_train"]["images"] == 30
    assert again["test_in_train"]["contradictions"] == 10
    assert again["remarks"][-1].startswith("test: 30 images are also training images, 10 of them")


def test_a_random_sample_has_every_class_and_depends_on_the_seed():
    chosen = random_sample(split(), 4, seed=1)
    assert np.bincount(LABELS[chosen]).tolist() == [4, 4, 4]
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(random_sample(split(), 4, seed=1), chosen)
    assert not np.array_equal(random_sample(split(), 4, seed=2), chosen)
    assert len(random_sample(split(), 100)) == 30


def own(folder: Path, wrong: int = 0) -> Path:
    folder.mkdir()
    for name, count, seed in (("train", 200, 1), ("test", 50, 2)):
        images, labels = draw(count, seed=seed)
        if name == "train":
            labels[:wrong] = (labels[:wrong] + 1) % 10
        write_idx(folder / f"{name}-images", images)
        write_idx(folder / f"{name}-labels", labels)
    return folder


def run(*arguments):
    result = CliRunner().invoke(cli, ["data", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result


def test_check_of_a_path(place):
    own(place / "own")
    out = run("check", place / "own").stdout.splitlines()
    assert out[0].split() == ["SPLIT", "IMAGES", "SHAPE", "LEVELS", "MEAN", "BACKGROUND"]
    assert out[1].split()[:6] == ["train", "200", "1×28×28", "0", "to", "255"]
    assert ["CLASS", "TRAIN", "TEST"] in [line.split() for line in out]
    assert ["9", "20", "5"] in [line.split() for line in out]
    found = json.loads(run("check", place / "own", "--json").stdout)
    assert found["schema_version"] == 1
    assert found["splits"]["test"]["images"] == 50
    assert found["remarks"] == []


def test_check_without_test_images(place):
    (own(place / "own") / "test-images").unlink()
    result = run("check", place / "own")
    assert result.stderr == ""
    assert re.search(r"train +1\d\d .*\ntest +[2-6]\d ", result.stdout)


def test_labels_that_a_network_contradicts(place):
    """The packaged network, which knows these digits, finds the wrong labels."""
    own(place / "own", wrong=7)
    found = json.loads(run("check", place / "own", "--checkpoint", "pretrained", "--json").stdout)
    images = [suspect["image"] for suspect in found["suspect_labels"]["train"]]
    assert len(set(images) & set(range(7))) >= 5
    assert len(set(images) - set(range(7))) <= 10
    assert all(s["label"] != s["predicted"] for s in found["suspect_labels"]["train"])
    assert "NETWORK" in run("check", place / "own", "--checkpoint", "pretrained").stdout


def test_a_network_of_other_classes_is_refused(place):
    folder = own(place / "own")
    for name, count in (("train", 200), ("test", 50)):
        write_idx(folder / f"{name}-labels", (np.arange(count) % 12).astype(np.uint8))
    result = CliRunner().invoke(cli, ["data", "check", str(folder), "--checkpoint", "pretrained"])
    said = f"{folder}: has 12 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), the network has 10"
    assert str(result.exception).startswith(said)


def test_keys_of_the_data(place):
    """The advice about pictures of different sizes can be followed."""
    for name, shape in (("a/1.pgm", "4 8"), ("a/2.pgm", "8 4"), ("b/3.pgm", "4 8")):
        path = place / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"P5 {shape} 255\n".encode() + bytes(32))
    refused = CliRunner().invoke(cli, ["data", "check", "pictures", "--set", "data.size=null"])
    assert "set data.size to auto, or to the height and width" in str(refused.exception)
    assert json.loads(run("check", "pictures", "--json").stdout)["splits"]["train"]["images"] == 2
    options = ("--set", "data.size=[8,4]", "--set", "data.test_fraction=0.4", "--json")
    found = json.loads(run("check", "pictures", *options).stdout)
    assert found["splits"]["train"]["shape"] == [1, 8, 4]
    turned = json.loads(run("check", "pictures", *options, "--set", "data.transpose=true").stdout)
    assert turned["splits"]["train"]["shape"] == [1, 4, 8]


def test_show_of_a_path(place):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
    own(place / "own")
    assert run("show", "own").stdout == "own.png\n"
    assert (place / "own.png").stat().st_size > 1000
    first = (place / "own.png").read_bytes()
    run("show", place / "own", "--seed", 1)
    assert (place / "own.png").read_bytes() != first


@pytest.mark.parametrize("command", ["show", "check"])
def test_neither_a_name_nor_a_path(command):
    for path in ("pictures/", "mine.npz"):
        result = CliRunner().invoke(cli, ["data", command, path])
        assert re.search("there is no such file.*; check the path", str(result.exception))
    result = CliRunner().invoke(cli, ["data", command, "mnst"])
    assert str(result.exception) == "data.name: there is no data set mnst; did you mean mnist?"
