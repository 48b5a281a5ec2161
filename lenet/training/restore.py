"""From a checkpoint to objects: the stored network and its preprocessing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.resources import as_file, files
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from lenet.nn.network import Network
from lenet.training.build import gemm_block
from lenet.training.checkpoint import Checkpoint, load_checkpoint

PRETRAINED = "pretrained"


def read_checkpoint(path: str | PathLike[str], *, resume: bool = False) -> Checkpoint:
    """Return a checkpoint whose arrays are exactly those that its network needs.

    ``pretrained`` is the model that ships with the package.

    Raises
    ------
    CheckpointError
        The file is missing, damaged or malicious; with ``resume``, also if it cannot be resumed.
    """
    if fspath(path) == PRETRAINED:
        with packaged() as file:
            return load_checkpoint(file, resume=resume)
    return load_checkpoint(path, resume=resume)


def packaged() -> AbstractContextManager[Path]:
    """Return a context with the path of the pretrained model."""
    return as_file(files("lenet") / "weights" / "lenet5-mnist.npz")


def restore_network(checkpoint: Checkpoint) -> Network:
    """Return the network stored in a checkpoint."""
    config = checkpoint.config
    network = checkpoint.model.build(
        dtype=config.train.precision, fused=config.model.fuse == "auto", block=gemm_block(config)
    )
    for p in network.parameter_list:
        np.copyto(p.value, checkpoint.parameters[p.name])
    for name, array in network.state_arrays().items():
        np.copyto(array, checkpoint.state[name])
    return network


def plain_network(checkpoint: Checkpoint) -> Network:
    """Return a checkpoint's network, not fused, in float32 and in evaluation mode."""
    values = {"model.fuse": "off", "train.precision": "float32"}
    network = restore_network(replace(checkpoint, config=checkpoint.config.with_values(values)))
    network.training = False
    return network
