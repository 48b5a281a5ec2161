"""Data of one's own: every reader, label and number type, and the messages for bad data."""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sets import load

from lenet.data.formats.idx import write_idx
from lenet.data.labels import as_labels, missing_classes
from lenet.data.levels import as_bytes, channels_first, measured
from lenet.data.sources import recognise
from lenet.errors import ConfigError, DataError, ImageError

rng = np.random.default_rng(0)
GREY = rng.integers(0, 256, (20, 6, 6), np.uint8)
COLOUR = rng.integers(0, 256, (20, 3, 6, 8), np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 4


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("LENET_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lenet"


def idx_files(folder: Path, images=GREY, labels=LABELS, **others) -> dict[str, Path]:
    """Write training and test set, the same; ``others`` replace the array of a role."""
    folder.mkdir(exist_ok=True)
    arrays = {f"{s}_images": images for s in ("train", "test")}
    arrays |= {f"{s}_labels": labels for s in ("train", "test")}
    paths = {role: folder / role.replace("_", "-") for role in arrays}
    for role, array in (arrays | others).items():
        write_idx(paths[role], np.ascontiguousarray(array))
    return paths


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        *(LABELS.astype(kind) for kind in ("i1", ">i2", "<i4", "i8", "u2", "f4", "f8")),
        LABELS[:, None],
        LABELS[:, None, None],
        np.eye(4, dtype=np.uint8)[LABELS],
        np.eye(4)[LABELS],
        np.eye(4, dtype=bool)[LABELS],
        np.hstack([LABELS[:, None], rng.integers(0, 9999, (20, 7))]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_labels_of_every_kind(labels):
    found = as_labels(labels, Path("labels"))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, LABELS)


def test_more_than_255_classes(tmp_path):
    images = np.zeros((600, 4, 4), np.uint8)
    labels = np.arange(600, dtype=np.int32) % 300
    paths = idx_files(tmp_path / "own", images, labels)
    found = load("idx", "train", files=paths, classes=300)
    assert found.labels.dtype == np.uint16
    np.testing.assert_array_equal(found.labels, labels)
    assert len(found.class_names) == 300


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, -1], "label 2 is -1, labels are from 0 to 65535; number the classes from 0"),
        ([0, 70_000], "label 1 is 70000, labels are from 0 to 65535"),
        ([0.0, 0.5], "label 1 is 0.5, labels are integers; give class indices from 0"),
        ([0.0, np.nan], "label 1 is nan, labels are integers"),
        ([[1, 1], [0, 1]], "contains int64 of shape (2, 2), labels are integers (N,), or one-hot"),
        ([], "contains float64 of shape (0,), labels are integers (N,), or one-hot"),
        (["a", "b"], "contains <U1 of shape (2,), labels are integers"),
        (np.zeros((5, 4, 3)), "labels are integers (N,), or one-hot (N,classes); exchange images"),
        (np.zeros(()), "contains float64 of shape (), labels are integers"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_labels(labels, words):
    with pytest.raises(DataError) as caught:
        as_labels(np.asarray(labels), Path("labels"), "y_train")
    assert str(caught.value).startswith("labels: y_train: ")
    assert words in str(caught.value)


def test_labels_from_one_name_the_key(tmp_path):
    paths = idx_files(tmp_path / "own", labels=LABELS + 1)
    with pytest.raises(DataError) as caught:
        load("idx", "train", files=paths, classes=4)
    assert str(caught.value) == (
        f"{paths['train_labels']}: labels count from 0, and these seem to begin at 1: they are 1 "
        "to 4, model.classes is 4; subtract 1 from them, or set model.classes to 5"
    )
    found = load("idx", "train", files=paths, classes=5)
    assert missing_classes(found.labels, found.class_names) == ("0",)


# --- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY),
        (GREY[:, None], GREY),
        (GREY.reshape(20, 36), GREY),
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 2, 3, 1), COLOUR),
        (COLOUR[:, :2], COLOUR[:, :2]),
    ],
    ids=lambda array: "×".join(map(str, array.shape)),
)
def test_images_in_every_layout(tmp_path, array, expected):
    paths = idx_files(tmp_path / "own", array)
    found = load("idx", "train", files=paths)
    np.testing.assert_array_equal(found.images, expected)
    assert found.images.dtype == np.uint8
    assert found.images.flags.c_contiguous


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((5, 35), "contains uint8 of shape 5×35, images are (N,H,W), (N,H,W,C) or (N,C,H,W); give "
         "the rows their height and width: array.reshape(N, H, W)"),
        ((5, 3, 8, 3), "give images (N,H,W), or (N,H,W,C) or (N,C,H,W) of up to 4 channels"),
        ((5, 6, 8, 7), "give images (N,H,W)"),
        ((5, 1, 2, 3, 4), "give images (N,H,W)"),
        ((5,), "exchange images and labels"),
        ((), "contains uint8 of shape a single number"),
    ],
)  # fmt: skip
def test_what_is_no_images(shape, words):
    with pytest.raises(DataError) as caught:
        channels_first(np.zeros(shape, np.uint8), Path("images"), "x_train")
    assert str(caught.value).startswith("images: x_train: contains uint8 of shape ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("array", "levels"),
    [
        (GREY.astype("f4") / 255, (0, 1)),
        (GREY / 127.5 - 1, (-1, 1)),
        (GREY.astype("f8"), (0, 255)),
        (GREY.astype("i4"), (0, 255)),
        (GREY.astype("i2") * 16, (0, 4095)),
        (GREY.astype("i4") * 257, (0, 65535)),
        (GREY * 2.0 - 200, (-200, 310)),
    ],
    ids=["0 to 1", "-1 to 1", "float bytes", "integer bytes", "12 bits", "16 bits", "others"],
)
def test_numbers_of_every_range(tmp_path, array, levels):
    ends = [np.full((1, 6, 6), level, array.dtype) for level in levels]
    array = np.concatenate([array, *ends])
    assert measured(array, Path("images")) == levels
    paths = idx_files(tmp_path / "own", array, np.zeros(22, np.uint8))
    found = load("idx", "train", files=paths)
    assert found.levels == levels
    assert np.abs(found.images[:20].astype(int) - GREY).max() <= (levels == (0, 4095))
    assert (found.images[20].max(), found.images[21].min()) == (0, 255)


def test_booleans_are_black_and_white():
    array = GREY > 127
    assert measured(array, Path("images")) == (0, 1)
    np.testing.assert_array_equal(as_bytes(array, (0, 1)), array * np.uint8(255))


def test_test_images_are_scaled_as_the_training_images(tmp_path):
    """By themselves, twelve-bit images without a bright pixel would pass for nine bits."""
    train, test = GREY.astype("i2") * 16, (GREY // 16).astype("i2") * 16
    paths = idx_files(tmp_path / "own", train, test_images=test)
    found = load("idx", "test", files=paths)
    assert found.levels == (0, 4095)
    assert np.abs(found.images.astype(int) - GREY // 16).max() <= 1
    del paths["train_images"]
    assert load("idx", "test", files=paths).levels == (0, 255)


@pytest.mark.parametrize("array", [np.full((2, 3, 3), np.nan), np.full((2, 3, 3), np.inf)])
def test_what_is_no_number(tmp_path, array):
    paths = idx_files(tmp_path / "own", array, LABELS[:2])
    with pytest.raises(DataError, match=r"train-images: contains NaN or infinite numbers; replace"):
        load("idx", "train", files=paths)


def test_transposed_and_inverted(tmp_path):
    paths = idx_files(tmp_path / "own", COLOUR)
    found = load("idx", "train", files=paths, transpose=True, invert=True)
    np.testing.assert_array_equal(found.images, 255 - COLOUR.transpose(0, 1, 3, 2))
    assert found.images.flags.c_contiguous


def test_class_names_of_ones_own(tmp_path):
    paths = idx_files(tmp_path / "own")
    found = load("idx", "train", files=paths, class_names=["a", "b", "c", "d"])
    assert found.class_names == ("a", "b", "c", "d")
    with pytest.raises(DataError, match=r"label 2 is 2, the 2 classes are 0 to 1"):
        load("idx", "train", files=paths, class_names=["a", "b"])


# --- IDX by directory; data that moved -----------------------------------------------------------


def test_a_directory_of_idx_files_is_enough(tmp_path):
    idx_files(tmp_path / "own")
    for found in (
        load(tmp_path / "own", "test"),
        load("idx", "test", path=tmp_path / "own"),
        load("idx", "test", directory=tmp_path / "own"),
    ):
        np.testing.assert_array_equal(found.images, GREY)
        np.testing.assert_array_equal(found.labels, LABELS)


def test_files_that_moved_are_found_in_the_directory_that_is_named(tmp_path):
    paths = idx_files(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(DataError, match="there is no such file"):
        load("idx", "test", files=paths)
    found = load("idx", "test", files=paths, directory=tmp_path / "b")
    np.testing.assert_array_equal(found.images, GREY)


def test_a_directory_that_is_named_comes_first(tmp_path):
    paths = idx_files(tmp_path / "a")
    idx_files(tmp_path / "b", images=255 - GREY)
    found = load("idx", "test", files=paths, directory=tmp_path / "b")
    np.testing.assert_array_equal(found.images, 255 - GREY)
    (tmp_path / "c").mkdir()
    found = load("idx", "test", files=paths, directory=tmp_path / "c")
    np.testing.assert_array_equal(found.images, GREY)


def test_a_directory_without_test_images_is_reported(tmp_path):
    paths = idx_files(tmp_path / "own")
    paths["test_images"].unlink()
    whole = [len(load(tmp_path / "own", split).images) for split in ("train", "test")]
    assert sum(whole) == 20  # the training images are divided
    assert min(whole) > 0
    paths["train_labels"].unlink()
    with pytest.raises(DataError, match=r"own: contains no file of the train labels; name one tra"):
        load(tmp_path / "own", "test")


def test_npy_files_do_as_well(tmp_path):
    np.save(tmp_path / "x_train.npy", GREY)
    np.save(tmp_path / "y_train.npy", LABELS.astype(np.int64))
    found = load(tmp_path, "train", test_fraction=0)
    np.testing.assert_array_equal(found.images, GREY)
    np.testing.assert_array_equal(found.labels, LABELS)
    (tmp_path / "x_train.npy").write_bytes(b"\x93NUMPY rubbish")
    with pytest.raises(DataError, match=r"x_train.npy: is a .npy file with a damaged"):
        load(tmp_path, "train")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.mkdir(), "is a directory, .* set data.name to folder and data.path"),
        (
            lambda p: p.write_bytes(zipped(x=npy(GREY))),
            "is a zip archive, .* set data.name to npz and",
        ),
        (lambda p: p.write_text("5,0,0,0,0\n"), "is a text file, .* set data.name to csv and data"),
        (lambda p: p.write_text("<html>"), "is an HTML page; download or copy the file again"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (
            lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n"),
            "is not an IDX file .*; convert it with lenet.da",
        ),
        (
            lambda p: p.write_bytes(gzip.compress(b"5,0,0,0\n")),
            "is not an IDX file .*; convert it with",
        ),
    ],
    ids=["directory", "npz", "csv", "html", "empty", "png", "csv.gz"],
)
def test_files_of_other_formats_are_recognised(tmp_path, make, words):
    paths = idx_files(tmp_path / "own")
    paths["train_images"] = tmp_path / "other"
    make(paths["train_images"])
    with pytest.raises(DataError, match=rf"^{tmp_path / 'other'}: {words}"):
        load("idx", "train", files=paths)


# --- npz -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, keys, save):
    path = tmp_path / "keras.npz"
    arrays = (GREY[:12], LABELS[:12, None], GREY[12:], LABELS[12:, None].astype(np.int64))
    save(path, **dict(zip(keys, arrays, strict=True)))
    for found in (load(path, "train"), load("npz", "train", path=path)):
        np.testing.assert_array_equal(found.images, GREY[:12])
        np.testing.assert_array_equal(found.labels, LABELS[:12])
        assert found.class_names == ("0", "1", "2", "3")
    np.testing.assert_array_equal(load(path, "test").images, GREY[12:])


def test_npz_in_fortran_order_and_big_endian(tmp_path):
    path = tmp_path / "a.npz"
    images = np.asfortranarray(COLOUR.transpose(0, 2, 3, 1).astype(">f8") / 255)
    np.savez(path, x_train=images, y_train=LABELS, x_test=images, y_test=LABELS)
    np.testing.assert_array_equal(load(path, "train").images, COLOUR)


@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels"), ("x_train", "y_train")])
def test_npz_of_one_set_is_divided(tmp_path, keys):
    images = rng.integers(0, 256, (100, 6, 6), np.uint8)
    labels = np.repeat(np.arange(4), 25)
    np.savez(tmp_path / "a.npz", **dict(zip(keys, (images, labels), strict=True)))
    train, test = (load(tmp_path / "a.npz", split) for split in ("train", "test"))
    check_division(train, test, images, labels)
    halves = [load(tmp_path / "a.npz", s, test_fraction=0.5).labels for s in ("train", "test")]
    assert len(halves[0]) + len(halves[1]) == 100
    assert 30 < len(halves[1]) < 70


def check_division(train, test, images, labels):
    """Every image is in one of both parts, and every class has its share in each."""
    both = np.concatenate([train.images, test.images])
    rows = sorted(map(bytes, both.reshape(len(both), -1)))
    assert rows == sorted(map(bytes, images.reshape(len(images), -1)))
    assert 0 < len(test.labels) < len(train.labels)
    assert set(train.labels) == set(labels)
    pairs = {bytes(i): k for i, k in zip(images, labels, strict=True)}
    for part in (train, test):
        assert [pairs[bytes(i)] for i in part.images] == part.labels.tolist()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npz(folder: Path, **members: bytes) -> Path:
    (folder / "a.npz").write_bytes(zipped(**members))
    return folder / "a.npz"


def npy(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def test_npz_that_is_bad_or_hostile(tmp_path):
    good = {"x_train": npy(GREY), "y_train": npy(LABELS)}
    objects = npy(np.array([{}, {}], object), allow_pickle=True)
    bomb = npy(np.zeros(1, "u1")).replace(b"(1,)", b"(9000000000000,)")
    for members, words in (
        (good | {"x_train": objects}, r"x_train.npy: contains object where numbers are needed"),
        (good | {"x_train": bomb}, r"x_train.npy: (promises|is a .npy file with a damaged)"),
        (good | {"x_train": npy(GREY)[:-9]}, r"x_train.npy: promises \(20, 6, 6\) of uint8, and"),
        (good | {"x_train": b"rubbish"}, r"x_train.npy: is a .npy file with a damaged"),
        ({"pictures": npy(GREY)}, r"contains pictures, but neither x_train and y_train nor train"),
        ({}, r"contains no arrays, but neither"),
    ):
        with pytest.raises(DataError, match=rf"a.npz: {words}"):
            load(npz(tmp_path, **members), "train")
    content = bytearray(npz(tmp_path, **good).read_bytes())
    content[200] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a.npz: x_train.npy: is damaged"):
        load(tmp_path / "a.npz", "train")
    (tmp_path / "a.npz").write_bytes(b"PK rubbish")
    with pytest.raises(DataError, match=r"a.npz: is not a .npz archive"):
        load(tmp_path / "a.npz", "train")


# --- csv -----------------------------------------------------------------------------------------


def csv(images, labels, header=True, delimiter=",", last=False) -> str:
    rows = []
    if header:
        names = [f"pixel{k}" for k in range(images[0].size)]
        rows.append([*names, "label"] if last else ["label", *names])
    for image, label in zip(images, labels, strict=True):
        pixels = [f"{value:g}" for value in image.ravel()]
        rows.append([*pixels, str(label)] if last else [str(label), *pixels])
    return "".join(delimiter.join(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    "options",
    [{}, {"header": False}, {"delimiter": ";"}, {"delimiter": "\t"}, {"last": True}],
    ids=str,
)
def test_csv(tmp_path, options):
    (tmp_path / "mnist_train.csv").write_text(csv(GREY[:12], LABELS[:12], **options))
    (tmp_path / "mnist_test.csv").write_text(csv(GREY[12:], LABELS[12:], **options))
    for split, part in (("train", slice(12)), ("test", slice(12, 20))):
        found = load(tmp_path, split)
        np.testing.assert_array_equal(found.images, GREY[part])
        np.testing.assert_array_equal(found.labels, LABELS[part])


def test_csv_in_colour_from_0_to_1(tmp_path):
    images = rng.integers(0, 256, (12, 3, 5, 5), np.uint8)
    (tmp_path / "a.csv").write_text(csv(images / 255, LABELS[:12]))
    train = load("csv", "train", path=tmp_path / "a.csv", test_fraction=0)
    np.testing.assert_array_equal(train.images, images)


def test_csv_of_one_file_is_divided(tmp_path):
    labels = np.repeat(np.arange(4), 5)
    (tmp_path / "a.csv").write_text(csv(GREY, labels))
    train, test = (load(tmp_path / "a.csv", split) for split in ("train", "test"))
    check_division(train, test, GREY, labels)


def test_kaggles_test_file_has_no_labels(tmp_path):
    """Then the training file is divided; the file by itself is refused."""
    labels = np.repeat(np.arange(4), 5)
    (tmp_path / "train.csv").write_text(csv(GREY, labels))
    rows = csv(GREY, labels).splitlines()
    (tmp_path / "test.csv").write_text("\n".join(row.partition(",")[2] for row in rows))
    lines = []
    train, test = (load(tmp_path, split, warn=lines.append) for split in ("train", "test"))
    assert set(lines) == {f"{tmp_path / 'test.csv'}: left out: it has no column of labels"}
    check_division(train, test, GREY, labels)
    with pytest.raises(DataError, match=r"test.csv: has no column of labels: there are only pixel"):
        load(tmp_path / "test.csv", "train")


def test_csv_with_words_for_labels(tmp_path):
    words = np.array(["dog", "cat", "7", "ant"])
    (tmp_path / "train.csv").write_text(csv(GREY, words[LABELS]))
    (tmp_path / "test.csv").write_text(csv(GREY[:3], ["dog", "dog", "7"]))
    train, test = (load(tmp_path, split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("7", "ant", "cat", "dog")
    assert [train.class_names[k] for k in train.labels] == words[LABELS].tolist()
    np.testing.assert_array_equal(test.labels, [3, 3, 0])
    (tmp_path / "test.csv").write_text(csv(GREY[:1], ["cow"]))
    with pytest.raises(DataError, match=r"class cow has no training images; the classes are 7, an"):
        load(tmp_path, "test")


def test_csv_of_bytes_is_parsed_once(tmp_path, cache, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text(csv(GREY, LABELS))
    first = load(path, "train", test_fraction=0)
    assert len(list((cache / "decoded").glob("*.npy"))) == 1
    monkeypatch.setattr("lenet.data.formats.table._parse", None)
    again = load(path, "train", test_fraction=0)
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.labels, first.labels)


def test_csv_of_more_rows_than_are_parsed_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("lenet.data.formats.table.ROWS", 7)
    (tmp_path / "a.csv").write_text(csv(GREY, LABELS))
    found = load(tmp_path / "a.csv", "train", test_fraction=0)
    np.testing.assert_array_equal(found.images, GREY)
    np.testing.assert_array_equal(found.labels, LABELS)
    images = GREY.astype(float)
    images[15, 2, 2] = 0.5  # the first blocks are bytes, this one is not
    (tmp_path / "a.csv").write_text(csv(images, LABELS))
    found = load(tmp_path / "a.csv", "train", test_fraction=0)
    np.testing.assert_array_equal(found.images, np.rint(images))
    (tmp_path / "a.csv").write_text(csv(GREY, LABELS) + "1,2\n")
    with pytest.raises(DataError, match=r"row 22: is not a row of numbers"):
        load(tmp_path / "a.csv", "train")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label,a,b,c,d\n1,2,3,4,5\n1,2,3\n", r"row 3: is not a row of numbers \(invalid column"),
        (
            "label,a,b,c,d\n1,2,x,4,5\n",
            r"row 2: is not a row of numbers \(could not convert string 'x'",
        ),
        ("1,2,3,4,5,6\n", r"has 6 columns, not a label and the pixels of a square image"),
        ("label,a,b,c,d\n", r"contains no rows"),
        ("", r"is empty"),
        ("\xff\xfe", r"row 1: is not text in UTF-8"),
    ],
)
def test_csv_that_is_bad(tmp_path, text, words):
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=rf"a.csv: {words}"):
        load(tmp_path / "a.csv", "train")


# --- a directory a class -------------------------------------------------------------------------


def write_pgm(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    H, W = image.shape
    path.write_bytes(b"P5 %d %d 255\n" % (W, H) + image.tobytes())


def folder_of(root: Path, images=GREY, labels=LABELS, names=("a", "b", "c", "d")) -> Path:
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        write_pgm(root / names[label] / f"{k:03}.pgm", image)
    return root


def test_a_directory_for_every_class(tmp_path, cache):
    folder_of(tmp_path / "own" / "train", GREY[:12], LABELS[:12])
    folder_of(tmp_path / "own" / "test", GREY[12:], LABELS[12:])
    (tmp_path / "own" / "train" / ".DS_Store").write_bytes(b"rubbish")
    for split, part in (("train", slice(12)), ("test", slice(12, 20))):
        order = np.argsort(LABELS[part], kind="stable")
        for _ in range(2):
            found = load(tmp_path / "own", split)
            np.testing.assert_array_equal(found.images, GREY[part][order])
            np.testing.assert_array_equal(found.labels, np.sort(LABELS[part]))
            assert found.class_names == ("a", "b", "c", "d")
            assert isinstance(found.images, np.memmap)  # as fast as an IDX file from now on
    assert len(list((cache / "decoded").glob("*.npy"))) == 2


def test_a_changed_picture_is_read_again(tmp_path):
    root = folder_of(tmp_path / "own")
    before = load(root, "train", test_fraction=0).images.copy()
    write_pgm(root / "a" / "000.pgm", np.zeros((6, 6), np.uint8))
    write_pgm(root / "a" / "0000.pgm", np.zeros((6, 6), np.uint8))
    after = load(root, "train", test_fraction=0).images
    assert len(after) == len(before) + 1
    np.testing.assert_array_equal(after[2:], before[1:])


def test_without_a_cache_pictures_are_read_into_memory(tmp_path, cache):
    cache.parent.mkdir()
    cache.write_text("a file where the directory should be")
    found = load(folder_of(tmp_path / "own"), "train", test_fraction=0)
    np.testing.assert_array_equal(found.images, GREY[np.argsort(LABELS, kind="stable")])


def test_one_set_of_pictures_is_divided(tmp_path):
    labels = np.repeat(np.arange(4), 5)
    root = folder_of(tmp_path / "own", GREY, labels)
    train, test = (load(root, split) for split in ("train", "test"))
    check_division(train, test, GREY, labels)


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    names = ("2", "10", "1", "0")
    found = load(folder_of(tmp_path / "own", names=names), "train")
    assert found.class_names == ("0", "1", "2", "10")


def test_colour_pictures_and_nested_directories(tmp_path):
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for k, (image, label) in enumerate(zip(COLOUR, LABELS, strict=True)):
        path = tmp_path / "own" / "train" / "abcd"[label] / "more" / f"{k:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    write_pgm(tmp_path / "own" / "test" / "a" / "1.pgm", GREY[0].repeat(2, 1)[:, :8])
    train, test = (load(tmp_path / "own", split) for split in ("train", "test"))
    np.testing.assert_array_equal(train.images, COLOUR[np.argsort(LABELS, kind="stable")])
    assert test.images.shape == (1, 3, 6, 8)  # grey, as three channels: the network has three
    assert test.class_names == ("a", "b", "c", "d")


def test_colour_pictures_for_testing_and_grey_ones_for_training(tmp_path):
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    folder_of(tmp_path / "own" / "train")
    (tmp_path / "own" / "test" / "a").mkdir(parents=True)
    Image.fromarray(COLOUR[0, :, :, :6].transpose(1, 2, 0)).save(tmp_path / "own/test/a/1.png")
    with pytest.raises(DataError, match=r"1.png: is in colour, the training pictures are grey"):
        load(tmp_path / "own", "test")


def test_pictures_of_several_sizes(tmp_path):
    root = folder_of(tmp_path / "own")
    write_pgm(root / "b" / "large.pgm", np.full((20, 40), 77, np.uint8))
    with pytest.raises(
        DataError, match=r"large.pgm: is of 20×40 pixels, others of 6×6; .*data.siz"
    ):
        load(root, "train", size=None)
    assert load(root, "train").images.shape[1:] == (6, 6)
    found = load(root, "train", size=(8, 10), test_fraction=0)
    assert found.images.shape == (21, 8, 10)
    large = found.images[np.flatnonzero((found.images == 77).all(axis=(1, 2)))]
    assert len(large) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "there is no such file or directory; check the path"),
        (
            lambda p: p.mkdir(),
            "is not a data set; name a directory with IDX files or with pictures",
        ),
        (lambda p: p.write_text("x"), "is not a data set; load it in Python and save it: numpy"),
    ],
)
def test_a_path_that_is_no_data_set(tmp_path, make, words):
    make(tmp_path / "own")
    with pytest.raises(DataError, match=words):
        load(tmp_path / "own", "train")


def test_folders_that_are_bad(tmp_path):
    root = folder_of(tmp_path / "own" / "train")
    folder_of(tmp_path / "own" / "test", names=("a", "b", "c", "zebra"))
    with pytest.raises(DataError, match=r"test: class zebra has no training images; the classes"):
        load(tmp_path / "own", "test")
    for path in (tmp_path / "own" / "test").rglob("*.pgm"):
        path.unlink()
    lines = []
    assert len(load(tmp_path / "own", "test", warn=lines.append).images) > 0  # some to train on
    assert lines == [f"{tmp_path / 'own' / 'test'}: left out: no directories of classes in it"]
    shutil.rmtree(tmp_path / "own" / "test")
    (root / "a" / "000.pgm").write_bytes(b"P5 6 6 255\nshort")
    with pytest.raises(ImageError, match=r"000.pgm: is cut short"):
        load(tmp_path / "own", "train")
    with pytest.raises(ConfigError, match=r"^data.path: is not given; name the directory"):
        load("folder", "train")
    with pytest.raises(DataError, match=r"is a file, but data.name is folder; name the directory"):
        load("folder", "train", path=root / "a" / "004.pgm")


def test_formats_are_recognised(tmp_path):
    idx_files(tmp_path / "idx")
    folder_of(tmp_path / "folder")
    np.savez(tmp_path / "a.npz", x=GREY, y=LABELS)
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "train.csv").write_text(csv(GREY, LABELS))
    for name in ("idx", "folder", "npz", "csv"):
        path = tmp_path / ("a.npz" if name == "npz" else name)
        assert recognise(path) == name
        place = {"path": path} if name == "npz" else {"directory": path}
        assert len(load(name, "train", **place).images) >= 10
