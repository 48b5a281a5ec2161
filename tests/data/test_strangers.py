"""Images as other people have them: names of parts, labels, damage, levels, and where each is."""

from __future__ import annotations

import csv
import json
import os
import struct
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from sets import load

from lenet.data.dataset import fingerprint, open_dataset
from lenet.data.formats.stored import Options
from lenet.data.formats.table import open_table
from lenet.data.sources import recognise, unlabelled
from lenet.data.splits import balanced, held_for_testing, identities, part_of
from lenet.errors import ConfigError, DataError

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("LENET_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(path, seed: int = 0, shape=(8, 8)) -> np.ndarray:
    """Write a PGM file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(b"P5 %d %d 255\n" % (shape[1], shape[0]) + pixels.tobytes())
    return pixels


def folder(root, classes=("cat", "dog"), count: int = 12, first: int = 0) -> Path:
    for c, name in enumerate(classes):
        for k in range(count):
            picture(Path(root, name, f"{k}.pgm"), seed=1000 * c + first + k)
    return Path(root)


def opened(path, **options):
    """The data set at a path, and the lines about what was left out."""
    lines: list[str] = []
    given = Options(name=recognise(Path(path), Options(**options)), path=str(path), **options)
    return open_dataset(given, warn=lines.append), lines


def table(path, header, rows) -> Path:
    with Path(path).open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)
    return Path(path)


PIXELS = [f"pixel{k}" for k in range(64)]


def rows(count: int = 20) -> list[list[int]]:
    return rng.integers(0, 256, (count, 64)).tolist()


# --- Parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("Training Data", "Test Data"), "train test"),
        (("seg_train", "seg_test"), "train test"),
        (("asl_alphabet_train", "asl_alphabet_test"), "train test"),
        (("TRAIN", "valid", "testing"), "train validation test"),
        (("train_set", "dev", "test_set"), "train validation test"),
        (("trainingSet", "validationSet"), "train validation"),
    ],
)
def test_directories_of_parts(names, parts):
    for k, name in enumerate(names):
        folder(f"d/{name}", first=100 * k)
    data, _ = opened("d")
    assert data.class_names == ("cat", "dog")
    found = {"train": len(data.training.labels)}
    found |= {"validation": data.validation and len(data.validation.labels)}
    assert found["train"] == 24 or "test" not in parts
    assert (found["validation"] == 24) == ("validation" in parts)
    assert len(data.test.labels) == 24 or "test" not in parts


def test_a_part_that_is_left_out_is_named():
    folder("d/seg_train")
    picture("d/seg_pred/1.pgm")
    _, lines = opened("d")
    assert lines == ["d/seg_pred: left out: no directories of classes in it"]


def test_a_class_called_train_and_a_question():
    folder("vehicles", ("bus", "train"))
    assert opened("vehicles")[0].class_names == ("bus", "train")
    folder("animals", ("cat", "dog", "test"))
    with pytest.raises(
        DataError, match=r"test may be parts or classes; .* name the classes with da"
    ):
        opened("animals")
    assert opened("animals", class_names=("cat", "test"))[0].class_names == ("cat", "test")


@pytest.mark.parametrize("keys", [("val_images", "val_labels"), ("x_valid", "y_valid")])
def test_validation_arrays(keys):
    x, y = rng.integers(0, 256, (30, 8, 8), np.uint8), np.arange(30) % 3
    arrays = dict(zip(keys, (x[20:], y[20:]), strict=True))
    np.savez("m.npz", train_images=x[:15], train_labels=y[:15, None], test_images=x[15:20],
             test_labels=y[15:20, None], **arrays)  # fmt: skip
    data, _ = opened("m.npz")
    np.testing.assert_array_equal(data.validation.images, x[20:])
    assert len(data.validation_rows) == 0
    assert [len(data.split(name).labels) for name in ("train", "validation", "test")] == [15, 10, 5]
    assert str(data.test.origin(2)) == "m.npz:test_images[2]"


def test_validation_at_another_path():
    folder("d")
    folder("v", ("dog",), 3, first=500)
    data, _ = opened("d", validation_path="v")
    assert len(data.split("validation").labels) == 3
    assert set(data.validation.labels) == {1}
    folder("w", ("bird",), 2)
    with pytest.raises(
        DataError, match="class bird has no training images; the classes are cat, d"
    ):
        _ = opened("d", validation_path="w")[0].validation


def test_another_picture_moves_no_other_between_training_and_test():
    folder("d", count=60)
    test = opened("d")[0].test
    before = {str(test.origin(k)) for k in range(len(test.labels))}
    folder("d", count=90)
    data, _ = opened("d")
    after = {str(data.test.origin(k)) for k in range(len(data.test.labels))}
    old = {name for name in after if int(Path(name).stem) < 60}
    assert old == before
    assert 0.1 < len(after) / 180 < 0.3
    x = rng.random((200, 6, 6))
    first = held_for_testing(identities(x), np.zeros(200), 0.2)
    more = held_for_testing(identities(np.concatenate([x, x[:9] + 1])), np.zeros(209), 0.2)
    np.testing.assert_array_equal(more[:200], first)


def test_data_the_network_was_not_trained_on_are_used_as_a_whole():
    folder("d", count=30)
    data, lines = opened("d", own=False)
    assert len(data.test.labels) == len(data.split("train").labels) == 60
    assert lines == ["d: has no test part: all of its 60 images are evaluated"]
    with pytest.raises(ConfigError, match="d has no validation images"):
        data.part("validation")


def test_a_limit_takes_all_classes():
    labels = np.repeat([0, 1, 2, 3], [300, 100, 20, 5])
    np.testing.assert_array_equal(np.bincount(labels[balanced(labels, 40)]), [12, 12, 11, 5])
    assert set(balanced(labels, 40)) < set(balanced(labels, 80))
    assert set(opened(folder("d", count=40), limit=20)[0].training.labels) == {0, 1}


@pytest.mark.parametrize("name", ["cat", "latest", "contrast", "validated", "evaluation_x"])
def test_names_that_are_no_parts(name):
    assert part_of(name) is None


# --- What is left out ----------------------------------------------------------------------------


def test_what_is_left_out_is_counted_once_per_class():
    root = folder("d", ("cat", "dog", "emu"))
    for k in range(6):
        (root / "dog" / f"{k}.pgm").rename(root / "dog" / f"{k}.heic")
        picture(root / "cat" / "_old" / f"{k}.pgm")
        picture(root / "cat" / ".thumbs" / f"{k}.pgm")
        picture(root / "cat" / "@eaDir" / f"{k}.pgm")
    for path in (root / "emu").iterdir():
        path.rename(path.with_suffix(".avif"))
    picture(root / "_aside" / "1.pgm")
    (root / "cat" / "0.pgm").rename(root / "cat" / "zero.jpg_large")  # read by its content
    data, lines = opened("d")
    assert data.class_names == ("cat", "dog")
    assert len(data.training.labels) + len(data.test.labels) == 18
    assert sorted(lines) == [
        "d/_aside: left out, as its name begins with _ (pictures: 1)",
        "d/cat: left out: 6 files _… (such as 0.pgm)",
        "d/dog: left out: 6 files .heic (such as 0.heic)",
        "d/emu: not a class, as none of its files is read: 12 files .avif (such as 0.avif)",
    ]


def test_damaged_pictures_are_all_named_in_one_pass():
    root = folder("d", count=20)
    bad = [root / "cat" / f"{k}.pgm" for k in range(0, 20, 3)]
    for path in bad:
        path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError, match="7 of 40 pictures are damaged: ") as caught:
        _ = opened("d")[0].training
    assert all(str(path) in str(caught.value) for path in bad)
    data, lines = opened("d", damaged="skip")
    assert len(data.training.labels) + len(data.test.labels) == 33
    assert len(lines) == 7


def test_names_in_two_encodings_are_one_class():
    word = unicodedata.normalize("NFC", "é")
    folder("d/train", (word, "z"))
    folder("d/test", (unicodedata.normalize("NFD", "é"), "z"), first=50)
    data, _ = opened("d")
    assert data.class_names == ("z", word)
    assert np.bincount(data.test.labels).tolist() == [12, 12]


# --- Sizes, levels and the cache -----------------------------------------------------------------


def png16(path, pixels) -> None:
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(
            ">I", zlib.crc32(kind + data)
        )  # fmt: skip

    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 0, 0, 0, 0)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )  # fmt: skip


def test_pictures_of_16_bits_share_one_range():
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    deep = [rng.integers(*((300, 500), (700, 1000))[k % 2], (8, 8)) for k in range(20)]
    for k, pixels in enumerate(deep):
        png16(f"d/{'ab'[k % 2]}/{k:02}.png", pixels)
    found = load("d", "train", test_fraction=0)
    assert found.levels == (0, 1023)
    order = np.argsort(np.arange(20) % 2, kind="stable")
    expected = np.rint(np.stack(deep)[order] * 255 / 1023)
    np.testing.assert_array_equal(found.images, expected)


def test_the_size_is_the_median_reduced_to_fit():
    for k in range(9):
        picture(f"d/a/{k}.pgm", k, (40, 40))
        picture(f"d/b/{k}.pgm", 50 + k, (900, 700) if k == 0 else (40, 40))
    assert load("d", "train").images.shape[1:] == (32, 32)
    assert load("d", "train", within=(48, 48)).images.shape[1:] == (40, 40)
    with pytest.raises(DataError, match=r"set data.size to auto"):
        load("d", "train", size=None)


def test_other_pictures_of_the_same_size_and_date_are_read(place):
    def write(level: int) -> None:
        for c in "ab":
            for k in range(5):
                path = Path("d", c, f"{k}.pgm")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                path.write_bytes(b"P5 8 8 255\n" + bytes([level + k] * 64))
                os.utime(path, (1_700_000_000, 1_700_000_000))

    means = []
    for level in (10, 150):
        write(level)
        means.append(load("d", "train").images.mean())
    assert means[0] < 20 < 140 < means[1]
    assert len(list((place / "cache").rglob("*.npy"))) == 1  # the second replaces the first


# --- Tables --------------------------------------------------------------------------------------


def test_headers_of_numbers():
    labels = [["a", "b", "c"][k % 3] for k in range(20)]
    table(
        "first.csv", ["label", *range(64)], [[y, *x] for x, y in zip(rows(), labels, strict=True)]
    )
    table("last.csv", [*range(65)], [[*x, k % 3] for k, x in enumerate(rows())])
    mangled = ["0", *(f"0.{k}" for k in range(1, 65))]
    table("pandas.csv", mangled, [[k % 3, *x] for k, x in enumerate(rows())])
    for name in ("first", "last", "pandas"):
        found = load(f"{name}.csv", "train", test_fraction=0)
        assert len(found.labels) == 20, name
        assert len(found.class_names) == 3, name
    assert open_table(table("x.csv", None, [[k / 64 for k in range(64)]])).header is None


def test_columns_of_labels():
    x = rows(30)
    y = [k % 4 for k in range(30)]
    table("last.csv", [*PIXELS, "y_class"], [[*a, b] for a, b in zip(x, y, strict=True)])
    table(
        "index.csv",
        ["", "label", *PIXELS],
        [[k, b, *a] for k, (a, b) in enumerate(zip(x, y, strict=True))],
    )
    table("comma.csv", ["label", *PIXELS, ""], [[b, *a, ""] for a, b in zip(x, y, strict=True)])
    table("plain.csv", None, [[*a, b] for a, b in zip(x, y, strict=True)])
    for name in ("last", "index", "comma", "plain"):
        lines: list[str] = []
        found = load(f"{name}.csv", "train", test_fraction=0, warn=lines.append)
        np.testing.assert_array_equal(found.labels, y, name)
        np.testing.assert_array_equal(found.images.reshape(30, -1), x, name)
    table("two.csv", ["shape", "colour", *PIXELS], [["s", "r", *a] for a in x])
    with pytest.raises(DataError, match="shape, colour may be labels; name the column of labels"):
        load("two.csv", "train")
    found = load("two.csv", "train", label_column="colour", warn=lines.append, test_fraction=0)
    assert found.class_names == ("r",)
    assert "two.csv: neither label nor pixels, left out: shape" in lines
    with pytest.raises(ConfigError, match=r"data.label_column: two.csv has no column size"):
        load("two.csv", "train", label_column="size")


def test_words_stay_words_and_empty_labels_name_their_row():
    for words in (["1_0", "1_1"], ["inf", "nan"], ["1e1", "x"]):
        table("w.csv", ["label", *PIXELS], [[words[k % 2], *x] for k, x in enumerate(rows())])
        assert load("w.csv", "train").class_names == tuple(sorted(words))
    table(
        "e.csv", ["label", *PIXELS], [["" if k == 7 else k % 2, *x] for k, x in enumerate(rows())]
    )
    with pytest.raises(
        DataError, match=r"e.csv: row 9: has no label; give it one, or remove the ro"
    ):
        load("e.csv", "train")


def test_a_broken_last_line_is_named_and_origins_are_lines():
    table("b.csv", ["label", *PIXELS], [[k % 2, *x] for k, x in enumerate(rows())])
    found = load("b.csv", "train", test_fraction=0)
    assert str(found.origin(3)) == "b.csv[5]"
    with Path("b.csv").open("a") as file:
        file.write("1,2,3")
    with pytest.raises(DataError, match=r"b.csv: row 22: is not a row of numbers"):
        load("b.csv", "train")


# --- Labels beside pictures ----------------------------------------------------------------------


def flat(count: int = 24) -> list[tuple[str, str]]:
    names = [(f"img{k}.pgm", ("cat", "dog")[k % 2]) for k in range(count)]
    for k, (name, _) in enumerate(names):
        picture(f"lab/images/{name}", k)
    return names


@pytest.mark.parametrize("form", ["names", "paths", "stems", "one hot", "no header"])
def test_labels_in_a_table(form):
    names = flat()
    header: list[str] | None = ["filename", "label"]
    lines = [[name, label] for name, label in names]
    if form == "paths":
        lines = [[f"images\\{name}", label] for name, label in names]
    elif form == "stems":
        header, lines = ["id", "breed"], [[Path(name).stem, label] for name, label in names]
    elif form == "one hot":
        header = ["image", "cat", "dog"]
        lines = [[name, str(int(y == "cat")), str(int(y == "dog"))] for name, y in names]
    elif form == "no header":
        header = None
    table("lab/anything.csv", header, lines)
    for target in ("lab", "lab/anything.csv"):
        found = load(target, "train", test_fraction=0)
        assert found.class_names == ("cat", "dog")
        assert len(found.labels) == 24
        k = [str(found.origin(k)) for k in range(24)].index("lab/images/img3.pgm")
        assert found.labels[k] == 1


def test_a_column_of_parts():
    names = flat()
    split = ["train"] * 16 + ["val"] * 4 + ["test"] * 4
    rows_ = [[name, label, part] for (name, label), part in zip(names, split, strict=True)]
    table("lab/labels.csv", ["path", "class", "split"], rows_)
    data, _ = opened("lab")
    found = [len(data.split(name).labels) for name in ("train", "validation", "test")]
    assert found == [16, 4, 4]


def test_labels_and_pictures_that_have_no_partner_are_both_named():
    names = flat()
    table("lab/labels.csv", ["filename", "label"], [*names[:20], ("gone.pgm", "cat")])
    with pytest.raises(
        DataError, match=r"row 22: gone.pgm\); 4 pictures have no label \(img20.pgm"
    ):
        opened("lab")
    data, lines = opened("lab", damaged="skip")
    assert len(data.training.labels) + len(data.test.labels) == 20
    assert "gone.pgm" in lines[0]
    assert "img23.pgm" in lines[0]


def test_labels_in_file_names():
    for k in range(20):
        picture(f"flat/{'circle' if k % 2 else 'cross'}_{k}.pgm", k)
    with pytest.raises(
        DataError, match=r"flat: contains pictures without labels; .*data.label_patt"
    ):
        opened("flat")
    assert load("flat", "train", label_pattern="^(.*?)_").class_names == ("circle", "cross")
    for pattern, words in (("(", "is not a regular"), ("x", "has no group"), ("^(q)_", "matches")):
        with pytest.raises((ConfigError, DataError), match=words):
            opened("flat", label_pattern=pattern)


def test_corrections_of_labels():
    folder("d")
    table("c.csv", ["path", "label"], [["d/cat/3.pgm", "dog"], ["elsewhere.pgm", "cat"]])
    found = load("d", "train", labels="c.csv", test_fraction=0)
    names = [str(found.origin(k)) for k in range(24)]
    assert found.labels[names.index("d/cat/3.pgm")] == 1
    assert np.bincount(found.labels).tolist() == [11, 13]
    table("c.csv", ["path", "label"], [["d/cat/3.pgm", "cow"]])
    with pytest.raises(
        DataError, match=r"c.csv: row 2: cow is not a class; the classes are cat, do"
    ):
        load("d", "train", labels="c.csv")


# --- Class names ---------------------------------------------------------------------------------


def test_class_names_choose_and_order_or_are_refused():
    root = folder("d", ("circle", "cross", "square"))
    found = load(root, "train", class_names=("square", "cross", "circle"), test_fraction=0)
    k = [str(found.origin(k)) for k in range(36)].index("d/square/0.pgm")
    assert found.class_names[found.labels[k]] == "square"
    data, lines = opened("d", class_names=("square", "cross"))
    assert len(data.training.labels) + len(data.test.labels) == 24
    assert "left out: 12 images of classes that data.class_names does not name" in lines[0]
    with pytest.raises(
        ConfigError, match=r"data.class_names: names disc, but the classes of d are"
    ):
        load(root, "train", class_names=("disc", "cross", "square"))


# --- Parquet and MATLAB --------------------------------------------------------------------------


def test_parquet_as_on_the_hub():
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    Path("hub/data").mkdir(parents=True)
    pixels = {}
    for part, count, first in (("train", 20, 0), ("test", 8, 100)):
        cells = []
        for k in range(count):
            pixels[part, k] = picture("one.pgm", first + k)
            cells.append({"bytes": Path("one.pgm").read_bytes(), "path": f"{k}.pgm"})
        made = arrow.table({"image": cells, "label": [k % 2 for k in range(count)]})
        made = made.replace_schema_metadata(metadata)
        parquet.write_table(made, f"hub/data/{part}-00000-of-00001.parquet", row_group_size=7)
    data, lines = opened("hub")
    assert (data.class_names, lines) == (("cat", "dog"), [])
    np.testing.assert_array_equal(data.training.images[9], pixels["train", 9])
    assert str(data.test.origin(3)) == "hub/data/test-00000-of-00001.parquet[3]"
    assert data.test.labels.tolist() == [0, 1] * 4
    assert unlabelled(Path("hub/data/test-00000-of-00001.parquet")).shape == (8, 8, 8)
    Path("x.parquet").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"x.parquet: is not a parquet file, or is damaged"):
        load("x.parquet", "train")


def test_matlab_as_svhn():
    from scipy.io import savemat

    x = rng.integers(0, 256, (30, 32, 32, 3), np.uint8)
    y = np.arange(30) % 10 + 1
    Path("svhn").mkdir()
    for part, chosen in (("train", slice(20)), ("test", slice(20, 30))):
        arrays = {"X": x[chosen].transpose(1, 2, 3, 0), "y": y[chosen, None]}
        savemat(f"svhn/{part}_32x32.mat", arrays, do_compression=True)
    data, _ = opened("svhn")
    assert data.class_names == tuple("0123456789")
    np.testing.assert_array_equal(data.training.images, x[:20].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data.test.labels, y[20:] % 10)
    Path("svhn/train_32x32.mat").write_bytes(b"MATLAB 7.3 MAT-file, and more")
    with pytest.raises(DataError, match=r"is of MATLAB 7.3, an HDF5 file; save it with"):
        load("svhn/train_32x32.mat", "train")
    Path("y.mat").write_bytes(b"something else" * 99)
    with pytest.raises(DataError, match=r"y.mat: is not a MATLAB file"):
        load("y.mat", "train")


# --- Origins, and the fingerprint ----------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_same_images_anywhere():
    folder("d", count=30)
    Path("d").rename("e")
    prints = {fingerprint(load(name, "train")) for name in ("e",)}
    folder("d", count=30)
    assert fingerprint(load("d", "train")) in prints
