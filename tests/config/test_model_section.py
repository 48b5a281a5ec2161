"""The section of the network."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from lenet.cli import cli
from lenet.config.schema import Config, differences
from lenet.config.strict_yaml import parse
from lenet.models.packaged import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_a_network_as_a_list_prints_short_numbers(name):
    text = CliRunner().invoke(cli, ["config", "--model", name]).output
    assert not re.search(r"[:[ ]-?\d\.\d{9}", text)
    made, listed = Config().with_values({"model.name": name}), Config.from_dict(parse(text))
    assert listed.model.specification() == made.model.specification()


def test_a_network_as_a_list_has_the_classes_of_the_data():
    output = (
        CliRunner()
        .invoke(cli, ["config", "--model", "lenet5", "--set", "data.name=emnist-balanced"])
        .output
    )
    assert "units: 47}" in output
    assert "classes: 47\n" in output


def test_an_initializer_that_is_the_network_s_own_is_no_difference():
    assert differences(Config(), Config().with_values({"model.initializer": "he"})) == []
    other = Config().with_values({"model.initializer": "glorot"})
    assert differences(Config(), other) == ["model.initializer"]
