"""Options and warnings, shared by several commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import click

from lenet.system.text import printable

Command = TypeVar("Command", bound=Callable[..., object])

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


VALIDATION = click.option(
    "--validation", metavar="PATH", help="Images for validation (data.validation_path)."
)
LABELS = click.option(
    "--labels", metavar="FILE", help="CSV file of corrected labels: path,label (data.labels)."
)


def data_overrides(
    data: str | None,
    data_dir: Path | None,
    overrides: tuple[str, ...] = (),
    **keys: str | None,
) -> tuple[str, ...]:
    """Return all overrides: those of the data set's name or path, then the given ones.

    ``keys`` are more keys of ``data``; those that are None are left out.
    """
    from lenet.config.rules import as_yaml
    from lenet.evaluation.images import data_keys

    values: dict[str, str | None] = {}
    if data is not None:
        pattern = any(line.startswith("data.label_pattern=") for line in overrides)
        values |= data_keys(data, data_dir, pattern=pattern)
    values |= {f"data.{key}": value for key, value in keys.items() if value is not None}
    return (*(f"{key}={as_yaml(value)}" for key, value in values.items()), *overrides)


def warn(line: str) -> None:
    """Print a warning of one line, escaped."""
    click.echo(f"lenet: warning: {printable(line)}", err=True)


# --- Files that a command writes ----------------------------------------------------------------


def output_file(option: str, help_text: str) -> Callable[[Command], Command]:
    """Return an option for a file to write."""
    return click.option(option, type=click.Path(path_type=Path), metavar="FILE", help=help_text)


def refuse_inputs(
    outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | str | None]
) -> None:
    """Refuse an output that is one of the inputs, or another output, under whatever name."""
    written: dict[str, Path] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        for name, other in [*inputs.items(), *written.items()]:
            if other is not None and _overwrites(path, Path(other)):
                what = "written" if name in written else "read"
                raise click.UsageError(
                    f"{option} would overwrite {path}, which is {what} as {name}"
                )
        written[option] = path


def _overwrites(output: Path, other: Path) -> bool:
    """Return whether both are one file, or the output is an existing file in a directory."""
    try:
        if output.exists() and other.exists() and output.samefile(other):
            return True
        one, two = output.resolve(), other.resolve()
    except (OSError, RuntimeError):  # such as a loop of links
        return False
    return one == two or (output.is_file() and two.is_dir() and two in one.parents)
