"""Output where the encoding has not all characters: nothing raises, nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import write_bars
from untrained import untrained

from lenet import cli
from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.cli import COMMANDS
from lenet.config.schema import Config, to_yaml
from lenet.config.sections import Tolerances
from lenet.gate.checks import Check
from lenet.gate.verdict import Verdict

ROOT = Path(__file__).resolve().parents[2]
RUN, GREEK, KANJI = "学習", "Ωμέγα.npy", "数字🙂.npy"
CLASSES = ("γάτα", "犬", "🙂")
GATE = ["--config", "πύλη.yaml", "--baseline", "βάση.json"]
WIDE = ["--limit", "slowdown=0.99", "--limit", "slowdown_busy=0.99"]

# Code pages of Windows in Western Europe, Japan, Russia and of its console, and what Unix has.
ENCODINGS = ["cp1252", "cp932", "cp1251", "cp437", "ascii", "latin-1", "utf-8"]

COMMAND_LINES = {
    **{f"{name} help": [name, "--help"] for name in COMMANDS},
    "help": ["--help"],
    "train": ["train", "--config", "設定.yaml", "--output", RUN],
    "train json": ["train", "--config", "設定.yaml", "--output", RUN, "--overwrite", "--json"],
    "summary": ["summary"],
    "summary json": ["summary", "--json"],
    "config": ["config", "--set", f"output.dir={RUN}"],
    "data list": ["data", "list"],
    "data list json": ["data", "list", "--json"],
    "eval": ["eval", f"{RUN}/best.npz"],
    "eval json": ["eval", f"{RUN}/best.npz", "--json"],
    "predict": ["predict", "pretrained", "first.npy", GREEK, KANJI, "last.npy"],
    "predict json": ["predict", "pretrained", GREEK, KANJI, "last.npy", "--json"],
    "predict csv": ["predict", "pretrained", GREEK, KANJI, "--out", "πίνακας.csv"],
    "own classes": ["predict", "own.npz", GREEK],
    "own classes json": ["predict", "own.npz", GREEK, "--json"],
    "own classes summary": ["summary", "own.npz"],
    "own classes play": ["play", "own.npz", "--out", "παίξε.html"],
    "report": ["report", RUN, "--out", f"{RUN}.html"],
    "export": ["export", "pretrained", "--c", f"{RUN}.c"],
    "a second run": ["train", "--config", "設定.yaml", "--output", RUN],
    "a missing file": ["eval", "δεν υπάρχει.npz"],
    "a name that is no key": ["train", "--set", "τρένο.εποχές=3"],
    "a folder that is no data": ["data", "check", "φάκελος🙂"],
    "an unknown option": ["eval", "--επιλογή"],
}
SLOW_LINES = {  # about a second each: in one encoding only
    "sweep": ["sweep", "--config", "設定.yaml", "--seeds=2", "--jobs=1", "--output", "σάρωση"],
    "gradcheck": ["gradcheck", *GATE[:2], "--layer", "C1"],
    "gradcheck json": ["gradcheck", *GATE[:2], "--layer", "C1", "--json"],
    "bench": ["bench", "--rounds=1", "--images=512", "--batch=64", "--workers=1"],
    "regress": ["regress", *GATE, "--update", *WIDE],
    "regress json": [
        "regress",
        *GATE,
        "--history",
        "ιστορία.jsonl",
        "--markdown",
        "μ.md",
        "--junit",
        "τ.xml",
        "--json",
    ],
}
CODES = {
    "a second run": 2,
    "a missing file": 3,
    "a name that is no key": 2,
    "a folder that is no data": 3,
    "an unknown option": 2,
}

# One process for all commands, with stdout and stderr into files of each, as a shell has them.
DRIVER = """
import json, os, sys
from lenet.cli import main
from lenet.gate import measurement
measurement.MAX_RUNS = 2
for number, arguments in enumerate(json.load(open("commands.json", encoding="utf-8"))):
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        stream.flush()
        with open(f"{number}.{name}", "wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    try:
        main(arguments)
    except SystemExit as end:
        with open(f"{number}.code", "w") as file:
            print(end.code, file=file)
"""


@pytest.fixture(scope="module", params=ENCODINGS)
def ended(request, tmp_path_factory) -> tuple[str, dict[str, tuple[int, bytes, bytes]]]:
    """Exit code, stdout and stderr of every command line, in one encoding."""
    lines = COMMAND_LINES | (SLOW_LINES if request.param == "cp932" else {})
    folder = tmp_path_factory.mktemp(request.param)
    keys = write_bars(folder, train=120, test=40) | {"train.epochs": 1, "data.validation": 20}
    (folder / "設定.yaml").write_text(to_yaml(Config().with_values(keys)), encoding="utf-8")
    small = keys | {"model.channels": [2, 3], "model.units": [6, 5], "optimizer.lr": 0.001}
    gate = small | {"train.batch_size": 16, "train.epochs": 4}
    (folder / "πύλη.yaml").write_text(to_yaml(Config().with_values(gate)), encoding="utf-8")
    (folder / "φάκελος🙂").mkdir()
    save_checkpoint(folder / "own.npz", untrained(class_names=CLASSES, model__classes=3))
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    for name in ("first.npy", GREEK, KANJI, "last.npy"):
        np.save(folder / name, image)
    (folder / "commands.json").write_text(json.dumps(list(lines.values())))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": request.param}
    ran = subprocess.run(
        [sys.executable, "-c", DRIVER],
        cwd=folder,
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    found = {}
    for number, name in enumerate(lines):
        out, err = ((folder / f"{number}.{kind}").read_bytes() for kind in ("out", "err"))
        found[name] = int((folder / f"{number}.code").read_text()), out, err
    return request.param, found


def decoded(encoding: str, text: bytes) -> str:
    """As who reads it has it; click writes UTF-8 where the encoding is ASCII."""
    return text.decode("utf-8" if encoding == "ascii" else encoding)


def test_every_command_ends_with_its_own_exit_code(ended):
    encoding, found = ended
    codes = {name: code for name, (code, _, _) in found.items()}
    assert codes == {name: CODES.get(name, 0) for name in found}
    for name, (_, out, err) in found.items():
        assert "Error" not in decoded(encoding, err)
        # A configuration is printed to be saved, and YAML is UTF-8 everywhere.
        decoded("utf-8" if name == "config" else encoding, out)


def test_a_name_that_cannot_be_shown_keeps_no_image_from_being_predicted(ended):
    encoding, found = ended
    lines = decoded(encoding, found["predict"][1]).splitlines()
    assert [line.partition(":")[0].rpartition(".")[2] for line in lines] == ["npy"] * 4
    assert lines[0].startswith("first.npy: ")
    assert lines[3].startswith("last.npy: ")


def test_characters_that_the_encoding_lacks_are_escaped_and_others_are_shown(ended):
    encoding, found = ended
    lines = decoded(encoding, found["predict"][1]).splitlines()
    for name, line in zip((GREEK, KANJI), lines[1:3], strict=True):
        assert line.startswith(name.encode(encoding, "backslashreplace").decode(encoding))


def test_json_is_ascii_and_whole(ended):
    _, found = ended
    results = {
        name: [json.loads(line) for line in out.decode("ascii").splitlines()]
        for name, (_, out, _) in found.items()
        if name.endswith(" json") and name != "data list json"
    }
    json.loads(found["data list json"][1].decode("ascii"))
    assert results["train json"][0]["directory"] == RUN
    assert results["eval json"][0]["count"] == 40
    assert results["own classes json"][0]["label"] in CLASSES
    assert [Path(line["file"]).name for line in results["predict json"]] == [
        GREEK,
        KANJI,
        "last.npy",
    ]


def test_an_error_is_still_one_line(ended):
    encoding, found = ended
    for name in CODES:
        _, out, err = found[name]
        text = decoded(encoding, err)
        assert (out, text.count("\n")) == (b"", 1)
        assert text.startswith("lenet: error: ")


def test_the_verdict_of_the_gate_is_ascii_json():
    check = Check("accuracy of Ωμέγα", 0.5, "2⁹", "± 1 %", passed=True)
    verdict = Verdict([check], None, Tolerances(), {"processor": "数字"}, 1.0)
    read = json.loads(verdict.to_json().encode("ascii"))
    assert read["checks"][0]["name"] == check.name
    assert read["machine"] == verdict.machine


def test_a_name_that_the_file_system_cannot_have_is_one_line(capsys):
    """In an ASCII locale without Python's UTF-8 mode, for a name in a configuration."""
    error = UnicodeEncodeError("ascii", "学習", 0, 2, "ordinal not in range(128)")
    assert cli._explain(error) == 4
    assert capsys.readouterr().err == (
        "lenet: error: 学習: is not a valid file name in this system's encoding, ascii; choose "
        "another name, or set PYTHONUTF8=1\n"
    )
