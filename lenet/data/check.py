"""Checks of a data set: counts, grey levels, background, duplicate images."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.datasets import Split
from lenet.data.labels import remark_on_missing
from lenet.data.measure import disagreements, image_facts
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
    examples
        The indices of some pairs, those with different labels first.
    """

    images: int
    contradictions: int
    examples: tuple[tuple[int, int], ...]


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
    examples = tuple((twin, k) for twin, k, _ in twins[:MAX_EXAMPLES])
    return Duplicates(len(twins), sum(bool(differ) for *_, differ in twins), examples)


def _digests(split: Split) -> list[bytes]:
    return [blake2b(image, digest_size=16).digest() for image in split.images]


def report(splits: dict[str, Split]) -> dict[str, Any]:
    """Return all facts about a data set as a JSON object.

    Parameters
    ----------
    splits
        By name, ``train`` and ``test``, or one of them.
    """
    result: dict[str, Any] = {"splits": {}, "remarks": []}
    for name, split in splits.items():
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
            "duplicates": _entry(twins),
        }
        remarks = facts.remarks()
        if missing := remark_on_missing(split.labels, split.class_names, "images"):
            remarks.append(missing)
        remarks += _remarks(twins, "appear more than once")
        result["remarks"] += [f"{name}: {remark}" for remark in remarks]
    if {"train", "test"} <= set(splits):
        train, test = splits["train"], splits["test"]
        result["remarks"] += disagreements(*(image_facts(s.images) for s in (train, test)))
        twins = duplicates(test, train)
        result["test_in_train"] = _entry(twins)
        remarks = _remarks(twins, "are also training images")
        result["remarks"] += [f"test: {remark}" for remark in remarks]
    return result


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
        (f"{name} {s['image']}", printable(s["label"]), printable(s["predicted"]),
         f"{s['probability']:.4f}")
        for name, images in report.get("suspect_labels", {}).items()
        for s in images[:MAX_SUSPECTS]
    ]  # fmt: skip
    if suspects:
        parts.append(table([("IMAGE", "LABEL", "NETWORK", "PROBABILITY"), *suspects], "<<<>"))
    return "\n\n".join(parts)


def _entry(twins: Duplicates) -> dict[str, Any]:
    return {
        "images": twins.images,
        "contradictions": twins.contradictions,
        "examples": [list(pair) for pair in twins.examples],
    }


def _remarks(twins: Duplicates, what: str) -> list[str]:
    if not twins.images:
        return []
    pairs = ", ".join(f"{a} and {b}" for a, b in twins.examples)
    labels = f", {twins.contradictions:,} of them with another label" * bool(twins.contradictions)
    return [f"{twins.images:,} images {what}{labels} (numbers {pairs})"]


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
