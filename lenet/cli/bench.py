"""``lenet bench``: training speed on this machine, as Markdown tables or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lenet.cli.options import CONFIG, JSON, SET
from lenet.config.reader import load_config

# Without --config: the optimizer that every framework has.
PLAIN_SGD = ("optimizer.name=sgd", "optimizer.weight_decay=0")


def _numbers(_: click.Context, param: click.Parameter, value: str) -> list[int | str]:
    """Return whole numbers above 0, given with commas between them; workers may be ``auto``."""
    parts = list(dict.fromkeys(value.split(",")))
    for part in parts:
        auto = part == "auto" and param.name == "workers"
        if not auto and not (part.isascii() and part.isdigit() and int(part)):
            raise click.BadParameter(f"{part!r} is no whole number above 0, such as in 1,2")
    return [part if part == "auto" else int(part) for part in parts]


@click.command()
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
    type=click.Choice(["torch"]),
    help="Also measure this framework, in alternating rounds.",
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
def bench(
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
    """Measure the speed and memory use of training, on generated images.

    \b
        lenet bench
        lenet bench --against torch --batch 64,128
        lenet bench --scale 6000000
    """  # noqa: D301 - click's mark for lines to leave as they are
    if scale is not None and against is not None:
        raise click.UsageError("--scale and --against exclude each other")
    config = load_config(file, overrides if file else (*PLAIN_SGD, *overrides))

    from lenet.bench import bench as measure

    if scale is not None:
        result = measure.bench_scale(config, count=scale, rounds=rounds, images=images, say=_say)
    else:
        result = measure.bench(
            config,
            batches=batches,
            workers=workers,
            rounds=rounds,
            images=images,
            against_torch=against == "torch",
            say=_say,
        )
    click.echo(json.dumps(result) if as_json else to_text(result))


def _say(line: str) -> None:
    click.echo(f"lenet bench: {line}", err=True)


def to_text(result: dict[str, Any]) -> str:
    """Return what was measured as Markdown."""
    machine = dict(result["machine"])
    cpu, cores, load, system = (machine.pop(key) for key in ("cpu", "cores", "load", "system"))
    busy = "" if load is None else f" (load {load:.1f} at the start)"
    versions = ", ".join(f"{name} {version}" for name, version in machine.items())
    text = [f"{cpu}, {cores} cores{busy}, {system}; {versions}.", ""]
    return "\n".join(text + (_scale(result["scale"]) if "scale" in result else _speed(result)))


def _speed(result: dict[str, Any]) -> list[str]:
    return [
        f"Parts of a step of {result['parts_batch']} images, one thread, where sgemm reaches "
        f"{result['sgemm_gflops']:.0f} GFLOP/s:",
        "",
        *_parts(result["parts"]),
        "",
        f"Training, median of {result['rounds']} epochs of {result['images']:,} images, in turn:",
        "",
        *_runs(result["runs"]),
    ]


def _parts(parts: list[dict[str, Any]]) -> list[str]:
    """Return a row for every part, forward and backward side by side."""
    found = {(part["part"], part["direction"]): part for part in parts}
    rows = [
        (name, *_cells(found.get((name, "forward"))), *_cells(found.get((name, "backward"))))
        for name in dict.fromkeys(part["part"] for part in parts)
    ]
    forward, backward = (
        sum(part["us_per_image"] for part in parts if part["direction"] == direction)
        for direction in ("forward", "backward")
    )
    rows.append(("all", f"{forward:.2f}", "", "", f"{backward:.2f}", "", ""))
    columns = ("µs/image", "GFLOP/s", "of sgemm")
    head = [f"{direction} {column}" for direction in ("forward", "backward") for column in columns]
    return _table(("part", *head), rows, numbers=6)


def _cells(part: dict[str, Any] | None) -> tuple[str, str, str]:
    if part is None:
        return "", "", ""
    if part["gflops"] is None:
        return f"{part['us_per_image']:.2f}", "", ""
    return (
        f"{part['us_per_image']:.2f}",
        f"{part['gflops']:.0f}",
        f"{part['share_of_sgemm']:.0%}",
    )


def _runs(runs: list[dict[str, Any]]) -> list[str]:
    rivals = list(dict.fromkeys(name for run in runs for name in run["ratios"]))
    return _table(
        (
            "framework",
            "batch",
            "workers",
            "threads",
            "images/s",
            "µs/image",
            "of sgemm",
            "peak MB",
            *(f"times {name}" for name in rivals),
        ),
        [
            (
                run["framework"],
                str(run["batch"]),
                str(run["workers"]),
                str(run["threads"]),
                f"{run['images_per_second']:,.0f}",
                f"{run['us_per_image']:.1f}",
                f"{run['share_of_sgemm']:.0%}",
                "" if run["peak_bytes"] is None else f"{run['peak_bytes'] / 1e6:.0f}",
                *(_ratio(run["ratios"].get(name)) for name in rivals),
            )
            for run in runs
        ],
        numbers=7 + len(rivals),
    )


def _ratio(ratio: dict[str, float] | None) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})" if ratio else ""


def _scale(scale: dict[str, Any]) -> list[str]:
    resident = scale["resident_bytes"]
    return _table(
        ("images", "file GB", "batch", "workers", "images/s", "of in memory", "tenths", "PSS MB"),
        [
            (
                f"{scale['images']:,}",
                f"{scale['file_bytes'] / 1e9:.2f}",
                str(scale["batch"]),
                str(scale["workers"]),
                f"{scale['images_per_second']:,.0f}",
                f"{scale['ratio']:.1%}",
                f"{min(scale['tenths'], default=0):,.0f}-{max(scale['tenths'], default=0):,.0f}",
                "" if resident is None else f"{resident / 1e6:.0f}",
            )
        ],
        numbers=8,
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, numbers: int) -> list[str]:
    """Return a Markdown table whose last ``numbers`` columns are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    words = len(head) - numbers
    rule = ["-" * width if i < words else "-" * (width - 1) + ":" for i, width in enumerate(widths)]

    def line(cells: tuple[str, ...]) -> str:
        padded = (
            cell.ljust(width) if i < words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    return [line(head), line(tuple(rule)), *map(line, rows)]
