"""The training loop, in one process and in several: what it computes, and how it ends."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from runs import STATEFUL, StopAfter, assert_same_state, checkpoint, children, log, timeless
from tiny import CLASSES, bars, write_bars

from lenet.config.schema import Config, to_yaml
from lenet.data.formats.idx import read_idx
from lenet.errors import ConfigError, DataError, GateFailed
from lenet.evaluation.ensemble import evaluate_checkpoints
from lenet.models.lenet5 import lenet5
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.nn.scores import SCORES
from lenet.train.build import build_trainer
from lenet.train.events import Callback, EpochEvent, Snapshot, StepEvent
from lenet.train.log import best_epoch
from lenet.train.run import TrainingResult, run_training

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> dict[str, object]:
    return write_bars(tmp_path_factory.mktemp("bars"))


@pytest.fixture
def configured(keys, tmp_path):
    """Make a configuration of the tiny data set; the run is in ``tmp_path / "run"``."""

    def make(**changes: object) -> Config:
        given = {key.replace("__", "."): value for key, value in changes.items()}
        return Config().with_values({**keys, "output.dir": str(tmp_path / "run"), **given})

    return make


class Recorder(Callback):
    def __init__(self) -> None:
        self.steps: list[StepEvent] = []
        self.epochs: list[EpochEvent] = []
        self.best: list[bool] = []

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:
        self.steps.append(event)

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        self.epochs.append(event)
        self.best.append(best)


def run_in_processes(config: Config, workers: int, *options: str, **environment: str):
    """Run the command line as a user would, with several processes."""
    where = Path(config.output.dir)
    where.parent.mkdir(exist_ok=True)
    file = where.parent / f"{where.name}.yaml"
    file.write_text(to_yaml(config))
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "error", "-m", "lenet", "train"),
            *("--config", file, "--workers", str(workers), *options),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def finish(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return err


# --- What a step computes -----------------------------------------------------------------------


def test_two_steps_are_the_formulas(configured):
    """Two steps of momentum, from a plain network in float64 and the update written out."""
    config = configured(
        train__epochs=1, train__batch_size=120, train__precision="float64",
        optimizer__name="sgd", optimizer__lr=0.02, optimizer__weight_decay=0.01,
        schedule__name="constant", model__activation="tanh",
    )  # fmt: skip
    images, labels = read_idx(config.data.train_images), read_idx(config.data.train_labels)
    trainer = build_trainer(config, images, labels)

    network = lenet5(fused=False, dtype=np.float64, classes=CLASSES, activation="tanh")
    w = network.parameters
    w[:] = trainer.parameters
    loss = SoftmaxCrossEntropy(CLASSES)
    velocity = np.zeros_like(w)
    trainer.loader.sliced = False
    for batch in trainer.loader.epoch(0):
        z = network.forward(batch.x.astype(np.float64))
        loss.forward(z, batch.labels)
        network.backward(loss.backward())
        gradient = network.gradients + 0.01 * w * network.decays
        velocity = 0.9 * velocity + gradient
        w -= 0.02 * velocity

    trainer.loader.sliced = True
    trainer.run()
    assert trainer.progress.step == 2
    np.testing.assert_allclose(trainer.parameters, w, rtol=0, atol=1e-12)


def layers_and_their_images(configured, *layers: dict[str, object], **options: object):
    """Return a configuration of these layers before F2, in float64, and 300 random images."""
    entries = [*layers, {"type": "linear", "units": CLASSES}]
    config = configured(model__layers=entries, model__input=[1, 28, 28], train__precision="float64")
    config = config.with_values({"data.validation": 0, "train.epochs": 1, **options})
    rng = np.random.default_rng(0)
    images, labels = rng.integers(256, size=(300, 28, 28)), rng.integers(CLASSES, size=300)
    return config, images.astype(np.uint8), labels.astype(np.uint8)


def test_a_step_in_slices_is_the_step_of_the_batch(configured):
    """The last batch has another size; what dropout leaves out depends on the image alone."""
    dropout, linear = {"type": "dropout", "rate": 0.3}, {"type": "linear", "units": 5}
    batch = {"train.batch_size": 160, "optimizer.lr": 0.01}
    data = layers_and_their_images(configured, dropout, linear, dropout, **batch)
    sliced, whole = (build_trainer(*data) for _ in range(2))
    whole.loader.sliced = False
    assert [b.labels.size for b in sliced.loader.epoch()] == [40, 40, 40, 40, 35, 35, 35, 35]
    assert sliced.run().step == whole.run().step == 2
    np.testing.assert_allclose(sliced.parameters, whole.parameters, rtol=0, atol=1e-12)
    losses = [trainer.metrics["train_loss"] for trainer in (sliced, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_a_batch_that_is_normalised_is_not_divided(configured):
    normalisation = {"type": "batch_normalization"}
    data = layers_and_their_images(configured, normalisation, **{"train.batch_size": 160})
    assert [b.labels.size for b in build_trainer(*data).loader.epoch()] == [160, 140]


def test_two_hundred_images_are_memorised(configured):
    config = configured(
        data__limit=200, data__validation=0, train__epochs=8, optimizer__weight_decay=0.0
    )
    recorder = Recorder()
    run_training(config, callbacks=[recorder])
    losses = [event.train_loss for event in recorder.epochs]
    assert losses[-1] < 0.01 < losses[0]
    assert recorder.epochs[-1].train_accuracy == 1


def test_events_report_the_run(configured):
    config = configured()
    recorder = Recorder()
    outcome = run_training(config, callbacks=[recorder])
    assert [e.step for e in recorder.steps] == list(range(1, 17))
    assert [e.epoch for e in recorder.steps] == [1] * 8 + [2] * 8
    assert [e.images for e in recorder.steps[:8]] == [32, 64, 96, 128, 160, 192, 224, 240]
    assert [e.step for e in recorder.epochs] == [8, 16]
    assert recorder.epochs[-1].train_loss == recorder.steps[-1].loss
    assert (outcome.last, outcome.workers, outcome.signal) == (recorder.epochs[-1], 1, None)


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(configured, tmp_path):
    a, b, c = (
        configured(output__dir=str(tmp_path / name), seed=seed)
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    for config in (a, b, c):
        run_training(config)
    assert_same_state(checkpoint(a), checkpoint(b))
    assert timeless(log(a)) == timeless(log(b))
    assert not np.array_equal(
        checkpoint(a).parameters["C1.weight"], checkpoint(c).parameters["C1.weight"]
    )


# --- Validation ---------------------------------------------------------------------------------


def test_the_split_depends_on_its_own_seed_only(configured):
    images, labels = np.zeros((300, 28, 28), np.uint8), np.zeros(300, np.uint8)

    def held(**changes: object) -> list[int]:
        trainer = build_trainer(configured(**changes), images, labels)
        assert trainer.validation.rows is not None
        return trainer.validation.rows.tolist()

    first = held()
    assert len(set(first)) == 60
    assert held(seed=9, train__batch_size=16, model__units=[20, 10]) == first
    assert held(data__validation_seed=1) != first


def test_best_is_chosen_on_validation_without_the_test_set(configured, tmp_path):
    config = configured(train__epochs=4, data__test_images=str(tmp_path / "not there"))
    recorder = Recorder()
    with pytest.warns(UserWarning, match=r"^no usable test images: .*not there: "):
        outcome = run_training(config, callbacks=[recorder])
    scores = [(e.val_accuracy, -(e.val_loss or 0)) for e in recorder.epochs]
    best = 1 + scores.index(max(scores))
    assert outcome.best == recorder.epochs[best - 1]
    assert checkpoint(config, "best.npz").epoch == best
    assert checkpoint(config).epoch == 4


def by_loops(metric, result):
    """A score from the confusion matrix, class by class."""
    if metric == "loss":
        return result.loss
    confusion = result.confusion.tolist()
    recalls, f1 = [], []
    for k, row in enumerate(confusion):
        if sum(row):
            recalls.append(row[k] / sum(row))
            f1.append(2 * row[k] / (sum(row) + sum(other[k] for other in confusion)))
    if metric == "accuracy":
        return sum(row[k] for k, row in enumerate(confusion)) / result.count
    scores = recalls if metric == "balanced_accuracy" else f1
    return sum(scores) / len(scores)


@pytest.mark.parametrize("metric", SCORES)
def test_the_best_epoch_by_any_metric(configured, metric):
    """At this rate the validation result goes up and down, and the metrics differ."""
    config = configured(train__epochs=5, train__best_metric=metric, optimizer__lr=0.08)
    recorder = Recorder()
    outcome = run_training(config, callbacks=[recorder])
    sign = -1 if metric == "loss" else 1
    ranks = [(sign * e.val_score, -e.val_loss) for e in recorder.epochs]
    assert outcome.best == recorder.epochs[ranks.index(max(ranks))]
    assert best_epoch(recorder.epochs, metric) == outcome.best
    result, _ = evaluate_checkpoints([checkpoint(config, "best.npz")], "validation")
    assert outcome.best.val_score == pytest.approx(by_loops(metric, result), rel=1e-6)


def test_a_run_of_an_earlier_version_keeps_its_best_epoch(configured):
    """Its progress has the number of mistakes in place of the score."""
    trainer = build_trainer(configured(), *bars(200, seed=1))
    before = asdict(trainer.progress) | {"best_mistakes": 12, "best_loss": 0.5, "best_epoch": 3}
    del before["best_score"]
    restored = trainer._checked_progress(before)
    assert (restored.best_score, restored.best_loss) == (48 / 60, 0.5)
    assert trainer._checked_progress(before | {"best_mistakes": 2**53}).best_score < -1e299


def test_figures_of_validation_are_those_of_the_checkpoint(configured):
    config = configured()
    outcome = run_training(config)
    result, names = evaluate_checkpoints([checkpoint(config, "best.npz")], "validation")
    assert outcome.best is not None
    assert result.accuracy == outcome.best.val_accuracy
    assert result.loss == pytest.approx(outcome.best.val_loss)
    assert len(names) == CLASSES


def test_without_validation_the_last_epoch_is_the_best(configured):
    config = configured(data__validation=0)
    outcome = run_training(config)
    assert outcome.last == outcome.best
    assert (outcome.last.val_loss, outcome.last.val_accuracy) == (None, None)
    assert checkpoint(config, "best.npz").epoch == 2


def test_early_stopping_waits_for_its_patience(configured):
    config = configured(
        train__epochs=40, train__patience=3, optimizer__lr=0.1, schedule__name="constant"
    )
    recorder = Recorder()
    run_training(config, callbacks=[recorder])
    last_best = max(i for i, best in enumerate(recorder.best, start=1) if best)
    assert len(recorder.epochs) == last_best + 3 < 40


def test_averaged_weights_are_evaluated_and_saved(configured):
    config = configured(train__average=0.9)
    recorder = Recorder()
    run_training(config, callbacks=[recorder])
    last = checkpoint(config)
    saved = np.concatenate([p.ravel() for p in last.parameters.values()])
    assert not np.array_equal(saved, last.training.parameters)
    result, _ = evaluate_checkpoints([last], "validation")
    assert result.loss == pytest.approx(recorder.epochs[-1].val_loss)


def test_smaller_batch_at_the_end_counts_by_its_images(configured):
    """The mean loss of an epoch is over images, not over batches."""
    config = configured(
        train__batch_size=200, train__epochs=1, optimizer__lr=1e-12, train__precision="float64"
    )
    outcome = run_training(config)
    result, _ = evaluate_checkpoints([checkpoint(config)], "train")
    assert result.count == 240
    assert outcome.last.train_loss == pytest.approx(result.loss, rel=1e-6)


# --- Resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stop",
    [{"epoch": 1}, {"step": 11}, {"step": 15}, {"step": 23}],
    ids=["first step of an epoch", "middle", "last step of an epoch", "last step of all"],
)
@pytest.mark.parametrize("optimizer", ["nesterov", "adamw", "muon"])
def test_resumed_run_has_the_bits_of_an_uninterrupted_one(configured, tmp_path, stop, optimizer):
    options = {**STATEFUL, "optimizer__name": optimizer, "optimizer__lr": 0.01}
    whole = configured(**options, output__dir=str(tmp_path / "whole"))
    run_training(whole)
    parts = configured(**options)
    stopped = run_training(parts, callbacks=[StopAfter(**stop)])
    assert stopped.signal == signal.SIGTERM
    outcome = run_training(parts, resume=True)
    assert outcome.signal is None
    assert_same_state(checkpoint(whole), checkpoint(parts))
    assert checkpoint(whole, "best.npz").epoch == checkpoint(parts, "best.npz").epoch
    assert timeless(log(whole)) == timeless(log(parts))


def test_resumed_network_with_layers_that_have_a_state(configured, tmp_path):
    layers = [
        {"type": "convolution", "filters": 2, "kernel": 5, "stride": 3},
        {"type": "batch_normalization"},
        {"type": "dropout", "rate": 0.3},
        {"type": "linear", "units": CLASSES},
    ]
    options = {"model__layers": layers, "train__epochs": 3}
    whole = configured(**options, output__dir=str(tmp_path / "whole"))
    run_training(whole)
    parts = configured(**options)
    run_training(parts, callbacks=[StopAfter(step=11)])
    run_training(parts, resume=True)
    assert checkpoint(whole).state
    assert_same_state(checkpoint(whole), checkpoint(parts))
    assert timeless(log(whole)) == timeless(log(parts))


def test_resume_refuses_another_configuration(configured):
    config = configured()
    run_training(config)
    changed = replace(config, seed=1)
    with pytest.raises(Exception, match="seed"):
        run_training(changed, resume=True)


# --- How it ends --------------------------------------------------------------------------------


def test_divergence_stops_at_its_step_and_leaves_no_bad_checkpoint(configured):
    config = configured(optimizer__lr=900.0, schedule__name="constant", train__epochs=50)
    recorder = Recorder()
    with pytest.raises(GateFailed) as caught:
        run_training(config, callbacks=[recorder])
    step = len(recorder.steps) + 1
    assert f"at step {step} with learning rate 900:" in str(caught.value)
    assert caught.value.exit_code == 5
    for name in ("best.npz", "last.npz"):
        if (Path(config.output.dir) / name).exists():
            saved = checkpoint(config, name)
            assert all(np.isfinite(p).all() for p in saved.parameters.values())


def test_a_batch_larger_than_the_training_set_is_refused(configured):
    with pytest.raises(ConfigError, match=r"240 images.*at most 240"):
        run_training(configured(train__batch_size=241))


def test_signal_handlers_are_put_back(configured):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run_training(configured(train__epochs=1))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# --- Several processes --------------------------------------------------------------------------


def test_one_worker_and_two_agree_after_a_step_of_an_uneven_batch(configured, tmp_path):
    """65 images in two parts of 32 and 33: weighted right, the step is that of one worker."""
    options = {
        "data__limit": 66,
        "data__validation": 1,
        "train__batch_size": 65,
        "train__epochs": 1,
        "train__precision": "float64",
        "train__class_weights": "balanced",
    }
    one, two = (configured(**options, output__dir=str(tmp_path / name)) for name in ("1", "2"))
    run_training(one)
    finish(run_in_processes(two, 2))
    a, b = checkpoint(one), checkpoint(two)
    assert (a.step, b.step) == (1, 1)
    for name in a.parameters:
        np.testing.assert_allclose(b.parameters[name], a.parameters[name], rtol=0, atol=1e-6)
        np.testing.assert_allclose(b.parameters[name], a.parameters[name], rtol=1e-9, atol=1e-12)
    assert log(two)[0]["train_loss"] == pytest.approx(log(one)[0]["train_loss"], rel=1e-12)
    assert log(two)[0]["val_loss"] == pytest.approx(log(one)[0]["val_loss"], rel=1e-9)


@pytest.mark.parametrize("optimizer", ["nesterov", "muon"])
def test_two_workers_give_the_same_bits_every_time_and_after_a_stop(
    configured, tmp_path, optimizer
):
    options = {**STATEFUL, "optimizer__name": optimizer}
    again, twice, parts = (
        configured(**options, output__dir=str(tmp_path / name)) for name in ("a", "b", "c")
    )
    processes = [run_in_processes(config, 2) for config in (again, twice)]
    for process in processes:
        finish(process)
    assert_same_state(checkpoint(again), checkpoint(twice))

    script = (
        "from pathlib import Path\n"
        "from runs import StopAfter\n"
        "from lenet.config.reader import load_config\n"
        "from lenet.train.run import run_training\n"
        "if __name__ == '__main__':\n"
        f"    config = load_config(Path({str(tmp_path / 'c.yaml')!r}), ['train.workers=2'])\n"
        "    outcome = run_training(config, callbacks=[StopAfter(step=11)])\n"
        "    assert outcome.signal == 15, outcome\n"
    )
    (tmp_path / "c.yaml").write_text(to_yaml(parts))
    (tmp_path / "stop.py").write_text(script)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
    subprocess.run(
        [sys.executable, str(tmp_path / "stop.py")],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        timeout=60,
    )
    assert checkpoint(parts).step == 12
    finish(run_in_processes(parts, 2, "--resume"))
    assert_same_state(checkpoint(again), checkpoint(parts))
    assert timeless(log(again)) == timeless(log(parts))


def test_an_error_travels_whole_from_a_worker_to_the_first_process():
    error = GateFailed("diverged", remedy="go slower", file="run", key="optimizer.lr")
    travelled = pickle.loads(pickle.dumps(error))
    assert (type(travelled), str(travelled)) == (
        GateFailed,
        "run: optimizer.lr: diverged; go slower",
    )


def test_divergence_in_workers_is_one_line_and_exit_5(configured):
    config = configured(optimizer__lr=900.0, schedule__name="constant", train__epochs=50)
    process = run_in_processes(config, 2, "--quiet")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (5, "", 1)
    assert err.startswith("lenet: error: optimizer.lr: the loss is ")


@contextmanager
def endless(config: Config) -> Iterator[subprocess.Popen[str]]:
    """A run of two workers in the middle of its work; over at the end, whatever happens."""
    endless = config.with_values({"train.epochs": 100_000})
    with run_in_processes(endless, 2, "--quiet") as process:
        try:
            while not (Path(config.output.dir) / "last.npz").exists():
                assert process.poll() is None
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def shared_memory(pid: int) -> list[str]:
    """The segments that a process has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in maps if "/dev/shm/lenet-" in line]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
@pytest.mark.parametrize("victim", ["worker", "first process", "all"])
def test_a_killed_process_takes_the_others_with_it(configured, victim):
    """No orphan, nothing left in shared memory, and a line where there is someone to print it."""
    config = configured()
    with endless(config) as process:
        family = children(process.pid)
        workers = [
            pid for pid in family
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]  # fmt: skip
        assert len(workers) == 1
        assert shared_memory(workers[0])
        killed = time.monotonic()
        victims = {"worker": workers, "first process": [process.pid]}
        for pid in victims.get(victim, [*family, process.pid]):
            os.kill(pid, signal.SIGKILL)
        _, err = process.communicate(timeout=20)
    if victim == "worker":
        assert process.returncode == 4
        assert err.count("\n") == 1
        assert err.startswith(f"lenet: error: worker 1 (process {workers[0]}) died, killed by")
        assert "--resume" in err
    while any(Path(f"/proc/{pid}").exists() for pid in family) and time.monotonic() < killed + 8:
        time.sleep(0.05)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()], "an orphan"
    assert not list(Path("/dev/shm").glob(f"lenet-{process.pid}-*"))
    checkpoint(config)  # the last one is whole


# --- Real digits --------------------------------------------------------------------------------


def test_one_epoch_of_a_small_run_on_mnist(mnist_dir, tmp_path):
    """One pass over 18,000 images: above 96 % on the test set."""
    config = Config().with_values(
        {
            "data.name": "mnist",
            "data.dir": str(mnist_dir),
            "data.limit": 20_000,
            "data.validation": 2_000,
            "train.epochs": 1,
            "train.batch_size": 32,
            "train.workers": 1,
            "output.dir": str(tmp_path),
        }
    )
    outcome: TrainingResult = run_training(config)
    result, _ = evaluate_checkpoints([checkpoint(config, "best.npz")], "test")
    assert outcome.best is not None
    assert result.count == 10_000
    assert result.accuracy > 0.96
    assert outcome.best.val_accuracy == pytest.approx(result.accuracy, abs=0.02)


def test_what_a_checkpoint_cannot_store_is_refused_before_training(configured, tmp_path):
    config = configured(data__class_names=["a", "b", "c" * 201])
    steps = Recorder()
    with pytest.raises(DataError, match="class 2 has 201 characters"):
        run_training(config, callbacks=[steps])
    assert not steps.steps
    assert not [path for path in (tmp_path / "run").iterdir() if path.name != ".lock"]
