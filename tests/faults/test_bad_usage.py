"""Options that are unknown, or conflict with each other or with what is there."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tarin"], ["tarin", "--help"]),
        (["train", "--bogus"], ["--bogus", "lenet train --help"]),
        (["train", "--resume", "--overwrite"], ["exclude each other"]),
        (["train", "--workers", "0"], ["train.workers"]),
        (["summary", "x.npz", "--set", "seed=1"], ["CHECKPOINT"]),
        (["eval", "a.npz", "b.npz", "--mistakes", "x.png"], ["--mistakes"]),
    ],
    ids=" ".join,
)
def test_options_unknown_or_in_conflict(refuses, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    refuses(2, *arguments, words=words)


def test_a_directory_with_a_run_in_it(refuses, tiny, run):
    words = (f"{run}: ", "--resume", "--overwrite")
    refuses(2, "train", "--config", tiny, "--output", run, words=words)


def test_the_old_run_stays_until_the_new_one_begins(refuses, tiny, run):
    """What can be refused is refused before --overwrite removes anything."""
    overwrite = ("train", "--config", tiny, "--output", run, "--overwrite")
    refuses(3, *overwrite, "--set", "data.train_images=none", words=("none: ",))
    refuses(2, *overwrite, "--set", "train.batch_size=999", words=("train.batch_size",))


def test_nothing_to_resume_from(refuses, tiny, tmp_path):
    resume = ("train", "--config", tiny, "--resume", "--output")
    refuses(2, *resume, tmp_path / "none", words=(f"{tmp_path / 'none'}: ", "leave out --resume"))
    assert not (tmp_path / "none").exists()
