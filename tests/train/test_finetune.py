"""Training from a checkpoint: what is taken over, what is new, rates, frozen layers, resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from runs import StopAfter, assert_same_state, checkpoint

from lenet.checkpoint.restore import read_checkpoint
from lenet.config.reader import load_config
from lenet.config.schema import Config
from lenet.errors import ConfigError
from lenet.nn.network import Network
from lenet.nn.normalisation import BatchNormalization
from lenet.train.run import run_training


def outlines(count: int, seed: int, *, light: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Circles, squares, crosses and bars of many sizes, as outlines."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:28j, -1:1:28j]
    labels, images = np.arange(count) % 4, []
    for label in labels:
        u, v = x - rng.uniform(-0.2, 0.2), y - rng.uniform(-0.2, 0.2)
        size, width = rng.uniform(0.4, 0.75), rng.uniform(0.07, 0.13)
        near, far = np.minimum(abs(u), abs(v)), np.maximum(abs(u), abs(v))
        ink = (
            abs(np.hypot(u, v) - size) < width,
            abs(far - size) < width,
            (near < width) & (far < size),
            (abs(u) < width) & (abs(v) < size),
        )[label]
        images.append(np.clip(ink * rng.uniform(150, 255) + rng.normal(0, 5, x.shape), 0, 255))
    drawn = np.array(images).astype(np.uint8)
    return 255 - drawn if light else drawn, labels


def write(path: Path, training: tuple[np.ndarray, np.ndarray], test=None) -> Path:
    test = test or training
    np.savez(path, x_train=training[0], y_train=training[1], x_test=test[0], y_test=test[1])
    return path


def own(path: Path, *overrides: str) -> Config:
    keys = ("data.name=npz", f"data.path={path}", f"output.dir={path.with_suffix('')}")
    return load_config(None, [*keys, "train.workers=1", *overrides])


def lines_of(config: Config, **options: object) -> list[str]:
    lines: list[str] = []

    class Lines(StopAfter):
        def on_preparation(self, what: str) -> None:
            lines.append(what)

    run_training(config, callbacks=[Lines()], warn=lambda _: None, **options)
    return lines


@pytest.mark.parametrize("light", [False, True])
def test_forty_pictures_of_four_shapes_from_the_pretrained_model(lenet, tmp_path, light):
    training, test = outlines(40, 0, light=light), outlines(200, 1, light=light)
    path = write(tmp_path / "shapes.npz", training, test)
    ended = lenet(
        "train", "--from", "pretrained", "--data", path, "--workers", 1,
        "--set", "train.epochs=60", "--output", tmp_path / "run",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "C1, C3, C5 and F6 are taken over, with 0.2 of the learning rate; new: F7" in ended.err
    assert '"accuracy": 0.99' in (
        out := lenet("eval", tmp_path / "run/best.npz", "--json").out
    ) or ('"accuracy": 1.0' in out)


def test_frozen_layers_stay_to_the_bit_and_others_move(tmp_path):
    path = write(tmp_path / "set.npz", outlines(40, 0))
    frozen = "train.freeze=[C1, C3]"
    config = own(path, "train.start=pretrained", frozen, "train.epochs=1", "train.patience=0")
    run_training(config, warn=lambda _: None)
    before, after = read_checkpoint("pretrained").parameters, checkpoint(config).parameters
    for name in before:
        same = np.array_equal(before[name], after[name])
        assert same == name.startswith(("C1.", "C3.")), name


def test_other_channels_renew_the_first_layer_alone(tmp_path):
    images, labels = outlines(40, 0)
    colours = np.stack([images, 255 - images, images // 2], axis=-1)
    config = own(write(tmp_path / "set.npz", (colours, labels)), "train.epochs=1")
    lines = lines_of(config.with_values({"train.start": "pretrained"}))
    assert "C3, C5 and F6 are taken over" in lines[0]
    assert "new: C1 and F7" in lines[0]
    stored = checkpoint(config).config.train.layer_rates
    assert stored == {"C3": 0.2, "C5": 0.2, "F6": 0.2}


def test_more_epochs_after_a_finished_run_take_all_of_it(lenet, tmp_path):
    path = write(tmp_path / "set.npz", outlines(60, 0))
    first = own(path, "train.epochs=2", "model.name=lenet5")
    run_training(first, warn=lambda _: None)
    ended = lenet(
        "train", "--from", tmp_path / "set/best.npz", "--set", "train.epochs=1",
        "--set", "optimizer.lr=1e-9", "--output", tmp_path / "more",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "new: nothing" in ended.err
    before = read_checkpoint(tmp_path / "set/best.npz").parameters
    after = read_checkpoint(tmp_path / "more/best.npz")
    for name, array in before.items():
        np.testing.assert_allclose(after.parameters[name], array, atol=1e-6)
    assert after.config.data.path == str(path)


def test_a_run_from_a_checkpoint_resumes_to_the_bit_with_two_workers(tmp_path):
    path = write(tmp_path / "set.npz", outlines(80, 0))
    keys = ("train.start=pretrained", "train.epochs=4", "train.batch_size=32", "train.freeze=[C1]")
    whole = own(path, *keys, "train.workers=2")
    run_training(whole, warn=lambda _: None)
    cut = own(path, *keys, "train.workers=2", f"output.dir={tmp_path / 'cut'}")
    run_training(cut, callbacks=[StopAfter(epoch=2)], warn=lambda _: None)
    run_training(cut, resume=True, warn=lambda _: None)
    assert_same_state(checkpoint(cut), checkpoint(whole))


def test_a_start_that_does_not_fit_at_all_is_refused(tmp_path):
    images, labels = outlines(40, 0)
    start = own(write(tmp_path / "a.npz", (images, labels)), "train.epochs=1")
    layers = "model.layers=[{type: linear, units: 4}]"
    run_training(
        load_config(None, [f"data.path={tmp_path / 'a.npz'}", "data.name=npz", layers,
                           "model.input=[1, 28, 28]", "train.epochs=1", "train.workers=1",
                           f"output.dir={start.output.dir}"]),
        warn=lambda _: None,
    )  # fmt: skip
    other = own(write(tmp_path / "b.npz", (images[:39], labels[:39] % 3)), "train.epochs=1")
    other = other.with_values({"train.start": f"{start.output.dir}/best.npz"})
    with pytest.raises(ConfigError, match=r"train.start: none of its layers fits"):
        run_training(other, warn=lambda _: None)


def test_an_unknown_layer_to_freeze_is_named(tmp_path):
    config = own(
        write(tmp_path / "set.npz", outlines(40, 0)), "train.epochs=1", "model.name=lenet5"
    )
    with pytest.raises(ConfigError, match=r"train.freeze: there is no layer C9 .*C1, C3"):
        run_training(config.with_values({"train.freeze": ["C9"]}), warn=lambda _: None)


def test_a_frozen_normalisation_uses_its_running_averages():
    network = Network([BatchNormalization("B")], (2, 3, 3))
    network.initialize(np.random.default_rng(0))
    network.set_rates({"B": 0.0})
    x = np.random.default_rng(0).normal(3, 2, (2, 3, 3, 5)).astype(np.float32)
    y = network.forward(x)
    np.testing.assert_allclose(y.reshape(x.shape), x / np.sqrt(1 + 1e-5), rtol=1e-5)
    assert_array_equal(network.state_dict()["B.mean"], 0)
    with network.evaluating():
        pass
    assert not network.layers[0].training
