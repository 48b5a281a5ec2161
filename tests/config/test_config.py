"""The configuration: what it accepts, what it rejects, and its messages.

Rows are those of the table of faults: each is caused with a real file, and asserts the class,
file, key and the single line.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import FrozenInstanceError
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet.cli import cli
from lenet.config import packaged
from lenet.config.packaged import CONFIGURATION, packaged_files
from lenet.config.reader import load_config
from lenet.config.schema import SECTIONS, SETTINGS, Config, differences
from lenet.config.sections import Augment, Data, Optimizer, Train
from lenet.config.strict_yaml import parse
from lenet.config.writer import reference_markdown, to_yaml
from lenet.data.augmentation import Distorter
from lenet.errors import ConfigError, SystemFailure
from lenet.models.packaged import MODELS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def written(tmp_path):
    """Write a configuration file and return its path."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "run.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refused(path: Path | None, *overrides: str) -> ConfigError:
    """Return the error, having checked its form: file, one line, a remedy."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    error = caught.value
    assert error.exit_code == 2
    assert error.remedy
    assert str(error).isprintable()
    assert len(str(error)) < 500
    assert error.file == (None if (error.key or "").startswith("--set") else str(path))
    return error


# --- What is accepted ---------------------------------------------------------------------------


def test_no_file_is_the_default_configuration():
    config = load_config(None)
    assert config == Config()
    assert (config.data.name, config.optimizer.lr, config.model.channels) == (
        "strokes",
        0.05,
        (6, 16),
    )


def test_a_file_states_what_differs(written):
    config = load_config(written("train:\n  epochs: 3\nmodel: {channels: [4, 8]}\noutput:\n"))
    assert differences(config, Config()) == ["model.channels", "train.epochs"]
    assert config.model.channels == (4, 8)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E-3", 0.001), ("+.5", 0.5), ("1", 1.0), ("5.", 5.0), ("2.5e+1", 25.0)],
)
def test_row_3_numbers_in_every_notation(written, text, value):
    lr = load_config(written(f"optimizer:\n  lr: {text}\n")).optimizer.lr
    assert lr == value
    assert type(lr) is float


def test_words_that_are_booleans_in_yaml_1_1_are_strings(written):
    assert load_config(written("model: {fuse: off}")).model.fuse == "off"
    assert load_config(written("output: {dir: no}")).output.dir == "no"


def test_utf_8_with_a_byte_order_mark_and_other_scripts(written):
    config = load_config(written("\ufeffoutput:\n  dir: 实验/é\n"))
    assert config.output.dir == "实验/é"


@pytest.mark.parametrize("value", [1, 500, "30s", None])
def test_checkpoint_every_is_steps_seconds_or_null(value):
    assert Train(checkpoint_every=value).checkpoint_every == value


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_file_in_configs_loads(path):
    assert load_config(path).output.dir != Config().output.dir


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


# --- Packaged configurations ---------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_is_a_packaged_configuration(nowhere):
    assert load_config(Path("mnist")) == load_config(ROOT / "configs" / "mnist.yaml")
    assert set(packaged_files(CONFIGURATION)) == {p.stem for p in (ROOT / "configs").glob("*.yaml")}


def test_a_file_takes_precedence_over_a_name_and_a_name_over_a_directory(nowhere):
    (nowhere / "mnist").mkdir()  # as LENET_DATA_DIR has
    assert load_config("mnist").data.name == "mnist"
    (nowhere / "ci").write_text("seed: 5")
    assert load_config("ci").seed == 5
    assert "is a directory" in refused(nowhere).problem


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("mnits", "name the packaged configuration: mnist"),
        ("MNIST-fast", "name the packaged configuration: mnist-fast"),
        ("configs/ci.yaml", "name the packaged configuration: ci"),
        ("mine.yaml", "strokes"),
        ("xyz", "caffe-lenet, ci, digit-or-not, fashion-mnist"),
    ],
)
def test_a_name_that_there_is_not_lists_those_that_there_are(nowhere, path, said):
    error = refused(Path(path))
    assert said in error.remedy
    assert error.file == path


def test_an_installed_package_contains_the_configurations(tmp_path, monkeypatch):
    """The wheel's files are those that the package looks for."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    assert build["build"]["targets"]["wheel"]["force-include"] == {"configs": "lenet/configs"}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "only.yaml").write_text("# One line.\nseed: 7\n")
    monkeypatch.setattr(packaged, "files", lambda _: tmp_path)
    assert load_config("only").seed == 7
    assert packaged.descriptions() == {"only": "One line."}


def test_the_list_has_a_sentence_about_each():
    lines = CliRunner().invoke(cli, ["config", "--list"]).output.splitlines()
    assert len(lines) == len(list((ROOT / "configs").glob("*.yaml")))
    assert all(line.endswith(".") and len(line) <= 100 for line in lines)


# --- Overrides ----------------------------------------------------------------------------------


def test_overrides_replace_values_of_the_file_and_the_last_one_is_used(written):
    config = load_config(
        written("seed: 1\noptimizer: {lr: 1}"),
        ["optimizer.lr=0.5", "optimizer.lr=1e-3", "model.units=[30, 20]", "output.dir=a=b"],
    )
    assert (config.seed, config.optimizer.lr, config.model.units) == (1, 0.001, (30, 20))
    assert config.output.dir == "a=b"


def test_an_override_can_set_null_and_correct_an_error_of_the_file(written):
    config = load_config(written("data: {limit: -1}"), ["data.limit=null"])
    assert config.data.limit is None


@pytest.mark.parametrize(
    ("override", "key", "said"),
    [
        ("optimizer.lr", "--set optimizer.lr", "has no value"),
        ("", "--set", "has no value"),
        ("optimizer=sgd", "--set optimizer", "is a section"),
        ("optimizer.lr=-1", "--set optimizer.lr", "> 0 and < 1000, is -1"),
        ("optimizer.lr='0.1'", "--set optimizer.lr", "write 0.1 without quotes"),
        ("optimizer.lr=", "--set optimizer.lr", "is null"),
        ("optimizer.lr={a: 1}", "--set optimizer.lr", "is a section"),
        ("model.channels=[4", "--set model.channels", "not YAML"),
        ("optimizer.lr=*a", "--set optimizer.lr", "anchors"),
        ("lr=1", "--set lr", "did you mean optimizer.lr"),
        ("optimiser.lr=1", "--set optimiser.lr", "did you mean optimizer?"),
    ],
)
def test_a_bad_override(override, key, said):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert caught.value.key == key
    assert caught.value.file is None
    assert said in str(caught.value)


def test_an_error_of_the_file_is_not_reported_for_an_override(written):
    path = written("optimizer: {lr: 1, lr: 2}")
    assert refused(path, "optimizer.lr=0.1").key == "optimizer.lr"


# --- What is refused, row by row ----------------------------------------------------------------


def test_row_1_missing_directory_empty_not_a_mapping(tmp_path, written):
    assert "does not exist" in refused(tmp_path / "none.yaml").problem
    assert "does not exist" in refused(written("seed: 1") / "below").problem
    assert "is a directory" in refused(tmp_path).problem
    for content in ("", "# a comment\n", "---\n", "null"):
        assert "is empty" in refused(written(content)).problem
    for content, kind in (
        ("- seed", "list"),
        ("seed", "string"),
        ("3", "number"),
        ("true", "boolean"),
    ):
        error = refused(written(content))
        assert "top level" in error.problem
        assert kind in error.problem


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        ("train:\n  epochs: [1\nseed: 1\n", "line 3, column 5", "expected ',' or ']'"),
        ("train:\n\tepochs: 1\n", "line 2, column 1", "not with tabs"),
        ("seed: 1\n  epochs: 2\n", "line 2, column 9", "mapping values are not allowed"),
        ("seed: 'x\n", "line 2, column 1", "(while scanning a quoted scalar from line 1)"),
        ('seed: "\\UFFFFFFFF"\n', "line 1, column 10", "out of range"),
        (f"%YAML {'9' * 5000}.1\n---\nseed: 1\n", "line 1, column 7", "out of range"),
        ("? [a]\n: 1\n", "line 1, column 3", "a key must be a name"),
    ],
)
def test_row_2_syntax_with_line_and_column(written, content, place, said):
    error = refused(written(content))
    assert error.key == place
    assert said in str(error)


@pytest.mark.parametrize("text", ["'0.1'", '"0.1"', "|\n    0.1"])
def test_row_4_a_quoted_number_is_a_string(written, text):
    error = refused(written(f"optimizer:\n  lr: {text}\n"))
    assert error.key == "optimizer.lr"
    assert "the string '0.1" in error.problem
    assert "write 0.1 without quotes" in error.remedy


def test_row_5_a_duplicate_key_with_both_lines(written):
    error = refused(written("optimizer:\n  lr: 0.1\n  name: sgd\n  lr: 0.2\n"))
    assert (error.key, error.problem) == ("optimizer.lr", "is given twice, on lines 2 and 4")
    error = refused(written("train: {epochs: 1}\nseed: 1\ntrain: {epochs: 1}\n"))
    assert (error.key, error.problem) == ("train", "is given twice, on lines 1 and 3")


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
        ("output: {zzz: 1}", "output.zzz", "valid keys are output.dir"),
        ("data: {1: 2}", "data.1", "valid keys are data.name"),
        ("data.name: mnist", "data.name", "put name under data:"),
        (f"? {'k' * 5000}\n: 1", "k" * 57 + "...", "valid keys are seed"),
    ],
)
def test_row_6_an_unknown_key(written, content, key, said):
    error = refused(written(content))
    assert error.key == key
    assert said in error.remedy


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("train: {epochs: true}", "is true"),
        ("train: {epochs: 8.0}", "is 8.0"),
        ("train: {epochs: null}", "is null"),
        ("train: {epochs: [8]}", "is [8]"),
        ("train: {epochs: {a: 1}}", "is a section"),
        ("optimizer: {lr: false}", "is false"),
        ("optimizer: {lr: 2024-01-01}", "is the string '2024-01-01'"),
        ("optimizer: {name: 3}", "must be sgd, nesterov, adam, adamw or muon, is 3"),
        ("optimizer: {name: nestrov}", "did you mean nesterov?"),
        ("output: {dir: 3}", "put it in quotes"),
        ("output: {dir: ''}", "is the string ''"),
        ('output: {dir: "a\\0b"}', "is the string"),
        ('output: {dir: "\\uD800"}', "is the string"),
        ("model: {channels: [6]}", "a list of two values"),
        ("model: {channels: [6, 16, 26, 36]}", "is a list of 4"),
        ("model: {channels: [6, true]}", "is [6, true]"),
        ("train: 3", "must be a section"),
        ("train: {workers: atuo}", "did you mean auto?"),
        ("train: {checkpoint_every: 30 s}", "is the string '30 s'"),
    ],
)
def test_row_7_the_wrong_type(written, content, said):
    assert said in str(refused(written(content)))


@pytest.mark.parametrize("text", ["0", "-0.1", ".nan", "nan", ".inf", "-.INF", "1e999", "1000"])
def test_row_8_an_invalid_learning_rate(written, text):
    error = refused(written(f"optimizer: {{lr: {text}}}"))
    assert error.key == "optimizer.lr"
    assert "> 0 and < 1000" in error.problem


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("train.batch_size", ["0", "-64", "65537"]),  # row 9
        ("train.epochs", ["0", "-1", "100001", "9" * 99]),  # row 11
        ("seed", ["-1", str(2**63), "1_000", "012", "0x10"]),
        ("train.workers", ["0", "-2", "1.5"]),
        ("train.average", ["1", "-0.1"]),
        ("train.block", ["0"]),
        ("augment.rotation", ["-1", "181"]),
        ("augment.shift", ["15"]),
        ("augment.scale", ["0.5"]),
        ("augment.elastic_sigma", ["0", "15"]),
        ("model.input_size", ["27"]),
        ("schedule.peak", ["0", "1"]),
    ],
)
def test_rows_9_and_11_out_of_range(key, values):
    for value in values:
        assert refused(None, f"{key}={value}").key == f"--set {key}"


def test_row_11_an_integer_too_long_to_read(written):
    error = refused(written(f"seed: {'9' * 5000}"))
    assert (error.key, error.problem) == ("line 1, column 7", "a number of 5000 characters")


BILLION_LAUGHS = "a: &a [ha]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        ("train: &t {epochs: 1}\n", "line 1, column 8", "anchors"),
        ("seed: 1\ntrain: *t\n", "line 2, column 8", "aliases"),
        ("train:\n  <<: {epochs: 1}\n", "line 2, column 3", "merge keys"),
        (BILLION_LAUGHS, "line 1, column 4", "anchors"),
    ],
)
def test_row_12_anchors_aliases_merge_keys_and_the_billion_laughs(written, content, place, said):
    error = refused(written(content))
    assert error.key == place
    assert said in error.problem


@pytest.mark.parametrize(
    "content", ["a: " + "[" * 30 + "]" * 30, "[" * 60_000, "{a: " * 16_000, "- " * 30_000]
)
def test_row_13_nesting(written, content):
    assert "nested more than 20 levels" in refused(written(content)).problem


def test_row_13_size(written):
    assert "longer than 64 KiB" in refused(written("#" * (64 * 1024 + 1))).problem
    assert load_config(written("#" * (64 * 1024 - 8) + "\nseed: 1")).seed == 1
    assert "more than 2000" in refused(written(f"seed: [{'1,' * 30_000}]")).problem


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.mkdir [canary]", "!!python/name:os.system ''", "!!str 3", "!x 1"],
)
def test_row_14_tags_are_never_executed(written, tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    error = refused(written(f"seed: {tag}"))
    assert (error.key, error.problem) == ("line 1, column 7", "tags (!) are not allowed")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        (b"seed: 1\nb\xc3\xa4: \xff\n", "line 2, column 5", "not UTF-8"),
        ("seed: 1\n".encode("utf-16"), "line 1, column 1", "not UTF-8"),
        (b"seed: 1\n# a\0b\n", "line 2, column 4", "U+0000"),
        (b"seed: 1\n---\nseed: 2\n", "line 2, column 1", "second document"),
    ],
)
def test_row_15_encoding_nul_and_several_documents(written, content, place, said):
    error = refused(written(content))
    assert error.key == place
    assert said in error.problem


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_row_42_a_pipe_is_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe, socket or device" in refused(tmp_path / "pipe").problem
    assert "is a pipe, socket or device" in refused(Path(os.devnull)).problem


def test_a_path_that_the_system_refuses(tmp_path):
    assert "cannot be read" in refused(Path("a\0b")).problem


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file"
)
def test_a_file_without_read_permission_is_an_environment_error(written):
    path = written("seed: 1")
    path.chmod(0)
    with pytest.raises(SystemFailure, match="cannot be read: no permission"):
        load_config(path)


# --- Values together ----------------------------------------------------------------------------


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


# --- Dictionaries, differences, dataclasses -----------------------------------------------------


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


# --- Writing ------------------------------------------------------------------------------------

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


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="a:0-[]{}&*!|>'\"#%@`,?~<.\\ \n\t\r\ue000\x85é1e_", max_size=60))
def test_any_text_gives_a_configuration_or_a_configuration_error(text):
    said = []
    try:
        Config.from_dict({"output": parse(text)})
        load_config(None, [f"output.dir={text}"])
        load_config(None, [text])
    except ConfigError as error:
        said.append(str(error))
    assert all(line.isprintable() for line in said)


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
        "paste lenet.config.writer.reference_markdown() under the mark in docs/configuration.md"
    )
    assert all(f"## `{section}`" in reference for section in SECTIONS)


# --- The command ------------------------------------------------------------------------------


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


def test_an_initializer_that_is_the_network_s_own_is_no_difference():
    assert differences(Config(), Config().with_values({"model.initializer": "he"})) == []
    other = Config().with_values({"model.initializer": "glorot"})
    assert differences(Config(), other) == ["model.initializer"]
