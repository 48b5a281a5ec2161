"""`lenet predict`: what is printed where, warnings, and rows 43 to 47 of the list of faults."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import drawn, inked
from untrained import untrained, untrained_colour

from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.checkpoint.restore import read_checkpoint
from lenet.cli import main
from lenet.data.formats.idx import write_idx
from lenet.data.measure import TrainingImages
from lenet.data.strokes import draw
from lenet.errors import ConfigError
from lenet.predict.finder import Digit
from lenet.predict.output import Sheet, sheet_row
from lenet.predict.prediction import Predictor, thumbnail, warning_of


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("network") / "network.npz"
    save_checkpoint(path, untrained(class_names=tuple("abcdefghij")))
    return path


@pytest.fixture
def predict(capsys, network):
    """Call the command in this process; return exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["predict", str(network), *map(str, arguments)])
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def four(tmp_path) -> Path:
    path = tmp_path / "four.npy"
    np.save(path, inked(drawn()))
    return path


@pytest.fixture
def blank(tmp_path) -> Path:
    path = tmp_path / "blank.npy"
    np.save(path, np.full((40, 40), 255, np.uint8))
    return path


# --- What is printed -----------------------------------------------------------------------------


@pytest.mark.parametrize(("listed", "count"), [(False, "0/3 ["), (True, "0 files [")])
def test_a_progress_bar_of_all_files(predict, four, tmp_path, monkeypatch, listed, count):
    """Of a directory the bar knows the end; names on standard input may come one by one."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    folder = tmp_path / "folder"
    folder.mkdir()
    files = [folder / f"{i}.npy" for i in range(3)]
    for file in files:
        file.write_bytes(four.read_bytes())
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO("".join(f"{file}\n" for file in files).encode()))
    )
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    code, out, _ = predict("-" if listed else folder, "--out", tmp_path / "table.csv")
    assert (code, out.count("3 predictions")) == (0, 1)
    assert count in sys.stderr.getvalue()


def test_json_is_one_line_per_image(predict, four, blank):
    code, out, _ = predict(four, blank, "--json")
    assert code == 0
    found, nothing = map(json.loads, out.splitlines())
    assert set(found) == {"file", "label", "probability", "top", "warning", "input"}
    assert found["input"] == nothing["input"] == "digit"
    assert found["file"] == str(four)
    assert [found["label"], found["probability"]] == list(found["top"][0].values())
    assert len(found["top"]) == 3
    probabilities = [one["probability"] for one in found["top"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {one["label"] for one in found["top"]} <= set("abcdefghij")
    assert [nothing[name] for name in ("label", "probability", "top")] == [None, None, []]
    assert "no digit" in nothing["warning"]


def test_text_on_stdout_and_warnings_on_stderr(predict, four, blank):
    code, out, err = predict(four, blank)
    assert code == 0
    first, second = out.splitlines()
    assert first.startswith(f"{four}: ")
    assert first.count("%") == 3
    assert second == f"{blank}: no digit"
    assert err.splitlines()[-1].startswith(f"lenet: warning: {blank}: no digit found")


def test_a_stack_is_one_line_per_image(predict, tmp_path):
    stack = np.stack([255 - 255 * drawn(28, 0.8), 255 * drawn(28, 0.8)]).astype(np.uint8)
    write_idx(tmp_path / "stack.gz", stack)
    code, out, _ = predict(tmp_path / "stack.gz", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["file"] for line in lines] == [f"{tmp_path / 'stack.gz'}[{n}]" for n in (0, 1)]
    assert lines[0]["label"] == lines[1]["label"]


def test_the_digit_is_prepared_as_in_training():
    predictor = Predictor(untrained())
    found = predictor("four", inked(drawn()))
    assert found.digit is not None
    x = np.full((1, 1, 32, 32), -0.1)
    x[0, 0, 2:30, 2:30] = found.digit.image * (1.275 / 255) - 0.1
    expected = predictor.network.predict(x)[0]
    assert found.probability == pytest.approx(expected.max(), abs=1e-5)
    assert found.label == str(expected.argmax())


def test_a_colour_network_is_given_the_whole_picture():
    checkpoint = untrained_colour()
    levels = np.random.default_rng(1).integers(0, 256, (6, 16, 3), dtype=np.uint8)
    predictor = Predictor(checkpoint)
    found = predictor("picture", levels.astype(np.float32) / 255)
    assert found.digit is None
    assert found.image is not None
    np.testing.assert_array_equal(found.image, levels.transpose(2, 0, 1))
    x = np.full((1, 3, 12, 16), -0.1)
    x[0, :, 3:9] = levels.transpose(2, 0, 1) * (1.275 / 255) - 0.1
    expected = predictor.network.predict(x)[0]
    assert found.probability == pytest.approx(expected.max(), abs=1e-5)
    assert found.label == ("red", "green", "blue")[expected.argmax()]
    assert (found.warning is None) == (expected.max() >= 0.6)


def test_the_sheet_shows_colour_images(tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    levels = np.random.default_rng(2).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    pixels = levels.astype(np.float32) / 255
    sheet = Sheet(tmp_path / "seen.png")
    sheet.add(thumbnail(pixels), Predictor(untrained_colour())("picture", pixels))
    assert sheet.write() is None
    with pillow.open(sheet.path) as picture:
        drawn = np.asarray(picture)
    enlarged = levels.repeat(14, axis=0).repeat(14, axis=1)
    np.testing.assert_array_equal(drawn[8 : 8 + 168, 336 : 336 + 224], enlarged)


def test_a_small_grey_network_is_given_a_smaller_digit():
    predictor = Predictor(untrained_colour(channels=1))
    found = predictor("four", inked(drawn()))
    assert found.digit is not None
    assert found.image is not None
    assert found.image.shape == (12, 12)
    whole, small = found.digit.image / 255, found.image / 255
    assert small.sum() == pytest.approx(whole.sum() * (12 / 28) ** 2, rel=0.05)
    means = whole[:14].mean(), whole[14:].mean()
    assert (small[:6].mean(), small[6:].mean()) == pytest.approx(means, abs=0.03)


def test_a_network_of_other_channels_is_refused():
    with pytest.raises(ConfigError, match="takes images of 2 channels; pictures have 1 or 3"):
        Predictor(untrained_colour(channels=2))


# --- Warnings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "probability", "word"),
    [
        ({}, 0.99, None),
        ({}, 0.5, "unlike the digits that the network learned from"),
        ({"shapes": 10}, 0.99, "10 shapes"),
        ({"contrast": 0.05}, 0.99, "pale"),
        ({"box": (0, 0, 8, 6)}, 0.99, "too small"),
        ({"box": (0, 0, 50, 90)}, 0.99, "wider"),
        ({"box": (0, 0, 50, 64)}, 0.99, "wider"),
        ({"box": (0, 0, 50, 60)}, 0.99, None),
        ({"stroke": 0.5}, 0.99, "blot"),
    ],
)
def test_warnings_about_a_digit(change, probability, word):
    facts = {"box": (0, 0, 90, 50), "contrast": 0.8, "shapes": 1, "stroke": 0.1}
    digit = Digit(np.zeros((28, 28), np.uint8), **(facts | change))
    warning = warning_of(digit, probability)
    assert warning is None if word is None else word in (warning or "")


def test_the_warning_about_what_is_not_like_a_digit():
    assert warning_of(None, 0.99, unlike_digits=True) == "not like a digit"
    assert (warning_of(None, 0.5, unlike_digits=True) or "").startswith("not like a digit; unlike")


def test_warnings_of_real_pictures(predict, tmp_path):
    v, u = np.mgrid[0:200, 0:200] - 100
    pictures = {
        "shapes": np.concatenate([drawn()] * 3, axis=1),
        "blot": (np.hypot(u, v) < 60).astype(float),
        "too small": drawn(12, 0.5),
        "pale": drawn() * 0.1,
    }
    for word, amount in pictures.items():
        np.save(tmp_path / "image.npy", inked(amount))
        code, out, _ = predict(tmp_path / "image.npy", "--json")
        assert code == 0
        assert word in json.loads(out)["warning"], word


# --- Bad input -----------------------------------------------------------------------------------


def test_one_bad_file_among_many(predict, tmp_path, four):
    bad = tmp_path / "bad.npy"
    bad.write_bytes(b"\x93NUMPY, but no more of it")
    code, out, err = predict(four, bad, tmp_path / "missing.png", four, "--json")
    assert code == 3
    assert [json.loads(line)["file"] for line in out.splitlines()] == [str(four)] * 2
    first, second = (line for line in err.splitlines() if "error" in line)
    assert first.startswith(f"lenet: error: {bad}: ")
    assert "; " in first
    assert "missing.png: there is no such file" in second


def test_names_that_are_not_text(predict, tmp_path, four):
    name = "a\x1b[2J\nb.npy"
    if sys.platform == "win32":
        pytest.skip("Windows has no such names")
    path = tmp_path / name
    path.write_bytes(four.read_bytes())
    code, out, err = predict(path, tmp_path / "no\x07.npy")
    assert code == 3
    assert out.count("\n") == 1
    assert r"a\x1b[2J\nb.npy" in out
    assert r"no\x07.npy" in err
    assert "\x1b" not in out + err
    assert "\x07" not in out + err
    assert json.loads(predict(path, "--json")[1])["file"] == str(path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_utf_8(predict, tmp_path, four):
    path = os.fsencode(tmp_path) + b"/caf\xe9.npy"
    Path(os.fsdecode(path)).write_bytes(four.read_bytes())
    code, out, _ = predict(os.fsdecode(path))
    assert code == 0
    assert r"caf\udce9.npy" in out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_in_a_stream_in_any_encoding(predict, tmp_path, four, monkeypatch):
    odd = os.fsencode(tmp_path) + b"/caf\xe9 \x1b.npy"
    Path(os.fsdecode(odd)).write_bytes(four.read_bytes())
    good = os.fsencode(four)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(odd + b"\n" + good + b"\n")))
    code, out, _ = predict("-")
    assert (code, out.count("\n")) == (0, 2)
    assert r"caf\udce9 \x1b.npy" in out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(odd + b"\0" + good + b"\0")))
    code, out, err = predict("-")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "separated by NUL; add -0" in err
    monkeypatch.setattr(sys, "stdin", None)
    code, out, err = predict("-")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_an_output_is_never_an_image(predict, tmp_path, four, monkeypatch):
    """Under any name: in a directory, through a link, named on standard input."""
    pytest.importorskip("PIL")
    folder = tmp_path / "folder"
    folder.mkdir()
    inside, link = folder / "inside.png", tmp_path / "link.png"
    inside.write_bytes(b"P5 28 28 255\n" + draw(1, seed=0)[0].tobytes())
    link.hardlink_to(inside)
    content = inside.read_bytes()
    monkeypatch.chdir(folder)
    for images in (folder, ".", inside, "inside.png", link, folder / ".." / "folder"):
        code, _, err = predict(images, "--show-input", "inside.png")
        assert (code, err.count("\n")) == (2, 1)
        assert "--show-input would overwrite" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"../link.png\n")))
    code, _, err = predict("-", "--show-input", inside)
    assert code == 2
    assert "--show-input would overwrite" in err
    assert inside.read_bytes() == content


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_a_submission_of_a_data_set_without_labels(predict, tmp_path, suffix):
    images = draw(3, seed=0)[0]
    file, out = tmp_path / f"test{suffix}", tmp_path / "sub.csv"
    ids = ["1", "2", "3"]
    if suffix == ".npz":
        np.savez(file, x=images)
    else:
        ids = ["7", "8", "=9"]
        names = ",".join(["ImageId", *(f"pixel{k}" for k in range(784))])
        rows = [",".join([i, *map(str, x.ravel())]) for i, x in zip(ids, images, strict=True)]
        file.write_text("\n".join([names, *rows]))
        ids[2] = "'=9"
    code, _, _ = predict(file, "--out", out, "--columns", "ImageId,Label")
    assert code == 0
    head, *rows = csv.reader(out.read_text().splitlines())
    assert head == ["ImageId", "Label"]
    assert [row[0] for row in rows] == ids
    assert {row[1] for row in rows} <= set("abcdefghij")


@pytest.mark.parametrize(
    ("more", "message"),
    [((), "with --out FILE.csv"), (("--out", "a.jsonl"), "with --out FILE.csv")],
)
def test_columns_of_no_submission(predict, four, more, message):
    code, _, err = predict(four, "--columns", "ImageId,Label", *more)
    assert code == 2
    assert message in err
    assert predict(four, "--out", "a.csv", "--columns", "Label")[0] == 2


def test_images_that_are_not_as_the_training_images(tmp_path, capsys):
    """Taken as they are, or scaled: what differs is said once."""
    form = TrainingImages((1, 28, 28), 0, 255, 0, drawn_as_mnist=False)
    save_checkpoint(tmp_path / "n.npz", replace(untrained(), images=form))
    images = draw(3, seed=0)[0]
    np.save(tmp_path / "light.npy", 255 - images)
    np.save(tmp_path / "large.npy", np.kron(images[0], np.ones((2, 2), np.uint8)))
    said = []
    for name, way in (("light", "as-is"), ("light", "fit"), ("large", "fit")):
        with pytest.raises(SystemExit):
            main(
                ["predict", str(tmp_path / "n.npz"), str(tmp_path / f"{name}.npy"), "--input", way]
            )
        lines = capsys.readouterr().err.splitlines()
        said.append([line for line in lines if "training images" in line])
    assert [len(lines) for lines in said] == [1, 1, 1]
    assert "background" in said[0][0]
    assert "light and dark are exchanged" in said[1][0]
    assert "scaled to 28×28" in said[2][0]


def test_a_file_that_is_not_a_checkpoint(capsys, tmp_path, four):
    for path in (tmp_path / "missing.npz", four):
        with pytest.raises(SystemExit) as end:
            main(["predict", str(path), str(four)])
        assert end.value.code == 3
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)


# --- The contact sheet ---------------------------------------------------------------------------


def test_the_sheet_shows_picture_and_input(predict, tmp_path, four, blank):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    sheet = tmp_path / "seen.png"
    code, _, _ = predict(four, blank, "--show-input", sheet)
    assert code == 0
    with pillow.open(sheet) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[0] == 2 * 240
    red = (pixels == (255, 0, 0)).all(axis=2)
    assert red[:240].any()  # the box
    assert not red[240:].any()
    found = Predictor(untrained())("", inked(drawn())).digit
    assert found is not None
    enlarged = found.image.repeat(8, axis=0).repeat(8, axis=1)
    np.testing.assert_array_equal(pixels[8 : 8 + 224, 336 : 336 + 224, 0], enlarged)


def test_the_sheet_escapes_what_cannot_be_printed(network):
    pytest.importorskip("PIL")
    pixels = np.repeat(drawn()[..., None], 3, axis=2)
    prediction = Predictor(read_checkpoint(network))("\x1b[31m.png", pixels)
    escaped = replace(prediction, file=r"\x1b[31m.png")
    picture = thumbnail(pixels)
    np.testing.assert_array_equal(sheet_row(picture, prediction), sheet_row(picture, escaped))


def test_the_sheet_has_a_maximum_of_rows(predict, tmp_path, monkeypatch):
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    monkeypatch.setattr("lenet.predict.output.MAX_ROWS", 1)
    write_idx(tmp_path / "stack", np.zeros((3, 28, 28), np.uint8))
    code, _, err = predict(tmp_path / "stack", "--show-input", tmp_path / "seen.png")
    assert code == 0
    assert "first 1 images, 2 are left out" in err


def test_a_sheet_that_cannot_be_written(predict, tmp_path, four):
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    (tmp_path / "file").write_bytes(b"")
    code, _, err = predict(four, "--show-input", tmp_path / "file" / "seen.png")
    assert code == 4
    assert "seen.png: cannot be written" in err


def test_the_sheet_never_overwrites_an_image(predict, tmp_path, four):
    before = four.read_bytes()
    for sheet in (four, tmp_path / "seen.jpg"):
        code, out, err = predict(four, "--show-input", sheet)
        assert (code, out) == (2, "")
        assert "--show-input" in err
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"mine")
    assert predict(picture, "--show-input", picture)[0] == 2
    assert (four.read_bytes(), picture.read_bytes()) == (before, b"mine")


def test_without_pillow_the_sheet_is_refused_before_anything_is_done(
    predict, tmp_path, four, monkeypatch
):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="PIL")

    monkeypatch.setattr("lenet.system.extras.import_module", missing)
    code, out, err = predict(four, "--show-input", tmp_path / "seen.png")
    assert (code, out) == (4, "")
    assert "pip install 'lenet[image]'" in err
