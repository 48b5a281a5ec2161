"""Every command of every page, in the order of the pages, in one folder, as a reader types them.

bash runs each shell block unchanged. The command ``lenet`` is run by this process, so that data
sets are small and trainings are short (see ``short``); examples in Python between the blocks run
too. Programs that are not run are in the table ``NOT_RUN``; their options are checked by
test_docs.py.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny import bars
from untrained import untrained

from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.checkpoint.restore import read_checkpoint, restore_network
from lenet.cli import main
from lenet.config import reader, schema
from lenet.data.formats import published
from lenet.data.formats.stored import Stored
from lenet.gate import measurement
from lenet.nn.network import Network
from lenet.sweep import executors
from lenet.sweep.one_run import train_task

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Programs that are not run, and why; a name, or the first words of a command.
NOT_RUN = {
    "pip": "installs packages",
    "source": "there is no .venv",
    "mpiexec": "needs MPI: test_mpi.py",
    "cc": "needs a C compiler: test_export.py",
    "pytest": "the tests themselves",
    "scripts/test": "the tests themselves",
    "scripts/bench": "takes minutes",
    "scripts/corruptions": "takes minutes, needs MNIST",
    "scripts/mutants": "takes minutes",
    "lenet regress --config ci --against": "trains with two revisions in turn: tests/gate",
    "lenet data fetch": "downloads",
}

# Gates that a training of two epochs on 240 images does not pass.
GATES = ("--baseline ci", "--min-accuracy")

# What a reader has before the first command: a checkout, and in the fixture a photograph,
# directories of pictures, and files of other programs.
CHECKOUT = ("configs", "docs/pictures")
INDEX = re.findall(r"\]\((\w[\w-]*\.md)\)", (DOCS / "README.md").read_text("utf-8"))
PAGES = list(
    dict.fromkeys(
        [ROOT / "README.md", *(DOCS / name for name in INDEX), *sorted(DOCS.glob("*.md"))]
    )
)


def short(flat: dict[str, object]) -> schema.Config:
    """The configuration with these keys, made so short that it trains in a tenth of a second."""
    config = schema.built(flat)
    validation = config.data.validation
    batch, warmup = (
        16 if value == "auto" else value
        for value in (config.train.batch_size, config.schedule.warmup)
    )
    return config.with_values(
        {
            "data.limit": 300,
            "data.drawn": 0,
            "data.validation": 60 if validation is None else min(validation, 60),
            "train.epochs": 2,
            "train.batch_size": min(batch, 16),
            "train.teacher_copies": 1,
            "schedule.warmup": min(warmup, 1.0),
            **{f"regress.{limit}": 0.99 for limit in ("slowdown", "slowdown_busy")},
        }
    )


def few(split: str) -> Stored:
    """300 images to train on, or 100 to test on, in place of a published set."""
    count = {"train": 300, "test": 100}[split]
    return Stored(*bars(count, seed=count), Path("images"), Path("labels"))


def write_safetensors(path: Path, network: Network) -> None:
    """The weights of a network as PyTorch writes them: a header, then the numbers."""
    header, content = {}, b""
    for p in network.parameter_list:
        end = len(content) + p.value.nbytes
        place = {"dtype": "F32", "shape": list(p.shape), "data_offsets": [len(content), end]}
        header[p.name], content = place, content + p.value.astype("<f4").tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


@contextmanager
def one_process(_jobs: int):
    """In place of a process for every run of a sweep."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda task: thread.submit(train_task, task)


@pytest.fixture
def reader_at(tmp_path, monkeypatch):
    """An empty folder with what a reader has, and this process prepared to be the command."""
    for name in CHECKOUT:
        shutil.copytree(ROOT / name, tmp_path / name)
    image = pytest.importorskip("PIL.Image")
    image.open(DOCS / "pictures" / "five.png").convert("RGB").save(tmp_path / "photo.jpg")
    for number, pixels in enumerate(np.repeat(bars(60, seed=1)[0], 2, axis=0)):
        for folder in ("pictures", "moved/pictures"):
            place = tmp_path / folder / "abcde"[number % 5]
            place.mkdir(parents=True, exist_ok=True)
            image.fromarray(pixels).save(place / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LENET_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setattr(reader, "built", short)
    few_of_each = {split: partial(few, split) for split in ("train", "test")}
    monkeypatch.setattr(published, "parts", lambda *_: few_of_each)
    monkeypatch.setattr(executors, "local_processes", one_process)
    monkeypatch.setattr(measurement, "MAX_RUNS", 2)
    layers = [{"type": "convolution", "filters": 2, "kernel": 5}, {"type": "linear", "units": 10}]
    save_checkpoint("other.npz", untrained(model__layers=layers, model__input=[1, 28, 28]))
    with pytest.raises(SystemExit):
        main(["export", "other.npz", "--onnx", "net.onnx", "--input", "float"])
    shutil.copyfile("net.onnx", "mnist.onnx")
    Path("net.yaml").write_text(json.dumps({"model": {"input": [1, 28, 28], "layers": layers}}))
    write_safetensors(Path("weights.safetensors"), restore_network(read_checkpoint("other.npz")))
    return tmp_path


# The function waits for the answer: a line with the exit code, then the output up to a null byte.
PROLOGUE = """
set -e
lenet() {
    [ -z "$_LENET_COMPLETE" ] || return 0
    printf '%s\\0' "$#" "$@" >&8
    IFS= read -r -d '' code <&9; IFS= read -r -d '' output <&9
    printf '%s' "$output"
    return "$code"
}
"""


class Shell:
    """Runs shell blocks; the commands in them are run by this process."""

    def __init__(self, capsys) -> None:
        self.capsys = capsys
        self.ran: list[str] = []

    def run(self, block: str) -> None:
        skipped = "".join(f"{name}() {{ :; }}\n" for name in NOT_RUN if " " not in name)
        script = PROLOGUE + skipped + block
        to_us, from_shell = os.pipe()
        to_shell, from_us = os.pipe()
        os.set_inheritable(from_shell, True)
        os.set_inheritable(to_shell, True)
        shell = subprocess.Popen(
            ["bash", "-c", f"exec 8>&{from_shell} 9<&{to_shell}\n{script}"],
            close_fds=False,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(from_shell)
        os.close(to_shell)
        with os.fdopen(to_us, "rb") as requests, os.fdopen(from_us, "wb") as answers:
            while count := _field(requests):
                code, output = self.command([_field(requests) for _ in range(int(count))])
                answers.write(f"{code}\0{output}\0".encode())
                answers.flush()
        _, err = shell.communicate()
        assert shell.returncode == 0, f"{block}\n{err}"

    def command(self, arguments: list[str]) -> tuple[int, str]:
        line = " ".join(["lenet", *arguments])
        if any(line.startswith(skipped) for skipped in NOT_RUN):
            return 0, ""
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(arguments)
        out, err = self.capsys.readouterr()
        expected = (0, 5) if any(gate in line for gate in GATES) else (0,)
        assert end.value.code in expected, f"{line}\n{err}"
        self.ran.append(line)
        return 0, out


def _field(stream) -> str:
    text = bytearray()
    while (byte := stream.read(1)) not in (b"", b"\0"):
        text += byte
    return text.decode()


def parts(page: Path):
    """The shell blocks and the examples in Python of a page, in their order."""
    text = page.read_text("utf-8")
    found: list[tuple[int, object]] = [
        (text.count("\n", 0, block.start()), block[1]) for block in BLOCK.finditer(text)
    ]
    if found:  # examples of other pages do not follow from commands: test_docs.py runs them
        found += [(e.lineno, e) for e in doctest.DocTestParser().get_examples(text)]
    return [part for _, part in sorted(found, key=lambda item: item[0])]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.filterwarnings("ignore")  # of training on few images; the commands print them
def test_every_command_of_every_page_in_order(reader_at, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("matplotlib")
    shell = Shell(capsys)
    for page in PAGES:
        names: dict[str, object] = {}
        for part in parts(page):
            if isinstance(part, str):
                shell.run(part.replace("scripts/quickstart", quickstart()))
            else:
                exec(compile(part.source, str(page), "single"), names)
    assert len(shell.ran) > 60


def quickstart() -> str:
    """The commands of the script, which installs the package first."""
    text = (ROOT / "scripts" / "quickstart").read_text("utf-8")
    return "run=runs/quickstart\n" + "\n".join(re.findall(r"^lenet .+$", text, re.MULTILINE))
