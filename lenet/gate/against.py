"""Two revisions of the code on one machine: trained in turn, A B A B, and compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from lenet.config.sections import Tolerances
from lenet.errors import ConfigError, SystemFailure
from lenet.gate.baseline import machine
from lenet.gate.checks import Check, accuracy_check, loss_check
from lenet.gate.verdict import Verdict
from lenet.system.machine import THREAD_VARIABLES

ROOT: Final = Path(__file__).resolve().parents[2]
CLOCK: Final = ("seconds", "images_per_second")
PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from lenet.cli import main; main()"
)


@dataclass(frozen=True)
class Turn:
    """A training run: the speed of its fastest epoch, and its log without the times."""

    images_per_second: float
    epochs: list[dict[str, float]]

    @classmethod
    def of_log(cls, log: Path) -> Turn:
        """Read the log of a run directory."""
        rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        epochs = [{k: v for k, v in row.items() if k not in CLOCK} for row in rows]
        return cls(max(row["images_per_second"] for row in rows), epochs)


def run_against(
    revision: str,
    arguments: Sequence[str],
    rounds: int,
    tolerances: Tolerances,
    say: Callable[[str], None],
) -> Verdict:
    """Train with ``lenet train`` and these arguments in turn with both revisions, and compare."""
    started = time.monotonic()
    before: list[Turn] = []
    now: list[Turn] = []
    with TemporaryDirectory(prefix="lenet-against-") as name, _worktree(revision, name) as other:
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}: {revision}")
            before.append(_train(revision, other, Path(name, f"before-{number}"), arguments))
            say(f"round {number} of {rounds}: this code")
            now.append(_train("this code", ROOT, Path(name, f"now-{number}"), arguments))
    checks, notes = comparison(revision, before, now, tolerances)
    seconds = time.monotonic() - started
    return Verdict(checks, None, tolerances, machine(), seconds, notes)


def comparison(
    revision: str, before: Sequence[Turn], now: Sequence[Turn], tolerances: Tolerances
) -> tuple[list[Check], list[str]]:
    """Return the checks of the turns of two revisions, and what is better by the tolerance.

    The speed fails if the median of the ratios is below 1 by more than half the tolerance for runs
    at different times, and no turn was as fast as the one before it.
    """
    ratios = [b.images_per_second / a.images_per_second for a, b in zip(before, now, strict=True)]
    ratio, margin = median(ratios), tolerances.slowdown / 2
    old, new = before[0].epochs[-1], now[0].epochs[-1]
    same = before[0].epochs == now[0].epochs
    checks = [
        Check(
            "numbers of the log",
            f"those of {revision}",
            "the same" if same else "others",
            "no difference",
            True if same else None,
        ),
        accuracy_check(revision, old["val_accuracy"], new["val_accuracy"], tolerances),
        loss_check(revision, old["val_loss"], new["val_loss"], tolerances),
        Check(
            f"speed vs {revision}",
            "1",
            f"{ratio:.3f} ({min(ratios):.3f}-{max(ratios):.3f})",
            f"-{margin:.0%}",
            not (ratio < 1 - margin and max(ratios) < 1),
        ),
    ]
    faster = ratio > 1 + margin and min(ratios) > 1
    return checks, [f"faster than {revision}: {ratio:.3f} times its speed"] if faster else []


def _train(code: str, place: Path, run: Path, arguments: Sequence[str]) -> Turn:
    command = [sys.executable, "-c", PROGRAM, str(place), "train", *arguments]
    done = subprocess.run(  # noqa: S603 - this Python, a revision of this package
        [*command, "--workers", "1", "--quiet", "--output", str(run)],
        env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SystemFailure(
            f"lenet train of {code} failed: {last.removeprefix('lenet: error: ')}",
            remedy="use a configuration that both revisions accept",
            key="--against",
        )
    return Turn.of_log(run / "log.jsonl")


@contextmanager
def _worktree(revision: str, folder: str) -> Iterator[Path]:
    """Check a revision out into a folder, and remove it again."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    place = Path(folder, "other")
    _git("worktree", "add", "--detach", "--force", str(place), commit)
    try:
        yield place
    finally:
        _git("worktree", "remove", "--force", str(place))


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(  # noqa: S603
            ["git", "-C", str(ROOT), *arguments],  # noqa: S607 - Git is where the user has it
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except FileNotFoundError:
        problem = "needs Git, which is not installed"
    except subprocess.CalledProcessError as error:
        problem = (error.stderr.strip().splitlines() or ["is not a revision that Git knows"])[-1]
    raise ConfigError(problem, remedy="name a commit, branch or tag", key="--against", file=ROOT)
