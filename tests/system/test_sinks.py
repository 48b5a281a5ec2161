"""Strings from files on their way out: none reaches a terminal, page or table as it is."""

from __future__ import annotations

import csv
import html
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from untrained import untrained

from lenet.cli.options import warn
from lenet.errors import DataError
from lenet.gate.verdict import error_junit, error_markdown
from lenet.predict.output import Table
from lenet.predict.prediction import Prediction
from lenet.report.elements import html_page, note
from lenet.system.text import markdown_table, printable, table
from lenet.targets.networks import exported_network
from lenet.targets.page.html import to_html

EVIL = {
    "escape": "\x1b[2J\x1b]0;title\x07",
    "bell": "a\x07b",
    "right to left": "zero\u202egnp.exe",
    "a forged line": "a\nlenet: error: forged\r",
    "end of script": "</script><script>alert(1)</script>",
    "a place in the page": "{{script}}{{data}}",
    "a formula": "=cmd|' /C calc'!A0",
    "a column": "a|b\\|c",
    "a picture": "![x](http://127.0.0.1/x.png)",
}
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)
class TestNothingRaw:
    def test_on_a_terminal(self, text):
        shown = [printable(text), str(DataError(text, remedy=text, file=text))]
        for line in (*shown, table([("name", "count"), (text, 1)]).splitlines()[1]):
            assert not RAW.search(line)
            assert "\n" not in line

    def test_in_a_warning(self, text, capsys):
        warn(text)
        line = capsys.readouterr().err
        assert not RAW.search(line)
        assert line.count("\n") == 1

    def test_in_html(self, text):
        shown = printable(text, "html")
        assert not re.search('[<>"]', shown)
        assert html.unescape(shown) == printable(text)
        page = html_page(text, printable(text, "html"), [("a", note(text))], summary=text)
        assert not RAW.search(page)
        ElementTree.fromstring(page.removeprefix("<!doctype html>\n"))
        assert "<script" not in page

    def test_in_markdown(self, text):
        for shown in (markdown_table([("a", "b"), (text, 1)]), error_markdown(failure(text))):
            assert not RAW.search(shown)
            rows = [line for line in shown.splitlines() if line and not line.startswith("###")]
            assert all(line.startswith("|") and line.endswith("|") for line in rows)
            columns = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in rows}
            assert len(columns) == 1
            assert "](http" not in re.sub(r"\\\[[^\]]*\]\(", "", shown)

    def test_in_junit(self, text):
        shown = error_junit(failure(text))
        assert not RAW.search(shown)
        error = next(ElementTree.fromstring(shown).iter("error"))
        assert printable(text) in error.attrib["message"]

    def test_in_a_table_of_predictions(self, text, tmp_path):
        top = ((text, 0.9), (text, 0.1))
        for columns in ((), ("Id", "Label")):
            with Table(tmp_path / "table.csv", columns) as rows:
                rows.add(Prediction(text, text, 0.9, top, text, None, None, "fit", text))
            content = (tmp_path / "table.csv").read_text()
            assert not RAW.search(content)
            _, row = csv.reader(io.StringIO(content))
            assert not any(cell.startswith(("=", "+", "@")) for cell in row)

    def test_in_the_page(self, text):
        """One substitution fills it: nothing in a string is filled again."""
        known = exported_network(untrained())
        page, plain = to_html(replace(known, origin=text)), to_html(known)
        assert page.count("<script") == plain.count("<script")
        assert page.count("</script") == plain.count("</script")
        origin = re.search('data-origin="([^"]*)"', page)
        assert origin is not None
        assert html.unescape(origin[1]) == printable(text)


def test_numbers_are_not_formulas():
    for number in ("-1", "+2.5", "-1e-3", "0"):
        assert printable(number, "csv") == number


def failure(text: str) -> DataError:
    return DataError(text, remedy="check it", file=text)
