"""Handwriting-like digits, drawn from a seed: a data set that needs no download.

Every digit starts as a style from the table below: one way in which people write it, as strokes
through control points. It is varied at random, as by different hands: points and strokes are
displaced, the line drifts, the digit is squeezed, slanted and bent; then a pen of changing width
draws it. The image is normalised as MNIST's images were (LeCun et al., 1998, section III.A): the
ink is scaled to fit a box of 20×20 pixels, keeping its proportions, and the box is placed in 28×28
pixels with its centre of mass in the middle.

The images are a pure function of the seed: same seed, same bytes. The axes are n images, p control
points, s samples of a line; the vectors (x, y) of the plane are the last axis.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet.data.formats.idx import read_idx, write_idx
from lenet.errors import DataError, SystemFailure

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Flags = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

SIZE = 28  # height and width of an image, in pixels
BOX = 20  # height and width of the box that the ink fills
COUNTS = {"train": 60_000, "test": 10_000}  # as many as MNIST has

# A style a line: digit, weight among the styles of its digit, name, and the control points x,y of a
# digit 100 high, y downwards. "!" makes a corner of a point, "/" lifts the pen.
STYLES = """
0 6 oval:              42,0 15,16 3,50 15,86 40,100 66,84 75,48 64,14 40,1
0 1 open at the top:   30,4 8,30 4,65 23,96 51,98 72,66 72,28 55,3
0 2 curled in:         51,24 36,3 13,20 2,55 19,92 49,98 74,70 76,30 59,6 38,4
0 1 crossed end:       47,4 17,16 4,56 23,96 53,96 73,60 64,20 40,6 19,10
0 1 flying end:        47,4 15,20 4,60 23,97 53,94 70,58 59,18 42,8 59,2 81,4
0 2 drop:              38,0! 11,50 15,92 47,100 68,74 61,34 36,2
0 1 clockwise:         25,10 53,2 74,30 70,76 42,100 13,84 4,44 19,10 36,2
0 1 spiral:            42,40 49,12 28,4 6,36 8,80 38,100 68,76 72,30 51,2 32,8
0 1 ringed:            38,24 54,8 30,2 6,32 10,84 42,100 70,70 66,24 44,8 30,22
0 1 slashed:           42,0 15,16 3,50 15,86 40,100 66,84 75,48 64,14 40,1 / 70,6 40,50 8,96

1 10 bar:              4,0 4,50 4,100
1 2 bent bar:          12,0 4,40 4,70 10,100
1 1 hook at the foot:  12,0 4,45 4,85 12,98 22,90
1 2 flag:              0,24 22,0! 22,50 22,100
1 1 small flag:        2,12 14,0! 13,50 12,100
1 1 long flag:         0,50 18,28 36,0! 36,50 36,100
1 2 flag and foot:     0,24 24,0! 24,50 24,100 / 0,100 26,99 52,100
1 1 foot:              22,0 22,50 22,100 / 2,100 22,99 46,100

2 4 straight foot:     4,24 22,3 50,3 58,28 39,60 2,97! 37,96 71,97
2 2 looped foot:       6,24 24,3 50,4 58,28 41,62 15,92 2,94 2,83 15,79 39,92 63,98 80,90
2 4 wide loop:         6,22 28,2 54,8 58,34 43,62 19,90 4,96 0,84 11,72 30,74 54,88 78,98
2 3 high loop:         9,24 32,1 58,14 58,44 37,76 13,96 0,90 2,74 19,64 43,76 67,94 86,96
2 2 flat loop:         9,20 30,1 54,10 56,36 37,66 15,94 0,94 2,78 24,72 50,78 82,76
2 2 big belly:         6,28 28,1 58,8 66,40 46,76 16,98 0,88 4,72 22,66 44,78 60,98
2 1 no head:           18,6 34,2 40,30 28,74 6,94 0,84 14,78 38,84 68,84
2 1 tall stem:         8,12 28,0 44,16 42,50 30,84 8,98 2,84 30,82 70,80
2 2 waved foot:        4,26 19,3 48,2 58,24 43,54 4,96! 28,88 52,97 78,88
2 2 zed:               4,8 32,3 63,2! 32,48 4,97! 39,96 71,94
2 1 rising foot:       0,20 26,2 54,8 54,34 30,64 6,94! 37,88 80,74
2 1 curled head:       28,32 11,28 13,8 41,0 58,22 43,58 4,96! 37,94 71,97
2 2 low start:         0,48 4,16 32,0 58,18 54,50 32,84 9,98 0,86 13,74 37,80 56,96 82,94
2 1 short foot:        2,22 22,2 50,6 54,32 32,64 6,96! 30,96 50,92
2 1 peak:              2,26 22,4 48,2 52,26 37,60 2,98! 24,76 43,74 71,94

3 4 two bowls:         4,12 26,0 50,12 44,36 22,46! 50,52 60,76 38,99 4,92
3 2 shallow waist:     4,10 30,0 54,16 48,38 34,46 50,56 60,78 38,100 2,90
3 2 flat top:          4,3 30,2 54,2! 38,22 22,42! 48,48 60,72 42,98 4,94
3 1 zed top:           4,8 28,2 50,4! 36,24 18,46! 34,46 54,66 42,92 2,98
3 2 looped waist:      4,14 26,0 50,12 44,34 24,50 14,46 24,42 48,52 58,76 36,100 4,92
3 1 curled foot:       6,12 30,0 52,14 42,38 22,46! 52,54 62,80 36,100 4,88 8,74 20,78
3 1 curled head:       20,28 4,22 12,4 36,0 54,16 44,36 24,46! 52,54 62,78 38,100 4,90
3 1 wide:              4,12 40,0 66,12 50,36 30,44 58,54 70,76 40,98 0,92
3 1 small head:        12,10 28,1 42,12 36,30 18,38! 48,42 62,70 42,98 2,92

4 3 open:              12,0 6,30 2,56! 34,56 68,54 / 52,2 50,50 46,100
4 3 cup:               8,0 2,36 14,54 36,52 52,38! / 56,2 54,50 50,100
4 2 cup in one go:     8,2 2,36 12,54 36,50 54,4! 52,50 48,100
4 2 closed:            46,100 47,50 48,0! 24,34 0,66! 36,66 70,64
4 2 low stem:          28,0 14,28 0,58! 32,56 64,54 / 44,32 42,66 38,100
4 1 closed top:        46,2 22,30 2,56! 30,58 58,54 / 46,2 46,50 44,100
4 1 looped corner:     14,0 4,42 2,58 12,60 36,54 66,50 / 52,4 48,50 44,100
4 1 wye:               6,4 8,34 22,52 40,48 / 56,0 42,44 22,100
4 1 narrow cup:        4,10 2,42 16,52 30,40 36,0! 34,50 30,100

5 4 bar apart:         13,4 10,24 7,44! 33,36 59,52 59,80 33,99 2,92 / 13,4 37,3 68,1
5 3 one stroke:        66,2 40,3 15,4! 11,24 9,44! 35,38 59,54 57,82 31,100 2,92
5 2 ess:               62,6 33,2 11,18 24,40 51,54 55,80 31,100 2,92
5 1 flying bar:        20,12 15,30 11,46! 35,38 57,54 55,82 31,99 4,92 / 22,8 48,4 84,0
5 2 curled foot:       62,3 37,3 15,4! 11,26 9,46! 37,40 59,58 53,86 26,98 4,86 15,72
5 1 straight back:     68,2 44,3 22,4! 15,24 9,44 37,46 53,62 44,88 18,100 0,98
5 1 long neck:         59,0 35,6 18,24 26,36 44,46 44,76 20,100 0,90
5 1 small belly:       9,16 7,32! 29,26 46,42 42,78 18,100 0,88 / 11,14 37,8 64,0
5 2 no neck:           66,2 40,6 18,14! 30,34 42,60 30,90 8,98 0,84
5 1 tick:              60,0 34,8 12,26! 24,34 34,54 28,88 10,100 0,84
5 1 ringed belly:      64,2 40,4 24,12! 20,28 42,46 52,72 32,98 8,88 14,68 38,60
5 1 hook:              62,0 38,4 30,22 40,50 34,86 14,98 0,74
5 1 no return:         62,3 38,4 12,8! 10,24 8,42! 34,40 56,56 60,76 58,98
5 1 rising bar:        76,0 50,6 26,12! 18,26 14,40! 32,40 46,56 36,84 14,100 0,92

6 4 curved:            48,2 22,22 5,58 12,92 36,99 54,82 46,62 24,62 8,78
6 3 straight:          36,0 18,32 5,66 10,94 34,99 52,82 42,64 22,66 6,82
6 2 upright:           10,0 5,34 4,70 14,96 38,99 54,80 42,62 20,68 6,84
6 1 wide:              56,8 28,6 6,38 6,76 28,99 56,88 54,64 30,58 10,72
6 1 open bowl:         42,2 18,28 4,62 10,92 34,99 52,84 46,66 30,66
6 1 curled in:         44,0 18,24 4,60 12,94 38,98 54,78 40,60 20,68 18,84 30,88
6 1 wide and curled:   34,2 8,28 4,72 30,98 62,86 64,58 42,50 28,66 36,82
6 1 wide and low:      24,0 2,40 6,84 38,100 70,86 66,64 46,60 30,80
6 1 crossed stem:      36,0 12,42 6,86 26,99 50,82 40,64 18,72 -6,88
6 1 small bowl:        32,0 14,36 4,74 10,96 26,94 30,78 18,74 6,84

7 4 plain:             0,5 30,4 60,2! 42,48 26,100
7 2 bent stem:         0,6 28,4 56,3! 40,38 28,70 26,100
7 2 round:             0,14 26,2 52,6 50,30 34,64 24,100
7 2 serif:             0,22 3,10 6,3! 32,5 58,3! 40,50 26,100
7 2 long serif:        0,42 8,22 14,6! 38,4 62,0! 40,50 20,100
7 1 waved:             0,18 8,4 24,10 42,12 60,2! 42,44 26,100
7 1 wye:               0,2 8,22 26,25 44,14 58,0! 42,50 24,100
7 1 looped start:      8,24 2,14 12,6 34,8 58,2! 40,50 24,100
7 2 barred:            0,6 30,4 58,2! 42,48 28,100 / 12,54 34,52 58,48
7 2 upright, barred:   0,12 14,3 30,3 42,10! 38,50 30,100 / 4,54 32,51 62,47
7 1 serif and bar:     0,20 3,10 6,3! 32,5 58,2! 42,48 28,100 / 12,54 34,52 58,50
7 1 upright:           0,4 26,4 50,3! 48,50 44,100
7 1 steep:             0,28 10,8! 22,4 44,0! 28,50 14,100
7 1 hooked foot:       0,6 28,4 54,2! 40,46 24,90 28,100 42,96

8 4 ess and back:      52,14 32,1 10,14 18,38 44,58 52,82 28,99 6,84 16,60 42,40 54,14
8 3 open end:          56,8 32,0 10,16 18,40 42,58 48,84 24,99 6,80 24,56 46,34 66,6
8 2 two rings:         30,2 10,20 28,46 50,22 32,1 / 28,46 4,74 28,99 54,74 30,46
8 1 two wide rings:    40,2 10,14 16,40 50,44 62,20 38,1 / 38,44 2,62 16,96 62,96 76,62 40,45
8 1 from the left:     8,8 14,32 44,60 50,86 28,99 8,82 22,56 46,30 44,8 26,0 8,12
8 2 from the waist:    30,48 10,26 28,1 50,22 32,48 8,74 26,99 52,78 32,48
8 1 tail above:        70,2 40,2 14,14 18,38 40,56 46,84 24,99 6,84 18,60 40,36 48,10
8 1 long tail:         80,14 44,16 14,18 16,36 40,58 42,86 22,99 8,84 24,60 44,40
8 1 leaning:           70,6 44,6 26,24 30,42 42,62 30,92 8,100 4,86 22,64 52,38 72,10
8 1 tail across:       74,30 44,44 16,70 10,96 36,94 36,70 22,44 22,10 42,2 46,22 30,48 20,60
8 1 big head:          54,18 32,0 6,16 14,42 36,60 42,86 26,99 12,86 22,62 48,42 56,16
8 1 bee:               14,8 8,50 8,90 32,100 56,90 56,66 34,52 14,48 36,44 52,26 42,4 20,0 6,10

9 4 straight stem:     50,16 30,0 6,18 8,42 30,46 50,22! 49,60 46,100
9 3 bent tail:         50,20 30,0 6,18 10,44 34,46 52,20 52,58 38,94 10,96
9 2 one sweep:         52,10 28,1 6,22 12,44 36,42 54,12! 44,54 28,100
9 2 ring and stick:    48,10 24,2 4,24 16,48 40,42 50,14 44,4 / 50,6 50,50 48,100
9 1 open ring:         46,8 20,6 4,32 20,50 44,36 54,4! 52,50 48,100
9 1 gee:               50,14 28,0 6,20 14,44 38,42 52,14! 56,60 44,96 16,98 4,84
9 1 small ring:        44,14 28,2 12,12 16,28 34,28 46,12! 44,56 34,100
9 1 cue:               54,18 26,4 2,34 14,64 40,52 54,16! 60,66 72,100
9 1 wide cue:          70,10 40,0 8,22 6,54 34,60 60,34 70,10! 72,50 78,80
9 1 hooked head:       62,6 34,0 8,20 14,42 38,38 52,20! 44,60 32,100
9 1 slanted ring:      58,8 34,2 6,32 4,48 22,46 58,10! 46,50 26,100
9 1 angular:           48,6 22,4 2,38! 24,46 50,10! 46,54 40,100
"""


@dataclass(frozen=True)
class Hand:
    """How hands differ: standard deviations unless stated otherwise, lengths as in ``STYLES``.

    They are larger than those of neat writers, so that some digits can hardly be read. A network
    trained on tidier digits recognises people's handwriting worse.
    """

    jitter: float = 2.5  # of every control point for itself
    shift: float = 3.0  # of a stroke as a whole: gaps and crossings
    overshoot: float = 0.15  # of the ends of a stroke, as a part of their spans
    drift: float = 7.0  # of the line, slowly on its way: the longer, the more
    warp: float = 4.0  # height of the waves that bend the plane
    breadth: float = 0.12  # mean of log(width / height), over that of the table
    aspect: float = 0.22  # of the same
    lean: float = 0.12  # mean shear: most people lean to the right
    slant: float = 0.25  # of the shear
    turn: float = 0.10  # of the rotation, in radians
    pen: float = 13.5  # median width of the line
    thickness: float = 0.40  # of log(width / pen), from hand to hand
    pressure: float = 0.15  # of the width, slowly along the line
    nib: float = 0.12  # of the width, with the direction of the line
    rough: float = 0.06  # of the width, from sample to sample
    taper: float = 0.25  # mean thinning of the ends, as a part of the width
    skip: float = 0.015  # mean part of the way on which the pen leaves no ink


HAND = Hand()


class Skeletons(NamedTuple):
    """The table as arrays: first axis the styles, the others filled up with zeros."""

    digit: Indices  # (styles,)
    weight: Floats  # (styles,)
    points: Floats  # (styles, p, 2)
    stroke: Indices  # (styles, p): the stroke of a point
    inward: Indices  # (styles, p): for an end of a stroke the point next to it, else the point
    curve: Floats  # (styles, s, p): samples of the line = curve @ points
    way: Floats  # (styles, s): the way so far, in lengths of a usual digit
    tip: Floats  # (styles, s): the way to the nearer end of the stroke
    down: Flags  # (styles, s): the pen draws from this sample to the next


class Lines(NamedTuple):
    """Lines on paper, of a pen that changes its width on the way."""

    places: Floats  # (n, s, 2)
    radius: Floats  # (n, s): half the width
    down: Flags  # (n, s): the pen draws from this sample to the next


STEP = 7.0  # length between samples: 1.4 pixels


@cache
def skeletons(table: str = STYLES) -> Skeletons:
    """Return a table of styles as arrays."""
    styles = [_trace(line) for line in table.splitlines() if line]
    return Skeletons(*(_stack(arrays) for arrays in zip(*styles, strict=True)))


def _trace(style: str) -> tuple[NDArray[Any], ...]:
    """Return the fields of :class:`Skeletons` for one style."""
    head, path = style.split(":")
    digit, weight, _ = head.split(maxsplit=2)
    strokes = [stroke.split() for stroke in path.split("/")]
    points = np.array([p.rstrip("!").split(",") for stroke in strokes for p in stroke], float)
    bounds = np.cumsum([0, *map(len, strokes)])
    inward = np.arange(len(points))
    inward[bounds[:-1]] += 1
    inward[bounds[1:] - 1] -= 1
    pieces, down, stroke_of_sample = [], [], []
    for k, stroke in enumerate(strokes):
        corners = {bounds[k] + i for i, p in enumerate(stroke) if p.endswith("!")}
        for a, b in pairwise(sorted({bounds[k], bounds[k + 1] - 1} | corners)):
            weights = _even_steps(points[a : b + 1])
            pieces.append(np.pad(weights, ((0, 0), (a, len(points) - 1 - b))))
            down += [True] * (len(weights) - 1) + [False]
            stroke_of_sample += [k] * len(weights)
    curve = np.concatenate(pieces)
    steps = np.diff(curve @ points, axis=0, append=np.nan)
    length = np.where(down, np.hypot(*steps.T), 0)
    way = np.cumsum(length) - length
    start, end = (
        np.array([pick(way[np.equal(stroke_of_sample, k)]) for k in range(len(strokes))])
        for pick in (np.min, np.max)
    )
    tip = np.minimum(way - start[stroke_of_sample], end[stroke_of_sample] - way)
    return (
        np.array(int(digit)),
        np.array(float(weight)),
        points,
        np.repeat(np.arange(len(strokes)), np.diff(bounds)),
        inward,
        curve,
        way / 250,
        tip,
        np.array(down),
    )


def _even_steps(points: Floats) -> Floats:
    """Return weights (s × p) of ``points`` that sample the curve through them in equal steps."""
    spans = len(points) - 1
    time = np.linspace(0, spans, 16 * spans + 1)
    step = np.diff(catmull_rom(len(points), time) @ points, axis=0)
    way = np.concatenate([[0], np.cumsum(np.hypot(*step.T))])
    # The small number keeps rounding, which differs between processors, from adding a step.
    even = np.linspace(0, way[-1], 1 + math.ceil(way[-1] / STEP - 1e-9))
    return catmull_rom(len(points), np.interp(even, way, time))


def catmull_rom(count: int, time: Floats) -> Floats:
    """Return the weights (times × count) of ``count`` points in the smooth curve through them.

    At time i the curve is at point i. Beyond its ends the points go on straight. (Catmull and Rom,
    A class of local interpolating splines, 1974.)

    Examples
    --------
    >>> print(catmull_rom(3, np.array([0.0, 0.5, 1.0])))
    [[ 1.      0.      0.    ]
     [ 0.4375  0.625  -0.0625]
     [ 0.      1.      0.    ]]
    """
    here = np.eye(count)
    point: Floats = np.vstack([2 * here[0] - here[1], here, 2 * here[-1] - here[-2]])
    i = np.minimum(time.astype(np.intp), count - 2)
    u = (time - i)[:, None]
    a, b, c, d = (point.take(i + k, axis=0) for k in range(4))
    return b + u / 2 * (c - a + u * (2 * a - 5 * b + 4 * c - d + u * (3 * b - a - 3 * c + d)))


def _stack(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack arrays of different lengths, filled up with zeros."""
    longest = np.max([array.shape for array in arrays], axis=0, initial=0).astype(int)
    stack = np.zeros((len(arrays), *longest), arrays[0].dtype)
    for k, array in enumerate(arrays):
        stack[k, ...][tuple(slice(length) for length in array.shape)] = array
    return stack


def write(
    style: Indices, rng: np.random.Generator, hand: Hand = HAND, table: str = STYLES
) -> Lines:
    """Write a digit of every style in ``style`` (n,), each with its own handwriting.

    Other signs than digits can be written from a ``table`` of the same form.
    """
    sk = skeletons(table)
    places = _bend_plane(_move_points(sk, style, rng, hand), rng, hand)
    radius = _press(places, sk.way[style], sk.tip[style], rng, hand)
    skips = rng.random(radius.shape) < rng.exponential(hand.skip, (len(style), 1))
    return Lines(places, radius, sk.down[style] & ~skips)


def _move_points(sk: Skeletons, style: Indices, rng: np.random.Generator, hand: Hand) -> Floats:
    """Return the line (n, s, 2) through points that miss their places."""
    n, normal = len(style), rng.standard_normal
    points = sk.points[style]
    points = points + hand.jitter * normal(points.shape)
    shift = hand.shift * normal((n, sk.stroke.max() + 1, 2))
    points += np.take_along_axis(shift, sk.stroke[style][..., None], axis=1)
    inward = np.take_along_axis(points, sk.inward[style][..., None], axis=1)
    points += hand.overshoot * normal((n, points.shape[1], 1)) * (points - inward)
    frequency = np.arange(1, 9)
    strength = 1 / (1 + (frequency / 2.5) ** 2)
    strength *= hand.drift / np.sqrt(0.5 * np.sum(strength**2))
    waves = np.cos(np.pi * frequency * sk.way[style][..., None])
    length = sk.way[style].max(axis=1)[:, None, None]
    places: Floats = sk.curve[style] @ points
    places += length * (waves @ (strength[:, None] * normal((n, len(frequency), 2))))
    return places


def _bend_plane(places: Floats, rng: np.random.Generator, hand: Hand) -> Floats:
    """Bend the plane by two waves each, then squeeze, slant and turn it."""
    n, normal = len(places), rng.standard_normal
    for _ in range(2):
        direction = 0.03 * normal((n, 2, 1))
        height = hand.warp * normal((n, 1, 2))
        phase = rng.uniform(0, 2 * np.pi, (n, 1, 1))
        places = places + height * np.sin(places @ direction + phase)
    stretch = np.exp((hand.breadth + hand.aspect * normal((n, 1))) / 2)
    y = places[..., 1] / stretch
    x = places[..., 0] * stretch - (hand.lean + hand.slant * normal((n, 1))) * y
    turn = hand.turn * normal((n, 1))
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def _press(
    places: Floats, way: Floats, tip: Floats, rng: np.random.Generator, hand: Hand
) -> Floats:
    """Return the radius of the pen (n, s) on its way."""
    n, normal = len(places), rng.standard_normal
    step = np.gradient(places, axis=1)
    direction = np.arctan2(step[..., 1], step[..., 0])
    swing = rng.uniform(0.5, 2.5, (n, 1)) * way + rng.uniform(0, 1, (n, 1))
    edge = rng.uniform(0, np.pi, (n, 1))
    radius: Floats = hand.pen / 2 * np.exp(hand.thickness * normal((n, 1)))
    radius = radius * (1 + hand.pressure * normal((n, 1)) * np.sin(2 * np.pi * swing))
    radius *= 1 + hand.nib * normal((n, 1)) * np.cos(2 * (direction - edge))
    radius *= 1 + hand.rough * normal(radius.shape)
    thinning = np.minimum(rng.exponential(hand.taper, (n, 1)), 0.8)
    radius *= 1 - thinning * np.exp(-tip / 15)
    return np.maximum(radius, 1.2)


def fit(lines: Lines) -> Lines:
    """Scale and move the lines so that their ink just fits the box, in pixels.

    The result is rounded to 1/1024 pixel: the last bits of exp and sin, which differ from one
    processor to another, do not reach the picture.
    """
    places, radius, down = lines
    inked = down | np.roll(down, 1, axis=1)
    low = np.where(inked[..., None], places - radius[..., None], np.inf).min(axis=1)
    high = np.where(inked[..., None], places + radius[..., None], -np.inf).max(axis=1)
    scale = BOX / (high - low).max(axis=1)[:, None]
    places = (places - (low + high)[:, None] / 2) * scale[..., None] + BOX / 2
    return Lines(np.rint(places * 1024) / 1024, np.rint(radius * scale * 1024) / 1024, down)


def ink(lines: Lines) -> NDArray[np.float32]:
    """Draw lines in pixels: how far each pixel of the box (n, BOX, BOX) is covered, 0 to 1.

    A pixel is covered by as much as its centre lies within the line, counted from half a pixel
    outside: ½ + max over segments of (radius − distance), clipped. The radius is that at the
    nearest point of the segment. Images are innermost, as everywhere here where speed counts.
    """
    x, y = np.ascontiguousarray(lines.places.transpose(2, 1, 0), np.float32)
    radius = np.ascontiguousarray(lines.radius.T, np.float32)
    centre = np.arange(BOX, dtype=np.float32)[:, None] + np.float32(0.5)
    depth = np.full((BOX, BOX, len(lines.down)), -1, np.float32)
    for s in np.flatnonzero(lines.down.any(axis=0)):
        vx, vy = x[s + 1] - x[s], y[s + 1] - y[s]
        dx, dy = centre - x[s], centre - y[s]
        square = np.maximum(vx * vx + vy * vy, np.float32(1e-6))
        t = (dy * (vy / square))[:, None] + dx * (vx / square)
        np.clip(t, 0, 1, out=t)
        across, distance = dx - t * vx, dy[:, None] - t * vy
        distance *= distance
        across *= across
        distance += across
        np.sqrt(distance, out=distance)
        t *= radius[s + 1] - radius[s]
        t += np.where(lines.down[:, s], radius[s], -np.float32(np.inf))
        t -= distance
        np.maximum(depth, t, out=depth)
    covered: NDArray[np.float32] = np.clip(depth + np.float32(0.5), 0, 1)
    return covered.transpose(2, 0, 1)


def centre_by_mass(box: NDArray[np.float32]) -> Bytes:
    """Put boxes (n, BOX, BOX) into pictures (n, SIZE, SIZE), grey 0 to 255.

    The centre of mass comes as near to pixel (14, 14) as whole pixels and the margin allow.
    """
    grey = np.rint(box * 255).astype(np.uint8)
    pixel = np.arange(BOX)
    mass = grey.sum(axis=(1, 2))
    row = grey.sum(axis=2) @ pixel / mass
    column = grey.sum(axis=1) @ pixel / mass
    top, left = (
        np.clip(np.rint(SIZE / 2 - mean).astype(int), 0, SIZE - BOX)[:, None] + pixel
        for mean in (row, column)
    )
    pictures = np.zeros((len(grey), SIZE, SIZE), np.uint8)
    pictures[np.arange(len(grey))[:, None, None], top[:, :, None], left[:, None, :]] = grey
    return pictures


CHUNK = 1000  # images that share a random stream
BLOCK = 100  # images drawn at once: as many as the cache of a core holds


def draw(count: int, seed: int, stream: int = 0, hand: Hand = HAND) -> tuple[Bytes, Bytes]:
    """Draw digits.

    Parameters
    ----------
    count
        How many. A smaller number gives the same digits, fewer of them.
    seed, stream
        Not negative. Another seed or another stream gives other digits.
    hand
        How much they differ.

    Returns
    -------
    images : (count, 28, 28) uint8
        White ink on black paper.
    labels : (count,) uint8
        Every ten in a row are the ten digits, in random order.

    Examples
    --------
    >>> images, labels = draw(20, seed=0)
    >>> images.shape, np.bincount(labels).tolist()
    ((20, 28, 28), [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    images = np.empty((count, SIZE, SIZE), np.uint8)
    labels = np.empty(count, np.uint8)
    for chunk, start in enumerate(range(0, count, CHUNK)):
        rng = np.random.default_rng([seed, stream, chunk])
        digits = _deal(rng)
        labels[start : start + CHUNK] = digits[: count - start]
        lines = fit(write(_choose(digits, rng), rng, hand))
        for first in range(start, min(start + CHUNK, count), BLOCK):
            block = slice(first - start, min(first + BLOCK, count) - start)
            few = Lines(lines.places[block], lines.radius[block], lines.down[block])
            images[first : first + BLOCK] = centre_by_mass(ink(few))
    return images, labels


def _deal(rng: np.random.Generator) -> Indices:
    """Return ``CHUNK`` digits, every ten in a row all ten of them."""
    return rng.permuted(np.tile(np.arange(10), (CHUNK // 10, 1)), axis=1).ravel()


def _choose(digits: Indices, rng: np.random.Generator) -> Indices:
    """Return a style for every digit, by weight."""
    sk = skeletons()
    share = np.cumsum(sk.weight[:, None] * (sk.digit[:, None] == np.arange(10)), axis=0)
    share /= share[-1]
    style: Indices = np.argmax(rng.random(len(digits)) < share[:, digits], axis=0)
    return style


def load_strokes(split: str, seed: int = 0, cache_dir: Path | None = None) -> tuple[Bytes, Bytes]:
    """Return 60,000 digits to train on or 10,000 others to test on, images and labels.

    Drawing takes some seconds. With ``cache_dir`` the images are kept there and read the next time;
    the name of the file depends on the seed and on this source. If it cannot be written, nothing is
    kept.
    """
    count, stream = COUNTS[split], list(COUNTS).index(split)
    if cache_dir is None:
        return draw(count, seed, stream)
    source = Path(__file__).read_bytes() + np.__version__.encode()
    name = f"strokes-{split}-{seed}-{hashlib.sha256(source).hexdigest()[:16]}.idx"
    with suppress(DataError, SystemFailure):
        images = read_idx(cache_dir / name)
        if images.shape == (count, SIZE, SIZE) and images.dtype == np.uint8:
            streams = (np.random.default_rng([seed, stream, k]) for k in range(count // CHUNK))
            return images, np.concatenate([_deal(rng) for rng in streams]).astype(np.uint8)
    images, labels = draw(count, seed, stream)
    with suppress(SystemFailure):
        write_idx(cache_dir / name, images)
    return images, labels
