"""Random stacks of layers, for property-based tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from lenet.errors import ConfigError
from lenet.nn.activations import FUNCTIONS, Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.linear import Linear
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import RepeatUnpooling

small = st.integers(1, 3)
pairs = st.one_of(small, st.tuples(small, small))
paddings = st.one_of(st.integers(0, 2), st.tuples(*[st.integers(0, 2)] * 4))
functions = st.sampled_from(sorted(FUNCTIONS))
convolutions = st.one_of(
    st.builds(dict, kernel=st.sampled_from([3, 5, (2, 3)]), padding=st.integers(0, 2)),
    st.builds(
        dict, kernel=pairs, stride=pairs, padding=paddings, dilation=pairs, flip=st.booleans()
    ),
)
poolings = st.one_of(
    st.just({}),
    st.builds(dict, kernel=pairs, stride=pairs, padding=paddings, round_up=st.booleans()),
)


def layer(kind, **options):
    """A layer without its name."""
    return st.builds(lambda values: (kind, values), st.builds(dict, **options))


def of(kind, strategy):
    return strategy.map(lambda values: (kind, values))


block = st.one_of(
    st.tuples(
        st.tuples(st.just(Convolution), convolutions.map(lambda v: {"filters": 3, **v})),
        layer(Activation, function=functions),
        st.tuples(st.sampled_from([MaxPooling, AveragePooling]), st.just({})),
    ),
    st.tuples(
        st.tuples(st.just(Convolution), convolutions.map(lambda v: {"filters": 2, **v})),
        st.tuples(st.sampled_from([MaxPooling, AveragePooling]), poolings),
    ),
    st.tuples(layer(BatchNormalization), layer(Activation, function=functions)),
    st.tuples(layer(Dropout, rate=st.sampled_from([0.0, 0.25, 0.5]))),
    st.tuples(layer(Subsampling, kernel=st.just(2))),
    st.tuples(
        of(TransposedConvolution, st.builds(dict, filters=small, kernel=pairs, stride=pairs))
    ),
    st.tuples(layer(RepeatUnpooling, kernel=pairs)),
)


@st.composite
def stacks(draw):
    """Layers that fit, with a linear one at the end, and the shape of their input."""
    shape = draw(st.tuples(small, st.integers(6, 12), st.integers(6, 12)))
    layers, size = [], shape
    for kind, options in [part for parts in draw(st.lists(block, max_size=4)) for part in parts]:
        made = kind(f"L{len(layers)}", **options)
        try:
            after = made.build(size)
        except ConfigError:
            continue
        if np.prod(after) < 3000:
            layers.append(made)
            size = after
    return [*layers, Linear("last", 3)], shape
