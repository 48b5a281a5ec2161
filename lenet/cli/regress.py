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
    from lenet.regress import regress as gate
    from lenet.system.errors import GateFailed
    from lenet.training.build import load_split

    config = load_config(file, overrides)
    baseline = None if update and not path.exists() else gate.read_baseline(path)
    split = load_split(config, "train", str(data_dir) if data_dir else None)
    limits = baseline.allowed if baseline else gate.Allowed()
    verdict = gate.run_gate(config, split, limits if update or baseline is None else baseline)

    if junit is not None:
        gate.write(junit, verdict.to_junit())
    if markdown is not None:
        gate.write(markdown, verdict.to_markdown())
    click.echo(verdict.to_json() if as_json else verdict.to_table())
    if verdict.short:
        raise GateFailed(
            f"{len(verdict.short)} of {len(verdict.checks)} checks fall short: "
            + ", ".join(verdict.short),
            remedy="correct the cause; if the change is meant, run lenet regress --update",
            file=path,
        )
    if update and verdict.seen:
        gate.write_baseline(path, gate.Baseline(config, verdict.machine, verdict.seen, limits))
        click.echo(f"lenet: {path}: written", err=True)
