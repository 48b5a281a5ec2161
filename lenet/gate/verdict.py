"""The gate's verdict as a table, as Markdown, as JSON and as JUnit XML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree

from lenet.config.limits import Tolerances
from lenet.gate.compare import Check
from lenet.gate.measure import Measurement
from lenet.system.files import replacing
from lenet.system.text import markdown_table, table

SCHEMA_VERSION = 2
COLUMNS = ("check", "expected", "measured", "tolerance", "verdict")
WORDS = {True: "ok", False: "FAIL", None: "not compared"}


@dataclass(frozen=True)
class Verdict:
    """The checks of a gate; ``measurement`` is None if training did not reach its end."""

    checks: Sequence[Check]
    measurement: Measurement | None
    tolerances: Tolerances
    machine: Mapping[str, str | int]
    seconds: float

    @property
    def failed(self) -> list[str]:
        """The names of the checks that failed."""
        return [check.name for check in self.checks if check.passed is False]

    @property
    def summary(self) -> str:
        """The verdict in a few words."""
        if not self.failed:
            return f"all {len(self.checks)} checks passed"
        return f"{len(self.failed)} of {len(self.checks)} checks failed"

    def to_table(self) -> str:
        """Return aligned text."""
        return table([COLUMNS, *map(cells, self.checks)])

    def to_markdown(self) -> str:
        """Return a table for a pull request."""
        rows = markdown_table([COLUMNS, *map(cells, self.checks)])
        return f"### lenet regress: {self.summary}\n\n{rows}\n"

    def to_json(self) -> str:
        """Return one JSON object."""
        values = {
            "schema_version": SCHEMA_VERSION,
            "passed": not self.failed,
            "checks": [asdict(check) for check in self.checks],
            "measurement": self.measurement and asdict(self.measurement),
            "tolerances": asdict(self.tolerances),
            "machine": dict(self.machine),
            "seconds": self.seconds,
        }
        return json.dumps(values)

    def to_junit(self) -> str:
        """Return JUnit XML, which continuous integration systems read."""
        suite = ElementTree.Element(
            "testsuite",
            name="lenet regress",
            tests=str(len(self.checks)),
            failures=str(len(self.failed)),
            errors="0",
            skipped=str(sum(check.passed is None for check in self.checks)),
            time=f"{self.seconds:.3f}",
        )
        for check in self.checks:
            case = ElementTree.SubElement(
                suite, "testcase", classname="lenet.gate", name=check.name
            )
            _, expected, measured, tolerance, _ = cells(check)
            if not check.passed:
                kind = "skipped" if check.passed is None else "failure"
                message = f"expected {expected or '-'}, measured {measured}, tolerance {tolerance}"
                ElementTree.SubElement(case, kind, message=message)
        ElementTree.indent(suite)
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def write(path: Path, text: str) -> None:
    """Write ``text``, atomically."""
    with replacing(path) as file:
        file.write(text.encode())


def cells(check: Check) -> tuple[str, ...]:
    """Return the cells of a row, below :data:`COLUMNS`."""
    shown = _shown(check.expected), _shown(check.measured)
    return check.name, *shown, check.tolerance, WORDS[check.passed]


def _shown(value: float | str | None) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else value
