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


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT|pretrained")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("play.html"),
    show_default=True,
    metavar="FILE",
    help="HTML file to write.",
)
def command(checkpoint: Path, out: Path) -> None:
    from lenet.checkpoint.restore import read_checkpoint
    from lenet.system.files import replacing
    from lenet.targets.networks import exported_network
    from lenet.targets.page.html import to_html

    page = to_html(exported_network(read_checkpoint(checkpoint))).encode()
    with replacing(out) as file:
        file.write(page)
    click.echo(f"{out}: {len(page) / 1000:.0f} kB; open it in a browser")
