"""How fast training is: part by part, by batch size and workers, beside PyTorch, and at scale.

Nothing is modelled: a figure is that of a whole training run, as ``lenet train`` makes it, on
images made on the spot; validation and checkpoints are not counted there either. What is compared
takes turns, epoch by epoch, so that a machine that grows busy grows busy for all. A figure is a
median over the turns, and a ratio is one of neighbouring turns.

This file starts the processes and compares them; :mod:`lenet.bench.programs` is what they run.
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from lenet.config.schema import Config
from lenet.data.idx import header
from lenet.parallel.launch import choose_workers
from lenet.system.errors import ConfigError, DataError, GateFailed, LenetError, SystemFailure
from lenet.system.machine import THREAD_VARIABLES, describe_machine, usable_cores

SCHEMA_VERSION = 1
REST_SECONDS = 0.3  # between two turns: the threads of the one before must stop spinning
POLL_SECONDS = 0.2
END_SECONDS = 5.0
SIDE = 28
INK = slice(4, 24)  # the rows and columns of an image that are not background
CHUNK = 8192  # images that are made at once

# Keys that the network in PyTorch knows the default of, and nothing else.
FIXED = (
    "augment.rotation",
    "augment.scale",
    "augment.shear",
    "augment.shift",
    "augment.elastic_alpha",
    "model.input_size",
    "model.activation",
    "model.pooling",
    "train.label_smoothing",
    "train.average",
    "train.precision",
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """A training run to be measured; ``threads`` are those of BLAS, or of PyTorch."""

    framework: str
    batch: int
    workers: int
    threads: int


def bench(
    config: Config,
    *,
    batches: Sequence[int],
    workers: Sequence[int | str],
    rounds: int,
    images: int,
    against_torch: bool,
    say: Say,
) -> dict[str, Any]:
    """Measure the parts of a step, and training runs.

    Parameters
    ----------
    config
        Of network and training. Its data are replaced, nothing is held out for validation, and
        the learning rate is low: noise cannot be learned.
    batches, workers
        Every batch size is measured with every number of workers, of which ``auto`` is what
        ``lenet train`` would take. The parts of a step are those of the first batch size.
    rounds
        How many turns everyone has, after one to warm up.
    images
        Of an epoch, which is a turn.
    against_torch
        Let PyTorch take turns too.
    say
        Is told what is being measured.

    Returns
    -------
    ``schema_version``, ``machine``, ``images``, ``rounds``, ``sgemm_gflops`` of one thread,
    ``parts`` and ``runs``.

    Raises
    ------
    ConfigError
        The configuration cannot be trained with, or not compared.
    SystemFailure
        PyTorch is not installed; memory or disk do not suffice.
    """
    cases = [case for batch in batches for case in _cases(batch, workers)]
    if against_torch:
        _check_comparable(config)
        cases += [case for batch in batches for case in _torch_cases(batch)]
    machine = machine_facts(with_torch=against_torch)
    with TemporaryDirectory(prefix="lenet-bench-") as name:
        folder = Path(name)
        config = _prepared(config, write_digits(folder, images, config.model.classes), rounds)
        say(f"the parts of a step, batch {batches[0]}")
        timed = _time_parts(config, batches[0])
        runs: list[dict[str, Any]] = []
        for batch in batches:
            say(f"training, batch {batch}")
            runs += _race(config, [case for case in cases if case.batch == batch], folder)
    flop = sum(part["flop_per_image"] for part in timed["parts"])
    for run in runs:
        cores = max(run["workers"], run["threads"])
        peak = timed["sgemm_gflops"] * 1e9 * cores
        run["share_of_sgemm"] = run["images_per_second"] * flop / peak
    return {
        "schema_version": SCHEMA_VERSION,
        "machine": machine,
        "images": images,
        "rounds": rounds,
        "parts_batch": batches[0],
        **timed,
        "runs": runs,
    }


def bench_scale(
    config: Config, *, count: int, rounds: int, images: int, say: Say
) -> dict[str, Any]:
    """Train an epoch over a mapped file of ``count`` images, and epochs of ``images`` in memory.

    Batch size and workers are those of ``config``; the in-memory run has its rounds before and
    after, and one to warm up.

    Returns
    -------
    ``schema_version``, ``machine`` and ``scale``: bytes of the file, images a second of both and
    their ratio, the speed of every tenth of the epoch but the first, and the peak of the resident
    memory over all processes, of what is shared each its share (PSS); None where there is no
    ``/proc``.

    Raises
    ------
    SystemFailure
        The file does not fit on the disk of the temporary directory.
    """
    workers = choose_workers(config.train.workers, config.train.batch_size)
    case = Case("lenet", config.train.batch_size, workers, usable_cores() if workers == 1 else 1)
    machine = machine_facts(with_torch=False)
    with TemporaryDirectory(prefix="lenet-bench-") as name, ExitStack() as stack:
        folder, classes = Path(name), config.model.classes
        small = write_digits(folder, images, classes)
        memory = stack.enter_context(_start(case, _prepared(config, small, 2 * rounds), folder))
        memory.answer()
        say(f"making {count:,} images")
        start = time.perf_counter()
        large = write_digits(folder, count, classes, mapped=True)
        made = time.perf_counter() - start
        say(f"training on {images:,} images in memory")
        in_memory = [memory.next()["images_per_second"] for _ in range(rounds)]
        say(f"training on {count:,} images in a file")
        mapped = stack.enter_context(_start(case, _prepared(config, large, 0), folder))
        answer, resident = _watched(mapped)
        say(f"training on {images:,} images in memory")
        in_memory += [memory.next()["images_per_second"] for _ in range(rounds)]
    return {
        "schema_version": SCHEMA_VERSION,
        "machine": machine,
        "scale": {
            "images": count,
            "file_bytes": count * SIDE**2,
            "seconds_to_make": made,
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


def machine_facts(*, with_torch: bool) -> dict[str, Any]:
    """Return processor, cores, how busy they are, system and versions.

    Raises
    ------
    SystemFailure
        PyTorch is asked for and not installed.
    """
    here = describe_machine()
    machine = {
        "cpu": here["processor"],
        "cores": usable_cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        **{name: here[name] for name in ("python", "lenet", "numpy", "blas")},
    }
    if with_torch:
        with Program("torch_version", threads=1) as program:
            machine["torch"] = program.answer()["version"]
    return machine


# --- What is measured ---------------------------------------------------------------------------


def _cases(batch: int, workers: Sequence[int | str]) -> list[Case]:
    """Return our runs: one worker with one thread of BLAS and with all, more with one each."""
    counts = sorted({choose_workers(wanted, batch) for wanted in workers})
    cores = usable_cores()
    cases = []
    for count in counts:
        threads = sorted({1, cores}) if count == 1 else [1]
        cases += [Case("lenet", batch, count, n) for n in threads]
    return cases


def _torch_cases(batch: int) -> list[Case]:
    return [Case(name, batch, 1, usable_cores()) for name in ("torch", "torch channels_last")]


def _check_comparable(config: Config) -> None:
    """Refuse what the network in PyTorch would not do."""
    for key in FIXED:
        value, known = attrgetter(key)(config), attrgetter(key)(Config())
        if value != known:
            raise ConfigError(
                f"is {value}, the comparison with PyTorch knows only {known}",
                remedy=f"add --set {key}={known}, or leave out --against",
                key=key,
            )
    if config.optimizer.name not in ("sgd", "nesterov"):
        raise ConfigError(
            f"is {config.optimizer.name}, the comparison with PyTorch knows sgd and nesterov",
            remedy="add --set optimizer.name=sgd, or leave out --against",
            key="optimizer.name",
        )


def _prepared(config: Config, data: dict[str, object], rounds: int) -> Config:
    """Return the configuration of a run on these data, an epoch longer than the rounds."""
    return config.with_values(
        {
            **data,
            "data.validation": 0,
            "data.limit": None,
            "train.epochs": rounds + 1,
            "train.patience": 0,
            "train.checkpoint_every": None,
            "optimizer.lr": 1e-3,
            "schedule.name": "constant",
            "schedule.warmup": 0.0,
        }
    )


def write_digits(
    folder: Path, count: int, classes: int, *, mapped: bool = False
) -> dict[str, object]:
    """Write noise on a background, as IDX, and return the keys of ``data`` that name the files.

    Parameters
    ----------
    folder
        Where the files are written.
    count, classes
        Of images and of their labels.
    mapped
        Write plain files, which are mapped; compressed ones are read into memory.

    Raises
    ------
    SystemFailure
        The disk has no room for them.
    """
    need, free = count * (SIDE**2 + 1), shutil.disk_usage(folder).free
    if need > free:
        raise SystemFailure(
            f"{count:,} images need {need >> 20:,} MiB, {free >> 20:,} MiB are free",
            remedy="make room, or name another directory in TMPDIR",
            file=folder,
        )
    rng = np.random.default_rng(0)
    suffix = "" if mapped else ".gz"
    images, labels = folder / f"{count}-images{suffix}", folder / f"{count}-labels{suffix}"
    with _opened(images) as to_images, _opened(labels) as to_labels:
        to_images.write(header(np.broadcast_to(np.uint8(0), (count, SIDE, SIDE))))
        to_labels.write(header(np.broadcast_to(np.uint8(0), count)))
        for first in range(0, count, CHUNK):
            n = min(CHUNK, count - first)
            to_images.write(_digits(rng, n).data)
            to_labels.write(rng.integers(min(classes, 256), size=n, dtype=np.uint8).data)
    return {
        "data.name": "idx",
        "data.train_images": str(images),
        "data.train_labels": str(labels),
        "data.test_images": str(images),
        "data.test_labels": str(labels),
    }


def _opened(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb")


def _digits(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    images = np.zeros((count, SIDE, SIDE), np.uint8)
    ink = images[:, INK, INK]
    ink[...] = rng.integers(256, size=ink.shape, dtype=np.uint8)
    return images


# --- The processes ------------------------------------------------------------------------------


class Program:
    """A program of :mod:`lenet.bench.programs`, running; it gives answer after answer.

    A context manager: when it is left, the process ends.

    Parameters
    ----------
    name
        Of the program.
    threads
        Of BLAS and OpenMP.
    arguments
        Of the program, as JSON knows them.
    """

    def __init__(self, name: str, *, threads: int, **arguments: object) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - this Python, this package
            [sys.executable, "-m", "lenet.bench.programs", name, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt is for this process, which ends the other
            env=os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)),
        )

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer.

        Raises
        ------
        LenetError
            The error with which the program ended.
        """
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        line = self.process.stdout.readline()
        if not line:
            raise SystemFailure(
                f"a process that was measured ended with code {self.process.wait()}",
                remedy="see its message above; if it was killed for memory, use fewer workers",
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _ERRORS[answer["exit_code"]](**answer["error"])
        return answer

    def next(self) -> dict[str, Any]:
        """Let it go on, and wait for the next answer."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError):  # it has ended: there is no answer
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        return self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.process.terminate()
        try:
            self.process.communicate(timeout=END_SECONDS)  # it ends at its next answer
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


_ERRORS: dict[int, type[LenetError]] = {
    error.exit_code: error for error in (ConfigError, DataError, SystemFailure, GateFailed)
}


def _start(case: Case, config: Config, folder: Path) -> Program:
    """Start a run, in a directory of its own."""
    config = config.with_values(
        {
            "train.batch_size": case.batch,
            "train.workers": case.workers,
            "output.dir": str(folder / f"run-{time.monotonic_ns()}"),
        }
    )
    threads, values = case.threads, config.to_dict()
    if case.framework == "lenet":
        return Program("train_lenet", threads=threads, config=values)
    channels_last = case.framework == "torch channels_last"
    return Program("train_torch", threads=threads, config=values, channels_last=channels_last)


def _time_parts(config: Config, batch: int) -> dict[str, Any]:
    """Return the rate of sgemm and the parts of a step, with rates where they are products."""
    values = config.with_values({"train.batch_size": batch, "train.workers": 1}).to_dict()
    with Program("time_parts", threads=1, config=values) as program:
        answer = program.answer()
    for part in answer["parts"]:
        gflops = part["flop_per_image"] / part["us_per_image"] / 1e3
        part["gflops"] = gflops or None
        part["share_of_sgemm"] = gflops / answer["sgemm_gflops"] or None
    return answer


def _race(config: Config, cases: Sequence[Case], folder: Path) -> list[dict[str, Any]]:
    """Run all cases in turn, epoch by epoch, and return their figures."""
    with ExitStack() as stack:
        programs = []
        for case in cases:
            programs.append(stack.enter_context(_start(case, config, folder)))
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
            "ratios": _ratios(case, by_case),
        }
        for (case, rates), peak in zip(by_case.items(), peaks, strict=True)
    ]


def _ratios(case: Case, by_case: dict[Case, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    """Return how many times as fast one of our runs is as PyTorch's, round against round."""
    ratios: dict[str, dict[str, float]] = {}
    for other, rates in by_case.items():
        if case.framework == "lenet" != other.framework:
            pairs = [ours / theirs for ours, theirs in zip(by_case[case], rates, strict=True)]
            ratios[other.framework] = {
                "median": median(pairs),
                "min": min(pairs),
                "max": max(pairs),
            }
    return ratios


def _watched(program: Program) -> tuple[dict[str, Any], int | None]:
    """Wait for an answer; return it with the peak of the memory resident until then."""
    peak = None
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(program.answer)
        while not answer.done():
            wait([answer], timeout=POLL_SECONDS)
            now = resident_memory(program.process.pid)
            peak = now if peak is None else max(peak, now or 0)
    return answer.result(), peak


def resident_memory(pid: int) -> int | None:
    """Return the resident bytes of a process and all below it, of shared pages each its share.

    This is the sum of PSS in ``/proc/<pid>/smaps_rollup``; None where there is no such file.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        own = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        tasks = list(Path(f"/proc/{pid}/task").glob("*/children"))
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:  # it has ended, or this is not Linux
        return None
    return own + sum(resident_memory(child) or 0 for child in children)
