"""Checkpoints of random numbers for tests, also in processes that a test starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lenet.checkpoint.checkpoint import Checkpoint, Training, facts, save_checkpoint
from lenet.config.schema import Config
from lenet.data.preprocessing import Preprocessing
from lenet.models.specification import Specification, expanded


def network(size: int = 4, filters: int = 2, units: int = 2, state: bool = True) -> Specification:
    layers = [
        {"type": "convolution", "name": "C1", "filters": filters, "kernel": 2},
        {"type": "batch_normalization", "name": "N1"},
        {"type": "linear", "name": "F7", "units": units},
    ]
    return Specification((1, size, size), expanded(layers if state else layers[::2]), shift=-0.2)


def make(
    model: Specification | None = None,
    *,
    training: bool = True,
    seed: int = 0,
    background: int = 9,
    **settings: object,
) -> Checkpoint:
    """A small checkpoint of random numbers; ``settings`` with __ for the dots."""
    config = Config().with_values({n.replace("__", "."): value for n, value in settings.items()})
    rng = np.random.default_rng(seed)
    dtype = config.train.precision
    model = model or network()
    parameters, state = (
        {n: rng.normal(size=s).astype(t) for n, s in shapes.items()}
        for shapes, t in ((model.parameter_shapes(), dtype), (model.state_shapes(), np.float64))
    )
    size = sum(p.size for p in parameters.values())
    training_state = Training(
        parameters=rng.normal(size=size).astype(dtype),
        optimizer={n: rng.normal(size=size).astype(dtype) for n in ("first", "second")},
        average={"average": rng.normal(size=size).astype(dtype)},
        progress={"loss": 0.1 + 0.2, "images": 7, "best_loss": 1e300, "other": None},
    )
    return Checkpoint(
        config=config,
        model=model,
        parameters=parameters,
        state=state,
        preprocessing=Preprocessing(model.input_shape, model.scale, model.shift, background),
        class_names=tuple(f"class {i}" for i in range(model.classes())),
        dataset="mnist",
        step=41,
        epoch=3,
        metrics={"train_loss": 0.1 + 0.7, "val_loss": 1 / 3, "val_accuracy": None},
        training=training_state if training else None,
        facts=facts(workers=2),
    )


def saved(path: Path, checkpoint: Checkpoint | None = None) -> bytes:
    save_checkpoint(path, checkpoint or make())
    return path.read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same(a: Checkpoint, b: Checkpoint) -> bool:
    """Equal in every field, names in the same order, numbers to the bit."""

    def plain(value: object) -> object:
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, dict):
            return [(name, plain(inner)) for name, inner in value.items()]
        if isinstance(value, Checkpoint | Training):
            return plain(vars(value))
        return value

    return plain(a) == plain(b)


def fails(path: Path, checkpoint: Checkpoint, error: type[Exception]) -> str:
    """Saving raises ``error`` in one line with the file, and changes nothing."""
    before = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
    with pytest.raises(error) as caught:
        save_checkpoint(path, checkpoint)
    assert str(caught.value).startswith(f"{path}: ")
    assert {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()} == before
    return str(caught.value)
