"""From a checkpoint to its network; ``pretrained`` is the model that ships with the package."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.resources import as_file, files
from os import PathLike, fspath
from pathlib import Path

from lenet.checkpoint.checkpoint import Checkpoint, load_checkpoint
from lenet.config.schema import Config
from lenet.models.specification import Specification
from lenet.nn.gemm import DEFAULT_BLOCK
from lenet.nn.network import Network

PRETRAINED, PRETRAINED_FILE = "pretrained", "lenet5-mnist.npz"


def read_checkpoint(path: str | PathLike[str], *, resume: bool = False) -> Checkpoint:
    """Return a checkpoint whose arrays are exactly those that its network needs.

    ``pretrained`` is the model that ships with the package.
    """
    if fspath(path) == PRETRAINED:
        with packaged() as file:
            return load_checkpoint(file, resume=resume)
    return load_checkpoint(path, resume=resume)


def packaged(file: str = PRETRAINED_FILE) -> AbstractContextManager[Path]:
    """Return a context with the path of packaged weights, by default the pretrained model's."""
    return as_file(files("lenet") / "weights" / file)


def build_network(config: Config, specification: Specification | None = None) -> Network:
    """Return the network of a configuration, or of a specification, with all weights zero."""
    return (specification or config.model.specification()).build(
        dtype=config.train.precision, fused=config.model.fuse == "auto", block=gemm_block(config)
    )


def gemm_block(config: Config) -> int:
    """Return the maximum number of multiply-adds in one matrix product."""
    return DEFAULT_BLOCK if config.train.block == "auto" else int(config.train.block)


def restore_network(checkpoint: Checkpoint) -> Network:
    """Return the network stored in a checkpoint."""
    network = build_network(checkpoint.config, checkpoint.model)
    network.load_state_dict({**checkpoint.parameters, **checkpoint.state})
    return network


def plain_network(checkpoint: Checkpoint) -> Network:
    """Return a checkpoint's network, not fused, in float32 and in evaluation mode."""
    values = {"model.fuse": "off", "train.precision": "float32"}
    network = restore_network(replace(checkpoint, config=checkpoint.config.with_values(values)))
    network.training = False
    return network
