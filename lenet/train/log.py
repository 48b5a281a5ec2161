"""The log of a run, ``log.jsonl`` with one epoch per line: reading it, and its best epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lenet.errors import DataError
from lenet.nn.scores import SCORES
from lenet.train.events import EpochEvent


def read_log(path: Path) -> list[EpochEvent]:
    """Return the epochs of a log, at least one.

    Raises
    ------
    DataError
        The file is missing, damaged or empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        log = [EpochEvent(**json.loads(line)) for line in lines]
    except FileNotFoundError:
        raise DataError(
            "there is no such file", remedy="name the directory of a run", file=path
        ) from None
    except (ValueError, TypeError):
        raise DataError("is damaged", remedy="train again", file=path) from None
    if not log:
        raise DataError("contains no epoch", remedy="train for at least one epoch", file=path)
    return log


def best_epoch(log: Sequence[EpochEvent], metric: str = "accuracy") -> EpochEvent:
    """Return the epoch that the trainer saved as ``best.npz``.

    It has the best validation score; if tied, the lowest validation loss; if tied again, it is the
    first. Without validation it is the last epoch.

    Parameters
    ----------
    log
        All epochs.
    metric
        The value of ``train.best_metric``.
    """
    if log[-1].val_accuracy is None:
        return log[-1]

    def rank(epoch: EpochEvent) -> tuple[float, float]:
        score = epoch.val_accuracy if epoch.val_score is None else epoch.val_score
        return SCORES[metric].rank(score or 0, epoch.val_loss or 0)

    return max(log, key=rank)
