"""Steps of the trainer against PyTorch's: the same network, rule, decay, schedule and batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny import CLASSES, bars

from lenet.config.schema import Config
from lenet.train.build import build_trainer

torch = pytest.importorskip("torch", reason="PyTorch is not here to compare steps with")
functional = torch.nn.functional


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other take longer than these small steps."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


BATCH, EPOCHS, LR, MOMENTUM, DECAY, SMOOTHING = 32, 2, 0.05, 0.9, 0.01, 0.1
FUNCTIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "lecun_tanh": lambda x: 1.7159 * torch.tanh(2 / 3 * x),
}
POOLINGS = {"max": functional.max_pool2d, "average": functional.avg_pool2d}


def trainer_for(**settings):
    """A trainer of 160 images, 5 batches an epoch, no validation."""
    values = {
        "data.validation": 0,
        "model.classes": CLASSES,
        "train.epochs": EPOCHS,
        "train.batch_size": BATCH,
        "train.label_smoothing": SMOOTHING,
        "optimizer.name": "nesterov",
        "optimizer.lr": LR,
        "optimizer.momentum": MOMENTUM,
        "optimizer.weight_decay": DECAY,
        "schedule.name": "cosine",
        "schedule.warmup": 0.0,
        "schedule.final": 0.0,
    }
    config = Config().with_values(values | settings)
    images, labels = bars(5 * BATCH, seed=0)
    trainer = build_trainer(config, images, labels)
    biases = ~trainer.network.decays
    trainer.parameters[biases] = np.random.default_rng(1).normal(0, 0.1, int(biases.sum()))
    return trainer


class Theirs:
    """LeNet-5 and its training, written out with PyTorch."""

    def __init__(self, trainer, pooling, activation):
        self.pool, self.function = POOLINGS[pooling], FUNCTIONS[activation]
        self.parameters = [
            torch.tensor(p.value, requires_grad=True) for p in trainer.network.parameter_list
        ]
        self.rule = torch.optim.SGD(
            [
                {"params": self.parameters[0::2], "weight_decay": DECAY},
                {"params": self.parameters[1::2], "weight_decay": 0},
            ],
            LR,
            momentum=MOMENTUM,
            nesterov=True,
        )
        self.steps = 0

    def step(self, batch):
        w1, b1, w3, b3, w5, b5, w6, b6, w7, b7 = self.parameters
        f = self.function
        x = torch.tensor(np.ascontiguousarray(batch.x.transpose(3, 0, 1, 2)))
        x = self.pool(f(functional.conv2d(x, w1, b1)), 2)
        x = self.pool(f(functional.conv2d(x, w3, b3)), 2)
        x = f(functional.conv2d(x, w5, b5)).flatten(1)
        x = functional.linear(f(functional.linear(x, w6, b6)), w7, b7)
        labels = torch.tensor(batch.labels.astype(np.int64))
        self.rule.zero_grad()
        functional.cross_entropy(x, labels, label_smoothing=SMOOTHING).backward()
        for group in self.rule.param_groups:
            group["lr"] = LR * (1 + math.cos(math.pi * self.steps / (5 * EPOCHS))) / 2
        self.rule.step()
        self.steps += 1

    def vector(self):
        return np.concatenate([p.detach().numpy().ravel() for p in self.parameters])


def assert_same_steps(trainer, theirs, steps, tolerance):
    """Compare the parameters after every step, relative to the largest of them."""
    for done in range(steps):
        epoch, first = divmod(done, 5)
        batch = next(trainer.loader.epoch(epoch, first=first))
        theirs.step(batch)
        trainer._add_gradients(batch)
        trainer._step(batch.size)
        expected = theirs.vector()
        largest = np.abs(expected).max()
        assert_allclose(trainer.parameters, expected, rtol=0, atol=tolerance * largest)
    assert not np.allclose(trainer.parameters, trainer_for().parameters)  # they have moved


@pytest.mark.parametrize("fuse", ["auto", "off"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize(
    ("precision", "steps", "tolerance"),
    [("float64", 1, 1e-10), ("float32", 1, 1e-5), ("float64", 10, 1e-8)],
)
def test_steps(fuse, pooling, activation, precision, steps, tolerance):
    trainer = trainer_for(
        **{
            "model.fuse": fuse,
            "model.pooling": pooling,
            "model.activation": activation,
            "train.precision": precision,
        }
    )
    assert_same_steps(trainer, Theirs(trainer, pooling, activation), steps, tolerance)
