"""Image files of any kind as pixels from 0 to 1: pictures through Pillow, arrays without it.

An image file may come from anywhere, so it is recognised by its content, never by its name; the
size it claims is compared with a limit before anything is decoded; and only the formats below are
tried (Pillow supports more, and runs other programs for some of them).

| read by                                 | formats                                     |
|-----------------------------------------|---------------------------------------------|
| this file                               | PGM (Netpbm's ``P2`` and ``P5``), NumPy's .npy |
| idx.py                                | IDX, plain or gzip-compressed               |
| Pillow (the extra ``image``)            | PNG, JPEG, WebP, TIFF, GIF, BMP, other Netpbm |

A picture is turned as its EXIF orientation says; of an animation or several pages the first is
used, with a warning; palettes and colour spaces are converted to red, green and blue; integers of
more than 8 bits count from 0 to the largest of as many bits as they need, or as a TIFF declares;
transparent pixels become white paper under dark ink, black under light ink.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.data.formats.idx import GZIP_MAGIC, TYPES, read_idx
from lenet.data.formats.npz import NPY_MAGIC, open_npy
from lenet.data.levels import Levels, pictures
from lenet.data.pixels import as_uint8, reduced_to_fit
from lenet.errors import DataError, ImageError, LenetError, MissingImageError, SystemFailure
from lenet.system.extras import require
from lenet.system.files import open_regular

Pixels: TypeAlias = NDArray[np.float32]

MAX_PIXELS = 1 << 26  # of a picture, such as 8,192 × 8,192
MAX_SIDE = 2048  # of the pixels returned; more shows nothing new about a digit
TIFF_BITS = 258  # the tag BitsPerSample
ARCHIVE = "a zip archive, such as .npz"
OTHER_FORMATS = {
    b"II*\0": "a TIFF of an unusual kind",
    b"MM\0*": "a TIFF of an unusual kind",
    b"II+\0": "a BigTIFF",
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"8BPS": "a Photoshop picture",
    b"<svg": "an SVG drawing",
    b"<?xml": "an SVG drawing or another XML file",
    b"\0\0\0\x0cjP": "a JPEG 2000 picture",
    b"\0\0\0\x0cJXL": "a JPEG XL picture",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\1\0": "an icon",
    b"v/1\1": "an OpenEXR picture",
    b"#?RADIANCE": "a Radiance picture",
    b"qoif": "a QOI picture",
    b"DDS ": "a DDS texture",
    b"SIMPLE  =": "a FITS file",
    b"\x89HDF": "an HDF5 file",
    b"PK": ARCHIVE,
}
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM")
MAGIC = re.compile(
    rb"\x89PNG\r\n|\xff\xd8\xff|RIFF....WEBP|II\*\0|MM\0\*|GIF8|BM....\0\0\0\0|P[1-6]\s", re.DOTALL
)
MAX_PGM_HEADER = 1 << 16
PGM_HEADER = re.compile(rb"P[25]" + 3 * rb"(?:\s++|#[^\n]*+\n)++(\d{1,9})" + rb"\s")
MAX_DIGITS = 16  # of a number in a PGM file of text, with the space around it
EXIF_ORIENTATION = 0x0112
REMEDY = "save it again as PNG or JPEG"
UNPACK = "unpack it, and give the pictures or .npy files in it"
SMALLER = "scale it down, or cut the digit out"


def read_images(
    path: str | PathLike[str], levels: Levels | None = None
) -> Iterator[tuple[str, Pixels]]:
    """Yield the images of a file with their names, float32 from 0 to 1, (H,W,3).

    N images of a stack, as :func:`lenet.data.levels.pictures` describes it, are named ``path[0]``
    and so on. Sides are reduced to at most 2,048 pixels. ``levels`` are those of black and white in
    pictures of more than 8 bits, by default those that they declare or need.
    """
    path = Path(path)
    with _naming(path):
        array = _stored_array(path)
        if array is not None:
            yield from images_of_array(path, array, levels)
            return
        with open_regular(path, ImageError) as file:
            raw, declared, frames = _read_raw(file, None)
        if frames > 1:
            warnings.warn(f"{path}: the first of {frames} pages or frames", stacklevel=2)
        deep = raw.dtype != np.uint8
        yield str(path), _in_colour(raw, (levels or declared) if deep else (0.0, 255.0))


def read_picture(data: bytes, size: tuple[int, int] | None) -> NDArray[Any]:
    """Return a picture of a data set as it is stored, (H,W,3), or (H,W) if it is grey."""
    _check_start(data[:16])
    raw, _, _ = _read_raw(io.BytesIO(data), size)
    if raw.ndim == 3 and raw.shape[2] == 4:
        raw = as_uint8(_over_paper(raw.astype(np.float32) / np.float32(255)))
    if size is not None and raw.shape[:2] != size:
        white = 255.0 if raw.dtype == np.uint8 else 1.0
        pixels = np.atleast_3d(raw).astype(np.float32) / np.float32(white)
        small = on_border(reduced_to_fit(pixels, *size), *size)
        raw = as_uint8(small) if raw.dtype == np.uint8 else small.astype(raw.dtype)
        raw = raw[..., 0] if raw.shape[2] == 1 else raw
    if raw.ndim == 3 and (raw == raw[..., :1]).all():
        raw = raw[..., 0]
    return raw


def picture_size(file: IO[bytes]) -> tuple[int, int]:
    """Return height and width of a picture from its header."""
    start = file.read(1 << 12)
    _check_start(start[:16])
    if (header := PGM_HEADER.match(start)) is not None:
        return int(header[2]), int(header[1])
    file.seek(0)
    with _pillow(file) as picture:
        turned = picture.getexif().get(EXIF_ORIENTATION, 1) in range(5, 9)
        W, H = picture.size
        return (W, H) if turned else (H, W)


def on_border(picture: NDArray[Any], H: int, W: int) -> NDArray[Any]:
    """Centre a picture (h,w,C) in H×W, which is filled with the median colour of its border.

    Examples
    --------
    >>> float(on_border(np.full((4, 8, 3), 9, np.uint8), 8, 8).mean())
    9.0
    """
    h, w, C = picture.shape
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    out = np.empty((H, W, C), picture.dtype)
    out[:] = np.median(border, axis=0).astype(picture.dtype)
    top, left = (H - h) // 2, (W - w) // 2
    out[top : top + h, left : left + w] = picture
    return out


def is_picture(start: bytes) -> bool:
    """Return whether a file begins as one of the picture formats that are read here."""
    return bool(MAGIC.match(start))


def read_array(path: str | PathLike[str]) -> NDArray[Any] | None:
    """Return the array of a .npy or an IDX file as it is stored, or None if it is another file."""
    path = Path(path)
    with _naming(path):
        array = _stored_array(path)
        if array is not None:
            _check_type(array.dtype)
        return array


def _stored_array(path: Path) -> NDArray[Any] | None:
    with open_regular(path, ImageError, directory_remedy="name the image files in it") as file:
        start = file.read(16)
    _check_start(start)
    if start.startswith(NPY_MAGIC):
        try:
            return open_npy(path)
        except DataError as error:
            raise ImageError(error.problem, remedy=error.remedy) from error
    if start[:2] == GZIP_MAGIC or (start[:2] == b"\0\0" and start[2] in TYPES):
        return read_idx(path, check=lambda shape: _check_size(*shape[-2:]) if shape[1:] else None)
    return None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in errors."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        problem = "there is no such file"
        raise MissingImageError(problem, remedy="check the path", file=path) from None
    except OSError as error:
        reason, remedy = error.strerror or error, "check its permissions and the disk"
        raise ImageError(f"cannot be read: {reason}", remedy=remedy, file=path) from error
    except LenetError as error:
        if not isinstance(error, SystemFailure):
            error.file = str(path)
        raise


def _check_start(start: bytes) -> None:
    if len(start) < 8:
        raise ImageError("is too short for an image" if start else "is empty", remedy=REMEDY)


def _check_size(H: int, W: int) -> None:
    """Refuse images without pixels, and those that would fill the memory."""
    if H < 1 or W < 1:
        raise ImageError(f"has no pixels ({W}×{H})", remedy=REMEDY)
    if H * W > MAX_PIXELS:
        problem = f"has {W:,}×{H:,} pixels, more than {MAX_PIXELS:,}"
        raise ImageError(problem, remedy=SMALLER)


# --- Arrays --------------------------------------------------------------------------------------


def images_of_array(
    path: Path, array: NDArray[Any], levels: Levels | None
) -> Iterator[tuple[str, Pixels]]:
    """Yield the images of an array from a file, as :func:`read_images` does."""
    _check_type(array.dtype)
    try:
        stack, single = pictures(array)
    except DataError as error:
        raise ImageError(error.problem, remedy=error.remedy) from error
    _check_size(*stack.shape[1:3])
    if array.dtype.kind in "bui":  # of floats, the range of each image
        levels = (levels if array.dtype != np.uint8 else None) or _range(stack)
    for number, image in enumerate(stack):
        yield str(path) if single else f"{path}[{number}]", _in_colour(image, levels)


def _check_type(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "buif":
        problem = f"contains {dtype} where grey levels are needed"
        raise ImageError(problem, remedy="save it as uint8 from 0 to 255")


def _in_colour(array: NDArray[Any], levels: tuple[float, float] | None = None) -> Pixels:
    """Return (H,W,3) from 0 to 1, whatever the type of the numbers."""
    black, white = levels or _range(array)
    numbers = _reduced(np.atleast_3d(array))
    if array.dtype == np.uint8 and (black, white) == (0, 255):
        pixels = numbers.astype(np.float32) / np.float32(255)
    else:
        wide = numbers.astype(np.float64)  # ranges beyond float32
        pixels = np.clip((wide - black) / (white - black), 0, 1).astype(np.float32)
    if pixels.shape[2] == 4:
        pixels = _over_paper(pixels)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _range(array: NDArray[Any]) -> tuple[float, float]:
    """Return the levels of black and white.

    Integers begin at 0 and end at 1, 255, or as many bits as they need; of floats, the smallest and
    the largest.
    """
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high, high - low]).all():
        raise ImageError("contains NaN or infinite numbers", remedy=REMEDY)
    if low >= 0 and (array.dtype.kind != "f" or high <= 1):
        bits = max(8, int(high).bit_length())
        return 0.0, 1.0 if high <= 1 else float((1 << bits) - 1)
    return low, high if high > low else low + (abs(low) or 1.0)  # 10³⁰⁰ + 1 would be 10³⁰⁰


def _reduced(array: NDArray[Any]) -> NDArray[Any]:
    """Return (H,W,C) reduced by means over k×k pixels, so that no side exceeds MAX_SIDE."""
    H, W, C = array.shape
    k = -(-max(H, W) // MAX_SIDE)
    if k == 1:
        return array
    h, w = max(H // k, 1), max(W // k, 1)
    kh, kw = min(k, H), min(k, W)
    blocks = array[: h * kh, : w * kw].reshape(h, kh, w, kw, C)
    means: NDArray[Any] = blocks.mean(axis=(1, 3), dtype=np.float64)
    return means


Raw: TypeAlias = tuple[NDArray[Any], Levels | None, int]
"""Numbers (H,W) or (H,W,C), the levels of black and white if they are declared, and the pages."""


def _read_raw(file: IO[bytes], size: tuple[int, int] | None) -> Raw:
    """Return the first picture of a file as it is stored, perhaps reduced towards ``size``."""
    start = file.read(2)
    file.seek(0)
    if start in (b"P2", b"P5"):
        return _read_pgm(file)
    limit = None if size is None else (2 * size[0], 2 * size[1])
    with _pillow(file) as picture:
        frames = int(getattr(picture, "n_frames", 1))
        H, W = limit or (MAX_SIDE, MAX_SIDE)
        picture.draft(None, (W, H))  # of a JPEG, fewer pixels
        declared = _declared(picture)
        turned = require("PIL.ImageOps", "image").exif_transpose(picture)
        return *_of_picture(turned, limit, declared), frames


def _read_pgm(file: IO[bytes]) -> Raw:
    """Read a grey picture of Netpbm's (https://netpbm.sourceforge.net/doc/pgm.html)."""
    start = file.read(MAX_PGM_HEADER)
    header = PGM_HEADER.match(start)
    if header is None:
        raise ImageError("is a PGM file with a damaged header", remedy=REMEDY)
    W, H, white = (int(number) for number in header.groups())
    _check_size(H, W)
    if not 0 < white < 65536:
        raise ImageError(f"is a PGM file that claims {white} for white", remedy=REMEDY)
    file.seek(header.end())
    if start.startswith(b"P5"):
        dtype = np.dtype(">u2" if white > 255 else "u1")
        body = file.read(H * W * dtype.itemsize)
        levels = np.frombuffer(body, dtype, len(body) // dtype.itemsize)
    else:
        body = file.read(MAX_DIGITS * H * W)
        try:
            levels = np.array(body.split(None, H * W)[: H * W], np.uint16)
        except (ValueError, OverflowError) as error:
            raise ImageError("is a PGM file with no number", remedy=REMEDY) from error
    if levels.size < H * W:
        raise ImageError(f"is cut short: {levels.size:,} of {H * W:,} pixels", remedy=REMEDY)
    bright = 65535 if white > 255 else 255
    numbers = np.rint(np.minimum(levels.reshape(H, W), white) * np.float32(bright / white))
    return numbers.astype(np.uint8 if white < 256 else np.uint16), (0.0, float(bright)), 1


# --- Pictures ------------------------------------------------------------------------------------


@contextmanager
def _pillow(file: IO[bytes]) -> Iterator[Any]:
    """Open a picture with Pillow, and convert the errors of opening and decoding it."""
    Image = require("PIL.Image", "image")
    with warnings.catch_warnings():
        # Pillow warns about what this module rejects, and about irrelevant metadata.
        warnings.simplefilter("ignore")
        try:
            with Image.open(file, formats=FORMATS) as picture:
                _check_size(picture.height, picture.width)
                yield picture
        except Image.UnidentifiedImageError:
            file.seek(0)
            kind = _format_name(file.read(16))
            problem = f"is {kind}, which is not read here" if kind else "is not an image"
            remedy = {None: f"give one of {', '.join(FORMATS)}", ARCHIVE: UNPACK}.get(kind, REMEDY)
            raise ImageError(problem, remedy=remedy) from None
        except Image.DecompressionBombError:
            problem = f"has more than {MAX_PIXELS:,} pixels"
            raise ImageError(problem, remedy=SMALLER) from None
        except ImageError:
            raise
        except MemoryError as error:  # a damaged length requests as much as a large picture
            problem = "takes more memory than there is: it is damaged or too large"
            raise ImageError(problem, remedy=f"{SMALLER}, or {REMEDY}") from error
        except Exception as error:  # a decoder may raise anything on damaged data
            problem = f"is damaged ({error or type(error).__name__})"
            raise ImageError(problem, remedy=REMEDY) from error


def _declared(picture: Any) -> tuple[float, float] | None:  # noqa: ANN401 - Pillow is optional
    """Return the levels of black and white that a TIFF of 9 to 16 bits declares."""
    if picture.format != "TIFF" or not picture.mode.startswith("I;16"):
        return None
    bits = int(np.atleast_1d(picture.tag_v2.get(TIFF_BITS, 16))[0])
    return (0.0, float((1 << bits) - 1)) if 8 < bits < 16 else None


def _format_name(start: bytes) -> str | None:
    """Return the name of a format that is known and not read, recognised by its first bytes."""
    if start[4:8] == b"ftyp":
        return "an AVIF picture" if start[8:12] in (b"avif", b"avis") else "a HEIC picture or video"
    return next((name for magic, name in OTHER_FORMATS.items() if start.startswith(magic)), None)


def _of_picture(
    picture: Any,  # noqa: ANN401 - Pillow is optional
    limit: tuple[int, int] | None,
    declared: Levels | None,
) -> tuple[NDArray[Any], Levels | None]:
    """Return the numbers of a Pillow picture of any mode, and the levels that they declare."""
    if picture.mode.startswith("I") or picture.mode == "F":
        numbers: NDArray[Any] = np.asarray(picture)
        if numbers.dtype == np.int32 and numbers.min() >= 0 and numbers.max() < 65536:
            numbers = numbers.astype(np.uint16)
        return numbers, declared
    picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    W, H = picture.size
    k = -(-max(picture.size) // MAX_SIDE)
    if limit is not None:
        k = max(k, min(H // limit[0], W // limit[1]))
    return np.asarray(picture.reduce(k) if k > 1 else picture), (0.0, 255.0)


def _over_paper(pixels: Pixels) -> Pixels:
    """Lay pixels (H,W,4) on white, or on black where what is opaque is light."""
    colour, opacity = pixels[..., :3], pixels[..., 3:]
    ink = float((colour * opacity).sum() / max(3 * float(opacity.sum()), 1e-6))
    return colour * opacity + np.float32(ink < 0.5) * (1 - opacity)
