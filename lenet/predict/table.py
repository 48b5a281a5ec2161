"""Predictions in a file: .csv, one row per image, or .jsonl, the lines of ``--json``.

With two ``columns`` a .csv is a submission: what identifies each image, and its label. Rows of an
array or a table are identified by their number from 1, or by the column of that name.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
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

    def __init__(
        self, path: Path, columns: tuple[str, str] | None = None, ids: Sequence[str] = ()
    ) -> None:
        self.path, self.count, self.warnings = path, 0, 0
        self.columns, self.ids = columns, ids

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        file = self._stack.enter_context(replacing(self.path))
        self._file = TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
        self._csv: Any = None
        if self.path.suffix.lower() == ".csv":
            self._csv = csv.writer(self._file, lineterminator="\n")
            self._csv.writerow(self.columns or COLUMNS)
        return self

    def add(self, prediction: Prediction) -> None:
        """Write a prediction."""
        self.count += 1
        self.warnings += prediction.warning is not None
        if self._csv is None:
            self._file.write(f"{prediction.to_json()}\n")
            return
        p = prediction
        if self.columns is not None:
            number = self.ids[self.count - 1] if self.ids else str(self.count)
            self._csv.writerow((number if p.file.endswith("]") else Path(p.file).name, p.label))
            return
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
