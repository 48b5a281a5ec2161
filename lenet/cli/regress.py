"""Compare a short training run with a baseline, for CI.

Checks accuracy, loss, bits, gradients and speed. Trains for a few seconds. Exits with code 5 if a
check fails. The limits are those in the section regress of the configuration; where it has null,
those in the baseline file.

With --against, the baseline is another revision of the code: both are trained in turn on this
machine.

\b
    lenet regress --config ci --baseline ci
    lenet regress --config ci --baseline baseline.json --update
    lenet regress --config ci --baseline baseline.json
    lenet regress --config ci --against HEAD~1
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import as_file
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.cli.options import CONFIG, DATA_DIR, JSON, SET, output_file, refuse_inputs, warn
from lenet.config.packaged import BASELINE, CONFIGURATION, find_packaged
from lenet.config.reader import load_config
from lenet.errors import GateFailed, LenetError
from lenet.system.files import replacing

if TYPE_CHECKING:
    from lenet.config.schema import Config
    from lenet.gate.verdict import Verdict


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
    "--against",
    "revision",
    metavar="REV",
    help="Instead, compare with this Git revision of the code, trained in turn with this one.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="With --against: training runs of each revision.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    help="Short for --set regress.NAME=VALUE: set a limit, e.g. min_accuracy=0.6. Repeatable.",
)
@output_file("--junit", "Write the result as JUnit XML.")
@output_file("--markdown", "Write the result as Markdown.")
@output_file("--html", "Write the result as an HTML page, with the trend as figures.")
@output_file("--github-benchmark", "Write the metrics for github-action-benchmark.")
@output_file("--bencher", "Write the metrics in the Bencher Metric Format.")
@output_file(
    "--history", "Append the run as a line of JSON, and check the trend over the runs in the file."
)
@DATA_DIR
@JSON
def command(
    file: Path | None,
    overrides: tuple[str, ...],
    path: Path,
    update: bool,
    revision: str | None,
    rounds: int,
    limits: tuple[str, ...],
    history: Path | None,
    data_dir: Path | None,
    as_json: bool,
    **files: Path | None,
) -> None:
    if update and find_packaged(path, BASELINE):
        raise click.UsageError(f"--update does not replace the packaged baseline {path}")
    if revision and (update or history):
        raise click.UsageError("--against excludes --update and --history")
    outputs = {f"--{name.replace('_', '-')}": given for name, given in files.items()}
    refuse_inputs({**outputs, "--history": history}, {"--baseline": path, "--config": file})
    try:
        config = load_config(file, (*overrides, *(f"regress.{limit}" for limit in limits)))
        if revision:
            verdict = _against(revision, config, file, overrides, rounds, data_dir)
        else:
            verdict, write = _with_baseline(config, path, update, history, data_dir)
    except LenetError as error:
        _write_error(error, files)
        raise
    from lenet.gate import verdict as forms

    for name, text in {
        "junit": forms.Verdict.to_junit,
        "markdown": forms.Verdict.to_markdown,
        "html": forms.Verdict.to_html,
        "github_benchmark": forms.Verdict.to_github_benchmark,
        "bencher": forms.Verdict.to_bencher,
    }.items():
        _write(files[name], text(verdict))
    click.echo(verdict.to_json() if as_json else verdict.to_table())
    _annotate(*verdict.to_annotations())
    if verdict.failed:
        remedy = "correct the cause; if the change is intended, run lenet regress --update"
        if update:
            remedy = "correct the cause, or set the limit with --limit NAME=VALUE"
        elif revision:
            remedy = "correct the cause, or raise the limit with --limit NAME=VALUE"
        names = ", ".join(verdict.failed)
        raise GateFailed(f"{verdict.summary}: {names}", remedy=remedy, file=revision or path)
    if update:
        write(verdict)


def _with_baseline(
    config: Config, path: Path, update: bool, history: Path | None, data_dir: Path | None
) -> tuple[Verdict, Callable[[Verdict], None]]:
    """Return the verdict, and what writes the new baseline."""
    from lenet.config.sections import Tolerances
    from lenet.evaluation.images import for_split, load_split
    from lenet.gate import baseline as baselines
    from lenet.gate.history import append, entry_of, read_history, trends
    from lenet.gate.verdict import run_gate

    given, baseline = config.regress.given(), None
    if path.exists() or not update:
        try:
            baseline = baselines.find_baseline(path)
        except baselines.DamagedBaseline as error:
            if not update:
                raise
            warn(f"{path}: {error.problem}; its limits are lost, the new baseline has the defaults")
    earlier, problems = read_history(history) if history else ([], [])
    for problem in problems:
        warn(problem)
    split = load_split(config, "train", str(data_dir) if data_dir else None)
    config = for_split(config, split)
    tolerances = replace(baseline.tolerances if baseline else Tolerances(), **given)
    if update or baseline is None:
        adjustable = set() if baseline else set(baselines.TASK_LIMITS) - set(given)
        verdict = run_gate(config, split, tolerances, adjustable)
    else:
        verdict = run_gate(config, split, replace(baseline, tolerances=tolerances))
    if history and verdict.measurement:
        entry = entry_of(verdict.measurement, dict(verdict.machine), config)
        found = trends([*earlier, entry], verdict.tolerances)
        checks = [*verdict.checks, *(trend.check() for trend in found)]
        notes = [*verdict.notes, *(note for trend in found if (note := trend.note()))]
        verdict = replace(verdict, checks=checks, notes=notes, trends=found)
        append(history, {**entry, "passed": not verdict.failed})

    def write(verdict: Verdict) -> None:
        assert verdict.measurement is not None  # noqa: S101 - all checks passed
        made = baselines.Baseline(config, verdict.machine, verdict.measurement, verdict.tolerances)
        baselines.write_baseline(path, made)
        changed = ", ".join(baselines.changed_limits(tolerances, verdict.tolerances))
        click.echo(f"lenet: {path}: written{changed and f', with {changed}'}", err=True)

    return verdict, write


def _against(
    revision: str,
    config: Config,
    file: Path | None,
    overrides: tuple[str, ...],
    rounds: int,
    data_dir: Path | None,
) -> Verdict:
    from lenet.config.sections import Tolerances
    from lenet.gate.against import run_against

    arguments = [f"--set={override}" for override in overrides]
    if data_dir:
        arguments += ["--data-dir", str(data_dir.absolute())]
    tolerances = replace(Tolerances(), **config.regress.given())

    def say(line: str) -> None:
        click.echo(f"lenet regress: {line}", err=True)

    packaged = file and find_packaged(file, CONFIGURATION)
    if file is None or packaged is None:
        arguments += ["--config", str(file.absolute())] if file else []
        return run_against(revision, arguments, rounds, tolerances, say)
    with as_file(packaged) as found:  # the same file for both revisions
        return run_against(revision, [*arguments, "--config", str(found)], rounds, tolerances, say)


def _write_error(error: LenetError, files: dict[str, Path | None]) -> None:
    """Write the reports of a gate that could not run."""
    from lenet.gate import verdict as forms

    _write(files["junit"], forms.error_junit(error))
    _write(files["markdown"], forms.error_markdown(error))
    _annotate(forms.error_annotation(error))


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        with replacing(path) as file:
            file.write(text.encode())


def _annotate(*lines: str) -> None:
    """Print GitHub's workflow commands, in GitHub's workflows only."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in lines:
            click.echo(line, err=True)
