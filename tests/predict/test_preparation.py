"""Prediction on a network's own kind of images gives the answers of evaluation, to the last one."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import drawn, inked
from untrained import untrained, untrained_colour

from lenet.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lenet.checkpoint.restore import read_checkpoint, restore_network
from lenet.config.schema import Config
from lenet.data.formats.idx import write_idx
from lenet.data.loader import SLICE, Loader
from lenet.data.measure import TrainingImages, training_images
from lenet.data.strokes import draw
from lenet.errors import CheckpointError, ConfigError, ImageError, LenetError
from lenet.evaluation.images import load_split
from lenet.evaluation.loop import probabilities
from lenet.inspect.inspection import _image_in
from lenet.predict.prediction import Predictor
from lenet.predict.preparation import Preparation
from lenet.train.run import run_training

TRAIN, TEST = 500, 150
Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("LENET_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def filling(images: np.ndarray) -> np.ndarray:
    """The middle 20×20 pixels as 56×56: a digit that fills its image."""
    return images[:, 4:24, 4:24].repeat(3, axis=1).repeat(3, axis=2)[:, 2:58, 2:58]


def small(images: np.ndarray) -> np.ndarray:
    means = images[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4))
    return np.rint(means).astype(np.uint8)


def silhouettes(images: np.ndarray) -> np.ndarray:
    """Everything to the right of a digit's left edge is filled."""
    return np.maximum.accumulate(images, axis=2)


def colour(images: np.ndarray) -> np.ndarray:
    return np.stack([images, 255 - images, images // 2 + 60], axis=1)


KINDS: dict[str, tuple[Change, dict[str, object]]] = {
    "filling 56×56": (filling, {"model.input_size": 56}),
    "8×8": (small, {}),
    "white paper": (lambda images: 255 - images, {}),
    "silhouettes": (silhouettes, {}),
    "lying": (lambda images: images.transpose(0, 2, 1), {}),
    "lying, turned upright": (lambda images: images.transpose(0, 2, 1), {"data.transpose": True}),
    "as MNIST": (lambda images: images, {}),
    "white paper, inverted": (lambda images: 255 - images, {"data.invert": True}),
    "zero and one": (lambda images: images // 128, {}),
    "from 100 to 155": (lambda images: images // 5 + 100, {}),
    "floats": (lambda images: (images / 255).astype(np.float32), {}),
    "twelve bits": (lambda images: images.astype(np.int16) * 16, {}),
}


def trained(files: dict[str, object], **values: object) -> Checkpoint:
    """The last checkpoint of a short run; the network need not be good."""
    run_training(
        Config().with_values(
            {
                "data.name": "idx",
                "data.validation": 0,
                "train.epochs": 1,
                "train.workers": 1,
                "model.channels": [3, 4],
                "model.units": [12, 10],
                "output.dir": "run",
                **files,
                **values,
            }
        ),
        warn=lambda line: None,
    )
    return read_checkpoint("run/last.npz")


def of_evaluation(checkpoint: Checkpoint) -> np.ndarray:
    """Probabilities of the test images, as evaluation computes them."""
    test = load_split(checkpoint.config, "test")
    loader = Loader(
        test.images, test.labels, batch_size=SLICE, preprocessing=checkpoint.preprocessing
    )
    return probabilities(restore_network(checkpoint), (batch.x for batch in loader.epoch()))


def failed(error: LenetError) -> None:
    raise error


def check(checkpoint: Checkpoint, paths: list[Path]) -> None:
    found = [prediction for prediction, _ in Predictor(checkpoint).files(paths, failed)]
    expected = of_evaluation(checkpoint)
    assert {prediction.input for prediction in found} == {"as-is"}
    names = checkpoint.class_names
    assert [p.label for p in found] == [names[k] for k in expected.argmax(axis=1)]
    np.testing.assert_array_equal([p.probability for p in found], expected.max(axis=1).round(6))


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_is_evaluation(kind):
    change, values = KINDS[kind]
    files = {}
    for split, count, seed in (("train", TRAIN, 1), ("test", TEST, 2)):
        images, labels = draw(count, seed=seed)
        write_idx(f"{split}-images", np.ascontiguousarray(change(images)))
        write_idx(f"{split}-labels", labels)
        files |= {f"data.{split}_{what}": f"{split}-{what}" for what in ("images", "labels")}
    checkpoint = trained(files, **values)
    check(checkpoint, [Path("test-images")])
    np.save("some.npy", change(draw(TEST, seed=2)[0])[:20])
    found = [p.label for p, _ in Predictor(checkpoint).files([Path("some.npy")], failed)]
    expected = of_evaluation(checkpoint)[:20].argmax(axis=1)
    assert found == [str(k) for k in expected]


@pytest.mark.parametrize("size", [None, (24, 32)], ids=["as they are", "scaled"])
def test_prediction_is_evaluation_for_a_folder_in_colour(size):
    for split, count, seed in (("train", TRAIN, 1), ("test", TEST, 2)):
        for k, (image, label) in enumerate(zip(*draw(count, seed=seed), strict=True)):
            path = Path("mine", split, "abcdefghij"[label], f"{k:03}.ppm")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                b"P6 28 28 255\n" + colour(image[None])[0].transpose(1, 2, 0).tobytes()
            )
    made = Config().with_layers().with_values({"model.input": [3, 32, 32]})
    model = {"model.layers": made.model.layers, "model.input": made.model.input}
    options = {"data.name": "folder", "data.path": "mine", "data.size": size}
    defaults = {"model.channels": [6, 16], "model.units": [120, 84]}
    checkpoint = trained(options, **defaults, **model)
    check(checkpoint, sorted(Path("mine/test").glob("*/*.ppm")))


# --- Which way -----------------------------------------------------------------------------------

MNIST = TrainingImages((1, 28, 28))


def ways(checkpoint: Checkpoint, *pixels: np.ndarray, way: str = "auto") -> list[str]:
    return [Preparation(checkpoint, way).picture(picture).way for picture in pixels]


def as_pixels(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., None], 3, axis=2).astype(np.float32) / np.float32(255)


def test_a_network_of_digits_as_mnist_draws_them():
    digit = as_pixels(draw(1, seed=5)[0][0])
    checkpoint = replace(untrained(), images=MNIST)
    assert ways(checkpoint, digit) == ["as-is"]
    assert ways(untrained(), digit) == ["as-is"]  # known by the name of the data set
    moved = np.roll(digit, 5, axis=1)
    large = np.repeat(np.repeat(digit, 2, axis=0), 2, axis=1)
    assert ways(checkpoint, 1 - digit, moved, large, inked(drawn(28))) == ["digit"] * 4
    assert ways(checkpoint, digit, 1 - digit, way="fit") == ["fit"] * 2
    assert ways(checkpoint, digit, way="digit") == ["digit"]


def test_other_images_are_fitted_and_get_the_background_of_the_training():
    form = TrainingImages((1, 20, 30), paper=255, drawn_as_mnist=False)
    preparation = Preparation(replace(untrained(), images=form))
    for picture in (inked(drawn()), 1 - inked(drawn())):
        image, digit, way = preparation.picture(picture)
        assert (digit, way) == (None, "fit")
        assert image is not None
        assert image.shape == (20, 30)
        assert np.median(image) > 230
        assert image.min() < 120


def test_a_digit_gets_size_levels_and_background_of_the_training():
    form = TrainingImages((1, 14, 14), darkest=0, lightest=1, paper=1)
    image, digit, way = Preparation(replace(untrained(), images=form)).picture(inked(drawn()))
    assert way == "digit"
    assert digit is not None
    assert image is not None
    assert image.shape == (14, 14)
    assert set(np.unique(image)) == {0, 1}
    assert np.median(image) == 1


def test_as_is_where_it_does_not_fit():
    large = np.ones((40, 40, 3), np.float32)
    with pytest.raises(ImageError, match="is 1×40×40, the network takes 1×32×32; leave out"):
        Preparation(untrained(), "as-is").picture(large)
    with pytest.raises(ConfigError, match="--input"):
        Preparation(untrained_colour(), "digit")
    assert ways(untrained(), np.ones((32, 32, 3), np.float32), way="as-is") == ["as-is"]


# --- In the checkpoint ---------------------------------------------------------------------------


def test_the_checkpoint_describes_the_training_images(tmp_path):
    images = 255 - draw(60, seed=1)[0]
    form = training_images(images, (0.0, 4095.0))
    assert (form.shape, form.paper, form.levels) == ((1, 28, 28), 255, (0.0, 4095.0))
    assert form.drawn_as_mnist
    save_checkpoint(tmp_path / "a.npz", replace(untrained(), images=form))
    assert load_checkpoint(tmp_path / "a.npz").images == form
    save_checkpoint(tmp_path / "b.npz", untrained())
    assert load_checkpoint(tmp_path / "b.npz").images is None


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (1, 28)},
        {"shape": (1, 28, 0)},
        {"darkest": -1},
        {"lightest": 256},
        {"paper": 0.5},
        {"drawn_as_mnist": 1},
        {"levels": (1.0, 1.0)},
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path, change):
    wrong = replace(untrained(), images=replace(MNIST, **change))
    with pytest.raises(CheckpointError, match=r"meta\.preprocessing"):
        save_checkpoint(tmp_path / "a.npz", wrong)


# --- Many files ----------------------------------------------------------------------------------


@pytest.fixture
def network(tmp_path) -> Path:
    save_checkpoint(tmp_path / "network.npz", untrained())
    return tmp_path / "network.npz"


def test_directories_and_names_on_standard_input(lenet, network, monkeypatch):
    Path("some/below").mkdir(parents=True)
    images, _ = draw(3, seed=5)
    for image, name in zip(images, ("b.pgm", "a.npy", "below/c.pgm"), strict=True):
        if name.endswith("npy"):
            np.save(Path("some", name), image)
        else:
            Path("some", name).write_bytes(b"P5 28 28 255\n" + image.tobytes())
    Path("some/notes.txt").write_text("none")
    run = lenet("predict", network, "some", "--json")
    found = [json.loads(line)["file"] for line in run.out.splitlines()]
    assert [Path(name).name for name in found] == ["a.npy", "b.pgm", "c.pgm"]
    for separator, more in (("\n", ()), ("\r\n", ()), ("\0", ("-0",))):
        named = "".join(name + separator for name in found).encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(named)))
        assert lenet("predict", network, "-", "--json", *more).out == run.out
    Path("none").mkdir()
    run = lenet("predict", network, "none", "some")
    assert run.code == 3
    assert "none: is a directory without image files" in run.err
    assert run.out.count("as-is") == 3


def test_a_table_instead_of_lines(lenet, network):
    write_idx("stack", draw(300, seed=5)[0])
    lines = lenet("predict", network, "stack", "--json").out
    assert lenet("predict", network, "stack", "--out", "a.jsonl").code == 0
    assert Path("a.jsonl").read_text() == lines
    run = lenet("predict", network, "stack", "--out", "a.csv")
    assert run.out.startswith("a.csv: 300 predictions, ")
    rows = Path("a.csv").read_text().splitlines()
    assert rows[0] == "file,label,probability,second,probability_2,warning,input"
    assert rows[7].split(",")[:2] == ["stack[6]", json.loads(lines.splitlines()[6])["label"]]
    assert lenet("predict", network, "stack", "--out", "a.txt").code == 2


def test_an_error_in_the_middle_is_in_its_place(network):
    images, _ = draw(2, seed=5)
    for name, image in zip(("a.npy", "c.npy"), images, strict=True):
        np.save(name, image)
    events: list[str] = []
    paths = map(Path, ("a.npy", "b.npy", "c.npy"))
    for prediction, _ in Predictor(read_checkpoint(network)).files(
        paths, lambda error: events.append(str(error.file))
    ):
        events.append(prediction.file)
    assert events == ["a.npy", "b.npy", "c.npy"]


def test_bytes_of_zero_and_one_are_scaled_for_a_network_of_digits(network):
    images, _ = draw(6, seed=5)
    np.save("ones.npy", images // 128)
    np.save("bytes.npy", images // 128 * 255)
    predictor = Predictor(replace(read_checkpoint(network), images=MNIST))
    found, expected = (
        [(p.input, p.top) for p, _ in predictor.files([Path(name)], failed)]
        for name in ("ones.npy", "bytes.npy")
    )
    assert found == expected


def test_a_blank_image_is_no_digit(network):
    np.save("blank.npy", np.zeros((3, 28, 28), np.uint8))
    predictor = Predictor(replace(read_checkpoint(network), images=MNIST))
    assert [p.label for p, _ in predictor.files([Path("blank.npy")], failed)] == [None] * 3


def test_digits_in_batches_are_those_of_one_by_one(network):
    pictures = [inked(drawn(60, height=h)) for h in np.linspace(0.4, 0.8, 18)]
    pictures.insert(5, np.ones((60, 60, 3), np.float32))  # without a digit
    names = [f"{k:02}.npy" for k in range(len(pictures))]
    for name, picture in zip(names, pictures, strict=True):
        np.save(name, picture)
    predictor = Predictor(read_checkpoint(network))
    found = [prediction for prediction, _ in predictor.files(map(Path, names), failed)]
    for prediction, name, picture in zip(found, names, pictures, strict=True):
        alone = predictor(name, picture)
        assert (prediction.file, prediction.label) == (name, alone.label)
        assert prediction.probability == pytest.approx(alone.probability, abs=2e-6)
    assert found[5].label is None


def test_results_come_before_the_last_picture_is_read(network):
    np.save("four.npy", inked(drawn(60)))
    read: list[Path] = []

    def endless() -> Iterator[Path]:
        while True:
            read.append(Path("four.npy"))
            yield read[-1]

    next(Predictor(read_checkpoint(network)).files(endless(), failed))
    assert len(read) <= 16


def test_pictures_for_the_sheet_are_reduced_at_once(network):
    np.save("large.npy", np.full((900, 1500, 3), 255, np.uint8))
    files = Predictor(read_checkpoint(network)).files([Path("large.npy")], failed)
    assert next(files)[1] is None
    files = Predictor(read_checkpoint(network)).files(
        [Path("large.npy")], failed, with_thumbnails=True
    )
    picture = next(files)[1]
    assert picture is not None
    assert picture.levels.shape == (192, 320, 3)
    assert picture.scale == pytest.approx(320 / 1500)


def test_inspect_prepares_as_predict_does(network):
    checkpoint = replace(read_checkpoint(network), images=MNIST)
    np.save("stack.npy", draw(3, seed=5)[0])
    np.save("picture.npy", inked(drawn()))
    for name in ("stack.npy", "picture.npy"):
        expected, _ = next(Predictor(checkpoint).files([Path(name)], failed))
        assert expected.image is not None
        np.testing.assert_array_equal(_image_in(Path(name), checkpoint), expected.image)
