"""The regression gate: what it catches, what it lets pass, its files and its command."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
from tiny import bars, write_bars

from lenet.cli import main
from lenet.config.schema import Config
from lenet.data.datasets import Split
from lenet.regress import regress
from lenet.system.errors import ConfigError, DataError
from lenet.training.trainer import Trainer

SCRIPTS = Path(__file__).parent.parent / "scripts"
LIMITS = regress.Allowed(
    accuracy=0.5, loss=1.0, accuracy_drop=0.02, bump=3.0, slowdown=0.9, slowdown_busy=0.9
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
SEEN = regress.Seen(
    accuracy=0.9,
    loss=0.3,
    early=(2.3,) * 10,
    curve=tuple(np.linspace(2, 0.3, 20)),
    gradient_error=1e-9,
    identity_error=1e-15,
    images_per_gflop=200.0,
    images_per_second=20_000.0,
    sgemm_gflops=100.0,
    waited=0.0,
    repeats=True,
    data_sha256="d" * 64,
    bits_sha256="b" * 64,
)
HERE = {"processor": "one", "numpy": "2.4", "python": "3.12", "threads": "1"}
BASELINE = regress.Baseline(Config(), HERE, SEEN, regress.Allowed())


def short(seen: regress.Seen, here: dict = HERE) -> list[str]:
    checks = regress.compare(BASELINE.config, seen, BASELINE, here)
    return [check.name for check in checks if check.passed is False]


# --- Comparing ----------------------------------------------------------------------------------


def test_what_is_as_before_passes():
    assert short(SEEN) == []


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"accuracy": 0.889}, ["accuracy as before"]),
        ({"accuracy": 0.84}, ["accuracy", "accuracy as before"]),
        ({"loss": 0.316}, ["loss as before"]),
        ({"loss": math.nan}, ["loss", "loss as before"]),
        ({"early": (2.3,) * 9 + (2.33,)}, ["first 10 losses as before"]),
        ({"early": (2.3,) * 9}, ["first 10 losses as before"]),
        ({"curve": (*SEEN.curve[:19], 0.27)}, ["loss curve as before"]),
        ({"curve": (0.0,) * 20}, ["bumps of the loss curve", "loss curve as before"]),
        ({"gradient_error": 2e-6}, ["error of the gradients"]),
        ({"gradient_error": math.nan}, ["error of the gradients"]),
        ({"identity_error": 1e-9}, ["error of the identities"]),
        ({"repeats": False}, ["repetition"]),
        ({"data_sha256": "e" * 64}, ["bits of the data"]),
        ({"bits_sha256": "e" * 64}, ["bits of the training"]),
        ({"images_per_gflop": 200 / 1.3}, ["images per 10⁹ operations"]),
    ],
)
def test_each_check_catches_its_own(change: dict, names: list[str]):
    assert short(replace(SEEN, **change)) == names


@pytest.mark.parametrize(
    "change",
    [{"accuracy": 1.0}, {"loss": 0.01}, {"images_per_gflop": 1000.0}, {"images_per_gflop": 170.0}],
)
def test_better_and_a_little_slower_pass(change: dict):
    assert short(replace(SEEN, **change)) == []


def test_on_another_machine_bits_are_not_compared_and_speed_counts_less():
    other = {**HERE, "processor": "two"}
    assert short(replace(SEEN, bits_sha256="e" * 64, images_per_gflop=101.0), here=other) == []
    assert short(replace(SEEN, images_per_gflop=99.0), here=other) != []
    checks = regress.compare(Config(), SEEN, BASELINE, other)
    skipped = [check for check in checks if check.passed is None]
    assert [check.name for check in skipped] == ["bits of the data", "bits of the training"]
    assert all("other processor" in check.allowed for check in skipped)
    assert "not compared" in regress.Verdict(checks, SEEN, other, 1.0).to_table()
    assert "other processor" in checks[-1].allowed


def test_other_kernels_of_openblas_are_another_machine(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    here = regress.machine()
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    assert {key for key, value in regress.machine().items() if here[key] != value} == {"blas"}


def test_on_a_busy_machine_speed_counts_less():
    """The baseline may come from one, and is no excuse for a quiet one."""
    assert short(replace(SEEN, images_per_gflop=142.0, waited=0.4)) == []
    assert short(replace(SEEN, images_per_gflop=138.0, waited=0.4)) != []
    assert short(replace(SEEN, images_per_gflop=140.0, waited=0.1)) != []
    busy = replace(BASELINE, seen=replace(SEEN, waited=0.9))
    assert regress.fast_enough(busy, HERE) == regress.fast_enough(BASELINE, HERE)


def test_another_python_leaves_the_limit_on_speed_as_it_is():
    other = {**HERE, "python": "3.14"}
    assert short(replace(SEEN, images_per_gflop=150.0), here=other) != []


def test_a_changed_configuration_is_named():
    config = Config().with_values({"optimizer.lr": 0.025, "output.dir": "elsewhere"})
    (check, *_) = regress.compare(config, SEEN, BASELINE, HERE)
    assert (check.passed, check.seen) == (False, "optimizer.lr")


# --- Measuring ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def split() -> Split:
    return Split(*bars(300, seed=1), ("top", "middle", "bottom"))


@pytest.fixture(scope="module")
def config() -> Config:
    return Config().with_values(TINY)


@pytest.fixture(scope="module")
def baseline(config: Config, split: Split) -> regress.Baseline:
    verdict = regress.run_gate(config, split, LIMITS)
    assert verdict.short == []
    assert verdict.seen is not None
    return regress.Baseline(config, verdict.machine, verdict.seen, LIMITS)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("regress_check", str(SCRIPTS / "regress-check"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.dont_write_bytecode", True)
        patch.setitem(sys.modules, loader.name, module)  # dataclasses look their module up
        loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sound(script, tmp_path_factory):
    """A gate as a command, and the baseline that sound code made."""
    place = tmp_path_factory.mktemp("sound")
    keys = {**write_bars(place), **TINY, "train.epochs": 10, "optimizer.lr": 0.003}
    (place / "tiny.yaml").write_text(nested(keys), encoding="utf-8")
    gate, baseline = script.Gate(place / "tiny.yaml", None), place / "baseline.json"
    regress.write_baseline(baseline, replace(BASELINE, allowed=LIMITS))
    assert gate(baseline, "--update").short == []
    return gate, baseline


def test_sound_code_passes_its_own_baseline(config, split, baseline):
    assert regress.run_gate(config, split, baseline).short == []


def test_what_is_seen_is_what_training_does(config, split, baseline):
    seen = baseline.seen
    assert (len(seen.early), len(seen.curve), seen.repeats) == (10, 20, True)
    assert seen.early[0] == pytest.approx(math.log(3), abs=2)
    steps = 3 * math.ceil(240 / 16)
    assert steps == 45  # the curve's first five pieces are of three steps, the others of two
    assert np.mean(seen.early[:3]) == pytest.approx(seen.curve[0])
    assert np.mean(seen.early[3:6]) == pytest.approx(seen.curve[1])
    assert seen.images_per_gflop == pytest.approx(seen.images_per_second / seen.sgemm_gflops)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("learning rate halved", "first 10 losses as before"),
        ("kernels transposed in the forward pass", "error of the gradients"),
        ("bias gradient of the dense layers dropped", "error of the gradients"),
        ("running average stale after 100 steps", "loss as before"),
        ("running average a step late", "bits of the training"),
    ],
)
def test_faults_in_the_code_are_caught(fault, name, script, sound, tmp_path):
    gate, baseline = sound
    code = script.with_fault(script.FAULTS[fault], tmp_path)
    assert name in gate(baseline, code=code).short


def test_every_fault_fits_the_code(script, tmp_path):
    for fault in script.FAULTS.values():
        script.with_fault(fault, tmp_path)


def test_a_slow_down_is_measured(config, split, monkeypatch):
    """Thirty per cent more a step, by a clock of our own, which no machine slows down."""
    step, now = Trainer._step, 0.0

    def clock() -> float:
        nonlocal now
        now += 1e-6  # a product takes this long, from one look at the clock to the next
        return now

    def speed(seconds_a_step: float) -> float:
        def timed(self, batch):
            nonlocal now
            now += seconds_a_step
            return step(self, batch)

        monkeypatch.setattr(Trainer, "_step", timed)
        return regress._train(config, split).speed

    monkeypatch.setattr(regress, "own_seconds", clock)
    assert speed(1.3) == pytest.approx(speed(1.0) / 1.3, rel=1e-5)


def test_the_clock_runs_while_a_thread_sleeps():
    start = regress.own_seconds()
    time.sleep(0.05)
    assert regress.own_seconds() - start >= 0.05


def test_the_clock_stands_still_while_others_have_the_core():
    if not regress.WAITED.exists():
        pytest.skip("this system does not say how long a thread waited for a core")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # the thread's, and what it starts has it too
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        for _ in range(5):  # what stops the whole machine counts as work, but not every time
            wall, own, work = time.perf_counter(), regress.own_seconds(), time.thread_time()
            while time.perf_counter() < wall + 5 and time.thread_time() < work + 0.2:
                pass
            wall, own, work = (
                time.perf_counter() - wall,
                regress.own_seconds() - own,
                time.thread_time() - work,
            )
            if own < 1.2 * work + 0.02 and wall > 1.5 * own:
                break
    finally:
        for other in others:
            other.kill()
            other.wait()
        os.sched_setaffinity(0, cores)
    assert 0.99 * work < own < 1.2 * work + 0.02
    assert wall > 1.5 * own


def test_a_slow_run_is_repeated_before_it_is_believed(config, split, monkeypatch):
    runs = []
    train = regress._train
    monkeypatch.setattr(regress, "_train", lambda *a: runs.append(train(*a)) or runs[-1])
    regress.measure(config, split, fast_enough=0.0)
    assert len(runs) == 2
    seen = regress.measure(config, split, fast_enough=math.inf)
    assert len(runs) == 2 + regress.MAX_SPEED_RUNS
    assert seen.images_per_gflop == max(run.speed for run in runs[2:])


def test_divergence_falls_short_in_one_line(config, split, baseline, monkeypatch):
    monkeypatch.setattr("lenet.nn.losses.SoftmaxCrossEntropy.forward", lambda *a: math.nan)
    monkeypatch.setattr(
        "lenet.nn.losses.SoftmaxCrossEntropy.backward", lambda self: np.zeros((3, 16))
    )
    verdict = regress.run_gate(config, split, baseline)
    assert verdict.short == ["training"]
    assert verdict.seen is None
    assert "diverged" in verdict.to_table()


@pytest.mark.parametrize("change", [{"data.validation": 0}, {"train.epochs": 1}])
def test_a_training_that_cannot_be_judged_is_refused(change, config, split):
    with pytest.raises(ConfigError):
        regress.measure(config.with_values(change), split)


# --- Files --------------------------------------------------------------------------------------


def test_a_baseline_is_read_as_it_was_written(tmp_path):
    regress.write_baseline(tmp_path / "b.json", BASELINE)
    assert regress.read_baseline(tmp_path / "b.json") == BASELINE


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("schema_version",), 2, "this version reads 1"),
        (("seen", "accuracy"), "high", "seen.accuracy"),
        (("seen", "curve"), 3, "seen.curve"),
        (("allowed", "bump"), None, "allowed.bump"),
        (("config", "optimizer", "lr"), -1, "optimizer.lr"),
        (("seen",), [], "not a baseline"),
        (("machine",), 3, "not a baseline"),
    ],
)
def test_a_baseline_that_is_none_is_refused(path, value, words, tmp_path):
    file = tmp_path / "b.json"
    regress.write_baseline(file, BASELINE)
    values = json.loads(file.read_text())
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(values))
    with pytest.raises(DataError, match=words) as caught:
        regress.read_baseline(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", "[" * 100_000])
def test_nonsense_is_no_baseline(text, tmp_path):
    file = tmp_path / "b.json"
    file.write_text(text)
    with pytest.raises(DataError):
        regress.read_baseline(file)


def test_the_verdict_reads_the_same_in_every_form():
    other = {**HERE, "processor": "two | three"}
    checks = regress.compare(Config(), replace(SEEN, loss=0.4), BASELINE, other)
    verdict = regress.Verdict(checks, SEEN, other, 1.5)
    assert verdict.short == ["loss as before"]

    suite = ElementTree.fromstring(verdict.to_junit())
    assert suite.attrib["tests"] == str(len(suite.findall("testcase"))) == str(len(checks))
    assert (suite.attrib["failures"], suite.attrib["skipped"]) == ("1", "2")
    failed = [case.attrib["name"] for case in suite if case.find("failure") is not None]
    assert failed == verdict.short

    values = json.loads(verdict.to_json())
    assert values["passed"] is False
    assert [c["name"] for c in values["checks"] if c["passed"] is False] == verdict.short

    lines = verdict.to_markdown().splitlines()
    assert lines[0] == f"### lenet regress: 1 of {len(checks)} checks fall short"
    assert len({line.replace(r"\|", "").count("|") for line in lines[2:]}) == 1
    (row,) = [line for line in verdict.to_table().splitlines() if "FALLS SHORT" in line]
    assert row.split("  ")[0] == "loss as before"


# --- The command --------------------------------------------------------------------------------


def nested(values: dict) -> str:
    """Settings of dotted keys as YAML."""
    sections: dict = {}
    for key, value in values.items():
        section, name = key.split(".")
        sections.setdefault(section, {})[name] = value
    return json.dumps(sections)  # which YAML includes


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["regress", *map(str, arguments)])
    return int(caught.value.code or 0)


def test_the_command_from_first_baseline_to_failure(tmp_path, capsys):
    keys = {**write_bars(tmp_path), **TINY}
    options = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    baseline = tmp_path / "baseline.json"
    assert run(*options, "--baseline", baseline) == 3
    assert "--update" in capsys.readouterr().err
    assert not baseline.exists()
    regress.write_baseline(baseline, replace(BASELINE, allowed=LIMITS))

    assert run(*options, "--baseline", baseline, "--update") == 0
    assert regress.read_baseline(baseline).allowed == LIMITS  # they are the owner's
    capsys.readouterr()

    forms = ("--junit", tmp_path / "o" / "out.xml", "--markdown", tmp_path / "out.md", "--json")
    assert run(*options, "--baseline", baseline, *forms) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert ElementTree.parse(tmp_path / "o" / "out.xml").getroot().attrib["failures"] == "0"
    assert "all is well" in (tmp_path / "out.md").read_text(encoding="utf-8")

    before = baseline.read_bytes()
    assert run(*options, "--baseline", baseline, "--set", "optimizer.lr=0.005") == 5
    out, err = capsys.readouterr()
    assert "FALLS SHORT" in out
    assert "configuration" in err
    assert err.count("\n") == 1
    assert baseline.read_bytes() == before


def test_a_baseline_is_not_updated_with_what_falls_short(tmp_path, capsys):
    keys = {**write_bars(tmp_path), **TINY}
    options = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    baseline = tmp_path / "baseline.json"
    regress.write_baseline(baseline, replace(BASELINE, allowed=replace(LIMITS, loss=1e-9)))
    before = baseline.read_bytes()
    assert run(*options, "--baseline", baseline, "--update") == 5
    assert baseline.read_bytes() == before
