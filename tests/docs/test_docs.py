"""The pages are correct: examples run, quotations match the code, links and commands are valid.

test_api.py runs docs/api.md; config/test_schema.py and test_architecture.py compare
configuration.md and architecture.md with the code.
"""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from derivation_figures import FIGURES
from oracles import EXAMPLES

from lenet.cli import cli
from lenet.config.reader import load_config
from lenet.errors import LenetError

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
DERIVATION = ROOT / "docs" / "derivation.md"
MAX_BYTES = 120_000  # of a figure
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text(page):
    return page.read_text(encoding="utf-8")


def named(page):
    return page.relative_to(ROOT).as_posix()


# --- Examples -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data.md", "derivation.md", "lesson.md", "recipes.md"])
def test_the_page_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, count = doctest.testfile(
        str(ROOT / "docs" / name), module_relative=False, encoding="utf-8"
    )
    assert count > (6 if name == "data.md" else 10)
    assert failed == 0


def worked_examples():
    for example in EXAMPLES["correlation"] + EXAMPLES["max_pooling"]:
        yield str(np.array(example["y"]))
    numbers = EXAMPLES["receptive_field"]
    yield str(numbers["from_the_last_layer_down"])
    yield str(list(numbers["on_the_input"].values()))
    yield str(list(numbers["lenet5_on_the_input"].values()))
    yield str(EXAMPLES["parameters"]["fully_connected_28x28"])
    for count in EXAMPLES["parameters"]["lenet5"].values():
        yield f"{count:,}"


@pytest.mark.parametrize("result", list(worked_examples()))
def test_every_worked_example_is_an_output_of_the_derivation(result):
    """doctest compares the outputs; this checks that no example is missing."""
    examples = doctest.DocTestParser().get_examples(text(DERIVATION))
    outputs = " ".join(" ".join(example.want.split()) for example in examples)
    assert " ".join(result.split()) in outputs


# --- Quotations ---------------------------------------------------------------------------------


def quotations():
    """All ``python`` blocks that begin with a file name: page, file, lines."""
    for page in PAGES:
        for language, block in FENCED.findall(text(page)):
            first, *lines = block.splitlines()
            if language == "python" and first.startswith(("# lenet/", "# examples/")):
                yield pytest.param(ROOT / first[2:], lines, id=f"{named(page)}: {lines[0].strip()}")


def contained_in(lines, code):
    """Whether the lines are consecutive in the code; … matches any number of lines."""
    start, adjoin = 0, False
    for line in lines:
        if line.strip() == "…":
            adjoin = False
            continue
        try:
            place = code.index(line, start)
        except ValueError:
            return False
        if adjoin and place != start:
            return False
        start, adjoin = place + 1, True
    return True


def without_comments(line):
    """A line without its trailing comment, which a quotation may omit."""
    return line.partition("  #")[0].rstrip()


@pytest.mark.parametrize(("file", "lines"), list(quotations()))
def test_a_quotation_matches_the_file(file, lines):
    code = [without_comments(line) for line in text(file).splitlines()]
    quoted = [without_comments(line) for line in lines]
    starts = [i for i, line in enumerate(code) if line == quoted[0]]
    assert any(contained_in(quoted, code[i:]) for i in starts), f"not in {named(file)}"


def test_a_changed_line_is_detected():
    code = ["a", "b", "c", "d"]
    assert contained_in(["b", "c"], code)
    assert contained_in(["a", "…", "d"], code)
    assert not contained_in(["b", "d"], code)
    assert not contained_in(["c", "b"], code)


def test_the_calls_in_the_table_of_caffe_are_in_the_convolution():
    code = text(ROOT / "lenet" / "nn" / "convolution.py")
    rows = re.findall(r"^\| `\w+`.*\| `(.+?)` \|$", text(DERIVATION), re.MULTILINE)
    assert len(rows) == 6
    assert [row for row in rows if row not in code] == []


def test_the_lines_that_the_lesson_breaks_exist():
    lesson = text(ROOT / "docs" / "lesson.md")
    rows = re.findall(r"^\| [a-f] \| `(lenet/.+?)` \| .*?`(.+?)`", lesson, re.MULTILINE)
    assert len(rows) == 6
    for file, line in rows:
        assert line in text(ROOT / file), line


# --- Links and figures --------------------------------------------------------------------------


def anchors(page):
    """The anchors that a forge generates for the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_have_targets(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text(page))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_figures_are_small_and_their_commands_are_on_a_page():
    shown = {name for page in PAGES for name in re.findall(r"\]\(pictures/(.+?)\)", text(page))}
    pages = " ".join(map(text, PAGES))
    for picture in sorted((ROOT / "docs" / "pictures").iterdir()):
        assert picture.stat().st_size < MAX_BYTES, picture.name
        assert picture.name in shown, f"{picture.name} is on no page"
        if picture.name == "five.png" or picture.name in FIGURES:
            continue
        drawn = (
            rf"`(lenet|chromium) [^`\n]*--?(out |curves |screenshot=)docs/pictures/{picture.name}\b"
        )
        assert re.search(drawn, pages), picture.name


@pytest.mark.parametrize("name", FIGURES)
def test_the_figures_of_the_derivation_have_the_numbers_of_the_package(name):
    """`python docs/derivation_figures.py` writes them again."""
    assert FIGURES[name]().svg() == text(ROOT / "docs" / "pictures" / name)


def test_every_slip_has_a_kind_and_a_section():
    page = text(DERIVATION)
    table = page.partition("### Table of slips")[2]
    kinds = re.findall(r"^\| [\w ]+ \| \[.+?\]\(.+?\) \| (\w+) \|", table, re.MULTILINE)
    assert len(kinds) > 30
    assert set(kinds) == {"wrong", "convention", "omitted"}
    for kind in set(kinds):
        assert f"**{kind.capitalize()}:**" in page


# --- Commands -----------------------------------------------------------------------------------


def commands():
    """All ``lenet …`` commands on a page: in a shell block or between backticks."""
    for page in PAGES:
        whole = text(page).replace("\\\n", " ")
        blocks = [block for language, block in FENCED.findall(whole) if language == "sh"]
        blocks += re.findall(r"^ {4}lenet .+$", whole, re.MULTILINE)
        lines = re.findall(r"^ *(lenet .+)$", "\n".join(blocks), re.MULTILINE)
        spans = re.findall(r"`(lenet [^`]+)`", FENCED.sub("", whole))
        for line in dict.fromkeys(lines + spans):
            yield pytest.param(line, id=f"{named(page)}: {' '.join(line.split())}")


def words(line):
    """The arguments of a command, up to a comment, a pipe or a redirection; variables are 1."""
    split = shlex.split(re.sub(r"\$\w+", "1", line), comments=True)[1:]
    end = next((i for i, word in enumerate(split) if word[0] in "|>&;"), len(split))
    return [word for word in split[:end] if "…" not in word]


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_on_a_page_is_valid(line):
    arguments = words(line)
    context = click.Context(cli, info_name="lenet", **cli.context_settings)
    command = cli
    while isinstance(command, click.Group):
        given, rest, _ = command.make_parser(context).parse_args(arguments)
        if not rest:
            return
        found = command.get_command(context, rest[0])
        assert found, f"there is no command {rest[0]}"
        context = click.Context(found, info_name=rest[0], parent=context)
        command, arguments = found, rest[1:]
    given, _, _ = command.make_parser(context).parse_args(arguments)
    for parameter in command.params:
        value = given.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and isinstance(value, str) and value.islower():
            parameter.type.convert(value, parameter, context)
    for word in arguments:
        assert not word.startswith(("configs/", "docs/pictures/five")) or (ROOT / word).exists()
    file = given.get("file")
    written_by_the_reader = file is None or (Path(file).suffix and not file.startswith("configs/"))
    load_config(None if written_by_the_reader else file, given.get("overrides") or ())


def test_invalid_commands_are_detected():
    for line in (
        "lenet fly",
        "lenet data fly",
        "lenet train --fast",
        "lenet eval --split none x.npz",
        "lenet train --config configs/none.yaml",
        "lenet train --config none",
        "lenet train --set train.epoch=3",
    ):
        with pytest.raises((click.ClickException, LenetError, AssertionError)):
            test_a_command_on_a_page_is_valid(line)
