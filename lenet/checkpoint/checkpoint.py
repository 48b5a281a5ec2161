"""Checkpoints: one .npz file, written atomically, safe to load from an untrusted source.

The file is described in docs/checkpoint.md. Its first member is a JSON text
(:mod:`lenet.checkpoint.metadata`); :mod:`lenet.checkpoint.archive` reads and writes the bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.archive import Array, Member, read_arrays, read_text, refuse, write_archive
from lenet.checkpoint.metadata import (
    FORMAT,
    MAX_META,
    MAX_STRING,
    NEEDS,
    canonical,
    check_class_names,
    decoded,
    layout,
)
from lenet.config.schema import Config
from lenet.data.measure import TrainingImages
from lenet.data.preprocessing import Preprocessing
from lenet.errors import CheckpointError, GateFailed, LenetError
from lenet.models.specification import Specification
from lenet.system.files import open_regular, reading, replacing
from lenet.system.machine import describe_machine

Number: TypeAlias = float | None

# --- What a checkpoint contains ------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Training:
    """What resuming a run needs beyond what evaluation needs.

    There is no random state: random numbers are a pure function of seed, epoch and step.
    """

    parameters: Array
    """The flat vector (P,) that the optimizer works on; not averaged."""
    optimizer: Mapping[str, Array]
    """The optimizer's vectors (P,) by name."""
    average: Mapping[str, Array]
    """The vectors (P,) of the running average by name; empty without one."""
    progress: Mapping[str, Number]
    """The trainer's counters and sums."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """A trained network with all that is needed to evaluate it, use it and train it further."""

    config: Config
    model: Specification
    """The network as data; together with the arrays it is all that is needed to build it."""
    parameters: Mapping[str, Array]
    """The weights to evaluate (averaged if training averages) by name, in the layers' order."""
    state: Mapping[str, Array]
    """What layers store besides parameters, in float64, by name: running means and the like."""
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    dataset: str
    step: int
    epoch: int
    metrics: Mapping[str, Number]
    """``train_loss``, ``train_accuracy``, ``val_loss`` and ``val_accuracy`` of the last full epoch.

    ``val_*`` are None without a validation set; empty before the first epoch is complete.
    """
    training: Training | None
    facts: Mapping[str, str | int]
    """Versions and machine; see :func:`facts`."""
    images: TrainingImages | None = None
    """What the training images look like; None in files of earlier versions."""


# --- Saving --------------------------------------------------------------------------------------


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``path``; the old file stays until the new one is complete on disk.

    A symbolic link at ``path`` is replaced, never followed.
    """
    path = Path(path)
    try:
        content = _content(checkpoint)
        with replacing(path) as file:
            write_archive(file, content)
    except LenetError as error:
        error.file = str(path)
        raise


def check_storable(checkpoint: Checkpoint) -> None:
    """Reject, before training, what :func:`save_checkpoint` would reject after it."""
    _content(checkpoint)


# --- Loading -------------------------------------------------------------------------------------


def load_checkpoint(path: str | os.PathLike[str], *, resume: bool = False) -> Checkpoint:
    """Read a checkpoint, which need not come from a trusted source."""
    path = Path(path)
    try:
        with reading(path, CheckpointError), open_regular(path, CheckpointError) as file:
            checkpoint = _read(file)
        if resume and checkpoint.training is None:
            problem = "contains no training state: it can be evaluated, not resumed"
            refuse(None, problem, "resume from last.npz, or start a new run")
    except LenetError as error:
        error.file = str(path)
        raise
    return checkpoint


def _read(file: BufferedReader) -> Checkpoint:
    first, text = read_text(file, "meta", MAX_META)
    meta = decoded(text)
    arrays = read_arrays(file, first, layout(meta))
    values, training = meta.values, meta.values["training"]

    def under(group: str) -> dict[str, Array]:
        return {name[len(group) :]: a for name, a in arrays.items() if name.startswith(group)}

    return Checkpoint(
        config=meta.config,
        model=meta.model,
        parameters=under("parameters/"),
        state=under("state/"),
        preprocessing=meta.preprocessing,
        class_names=tuple(values["class_names"]),
        dataset=values["dataset"],
        step=values["step"],
        epoch=values["epoch"],
        metrics=values["metrics"],
        training=None
        if training is None
        else Training(
            parameters=arrays["training/parameters"],
            optimizer=under("training/optimizer/"),
            average=under("training/average/"),
            progress=training["progress"],
        ),
        facts=values["facts"],
        images=_training_images(values["preprocessing"]),
    )


def _training_images(preprocessing: Mapping[str, Any]) -> TrainingImages | None:
    stored = preprocessing.get("images")
    if stored is None:
        return None
    (C, H, W), (low, high) = stored["shape"], stored["levels"]
    return TrainingImages(**{**stored, "shape": (C, H, W), "levels": (float(low), float(high))})


# --- The arrays ----------------------------------------------------------------------------------


def _content(checkpoint: Checkpoint) -> list[tuple[Member, NDArray[Any]]]:
    """Return the members with their arrays, checked by the rules of loading."""
    arrays = {f"parameters/{name}": a for name, a in checkpoint.parameters.items()}
    arrays |= {f"state/{name}": a for name, a in checkpoint.state.items()}
    progress: Mapping[str, Number] = {}
    if (training := checkpoint.training) is not None:
        arrays["training/parameters"] = training.parameters
        arrays |= {f"training/optimizer/{name}": a for name, a in training.optimizer.items()}
        arrays |= {f"training/average/{name}": a for name, a in training.average.items()}
        progress = training.progress
    _check_finite({**arrays, **checkpoint.metrics, **progress})
    check_class_names(checkpoint.class_names)
    text = _encoded(checkpoint)
    if len(text) > MAX_META:
        remedy = "choose a network of fewer layers, or shorter names"
        refuse("meta", f"is over {MAX_META:,} bytes", remedy)
    members = layout(decoded(text))
    if [member.name for member in members] != list(arrays):
        raise ValueError(f"the arrays {list(arrays)} are not those of the network: {members}")
    return [
        (Member("meta", "|u1", (len(text),)), np.frombuffer(text, np.uint8)),
        *(
            (member, array.astype(member.dtype, casting="equiv", copy=False).reshape(member.shape))
            for member, array in zip(members, arrays.values(), strict=True)
        ),
    ]


def _check_finite(numbers: Mapping[str, Array | Number]) -> None:
    for name, value in numbers.items():
        if value is not None and not np.isfinite(value).all():
            problem = "is NaN or infinite: training has diverged"
            remedy = "lower optimizer.lr, or use schedule.warmup"
            raise GateFailed(problem, remedy=remedy, key=name)


# --- The JSON text -------------------------------------------------------------------------------


def _encoded(checkpoint: Checkpoint) -> bytes:
    model, preprocessing = checkpoint.model, checkpoint.preprocessing
    training = checkpoint.training
    values = {
        "format": FORMAT,
        "needs": NEEDS,
        "config": checkpoint.config.to_dict(),
        "model": {
            "input": model.input_shape,
            "layers": model.layers,
            "initializer": model.initializer,
        },
        "preprocessing": {
            "scale": preprocessing.scale,
            "shift": preprocessing.shift,
            "background": preprocessing.background,
            **({} if checkpoint.images is None else {"images": asdict(checkpoint.images)}),
        },
        "class_names": checkpoint.class_names,
        "dataset": checkpoint.dataset,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "metrics": dict(checkpoint.metrics),
        "training": None
        if training is None
        else {
            "optimizer": list(training.optimizer),
            "average": list(training.average),
            "progress": dict(training.progress),
        },
        "facts": dict(checkpoint.facts),
    }
    return canonical(values)


# --- Where it was made ---------------------------------------------------------------------------


def facts(workers: int) -> Mapping[str, str | int]:
    """Return what the last bits of a run depend on besides its configuration.

    Examples
    --------
    >>> list(facts(workers=2))
    ['lenet', 'numpy', 'blas', 'simd', 'processor', 'platform', 'python', 'workers']
    """
    machine = describe_machine()
    return {**{name: fact[:MAX_STRING] for name, fact in machine.items()}, "workers": workers}
