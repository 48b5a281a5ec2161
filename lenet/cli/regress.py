"""``lenet regress``: the regression gate for continuous integration."""

from __future__ import annotations

from pathlib import Path

import click

from lenet.cli.options import CONFIG, DATA_DIR, JSON, SET
from lenet.config.reader import load_config


@click.command()
@CONFIG
@SET
@click.option(
    "--baseline",
    "path",
    type=click.Path(path_type=Path),
    default=Path("baseline.json"),
    show_default=True,
    metavar="FILE",
    help="Baseline to compare with.",
)
@click.option("--update", is_flag=True, help="Rewrite the baseline, keeping its limits.")
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
@DATA_DIR
@JSON
def regress(
    file: Path | None,
    overrides: tuple[str, ...],
    path: Path,
    update: bool,
    junit: Path | None,
    markdown: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Compare a short training run with a baseline: accuracy, loss, bits, gradients and speed.

    Trains for a few seconds. Exits with code 5 if a check fails. The limits are in the baseline
    file and may be edited there; --update keeps them.

    \b
        lenet regress --config configs/ci.yaml --baseline baseline.json --update
        lenet regress --config configs/ci.yaml --baseline baseline.json
    """  # noqa: D301 - click's mark for lines to leave as they are
    from lenet.regress import baseline as files
    from lenet.regress.gate import run_gate
    from lenet.regress.verdict import write
    from lenet.system.errors import GateFailed
    from lenet.training.build import load_split

    config = load_config(file, overrides)
    baseline = None if update and not path.exists() else files.read_baseline(path)
    split = load_split(config, "train", str(data_dir) if data_dir else None)
    tolerances = baseline.tolerances if baseline else files.Tolerances()
    verdict = run_gate(config, split, tolerances if update or baseline is None else baseline)

    if junit is not None:
        write(junit, verdict.to_junit())
    if markdown is not None:
        write(markdown, verdict.to_markdown())
    click.echo(verdict.to_json() if as_json else verdict.to_table())
    if verdict.failed:
        raise GateFailed(
            f"{verdict.summary}: {', '.join(verdict.failed)}",
            remedy="correct the cause; if the change is intended, run lenet regress --update",
            file=path,
        )
    if update and verdict.measurement:
        made = files.Baseline(config, verdict.machine, verdict.measurement, tolerances)
        files.write_baseline(path, made)
        click.echo(f"lenet: {path}: written", err=True)
