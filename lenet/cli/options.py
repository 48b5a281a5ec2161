"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration in YAML.",
)
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key, such as optimizer.lr=0.1; may be repeated.",
)
DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="LENET_DATA_DIR",
    show_envvar=True,
    help="Directory of the files, or of a subdirectory for every data set.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
