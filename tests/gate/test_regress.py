"""The regression gate: what it catches, what passes, its files and its command."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
from scripted import load_script
from tiny import bars, write_bars

from lenet.cli import main
from lenet.config.reader import load_config
from lenet.config.schema import SETTINGS, Config, differences
from lenet.config.sections import LIMITS as LIMIT_KEYS
from lenet.config.sections import Tolerances
from lenet.data.dataset import Split
from lenet.errors import ConfigError, DataError, SystemFailure
from lenet.gate import history, measurement
from lenet.gate.against import Turn, comparison
from lenet.gate.baseline import (
    TASK_LIMITS,
    Baseline,
    adjusted,
    find_baseline,
    machine,
    read_baseline,
    write_baseline,
)
from lenet.gate.change_points import change_points
from lenet.gate.checks import Check, check_limits, compare, fast_enough, notes
from lenet.gate.history import trends, trends_markdown
from lenet.gate.measurement import Measurement
from lenet.gate.verdict import Verdict, run_gate
from lenet.train.trainer import Trainer

LIMITS = Tolerances(
    min_accuracy=0.5,
    max_loss=1.0,
    accuracy_drop=0.02,
    curve_rise=3.0,
    slowdown=0.9,
    slowdown_busy=0.9,
)
TINY = {
    "data.validation": 60,
    "model.classes": 3,
    "model.channels": [4, 6],
    "model.units": [20, 12],
    "train.epochs": 3,
    "train.batch_size": 16,
    "train.average": 0.8,
    "optimizer.lr": 0.01,
}
MEASURED = Measurement(
    accuracy=0.9,
    loss=0.3,
    first_losses=(2.3,) * 10,
    curve=tuple(np.linspace(2, 0.3, 20)),
    gradient_error=1e-9,
    identity_error=1e-15,
    images_per_gflop=200.0,
    images_per_second=20_000.0,
    sgemm_gflops=100.0,
    wait_fraction=0.0,
    reproducible=True,
    data_sha256="d" * 64,
    bits_sha256="b" * 64,
)
HERE = {"processor": "one", "numpy": "2.4", "python": "3.12", "threads": "1"}
BASELINE = Baseline(Config(), HERE, MEASURED, Tolerances())


def failed(measurement: Measurement, here: dict = HERE) -> list[str]:
    return names(compare(BASELINE.config, measurement, BASELINE, here))


def names(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if check.passed is False]


# --- Comparing ----------------------------------------------------------------------------------


def test_an_equal_measurement_passes():
    assert failed(MEASURED) == []


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"accuracy": 0.889}, ["accuracy vs baseline"]),
        ({"accuracy": 0.84}, ["accuracy", "accuracy vs baseline"]),
        ({"loss": 0.316}, ["loss vs baseline"]),
        ({"loss": math.nan}, ["loss", "loss vs baseline"]),
        ({"first_losses": (2.3,) * 9 + (2.33,)}, ["first 10 losses vs baseline"]),
        ({"first_losses": (2.3,) * 9}, ["first 10 losses vs baseline"]),
        ({"curve": (*MEASURED.curve[:19], 0.27)}, ["loss curve vs baseline"]),
        ({"curve": (0.0,) * 20}, ["loss curve vs baseline"]),
        ({"gradient_error": 2e-6}, ["gradient error"]),
        ({"gradient_error": math.nan}, ["gradient error"]),
        ({"identity_error": 1e-9}, ["identity error"]),
        ({"reproducible": False}, ["reproducibility"]),
        ({"data_sha256": "e" * 64}, ["data checksum"]),
        ({"bits_sha256": "e" * 64}, ["training checksum"]),
        ({"images_per_gflop": 200 / 1.3}, ["images per GFLOP vs baseline"]),
    ],
)
def test_each_check_fails_for_its_own_change(change: dict, names: list[str]):
    assert failed(replace(MEASURED, **change)) == names


@pytest.mark.parametrize(
    "change",
    [{"accuracy": 1.0}, {"loss": 0.01}, {"images_per_gflop": 1000.0}, {"images_per_gflop": 178.0}],
)
def test_better_and_slightly_slower_pass(change: dict):
    assert failed(replace(MEASURED, **change)) == []


def test_on_another_machine_bits_are_not_compared_and_speed_has_a_wider_tolerance():
    other = {**HERE, "processor": "two"}
    assert failed(replace(MEASURED, bits_sha256="e" * 64, images_per_gflop=101.0), here=other) == []
    assert failed(replace(MEASURED, images_per_gflop=99.0), here=other) != []
    checks = compare(Config(), MEASURED, BASELINE, other)
    skipped = [check for check in checks if check.passed is None]
    assert [check.name for check in skipped] == ["data checksum", "training checksum"]
    assert all("other processor" in check.tolerance for check in skipped)
    assert "not compared" in Verdict(checks, MEASURED, Tolerances(), other, 1.0).to_table()
    assert "other processor" in checks[-1].tolerance


def test_other_kernels_of_openblas_are_another_machine(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    here = machine()
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    assert {key for key, value in machine().items() if here[key] != value} == {"blas"}


def test_on_a_busy_machine_speed_has_a_wider_tolerance():
    """A baseline from a busy machine does not widen the tolerance on a quiet one."""
    assert failed(replace(MEASURED, images_per_gflop=175.0, wait_fraction=0.4)) == []
    assert failed(replace(MEASURED, images_per_gflop=173.0, wait_fraction=0.4)) != []
    assert failed(replace(MEASURED, images_per_gflop=175.0, wait_fraction=0.1)) != []
    busy = replace(BASELINE, measurement=replace(MEASURED, wait_fraction=0.9))
    assert fast_enough(busy, HERE) == fast_enough(BASELINE, HERE)


def test_another_python_does_not_widen_the_tolerance_of_the_speed():
    other = {**HERE, "python": "3.14"}
    assert failed(replace(MEASURED, images_per_gflop=150.0), here=other) != []


def test_a_changed_configuration_is_named():
    config = Config().with_values({"optimizer.lr": 0.025, "output.dir": "elsewhere"})
    (check, *_) = compare(config, MEASURED, BASELINE, HERE)
    assert (check.passed, check.measured) == (False, "optimizer.lr")


# --- Measuring ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def split() -> Split:
    return Split(*bars(300, seed=1), ("top", "middle", "bottom"))


@pytest.fixture(scope="module")
def config() -> Config:
    return Config().with_values(TINY)


@pytest.fixture(scope="module")
def baseline(config: Config, split: Split) -> Baseline:
    verdict = run_gate(config, split, LIMITS)
    assert verdict.failed == []
    assert verdict.measurement is not None
    return Baseline(config, verdict.machine, verdict.measurement, LIMITS)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("mutants")


@pytest.fixture(scope="module")
def sound(script, tmp_path_factory):
    """A copy of the code, a configuration, and a baseline made by the sound code."""
    place = tmp_path_factory.mktemp("sound")
    keys = {**write_bars(place), **TINY, "train.epochs": 10, "optimizer.lr": 0.003}
    config, baseline, copy = place / "tiny.yaml", place / "baseline.json", place / "copy"
    config.write_text(nested(keys), encoding="utf-8")
    shutil.copytree(script.ROOT / "lenet", copy / "lenet", ignore=script.IGNORED)
    write_baseline(baseline, replace(BASELINE, tolerances=LIMITS))
    assert script.gate(copy, baseline, "--update", config=config).failed == []
    return copy, config, baseline


def test_sound_code_passes_its_own_baseline(config, split, baseline):
    assert run_gate(config, split, baseline).failed == []


def test_the_measurement_is_that_of_the_training_run(config, split, baseline):
    found = baseline.measurement
    assert (len(found.first_losses), len(found.curve), found.reproducible) == (10, 20, True)
    assert found.first_losses[0] == pytest.approx(math.log(3), abs=2)
    steps = 3 * math.ceil(240 / 16)
    assert steps == 45  # the curve's first five pieces are of three steps, the others of two
    assert np.mean(found.first_losses[:3]) == pytest.approx(found.curve[0])
    assert np.mean(found.first_losses[3:6]) == pytest.approx(found.curve[1])
    assert found.images_per_gflop == pytest.approx(found.images_per_second / found.sgemm_gflops)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("learning rate halved", "first 10 losses vs baseline"),
        ("kernels transposed in the forward pass", "gradient error"),
        ("bias gradient of the dense layers dropped", "gradient error"),
        ("running average stale after 100 steps", "loss vs baseline"),
        ("running average a step late", "training checksum"),
    ],
)
def test_faults_in_the_code_are_caught(fault, name, script, sound):
    copy, config, baseline = sound
    mutant = next(mutant for mutant in script.GATE_MUTANTS if mutant.what == fault)
    text = script.break_line(mutant, copy)
    try:
        assert name in script.gate(copy, baseline, config=config).failed
    finally:
        (copy / "lenet" / mutant.file).write_text(text, encoding="utf-8")


def test_a_slowdown_is_measured(config, split, monkeypatch):
    """Steps that take 30 % longer, by a clock that does not depend on the machine."""
    step, now = Trainer._step, 0.0

    def ticks() -> float:
        nonlocal now
        now += 1e-6  # a product takes this long, from one look at the clock to the next
        return now

    def speed(seconds_a_step: float) -> float:
        def timed(self, batch):
            nonlocal now
            now += seconds_a_step
            return step(self, batch)

        monkeypatch.setattr(Trainer, "_step", timed)
        return measurement._train(config, split).images_per_gflop

    monkeypatch.setattr(measurement, "seconds", ticks)
    assert speed(1.3) == pytest.approx(speed(1.0) / 1.3, rel=1e-5)


def test_the_clock_runs_while_a_thread_sleeps():
    start = measurement.seconds()
    time.sleep(0.05)
    assert measurement.seconds() - start >= 0.05


def test_the_clock_leaves_out_what_the_thread_waited_for_a_core(tmp_path, monkeypatch):
    """Read again if the thread had to wait between the two readings."""
    waited = iter([2_000_000_000, 2_500_000_000, 2_500_000_000])
    wall = iter([10.0, 10.7])

    class Schedstat:
        def read_bytes(self) -> bytes:
            return b"123456 %d 7\n" % next(waited)

    monkeypatch.setattr(measurement, "SCHEDSTAT", Schedstat())
    monkeypatch.setattr(measurement.time, "perf_counter", lambda: next(wall))
    assert measurement.seconds() == pytest.approx(10.7 - 2.5)
    monkeypatch.setattr(measurement, "SCHEDSTAT", tmp_path / "not on this system")
    monkeypatch.setattr(measurement.time, "perf_counter", lambda: 3.25)
    assert measurement.seconds() == 3.25


def test_the_system_reports_the_time_waited_for_a_core():
    if not measurement.SCHEDSTAT.exists():
        pytest.skip("this system does not report how long a thread waited for a core")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # also of the programs that are started here
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        before, deadline = measurement._waited(), time.monotonic() + 60
        while measurement._waited() < before + 0.1 and time.monotonic() < deadline:
            pass
        assert measurement._waited() >= before + 0.1
    finally:
        for other in others:
            other.kill()
            other.wait()
        os.sched_setaffinity(0, cores)


def test_a_slow_run_is_repeated_before_it_counts(config, split, monkeypatch):
    runs = []
    train = measurement._train
    monkeypatch.setattr(measurement, "_train", lambda *a: runs.append(train(*a)) or runs[-1])
    measurement.measure(config, split, fast_enough=0.0)
    assert len(runs) == 2
    monkeypatch.setattr(measurement, "MAX_SECONDS", math.inf)  # on however slow a machine
    found = measurement.measure(config, split, fast_enough=math.inf)
    assert len(runs) == 2 + measurement.MAX_RUNS
    assert found.images_per_gflop == max(run.images_per_gflop for run in runs[2:])


def test_divergence_fails_in_one_line(config, split, baseline, monkeypatch):
    monkeypatch.setattr("lenet.nn.losses.SoftmaxCrossEntropy.forward", lambda *a: math.nan)
    monkeypatch.setattr(
        "lenet.nn.losses.SoftmaxCrossEntropy.backward", lambda self: np.zeros((3, 16))
    )
    verdict = run_gate(config, split, baseline)
    assert verdict.failed == ["training"]
    assert verdict.measurement is None
    assert "diverged" in verdict.to_table()


@pytest.mark.parametrize("change", [{"data.validation": 0}, {"train.epochs": 1}])
def test_training_that_cannot_be_measured_is_refused(change, config, split):
    with pytest.raises(ConfigError):
        measurement.measure(config.with_values(change), split)


# --- Limits and trends --------------------------------------------------------------------------


def test_the_configuration_has_every_limit_with_its_meaning():
    keys = {f"regress.{name}" for name in LIMIT_KEYS}
    assert keys == {key for key in SETTINGS if key.startswith("regress.")}
    for name, limit in LIMIT_KEYS.items():
        assert (
            SETTINGS[f"regress.{name}"]
            .metadata["doc"]
            .endswith(f"; initial value {limit.default:g}")
        )


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("min_acuracy=0.5", "did you mean regress.min_accuracy?"),
        ("max_loss", "has no value"),
        ("max_loss=high", "is the string 'high'"),
        ("max_loss=.nan", "is nan"),
        ("max_loss=.inf", "is inf"),
        ("max_loss=-1", "is -1"),
    ],
)
def test_an_invalid_limit_is_refused(limit, words, capsys):
    assert run("--limit", limit) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.startswith("lenet: error: --set regress.m")


def test_losses_near_zero_are_alike():
    """A task that is learned to the last image, on two machines."""
    solved = replace(MEASURED, loss=0.0, curve=(*MEASURED.curve[:10], *(1e-7, 0.0) * 5))
    baseline = replace(BASELINE, measurement=solved)
    other = replace(solved, loss=3e-7, curve=(*MEASURED.curve[:10], *(0.0, 2e-6) * 5))
    assert names(compare(BASELINE.config, other, baseline, HERE)) == []
    assert "loss vs baseline" in names(
        compare(BASELINE.config, replace(other, loss=0.002), baseline, HERE)
    )


def test_a_first_baseline_meets_its_own_limits():
    curve = (2.0, 1.0, 1.5, *(0.9,) * 17)  # rises by a half
    poor = replace(MEASURED, accuracy=0.4567, loss=1.3333, curve=curve)
    limits = adjusted(Tolerances(), poor, TASK_LIMITS)
    assert (limits.min_accuracy, limits.max_loss, limits.curve_rise) == (0.446, 1.4, 1.0)
    assert limits == replace(Tolerances(), min_accuracy=0.446, max_loss=1.4, curve_rise=1.0)
    assert names(check_limits(poor, limits)) == []
    assert names(check_limits(poor, adjusted(Tolerances(), poor, ["max_loss"]))) == [
        "accuracy", "rise of the loss curve",
    ]  # fmt: skip
    assert adjusted(Tolerances(), MEASURED, TASK_LIMITS) == Tolerances()


def runs(**metrics: Sequence[float]) -> list[history.Entry]:
    """A history of runs with these metrics, and without change in the others."""
    count = max(map(len, metrics.values()))
    usual = {"accuracy": 0.9, "loss": 0.3, "images_per_gflop": 200.0}
    return [
        {**usual, "config_sha256": "c", "machine": HERE, "commit": f"c{k}"}
        | {n: v[k] for n, v in metrics.items()}
        for k in range(count)
    ]


def drifts(entries: list[history.Entry]) -> list[str]:
    return [trend.metric for trend in trends(entries, Tolerances()) if trend.drift()]


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"accuracy": [0.9 - 0.0004 * k for k in range(30)]}, ["accuracy"]),
        ({"accuracy": [0.9 + 0.0004 * k for k in range(30)]}, []),
        ({"loss": [0.3 * 1.003**k for k in range(30)]}, ["loss"]),
        ({"loss": [0.3 * 0.9**k for k in range(30)]}, []),
        ({"images_per_gflop": [200 * 0.992**k for k in range(30)]}, ["images per GFLOP"]),
        ({"images_per_gflop": [200.0] * 15 + [175.0] * 15}, ["images per GFLOP"]),  # a step
        ({"accuracy": [0.9 - 0.0001 * k for k in range(30)]}, []),  # too little
        ({"accuracy": [0.9 - 0.004 * k for k in range(8)]}, []),  # too few
        ({"images_per_gflop": [200.0, 150.0, 190.0, 160.0] * 8}, []),  # noise
    ],
)
def test_a_drift_is_seen_though_each_run_is_within_its_tolerances(metrics, expected):
    assert drifts(runs(**metrics)) == expected


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("accuracy", lambda rng, runs: 0.9 + 0.0015 * rng.standard_normal(runs)),
        ("images_per_gflop", lambda rng, runs: 200 * rng.uniform(0.87, 1.01, runs)),
        ("images_per_gflop", lambda rng, runs: 200 * rng.uniform(0.71, 1.01, runs)),
    ],
    ids=["rounding", "as measured on a shared machine", "as measured on a busy evening"],
)
def test_sound_code_has_no_drift(metric, value):
    """At the end of each of a hundred histories of a year."""
    rng = np.random.default_rng(0)
    alarms = sum(bool(drifts(runs(**{metric: list(value(rng, 250))}))) for _ in range(100))
    assert alarms == 0


@pytest.mark.parametrize("sound", [0, 100])
@pytest.mark.parametrize("slope", [0.0005, 0.0002, 0.0001])
def test_a_drift_is_seen_before_it_exceeds_the_tolerance_of_a_single_run(slope, sound):
    """However slow, and however many sound runs are before it."""
    rng, delay = np.random.default_rng(1), round(Tolerances().accuracy_drop / slope)
    accuracy = 0.9 + 0.0015 * rng.standard_normal(sound + delay)
    accuracy[sound:] -= slope * np.arange(delay)
    assert drifts(runs(accuracy=list(accuracy))) == ["accuracy"]
    assert drifts(runs(accuracy=list(accuracy[: sound + delay // 4]))) == []


def test_only_comparable_runs_make_a_trend():
    slower = runs(images_per_gflop=[200 * 0.98**k for k in range(20)])
    assert drifts(slower) == ["images per GFLOP"]
    for run in slower[:12]:
        run["machine"] = {**HERE, "processor": "two"}
    *_, speed = trends(slower, Tolerances())
    assert len(speed.values) == 8
    assert speed.check().passed is None
    for run in slower[:12]:
        run["config_sha256"] = "another"
    assert [len(trend.values) for trend in trends(slower, Tolerances())] == [8, 8, 8]


def record(file: Path) -> Verdict:
    """Append a run to a history as the command does."""
    entry = history.entry_of(MEASURED, HERE, Config())
    found = trends([*history.read_history(file)[0], entry], Tolerances())
    history.append(file, entry)
    checks = [trend.check() for trend in found]
    return Verdict(checks, MEASURED, Tolerances(), HERE, 1.0, trends=found)


def test_a_history_is_read_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_SHA", "abc")
    file = tmp_path / "new" / "h.jsonl"
    assert history.read_history(file) == ([], [])
    for _ in range(12):
        verdict = record(file)
    assert [run["commit"] for run in history.read_history(file)[0]] == ["abc"] * 12
    assert [check.passed for check in verdict.checks] == [True] * 3
    markdown = trends_markdown(verdict.trends)
    assert "| accuracy         | 0.9   | 0.9  |" in markdown
    assert "▁" * 12 in markdown


def test_runs_with_other_directories_workers_and_limits_are_comparable(tmp_path):
    changes = [
        {},
        {"output.dir": "a", "train.workers": 3, "regress.min_accuracy": 0.1},
        {"optimizer.lr": 0.1},
    ]
    same, alike, other = (
        history.entry_of(MEASURED, HERE, Config().with_values(change)) for change in changes
    )
    assert same["config_sha256"] == alike["config_sha256"] != other["config_sha256"]


def test_the_page_has_the_checks_and_a_figure_for_each_trend():
    accuracy = [0.9 - 0.0004 * k for k in range(30)]
    found = trends(runs(accuracy=accuracy), Tolerances())
    checks = [*compare(Config(), MEASURED, BASELINE, HERE), *(trend.check() for trend in found)]
    verdict = Verdict(checks, MEASURED, Tolerances(), HERE, 1.0, ["a note"], found)
    page = ElementTree.fromstring(verdict.to_html().replace("<!doctype html>", ""))
    assert len(page.findall(".//tbody/tr")) == len(checks)
    (failed,) = page.findall(".//tr[@class='differs']/th")
    assert failed.text == "trend of the accuracy"
    captions = [caption.text for caption in page.iter("figcaption")]
    assert captions[0] == "accuracy: -0.0096 since run 16 of 30, commit c15, tolerance -0.0050"
    assert [len(svg.findall("polyline")) for svg in page.iter("svg")] == [1, 1, 1]
    lines = [line.attrib["points"].split() for line in page.iter("polyline")]
    heights = [float(point.partition(",")[2]) for point in lines[0]]
    assert heights == sorted(heights)  # it falls: in SVG, y points down
    assert heights[-1] - heights[0] > 100  # over the height of the figure, not from zero
    assert len(lines[0]) == 30


BAD_LINES = [
    *(b"{}", b"[]", b"{", b"\xff", b'{"accuracy": "high"}', b"[" * 99_999, b"\x1b[2J", b"3"),
    *(b'{"accuracy": NaN}', b'{"accuracy": %d}' % 10**400),
]


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_damaged_line_of_a_history_is_reported_and_left_out(tmp_path, line):
    file = tmp_path / "h.jsonl"
    entry = runs(accuracy=[0.9])[0]
    history.append(file, entry)
    with file.open("ab") as stream:
        stream.write(line + b"\n")
    history.append(file, entry)
    found, warnings = history.read_history(file)
    assert found == [entry, entry]
    assert warnings == [f"{file}: line 2: is not a run of the gate; it is left out"]


@pytest.mark.parametrize(
    "change",
    [
        {"loss": math.nan},
        {"accuracy": math.inf},
        {"images_per_gflop": 0.0},
        {"loss": -1.0},
        {"loss": True},
        {"loss": 10**400},
        {"machine": {"processor": ["x"]}},
        {"machine": 3},
        {"config_sha256": [1]},
    ],
    ids=str,
)
def test_a_run_with_impossible_values_is_left_out(tmp_path, change):
    file = tmp_path / "h.jsonl"
    file.write_text(json.dumps({**runs(accuracy=[0.9])[0], **change}) + "\n")
    found, warnings = history.read_history(file)
    assert (found, len(warnings)) == ([], 1)


def test_a_run_is_appended_after_a_line_without_an_end(tmp_path):
    file, entry = tmp_path / "h.jsonl", runs(accuracy=[0.9])[0]
    file.write_text(json.dumps(entry))
    history.append(file, entry)
    assert history.read_history(file) == ([entry, entry], [])


@pytest.mark.skipif(os.name != "posix", reason="the limit of a file's size is POSIX's")
def test_a_full_disk_loses_no_run(tmp_path):
    import resource

    file, entry = tmp_path / "h.jsonl", runs(accuracy=[0.9])[0]
    history.append(file, entry)
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(SystemFailure, match="cannot be written"):
            history.append(file, entry)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_no_history_and_no_baseline(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (history.read_history, read_baseline):
        with pytest.raises(DataError, match="pipe"):
            read(tmp_path / "pipe")


# --- Change points ------------------------------------------------------------------------------


def planted(rng: np.random.Generator, at: int, count: int = 100) -> dict[str, list[float]]:
    """A history with noise as measured, in which the run ``at`` is the first of a worse commit."""
    accuracy = 0.9 + 0.0015 * rng.standard_normal(count)
    speed = 200 * (1 + 0.03 * rng.standard_normal(count))
    accuracy[at:] -= 0.008
    speed[at:] *= 0.88
    return {"accuracy": list(accuracy), "images_per_gflop": list(speed)}


def test_a_planted_commit_is_named():
    """In each of some histories of 100 runs, within two runs, for accuracy and speed."""
    rng = np.random.default_rng(3)
    for _ in range(8):
        at = int(rng.integers(10, 90))
        accuracy, loss, speed = trends(runs(**planted(rng, at)), Tolerances())
        assert loss.drift() is None
        for trend in (accuracy, speed):
            found = trend.drift()
            assert found is not None
            assert abs(found - at) <= 2
            assert f"since run {found + 1} of 100, commit c{found}" in trend.check().measured


def test_histories_without_a_change_give_no_alarm():
    """At most one of a hundred histories of 100 runs, in any of the metrics."""
    rng, alarms = np.random.default_rng(4), 0
    for _ in range(100):
        sound = planted(rng, 100)
        sound["loss"] = list(0.3 * (1 + 0.01 * rng.standard_normal(100)))
        alarms += bool(drifts(runs(**sound)))
    assert alarms <= 1


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([(0, 30), (3, 30)], [30]),
        ([(0, 30), (4, 30), (0, 30)], [30, 60]),  # and back
        ([(0, 20), (4, 20), (8, 20)], [20, 40]),
        ([(0, 60)], []),
        ([(5, 9)], []),  # too short
    ],
)
def test_levels_of_a_series(levels, expected):
    """Steps in noise of standard deviation 1."""
    rng = np.random.default_rng(0)
    series = np.concatenate([level + rng.standard_normal(n) for level, n in levels])
    found = change_points(list(series))
    assert len(found) == len(expected)
    assert all(abs(a - b) <= 2 for a, b in zip(found, expected, strict=True))


def test_the_best_split_maximises_the_energy_distance():
    """By its definition, with loops."""
    from lenet.gate.change_points import MIN_SIZE, _best_split

    x = list(np.random.default_rng(1).standard_normal(14))

    def mean(a, b, pairs):
        return sum(abs(p - q) for p in a for q in b) / pairs

    def energy(k):
        a, b = x[:k], x[k:]
        n, m = len(a), len(b)
        within = mean(a, a, n * (n - 1)) + mean(b, b, m * (m - 1))
        return n * m / (n + m) * (2 * mean(a, b, n * m) - within)

    values = {k: energy(k) for k in range(MIN_SIZE, 14 - MIN_SIZE + 1)}
    place, largest = _best_split(np.abs(np.subtract.outer(x, x)))
    assert place == max(values, key=values.get)
    assert largest == pytest.approx(max(values.values()))


def test_a_change_of_the_spread_alone_is_found():
    rng = np.random.default_rng(2)
    series = [*rng.normal(0, 0.1, 50), *rng.normal(0, 5, 50)]
    (found,) = change_points(series)
    assert abs(found - 50) <= 3


def test_an_improvement_is_reported_and_is_no_failure():
    accuracy = [0.9 + 0.02 * (k >= 15) for k in range(30)]
    trend, *_ = trends(runs(accuracy=accuracy), Tolerances())
    assert trend.drift() is None
    assert trend.note() == (
        "accuracy is better since run 16 of 30, commit c15: +0.0200; the baseline can be "
        "tightened: lenet regress --update"
    )
    better = replace(MEASURED, accuracy=0.95, loss=0.2, images_per_gflop=260.0)
    (line,) = notes(better, BASELINE, HERE)
    assert line.startswith("better than the baseline: accuracy +0.0500, loss -33.3%, speed +30.0%")
    assert notes(MEASURED, BASELINE, HERE) == []


def test_on_another_processor_the_verdict_says_what_can_be_compared():
    (line,) = notes(MEASURED, BASELINE, {**HERE, "processor": "two"})
    assert line.startswith("another processor than the baseline's: bits cannot be compared")
    assert "--against REV" in line


# --- Two revisions ------------------------------------------------------------------------------


def turns(speeds: Sequence[float], **changes: float) -> list[Turn]:
    epoch = {"epoch": 1, "val_accuracy": 0.9, "val_loss": 0.3} | changes
    return [Turn(speed, [epoch]) for speed in speeds]


@pytest.mark.parametrize(
    ("before", "now", "changes", "failed"),
    [
        ([100, 101, 99], [100, 99, 101], {}, []),
        ([100, 60, 99], [98, 58, 97], {}, []),  # a disturbance of both
        ([100, 60, 99], [90, 54, 89], {}, ["speed vs HEAD~1"]),
        ([100, 100, 100], [90, 90, 101], {}, []),  # not in every turn
        ([100], [100], {"val_accuracy": 0.88}, ["accuracy vs HEAD~1"]),
        ([100], [100], {"val_loss": 0.4}, ["loss vs HEAD~1"]),
    ],
)
def test_two_revisions_are_compared_turn_by_turn(before, now, changes, failed):
    checks, lines = comparison("HEAD~1", turns(before), turns(now, **changes), Tolerances())
    assert [check.name for check in checks if check.passed is False] == failed
    assert checks[0].passed is (None if changes else True)
    assert lines == []
    (line,) = comparison("HEAD~1", turns([100] * 3), turns([120] * 3), Tolerances())[1]
    assert line == "faster than HEAD~1: 1.200 times its speed"


needs_git = pytest.mark.skipif(
    shutil.which("git") is None or not (Path(__file__).parents[2] / ".git").exists(),
    reason="this is not a Git checkout",
)


@needs_git
def test_against_a_revision_trains_both_in_turn(tmp_path, capsys):
    """The last commit may differ from the files here in names, not in the numbers of training."""
    keys = {**write_bars(tmp_path), **TINY}
    (tmp_path / "task.yaml").write_text(nested(keys), encoding="utf-8")
    options = ("--config", tmp_path / "task.yaml", "--limit", "slowdown=0.99", "--rounds", 2)
    markdown = tmp_path / "out.md"
    assert run(*options, "--against", "HEAD", "--markdown", markdown) == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        f"lenet regress: round {k} of 2: {code}" for k in (1, 2) for code in ("HEAD", "this code")
    ]
    assert re.search(r"speed vs HEAD +1 +\d\.\d{3} \(\d\.\d+-\d\.\d+\) +-50% +ok", out)
    assert "speed vs HEAD" in markdown.read_text(encoding="utf-8")
    listed = subprocess.check_output(["git", "worktree", "list"], text=True)
    assert "lenet-against" not in listed


@needs_git
def test_an_unknown_revision_is_refused(tmp_path, capsys):
    junit, markdown = tmp_path / "o.xml", tmp_path / "o.md"
    files = ("--junit", junit, "--markdown", markdown)
    assert run("--config", "ci", "--against", "no-such-revision", *files) == 2
    assert "--against: is not a revision that Git knows" in capsys.readouterr().err
    assert ElementTree.parse(junit).getroot().attrib["errors"] == "1"
    assert "could not run" in markdown.read_text(encoding="utf-8")
    assert run("--config", "ci", "--against", "HEAD", "--update") == 2


# --- Files --------------------------------------------------------------------------------------


def test_a_baseline_is_read_as_it_was_written(tmp_path):
    write_baseline(tmp_path / "b.json", BASELINE)
    assert read_baseline(tmp_path / "b.json") == BASELINE


def test_the_packaged_baseline_belongs_to_the_packaged_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert differences(find_baseline(Path("ci")).config, load_config("ci")) == []
    write_baseline(Path("ci"), BASELINE)
    assert find_baseline(Path("ci")) == BASELINE


def test_a_packaged_baseline_is_not_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("--config", "ci", "--baseline", "ci", "--update") == 2
    assert "does not replace the packaged baseline ci" in capsys.readouterr().err


def test_a_baseline_of_version_1_is_read(tmp_path):
    """Written with the names that the sections and keys had then."""
    values = {
        "schema_version": 1,
        "allowed": {
            "accuracy": 0.85,
            "loss": 0.5,
            "accuracy_drop": 0.01,
            "loss_rise": 0.05,
            "early": 0.001,
            "curve": 0.1,
            "bump": 0.3,
            "gradient_error": 1e-06,
            "identity_error": 1e-10,
            "slowdown": 0.2,
            "slowdown_busy": 0.3,
            "slowdown_elsewhere": 0.5,
        },
        "seen": {
            "accuracy": 0.9,
            "loss": 0.3,
            "early": [2.3] * 10,
            "curve": list(MEASURED.curve),
            "gradient_error": 1e-9,
            "identity_error": 1e-15,
            "images_per_gflop": 200.0,
            "images_per_second": 20000.0,
            "sgemm_gflops": 100.0,
            "waited": 0.0,
            "repeats": True,
            "data_sha256": "d" * 64,
            "bits_sha256": "b" * 64,
        },
        "machine": HERE,
        "config": Config().to_dict(),
    }
    (tmp_path / "b.json").write_text(json.dumps(values))
    old = {"curve_rise": 0.3, "slowdown": 0.2, "slowdown_busy": 0.3}
    expected = replace(BASELINE, tolerances=replace(Tolerances(), **old))
    assert read_baseline(tmp_path / "b.json") == expected


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("schema_version",), 3, "this version reads 1 and 2"),
        (("measurement", "accuracy"), "high", "measurement.accuracy"),
        (("measurement", "curve"), 3, "measurement.curve"),
        (("tolerances", "curve_rise"), None, "tolerances.curve_rise"),
        (("config", "optimizer", "lr"), -1, "optimizer.lr"),
        (("measurement",), [], "not a baseline"),
        (("machine",), 3, "not a baseline"),
    ],
)
def test_an_invalid_baseline_is_refused(path, value, words, tmp_path):
    file = tmp_path / "b.json"
    write_baseline(file, BASELINE)
    values = json.loads(file.read_text())
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(values))
    with pytest.raises(DataError, match=words) as caught:
        read_baseline(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", "[" * 100_000])
def test_a_file_that_is_not_a_baseline_is_refused(text, tmp_path):
    file = tmp_path / "b.json"
    file.write_text(text)
    with pytest.raises(DataError):
        read_baseline(file)


CONFLICT = '{\n<<<<<<< HEAD\n  "a": 1\n=======\n  "a": 2\n>>>>>>> b\n}\n'


@pytest.mark.parametrize("text", [CONFLICT, "", '{"schema_version": 2, "machine": '])
def test_a_damaged_baseline_is_replaced_by_an_update(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lenet.gate.verdict.measure", lambda *_, **__: MEASURED)
    path, junit, markdown = (tmp_path / name for name in ("b.json", "o.xml", "o.md"))
    path.write_text(text)
    keys = {**write_bars(tmp_path), **TINY}
    options = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    options += ["--baseline", path, "--junit", junit, "--markdown", markdown]
    assert run(*options) == 3
    assert "resolve a merge conflict in it, or make a new one" in capsys.readouterr().err
    assert ElementTree.parse(junit).getroot().attrib["errors"] == "1"
    assert "is not a baseline of the gate" in markdown.read_text(encoding="utf-8")
    assert run(*options, "--update") == 0
    assert "its limits are lost" in capsys.readouterr().err
    assert read_baseline(path).measurement == MEASURED


def test_a_file_that_was_never_a_baseline_is_not_replaced(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("train: {epochs: 3}\n")
    assert run("--baseline", path, "--update") == 3
    assert "delete it, or name another file" in capsys.readouterr().err
    assert path.read_text() == "train: {epochs: 3}\n"


def test_annotations_and_metrics(tmp_path, capsys, monkeypatch):
    checks = compare(Config(), replace(MEASURED, loss=0.4), BASELINE, HERE)
    verdict = Verdict(checks, MEASURED, Tolerances(), HERE, 1.5, ["50% better\nthan"])
    error, notice = verdict.to_annotations()
    assert error == ("::error title=lenet regress::loss vs baseline: measured 0.4, tolerance +5%25")
    assert notice == r"::notice title=lenet regress::50%25 better\nthan"
    rows = json.loads(verdict.to_github_benchmark())
    assert rows[0] == {"name": "accuracy", "unit": "%", "value": 90.0}
    assert [list(row) for row in rows] == [["name", "unit", "value"]] * 3
    measures = json.loads(verdict.to_bencher())["lenet regress"]
    assert measures["loss"] == {"value": 0.3}
    assert json.loads(Verdict([], None, Tolerances(), HERE, 1.0).to_github_benchmark()) == []
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert run("--baseline", tmp_path / "none.json", "--config", "ci") == 3
    assert "::error title=lenet regress::" in capsys.readouterr().err


def test_the_verdict_reads_the_same_in_every_form():
    other = {**HERE, "processor": "two | three"}
    checks = compare(Config(), replace(MEASURED, loss=0.4), BASELINE, other)
    verdict = Verdict(checks, MEASURED, Tolerances(), other, 1.5)
    assert verdict.failed == ["loss vs baseline"]

    suite = ElementTree.fromstring(verdict.to_junit())
    assert suite.attrib["tests"] == str(len(suite.findall("testcase"))) == str(len(checks))
    assert (suite.attrib["failures"], suite.attrib["skipped"]) == ("1", "2")
    failed = [case.attrib["name"] for case in suite if case.find("failure") is not None]
    assert failed == verdict.failed

    values = json.loads(verdict.to_json())
    assert values["passed"] is False
    assert [c["name"] for c in values["checks"] if c["passed"] is False] == verdict.failed

    lines = verdict.to_markdown().splitlines()
    assert lines[0] == "### lenet regress: 1 of 12 checks failed, 2 not compared"
    assert len(checks) == 14
    assert len({line.replace(r"\|", "").count("|") for line in lines[2:]}) == 1
    (row,) = [line for line in verdict.to_table().splitlines() if "FAIL" in line]
    assert row.split("  ")[0] == "loss vs baseline"


# --- The command --------------------------------------------------------------------------------


def nested(values: dict) -> str:
    """Settings of dotted keys as YAML."""
    sections: dict = {}
    for key, value in values.items():
        section, name = key.split(".")
        sections.setdefault(section, {})[name] = value
    return json.dumps(sections)  # which YAML includes


@pytest.fixture
def few_runs(monkeypatch):
    """A baseline is the fastest of three runs instead of thirty, which take their time."""
    monkeypatch.setattr(measurement, "MAX_RUNS", 3)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["regress", *map(str, arguments)])
    return int(caught.value.code or 0)


def test_the_command_from_first_baseline_to_failure(tmp_path, capsys, few_runs):
    keys = {**write_bars(tmp_path), **TINY}
    options = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    baseline = tmp_path / "baseline.json"
    assert run(*options, "--baseline", baseline) == 3
    assert "--update" in capsys.readouterr().err
    assert not baseline.exists()
    write_baseline(baseline, replace(BASELINE, tolerances=LIMITS))

    assert run(*options, "--baseline", baseline, "--update") == 0
    assert read_baseline(baseline).tolerances == LIMITS  # which --update keeps
    capsys.readouterr()

    forms = ("--junit", tmp_path / "o" / "out.xml", "--markdown", tmp_path / "out.md", "--json")
    assert run(*options, "--baseline", baseline, *forms) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert ElementTree.parse(tmp_path / "o" / "out.xml").getroot().attrib["failures"] == "0"
    assert "checks passed" in (tmp_path / "out.md").read_text(encoding="utf-8")

    before = baseline.read_bytes()
    assert run(*options, "--baseline", baseline, "--set", "optimizer.lr=0.005") == 5
    out, err = capsys.readouterr()
    assert "FAIL" in out
    assert "configuration" in err
    assert err.count("\n") == 1
    assert baseline.read_bytes() == before


def test_a_baseline_is_not_updated_if_a_limit_is_exceeded(tmp_path, capsys, few_runs):
    keys = {**write_bars(tmp_path), **TINY}
    options = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    baseline = tmp_path / "baseline.json"
    write_baseline(baseline, replace(BASELINE, tolerances=replace(LIMITS, max_loss=1e-9)))
    before = baseline.read_bytes()
    assert run(*options, "--baseline", baseline, "--update") == 5
    assert baseline.read_bytes() == before


def test_a_first_baseline_of_any_task_is_written_and_passes(tmp_path, capsys, few_runs):
    """One that learns next to nothing, with a history from the start."""
    keys = {**write_bars(tmp_path), **TINY, "optimizer.lr": 1e-5}
    options = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    options += ["--baseline", tmp_path / "b.json", "--history", tmp_path / "h.jsonl"]
    wide = ["--limit", "slowdown=0.95", "--limit", "slowdown_busy=0.95"]
    assert run(*options, "--update", *wide) == 0
    assert "b.json: written, with min_accuracy=0." in capsys.readouterr().err
    limits = read_baseline(tmp_path / "b.json").tolerances
    assert limits.min_accuracy < 0.85
    assert (limits.slowdown, limits.slowdown_busy) == (0.95, 0.95)
    assert run(*options, "--markdown", tmp_path / "out.md") == 0
    assert "trend of the accuracy" in capsys.readouterr().out
    assert "### Trend" in (tmp_path / "out.md").read_text(encoding="utf-8")
    assert len(history.read_history(tmp_path / "h.jsonl")) == 2

    assert run(*options, "--limit", "min_accuracy=0.99") == 5
    assert ">= 0.99" in capsys.readouterr().out
    (tmp_path / "b.json").unlink()
    assert run(*options, "--update", "--limit", "min_accuracy=0.99") == 5
    err = capsys.readouterr().err
    assert "--limit NAME=VALUE" in err
    assert "lenet regress --update" not in err
    assert not (tmp_path / "b.json").exists()


def test_limits_come_from_the_configuration_then_from_the_baseline(tmp_path, capsys, few_runs):
    keys = {**write_bars(tmp_path), **TINY, "regress.min_accuracy": 0.2, "regress.slowdown": 0.9}
    (tmp_path / "task.yaml").write_text(nested(keys), encoding="utf-8")
    options = ["--config", tmp_path / "task.yaml", "--baseline", tmp_path / "b.json"]
    write_baseline(tmp_path / "b.json", replace(BASELINE, tolerances=LIMITS))
    assert run(*options, "--update") == 0
    written = read_baseline(tmp_path / "b.json").tolerances
    assert written == replace(LIMITS, min_accuracy=0.2, slowdown=0.9)

    capsys.readouterr()
    page = tmp_path / "page.html"
    assert run(*options, "--limit", "max_loss=1e-9", "--html", page) == 5  # stated last
    out, err = capsys.readouterr()
    assert "<= 1e-09" in out
    assert err.startswith(f"lenet: error: {tmp_path / 'b.json'}: 1 of 14 checks failed: loss;")
    assert "1 of 14 checks failed" in page.read_text(encoding="utf-8")
