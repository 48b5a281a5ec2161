"""Code, help and pages are in the field's English: the worst patterns do not come back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("lenet", "docs", "configs", "scripts", "examples", "README.md", "SECURITY.md")
# Words after which a second article is usual: "a row of a matrix", "a test is a loop".
JOINING = (
    "is|as|in|of|to|by|for|with|at|on|and|or|than|that|from|not|where|into|has|like|if|but|gives|"
    "makes|takes|was|after|such|per|through|without|returns|be|becomes|over|under|whose|are|which|beside|"
    "within|before|between|until|while|shows|needs|had|have|below|above|so|when|then|plus|beyond|"
    "against|does|also|only"
)
PATTERNS = {
    "one line per layer": rf"\b(?:a|an|one) (?!(?:{JOINING})\b)[a-z]+ an? [a-z]+",
    "is not a, not 'is no'": r"(?<![Tt]here )\b(?:is|are|was) no (?!longer\b|more\b|better\b)\w+",
    "its own, not 'of its own'": r"\bof (?:its|their|one's|your|his) own(?:$|[.,:;)\"])",
    "initially, not 'at first 3'": r"\bat first [0-9]",
    "again, not 'anew'": r"\banew\b",
    "evaluate, not 'judge'": r"\bjudge[sd]?\b",
    "FAIL or fails, not 'falls short'": r"\bfalls? short\b",
    "layer or folder, not 'house' or 'floor'": r"\bthe house\b|\bfloors? of the\b",
    ">= 0, not 'below inf'": r"\bbelow inf\b",
}
ALLOWED = {
    ("lenet/report/classes.py", "a row is a true class, a column a prediction"),
    ("lenet/report/classes.py", "A column is a filter, a row an input channel"),
}


def files():
    listed = subprocess.run(
        ["git", "ls-files", *PLACES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is not a checkout of Git")
    binary = {".npz", ".png", ".svg", ".json"}
    return [ROOT / name for name in listed.stdout.splitlines() if Path(name).suffix not in binary]


@pytest.mark.parametrize("better", PATTERNS)
def test_a_sentence_that_nobody_would_write(better):
    pattern = re.compile(PATTERNS[better])
    found = []
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if pattern.search(line) and not any(
                name == file and text in line for file, text in ALLOWED
            ):
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found, f"{better}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "a line a layer",
        "net.onnx is no ONNX file",
        "a module of its own",
        "loaded anew",
        "at first 0.85",
    ],
)
def test_the_patterns_match(line):
    assert any(re.search(pattern, line) for pattern in PATTERNS.values())


@pytest.mark.parametrize(
    "line", ["there is no file", "its own rate", "your own data", "a row of a matrix"]
)
def test_usual_sentences_do_not_match(line):
    assert not any(re.search(pattern, line) for pattern in PATTERNS.values())
