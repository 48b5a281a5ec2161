"""The pages tell the truth: examples run, quotations stand in the code, links lead somewhere.

docs/api.md is run by test_api.py, configuration.md and architecture.md are held to the code by
test_config.py and test_house.py.
"""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from oracles import EXAMPLES

from lenet.cli import cli
from lenet.config.reader import load_config
from lenet.system.errors import LenetError

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
DERIVATION = ROOT / "docs" / "derivation.md"
MAX_BYTES = 60_000  # of a picture
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text(page):
    return page.read_text(encoding="utf-8")


def named(page):
    return page.relative_to(ROOT).as_posix()


# --- What runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["derivation.md", "recipes.md"])
def test_the_page_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, count = doctest.testfile(
        str(ROOT / "docs" / name), module_relative=False, encoding="utf-8"
    )
    assert count > 10
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
    """Outputs are compared by doctest; here, that none of the examples is missing."""
    examples = doctest.DocTestParser().get_examples(text(DERIVATION))
    outputs = " ".join(" ".join(example.want.split()) for example in examples)
    assert " ".join(result.split()) in outputs


# --- What is quoted -----------------------------------------------------------------------------


def quotations():
    """Every ``python`` block that begins with the name of a file: page, file, lines."""
    for page in PAGES:
        for language, block in FENCED.findall(text(page)):
            first, *lines = block.splitlines()
            if language == "python" and first.startswith("# lenet/"):
                yield pytest.param(ROOT / first[2:], lines, id=f"{named(page)}: {lines[0].strip()}")


def stand_in(lines, code):
    """Whether the lines follow each other in the code; … stands for any number of others."""
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


def without_remarks(line):
    """A line without the remark at its end, which a quotation may leave out."""
    return line.partition("  #")[0].rstrip()


@pytest.mark.parametrize(("file", "lines"), list(quotations()))
def test_a_quotation_stands_in_the_file(file, lines):
    code = [without_remarks(line) for line in text(file).splitlines()]
    quoted = [without_remarks(line) for line in lines]
    starts = [i for i, line in enumerate(code) if line == quoted[0]]
    assert any(stand_in(quoted, code[i:]) for i in starts), f"not in {named(file)}"


def test_a_changed_line_would_be_found():
    code = ["a", "b", "c", "d"]
    assert stand_in(["b", "c"], code)
    assert stand_in(["a", "…", "d"], code)
    assert not stand_in(["b", "d"], code)
    assert not stand_in(["c", "b"], code)


def test_the_calls_in_the_table_of_caffe_stand_in_the_convolution():
    code = text(ROOT / "lenet" / "nn" / "convolution.py")
    rows = re.findall(r"^\| `\w+`.*\| `(.+?)` \|$", text(DERIVATION), re.MULTILINE)
    assert len(rows) == 6
    assert [row for row in rows if row not in code] == []


# --- What is linked and shown -------------------------------------------------------------------


def anchors(page):
    """The names that a forge gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text(page))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_pictures_are_small_and_their_commands_are_told():
    shown = {name for page in PAGES for name in re.findall(r"\]\(pictures/(.+?)\)", text(page))}
    commands = " ".join(map(text, PAGES))
    for picture in sorted((ROOT / "docs" / "pictures").iterdir()):
        assert picture.stat().st_size < MAX_BYTES, picture.name
        assert picture.name in shown, f"{picture.name} is on no page"
        drawn = rf"lenet inspect [^`\n]*--out docs/pictures/{picture.name}`"
        assert picture.name == "five.png" or re.search(drawn, commands), picture.name


# --- What is typed ------------------------------------------------------------------------------


def typed():
    """Every ``lenet …`` on a page: in a block for the shell or between backticks."""
    for page in PAGES:
        whole = text(page).replace("\\\n", " ")
        blocks = [block for language, block in FENCED.findall(whole) if language == "sh"]
        blocks += re.findall(r"^ {4}lenet .+$", whole, re.MULTILINE)
        lines = re.findall(r"^ *(lenet .+)$", "\n".join(blocks), re.MULTILINE)
        spans = re.findall(r"`(lenet [^`]+)`", FENCED.sub("", whole))
        for line in dict.fromkeys(lines + spans):
            yield pytest.param(line, id=f"{named(page)}: {' '.join(line.split())}")


def words(line):
    """The arguments of a command line, up to a remark, a pipe or a redirection; a variable is 1."""
    split = shlex.split(re.sub(r"\$\w+", "1", line), comments=True)[1:]
    end = next((i for i, word in enumerate(split) if word[0] in "|>&;"), len(split))
    return [word for word in split[:end] if "…" not in word]


@pytest.mark.parametrize("line", list(typed()))
def test_a_command_on_a_page_is_one_of_ours(line):
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
    known = ROOT / file if file and file.startswith("configs/") else None
    load_config(known, given.get("overrides") or ())


def test_wrong_commands_are_found():
    for line in (
        "lenet fly",
        "lenet data fly",
        "lenet train --fast",
        "lenet eval --split none x.npz",
        "lenet train --config configs/none.yaml",
        "lenet train --set train.epoch=3",
    ):
        with pytest.raises((click.ClickException, LenetError, AssertionError)):
            test_a_command_on_a_page_is_one_of_ours(line)
