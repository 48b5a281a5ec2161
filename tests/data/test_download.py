"""Downloads over slow and interrupted connections, from servers on this machine."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from mirrors import mirror, send

from lenet.data import download
from lenet.data.download import NotFetched, download_files
from lenet.errors import DataError, SystemFailure
from lenet.system.lock import lock

CONTENT = np.random.default_rng(0).bytes(200_000)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(urllib.request, "_opener", None)


def check(path: Path) -> int:
    """Return the size of the file, if it is the right one."""
    content = path.read_bytes()
    if content != CONTENT:
        raise DataError("is not the published file", remedy="replace it", file=path)
    return len(content)


def fetch(folder: Path, *mirrors: str) -> None:
    assert download_files(mirrors, folder, {"images.gz": check}) == {"images.gz": len(CONTENT)}
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"images.gz": CONTENT}


class Line:
    """A server of ``CONTENT``; an attempt ends after ``most`` bytes, ``rate`` a second."""

    def __init__(self, most=None, rate=None, ranges=True, content=CONTENT):
        self.most, self.rate, self.ranges, self.content = most, rate, ranges, content
        self.asked: list[int] = []

    def __call__(self, handler):
        start = 0
        if self.ranges and (wanted := handler.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.asked.append(start)
        whole = len(self.content)
        if start >= whole:
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        handler.send_header("Content-Length", str(whole - start))
        handler.end_headers()
        part = self.content[start:][: self.most]
        if self.rate is None:
            handler.wfile.write(part)
            return
        for k in range(0, len(part), 1000):
            handler.wfile.write(part[k : k + 1000])
            if handler.over.wait(1000 / self.rate):
                return


def test_a_broken_connection_is_resumed(tmp_path):
    line = Line(most=90_000)
    with mirror(line) as (address, _):
        fetch(tmp_path, address)
    assert line.asked == [0, 90_000, 180_000]


def test_a_partial_file_is_kept_for_the_next_command(tmp_path):
    class Dies(Line):
        def __call__(self, handler):
            if self.asked:
                handler.send_error(503)
            else:
                super().__call__(handler)

    with mirror(Dies(most=90_000)) as (address, _), pytest.raises(NotFetched, match="HTTP 503"):
        download_files((address,), tmp_path, {"images.gz": check})
    assert {p.name: p.stat().st_size for p in tmp_path.iterdir()} == {"images.gz.part": 90_000}
    line = Line()
    with mirror(line) as (address, _):
        fetch(tmp_path, address)
    assert line.asked == [90_000]


def test_the_next_mirror_continues_the_file_of_the_first(tmp_path):
    first, second = Line(most=120_000), Line()
    with mirror(first) as (one, _), mirror(second) as (other, _):
        fetch(tmp_path, one, other)
    assert (first.asked, second.asked) == ([0], [120_000])


def test_a_mirror_without_ranges_sends_the_whole_file(tmp_path):
    (tmp_path / "images.gz.part").write_bytes(CONTENT[:50_000])
    line = Line(ranges=False)
    with mirror(line) as (address, _):
        fetch(tmp_path, address)
    assert line.asked == [0]


def test_a_mirror_without_ranges_that_breaks_off_is_not_tried_for_ever(tmp_path):
    line = Line(most=90_000, ranges=False)
    with mirror(line) as (address, _), pytest.raises(NotFetched, match="broke off after 90,000 of"):
        download_files((address,), tmp_path, {"images.gz": check})
    assert line.asked == [0, 0]


@pytest.mark.parametrize("stale", [b"x" * 70_000, b"x" * len(CONTENT), b"x" * 300_000])
def test_the_part_of_another_file_is_dropped(tmp_path, stale):
    (tmp_path / "images.gz.part").write_bytes(stale)
    with mirror(Line()) as (address, _):
        fetch(tmp_path, address)


def test_a_part_that_is_whole_already(tmp_path):
    (tmp_path / "images.gz.part").write_bytes(CONTENT)
    with mirror(Line()) as (address, _):
        fetch(tmp_path, address)


def test_the_wrong_range_is_not_appended(tmp_path):
    def shifted(handler):
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.end_headers()
        handler.wfile.write(CONTENT[7:])

    (tmp_path / "images.gz.part").write_bytes(CONTENT[:1000])
    with mirror(shifted) as (address, _), pytest.raises(NotFetched, match="another part"):
        download_files((address,), tmp_path, {"images.gz": check})
    assert (tmp_path / "images.gz.part").read_bytes() == CONTENT[:1000]


def test_a_log_in_page_does_not_replace_the_partial_file(tmp_path):
    def portal(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html; charset=utf-8")
        handler.end_headers()
        handler.wfile.write(b"<html>log in</html>")

    (tmp_path / "images.gz.part").write_bytes(CONTENT[:1000])
    with mirror(portal) as (address, _), pytest.raises(NotFetched, match="is an HTML page"):
        download_files((address,), tmp_path, {"images.gz": check})
    assert (tmp_path / "images.gz.part").read_bytes() == CONTENT[:1000]


def test_a_slow_mirror_is_left_for_a_fast_one(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "SECONDS_PER_MIRROR", 0.1)
    slow, fast = Line(rate=50_000), Line()
    with mirror(slow) as (one, _), mirror(fast) as (other, _):
        fetch(tmp_path, one, other)
    assert (len(slow.asked), len(fast.asked)) == (1, 1)
    assert fast.asked[0] >= 1000  # what the slow one sent is used


def test_if_all_are_slow_the_fastest_completes(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "SECONDS_PER_MIRROR", 0.05)
    monkeypatch.setattr(download, "SECONDS_PER_WAIT", 0.2)
    slower, slow = Line(rate=100_000), Line(rate=400_000)
    with mirror(slower) as (one, _), mirror(slow) as (other, _):
        fetch(tmp_path, one, other)
    assert (len(slower.asked), len(slow.asked)) == (1, 2)


def test_a_slow_mirror_alone_is_not_left(tmp_path, monkeypatch):
    """Five times as long as any limit, since bytes keep coming."""
    monkeypatch.setattr(download, "SECONDS_PER_MIRROR", 0.1)
    monkeypatch.setattr(download, "SECONDS_PER_WAIT", 0.1)
    line = Line(rate=400_000)
    with mirror(line) as (address, _):
        fetch(tmp_path, address)
    assert line.asked == [0]


def test_the_next_file_begins_with_the_mirror_that_delivered(tmp_path):
    def missing(handler):
        handler.send_error(404)

    with mirror(missing) as (one, asked), mirror(lambda h: send(h, CONTENT)) as (other, served):
        download_files((one, other), tmp_path, {"a": check, "b": check, "c": check})
    assert (asked, served) == (["/a"], ["/a", "/b", "/c"])


def test_two_processes_that_fetch_the_same_file_do_not_share_a_part(tmp_path):
    with (tmp_path / "images.gz.part").open("a+b") as other:
        other.write(CONTENT[:1000])
        other.flush()
        lock(other)
        with mirror(Line()) as (address, _):
            assert download_files((address,), tmp_path, {"images.gz": check})
    names = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    assert names == {"images.gz": len(CONTENT), "images.gz.part": 1000}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_not_the_mirrors_fault(tmp_path, monkeypatch):
    (tmp_path / "images.gz.part").symlink_to("/dev/full")
    with mirror(Line()) as (address, _), pytest.raises(SystemFailure, match="No space left"):
        download_files((address,), tmp_path, {"images.gz": check})
