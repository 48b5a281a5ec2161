"""Compare a short training run with a baseline, for CI.

Checks accuracy, loss, bits, gradients and speed. Trains for a few seconds. Exits with code 5 if a
check fails. The limits are those in the section regress of the configuration; where it has null,
those in the baseline file.

\b
    lenet regress --config ci --baseline ci
    lenet regress --config ci --baseline baseline.json --update
    lenet regress --config ci --baseline baseline.json
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.cli.options import CONFIG, DATA_DIR, JSON, SET
from lenet.config.packaged import BASELINE, find_packaged
from lenet.config.reader import load_config

if TYPE_CHECKING:
    from lenet.gate.trend import Trend


@click.command(help=__doc__)
@CONFIG
@SET
@click.option(
    "--baseline",
    "path",
    type=click.Path(path_type=Path),
    default=Path("baseline.json"),
    show_default=True,
    metavar="FILE|NAME",
    help="Baseline to compare with, a file or a packaged one.",
)
@click.option(
    "--update",
    is_flag=True,
    help="Write a new baseline, keeping its limits. The limits of a first one are set so that it "
    "meets them.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    help="Short for --set regress.NAME=VALUE: set a limit, e.g. min_accuracy=0.6. Repeatable.",
)
@click.option(
    "--junit",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the result as JUnit XML.",
)
@click.option(
    "--markdown",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the result as Markdown.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the result as an HTML page, with the trend as figures.",
)
@click.option(
    "--history",
    "history_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Append the run to FILE as a line of JSON, and check the trend over the runs in it.",
)
@DATA_DIR
@JSON
def command(
    file: Path | None,
    overrides: tuple[str, ...],
    path: Path,
    update: bool,
    limits: tuple[str, ...],
    junit: Path | None,
    markdown: Path | None,
    html: Path | None,
    history_path: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    from lenet.config.limits import Tolerances
    from lenet.errors import GateFailed
    from lenet.evaluation.images import for_split, load_split
    from lenet.gate import baseline as files
    from lenet.gate.gate import record, run_gate
    from lenet.gate.history import read_history
    from lenet.gate.page import to_html
    from lenet.gate.tolerances import TASK_LIMITS, changed_limits
    from lenet.gate.trend import to_markdown
    from lenet.gate.verdict import write

    if update and find_packaged(path, BASELINE):
        raise click.UsageError(f"--update does not replace the packaged baseline {path}")
    config = load_config(file, (*overrides, *(f"regress.{limit}" for limit in limits)))
    given = config.regress.given()
    baseline = None if update and not path.exists() else files.find_baseline(path)
    earlier = read_history(history_path) if history_path else []
    split = load_split(config, "train", str(data_dir) if data_dir else None)
    config = for_split(config, split)
    tolerances = replace(baseline.tolerances if baseline else Tolerances(), **given)
    if update or baseline is None:
        adjustable = set() if baseline else set(TASK_LIMITS) - set(given)
        verdict = run_gate(config, split, tolerances, adjustable)
    else:
        verdict = run_gate(config, split, replace(baseline, tolerances=tolerances))

    trends: list[Trend] = []
    if history_path is not None:
        verdict, trends = record(history_path, earlier, verdict, config)
    if junit is not None:
        write(junit, verdict.to_junit())
    if markdown is not None:
        write(markdown, verdict.to_markdown() + (f"\n{to_markdown(trends)}" if trends else ""))
    if html is not None:
        write(html, to_html(verdict, trends))
    click.echo(verdict.to_json() if as_json else verdict.to_table())
    if verdict.failed:
        raise GateFailed(
            f"{verdict.summary}: {', '.join(verdict.failed)}",
            remedy="correct the cause, or set the limit with --limit NAME=VALUE"
            if update
            else "correct the cause; if the change is intended, run lenet regress --update",
            file=path,
        )
    if update and verdict.measurement:
        made = files.Baseline(config, verdict.machine, verdict.measurement, verdict.tolerances)
        files.write_baseline(path, made)
        changed = ", ".join(changed_limits(tolerances, verdict.tolerances))
        click.echo(f"lenet: {path}: written{changed and f', with {changed}'}", err=True)
