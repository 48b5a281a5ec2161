"""The learning rate as a pure function of the step.

A schedule takes t, the number of completed steps (0 for the first step), and returns the rate of
the next one. It has no state, so a resumed run has the rates of an uninterrupted one. Steps are the
only unit of time here; ``make_schedule`` converts the configuration's epochs to steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import cos, pi
from typing import Final, TypeAlias

from lenet.errors import ConfigError
from lenet.system.registry import lookup, option

Schedule: TypeAlias = Callable[[int], float]
"""``(t) -> learning rate``, t = 0, 1, 2 …"""


def constant(lr: float) -> Schedule:
    """Stay at ``lr``.

    Examples
    --------
    >>> constant(0.1)(1000)
    0.1
    """
    return lambda t: lr  # noqa: ARG005 (a schedule takes the step)


def step(lr: float, steps: int, gamma: float = 0.1) -> Schedule:
    """Multiply by γ every ``steps`` steps: lr·γ^⌊t / steps⌋.

    References
    ----------
    Caffe's learning rate policy ``step``.

    Examples
    --------
    >>> rate = step(1.0, steps=10, gamma=0.5)
    >>> [rate(t) for t in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    """
    return lambda t: float(lr * gamma ** (t // steps))


def inv(lr: float, gamma: float = 1e-4, power: float = 0.75) -> Schedule:
    """Decrease like a power of the step: lr·(1 + γ·t)^(−power), γ per step.

    References
    ----------
    Caffe's learning rate policy ``inv``; the defaults are those of its LeNet solver.

    Examples
    --------
    >>> rate = inv(1.0, gamma=0.01, power=0.5)
    >>> [rate(t) for t in (0, 300, 1500)]
    [1.0, 0.5, 0.25]
    """
    return lambda t: float(lr * (1 + gamma * t) ** -power)


def exponential(lr: float, steps: int, gamma: float) -> Schedule:
    """Decrease smoothly, by the factor γ every ``steps`` steps: lr·γ^(t / steps).

    References
    ----------
    Caffe's learning rate policy ``exp`` is the case ``steps=1``.

    Examples
    --------
    >>> rate = exponential(1.0, steps=10, gamma=0.25)
    >>> [rate(t) for t in (0, 5, 10)]
    [1.0, 0.5, 0.25]
    """
    return lambda t: float(lr * gamma ** (t / steps))


def cosine(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """Decrease from lr to final·lr along half a cosine in ``steps`` steps, then stay constant.

    lr·(final + ½·(1 − final)·(1 + cos(π·t / steps))).

    References
    ----------
    Loshchilov, Hutter (2017), SGDR: stochastic gradient descent with warm restarts, eq. 5,
    without restarts.

    Examples
    --------
    >>> rate = cosine(1.0, steps=100, final=0.2)
    >>> [round(rate(t), 3) for t in (0, 50, 100, 200)]
    [1.0, 0.6, 0.2, 0.2]
    """
    return lambda t: _arc(lr, final * lr, t / steps)


def one_cycle(lr: float, steps: int, peak: float = 0.3, final: float = 0.0) -> Schedule:
    """Increase from lr/25 to lr, then decrease to final·lr, each along half a cosine.

    Parameters
    ----------
    lr
        The highest rate.
    steps
        Length of the cycle; after it the rate stays constant.
    peak
        Where the highest rate is, as a fraction of the cycle, in (0, 1).
    final
        The last rate, as a fraction of lr.

    References
    ----------
    Smith (2018), A disciplined approach to neural network hyper-parameters; cosines instead of
    its straight lines, and the 25, as in fastai and PyTorch.

    Examples
    --------
    >>> rate = one_cycle(1.0, steps=100, peak=0.2)
    >>> [round(rate(t), 3) for t in (0, 10, 20, 60, 100)]
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """
    top = peak * steps

    def rate(t: int) -> float:
        if t < top:
            return _arc(lr / 25, lr, t / top)
        return _arc(lr, final * lr, (t - top) / (steps - top))

    return rate


def _arc(start: float, end: float, progress: float) -> float:
    """Go from ``start`` to ``end`` along half a cosine as progress goes from 0 to 1."""
    return end + (start - end) * (1 + cos(pi * min(progress, 1.0))) / 2


def with_warmup(schedule: Schedule, steps: int) -> Schedule:
    """Increase linearly for ``steps`` steps, then start ``schedule``.

    During the warm-up the rate is (t + 1) / (steps + 1) of the first rate of ``schedule``.

    References
    ----------
    Goyal et al. (2017), Accurate, large minibatch SGD: training ImageNet in 1 hour, section 2.2.

    Examples
    --------
    >>> rate = with_warmup(step(1.0, steps=2, gamma=0.5), steps=3)
    >>> [rate(t) for t in range(7)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5]
    """
    return lambda t: schedule(0) * (t + 1) / (steps + 1) if t < steps else schedule(t - steps)


def scaled(lr: float, batch_size: int, lr_batch: int | None) -> float:
    """Return the rate for ``batch_size`` if ``lr`` is the rate for ``lr_batch`` images.

    Linear scaling: a batch that is k times as large replaces k steps by one that is k times as
    long. This is valid if the gradient changes little over k steps, so use a warm-up.

    References
    ----------
    Goyal et al. (2017), Accurate, large minibatch SGD: training ImageNet in 1 hour, section 2.1.

    Examples
    --------
    >>> scaled(0.05, 256, lr_batch=64), scaled(0.05, 256, lr_batch=None)
    (0.2, 0.05)
    """
    return lr if lr_batch is None else lr * batch_size / lr_batch


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """The options of all schedules; each uses those that it has. Times are in epochs."""

    warmup: float = option(
        0.0, "Length of the linear warm-up in epochs, e.g. 0.5", at_least=0, at_most=100_000
    )
    step_epochs: float = option(3.0, "step: epochs between two drops", above=0, at_most=100_000)
    gamma: float = option(
        0.1,
        "step: factor of each drop; exponential: factor per epoch, e.g. 0.9; "
        "inv: lr (1 + gamma t)^-power after t steps, e.g. 0.0001",
        above=0,
        at_most=1,
    )
    power: float = option(0.75, "inv: exponent", above=0, at_most=10)
    final: float = option(
        0.0, "cosine and one-cycle: fraction of lr at the end", at_least=0, at_most=1
    )
    peak: float = option(
        0.3,
        "one-cycle: fraction of the run in which the rate increases from lr/25 to lr",
        above=0,
        below=1,
    )


SCHEDULES: Final[dict[str, Callable[[float, int, int, ScheduleOptions], Schedule]]] = {
    "constant": lambda lr, *_: constant(lr),
    "step": lambda lr, _, per_epoch, o: step(lr, max(1, round(o.step_epochs * per_epoch)), o.gamma),
    "inv": lambda lr, _, __, o: inv(lr, o.gamma, o.power),
    "exponential": lambda lr, _, per_epoch, o: exponential(lr, per_epoch, o.gamma),
    "cosine": lambda lr, steps, _, o: cosine(lr, steps, o.final),
    "one-cycle": lambda lr, steps, _, o: one_cycle(lr, steps, o.peak, o.final),
}
"""``(lr, steps, steps_per_epoch, options) -> schedule``; ``steps`` are those after the warm-up."""


def make_schedule(
    name: str, lr: float, *, steps: int, steps_per_epoch: int, **options: float
) -> Schedule:
    """Build a schedule by its name in :data:`SCHEDULES`.

    Parameters
    ----------
    name
        ``constant``, ``step``, ``inv``, ``exponential``, ``cosine`` or ``one-cycle``.
    lr
        The highest rate.
    steps
        Steps of the whole training.
    steps_per_epoch
        Steps of one epoch.
    options
        The fields of :class:`ScheduleOptions`.

    Raises
    ------
    ConfigError
        There is no schedule or no option of that name.

    Examples
    --------
    >>> rate = make_schedule("step", 1.0, steps=400, steps_per_epoch=100, warmup=0.03,
    ...                      step_epochs=2, gamma=0.5)
    >>> [rate(t) for t in (0, 1, 3, 202, 203)]
    [0.25, 0.5, 1.0, 1.0, 0.5]
    """
    schedule = lookup(SCHEDULES, name, key="schedule.name")
    known = [field.name for field in fields(ScheduleOptions)]
    for given in options:
        if given not in known:
            raise ConfigError(
                "there is no such option", remedy=f"options are {', '.join(known)}", key=given
            )
    chosen = ScheduleOptions(**options)
    warmup_steps = round(chosen.warmup * steps_per_epoch)
    steps_left = max(1, steps - warmup_steps)
    return with_warmup(schedule(lr, steps_left, steps_per_epoch, chosen), warmup_steps)
