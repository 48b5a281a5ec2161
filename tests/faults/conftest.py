"""A tiny data set and runs on it, to spoil."""

from __future__ import annotations

import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from command import ERROR
from faulty import (
    contents,
)
from tiny import write_bars

from lenet.cli import main
from lenet.config.reader import load_config
from lenet.config.schema import Config, to_yaml
from lenet.train.events import Callback
from lenet.train.run import run_training


@pytest.fixture
def refuses(lenet, tmp_path, tiny):
    """Call the command line, which must refuse: one line with ``words``, no file touched."""

    def call(code: int, *arguments: object, words: tuple[object, ...]) -> str:
        before = contents(tmp_path, tiny.parent)
        ended = lenet(*arguments)
        assert (ended.code, ended.out) == (code, ""), ended
        line = ERROR.fullmatch(ended.err)
        assert line, ended.err
        assert line[0][:-1].isprintable()
        for word in words:
            assert str(word) in ended.err
        assert contents(tmp_path, tiny.parent) == before
        return line[1]

    return call


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A configuration file of a small network and a tiny data set, its files beside it."""
    place = tmp_path_factory.mktemp("tiny")
    small = {"model.units": [30, 20]}
    (place / "tiny.yaml").write_text(to_yaml(Config().with_values({**write_bars(place), **small})))
    return place / "tiny.yaml"


@pytest.fixture(scope="module")
def finished(tiny) -> Path:
    """The directory of a finished run of two epochs."""
    with pytest.raises(SystemExit) as end:
        main(["train", "--config", str(tiny), "--output", str(tiny.parent / "run"), "--quiet"])
    assert end.value.code == 0
    return tiny.parent / "run"


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of that directory, to spoil."""
    (tmp_path / "run").mkdir()
    for path in finished.iterdir():
        (tmp_path / "run" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "run"


@pytest.fixture
def halfway(tiny, tmp_path) -> Path:
    """The directory of a run that SIGTERM has stopped in its second epoch."""

    class Stop(Callback):
        def on_step(self, event, snapshot) -> None:
            if event.step == 11:
                signal.raise_signal(signal.SIGTERM)

    config = load_config(tiny).with_values({"output.dir": str(tmp_path / "half")})
    run_training(config, callbacks=[Stop()])
    return tmp_path / "half"


@pytest.fixture
def dead_proxy(monkeypatch) -> None:
    """Every request goes to a port of this machine where nobody listens."""
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers proxies
    monkeypatch.delenv("LENET_DATA_DIR", raising=False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
