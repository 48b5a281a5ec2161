"""Evaluate a checkpoint, or several as an ensemble.

An ensemble averages the probabilities of its networks. Prints loss, accuracy, precision, recall and
the confusion matrix (for more than 20 classes, the most frequent mistakes). A checkpoint contains
its network, preprocessing and data set; pretrained is the model that ships with the package. A
sweep directory means the networks of its selected configuration, one per seed.

\b
    lenet eval runs/mnist/best.npz
    lenet eval runs/mnist/best.npz --min-accuracy 0.99 --json
    lenet eval runs/a/best.npz runs/b/best.npz --tta 8
    lenet eval runs/sweep
    lenet eval pretrained --data mnist
    lenet eval runs/mine/best.npz --data moved/pictures
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.cli.options import DATA, DATA_DIR, JSON, refuse_inputs, warn

if TYPE_CHECKING:
    from lenet.checkpoint.checkpoint import Checkpoint
    from lenet.config.schema import Config


@click.command(help=__doc__)
@click.argument(
    "checkpoints",
    type=click.Path(path_type=Path),
    nargs=-1,
    required=True,
    metavar="CHECKPOINT|SWEEP|pretrained...",
)
@click.option(
    "--split",
    type=click.Choice(["test", "validation", "train"]),
    default="test",
    show_default=True,
    help="Which split of the data set to use.",
)
@DATA
@DATA_DIR
@click.option(
    "--tta",
    "views",
    type=click.IntRange(0, 1000),
    default=0,
    metavar="N",
    help="Test-time augmentation: also average over N distorted views of each image.",
)
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, 1),
    metavar="A",
    help="Exit with code 5 if the accuracy is below A, e.g. 0.99.",
)
@click.option(
    "--mistakes",
    "picture",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Plot the worst mistakes on the test images as PNG or SVG (needs the extra viz), or write "
    "all to a .csv file with path, label, predicted and probability.",
)
@JSON
def command(
    checkpoints: tuple[Path, ...],
    split: str,
    data: str | None,
    data_dir: Path | None,
    views: int,
    min_accuracy: float | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    from lenet.checkpoint.restore import read_checkpoint
    from lenet.errors import GateFailed
    from lenet.evaluation.ensemble import evaluate_checkpoints
    from lenet.evaluation.images import with_data

    checkpoints = tuple(path for given in checkpoints for path in _expand(given))
    if picture is not None and (len(checkpoints) > 1 or split != "test"):
        raise click.UsageError("--mistakes takes one checkpoint and its test images")
    inputs = {str(path): path for path in checkpoints}
    refuse_inputs({"--mistakes": picture}, {**inputs, "--data": data})
    loaded = [read_checkpoint(path) for path in checkpoints]
    config = with_data(loaded[0].config, data, data_dir)
    result, class_names = evaluate_checkpoints(loaded, split, config, data_dir, views, warn=warn)
    evaluated = ", ".join(map(str, checkpoints))
    if as_json:
        facts = {"checkpoint": evaluated, "data": config.data.name, "split": split, "tta": views}
        click.echo(json.dumps(result.to_dict(class_names) | facts))
    else:
        click.echo(f"{evaluated} on {config.data.title}, {split} images")
        click.echo(result.to_table(class_names))
    if picture is not None:
        _write_mistakes(picture, loaded[0], config, data_dir)
    if min_accuracy is not None and result.accuracy < min_accuracy:
        raise GateFailed(
            f"accuracy is {result.accuracy:.4f}, below {min_accuracy:g}",
            remedy="train longer, or lower --min-accuracy",
            file=evaluated,
            key="accuracy",
        )


def _expand(path: Path) -> list[Path]:
    """Return the path itself or, for a sweep directory, the checkpoints it selected."""
    from lenet.checkpoint.restore import PRETRAINED

    if str(path) == PRETRAINED or not path.is_dir():
        return [path]
    from lenet.sweep.sweep_directory import members

    return members(path)


def _write_mistakes(
    file: Path, checkpoint: Checkpoint, config: Config, data_dir: Path | None
) -> None:
    from lenet.evaluation.mistakes import evaluate_with_mistakes, write_mistakes

    found = evaluate_with_mistakes(checkpoint, str(data_dir) if data_dir else None, config)
    if file.suffix.lower() == ".csv":
        write_mistakes(file, found.mistakes, checkpoint.class_names)
        return
    from lenet.inspect import canvas, plots

    worst = found.worst
    title = f"The {len(worst)} worst mistakes on {config.data.title}"
    canvas.write_figure(file, lambda: plots.mistakes(worst, checkpoint.class_names, title))
