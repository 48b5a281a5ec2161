"""Options and warnings, shared by several commands."""

from __future__ import annotations

from pathlib import Path

import click

CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE|NAME",
    help="Configuration file (YAML), or the name of a packaged one: lenet config --list.",
)
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key, e.g. optimizer.lr=0.1. Repeatable.",
)
DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="LENET_DATA_DIR",
    show_envvar=True,
    help="Directory with the data files, directly or in one subdirectory per data set.",
)
DATA = click.option(
    "--data",
    metavar="NAME|PATH",
    help="Another data set: its name, or the path of your own data (a directory of images by class "
    "or of IDX files, a .npz or a .csv file).",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object to stdout.")


def data_overrides(data: str, data_dir: Path | None) -> tuple[str, ...]:
    """Return the overrides that name a data set: its name, or the path of the user's own data."""
    from lenet.config.rules import as_yaml
    from lenet.evaluation.images import data_keys

    return tuple(f"{key}={as_yaml(value)}" for key, value in data_keys(data, data_dir).items())


def warn(line: str) -> None:
    """Print a warning of one line."""
    click.echo(f"lenet: warning: {line}", err=True)
