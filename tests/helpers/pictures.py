"""Digits that are not from MNIST, drawn in many ways, and how many `lenet predict` recognises.

    python tests/helpers/pictures.py runs/mnist/best.npz
    python tests/helpers/pictures.py runs/mnist/best.npz --fonts DIR --data-dir DIR --save DIR

The fonts are those that come with Matplotlib; --fonts adds a row for every font file in a
directory, --data-dir rows with images of MNIST, and --save writes every picture beside what the
network was given. The table in docs/predict.md is the output. Everything is drawn from one seed.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from lenet.checkpoint.restore import read_checkpoint
from lenet.data.imagefile import read_images
from lenet.predict.output import Sheet
from lenet.predict.prediction import Predictor, thumbnail

# Ways to write every digit, as strokes through points of a box 60 wide and 100 high.
STYLES = {
    0: ("30,0 8,15 2,50 10,88 30,100 50,88 58,50 52,15 30,0",),
    1: ("30,0 30,100", "12,22 32,0 32,100", "10,25 30,0 30,100 / 8,100 52,100"),
    2: ("6,22 18,4 42,2 54,20 46,48 4,100 58,100", "8,20 30,0 52,20 40,55 12,90 6,80 20,76 56,98"),
    3: ("6,10 30,0 52,16 42,42 22,47 46,52 56,74 36,98 4,90", "6,2 52,2 26,40 54,60 46,92 6,96"),
    4: ("40,0 2,66 58,66 / 42,40 42,100", "10,0 6,50 54,50 / 48,4 46,100"),
    5: ("52,2 12,2 8,44 34,38 56,62 44,94 4,96", "12,4 8,44 34,38 56,62 44,94 4,96 / 12,4 54,2"),
    6: ("44,2 16,30 4,68 16,96 42,96 54,74 40,54 16,58 6,72",),
    7: ("4,4 56,4 24,100", "4,4 56,4 24,100 / 16,50 50,50"),
    8: ("44,12 26,0 10,16 22,42 46,62 50,88 28,100 8,86 14,60 42,40 50,18 36,2",),
    9: ("50,20 30,2 8,20 12,46 34,50 50,30 52,14 50,60 40,100",),
}
DEJAVU = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono")
INK, PAPER = (25, 25, 40), (245, 243, 238)

Painter = Callable[[int, np.random.Generator], Image.Image]


def strokes(
    digit: int,
    rng: np.random.Generator,
    *,
    size: tuple[int, int] = (480, 480),
    height: float = 0.55,
    width: float = 0.08,
    ink: tuple[int, ...] = INK,
    paper: tuple[int, ...] = PAPER,
    turn: float = 8.0,
) -> Image.Image:
    """Draw a digit with a round pen; height of the picture's, width of the digit's height."""
    fine = 3  # Pillow's lines have steps: draw larger, and reduce
    picture = Image.new("RGBA" if len(paper) == 4 else "RGB", tuple(fine * s for s in size), paper)
    pen = ImageDraw.Draw(picture)
    H = height * size[1] * fine
    angle, slant = math.radians(rng.uniform(-turn, turn)), rng.uniform(-0.25, 0.15)
    middle = np.array(picture.size) * (0.5 + rng.uniform(-0.1, 0.1, 2) * (1 - height))
    styles = STYLES[digit]
    radius = max(width * H / 2, 1)
    for stroke in styles[rng.integers(len(styles))].split("/"):
        line = np.array([[float(v) for v in point.split(",")] for point in stroke.split()])
        line = (line + rng.normal(0, 2, line.shape) - [30, 50]) / 100 * H
        for _ in range(3):  # Chaikin: cut the corners, keep the ends
            cut = np.stack([0.8 * line[:-1] + 0.2 * line[1:], 0.2 * line[:-1] + 0.8 * line[1:]], 1)
            line = np.concatenate([line[:1], cut.reshape(-1, 2), line[-1:]])
        line[:, 0] -= slant * line[:, 1]
        turned = line @ [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        points = [tuple(point) for point in turned + middle]
        pen.line(points, fill=ink, width=round(2 * radius), joint="curve")
        for x, y in points:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=ink)
    return picture.reduce(fine)


def typed(text: int | str, rng: np.random.Generator, font: Path) -> Image.Image:
    """Type a digit, or more, dark on light, near the middle of a page."""
    picture = Image.new("RGB", (400, 500), PAPER)
    height = int(rng.integers(120, 320)) // max(1, len(str(text)) // 2)
    face = ImageFont.truetype(str(font), height)
    at = (rng.uniform(180, 220), rng.uniform(230, 270))
    ImageDraw.Draw(picture).text(at, str(text), fill=INK, font=face, anchor="mm")
    return picture


def photographed(picture: Image.Image, rng: np.random.Generator, light: float = 0.5) -> Image.Image:
    """Turn, blur, light from one side, darken the corners, add noise, compress as JPEG."""
    picture = picture.rotate(rng.uniform(-6, 6), Image.Resampling.BICUBIC, fillcolor=PAPER)
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2)))
    x = np.asarray(picture, np.float32)
    H, W, _ = x.shape
    v, u = np.mgrid[-1 : 1 : 1j * H, -1 : 1 : 1j * W]
    angle = rng.uniform(0, 2 * np.pi)
    fall = 1 - light * (u * np.cos(angle) + v * np.sin(angle) + 1.4) / 2.8 - 0.15 * (u**2 + v**2)
    x = x * np.maximum(fall, 0.1)[..., None] * rng.uniform(0.85, 1, 3)
    return as_jpeg(x + rng.normal(0, 8, x.shape))


def as_jpeg(x: np.ndarray, quality: int = 70) -> Image.Image:
    stream = io.BytesIO()
    Image.fromarray(np.clip(x, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def shadowed(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Throw the shadow of a hand over part of the page."""
    mask = Image.new("L", picture.size, 255)
    W, H = picture.size
    x = rng.uniform(0.2, 0.8) * W
    ImageDraw.Draw(mask).polygon([(x, 0), (W, 0), (W, H), (x - W / 4, H)], fill=150)
    shade = np.asarray(mask.filter(ImageFilter.GaussianBlur(8)), np.float32)[..., None] / 255
    return as_jpeg(np.asarray(picture) * shade + rng.normal(0, 4, (H, W, 3)))


def squared(digit: int, rng: np.random.Generator) -> Image.Image:
    """Write on the squared paper of an exercise book."""
    picture = strokes(digit, rng, width=0.07, ink=(30, 40, 120))
    x = np.asarray(picture, np.float32).copy()
    lines = np.zeros(x.shape[:2], bool)
    lines[::32], lines[:, ::32] = True, True
    x[lines] = np.minimum(x[lines], (190, 205, 225))
    return as_jpeg(x + rng.normal(0, 4, x.shape))


def on_table(digit: int, rng: np.random.Generator) -> Image.Image:
    """Lay the sheet on a dark table."""
    table = Image.new("RGB", (900, 700), (70, 48, 35))
    sheet = strokes(digit, rng, size=(420, 520), height=0.4).convert("RGBA")
    sheet = sheet.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
    table.paste(sheet, (220, 60), sheet)
    return as_jpeg(np.asarray(table) + rng.normal(0, 6, (700, 900, 3)))


def framed(picture: Image.Image, width: int = 30, colour: tuple[int, ...] = INK) -> Image.Image:
    x = np.asarray(picture.convert("RGB")).copy()
    x[:width], x[-width:], x[:, :width], x[:, -width:] = colour, colour, colour, colour
    return Image.fromarray(x)


def tight(picture: Image.Image) -> Image.Image:
    dark = np.asarray(picture.convert("L")) < 128
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    return picture.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))


def pencil(digit: int, rng: np.random.Generator) -> Image.Image:
    """Write faintly, on paper whose grain breaks the line."""
    x = np.asarray(strokes(digit, rng, width=0.045, ink=(0, 0, 0), paper=(255, 255, 255)))
    ink = 1 - x.astype(np.float32) / 255
    grain = rng.uniform(0.3, 1, (*x.shape[:2], 1))
    return as_jpeg(230 - 75 * ink * grain + rng.normal(0, 5, x.shape))


def kinds() -> dict[str, Painter]:
    fonts = Path(get_data_path(), "fonts", "ttf")
    return {
        "drawn with a mouse": lambda d, rng: strokes(d, rng),
        "thin pen": lambda d, rng: strokes(d, rng, width=0.015),
        "thick marker": lambda d, rng: strokes(d, rng, width=0.2),
        "small on a large page": lambda d, rng: strokes(d, rng, size=(1600, 2000), height=0.04),
        "icon of 24×24 pixels": lambda d, rng: strokes(d, rng, height=0.8).resize((24, 24)),
        "cut to its edges": lambda d, rng: tight(strokes(d, rng)),
        "turned by up to 20°": lambda d, rng: strokes(d, rng, turn=20),
        "chalk on a board": lambda d, rng: photographed(
            strokes(d, rng, ink=(225, 230, 225), paper=(40, 62, 50)), rng, light=0.4
        ),
        "red on blue, equally bright": lambda d, rng: strokes(
            d, rng, ink=(205, 60, 60), paper=(70, 110, 190)
        ),
        "transparent, black ink": lambda d, rng: strokes(
            d, rng, ink=(0, 0, 0, 255), paper=(0,) * 4
        ),
        "transparent, white ink": lambda d, rng: strokes(
            d, rng, ink=(255,) * 4, paper=(255, 255, 255, 0)
        ),
        "photo, light from one side": lambda d, rng: photographed(strokes(d, rng), rng),
        "photo, strong fall of light": lambda d, rng: photographed(strokes(d, rng), rng, light=0.8),
        "photo of a small thin digit": lambda d, rng: photographed(
            strokes(d, rng, size=(1200, 900), height=0.15, width=0.05), rng
        ),
        "a hand's shadow": lambda d, rng: shadowed(strokes(d, rng), rng),
        "squared paper": squared,
        "pencil": pencil,
        "sheet on a table": on_table,
        "dark frame": lambda d, rng: framed(strokes(d, rng)),
        **{
            f"typed, {name}": lambda d, rng, name=name: typed(d, rng, fonts / f"{name}.ttf")
            for name in DEJAVU
        },
    }


def of_mnist(directory: Path) -> dict[str, Painter]:
    from sets import load

    test = load("mnist", "test", directory=directory)

    def one(digit: int, rng: np.random.Generator) -> Image.Image:
        return Image.fromarray(test.images[rng.choice(np.flatnonzero(test.labels == digit))])

    def large(digit: int, rng: np.random.Generator) -> Image.Image:
        return one(digit, rng).resize((280, 280), Image.Resampling.BICUBIC)

    def black_on_white(digit: int, rng: np.random.Generator) -> Image.Image:
        return Image.fromarray(255 - np.asarray(large(digit, rng)))

    def blocks(digit: int, rng: np.random.Generator) -> Image.Image:
        return one(digit, rng).resize((280, 280), Image.Resampling.NEAREST)

    return {
        "MNIST as it is": one,
        "MNIST ×10": large,
        "MNIST ×10 in square blocks": blocks,
        "MNIST ×10, black on white": black_on_white,
        "MNIST ×10, framed": lambda d, rng: framed(black_on_white(d, rng), 12, (90, 20, 20)),
    }


def no_digits() -> dict[str, Callable[[int, np.random.Generator], Image.Image]]:
    """Pictures that should get a warning."""
    font = Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")

    def noise(_: int, rng: np.random.Generator) -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8))

    def clouds(_: int, rng: np.random.Generator) -> Image.Image:
        small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        return Image.fromarray(small).resize((300, 300), Image.Resampling.BICUBIC)

    def blank(_: int, rng: np.random.Generator) -> Image.Image:
        return photographed(Image.new("RGB", (400, 300), PAPER), rng)

    def blot(_: int, rng: np.random.Generator) -> Image.Image:
        picture = Image.new("RGB", (300, 300), PAPER)
        a, b = rng.uniform(60, 120, 2)
        ImageDraw.Draw(picture).ellipse([150 - a, 150 - b, 150 + a, 150 + b], fill=INK)
        return picture

    return {
        "blank page, photographed": blank,
        "noise": noise,
        "clouds of colour": clouds,
        "a blot": blot,
        "a letter": lambda n, rng: typed("ACEFHKMNRX"[n], rng, font),
        "a word": lambda n, rng: typed(["dog", "tea", "hello", "word"][n % 4], rng, font),
        "ten digits": lambda _, rng: typed("0123456789", rng, font),
        "two digits": lambda n, rng: typed(f"{n}{(n + 3) % 10}", rng, font),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--fonts", type=Path, help="directory of further fonts")
    parser.add_argument("--data-dir", type=Path, help="directory with mnist/ in it")
    parser.add_argument("--save", type=Path, help="directory for the contact sheets")
    parser.add_argument("--times", type=int, default=3, help="of every digit of every kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    predictor = Predictor(read_checkpoint(arguments.checkpoint))
    painters = kinds()
    if arguments.data_dir:
        painters |= of_mnist(arguments.data_dir)
    for font in sorted(arguments.fonts.glob("*.[ot]tf")) if arguments.fonts else ():
        painters[f"hand, {font.stem}"] = lambda d, rng, font=font: typed(d, rng, font)

    def predicted(name: str, paint: Painter) -> Iterator[tuple[int, str | None, bool]]:
        rng = np.random.default_rng([arguments.seed, *name.encode()])
        sheet = None
        if arguments.save:
            sheet = Sheet(arguments.save / f"{name.replace(' ', '_')}.png")
        for digit in list(range(10)) * arguments.times:
            pixels = pixels_of(paint(digit, rng))
            prediction = predictor(f"{digit}", pixels)
            if sheet is not None:
                sheet.add(thumbnail(pixels), prediction)
            yield digit, prediction.label, prediction.warning is not None
        if sheet is not None:
            sheet.write()

    print("| kind | correct | warnings | mistakes |\n|---|---|---|---|")
    total = correct = 0
    for name, paint in painters.items():
        results = list(predicted(name, paint))
        right = sum(str(digit) == label for digit, label, _ in results)
        warned = sum(warning for *_, warning in results)
        wrong = ", ".join(f"{d}→{label}" for d, label, _ in results if str(d) != label)
        total, correct = total + len(results), correct + right
        print(f"| {name} | {right} of {len(results)} | {warned} | {wrong} |", flush=True)
    print(f"| all | {correct} of {total} ({correct / total:.1%}) | | |")
    print("\n| no digit, or several | warnings |\n|---|---|")
    for name, paint in no_digits().items():
        results = list(predicted(name, paint))
        print(f"| {name} | {sum(w for *_, w in results)} of {len(results)} |", flush=True)


def pixels_of(picture: Image.Image) -> np.ndarray:
    """Write and read a file, as with a user's picture."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        picture.save(path)
        return next(read_images(path))[1]


if __name__ == "__main__":
    main()
