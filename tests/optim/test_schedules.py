"""Schedules, against values worked by hand and properties that hold for all numbers."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lenet.errors import ConfigError
from lenet.optim.schedules import (
    constant,
    cosine,
    exponential,
    inv,
    make_schedule,
    one_cycle,
    step,
    with_warmup,
)

NAMES = ["constant", "step", "inv", "exponential", "cosine", "one-cycle"]

rates = st.floats(1e-6, 10)
lengths = st.integers(2, 2000)


def values(schedule, steps):
    return [schedule(t) for t in range(steps)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (constant(0.3), {0: 0.3, 99: 0.3}),
        (step(0.8, 100, 0.5), {0: 0.8, 99: 0.8, 100: 0.4, 199: 0.4, 200: 0.2}),
        # Caffe's LeNet solver, as its log prints it at iterations 0, 1000, 5000 and 9900.
        (
            inv(0.01, 1e-4, 0.75),
            {0: 0.01, 1000: 0.00931012, 5000: 0.00737788, 9900: 0.00596843},
        ),
        (exponential(0.5, 3, 0.125), {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.0625}),
        (
            cosine(1.0, 12),
            {0: 1, 2: (2 + sqrt(3)) / 4, 3: (2 + sqrt(2)) / 4, 4: 0.75, 6: 0.5, 8: 0.25, 12: 0},
        ),
        (cosine(1.0, 12, 0.2), {0: 1, 4: 0.8, 6: 0.6, 8: 0.4, 12: 0.2, 50: 0.2}),
        (
            one_cycle(2.5, 40, 0.25, 0.2),
            {0: 0.1, 5: 1.3, 10: 2.5, 20: 2, 25: 1.5, 40: 0.5, 99: 0.5},
        ),
        (with_warmup(constant(1.0), 4), {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 4: 1.0, 5: 1.0}),
        (with_warmup(cosine(1.0, 12), 4), {0: 0.2, 3: 0.8, 4: 1.0, 8: 0.75, 10: 0.5, 16: 0}),
        (with_warmup(one_cycle(1.0, 40, 0.5), 1), {0: 0.02, 1: 0.04, 21: 1.0, 41: 0}),
    ],
)
def test_worked_values(schedule, expected):
    found = {t: schedule(t) for t in expected}
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-15)


@given(rates, lengths, st.floats(0, 1))
def test_cosine_falls_from_lr_to_final(lr, steps, share):
    final = share * lr
    schedule = cosine(lr, steps, share)
    course = values(schedule, steps + 5)
    assert course[0] == pytest.approx(lr)
    assert course[steps:] == [final] * 5
    assert all(a >= b for a, b in pairwise(course))


@given(rates, lengths, st.floats(0.01, 0.99), st.floats(0, 1))
def test_one_cycle_rises_to_its_peak_and_falls(lr, steps, peak, share):
    final = share * lr
    schedule = one_cycle(lr, steps, peak, share)
    course = values(schedule, steps + 5)
    turn = max(range(len(course)), key=course.__getitem__)
    slack = 1e-12 * lr
    assert course[0] == pytest.approx(lr / 25)
    assert course[steps:] == pytest.approx([final] * 5)
    assert max(course) <= lr + slack
    assert all(a <= b + slack for a, b in pairwise(course[: turn + 1]))
    assert all(a + slack >= b for a, b in pairwise(course[turn:]))
    if (peak * steps).is_integer():
        assert course[int(peak * steps)] == pytest.approx(lr)


@given(rates, st.floats(0.01, 0.999), st.integers(1, 100))
def test_falling_schedules_never_rise(lr, gamma, steps):
    for schedule in (step(lr, steps, gamma), exponential(lr, steps, gamma), inv(lr, gamma, 0.75)):
        course = values(schedule, 300)
        assert course[0] == lr
        assert all(a >= b >= 0 for a, b in pairwise(course))


@given(rates, st.floats(0.01, 0.999), st.integers(1, 100), st.integers(0, 20))
def test_step_and_exponential_meet_at_whole_periods(lr, gamma, steps, periods):
    t = periods * steps
    assert step(lr, steps, gamma)(t) == pytest.approx(exponential(lr, steps, gamma)(t))


@given(st.sampled_from(NAMES), rates, st.integers(2, 50), st.integers(2, 30), st.integers(0, 30))
def test_warm_up_is_a_straight_line_to_the_schedule_of_the_steps_left(
    name, lr, per_epoch, epochs, warmup
):
    assume(warmup < epochs)
    end, steps = warmup * per_epoch, epochs * per_epoch
    options = {"steps_per_epoch": per_epoch, "step_epochs": 3}
    plain = values(make_schedule(name, lr, steps=steps - end, **options), steps - end)
    warm = values(make_schedule(name, lr, steps=steps, warmup=warmup, **options), steps)
    assert warm[end:] == plain
    rise = warm[0]
    assert rise > 0
    assert warm[: end + 1] == pytest.approx([rise * (t + 1) for t in range(end + 1)])


@pytest.mark.parametrize("name", NAMES)
def test_a_run_may_be_all_warm_up(name):
    course = values(make_schedule(name, 1.0, steps=20, steps_per_epoch=10, warmup=2), 20)
    top = 0.04 if name == "one-cycle" else 1.0
    assert course == pytest.approx([top * (t + 1) / 21 for t in range(20)])


def test_epochs_need_not_be_whole():
    schedule = make_schedule(
        "step", 1.0, steps=40, steps_per_epoch=10, warmup=0.3, step_epochs=0.5, gamma=0.5
    )
    expected = {0: 0.25, 3: 1, 7: 1, 8: 0.5, 12: 0.5, 13: 0.25}
    assert {t: schedule(t) for t in expected} == expected
    every_step = make_schedule("step", 1.0, steps=4, steps_per_epoch=1, step_epochs=0.01, gamma=0.5)
    assert values(every_step, 3) == [1, 0.5, 0.25]


@given(st.sampled_from(NAMES), st.lists(st.integers(0, 5000), max_size=20))
def test_a_schedule_has_no_state(name, asked):
    def make():
        return make_schedule(name, 0.1, steps=1000, steps_per_epoch=100, warmup=0.5, gamma=0.9)

    used = make()
    for t in asked:
        rate = used(t)
        assert type(rate) is float  # NumPy's float64 would turn float32 steps into float64 ones
        assert rate == make()(t)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", {0: 1, 40: 1}),
        ("step", {19: 1, 20: 0.5, 40: 0.25}),  # every 2 epochs of 10 steps
        ("inv", {0: 1, 30: 1 / 4}),  # (1 + 0.5·30)^−0.5
        ("exponential", {10: 0.5, 20: 0.25}),  # by epoch
        ("cosine", {0: 1, 20: 0.6, 40: 0.2}),
        ("one-cycle", {0: 0.04, 10: 1, 25: 0.6, 40: 0.2}),
    ],
)
def test_the_configurations_names_and_numbers(name, expected):
    schedule = make_schedule(
        name, 1.0, steps=40, steps_per_epoch=10, warmup=0, step_epochs=2, gamma=0.5, power=0.5,
        final=0.2, peak=0.25,
    )  # fmt: skip
    assert {t: schedule(t) for t in expected} == pytest.approx(expected)


def test_an_unknown_name_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"schedule\.name: must be .*; did you mean cosine",
    ):
        make_schedule("cosin", 0.1, steps=10, steps_per_epoch=1)
