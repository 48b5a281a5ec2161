"""The speed of training: part by part, by batch size and workers, and beside other frameworks.

Every speed is that of a whole training run, as ``lenet train`` makes it, on synthetic images.
Validation and checkpoints are not included. Runs that are compared take turns, epoch by epoch, so
that other load on the machine affects all of them alike. A speed is the median over the turns. A
ratio compares a run turn by turn with the fastest run of the other framework on as many cores.
"""

from __future__ import annotations

import gzip
import os
import platform
import shutil
import sysconfig
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lenet.bench.jax_training import check_jax
from lenet.bench.measured_processes import Program
from lenet.config.schema import Config
from lenet.data.formats.idx import header
from lenet.errors import SystemFailure
from lenet.evaluation.images import build_preprocessing
from lenet.parallel.launch import choose_workers
from lenet.system.machine import describe_machine, usable_cores
from lenet.targets.torch.twin import twin_of
from lenet.train.build import build_trainer


@dataclass(frozen=True)
class Competitor:
    """A framework, and how it is measured.

    Attributes
    ----------
    program
        The program of :mod:`lenet.bench.programs` that trains in it.
    extra
        The optional extra of this package that installs it.
    layouts
        The ways to run the same network. The program takes them by these names.
    processes
        Whether several processes of one thread each can train one network.
    """

    program: str
    extra: str
    layouts: tuple[str, ...]
    processes: bool

    def runs(self, cores: int) -> list[tuple[str, int, int]]:
        """Return (layout, processes, threads) of all runs: with one core, and with all."""
        splits = {(1, 1), (1, cores)} | ({(cores, 1)} if self.processes else set())
        return [
            (layout, processes, threads)
            for layout in self.layouts
            if layout != "compiled" or has_compiler()
            for processes, threads in sorted(splits)
        ]


COMPETITORS = {
    "torch": Competitor("train_torch", "bench", ("eager", "channels_last", "compiled"), True),
    "jax": Competitor("train_jax", "jax", ("channels_first", "channels_last"), False),
}


def has_compiler(names: Sequence[str] = ("g++", "clang++")) -> bool:
    """Return whether ``torch.compile`` has what it needs: a C++ compiler and Python's headers."""
    compiler = any(map(shutil.which, filter(None, (os.environ.get("CXX"), *names))))
    return compiler and Path(sysconfig.get_path("include"), "Python.h").is_file()


# --- The images ---------------------------------------------------------------------------------

CHUNK = 8192  # images that are generated at once
MARGIN = 4  # pixels of background around the noise, as in MNIST


def write_images(
    folder: Path, count: int, classes: int, shape: tuple[int, ...], *, mapped: bool = False
) -> dict[str, object]:
    """Write images and labels as IDX files, and return the keys of ``data`` that name them."""
    need, free = count * (int(np.prod(shape)) + 1), shutil.disk_usage(folder).free
    if need > free:
        raise SystemFailure(
            f"{count:,} images need {need >> 20:,} MiB, {free >> 20:,} MiB are free",
            remedy="free space, or name another directory in TMPDIR",
            file=folder,
        )
    rng = np.random.default_rng(0)
    suffix = "" if mapped else ".gz"
    images, labels = folder / f"{count}-images{suffix}", folder / f"{count}-labels{suffix}"
    with _opened(images) as to_images, _opened(labels) as to_labels:
        to_images.write(header(np.broadcast_to(np.uint8(0), (count, *shape))))
        to_labels.write(header(np.broadcast_to(np.uint8(0), count)))
        for first in range(0, count, CHUNK):
            n = min(CHUNK, count - first)
            to_images.write(noisy_images(rng, n, shape).data)
            to_labels.write(rng.integers(min(classes, 256), size=n, dtype=np.uint8).data)
    return {
        "data.name": "idx",
        "data.train_images": str(images),
        "data.train_labels": str(labels),
        "data.test_images": str(images),
        "data.test_labels": str(labels),
    }


def noisy_images(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return images (count, *shape) of noise with a margin of zeros."""
    images = np.zeros((count, *shape), np.uint8)
    H, W = shape[-2:]
    inside = images[..., MARGIN : H - MARGIN, MARGIN : W - MARGIN]
    inside[...] = rng.integers(256, size=inside.shape, dtype=np.uint8)
    return images


ALL_IMAGES = {"data.validation": 0, "data.limit": None, "data.drawn": 0}
"""What makes a configuration train on the images that it is given, and on no others."""


def image_shape(config: Config) -> tuple[int, ...]:
    """Return (H,W) or (C,H,W) of the images for a network: at most 28×28 grey ones, as in MNIST."""
    C, H, W = build_preprocessing(config).input_shape
    return (min(H, 28), min(W, 28)) if C == 1 else (C, H, W)


def benchmark_config(config: Config, data: dict[str, object], rounds: int) -> Config:
    """Return the configuration of a run on these data: one epoch to warm up, then the rounds.

    The learning rate is low: with noise, training would diverge.
    """
    return config.with_values(
        {
            **data,
            "model.classes": config.model.specification().classes(),
            **ALL_IMAGES,
            "train.epochs": rounds + 1,
            "train.patience": 0,
            "train.checkpoint_every": None,
            "optimizer.lr": 1e-3,
            "schedule.name": "constant",
            "schedule.warmup": 0.0,
        }
    )


def _opened(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb")


# --- The benchmark ------------------------------------------------------------------------------

SCHEMA_VERSION = 2
REST_SECONDS = 0.3  # between two turns: until the threads of the first have stopped spinning

Say = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """A training run to measure: ``workers`` processes, each with ``threads`` of BLAS or the like.

    ``framework`` is ``lenet``, or a competitor and its layout: ``torch channels_last``.
    """

    framework: str
    batch: int
    workers: int
    threads: int

    @property
    def cores(self) -> int:
        """The cores that the run can use."""
        return self.workers * self.threads

    def start(self, config: Config, folder: Path) -> Program:
        """Start the run, in a new directory."""
        config = config.with_values(
            {
                "train.batch_size": self.batch,
                "train.workers": self.workers,
                "output.dir": str(folder / f"run-{time.monotonic_ns()}"),
            }
        )
        values = config.to_dict()
        name, _, layout = self.framework.partition(" ")
        if name == "lenet":
            return Program("train_lenet", threads=self.threads, config=values)
        program, arguments = COMPETITORS[name].program, {"layout": layout, "workers": self.workers}
        return Program(program, threads=self.threads, config=values, **arguments)


def bench(
    config: Config,
    *,
    batches: Sequence[int],
    workers: Sequence[int | str],
    rounds: int,
    images: int,
    against: str | None,
    say: Say,
) -> dict[str, Any]:
    """Measure the parts of a step, and training runs."""
    cases = [case for batch in batches for case in lenet_cases(batch, workers)]
    if against:
        check_comparable(config, against)
        cases += [case for batch in batches for case in competing_cases(against, batch)]
    machine = machine_facts(against)
    with TemporaryDirectory(prefix="lenet-bench-") as name:
        folder = Path(name)
        data = write_images(
            folder, images, config.model.specification().classes(), image_shape(config)
        )
        config = benchmark_config(config, data, rounds)
        say(f"the parts of a step, batch {batches[0]}")
        timed = _time_parts(config, batches[0])
        runs: list[dict[str, Any]] = []
        for batch in batches:
            say(f"training, batch {batch}")
            runs += race(config, [case for case in cases if case.batch == batch], folder)
    flop = sum(part["flop_per_image"] for part in timed["parts"])
    for run in runs:
        peak = timed["sgemm_gflops"] * 1e9 * run["workers"] * run["threads"]
        run["share_of_sgemm"] = run["images_per_second"] * flop / peak
    return {
        "schema_version": SCHEMA_VERSION,
        "machine": {**machine, "load_after": load_average()},
        "against": against,
        "images": images,
        "rounds": rounds,
        "parts_batch": batches[0],
        **timed,
        "runs": runs,
    }


def machine_facts(against: str | None = None) -> dict[str, Any]:
    """Return processor, cores, load, system and versions."""
    here = describe_machine()
    machine = {
        "cpu": here["processor"],
        "cores": usable_cores(),
        "load": load_average(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: here[name] for name in ("python", "lenet", "numpy", "blas")},
    }
    if against:
        extra = COMPETITORS[against].extra
        with Program("version", threads=1, module=against, extra=extra) as program:
            machine[against] = program.answer()["version"]
    return machine


def load_average() -> float | None:
    """Return the system's load over the last minute, or None where it is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


# --- The runs -----------------------------------------------------------------------------------


def lenet_cases(batch: int, workers: Sequence[int | str]) -> list[Case]:
    """Return one worker with one BLAS thread and with all, and several workers with one each."""
    counts = sorted({choose_workers(number, batch) for number in workers})
    cores = usable_cores()
    cases = []
    for count in counts:
        threads = sorted({1, cores}) if count == 1 else [1]
        cases += [Case("lenet", batch, count, n) for n in threads]
    return cases


def competing_cases(name: str, batch: int) -> list[Case]:
    """Return the runs of another framework: with one core and with all, in every layout."""
    return [
        Case(f"{name} {layout}", batch, workers, threads)
        for layout, workers, threads in COMPETITORS[name].runs(usable_cores())
    ]


def check_comparable(config: Config, against: str) -> None:
    """Refuse a configuration that has no twin in a framework, before anything is measured."""
    config = config.with_values(ALL_IMAGES)
    count = config.train.batch_size
    images = np.zeros((count, *image_shape(config)), np.uint8)
    twin = twin_of(build_trainer(config, images, np.zeros(count, np.uint8)))
    if against == "jax":
        check_jax(twin)


def race(config: Config, cases: Sequence[Case], folder: Path) -> list[dict[str, Any]]:
    """Run all cases in turn, epoch by epoch, and return their speeds, memory and ratios."""
    with ExitStack() as stack:
        programs = []
        for case in cases:
            programs.append(stack.enter_context(case.start(config, folder)))
            programs[-1].answer()  # the epoch to warm up
        rounds = []
        for _ in range(config.train.epochs - 1):
            rates = []
            for program in programs:
                time.sleep(REST_SECONDS)
                rates.append(program.next()["images_per_second"])
            rounds.append(rates)
        peaks = [program.next()["peak_bytes"] for program in programs]
    by_case = dict(zip(cases, zip(*rounds, strict=True), strict=True))
    return [
        {
            **asdict(case),
            "images_per_second": median(rates),
            "us_per_image": 1e6 / median(rates),
            "rounds": list(rates),
            "peak_bytes": peak,
            "ratio": ratio_to_best(case, by_case),
        }
        for (case, rates), peak in zip(by_case.items(), peaks, strict=True)
    ]


def ratio_to_best(case: Case, by_case: dict[Case, tuple[float, ...]]) -> dict[str, Any] | None:
    """Return the speed of a run of lenet relative to the fastest competitor on as many cores."""
    others = [c for c in by_case if c.framework != "lenet" and c.cores == case.cores]
    if case.framework != "lenet" or not others:
        return None
    best = max(others, key=lambda other: median(by_case[other]))
    pairs = [ours / theirs for ours, theirs in zip(by_case[case], by_case[best], strict=True)]
    return {"median": median(pairs), "min": min(pairs), "max": max(pairs), "of": asdict(best)}


def _time_parts(config: Config, batch: int) -> dict[str, Any]:
    """Return the rate of sgemm and the parts of a step, measured with one thread."""
    values = config.with_values({"train.batch_size": batch, "train.workers": 1}).to_dict()
    with Program("time_parts", threads=1, config=values) as program:
        return program.answer()


# --- Data larger than memory --------------------------------------------------------------------


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
