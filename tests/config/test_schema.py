"""The configuration as a whole: keys, contradictions, differences, and writing."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from configurations import refused
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet.cli import cli
from lenet.config.data_section import Augment, Data
from lenet.config.reader import load_config
from lenet.config.schema import SECTIONS, SETTINGS, Config, differences, reference_markdown, to_yaml
from lenet.config.sections import Optimizer
from lenet.config.strict_yaml import parse
from lenet.data.augmentation import Distorter
from lenet.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("content", "key", "said"),
    [
        ("optimizer: {momentun: 1}", "optimizer.momentun", "did you mean optimizer.momentum?"),
        ("model: {lr: 1}", "model.lr", "did you mean optimizer.lr, in section optimizer?"),
        ("lr: 1", "lr", "did you mean optimizer.lr, in section optimizer?"),
        ("train: {seed: 1}", "train.seed", "did you mean seed, at the top level?"),
        ("train: {dir: x}", "train.dir", "did you mean data.dir or output.dir?"),
        ("model: {epoch: 1}", "model.epoch", "did you mean train.epochs?"),
        ("optmizer: {lr: 1}", "optmizer", "did you mean optimizer?"),
        ("output: {zzz: 1}", "output.zzz", "the keys of output are dir"),
        ("data: {1: 2}", "data.1", "the keys of data are name"),
        ("data.name: mnist", "data.name", "put name under data:"),
        (f"? {'k' * 5000}\n: 1", "k" * 57 + "...", "the keys are seed"),
    ],
)
def test_row_6_an_unknown_key(written, content, key, said):
    error = refused(written(content))
    assert error.key == key
    assert said in error.remedy


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("data: {name: idx, train_images: a, train_labels: b, test_images: c}", "data.test_labels"),
        ("data: {name: mnist, train_images: a}", "data.train_images"),
        ("data: {limit: 5000, validation: 5000}", "data.validation"),
        ("data: {validation: 0}\ntrain: {patience: 3}", "train.patience"),
        ("data: {validation: 0}\ntrain: {best_metric: loss}", "train.best_metric"),
        ("train: {epochs: 2}\nschedule: {warmup: 2.5}", "schedule.warmup"),
        ("augment: {elastic_alpha: 100}", "augment.elastic_alpha"),
    ],
)
def test_values_that_contradict_each_other(written, content, key):
    assert refused(written(content)).key == key


def test_the_four_files_go_with_idx():
    files = {"train_images": "a", "train_labels": "b", "test_images": "c", "test_labels": "d"}
    assert Data(name="idx", **files).test_labels == "d"
    assert Config(data=Data(name="idx", **files)).data.name == "idx"


@pytest.mark.parametrize("sigma", [0.7, 4.0, 9.0])
def test_the_elastic_field_has_the_limit_of_the_augmentation(sigma):
    """Both floors must refuse the same fields; 34.7 at sigma 4, the strongest in use is 34."""
    for alpha in [12 * sigma**2 / 16, 34 * sigma**2 / 16, 35 * sigma**2 / 16, 0.0]:
        outcomes = []
        for build in (
            lambda a=alpha: Config(augment=Augment(elastic_alpha=a, elastic_sigma=sigma)),
            lambda a=alpha: Distorter(28, 28, elastic_alpha=a, elastic_sigma=sigma),
        ):
            try:
                build()
                outcomes.append("accepted")
            except ConfigError:
                outcomes.append("refused")
        assert outcomes == ["refused" if alpha > 34.5 * sigma**2 / 16 else "accepted"] * 2


def test_a_dictionary_survives_json_and_is_validated_again():
    config = load_config(None, ["seed=3", "model.channels=[4, 8]", "train.checkpoint_every=30s"])
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Config.from_dict({}) == Config()
    with pytest.raises(ConfigError) as caught:
        Config.from_dict({"train": {"epochs": 10**5000}}, file="last.npz")
    assert (caught.value.file, caught.value.key) == ("last.npz", "train.epochs")
    for values in ({"train": [1]}, {3: 4}, {"train": {"x": 1}}, {"train.epochs": 1}):
        with pytest.raises(ConfigError):
            Config.from_dict(values)


def test_row_40_differences_are_dotted_keys_in_order():
    assert differences(Config(), Config()) == []
    other = Config().with_values({"train.epochs": 9, "model.units": [1, 2], "seed": 1})
    assert differences(Config(), other) == ["seed", "model.units", "train.epochs"]


def test_dataclasses_check_themselves_and_are_frozen():
    with pytest.raises(ConfigError, match=r"^optimizer\.lr: "):
        Optimizer(lr=0)
    with pytest.raises(ConfigError, match=r"unknown key; did you mean optimizer\.lr"):
        Config().with_values({"optimizer.lrr": 1})
    with pytest.raises(FrozenInstanceError):
        Config().seed = 1  # type: ignore[misc]
    assert hash(Config()) == hash(Config())


FINITE = {"allow_nan": False, "allow_infinity": False}
TEXTS = st.text(min_size=1).filter(lambda s: "\0" not in s and s.isascii() | _encodes(s))


def _encodes(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**63 - 1),
        "data.dir": st.none() | TEXTS,
        "data.validation": st.integers(0, 999),
        "data.limit": st.none() | st.integers(5001, 10**9),
        "augment.rotation": st.floats(0, 180, **FINITE),
        "model.channels": st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
        "model.fuse": st.sampled_from(["auto", "off"]),
        "train.workers": st.just("auto") | st.integers(1, 1024),
        "train.class_weights": st.sampled_from(["none", "balanced"])
        | st.lists(st.floats(0, 1000), min_size=1)
        | st.dictionaries(TEXTS, st.floats(0, 1000), min_size=1),
        "train.checkpoint_every": st.none() | st.integers(1, 10**9) | st.just("30s"),
        "optimizer.lr": st.floats(0, 1000, exclude_min=True, exclude_max=True, **FINITE),
        "optimizer.epsilon": st.floats(0, 1, exclude_min=True, **FINITE),
        "schedule.name": st.sampled_from(["constant", "one-cycle"]),
        "output.dir": TEXTS | st.sampled_from(["null", "true", "1e3", "-", "a: b", "# x", "~"]),
    },
)


@settings(max_examples=25, deadline=None)
@given(CONFIGS)
def test_a_written_configuration_loads_as_an_equal_one(values):
    config = Config().with_values(values)
    assert Config.from_dict(parse(to_yaml(config))) == config  # type: ignore[arg-type]
    assert Config.from_dict(config.to_dict()) == config


def test_written_yaml_is_complete_commented_and_readable_by_pyyaml():
    text = to_yaml(Config())
    lines = text.splitlines()
    assert text.isascii()
    assert max(map(len, lines)) <= 100
    for dotted in SETTINGS:
        name = dotted.rpartition(".")[2]
        assert any(line.strip().startswith(f"{name}: ") for line in lines)
        assert all(
            before.strip().startswith("#")
            for before, line in pairwise(lines)
            if line.strip().startswith(f"{name}: ")
        )
    assert yaml.safe_load(text) == Config().to_dict()


def test_the_reference_in_the_documentation_is_that_of_the_code():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    reference = page.split("<!-- reference -->\n\n")[1]
    assert reference == reference_markdown(), (
        "paste lenet.config.schema.reference_markdown() under the mark in docs/configuration.md"
    )
    assert all(f"## `{section}`" in reference for section in SECTIONS)


def test_the_command_prints_what_loads(written, tmp_path):
    run = CliRunner().invoke(cli, ["config"])
    assert run.exit_code == 0
    assert run.output == to_yaml(Config())
    path = written("output: {dir: 实验}")
    run = CliRunner().invoke(cli, ["config", "--config", str(path), "--set", "seed=3"])
    saved = tmp_path / "saved.yaml"
    saved.write_bytes(run.stdout_bytes)
    assert load_config(saved) == Config().with_values({"output.dir": "实验", "seed": 3})


def test_the_command_passes_the_error_on_to_main():
    run = CliRunner().invoke(cli, ["config", "--set", "optimizer.lr=x"])
    assert isinstance(run.exception, ConfigError)
    assert "lenet train --config" in CliRunner().invoke(cli, ["config", "--help"]).output


def test_an_optimizer_has_its_learning_rate():
    assert load_config(None, ["optimizer.name=adam"]).optimizer.lr == 0.001
    assert load_config(None, ["optimizer.name=adam", "optimizer.lr=0.05"]).optimizer.lr == 0.05
    assert Config().with_values({"optimizer.name": "adamw"}).optimizer.lr == 0.001
    changed = Config(optimizer=Optimizer(lr=0.02)).with_values({"optimizer.name": "adam"})
    assert changed.optimizer.lr == 0.02
    assert Config.from_dict(changed.to_dict()) == changed
