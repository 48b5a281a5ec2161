"""Printable text and aligned tables."""

from __future__ import annotations

import pytest

from lenet.system.text import markdown_table, printable, table


def test_columns_are_as_wide_as_their_longest_cell():
    rows = [("layer", "kind", "weights"), ("conv1", "convolution", "156"), ("f", "", "10,164")]
    assert table(rows).splitlines() == [
        "layer  kind         weights",
        "conv1  convolution  156",
        "f                   10,164",
    ]


def test_the_last_alignment_and_the_last_width_hold_for_the_columns_after_it():
    rows = [("", "0", "1", "2"), ("cat", 12, 3, "."), ("dog", 7, 1000, 5)]
    assert table(rows, "<>", gap=" ", min_widths=(5, 3)).splitlines() == [
        "        0    1   2",
        "cat    12    3   .",
        "dog     7 1000   5",
    ]


def test_no_line_ends_with_spaces():
    assert table([("a", "note"), ("b", "")]) == "a  note\nb"


def test_no_rows_are_no_lines():
    assert table([]) == ""


@pytest.mark.parametrize("write", [table, markdown_table])
def test_rows_of_different_lengths_are_refused(write):
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        write([("a", "b"), ("c",)])


@pytest.mark.parametrize("align", ["", "^", "<x"])
def test_an_unknown_alignment_is_refused(align):
    with pytest.raises(ValueError, match="use < and >"):
        table([("a", "b")], align)


def test_markdown():
    rows = [("part", "µs"), ("a|b", 3), ("long name", "12.50")]
    assert markdown_table(rows, "<>").splitlines() == [
        "| part      |    µs |",
        "| --------- | ----: |",
        r"| a\|b      |     3 |",
        "| long name | 12.50 |",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ω 学", "plain Ω 学"),
        ("two\nlines", r"two\nlines"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\ud800", r"\ud800"),
        (Exception("a\rb"), r"a\rb"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown
