"""Checks of a data set: counts, grey levels, background, duplicate images."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.dataset import Split
from lenet.data.labels import remark_on_missing
from lenet.data.measure import disagreements, image_facts
from lenet.system.files import replacing
from lenet.system.text import printable, table

MAX_EXAMPLES = 5
MAX_SUSPECTS = 50  # of each split, in the table


@dataclass(frozen=True)
class Duplicates:
    """Images that are the same, pixel by pixel.

    Attributes
    ----------
    images
        The number of images with an earlier duplicate.
    contradictions
        How many of these have a different label from it.
    pairs
        The indices of both images of each, those with different labels first.
    """

    images: int
    contradictions: int
    pairs: tuple[tuple[int, int], ...]


def duplicates(split: Split, other: Split | None = None) -> Duplicates:
    """Find the images of ``split`` that are also in ``other``; by default, its own duplicates."""
    first: dict[bytes, int] = {}
    earlier = split if other is None else other
    if other is not None:
        for k, digest in enumerate(_digests(other)):
            first.setdefault(digest, k)
    twins = []
    for k, digest in enumerate(_digests(split)):
        twin = first.get(digest)
        if twin is not None:
            twins.append((twin, k, earlier.labels[twin] != split.labels[k]))
        elif other is None:
            first[digest] = k
    twins.sort(key=lambda twin: not twin[2])
    pairs = tuple((twin, k) for twin, k, _ in twins)
    return Duplicates(len(twins), sum(bool(differ) for *_, differ in twins), pairs)


def _digests(split: Split) -> list[bytes]:
    return [blake2b(image, digest_size=16).digest() for image in split.images]


def report(data: Mapping[str, Split], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return all facts about a data set as a JSON object."""
    result: dict[str, Any] = {"splits": {}, "remarks": [], "left_out": list(notes)}
    for name, split in data.items():
        facts, twins = image_facts(split.images), duplicates(split)
        counts = np.bincount(split.labels, minlength=len(split.class_names))
        result["splits"][name] = {
            "images": len(split.images),
            "shape": list(facts.shape),
            "darkest": facts.darkest,
            "lightest": facts.lightest,
            "mean": round(facts.mean, 2),
            "paper": facts.paper,
            "stored_levels": list(split.levels),
            "classes": dict(zip(split.class_names, counts.tolist(), strict=True)),
            "duplicates": _entry(twins, split, split),
        }
        remarks = facts.remarks()
        if missing := remark_on_missing(split.labels, split.class_names, "images"):
            remarks.append(missing)
        remarks += _remarks(twins, "appear more than once", split, split)
        result["remarks"] += [f"{name}: {remark}" for remark in remarks]
    if "train" in data:
        train = data["train"]
        for name in set(data) - {"train"}:
            other = data[name]
            facts = image_facts(other.images)
            result["remarks"] += disagreements(image_facts(train.images), facts, f"{name} images")
            twins = duplicates(other, train)
            result[f"{name}_in_train"] = _entry(twins, train, other)
            remarks = _remarks(twins, "are also training images", train, other)
            result["remarks"] += [f"{name}: {remark}" for remark in remarks]
    return result


def place(split: Split, k: int) -> dict[str, Any]:
    """Return where an image came from as a JSON object."""
    origin = split.origin(k)
    row = {} if origin.row is None else {"row": origin.row}
    return {"path": str(origin), "file": origin.file, **row}


def write_findings(file: Path, report: Mapping[str, Any]) -> None:
    """Write duplicates and suspect labels as a CSV file; ``--labels`` takes a corrected one."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "label", "predicted", "probability", "same_as"))
    for images in report.get("suspect_labels", {}).values():
        for s in images:
            rows.writerow((s["path"], s["label"], s["predicted"], f"{s['probability']:.4f}", ""))
    entries = [facts["duplicates"] for facts in report["splits"].values()]
    entries += [entry for key, entry in report.items() if key.endswith("_in_train")]
    for pair in (pair for entry in entries for pair in entry["pairs"]):
        rows.writerow((pair["path"], pair["label"], "", "", pair["same_as"]))
    with replacing(file) as out:
        out.write(text.getvalue().encode("utf-8"))


def as_text(report: dict[str, Any]) -> str:
    """Return a report as tables and lines."""
    splits = report["splits"]
    rows: list[tuple[str, ...]] = [("SPLIT", "IMAGES", "SHAPE", "LEVELS", "MEAN", "BACKGROUND")]
    for name, facts in splits.items():
        rows.append(
            (
                name,
                f"{facts['images']:,}",
                "×".join(map(str, facts["shape"])),
                f"{facts['darkest']} to {facts['lightest']}",
                f"{facts['mean']:.1f}",
                "mixed" if facts["paper"] is None else str(facts["paper"]),
            )
        )
    counts: dict[str, list[int]] = {}
    for k, facts in enumerate(splits.values()):
        for name, count in facts["classes"].items():
            counts.setdefault(name, [0] * len(splits))[k] = count
    classes = [
        ("CLASS", *map(str.upper, splits)),
        *((printable(name), *(f"{n:,}" for n in row)) for name, row in counts.items()),
    ]
    parts = [table(rows, "<><><>"), table(classes, "<>")]
    if report["remarks"]:
        parts.append("\n".join(map(printable, report["remarks"])))
    suspects = [
        (*map(printable, (s["path"] or f"{name} {s['image']}", s["label"], s["predicted"])),
         f"{s['probability']:.4f}")
        for name, images in report.get("suspect_labels", {}).items()
        for s in images[:MAX_SUSPECTS]
    ]  # fmt: skip
    if suspects:
        parts.append(table([("IMAGE", "LABEL", "NETWORK", "PROBABILITY"), *suspects], "<<<>"))
    return "\n\n".join(parts)


def _entry(twins: Duplicates, earlier: Split, split: Split) -> dict[str, Any]:
    pairs = [
        {
            **place(split, k),
            "label": split.class_names[split.labels[k]],
            "same_as": place(earlier, twin)["path"],
            "label_there": earlier.class_names[earlier.labels[twin]],
        }
        for twin, k in twins.pairs
    ]
    return {
        "images": twins.images,
        "contradictions": twins.contradictions,
        "examples": [list(pair) for pair in twins.pairs[:MAX_EXAMPLES]],
        "pairs": pairs,
    }


def _remarks(twins: Duplicates, what: str, earlier: Split, split: Split) -> list[str]:
    if not twins.images:
        return []
    pairs = ", ".join(
        f"{earlier.origin(a)} and {split.origin(b)}" for a, b in twins.pairs[:MAX_EXAMPLES]
    )
    labels = f", {twins.contradictions:,} of them with conflicting labels"
    return [f"{twins.images:,} images {what}{labels * bool(twins.contradictions)} ({pairs})"]


def random_sample(split: Split, per_class: int, seed: int = 0) -> NDArray[np.intp]:
    """Return the numbers of up to ``per_class`` images of every class, chosen at random, sorted.

    Examples
    --------
    >>> split = Split(np.zeros((6, 2, 2), np.uint8), np.array([0, 0, 0, 1, 1, 1]), ("a", "b"))
    >>> np.bincount(split.labels[random_sample(split, 2)])
    array([2, 2])
    """
    order = np.random.default_rng(seed).permutation(len(split.labels))
    chosen: defaultdict[int, list[int]] = defaultdict(list)
    for k in order.tolist():
        members = chosen[int(split.labels[k])]
        if len(members) < per_class:
            members.append(k)
    return np.sort(np.array([k for members in chosen.values() for k in members], np.intp))
