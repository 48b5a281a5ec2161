"""Measure training speed and memory; compare with PyTorch or JAX.

The images are generated.

\b
    lenet bench
    lenet bench --against torch --batch 64,128
    lenet bench --scale 6000000
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from lenet.bench.speed import COMPETITORS
from lenet.cli.options import CONFIG, JSON, SET
from lenet.config.reader import load_config

# Without --config: plain SGD, as in any framework.
PLAIN_SGD = ("optimizer.name=sgd", "optimizer.weight_decay=0")


def _numbers(_: click.Context, param: click.Parameter, value: str) -> list[int | str]:
    """Return positive integers, separated by commas; workers may be ``auto``."""
    parts = list(dict.fromkeys(value.split(",")))
    for part in parts:
        auto = part == "auto" and param.name == "workers"
        if not auto and not (part.isascii() and part.isdigit() and int(part)):
            raise click.BadParameter(f"{part!r} is not a positive integer, as in 1,2")
    return [part if part == "auto" else int(part) for part in parts]


@click.command(help=__doc__)
@CONFIG
@SET
@click.option(
    "--batch",
    "batches",
    metavar="N,N,...",
    callback=_numbers,
    default="32,64,128,256",
    show_default=True,
    help="Batch sizes. The first one is also used for the table of the parts of a step.",
)
@click.option(
    "--workers",
    metavar="N,N,...",
    callback=_numbers,
    default="1,auto",
    show_default=True,
    help="Worker counts.",
)
@click.option(
    "--against",
    type=click.Choice(list(COMPETITORS)),
    help="Also measure this framework, in alternating rounds, with one core and with all.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Number of rounds; the median is reported.",
)
@click.option(
    "--images",
    type=click.IntRange(1, 10**6),
    default=16_384,
    show_default=True,
    help="Images per round.",
)
@click.option(
    "--scale",
    type=click.IntRange(1, 10**8),
    metavar="IMAGES",
    help="Instead, train one epoch on a generated file of this many images, 784 bytes each, in the "
    "temporary directory. Batch size and workers come from the configuration.",
)
@JSON
def command(
    file: Path | None,
    overrides: tuple[str, ...],
    batches: list[int],
    workers: list[int | str],
    against: str | None,
    rounds: int,
    images: int,
    scale: int | None,
    as_json: bool,
) -> None:
    if scale is not None and against is not None:
        raise click.UsageError("--scale and --against exclude each other")
    config = load_config(file, overrides if file else (*PLAIN_SGD, *overrides))

    from lenet.bench import speed
    from lenet.bench.markdown import to_markdown

    if scale is not None:
        result = speed.bench_scale(config, count=scale, rounds=rounds, images=images, say=_say)
    else:
        result = speed.bench(
            config,
            batches=batches,
            workers=workers,
            rounds=rounds,
            images=images,
            against=against,
            say=_say,
        )
    click.echo(json.dumps(result) if as_json else to_markdown(result))


def _say(line: str) -> None:
    click.echo(f"lenet bench: {line}", err=True)
