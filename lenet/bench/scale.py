"""Training on a large mapped file, compared with training on images in memory."""

from __future__ import annotations

import time
from contextlib import ExitStack
from math import prod
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from lenet.bench.speed import SCHEMA_VERSION, Case, Say, machine_facts
from lenet.bench.synthetic import benchmark_config, image_shape, write_images
from lenet.config.schema import Config
from lenet.parallel.launch import choose_workers
from lenet.system.machine import usable_cores


def bench_scale(
    config: Config, *, count: int, rounds: int, images: int, say: Say
) -> dict[str, Any]:
    """Train an epoch on a mapped file of ``count`` images, and epochs of ``images`` in memory.

    Batch size and workers are those of ``config``. The run in memory has one epoch to warm up, and
    ``rounds`` epochs before and after the other run.
    """
    workers = choose_workers(config.train.workers, config.train.batch_size)
    case = Case("lenet", config.train.batch_size, workers, usable_cores() if workers == 1 else 1)
    machine = machine_facts()
    shape, classes = image_shape(config), config.model.specification().classes()
    with TemporaryDirectory(prefix="lenet-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        small = write_images(folder, images, classes, shape)
        memory_config = benchmark_config(config, small, 2 * rounds)
        memory = stack.enter_context(case.start(memory_config, folder))
        memory.answer()
        say(f"writing {count:,} images")
        start = time.perf_counter()
        large = write_images(folder, count, classes, shape, mapped=True)
        seconds_to_make = time.perf_counter() - start
        say(f"training on {images:,} images in memory")
        in_memory = [memory.next()["images_per_second"] for _ in range(rounds)]
        say(f"training on {count:,} images in a file")
        mapped = stack.enter_context(case.start(benchmark_config(config, large, 0), folder))
        answer, resident = mapped.answer_and_memory()
        say(f"training on {images:,} images in memory")
        in_memory += [memory.next()["images_per_second"] for _ in range(rounds)]
    return {
        "schema_version": SCHEMA_VERSION,
        "machine": machine,
        "scale": {
            "images": count,
            "file_bytes": count * prod(shape),
            "seconds_to_make": seconds_to_make,
            "batch": case.batch,
            "workers": case.workers,
            "images_per_second": answer["images_per_second"],
            "tenths": answer["tenths"],
            "in_memory_images": images,
            "in_memory_images_per_second": median(in_memory),
            "in_memory_rounds": in_memory,
            "ratio": answer["images_per_second"] / median(in_memory),
            "resident_bytes": resident,
        },
    }
