"""A browser, and the page of the pretrained network."""

import pytest
from engines import CHROMIUM, Browser
from shown import written

from lenet.checkpoint.restore import read_checkpoint
from lenet.targets.networks import exported_network


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="session")
def lenet5_page(tmp_path_factory):
    return written(exported_network(read_checkpoint("pretrained")), tmp_path_factory.mktemp("page"))
