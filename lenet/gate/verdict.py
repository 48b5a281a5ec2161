"""The gate's verdict: as text, Markdown, JSON, JUnit XML, HTML and metrics."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from xml.etree import ElementTree

from lenet.config.schema import Config
from lenet.config.sections import Tolerances
from lenet.data.dataset import Split
from lenet.errors import GateFailed, LenetError
from lenet.gate.baseline import Baseline, adjusted, machine
from lenet.gate.checks import Check, check_limits, compare, fast_enough, notes
from lenet.gate.history import Trend, trends_markdown
from lenet.gate.measurement import Measurement, measure
from lenet.report.charts import Line, line_chart
from lenet.report.elements import html_page, scrolling
from lenet.system.text import markdown_table, printable, table

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
    notes: Sequence[str] = ()
    """What is better than the baseline, and what could not be compared, one line each."""
    trends: Sequence[Trend] = field(default=())

    @property
    def failed(self) -> list[str]:
        """The names of the checks that failed."""
        return [check.name for check in self.checks if check.passed is False]

    @property
    def summary(self) -> str:
        """The verdict in a few words; only what was compared counts."""
        compared = sum(check.passed is not None for check in self.checks)
        left = len(self.checks) - compared
        others = f", {left} not compared" if left else ""
        if not self.failed:
            return f"all {compared} checks passed{others}"
        return f"{len(self.failed)} of {compared} checks failed{others}"

    def to_table(self) -> str:
        """Return aligned text, and the notes below it."""
        return "\n".join([table([COLUMNS, *map(cells, self.checks)]), *self.notes])

    def to_markdown(self) -> str:
        """Return a table for a pull request, the notes and the trend."""
        rows = markdown_table([COLUMNS, *map(cells, self.checks)])
        notes = ""
        if self.notes:
            notes = f"\n{markdown_table([('note',), *((note,) for note in self.notes)])}\n"
        trend = f"\n{trends_markdown(self.trends)}" if self.trends else ""
        return f"### lenet regress: {self.summary}\n\n{rows}\n{notes}{trend}"

    def to_json(self) -> str:
        """Return one JSON object."""
        values = {
            "schema_version": SCHEMA_VERSION,
            "passed": not self.failed,
            "checks": [asdict(check) for check in self.checks],
            "notes": list(self.notes),
            "measurement": self.measurement and asdict(self.measurement),
            "tolerances": asdict(self.tolerances),
            "machine": dict(self.machine),
            "seconds": self.seconds,
        }
        return json.dumps(values)

    def to_junit(self) -> str:
        """Return JUnit XML, which continuous integration systems read."""
        counts = {"failures": len(self.failed), "errors": 0}
        suite = _suite(counts, [check.passed for check in self.checks], self.seconds)
        for check in self.checks:
            case = ElementTree.SubElement(
                suite, "testcase", classname="lenet.gate", name=check.name
            )
            _, expected, measured, tolerance, _ = cells(check)
            if not check.passed:
                kind = "skipped" if check.passed is None else "failure"
                message = f"expected {expected or '-'}, measured {measured}, tolerance {tolerance}"
                ElementTree.SubElement(case, kind, message=message)
        return _xml(suite)

    def to_annotations(self) -> list[str]:
        """Return GitHub's workflow commands: an error for each failed check, a notice per note."""
        lines = [
            _annotation("error", f"{check.name}: measured {measured}, tolerance {tolerance}")
            for check in self.checks
            if check.passed is False
            for _, _, measured, tolerance, _ in [cells(check)]
        ]
        return [*lines, *(_annotation("notice", note) for note in self.notes)]

    def to_github_benchmark(self) -> str:
        """Return what github-action-benchmark reads as ``customBiggerIsBetter``."""
        now = self.measurement
        values = now and [
            ("accuracy", "%", 100 * now.accuracy),
            ("speed per GFLOP/s of sgemm", "images/GFLOP", now.images_per_gflop),
            ("speed", "images/s", now.images_per_second),
        ]
        names = ("name", "unit", "value")
        return json.dumps([dict(zip(names, row, strict=True)) for row in values or ()])

    def to_bencher(self) -> str:
        """Return the metrics in the Bencher Metric Format."""
        now = self.measurement
        names = ("accuracy", "loss", "images_per_gflop", "images_per_second")
        measures = {name: {"value": getattr(now, name)} for name in names} if now else {}
        return json.dumps({"lenet regress": measures})

    def to_html(self) -> str:
        """Return a page; its figures are those of the trends."""
        heads = "".join(f'<th scope="col">{column}</th>' for column in COLUMNS)
        rows = ""
        for check in self.checks:
            name, *others = map(escape, cells(check))
            style = ' class="differs"' if check.passed is False else ""
            columns = "".join(f"<td>{cell}</td>" for cell in others)
            rows += f'<tr{style}><th scope="row">{name}</th>{columns}</tr>'
        made = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        sections = [("Checks", f'<div class="card fit">{scrolling("checks", made)}{notes}</div>')]
        if self.trends:
            figures = "".join(map(_figure, self.trends))
            sections.append(("Trend", f'<div class="grid">{figures}</div>'))
        return html_page("Regression gate", escape(self.summary), sections)


def run_gate(
    config: Config,
    split: Split,
    against: Baseline | Tolerances,
    adjustable: Collection[str] = (),
) -> Verdict:
    """Train, and compare the measurement with a baseline, or with limits that need none.

    Without a baseline, the limits named in ``adjustable`` are adjusted to the measurement.
    """
    started, here, measurement = time.monotonic(), machine(), None
    tolerances = against.tolerances if isinstance(against, Baseline) else against
    lines: list[str] = []
    try:
        if isinstance(against, Baseline):
            measurement = measure(config, split, fast_enough(against, here))
            checks = compare(config, measurement, against, here)
            lines = notes(measurement, against, here)
        else:
            measurement = measure(config, split, fast_enough=math.inf)
            tolerances = adjusted(tolerances, measurement, adjustable)
            checks = check_limits(measurement, tolerances)
    except GateFailed as error:
        checks = [Check("training", "reaches its end", error.problem, "", passed=False)]
    return Verdict(checks, measurement, tolerances, here, time.monotonic() - started, lines)


def error_junit(error: LenetError) -> str:
    """Return JUnit XML of a gate that could not run."""
    suite = _suite({"failures": 0, "errors": 1}, [True], 0.0)
    case = ElementTree.SubElement(suite, "testcase", classname="lenet.gate", name="the gate")
    ElementTree.SubElement(case, "error", message=printable(error))
    return _xml(suite)


def error_markdown(error: LenetError) -> str:
    """Return Markdown of a gate that could not run."""
    return (
        f"### lenet regress: could not run\n\n{markdown_table([('error',), (printable(error),)])}\n"
    )


def error_annotation(error: LenetError) -> str:
    """Return GitHub's workflow command for a gate that could not run."""
    return _annotation("error", str(error))


def cells(check: Check) -> tuple[str, ...]:
    """Return the cells of a row, below :data:`COLUMNS`."""
    shown = _shown(check.expected), _shown(check.measured)
    return check.name, *shown, check.tolerance, WORDS[check.passed]


def _shown(value: float | str | None) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else value


def _annotation(kind: str, text: str) -> str:
    return f"::{kind} title=lenet regress::{printable(text).replace('%', '%25')}"


def _suite(
    counts: Mapping[str, int], passed: Sequence[bool | None], seconds: float
) -> ElementTree.Element:
    numbers = {"tests": len(passed), **counts, "skipped": passed.count(None)}
    attributes = {name: str(number) for name, number in numbers.items()}
    return ElementTree.Element(
        "testsuite", {"name": "lenet regress", **attributes, "time": f"{seconds:.3f}"}
    )


def _xml(suite: ElementTree.Element) -> str:
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _figure(trend: Trend) -> str:
    line = Line(trend.metric, int(trend.drift() is not None), trend.values)
    chart = line_chart(trend.metric, [line], "{:.4g}".format, log=False, x="run", from_zero=False)
    check = trend.check()
    caption = f"{trend.metric}: {check.measured}, tolerance {check.tolerance}"
    return f'<figure class="card"><figcaption>{escape(caption)}</figcaption>{chart}</figure>'
