"""The report: its numbers, that it needs no other file, how it fits phone and desktop."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from tiny import bars, write_bars

from lenet.cli import main
from lenet.config.schema import Config
from lenet.data.formats.stored import Origin
from lenet.evaluation.metrics import Evaluation
from lenet.evaluation.mistakes import MAX_MISTAKES, EvaluationWithMistakes, Mistake
from lenet.inspect import plots
from lenet.model import load
from lenet.report import charts, report
from lenet.report.charts import Line, epoch_ticks, line_chart, linear_ticks, log_ticks, png
from lenet.report.classes import MAX_LINKED, by_pair, mosaic
from lenet.report.report import summary
from lenet.report.run_summary import RunSummary, read_run
from lenet.system.text import NEGATIVE, POSITIVE, ZERO
from lenet.train.run import run_training


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Two runs: a hasty one, which makes mistakes, and one with a name that is markup."""
    place = tmp_path_factory.mktemp("runs")
    config = Config().with_values(
        {**write_bars(place, test=200), "train.epochs": 3, "optimizer.lr": 0.0002}
    )
    run_training(config.with_values({"output.dir": str(place / "hasty")}))
    other = {"output.dir": str(place / "<b>&amp;'x'"), "optimizer.name": "adam"}
    run_training(config.with_values(other))
    return place


@pytest.fixture(scope="module")
def runs(place: Path) -> list[RunSummary]:
    return [read_run(place / name) for name in ("hasty", "<b>&amp;'x'")]


@pytest.fixture(scope="module")
def truth(place: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The test images, their labels and the probabilities that the public interface gives."""
    images, labels = bars(200, seed=200)
    return images, labels, load(place / "hasty" / "best.npz").predict(images)


def parsed(page: str) -> ElementTree.Element:
    """The page as the XML that it is too."""
    assert page.startswith("<!doctype html>\n")
    return ElementTree.fromstring(page.removeprefix("<!doctype html>\n"))


def decoded(address: str) -> np.ndarray:
    """A PNG without interlacing or filters, read by the book."""
    kind, content = address.split(",", 1)
    assert kind == "data:image/png;base64"
    raw = base64.b64decode(content, validate=True)
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(raw):
        (length,) = struct.unpack_from(">I", raw, at)
        name, data = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", raw, at + 8 + length) == (zlib.crc32(name + data),)
        chunks[name], at = data, at + 12 + length
    width, height, depth, colour, *rest = struct.unpack(">2I5B", chunks[b"IHDR"])
    assert (depth, rest) == (8, [0, 0, 0])
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape((height, width, channels) if channels > 1 else (height, width))


def table(page: ElementTree.Element, label: str) -> list[list[str]]:
    region = page.find(f".//*[@aria-label='{label}']")
    assert region is not None
    return [["".join(cell.itertext()) for cell in row] for row in region.iter("tr")]


# --- Its contents -------------------------------------------------------------------------------


def test_the_results_are_those_of_the_test_images(runs, truth):
    _, labels, p = truth
    mistakes = int((p.argmax(axis=1) != labels).sum())
    loss = -np.log(p[np.arange(200), labels].astype(np.float64)).mean()
    rows = {row[0]: row[1] for row in table(parsed(report.to_html(runs[:1])), "table")}
    assert rows["Test accuracy"] == f"{100 * (200 - mistakes) / 200:.2f} %"
    assert rows["Mistakes"] == f"{mistakes} of 200"
    assert float(rows["Test loss"]) == pytest.approx(loss, abs=1e-4)


def test_the_confusion_matrix_counts_every_image(runs, truth):
    _, labels, p = truth
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (labels, p.argmax(axis=1)), 1)
    _, *rows = table(parsed(report.to_html(runs[:1])), "confusion matrix")
    shown = [[0 if cell == "·" else int(cell) for cell in row[1:]] for row in rows]
    assert shown == counts.tolist()


def test_the_worst_mistakes_are_the_images_of_the_highest_loss(runs, truth):
    images, labels, p = truth
    wrong = np.flatnonzero(p.argmax(axis=1) != labels)
    assert wrong.size  # or the test shows nothing
    worst = sorted(wrong, key=lambda i: p[i, labels[i]])[:MAX_MISTAKES]
    page = parsed(report.to_html(runs[:1]))
    section = page.find(".//section[@class='worst-mistakes']")
    assert section is not None
    figures = list(section.iter("figure"))
    assert len(figures) == len(worst)
    for figure, i in zip(figures, worst, strict=True):
        picture = figure.find("img")
        assert picture is not None
        np.testing.assert_array_equal(decoded(picture.attrib["src"]), images[i])
        words = f"Test image {i}: {labels[i]} predicted as {p[i].argmax()}"
        assert picture.attrib["alt"] == words
        assert f"{100 * p[i].max():.1f} %" in "".join(figure.itertext())


def test_several_runs_stand_side_by_side(runs):
    page = parsed(report.to_html(runs))
    assert table(page, "table")[0] == ["", "hasty", "<b>&amp;'x'"]
    text = "".join(page.itertext())
    assert "optimizer.name" in text
    differing = {row[0].text for row in page.iter("tr") if row.attrib.get("class") == "differs"}
    assert differing == {"optimizer.name", "output.dir"}


def test_a_cell_of_the_confusion_matrix_leads_to_its_images(runs, truth):
    images, labels, p = truth
    page = parsed(report.to_html(runs))  # the anchors of two runs differ
    targets = {e.attrib["id"]: e for e in page.iter() if "id" in e.attrib}
    links = [a for a in page.iter("a") if a.attrib["href"] != "#classes"]
    assert all(a.attrib["href"].removeprefix("#") in targets for a in page.iter("a"))
    first = [a for a in links if a.attrib["href"].startswith("#r0-") and (a.text or "").isdigit()]
    assert sum(int(a.text or "") for a in first) == (p.argmax(axis=1) != labels).sum()
    for link in first:
        _, true, given = link.attrib["href"].split("-")
        wrong = np.flatnonzero((labels == int(true)) & (p.argmax(axis=1) == int(given)))
        assert int(link.text or "") == wrong.size
        shown = [decoded(i.attrib["src"]) for i in targets[link.attrib["href"][1:]].iter("img")]
        assert len(shown) == min(wrong.size, 24)
        for image in shown:
            assert any((image == images[i]).all() for i in wrong)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize(
    "y", [[5e-324], [5e-324, 1.0], [1e308, 1.0], [1e308, -1e308], [-1e308, 0.0], [0.0, 0.0]]
)
def test_a_chart_of_any_numbers(y, log):
    """What a log may contain, to the ends of float64."""
    for from_zero in (True, False):
        chart = line_chart("loss", [Line("a", 0, y)], str, log, from_zero=from_zero)
        assert "nan" not in chart
        assert 'y="inf' not in chart


def test_the_most_confused_pairs(runs, truth):
    _, labels, p = truth
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, (labels, p.argmax(axis=1)), 1)
    np.fill_diagonal(confusion, 0)
    page = parsed(report.to_html(runs[:1]))
    rows = [
        ["".join(cell.itertext()) for cell in row]
        for scores in page.iter("table")
        if "".join(
            scores.find("caption").itertext() if scores.find("caption") is not None else []
        ).startswith("Most confused")
        for row in scores.iter("tr")
    ][1:]
    assert [int(row[1]) for row in rows] == sorted(confusion[confusion > 0].tolist(), reverse=True)
    true, given = (int(name.split()[0]) for name in rows[0][0].split(" → "))
    assert confusion[true, given] == confusion.max()


def test_a_sheet_for_each_class(runs, truth):
    """Its mistakes, and of those predicted right the most and the least certain."""
    images, labels, p = truth
    page = parsed(report.to_html(runs[:1]))
    sheets = {e.find("summary").text: e for e in page.iter("details") if e.find("div") is not None}
    classes = runs[0].classes
    for k in range(len(classes)):
        sheet = next(e for name, e in sheets.items() if name in (str(k), f"{k} {classes[k]}"))
        shown = [decoded(image.attrib["src"]) for image in sheet.iter("img")]
        right = np.flatnonzero((labels == k) & (p.argmax(axis=1) == k))
        wrong = np.flatnonzero((labels == k) & (p.argmax(axis=1) != k))
        assert len(shown) == min(len(wrong), 12) + min(len(right), 8)
        surest = right[np.argsort(-p[right, k], kind="stable")]
        for image in (images[surest[0]], images[surest[-1]]):
            assert any((image == other).all() for other in shown)


def test_mistakes_with_the_paths_of_their_pictures(runs):
    test = runs[0].test
    origin = Origin("some/<b>/\x1b[2J\u202e.png", 3)
    bad = replace(mistake(1, 2), origin=origin)
    run = replace(runs[0], test=replace(test, mistakes=[bad]))
    page = report.to_html([run])
    assert (
        '<small title="some/&lt;b&gt;/\\x1b[2J\\u202e.png[3]">\\x1b[2J\\u202e.png[3]</small>'
        in page
    )


def test_the_time_is_not_cubic_in_the_classes(runs):
    """The matrix has a cell for each pair of classes; names are escaped once, not for each cell."""
    read = []

    class Name(str):
        def __str__(self) -> str:
            read.append(self)
            return str.__str__(self)

    n = 300
    names = tuple(Name(f"class {k}") for k in range(n))
    run = replace(runs[0], checkpoint=replace(runs[0].checkpoint, class_names=names))
    confusion = np.eye(n, dtype=int)
    run = replace(run, test=EvaluationWithMistakes(Evaluation(0.1, n, confusion), []))
    assert report.to_html([run]).count("<tr>") > n
    assert len(read) <= n


def mistake(label, predicted):
    return Mistake(0, np.zeros((2, 2), np.uint8), label, predicted, 0.9)


def test_the_images_behind_the_cells_are_limited():
    few = [mistake(0, 1), mistake(2, 1), mistake(0, 1)]
    assert {pair: len(shown) for pair, shown in by_pair(few).items()} == {(0, 1): 2, (2, 1): 1}
    for count, cells in ((20, 50), (1, 900), (300, 3)):
        many = [mistake(k, k + 1 + n % 2) for n in range(count) for k in range(cells)]
        shown = by_pair(many)
        assert sum(map(len, shown.values())) <= MAX_LINKED
        assert len(shown) > min(cells, MAX_LINKED) / 2
    often = [mistake(k, 0) for k in range(1, 900)] + [mistake(500, 0)]
    assert (500, 0) in by_pair(often)


def with_mistakes(run, mistakes, count=1000, name="run"):
    confusion = np.array([[count // 2 - mistakes, mistakes], [0, count - count // 2]])
    evaluation = Evaluation(0.1, count, confusion)
    return replace(run, name=name, test=EvaluationWithMistakes(evaluation, []))


def test_one_run_in_a_sentence(runs):
    words = summary([with_mistakes(runs[0], 20)])
    assert "Test accuracy 98.00 %: 20 mistakes in 1,000 test images of idx." in words
    assert "Most often, 0 is predicted as 1: 20 times." in words
    best = min(runs[0].log, key=lambda e: (-e.val_accuracy, e.val_loss)).epoch
    assert f"The best of 3 epochs is epoch {best}; training took " in words
    assert "Most often" not in summary([with_mistakes(runs[0], 0)])
    assert summary([replace(runs[0], test=None)]).startswith("Validation accuracy ")


def test_several_runs_in_a_sentence(runs):
    a, b = runs
    close = summary([with_mistakes(a, 25, name="a"), with_mistakes(b, 20, name="b")])
    assert "b has the fewest mistakes: 20 of 1,000, 5 fewer than a." in close
    assert "less than two standard errors (13), so it may be chance." in close
    far = summary([with_mistakes(a, 200, name="a"), with_mistakes(b, 20, name="b")])
    assert "more than two standard errors (30)." in far
    same = summary([with_mistakes(a, 20, name="a"), with_mistakes(b, 20, name="b")])
    assert "a and b have the fewest mistakes: 20 of 1,000 each." in same
    other = summary([with_mistakes(a, 20), with_mistakes(b, 20, count=500)])
    assert "2 runs with different test images: their results cannot be compared." in other
    assert "not all could be evaluated" in summary([replace(a, test=None), b])


def test_the_best_epoch_is_marked(runs):
    page = parsed(report.to_html(runs[:1]))
    marks = [c for c in page.iter("circle") if c.attrib["class"] == "run0 best"]
    assert len(marks) == 4
    titles = [mark.findtext("title") for mark in marks]
    assert all(f", epoch {runs[0].checkpoint.epoch} (best): " in str(title) for title in titles)


def test_the_curves_as_a_figure(place, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out, picture = tmp_path / "r.html", tmp_path / "charts.svg"
    with pytest.raises(SystemExit) as caught:
        main(["report", str(place / "hasty"), "--out", str(out), "--curves", str(picture)])
    assert not caught.value.code
    assert capsys.readouterr().out.split() == [str(picture), str(out)]
    assert ElementTree.fromstring(picture.read_bytes()).tag.endswith("}svg")


def test_the_figure_of_the_curves_has_the_numbers_of_the_log(runs):
    pytest.importorskip("matplotlib")
    figure = plots.curves(charts.charts(runs), "two runs")
    loss, error, *_ = figure.axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in loss.lines}
    assert drawn["1 hasty validation"] == [epoch.val_loss for epoch in runs[0].log]
    drawn = {line.get_label(): list(line.get_ydata()) for line in error.lines}
    expected = [100 * (1 - epoch.train_accuracy) for epoch in runs[0].log]
    assert drawn["1 hasty training"] == expected


def test_many_classes_with_long_names(runs):
    """The matrix has small cells; scores stand in several tables."""
    names = [f"a long name of class {k}" for k in range(47)]
    confusion = np.arange(47 * 47).reshape(47, 47)
    evaluation = Evaluation(0.1, int(confusion.sum()), confusion)
    checkpoint = replace(runs[0].checkpoint, class_names=names)
    test = EvaluationWithMistakes(evaluation, [mistake(3, 4)])
    page = parsed(report.to_html([replace(runs[0], checkpoint=checkpoint, test=test)]))
    head, *rows = table(page, "confusion matrix")
    assert len(head) == 48
    assert [row[0] for row in rows] == [f"{k} {name}" for k, name in enumerate(names)]
    tables = [table(page, f"scores of classes {k} to {min(k + 15, 46)}") for k in (0, 16, 32)]
    assert [len(rows) for rows in tables] == [17, 17, 16]


def test_the_page_needs_nothing_else(runs):
    text = report.to_html(runs)
    page = parsed(text)
    assert not list(page.iter("script"))
    assert not list(page.iter("link"))
    assert "//" not in re.sub(r'src="data:[^"]*"', "", text)
    assert all(i.attrib["src"].startswith("data:") for i in page.iter("img"))
    assert "url(" not in text
    assert "@import" not in text


def test_the_page_suits_screen_readers(runs):
    page = parsed(report.to_html(runs))
    assert all(image.attrib["alt"] for image in page.iter("img"))
    charts = [svg for svg in page.iter("svg") if svg.attrib.get("aria-hidden") != "true"]
    assert all(svg.attrib["role"] == "img" and svg.attrib["aria-label"] for svg in charts)
    headings = [e.tag for e in page.iter() if re.fullmatch("h[1-6]", e.tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    for above, below in pairwise(headings):
        assert int(below[1]) <= int(above[1]) + 1
    ids = [e.attrib["id"] for e in page.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids))
    assert all(
        th.attrib["scope"] in {"row", "col"} for th in page.iter("th")
    )  # fmt: skip


def test_without_its_images_a_run_is_still_a_page(place, tmp_path, capsys):
    moved = place / "test-images"
    moved.rename(place / "away")
    try:
        with pytest.raises(SystemExit) as caught:
            main(["report", str(place / "hasty"), "--out", str(tmp_path / "new" / "r.html")])
    finally:
        (place / "away").rename(moved)
    assert not caught.value.code
    out, err = capsys.readouterr()
    assert out.strip().endswith("r.html")
    assert err.startswith("lenet: warning: hasty: no test images: ")
    page = parsed((tmp_path / "new" / "r.html").read_text(encoding="utf-8"))
    assert {row[0]: row[1] for row in table(page, "table")}["Test accuracy"] == "–"


def test_a_directory_that_is_not_a_run_is_refused_in_one_line(place, tmp_path, capsys):
    for name, damage in {
        "empty": lambda d: [f.unlink() for f in d.iterdir()],
        "no log": lambda d: (d / "log.jsonl").unlink(),
        "torn log": lambda d: (d / "log.jsonl").write_text('{"epoch": 1'),
        "other log": lambda d: (d / "log.jsonl").write_text('{"epoch": 1}'),
        "short log": lambda d: (d / "log.jsonl").write_text(""),
    }.items():
        run = tmp_path / name
        shutil.copytree(place / "hasty", run)
        damage(run)
        with pytest.raises(SystemExit) as caught:
            main(["report", str(run), "--out", str(tmp_path / "r.html")])
        assert caught.value.code == 3, name
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


# --- Charts and images --------------------------------------------------------------------------


def points(svg: str) -> list[list[tuple[float, float]]]:
    lines = ElementTree.fromstring(svg).iter("polyline")
    return [
        [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()] for line in lines
    ]


def test_a_linear_chart_is_in_proportion():
    (line,) = points(line_chart("speed", [Line("a", 0, [0.0, 5.0, 10.0])], str, log=False))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert (x1 - x0, y0 - y1) == pytest.approx((x2 - x1, y1 - y2))
    assert y0 > y1 > y2


def test_a_logarithmic_chart_has_equal_steps_for_equal_factors():
    lines = [Line("a", 0, [1.0, 0.1, 0.01]), Line("b", 1, [None, 0.0, 0.1], dashed=True)]
    (first, second) = points(line_chart("loss", lines, str, log=True))
    assert first[1][1] - first[0][1] == pytest.approx(first[2][1] - first[1][1], abs=0.11)
    assert second[1] == (first[2][0], first[1][1])
    assert second[0][1] >= first[2][1]  # zero is at the bottom


@pytest.mark.parametrize("y", [[0.3], [0.0, 0.0], [1e-9, 1e9], [0.5] * 500, [1e-12]])
@pytest.mark.parametrize("log", [True, False])
def test_any_chart_stays_in_its_frame(y, log):
    (line,) = points(line_chart("t", [Line("a", 0, y)], "{:.2g}".format, log))
    right, bottom = charts.WIDTH - charts.RIGHT, charts.HEIGHT - charts.BOTTOM
    assert all(charts.LEFT <= x <= right for x, _ in line)
    assert all(charts.TOP - 0.1 <= y <= bottom + 0.1 for _, y in line)


@pytest.mark.parametrize("highest", [1e-9, 0.002, 0.05, 1, 7, 9.99, 10, 23_456, 1e9])
def test_ticks_cover_what_is_drawn(highest):
    ticks = linear_ticks(highest)
    assert ticks[0] == 0
    assert ticks[-1] >= highest * (1 - 1e-9)
    assert 3 <= len(ticks) <= 8
    assert all(highest / 200 <= t <= highest for t in log_ticks(highest / 200, highest))


@pytest.mark.parametrize("high", [1e-7, 0.0314, 0.99, 91, 4321.0])
@pytest.mark.parametrize("factor", [1.21, 1.5, 3, 20, 149, 3000, 1e8])
def test_ticks_of_logarithmic_axes_are_round_and_inside(high, factor):
    ticks = log_ticks(high / factor, high)
    assert 2 <= len(ticks) <= 10
    assert all(high / factor * (1 - 1e-9) <= t <= high * (1 + 1e-9) for t in ticks)
    for tick in ticks:
        digits = f"{tick:.6e}".split("e")[0].rstrip("0").rstrip(".").replace(".", "")
        assert len(digits) <= 2, tick


@pytest.mark.parametrize("epochs", [1, 2, 7, 8, 9, 40, 1000, 100_000])
def test_epoch_ticks_are_few_and_inside(epochs):
    ticks = epoch_ticks(epochs)
    assert ticks[0] == 1
    assert ticks[-1] <= epochs
    assert len(ticks) <= 9


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 2, 4), (2, 3, 3)])
def test_a_png_decodes_to_its_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(decoded(png(pixels)), pixels)


def test_filters_are_tiles_with_a_gap():
    weight = np.zeros((2, 3, 5, 5), np.float32)
    weight[1, 2, 4, 0], weight[0, 0, 0, 0] = -2, 1
    tiles = mosaic(weight)
    assert tiles.shape == (3 * 6 - 1, 2 * 6 - 1, 4)
    assert tuple(tiles[2 * 6 + 4, 6]) == (*NEGATIVE, 255)
    half = [round((zero + blue) / 2) for zero, blue in zip(ZERO, POSITIVE, strict=True)]
    assert tuple(tiles[0, 0]) == (*half, 255)
    assert tuple(tiles[0, 1]) == (*ZERO, 255)
    assert not tiles[5].any()
    assert not tiles[:, 5].any()


# --- In a browser -------------------------------------------------------------------------------

PROBE = """<!doctype html><pre>RESULT</pre><iframe width="{width}" height="800"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument, root = page.documentElement;
  const shown = () => [...page.querySelectorAll(".cell")].filter(e => e.getClientRects().length);
  const before = shown().length, link = page.querySelector(".confusion a");
  page.defaultView.location.hash = link.hash;  // a click would leave the frame's "about:srcdoc"
  document.querySelector("pre").textContent = JSON.stringify({{
    client: root.clientWidth, scroll: root.scrollWidth,
    wide: [...page.querySelectorAll("main *")].filter(e => !e.closest(".scroll, svg") &&
      e.getBoundingClientRect().right > root.clientWidth + 1).map(e => e.outerHTML.slice(0, 80)),
    broken: [...page.images].filter(i => !i.naturalWidth).length, images: page.images.length,
    ink: page.defaultView.getComputedStyle(page.body).color,
    paper: page.defaultView.getComputedStyle(page.body).backgroundColor,
    cells: [before, ...shown().map(e => "#" + e.id === link.hash)],
    charts: [...page.querySelectorAll("figure svg")].map(s => s.getBoundingClientRect().width),
  }});
}};
frame.srcdoc = {page};
</script>"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1366])
@pytest.mark.parametrize("count", [1, 2])
def test_the_page_in_a_browser(width, dark, count, runs, tmp_path):
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("no Chromium here: the page is not looked at in a browser")
    # "</script" would end the script that holds the page as a string.
    page = json.dumps(report.to_html(runs[:count])).replace("</", "<\\/")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(width=width, page=page), encoding="utf-8")
    done = subprocess.run(
        [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--window-size=1400,900",
            "--virtual-time-budget=3000",
            "--dump-dom",
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = re.search("<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    assert found is not None
    seen = json.loads(html.unescape(found[1]))
    assert seen["scroll"] <= seen["client"]
    assert seen["wide"] == []
    assert seen["images"] > 2
    assert seen["broken"] == 0
    assert seen["cells"] == [0, True]  # the images of the cell that was followed, and no others
    assert len(seen["charts"]) == 4
    assert min(seen["charts"]) > 280
    ink, paper = (sum(map(int, re.findall(r"\d+", seen[k])[:3])) for k in ("ink", "paper"))
    assert (ink > paper) == dark
    assert abs(ink - paper) > 450
