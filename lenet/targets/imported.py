"""From a network of another program to a checkpoint, with the same checks for every format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from lenet.arrays import Array
from lenet.checkpoint.checkpoint import Checkpoint, facts
from lenet.config.schema import Config
from lenet.data.preprocessing import Preprocessing
from lenet.errors import ConfigError, DataError
from lenet.models.specification import Specification

POINTER: Final = b"version https://git-lfs"


def refuse_pointer(content: bytes) -> None:
    """Refuse what Git LFS leaves in the place of a large file that was not fetched.

    Raises
    ------
    DataError
        The content begins as such a pointer does.
    """
    if content.startswith(POINTER):
        raise DataError("is a pointer of Git LFS, not the file itself", remedy="git lfs pull")


def imported_checkpoint(
    model: Specification,
    arrays: Mapping[str, Array],
    class_names: tuple[str, ...] | None,
    background: int = 0,
) -> Checkpoint:
    """Return a network that another program has trained as a checkpoint.

    Parameters
    ----------
    model
        The network, with scale and shift from levels to its input.
    arrays
        Parameters and state by name, such as ``C1.weight``, in the shapes of the specification.
    class_names
        By default 0, 1, 2 …
    background
        The level around an image that is smaller than the input.

    Raises
    ------
    ConfigError
        The class names are not as many as the classes, or the last layer's output is not a vector.
    DataError
        A number is not finite in float32.
    """
    C, H, W = model.input_shape
    classes = model.classes()
    if class_names is not None and len(class_names) != classes:
        raise ConfigError(
            f"are {len(class_names)} names for {classes} classes",
            remedy="give one name for each class",
            key="--classes",
        )
    for name, array in arrays.items():
        with np.errstate(over="ignore"):
            if not np.isfinite(array.astype(np.float32)).all():
                raise DataError(
                    "is not finite in float32", remedy="train the network again", key=name
                )
    config = Config().with_values(
        {
            "model.layers": list(model.layers),
            "model.input": [C, H, W],
            "model.classes": classes,
            "data.name": "arrays",
        }
    )
    return Checkpoint(
        config=config,
        model=model,
        parameters={name: arrays[name].astype(np.float32) for name in model.parameter_shapes()},
        state={name: arrays[name].astype(np.float64) for name in model.state_shapes()},
        preprocessing=Preprocessing((C, H, W), model.scale, model.shift, background),
        class_names=class_names or tuple(map(str, range(classes))),
        dataset="arrays",
        step=0,
        epoch=0,
        metrics={},
        training=None,
        facts=facts(1),
    )
