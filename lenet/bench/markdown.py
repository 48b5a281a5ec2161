"""The results of a benchmark as Markdown."""

from __future__ import annotations

from typing import Any

from lenet.system.text import markdown_table


def to_markdown(result: dict[str, Any]) -> str:
    """Return what :mod:`lenet.bench.speed` or :mod:`lenet.bench.speed` measured."""
    machine = dict(result["machine"])
    cpu, cores, load, system = (machine.pop(key) for key in ("cpu", "cores", "load", "system"))
    after = machine.pop("load_after", None)
    busy = "" if load is None else f" (load {load:.1f} at the start)"
    if after is not None:
        busy = f"{busy[:-1]}, {after:.1f} at the end)"
    versions = ", ".join(f"{name} {version}" for name, version in machine.items())
    blocks = [f"{cpu}, {cores} cores{busy}, {system}; {versions}."]
    if "scale" in result:
        blocks.append(_scale_table(result["scale"]))
    else:
        if result["against"]:
            blocks += [
                f"Core against core, the fastest run of lenet and of {result['against']}:",
                _ratios_table(result["runs"]),
            ]
        blocks += [
            f"Parts of a step of {result['parts_batch']} images, one thread, where sgemm reaches "
            f"{result['sgemm_gflops']:.0f} GFLOP/s:",
            _parts_table(result["parts"]),
            f"Training, median of {result['rounds']} epochs of {result['images']:,} images, in "
            "turn:",
            _runs_table(result["runs"]),
        ]
    return "\n\n".join(blocks)


def _parts_table(parts: list[dict[str, Any]]) -> str:
    """Return a row for every part, forward and backward side by side."""
    columns = ("µs/image", "GFLOP/s", "of sgemm")
    head = [f"{direction} {column}" for direction in ("forward", "backward") for column in columns]
    by_key = {(part["part"], part["direction"]): part for part in parts}
    rows = [
        (
            name,
            *_part_cells(by_key.get((name, "forward"))),
            *_part_cells(by_key.get((name, "backward"))),
        )
        for name in dict.fromkeys(part["part"] for part in parts)
    ]
    forward, backward = (
        sum(part["us_per_image"] for part in parts if part["direction"] == direction)
        for direction in ("forward", "backward")
    )
    total = ("all", f"{forward:.2f}", "", "", f"{backward:.2f}", "", "")
    return markdown_table([("part", *head), *rows, total], "<>")


def _part_cells(part: dict[str, Any] | None) -> tuple[str, str, str]:
    if part is None:
        return "", "", ""
    if part["gflops"] is None:
        return f"{part['us_per_image']:.2f}", "", ""
    return (
        f"{part['us_per_image']:.2f}",
        f"{part['gflops']:.0f}",
        f"{part['share_of_sgemm']:.0%}",
    )


def _ratios_table(runs: list[dict[str, Any]]) -> str:
    """Return a row for every batch size and number of cores: the fastest run of either side."""
    head = ("cores", "batch", "lenet", "images/s", "fastest other", "images/s", "ratio")
    rows = []
    compared = [run for run in runs if run["ratio"]]
    for cores, batch in sorted({(_cores(run), run["batch"]) for run in compared}):
        ours = max(
            (run for run in compared if (_cores(run), run["batch"]) == (cores, batch)),
            key=lambda run: run["images_per_second"],
        )
        theirs = next(run for run in runs if ours["ratio"]["of"].items() <= run.items())
        speeds = [f"{run['images_per_second']:,.0f}" for run in (ours, theirs)]
        name = f"{theirs['framework']}, {_split(theirs)}"
        rows.append((cores, batch, _split(ours), speeds[0], name, speeds[1], _ratio(ours["ratio"])))
    return markdown_table([head, *rows], ">><><>>")


def _cores(run: dict[str, Any]) -> int:
    return int(run["workers"] * run["threads"])


def _split(run: dict[str, Any]) -> str:
    """Describe how a run uses its cores."""
    if run["workers"] > 1:
        return f"{run['workers']} processes"
    return f"{run['threads']} thread{'s' * (run['threads'] > 1)}"


def _runs_table(runs: list[dict[str, Any]]) -> str:
    head = ("framework", "batch", "workers", "threads", "images/s", "µs/image", "of sgemm")
    rows = [
        (
            run["framework"],
            run["batch"],
            run["workers"],
            run["threads"],
            f"{run['images_per_second']:,.0f}",
            f"{run['us_per_image']:.1f}",
            f"{run['share_of_sgemm']:.0%}",
            "" if run["peak_bytes"] is None else f"{run['peak_bytes'] / 1e6:.0f}",
        )
        for run in runs
    ]
    return markdown_table([(*head, "peak MB"), *rows], "<>")


def _ratio(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"


def _scale_table(scale: dict[str, Any]) -> str:
    resident, tenths = scale["resident_bytes"], scale["tenths"]
    head = ("images", "file GB", "batch", "workers", "images/s", "of in memory", "tenths", "PSS MB")
    row = (
        f"{scale['images']:,}",
        f"{scale['file_bytes'] / 1e9:.2f}",
        scale["batch"],
        scale["workers"],
        f"{scale['images_per_second']:,.0f}",
        f"{scale['ratio']:.1%}",
        f"{min(tenths, default=0):,.0f}-{max(tenths, default=0):,.0f}",
        "" if resident is None else f"{resident / 1e6:.0f}",
    )
    return markdown_table([head, row], ">")
