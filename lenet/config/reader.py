"""Reading the configuration: a YAML file and ``key=value`` overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import as_file
from pathlib import Path

from lenet.config.packaged import CONFIGURATION, find_packaged, suggestion
from lenet.config.schema import Config, built, check_known, flattened
from lenet.config.sections import NAMED
from lenet.config.strict_yaml import parse, read_mapping
from lenet.data.catalogue import FORMATS
from lenet.errors import ConfigError
from lenet.system.text import clipped


def load_config(
    path: str | Path | None, overrides: Sequence[str] = (), base: Config | None = None
) -> Config:
    """Read a YAML file, apply ``key=value`` overrides, and validate the result.

    Examples
    --------
    >>> load_config(None, ["optimizer.lr=1e-3", "model.channels=[4, 8]"]).model.channels
    (4, 8)
    >>> load_config("mnist").data.name
    'mnist'
    """
    overridden = dict(map(_override, overrides))
    try:
        given = _given(path)
        if overridden.get("data.name") in FORMATS and is_packaged(path):
            # A recipe with the user's own data: its section "data" is about other images.
            given = {key: value for key, value in given.items() if not key.startswith("data.")}
        if base is not None:
            return base.with_values({**given, **overridden})
        return built({**given, **overridden})
    except ConfigError as error:
        if error.file is None and error.key in overridden:
            error.key = f"--set {error.key}"
        elif path is not None:
            error.file = str(path)
        raise


def _given(path: str | Path | None) -> Mapping[str, object]:
    if path is None:
        return {}
    packaged = find_packaged(Path(path), CONFIGURATION)
    if packaged is None:
        return flattened(read_mapping(Path(path), suggestion(Path(path))))
    with as_file(packaged) as file:
        return {**NAMED, **flattened(read_mapping(file))}


def is_packaged(path: str | Path | None) -> bool:
    """Return whether a configuration is named by the name of a packaged one."""
    return path is not None and find_packaged(Path(path), CONFIGURATION) is not None


def _override(text: str) -> tuple[str, object]:
    """Split ``key=value``, check the key, and read the value."""
    dotted, equals, value = text.partition("=")
    dotted = dotted.strip()
    try:
        if not equals:
            raise ConfigError("has no value", remedy="write key=value, as in optimizer.lr=0.1")
        check_known(dotted)
        parsed = parse(value)
    except ConfigError as error:
        error.key = f"--set {clipped(dotted)}".rstrip()
        raise
    return dotted, parsed
