"""The regression gate: a short training, held against what it was when all was well.

:func:`measure` trains, always alone and with the same bits; :func:`compare` puts what it saw
beside a baseline file (docs/regress.md) and beside limits that need none. A machine of its own is
not asked for: what only the same machine can show, equal bits, is compared on it alone, and speed
is counted in images for every 10⁹ operations of a matrix product that was timed between the very
same steps.

In order: what is seen and what is allowed, measuring, comparing, the baseline file, the verdict
as a table, Markdown, JSON and JUnit.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import numpy as np
from tqdm import tqdm

from lenet.config.schema import Config, differences
from lenet.data.datasets import Split
from lenet.nn.gradcheck import check_gradients, check_identities
from lenet.system.errors import ConfigError, DataError, GateFailed, LenetError
from lenet.system.files import replacing
from lenet.system.machine import THREAD_VARIABLES
from lenet.system.terminal import supports_progress_bar
from lenet.training.build import build_loss, build_network, build_trainer, initialize
from lenet.training.checkpoint import facts
from lenet.training.events import Callback, EpochEvent, Snapshot, StepEvent
from lenet.training.run_directory import FREE_TO_CHANGE

T = TypeVar("T")

SCHEMA_VERSION = 1
EARLY = 10  # steps in which rounding has not grown: other machines see the same losses
PIECES = 20  # of the loss curve
STEPS_A_PROBE = 8
PROBE = 256  # rows and columns of the timed product: three such matrices fit the cache of a core
FASTEST = 0.01  # this fraction of the steps is taken to be undisturbed
BUSY = 0.25  # waiting for so much of the time, a step finds the cache emptied by others
MAX_SPEED_RUNS = 30  # a slow run is believed only if none of so many was faster: over a minute
WAITED = Path("/proc/thread-self/schedstat")  # its second number: nanoseconds, on Linux

SHAPING_SPEED = {"processor", "simd", "numpy", "blas", "threads"}


# --- What is seen, what is allowed --------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What a gate's training showed."""

    accuracy: float
    """On the images held out, after the last epoch."""
    loss: float
    """There, then."""
    early: tuple[float, ...]
    """Training loss of each of the first steps."""
    curve: tuple[float, ...]
    """Mean training loss of twenty equal pieces of the run."""
    gradient_error: float
    """Largest relative error of an analytic gradient against central differences."""
    identity_error: float
    """Largest difference of the two sides of an identity of the derivation."""
    images_per_gflop: float
    """Images for every 10⁹ operations of a matrix product in the same time: the speed."""
    images_per_second: float
    sgemm_gflops: float
    """The product's 10⁹ operations a second."""
    waited: float
    """Share of the time in which other programs had the core; 0 where the system does not say."""
    repeats: bool
    """Whether all runs of the gate made the same bits."""
    data_sha256: str
    """Of the images and labels."""
    bits_sha256: str
    """Of weights, average and the loss of every step."""


@dataclass(frozen=True)
class Allowed:
    """The limits; those of a baseline file are for its owner to choose."""

    accuracy: float = 0.85
    """At least, whatever the baseline."""
    loss: float = 0.5
    """At most, whatever the baseline."""
    accuracy_drop: float = 0.01
    """Below the baseline, in absolute terms."""
    loss_rise: float = 0.05
    """Above the baseline, as a fraction of it."""
    early: float = 0.001
    """Between any of the first losses and the baseline's, as |ln(seen / expected)|."""
    curve: float = 0.1
    """The same for the pieces of the curve."""
    bump: float = 0.25
    """From a piece of the curve to the next, upwards, as a fraction."""
    gradient_error: float = 1e-6
    identity_error: float = 1e-10
    slowdown: float = 0.2
    """Of images per 10⁹ operations, as a fraction, on the baseline's processor and libraries."""
    slowdown_busy: float = 0.3
    """The same where a quarter of the time or more was spent waiting for a core."""
    slowdown_elsewhere: float = 0.5
    """The same on others: products and everything else do not speed up alike."""


@dataclass(frozen=True)
class Baseline:
    """A gate's measurement when all was well, with its configuration and its limits."""

    config: Config
    machine: Mapping[str, str | int]
    seen: Seen
    allowed: Allowed


@dataclass(frozen=True)
class Check:
    """A line of the verdict; ``passed`` is None for what could not be compared."""

    name: str
    expected: float | str | None
    seen: float | str | None
    allowed: str
    passed: bool | None


def run_gate(config: Config, split: Split, against: Baseline | Allowed) -> Verdict:
    """Train, and hold what is seen against a baseline, or against limits that need none.

    Parameters
    ----------
    config, split
        As for :func:`measure`.
    against
        A baseline, or for lack of one the limits.
    """
    started, here, seen = time.monotonic(), machine(), None
    try:
        if isinstance(against, Baseline):
            seen = measure(config, split, fast_enough(against, here))
            checks = compare(config, seen, against, here)
        else:
            seen = measure(config, split, fast_enough=math.inf)
            checks = standing_alone(seen, against)
    except GateFailed as error:
        checks = [Check("training", "reaches its end", error.problem, "", passed=False)]
    return Verdict(checks, seen, here, time.monotonic() - started)


# --- Measuring ----------------------------------------------------------------------------------


def measure(config: Config, split: Split, fast_enough: float = 0.0) -> Seen:
    """Train twice as ``config`` says, and check gradients and identities.

    Parameters
    ----------
    config
        Needs images held out; ``train.workers`` is not looked at, the gate works alone.
    split
        The training images.
    fast_enough
        Images per 10⁹ operations. Below that it trains again, up to thirty times in all: what slows
        a machine down for a while is not the code.

    Raises
    ------
    ConfigError
        No images are held out, or there are fewer than twenty steps.
    GateFailed
        Training diverged.
    """
    if not config.data.validation:
        raise ConfigError(
            "is 0, and the gate judges on images held out",
            remedy="hold out a thousand or more",
            key="data.validation",
        )
    runs = [_train(config, split), _train(config, split)]
    shown = supports_progress_bar(sys.stderr)
    with tqdm(
        desc="fastest of", total=MAX_SPEED_RUNS, initial=2, leave=False, disable=not shown
    ) as bar:
        while len(runs) < MAX_SPEED_RUNS and max(run.speed for run in runs) < fast_enough:
            runs.append(_train(config, split))
            bar.update()
    first, best = runs[0], max(runs, key=lambda run: run.speed)
    network = build_network(config)
    initialize(network, config)
    loss = build_loss(network, config)
    return Seen(
        accuracy=first.accuracy,
        loss=first.loss,
        early=tuple(first.losses[:EARLY]),
        curve=tuple(float(piece.mean()) for piece in np.array_split(first.losses, PIECES)),
        gradient_error=max(
            check.error if check.kinks <= check.checked else math.inf
            for check in check_gradients(network, loss, seed=config.seed)
        ),
        identity_error=max(check.error for check in check_identities(network, seed=config.seed)),
        images_per_gflop=best.speed,
        images_per_second=best.images_per_second,
        sgemm_gflops=best.sgemm_gflops,
        waited=best.waited,
        repeats=all(run.bits == first.bits for run in runs),
        data_sha256=hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest(),
        bits_sha256=first.bits,
    )


def _train(config: Config, split: Split) -> _RecordedRun:
    trainer = build_trainer(config, split.images, split.labels)
    steps = config.train.epochs * trainer.loader.steps_per_epoch
    if steps < PIECES:
        raise ConfigError(
            f"makes {steps} steps, and the gate draws its curve from {PIECES}",
            remedy="train for more epochs, or in smaller batches",
            key="train.epochs",
        )
    run = _RecordedRun(config.train.batch_size)
    wall, own = time.perf_counter(), own_seconds()
    trainer.run([run])
    run.waited = 1 - (own_seconds() - own) / (time.perf_counter() - wall)
    digest = hashlib.sha256(np.array(run.losses).tobytes())
    digest.update(trainer.parameters.tobytes())
    digest.update(trainer.average.weights.tobytes() if trainer.average else b"")
    run.bits = digest.hexdigest()
    return run


class _RecordedRun(Callback):
    """Follows a training step by step; between the steps it times a matrix product."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.losses: list[float] = []
        self.accuracy = self.loss = self.waited = math.nan
        self.bits = ""
        self._seconds: list[float] = []
        self._probes: list[float] = []
        rng = np.random.default_rng(0)
        self._a, self._b, self._c = rng.standard_normal((3, PROBE, PROBE), np.float32)
        self._sum, self._images = 0.0, 0
        self._since = own_seconds()

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:  # noqa: ARG002
        seconds, images = own_seconds() - self._since, event.images - self._images
        if images == self.batch_size:  # the last batch of an epoch is smaller, and sooner done
            self._seconds.append(seconds)
        total = event.loss * event.images  # the event's loss is the mean of the epoch so far
        self.losses.append((total - self._sum) / images)
        self._sum, self._images = total, event.images
        if event.step % STEPS_A_PROBE == 0:
            self._probes.append(self._probe())
        self._since = own_seconds()

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:  # noqa: ARG002
        assert event.val_accuracy is not None  # noqa: S101 - images are held out
        assert event.val_loss is not None  # noqa: S101
        self.accuracy, self.loss = event.val_accuracy, event.val_loss
        self._sum, self._images = 0.0, 0
        self._since = own_seconds()

    def _probe(self) -> float:
        seconds = math.inf
        for _ in range(4):
            start = own_seconds()
            np.matmul(self._a, self._b, out=self._c)
            seconds = min(seconds, own_seconds() - start)
        return seconds

    @property
    def images_per_second(self) -> float:
        """Of the steps that nothing disturbed."""
        return self.batch_size / float(np.quantile(self._seconds, FASTEST))

    @property
    def sgemm_gflops(self) -> float:
        """Of the products that nothing disturbed."""
        return 2e-9 * PROBE**3 / float(np.quantile(self._probes, FASTEST))

    @property
    def speed(self) -> float:
        """Images per 10⁹ operations."""
        return self.images_per_second / self.sgemm_gflops


def own_seconds() -> float:
    """Read a clock that stands still while the thread waits for a core that others have.

    Processor time does as well, but stands still while the thread sleeps or waits for a disk
    too, and that is its own doing. Only Linux tells; elsewhere this is the clock on the wall.
    """
    waited = _waited()
    while True:
        now, before = time.perf_counter(), waited
        waited = _waited()
        if waited == before:  # or the thread had to wait between the two readings
            return now - waited


def _waited() -> float:
    try:
        return int(WAITED.read_bytes().split()[1]) * 1e-9
    except OSError:
        return 0.0


def machine() -> dict[str, str | int]:
    """Return what the last bits depend on beyond the configuration and our own code."""
    threads = next((os.environ[name] for name in THREAD_VARIABLES if name in os.environ), "all")
    here = {key: value for key, value in facts(workers=1).items() if key != "lenet"}
    if kernels := os.environ.get("OPENBLAS_CORETYPE"):
        here["blas"] = f"{here['blas']} for {kernels}"
    return {**here, "threads": threads}


# --- Comparing ----------------------------------------------------------------------------------


def compare(
    config: Config, seen: Seen, baseline: Baseline, here: Mapping[str, str | int]
) -> list[Check]:
    """Return the verdict on what ``config`` showed on the machine ``here``, line by line."""
    was, allowed = baseline.seen, baseline.allowed
    keys = differences(baseline.config, config)
    changed = ", ".join(key for key in keys if key not in FREE_TO_CHANGE)
    slowdown, why = _slowdown(seen, baseline, here)
    return [
        Check("configuration", "the same", changed or "the same", "no difference", not changed),
        *standing_alone(seen, allowed),
        Check(
            "accuracy as before",
            was.accuracy,
            seen.accuracy,
            f"-{allowed.accuracy_drop:g}",
            seen.accuracy >= was.accuracy - allowed.accuracy_drop,
        ),
        Check(
            "loss as before",
            was.loss,
            seen.loss,
            f"+{allowed.loss_rise:.0%}",
            seen.loss <= was.loss * (1 + allowed.loss_rise),
        ),
        _at_most(f"first {EARLY} losses as before", distance(seen.early, was.early), allowed.early),
        _at_most("loss curve as before", distance(seen.curve, was.curve), allowed.curve),
        _same_bits("data", was.data_sha256, seen.data_sha256, baseline, here),
        _same_bits("training", was.bits_sha256, seen.bits_sha256, baseline, here),
        Check(
            "images per 10⁹ operations",
            was.images_per_gflop,
            seen.images_per_gflop,
            f"-{slowdown:.0%}{why}",
            seen.images_per_gflop >= was.images_per_gflop * (1 - slowdown),
        ),
    ]


def standing_alone(seen: Seen, allowed: Allowed) -> list[Check]:
    """Return the part of the verdict that needs no earlier measurement."""
    return [
        Check(
            "accuracy",
            None,
            seen.accuracy,
            f">= {allowed.accuracy:g}",
            seen.accuracy >= allowed.accuracy,
        ),
        _at_most("loss", seen.loss, allowed.loss),
        _at_most("bumps of the loss curve", bump(seen.curve), allowed.bump),
        _at_most("error of the gradients", seen.gradient_error, allowed.gradient_error),
        _at_most("error of the identities", seen.identity_error, allowed.identity_error),
        Check(
            "repetition",
            "the same",
            "the same" if seen.repeats else "other bits",
            "no difference",
            seen.repeats,
        ),
    ]


def bump(curve: Sequence[float]) -> float:
    """Return the largest rise from a point to the next, as a fraction; negative if all fall.

    Examples
    --------
    >>> bump([2.0, 1.0, 1.5, 0.5])
    0.5
    """
    losses = np.array(curve)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.max(losses[1:] / losses[:-1])) - 1


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the largest abs(ln(a / b)) of two curves, infinite if their lengths differ.

    Examples
    --------
    >>> print(f"{distance([1.0, 2.0], [1.0, 1.0]):.4f}")
    0.6931
    """
    if len(a) != len(b):
        return math.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.max(np.abs(np.log(a) - np.log(b))))


def fast_enough(baseline: Baseline, here: Mapping[str, str | int]) -> float:
    """Return the images per 10⁹ operations that suffice on the machine ``here`` if it is quiet."""
    slowdown, _ = _slowdown(replace(baseline.seen, waited=0.0), baseline, here)
    return baseline.seen.images_per_gflop * (1 - slowdown)


def _slowdown(seen: Seen, baseline: Baseline, here: Mapping[str, str | int]) -> tuple[float, str]:
    """Return how much slower is allowed, and why if it is more than usual."""
    allowed = baseline.allowed
    if other := [key for key in _other(baseline, here) if key in SHAPING_SPEED]:
        return allowed.slowdown_elsewhere, f", other {', '.join(other)}"
    if seen.waited >= BUSY:
        return allowed.slowdown_busy, f", busy: waited {seen.waited:.0%} of the time"
    return allowed.slowdown, ""


def _at_most(name: str, seen: float, limit: float) -> Check:
    return Check(name, None, seen, f"<= {limit:g}", seen <= limit)


def _same_bits(
    what: str, expected: str, seen: str, baseline: Baseline, here: Mapping[str, str | int]
) -> Check:
    """Compare digests where machine and versions are the same; elsewhere say what differs."""
    other = _other(baseline, here)
    allowed = f"other {', '.join(other)}" if other else "no difference"
    verdict = None if other else seen == expected
    return Check(f"bits of the {what}", expected[:12], seen[:12], allowed, verdict)


def _other(baseline: Baseline, here: Mapping[str, str | int]) -> list[str]:
    return [key for key, value in here.items() if baseline.machine.get(key) != value]


# --- The baseline file --------------------------------------------------------------------------

KINDS: dict[str, type | tuple[type, ...]] = {
    "float": (int, float),
    "str": str,
    "bool": bool,
    "tuple[float, ...]": list,
}


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file.

    Raises
    ------
    DataError
        It is missing, or not what :func:`write_baseline` writes.
    """
    remedy = "make it with lenet regress --update"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("there is no such file", remedy=remedy, file=path) from None
    except (ValueError, RecursionError):
        raise DataError("is not JSON", remedy=remedy, file=path) from None
    try:
        if values["schema_version"] != SCHEMA_VERSION:
            raise DataError(
                f"is {values['schema_version']}, this version reads {SCHEMA_VERSION}",
                remedy=f"use the version of lenet it is from, or {remedy}",
                key="schema_version",
            )
        return Baseline(
            config=Config.from_dict(values["config"]),
            machine=dict(values["machine"]),
            seen=_record(Seen, values["seen"], "seen"),
            allowed=_record(Allowed, values["allowed"], "allowed"),
        )
    except LenetError as error:
        raise DataError(error.problem, remedy=error.remedy, file=path, key=error.key) from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError("is not a baseline of the gate", remedy=remedy, file=path) from None


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline file: it is whole or not there."""
    values = {
        "schema_version": SCHEMA_VERSION,
        "allowed": asdict(baseline.allowed),
        "seen": asdict(baseline.seen),
        "machine": dict(baseline.machine),
        "config": baseline.config.to_dict(),
    }
    write(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _record(kind: type[T], values: dict[str, Any], section: str) -> T:
    """Return ``values`` as a dataclass whose fields are of the types in ``KINDS``."""
    made: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]  # Seen and Allowed are dataclasses
        value = values.get(field.name)
        if not isinstance(value, KINDS[str(field.type)]):
            raise DataError(
                "is missing or of the wrong type",
                remedy="make it anew with lenet regress --update",
                key=f"{section}.{field.name}",
            )
        made[field.name] = tuple(map(float, value)) if isinstance(value, list) else value
    return kind(**made)


# --- The verdict --------------------------------------------------------------------------------

COLUMNS = ("check", "expected", "seen", "allowed", "verdict")
WORDS = {True: "ok", False: "FALLS SHORT", None: "not compared"}


@dataclass(frozen=True)
class Verdict:
    """What a gate found; ``seen`` is None where training did not reach its end."""

    checks: Sequence[Check]
    seen: Seen | None
    machine: Mapping[str, str | int]
    seconds: float

    @property
    def short(self) -> list[str]:
        """The names of the checks that fall short."""
        return [check.name for check in self.checks if check.passed is False]

    def to_table(self) -> str:
        """Return aligned text."""
        rows = [COLUMNS, *map(_cells, self.checks)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    def to_markdown(self) -> str:
        """Return a table for a pull request."""
        title = f"{len(self.short)} of {len(self.checks)} checks fall short"
        rows = [COLUMNS, ("---",) * len(COLUMNS), *map(_cells, self.checks)]
        lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
        return "\n".join(
            [f"### lenet regress: {title if self.short else 'all is well'}", "", *lines, ""]
        )

    def to_json(self) -> str:
        """Return one JSON object."""
        values = {
            "schema_version": SCHEMA_VERSION,
            "passed": not self.short,
            "checks": [asdict(check) for check in self.checks],
            "seen": self.seen and asdict(self.seen),
            "machine": dict(self.machine),
            "seconds": self.seconds,
        }
        return json.dumps(values)

    def to_junit(self) -> str:
        """Return the XML that continuous integration reads."""
        suite = ElementTree.Element(
            "testsuite",
            name="lenet regress",
            tests=str(len(self.checks)),
            failures=str(len(self.short)),
            errors="0",
            skipped=str(sum(check.passed is None for check in self.checks)),
            time=f"{self.seconds:.3f}",
        )
        for check in self.checks:
            case = ElementTree.SubElement(
                suite, "testcase", classname="lenet.regress.regress", name=check.name
            )
            _, expected, seen, allowed, _ = _cells(check)
            if not check.passed:
                kind = "skipped" if check.passed is None else "failure"
                words = f"expected {expected or '-'}, seen {seen}, allowed {allowed}"
                ElementTree.SubElement(case, kind, message=words)
        ElementTree.indent(suite)
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def write(path: Path, text: str) -> None:
    """Write ``text``: the file is whole or not there."""
    with replacing(path) as file:
        file.write(text.encode())


def _cells(check: Check) -> tuple[str, ...]:
    shown = _shown(check.expected), _shown(check.seen)
    return check.name, *shown, check.allowed, WORDS[check.passed]


def _shown(value: float | str | None) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else value
