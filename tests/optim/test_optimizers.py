"""Learning rules, against scalar loops written from the papers, and against PyTorch."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest

from lenet.errors import CheckpointError, ConfigError
from lenet.optim.averaging import Average
from lenet.optim.optimizers import SGD, AdamW, Nesterov, make_optimizer

SIZE = 23
STEPS = 12


def course(dtype=np.float64):
    """Start and gradients of a made-up training."""
    rng = np.random.default_rng(7)
    start = rng.standard_normal(SIZE).astype(dtype)
    return start, rng.standard_normal((STEPS, SIZE)).astype(dtype)


NAMES = ["sgd", "nesterov", "adam", "adamw"]


MU, BETA1, BETA2, EPSILON = 0.9, 0.8, 0.95, 1e-3


DECAYS = np.arange(SIZE) % 5 < 3  # weights and biases in turn, as in a network
RATES = [0.1 / (1 + t) for t in range(STEPS)]


def make(name, weight_decay, dtype=np.float64, **options):
    return make_optimizer(
        name,
        SIZE,
        dtype,
        momentum=MU,
        beta1=BETA1,
        beta2=BETA2,
        epsilon=EPSILON,
        weight_decay=weight_decay,
        decays=DECAYS,
        **options,
    )


def run(optimizer, w, gradients, steps=range(STEPS), parts=(slice(None),)):
    for i in steps:
        for part in parts:
            optimizer.step(w, gradients[i], RATES[i], i + 1, part)
    return w


def sgd(w, gradients, decay):
    velocity = 0.0
    for g, lr in zip(gradients, RATES, strict=True):
        velocity = MU * velocity + g + decay * w
        w = w - lr * velocity
    return w


def nesterov(w, gradients, decay):
    velocity = 0.0
    for g, lr in zip(gradients, RATES, strict=True):
        g = g + decay * w
        velocity = MU * velocity + g
        w = w - lr * (g + MU * velocity)
    return w


def adam(w, gradients, decay, decoupled=0.0):
    m = v = 0.0
    for t, (g, lr) in enumerate(zip(gradients, RATES, strict=True), start=1):
        g = g + decay * w
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g * g
        m_hat = m / (1 - BETA1**t)
        v_hat = v / (1 - BETA2**t)
        w = w - lr * (m_hat / (sqrt(v_hat) + EPSILON) + decoupled * w)
    return w


def adamw(w, gradients, decay):
    return adam(w, gradients, 0.0, decoupled=decay)


PAPERS = {"sgd": sgd, "nesterov": nesterov, "adam": adam, "adamw": adamw}


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("name", NAMES)
def test_the_rule_is_the_papers(name, weight_decay):
    start, gradients = course()
    expected = [
        PAPERS[name](start[i], gradients[:, i], weight_decay if DECAYS[i] else 0.0)
        for i in range(SIZE)
    ]
    w = run(make(name, weight_decay), start.copy(), gradients)
    np.testing.assert_allclose(w, expected, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_float32_and_close(name):
    start, gradients = course(np.float32)
    optimizer = make(name, 0.05, np.float32)
    w = run(optimizer, start.copy(), gradients)
    expected = [
        PAPERS[name](float(start[i]), gradients[:, i].astype(float), 0.05 * DECAYS[i])
        for i in range(SIZE)
    ]
    assert all(vector.dtype == np.float32 for vector in optimizer.state().values())
    np.testing.assert_allclose(w, expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_agrees(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not here to compare with")
    start, gradients = course()
    decay = 0.05
    w = torch.nn.Parameter(torch.tensor(start))
    make_theirs = {
        "sgd": lambda: torch.optim.SGD([w], 1, momentum=MU, weight_decay=decay),
        "nesterov": lambda: torch.optim.SGD([w], 1, momentum=MU, weight_decay=decay, nesterov=True),
        "adam": lambda: torch.optim.Adam([w], 1, (BETA1, BETA2), EPSILON, decay),
        "adamw": lambda: torch.optim.AdamW([w], 1, (BETA1, BETA2), EPSILON, decay),
    }
    theirs = make_theirs[name]()
    for g, lr in zip(gradients, RATES, strict=True):
        theirs.param_groups[0]["lr"] = lr
        w.grad = torch.tensor(g)
        theirs.step()
    optimizer = make_optimizer(
        name, SIZE, np.float64, momentum=MU, beta1=BETA1, beta2=BETA2, epsilon=EPSILON,
        weight_decay=decay,
    )  # fmt: skip
    ours = run(optimizer, start.copy(), gradients)
    np.testing.assert_allclose(ours, w.detach().numpy(), rtol=1e-12)


def test_nesterov_is_sutskevers_at_the_place_ahead():
    """On f = w²/2 with a constant rate: θ' = θ + v', v' = μv − lr·∇f(θ + μv); w is θ + μv."""
    lr, theta, v = 0.1, 1.0, 0.0
    w = np.array([1.0])
    optimizer = Nesterov(1, np.float64, momentum=MU)
    for t in range(1, 20):
        v = MU * v - lr * (theta + MU * v)
        theta += v
        optimizer.step(w, w.copy(), lr, t)
        assert w[0] == pytest.approx(theta + MU * v, rel=1e-12)


def test_momentum_zero_is_plain_descent():
    w = np.array([1.0, -2.0])
    optimizer = SGD(2, np.float64, momentum=0.0)
    for t in (1, 2):
        optimizer.step(w, np.array([10.0, 1.0]), 0.1, t)
    np.testing.assert_allclose(w, [-1.0, -2.2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cuts", [[11], [1, 2, 22], [4, 4, 13]])
def test_parts_cut_anywhere_give_the_same_bits(name, cuts):
    start, gradients = course(np.float32)
    edges = [0, *cuts, SIZE]
    parts = [slice(a, b) for a, b in pairwise(edges)]
    whole = run(make(name, 0.05, np.float32), start.copy(), gradients)
    in_parts = run(make(name, 0.05, np.float32), start.copy(), gradients, parts=parts)
    np.testing.assert_array_equal(in_parts, whole)


@pytest.mark.parametrize("name", NAMES)
def test_two_workers_share_one_state(name):
    """Two optimizers, each with its part of the vector, over the same memory."""
    start, gradients = course(np.float32)
    memory: list[np.ndarray] = []

    def allocate(size, dtype):
        memory.append(np.zeros(size, dtype))
        return memory[-1]

    first = make(name, 0.05, np.float32, zeros=allocate)
    taken = iter(memory.copy())
    second = make(name, 0.05, np.float32, zeros=lambda size, dtype: next(taken))
    w = start.copy()
    for i in range(STEPS):
        first.step(w, gradients[i], RATES[i], i + 1, slice(0, 9))
        second.step(w, gradients[i], RATES[i], i + 1, slice(9, None))
    alone = make(name, 0.05, np.float32)
    np.testing.assert_array_equal(w, run(alone, start.copy(), gradients))
    for vector, expected in zip(memory, alone.state().values(), strict=True):
        np.testing.assert_array_equal(vector, expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_part_leaves_the_rest_and_the_gradients_alone(name):
    start, gradients = course()
    w, g = start.copy(), gradients[0].copy()
    optimizer = make(name, 0.05)
    optimizer.step(w, g, 0.1, 1, slice(5, 9))
    outside = np.r_[0:5, 9:SIZE]
    np.testing.assert_array_equal(w[outside], start[outside])
    np.testing.assert_array_equal(g, gradients[0])
    assert np.all(w[5:9] != start[5:9])
    assert all(np.all(vector[outside] == 0) for vector in optimizer.state().values())


@pytest.mark.parametrize("name", NAMES)
def test_biases_never_decay(name):
    """Without gradients only the weights move, towards zero."""
    start, _ = course()
    w = run(make(name, 0.05), start.copy(), np.zeros((STEPS, SIZE)))
    np.testing.assert_array_equal(w[~DECAYS], start[~DECAYS])
    assert np.all(np.abs(w[DECAYS]) < np.abs(start[DECAYS]))


@pytest.mark.parametrize("name", NAMES)
def test_resumed_training_has_the_same_bits(name):
    start, gradients = course(np.float32)
    whole = run(make(name, 0.05, np.float32), start.copy(), gradients)

    before = make(name, 0.05, np.float32)
    w = run(before, start.copy(), gradients, range(5))
    saved = {key: vector.copy() for key, vector in before.state().items()}
    after = make(name, 0.05, np.float32)
    after.restore(saved)
    np.testing.assert_array_equal(run(after, w, gradients, range(5, STEPS)), whole)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"velocity": np.ones(SIZE + 1)},
        {"velocity": np.ones(1)},  # would broadcast
        {"velocity": np.ones(SIZE, np.float32)},
        {"velocity": np.ones(SIZE), "lookahead": np.ones(SIZE)},
        {"lookahead": np.ones(SIZE)},
    ],
)
def test_a_state_of_another_optimizer_is_refused_whole(state):
    optimizer = make("sgd", 0.0)
    with pytest.raises(CheckpointError, match="resume with the original optimizer"):
        optimizer.restore(state)
    assert not optimizer.state()["velocity"].any()


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match=r"optimizer\.name: must be .*; did you mean sgd"):
        make_optimizer("sdg", SIZE)


@pytest.mark.parametrize("name", [*NAMES, "average"])
def test_a_step_takes_no_memory_that_grows_with_the_vector(name):
    size = 200_000
    w, g = np.ones(size, np.float32), np.ones(size, np.float32)
    if name == "average":
        average = Average(w, 0.99)

        def step(t):
            average.update(w, t)
    else:
        optimizer = make_optimizer(name, size, weight_decay=1e-4)

        def step(t):
            optimizer.step(w, g, 1e-3, t)

    step(1)
    tracemalloc.start()
    step(2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000  # one float32 vector would be 800,000 bytes


def test_all_parameters_decay_where_no_mask_is_given():
    w = np.ones(3)
    AdamW(3, np.float64, weight_decay=0.5).step(w, np.zeros(3), 0.1, 1)
    np.testing.assert_allclose(w, 0.95)
