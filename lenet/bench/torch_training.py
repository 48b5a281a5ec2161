"""The training of a configuration in PyTorch, in one process or several.

It is what a user of PyTorch would write, with less to do: the images are scaled, padded and stored
as floats in advance, and neither loss nor accuracy is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lenet.bench.measured_processes import peak_memory
from lenet.config.schema import Config
from lenet.system.extras import require
from lenet.targets.torch.twin import Twin, load_twin

Answer = Callable[[dict[str, Any]], None]


def train_torch(answer: Answer, config: dict[str, Any], layout: str, workers: int) -> None:
    """Train the network's twin on the same number of batches, and answer after every epoch.

    PyTorch has the threads that ``OMP_NUM_THREADS`` names.
    """
    with _other_ranks(config, layout, workers) as (others, store):
        training = _Training(Config.from_dict(config), layout, 0, workers, store)
        for _ in range(training.epochs):
            for other in others:
                other.send("epoch")
            start = time.perf_counter()
            training.run_epoch()
            seconds = time.perf_counter() - start
            answer({"images_per_second": len(training.images) / seconds})
    answer({"peak_bytes": peak_memory(workers)})


@contextmanager
def _other_ranks(
    config: dict[str, Any], layout: str, workers: int
) -> Iterator[tuple[list[Connection], Path]]:
    """Start all ranks but 0; yield a connection to each, and the file through which they meet."""
    context = get_context("spawn")
    with TemporaryDirectory(prefix="lenet-bench-torch-") as name:
        store = Path(name, "store")
        connections, processes = [], []
        for rank in range(1, workers):
            ours, theirs = context.Pipe()
            arguments = (theirs, config, layout, rank, workers, store)
            process = context.Process(target=_follow, args=arguments, daemon=True)
            process.start()
            theirs.close()
            connections.append(ours)
            processes.append(process)
        yield connections, store
        for connection, process in zip(connections, processes, strict=True):
            connection.close()
            process.join()


def _follow(
    connection: Connection,
    config: dict[str, Any],
    layout: str,
    rank: int,
    workers: int,
    store: Path,
) -> None:
    """Run an epoch whenever rank 0 does, until its end of the connection is closed."""
    training = _Training(Config.from_dict(config), layout, rank, workers, store)
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        training.run_epoch()


class _Training:
    """The objects of one rank, and an epoch over them."""

    def __init__(self, settings: Config, layout: str, rank: int, workers: int, store: Path) -> None:
        self.torch = torch = require("torch", extra="bench")
        twin, images, labels = load_twin(settings)
        self.images = torch.from_numpy(images)
        self.labels = torch.from_numpy(labels.astype(np.int64))
        self.rank, self.workers = rank, workers
        self.batch_size, self.epochs = settings.train.batch_size, settings.train.epochs
        torch.manual_seed(settings.seed)  # in every rank: the same weights, and the same order
        self.model = self._model(twin, layout, store)
        self.optimizer = twin.optimizer.make(torch.optim, self.model.parameters())
        self.loss = twin.loss.make(torch.nn)

    def _model(self, twin: Twin, layout: str, store: Path) -> Any:  # noqa: ANN401 - of torch
        torch = self.torch
        model = torch.nn.Sequential(*(module.make(torch.nn) for module in twin.modules))
        model = model.to(self.images.dtype)
        if layout == "channels_last":
            self.images = self.images.to(memory_format=torch.channels_last)
            model = model.to(memory_format=torch.channels_last)
        if self.workers > 1:
            distributed = torch.distributed
            meeting = distributed.FileStore(str(store), self.workers)
            distributed.init_process_group(
                "gloo", store=meeting, rank=self.rank, world_size=self.workers
            )
            model = torch.nn.parallel.DistributedDataParallel(model)
        # Without dynamic shapes: code is compiled for each of the two sizes of a batch.
        return torch.compile(model, dynamic=False) if layout == "compiled" else model

    def run_epoch(self) -> None:
        """Train on every batch once, in a random order."""
        for batch in self.torch.randperm(len(self.images)).split(self.batch_size):
            part = batch.tensor_split(self.workers)[self.rank]
            self.optimizer.zero_grad(set_to_none=True)
            self.loss(self.model(self.images[part]), self.labels[part]).backward()
            self.optimizer.step()
