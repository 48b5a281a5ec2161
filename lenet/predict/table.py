"""Predictions in a file: .csv, one row per image, or .jsonl, the lines of ``--json``."""

from __future__ import annotations

import csv
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from lenet.predict.prediction import Prediction
from lenet.system.files import replacing

COLUMNS: Final = ("file", "label", "probability", "second", "probability_2", "warning", "input")


class Table:
    """Writes predictions to a file, which is complete or, after an error, as it was before.

    Raises
    ------
    SystemFailure
        The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.count, self.warnings = path, 0, 0

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        file = self._stack.enter_context(replacing(self.path))
        self._file = TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
        self._csv: Any = None
        if self.path.suffix.lower() == ".csv":
            self._csv = csv.writer(self._file, lineterminator="\n")
            self._csv.writerow(COLUMNS)
        return self

    def add(self, prediction: Prediction) -> None:
        """Write a prediction."""
        self.count += 1
        self.warnings += prediction.warning is not None
        if self._csv is None:
            self._file.write(f"{prediction.to_json()}\n")
            return
        p = prediction
        second: tuple[str | None, float | None] = p.top[1] if len(p.top) > 1 else (None, None)
        self._csv.writerow((p.file, p.label, p.probability, *second, p.warning, p.input))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.flush()
        self._file.detach()
        self._stack.__exit__(kind, error, trace)
