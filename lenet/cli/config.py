"""``lenet config``: print the configuration that a run would use, complete and with comments."""

from __future__ import annotations

from pathlib import Path

import click

from lenet.cli.options import CONFIG, SET
from lenet.config.reader import load_config
from lenet.config.writer import to_yaml


@click.command()
@CONFIG
@SET
def config(file: Path | None, overrides: tuple[str, ...]) -> None:
    """Print the complete configuration, with a comment over every key.

    Without options it is the default. What is printed can be saved, edited and given to
    lenet train:

    \b
        lenet config --set optimizer.lr=0.1 > mine.yaml
        lenet train --config mine.yaml
    """  # noqa: D301 - click's mark for lines to leave as they are
    # Bytes, so that the file is UTF-8 whatever the terminal's encoding.
    click.echo(to_yaml(load_config(file, overrides)).encode(), nl=False)
