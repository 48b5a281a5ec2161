"""Specifications: what bad input gets."""

from __future__ import annotations

import pytest

from lenet.models.specification import build_layers, expanded
from lenet.system.errors import ConfigError


def test_an_unpooling_layer_needs_a_max_pooling_layer_before_it():
    with pytest.raises(ConfigError, match=r"^layer U1: pooling: needs the switches"):
        build_layers(expanded([{"type": "max_unpooling", "pooling": "S9"}]))
    entries = [{"type": "max_pooling"}, {"type": "max_unpooling", "pooling": "S9"}]
    with pytest.raises(ConfigError, match=r"^layer U2: pooling: must be S1, is 'S9'"):
        build_layers(expanded(entries))


def test_a_refused_value_names_the_option_as_it_is_written():
    entries = expanded([{"type": "convolution", "filters": "3", "kernel": 3}])
    with pytest.raises(ConfigError, match=r"^layer C1: filters: must be an integer"):
        build_layers(entries)
