"""``lenet eval``: the figures of a checkpoint on a set of images, and whether they suffice."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lenet.cli.options import DATA_DIR, JSON


@click.command("eval")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["test", "validation", "train"]),
    default="test",
    show_default=True,
    help="Which images of the data set.",
)
@click.option("--data", "name", metavar="NAME", help="Another data set than the checkpoint's own.")
@DATA_DIR
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, 1),
    metavar="A",
    help="Exit with 5 if the accuracy is below this, such as 0.99.",
)
@JSON
def eval_(
    checkpoint: Path,
    split: str,
    name: str | None,
    data_dir: Path | None,
    min_accuracy: float | None,
    as_json: bool,
) -> None:
    """Judge CHECKPOINT: loss, accuracy, precision and recall, confusion matrix.

    The checkpoint knows its network, its preprocessing and its data set.

    \b
        lenet eval runs/mnist/best.npz
        lenet eval runs/mnist/best.npz --min-accuracy 0.99 --json
    """  # noqa: D301 - click's mark for lines to leave as they are
    from lenet.errors import GateFailed
    from lenet.evaluation import evaluate_checkpoint, read_checkpoint

    held = read_checkpoint(checkpoint)
    config = held.config.with_values({"data.name": name}) if name else held.config
    result, class_names = evaluate_checkpoint(
        held, split, config, data_dir and str(data_dir)
    )  # fmt: skip
    if as_json:
        facts = {"checkpoint": str(checkpoint), "data": config.data.name, "split": split}
        click.echo(json.dumps(result.to_dict() | facts))
    else:
        click.echo(f"{checkpoint} on {config.data.name}, {split} images")
        click.echo(result.to_table(class_names))
    if min_accuracy is not None and result.accuracy < min_accuracy:
        raise GateFailed(
            f"accuracy is {result.accuracy:.4f}, below {min_accuracy:g}",
            remedy="train longer, or lower --min-accuracy",
            file=checkpoint,
            key="accuracy",
        )
