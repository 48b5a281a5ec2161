"""Reading a run: its log, its best checkpoint, and the evaluation on the test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import read_checkpoint
from lenet.errors import LenetError
from lenet.evaluation.images import with_data
from lenet.evaluation.mistakes import EvaluationWithMistakes, evaluate_with_mistakes
from lenet.system.text import printable
from lenet.train.events import EpochEvent
from lenet.train.log import read_log


@dataclass(frozen=True, eq=False)
class RunSummary:
    """What the page shows of a run."""

    name: str
    log: Sequence[EpochEvent]
    checkpoint: Checkpoint
    test: EvaluationWithMistakes | None
    """The evaluation on the test images, if they could be read."""
    problem: str
    """Why the test images could not be read; otherwise empty."""

    @property
    def data(self) -> str:
        """The data set: its name or, for the user's own data, the name of the file or directory."""
        path = self.checkpoint.config.data.path
        return printable(Path(path).name if path else self.checkpoint.dataset)

    @cached_property
    def classes(self) -> Sequence[str]:
        """The names of its classes, each on one line."""
        return [printable(name) for name in self.checkpoint.class_names]


def read_run(directory: Path, data_dir: str | None = None, data: str | None = None) -> RunSummary:
    """Read a run's directory and evaluate its best epoch on the test images."""
    checkpoint = read_checkpoint(directory / "best.npz")
    log = read_log(directory / "log.jsonl")
    test, problem = None, ""
    try:
        config = with_data(checkpoint.config, data, data_dir)
        test = evaluate_with_mistakes(checkpoint, data_dir, config)
    except LenetError as error:
        problem = f"no test images: {error}"
    return RunSummary(printable(directory.resolve().name), log, checkpoint, test, problem)
