"""Image files of every kind and every fault: rows 43 to 45 of the list of faults."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet.data import imagefile
from lenet.data.formats.idx import write_idx
from lenet.data.imagefile import read_images
from lenet.errors import ImageError, LenetError, SystemFailure

# Levels of a picture of 2×3 pixels, none like its mirror images.
GREY = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)


def only(path: Path) -> np.ndarray:
    ((name, pixels),) = read_images(path)
    assert name == str(path)
    assert pixels.dtype == np.float32
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    return pixels


def refused(path: Path, *words: str) -> None:
    with pytest.raises(LenetError) as info:
        list(read_images(path))
    assert info.value.exit_code == 3
    assert info.value.file == str(path)
    for word in words:
        assert word in str(info.value)


# --- Without Pillow ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        GREY,
        GREY.astype(np.uint16) * 257,
        (GREY / 255).astype(np.float32),
        GREY.astype(np.int64),
        GREY.astype(np.float64) * 3 - 100,  # floats as they span
        np.repeat(GREY[..., None], 3, axis=2),
        np.asfortranarray(GREY.astype(">u2")),
    ],
    ids=["u1", "u2", "f4", "i8", "f8", "colour", "big-endian"],
)
def test_npy(tmp_path, array):
    path = tmp_path / "image.npy"
    np.save(path, array)
    np.testing.assert_allclose(only(path)[..., 0], GREY / 255, atol=1e-6)


def test_a_stack_is_numbered(tmp_path):
    wide = np.tile(GREY, 2)  # (N,H,3) would be colour
    stack = np.stack([wide, 255 - wide])
    np.save(tmp_path / "stack.npy", stack)
    write_idx(tmp_path / "stack.idx", stack)
    write_idx(tmp_path / "stack.gz", stack)
    for name in ("stack.npy", "stack.idx", "stack.gz"):
        images = dict(read_images(tmp_path / name))
        assert list(images) == [f"{tmp_path / name}[0]", f"{tmp_path / name}[1]"]
        for image, expected in zip(images.values(), stack, strict=True):
            np.testing.assert_allclose(image[..., 1], expected / 255, atol=1e-6)


@pytest.mark.parametrize(
    "data",
    [
        b"P5 3 2 255\n" + GREY.tobytes(),
        b"P5\n# by a scanner\n3 2\n# white:\n65535\n" + (GREY.astype(">u2") * 257).tobytes(),
        b"P2\n3 2\n5\n0 1 2\n3 4 5\n",
    ],
    ids=["P5", "P5 of 16 bits", "P2"],
)
def test_pgm(tmp_path, data):
    path = tmp_path / "image.pgm"
    path.write_bytes(data)
    np.testing.assert_allclose(only(path)[..., 2], GREY / 255, atol=1e-6)


def test_large_arrays_are_reduced_to_means(tmp_path):
    array = np.zeros((4096, 3000), np.uint8)
    array[::2] = 255
    np.save(tmp_path / "large.npy", array)
    pixels = only(tmp_path / "large.npy")
    assert pixels.shape == (2048, 1500, 3)
    np.testing.assert_allclose(pixels, 0.5)


def test_a_line_of_pixels_is_reduced_too(tmp_path):
    np.save(tmp_path / "line.npy", np.full((1, 100_000), 255, np.uint8))
    assert max(only(tmp_path / "line.npy").shape) <= 2048


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"P5", "short"),
        (b"P5 3 2 255\n" + bytes(5), "cut short"),
        (b"P5 99999 99999 255\n" + bytes(9), "pixels"),
        (b"P5 0 2 255\n" + bytes(9), "no pixels"),
        (b"P5 3 2 70000\n" + bytes(9), "70000"),
        (b"P5 x y z\n" + bytes(9), "header"),
        (b"P5 3 999999999999999999999 255\n", "header"),
        (b"P2 3 2 5\n1 2 3 4 five 6", "number"),
        (b"P2 3 2 5\n1 2 3 4 5 99999999", "number"),
        (b"\x93NUMPY\x01\x00\xff\xff{'descr'", "npy"),
        (b"\x93NUMPY\x09\x00\xff\xff{'descr'", "npy"),
    ],
)
def test_damaged_arrays(tmp_path, data, word):
    path = tmp_path / "image"
    path.write_bytes(data)
    refused(path, word)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.array(3), "single number"),
        (np.zeros((2, 2, 2, 2)), "2×2×2×2"),
        (np.zeros((0, 5)), ""),
        (np.zeros((3, 0, 5)), ""),
        (np.array([[1j]]), "complex"),
        (np.array([["a", "b"]]), "<U1"),
        (np.array([[np.nan, 1]]), "NaN"),
        (np.array([[{}, {}]], object), "npy"),
        (np.zeros((2, 2), [("a", "u1")]), "where numbers are needed"),
    ],
)
def test_arrays_that_are_no_image(tmp_path, array, word):
    np.save(tmp_path / "image.npy", array, allow_pickle=True)
    refused(tmp_path / "image.npy", word)


def with_header(text: str, length: int | None = None) -> bytes:
    """An .npy file of twelve zeros with this header, which claims to have this length."""
    line = f"{text:117}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length or len(line)) + line + bytes(12)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 5), }"), "(3, 5)"),
        (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4), }", 50), "header"),
        (with_header("{'descr': '<z9', 'fortran_order': False, 'shape': (3, 4), }"), "header"),
        (with_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({'1, ' * 70}), }}"), ""),
        (with_header("(" * 117), "header"),  # Python's parser answers these two with other errors
        (with_header("-" * 5000), "header"),
    ],
)
def test_a_damaged_npy_header_is_never_evaluated(tmp_path, content, word):
    (tmp_path / "a.npy").write_bytes(content)
    refused(tmp_path / "a.npy", word)


def test_an_npy_header_as_python_2_wrote_it(tmp_path):
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (3L, 4L), }"
    (tmp_path / "a.npy").write_bytes(with_header(text))
    ((_, pixels),) = read_images(tmp_path / "a.npy")
    assert pixels.shape == (3, 4, 3)


def test_numbers_beyond_float32(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[-1e300, 0.0], [1e-300, 1e300]]))
    ((_, pixels),) = read_images(tmp_path / "a.npy")
    np.testing.assert_array_equal(pixels[..., 0], np.float32([[0, 0.5], [0.5, 1]]))
    for level in (-7e30, 7e30, -1.7e308):  # beside which 1 is nothing
        np.save(tmp_path / "even.npy", np.full((2, 2), level))
        ((_, pixels),) = read_images(tmp_path / "even.npy")
        np.testing.assert_array_equal(pixels, 0)
    np.save(tmp_path / "b.npy", np.array([[-1.7e308, 1.7e308]]))  # nor float64 their difference
    refused(tmp_path / "b.npy", "infinite")


def test_a_header_of_a_huge_shape_takes_no_memory(tmp_path):
    path = tmp_path / "bomb.npy"
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 60000), }".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode())
    refused(path)
    with path.open("ab") as file:  # and as large as it claims, but holes
        file.truncate(3_600_000_128)
    tracemalloc.start()
    refused(path, "pixels")
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_what_is_no_file(tmp_path):
    refused(tmp_path / "missing.png", "no such file")
    refused(tmp_path, "directory")
    (tmp_path / "file").write_bytes(bytes(100))
    refused(tmp_path / "file" / "below.png", "no such file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of this kind are Unix's")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "pipe")


def test_without_pillow_the_line_that_installs_it(tmp_path, monkeypatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="PIL")

    monkeypatch.setattr("lenet.system.extras.import_module", missing)
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    with pytest.raises(SystemFailure, match=r"pip install 'lenet\[image\]'"):
        list(read_images(path))
    np.save(tmp_path / "image.npy", GREY)
    only(tmp_path / "image.npy")


# --- With Pillow ---------------------------------------------------------------------------------


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image", reason="Pillow is not installed")


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tiff", "webp", "ppm"])
def test_pictures(tmp_path, pillow, suffix):
    path = tmp_path / f"image.{suffix}"
    pillow.fromarray(GREY).convert("RGB").save(path, **{"webp": {"lossless": True}}.get(suffix, {}))
    np.testing.assert_allclose(only(path)[..., 0], GREY / 255, atol=1e-6)


def test_the_name_does_not_matter(tmp_path, pillow):
    path = tmp_path / "image.txt"
    pillow.fromarray(GREY).save(path, "PNG")
    np.testing.assert_allclose(only(path)[..., 0], GREY / 255, atol=1e-6)


def test_jpeg_in_other_colours(tmp_path, pillow):
    for mode in ("L", "RGB", "CMYK"):
        picture = pillow.fromarray(np.full((40, 60), 200, np.uint8)).convert("RGB").convert(mode)
        picture.save(tmp_path / "image.jpg", quality=95)
        np.testing.assert_allclose(only(tmp_path / "image.jpg"), 200 / 255, atol=0.02)


def test_16_bits(tmp_path, pillow):
    pillow.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "image.png")
    np.testing.assert_allclose(only(tmp_path / "image.png")[..., 0], GREY / 255, atol=1e-6)


def test_one_bit(tmp_path, pillow):
    pillow.fromarray(GREY > 100).save(tmp_path / "image.png")
    np.testing.assert_array_equal(only(tmp_path / "image.png")[..., 0], GREY > 100)


def test_palette(tmp_path, pillow):
    picture = pillow.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "image.png")
    np.testing.assert_array_equal(only(tmp_path / "image.png")[0], np.eye(3))


@pytest.mark.parametrize(("ink", "paper"), [(0, 1.0), (255, 0.0)], ids=["black", "white"])
def test_what_is_transparent_is_paper_that_the_ink_shows_on(tmp_path, pillow, ink, paper):
    pixels = np.full((8, 8, 4), ink, np.uint8)
    pixels[..., 3] = 0
    pixels[2:4, 2:4, 3] = 255
    pillow.fromarray(pixels).save(tmp_path / "image.png")
    np.save(tmp_path / "image.npy", pixels)
    expected = np.full((8, 8), paper)
    expected[2:4, 2:4] = ink / 255
    np.testing.assert_allclose(only(tmp_path / "image.png")[..., 0], expected, atol=1e-6)


def test_the_first_of_an_animation_and_of_several_pages(tmp_path, pillow):
    first, second = (pillow.fromarray(a).convert("RGB") for a in (GREY, 255 - GREY))
    for name in ("image.gif", "image.tiff", "image.png", "image.webp"):
        more = {"lossless": True} if name.endswith("webp") else {}
        first.save(tmp_path / name, save_all=True, append_images=[second], **more)
        with pytest.warns(UserWarning, match=f"{name}: the first of 2 pages or frames$"):
            pixels = only(tmp_path / name)
        np.testing.assert_allclose(pixels[..., 0], GREY / 255, atol=1e-6)


def tiff(data: bytes, bits: int, sample_format: int = 1) -> bytes:
    """Return a TIFF of 6×4 grey pixels, uncompressed (TIFF 6.0, sections 2 to 4)."""
    numbers = [(256, 6), (257, 4), (258, bits), (259, 1), (262, 1), (277, 1), (278, 4)]
    tags = [(t, 3, n) for t, n in numbers] + [(273, 4, 0), (279, 4, len(data)), (339, 3, 0)]
    at = 8 + 2 + 12 * len(tags) + 4
    values = {273: at, 339: sample_format}
    body = b"".join(
        struct.pack("<HHI", tag, kind, 1)
        + struct.pack("<I" if kind == 4 else "<Hxx", values.get(tag, value))
        for tag, kind, value in sorted(tags)
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4) + data


def test_a_tiff_of_twelve_bits_is_scaled_by_its_declared_depth(tmp_path, pillow):
    levels = np.arange(24).reshape(4, 6) * 100  # to 2,300: by themselves they would need no more
    packed = b"".join(
        bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in levels.reshape(-1, 2).tolist()
    )
    (tmp_path / "a.tif").write_bytes(tiff(packed, 12))
    np.testing.assert_allclose(only(tmp_path / "a.tif")[..., 0], levels / 4095, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "high", "white"),
    [("u1", 200, 255), ("u1", 1, 1), ("u2", 1023, 1023), ("i4", 4000, 4095), ("u2", 40000, 65535)],
)
def test_integers_have_as_many_bits_as_they_need(tmp_path, dtype, high, white):
    """All images of a stack alike, though the first is dark."""
    stack = np.stack([np.full((4, 7), high // 2), np.full((4, 7), high)]).astype(dtype)
    np.save(tmp_path / "a.npy", stack)
    images = [pixels for _, pixels in read_images(tmp_path / "a.npy")]
    np.testing.assert_allclose([i.mean() for i in images], stack.mean((1, 2)) / white, rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF picture"),
        (tiff(np.zeros(24, "<f2").tobytes(), 16, 3), "a TIFF of an unusual kind"),
        (tiff(np.zeros(24, "<f8").tobytes(), 64, 3), "a TIFF of an unusual kind"),
        (b"II+\0\x08\0\0\0", "a BigTIFF"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript document"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
        (b"8BPS\0\x01", "a Photoshop picture"),
        (b"\0\0\1\0\1\0", "an icon"),
        (b"v/1\1\2\0\0\0", "an OpenEXR picture"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_formats_that_are_not_read_are_named(tmp_path, pillow, start, name):
    (tmp_path / "image.png").write_bytes(start + bytes(2000))
    refused(tmp_path / "image.png", f"is {name}", "is not read here; save it again as PNG or JPEG")


def test_an_archive_is_to_be_unpacked(tmp_path, pillow):
    np.savez(tmp_path / "a.npz", images=GREY)
    refused(
        tmp_path / "a.npz", "is a zip archive", "unpack it, and give the pictures or .npy files"
    )


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        *(((28, 28), 1), ((28, 28, 1), 1), ((1, 28, 28), 1), ((1, 28, 28, 1), 1), ((784,), 1)),
        *(((1, 784), 1), ((8, 784), 8), ((2000, 64), 2000), ((8, 1024, 1), 8), ((784, 784), 1)),
        *(((8, 1, 28, 28), 8), ((8, 28, 28, 1), 8), ((8, 28, 28, 3), 8), ((8, 3, 28, 28), 8)),
        *(((28, 30, 3), 1), ((28, 30, 4), 1), ((3, 28, 28), 3), ((300, 1024), 1), ((100, 400), 1)),
    ],
)
@pytest.mark.parametrize("write", [np.save, write_idx])
def test_arrays_of_every_layout(tmp_path, shape, count, write):
    write(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    names = [name for name, _ in read_images(tmp_path / "a.npy")]
    path = str(tmp_path / "a.npy")
    assert names == ([path] if count == 1 else [f"{path}[{k}]" for k in range(count)])


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((784, 8), "if every column is an image, transpose it: array.T"),
        ((28, 28, 2), "leave out the second channel"),
        ((28, 28, 8), "if the images are along the last axis, move it: array.transpose(2, 0, 1)"),
        ((8, 28, 28, 5), "save one image, or a stack of them"),
        ((783,), "save one image, or a stack of them"),
    ],
)
def test_arrays_that_may_be_anything(tmp_path, shape, words):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    refused(tmp_path / "a.npy", words)


# Exif 2.32, section 4.6.4: what row 0 and column 0 of the stored picture are, seen upright.
TURNS = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_turns(tmp_path, pillow, orientation):
    exif = pillow.Exif()
    exif[274] = orientation
    pillow.fromarray(GREY).save(tmp_path / "image.png", exif=exif)
    expected = TURNS[orientation](GREY / 255)
    np.testing.assert_allclose(only(tmp_path / "image.png")[..., 0], expected, atol=1e-6)


def test_large_pictures_are_reduced(tmp_path, pillow):
    for name in ("image.png", "image.jpg"):
        pillow.new("RGB", (5000, 2500), (255, 0, 0)).save(tmp_path / name)
        pixels = only(tmp_path / name)
        assert 1024 < max(pixels.shape) <= 2048
        np.testing.assert_allclose(pixels[5, 5], [1, 0, 0], atol=0.02)


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG made by hand: the header may lie."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8193, 12_000, 60_000])
def test_a_pixel_bomb_is_refused_before_it_is_decoded(tmp_path, pillow, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, zlib.compress(bytes(1_000_000))))
    tracemalloc.start()
    refused(path, "pixels", "scale it down")
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_no_pixels(tmp_path, pillow):
    path = tmp_path / "image.png"
    path.write_bytes(png(0, 5, zlib.compress(b"")))
    refused(path)


def test_not_an_image(tmp_path, pillow):
    for data in (b"<!DOCTYPE html><html>", b"GIMP" * 9, os.urandom(999)):
        path = tmp_path / "image.png"
        path.write_bytes(b"!" + data if data[0] in b"P\0\x1f" else data)
        refused(path, "not an image")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_cut_short(tmp_path, pillow, kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    stream = io.BytesIO()
    pillow.fromarray(noise).save(stream, kind)
    whole, path = stream.getvalue(), tmp_path / "image"
    for length in (*range(0, 60, 7), len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:length])
        refused(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_anywhere_is_an_image_or_an_image_error(tmp_path_factory, data):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]))
    stream = io.BytesIO()
    pillow.fromarray(np.repeat(GREY, 7, axis=0)).convert("RGB").save(stream, kind)
    damaged = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "image"
    path.write_bytes(damaged)
    try:
        images = list(read_images(path))
    except (ImageError, LenetError) as error:
        assert error.exit_code == 3  # noqa: PT017 - either is right
    else:
        assert all(np.isfinite(pixels).all() for _, pixels in images)


def test_formats_that_run_other_programs_are_not_tried():
    assert not {"EPS", "WMF", "PSD", "ICNS"} & set(imagefile.FORMATS)
