"""The parts of a training step: the time of each layer, forward and backward, loss and update."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import median
from typing import Any, TypeAlias

import numpy as np

from lenet.arrays import Array, small_buffer
from lenet.config.schema import Config
from lenet.data.loader import slice_size
from lenet.evaluation.images import load_split
from lenet.nn.fused import FusedConvolution
from lenet.nn.layer import Layer
from lenet.train.build import build_trainer
from lenet.train.trainer import Trainer

SGEMM_SIZE = 1024  # of the square matrices whose product measures the processor
SGEMM_REPEATS = 10

Part: TypeAlias = tuple[str, str]
"""A layer or another part of a step, and ``forward`` or ``backward``."""


def measure_parts(config: Config) -> dict[str, Any]:
    """Return the highest rate of sgemm, and the median time per image of every part of a step.

    The parts run one after another as in training, so that each finds the cache as the part before
    it left it; sgemm runs between the epochs.
    """
    data = load_split(config, "train")
    trainer = build_trainer(config, data.images, data.labels, class_names=data.class_names)
    laps: dict[Part, list[float]] = defaultdict(list)
    products: list[float] = []
    for epoch in range(config.train.epochs):
        _time_epoch(trainer, epoch, laps)
        products += _time_sgemm()
    sgemm_gflops = 2 * SGEMM_SIZE**3 / min(products) / 1e9  # of the least disturbed product
    flop = _flop_per_image(trainer)
    parts = []
    for (part, direction), times in laps.items():
        us_per_image = median(times) * 1e6
        gflops = flop.get((part, direction), 0) / us_per_image / 1e3
        parts.append(
            {
                "part": part,
                "direction": direction,
                "us_per_image": us_per_image,
                "flop_per_image": flop.get((part, direction), 0),
                "gflops": gflops or None,
                "share_of_sgemm": gflops / sgemm_gflops or None,
            }
        )
    return {"sgemm_gflops": sgemm_gflops, "parts": parts}


@small_buffer()
def _time_epoch(trainer: Trainer, epoch: int, laps: dict[Part, list[float]]) -> None:
    """Train an epoch as the trainer does, and append the seconds per image of every part."""
    network, loss = trainer.network, trainer.loss
    size = trainer.loader.batch_size
    network.allocate(slice_size(size))
    last = time.perf_counter()

    def lap(name: str, direction: str) -> None:
        nonlocal last
        now = time.perf_counter()
        laps[name, direction].append((now - last) / images)
        last = now

    for step, batch in enumerate(trainer.loader.epoch(epoch), start=1):
        if batch.size < size:
            break  # the times of a smaller batch are not comparable
        images = batch.labels.size
        lap("input", "forward")
        x = batch.x
        for layer in network.executed:
            x = layer.forward(x)
            lap(_title(layer), "forward")
        loss.forward(x, batch.labels, size)
        lap("loss", "forward")
        dy: Array | None = loss.backward()
        lap("loss", "backward")
        for layer in reversed(network.executed[network.first_trained :]):
            assert dy is not None  # noqa: S101 - only the first trained layer returns None
            dy = layer.backward(dy)
            lap(_title(layer), "backward")
        if not batch.last:
            continue
        images = batch.size
        lr = trainer.schedule(step)
        trainer.optimizer.step(trainer.parameters, network.gradients, lr, step, slice(None))
        lap("update", "backward")


def _time_sgemm() -> list[float]:
    """Return the seconds of products of two square float32 matrices."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, SGEMM_SIZE, SGEMM_SIZE), np.float32)
    out = np.empty_like(a)
    times = []
    for _ in range(SGEMM_REPEATS):
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        times.append(time.perf_counter() - start)
    return times


def _flop_per_image(trainer: Trainer) -> dict[Part, int]:
    """Return the floating-point operations per image of every part that is a matrix product."""
    flop: dict[Part, int] = {}
    for layer in trainer.network.executed:
        product = layer.conv if isinstance(layer, FusedConvolution) else layer
        forward = 2 * product.multiply_adds
        flop[_title(layer), "forward"] = forward
        # The backward pass has two products of that size, dW and dX; the first layer has no dX.
        flop[_title(layer), "backward"] = 2 * forward if layer.needs_dx else forward
    return flop


def _title(layer: Layer) -> str:
    if isinstance(layer, FusedConvolution):
        return f"{layer.conv.name}+{layer.pooling.name}"
    return layer.name
