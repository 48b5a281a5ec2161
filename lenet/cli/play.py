"""Write an interactive HTML page that shows a network at work.

Draw a digit and follow every number, forward and backward: patches, matrix products, pooling,
gradients and a step of gradient descent. The page is one file and uses no network connection.

\b
    lenet play pretrained
    lenet play runs/mnist/best.npz --out lesson.html
"""

from __future__ import annotations

from pathlib import Path

import click

from lenet.cli.options import refuse_inputs


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT|pretrained")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="HTML file to write.  [default: play.html]",
)
def command(checkpoint: Path, out: Path | None) -> None:
    from lenet.checkpoint.restore import read_checkpoint
    from lenet.system.files import default_output, replacing
    from lenet.targets.networks import exported_network
    from lenet.targets.page.html import to_html

    path = out or default_output("play.html")
    refuse_inputs({"--out": path}, {"CHECKPOINT": checkpoint})
    page = to_html(exported_network(read_checkpoint(checkpoint))).encode()
    with replacing(path) as file:
        file.write(page)
    click.echo(f"{path}: {len(page) / 1000:.0f} kB; open it in a browser")
