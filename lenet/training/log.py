"""The log of a run, ``log.jsonl`` with one epoch per line: reading it, and its best epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lenet.system.errors import DataError
from lenet.training.events import EpochEvent


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


def best_epoch(log: Sequence[EpochEvent]) -> EpochEvent:
    """Return the epoch that the trainer saved as ``best.npz``.

    It has the highest validation accuracy; if tied, the lowest validation loss; if tied again, it
    is the first. Without validation it is the last epoch.
    """
    if log[-1].val_accuracy is None:
        return log[-1]
    return min(log, key=lambda epoch: (-(epoch.val_accuracy or 0), epoch.val_loss or 0))
