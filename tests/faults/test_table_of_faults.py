"""The table in docs/faults.md, and faults of no topic."""

from __future__ import annotations

import re

import pytest
from command import ERROR
from faulty import (
    ROOT,
)


def test_debug_adds_the_traceback(lenet, tmp_path):
    ended = lenet("--debug", "eval", tmp_path / "none.npz")
    assert ended.code == 3
    assert "Traceback" in ended.err
    assert ERROR.fullmatch(ended.err.splitlines(keepends=True)[-1])


@pytest.mark.parametrize("spoil", [lambda log: b"", lambda log: log[:-9], lambda log: b"[]\n" * 2])
def test_a_run_with_a_damaged_log_is_not_resumed(refuses, run, spoil):
    (run / "log.jsonl").write_bytes(spoil((run / "log.jsonl").read_bytes()))
    words = (f"{run / 'log.jsonl'}: ", "2 epochs", "--overwrite")
    refuses(3, "train", "--output", run, "--resume", words=words)


def test_every_fault_is_in_the_table_with_tests_that_exist():
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| .+ \| .+ \| (.+) \|$", page, re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 66))
    files: dict[str, str] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        files[path.name] = files.get(path.name, "") + path.read_text(encoding="utf-8")
    for number, tests in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
        assert named, f"fault {number} has no test"
        for file, name in named:
            assert f"\ndef {name}(" in files.get(file, ""), f"fault {number}: no {file}::{name}"
