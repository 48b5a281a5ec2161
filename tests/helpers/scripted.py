"""The scripts as modules, so that tests can look into them."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from unittest import mock

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def load_script(name: str) -> ModuleType:
    """Import a script, whatever its name ends in; nothing is written beside it."""
    loader = SourceFileLoader(name.replace("-", "_").removesuffix(".py"), str(SCRIPTS / name))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses look their module up
    with mock.patch.object(sys, "dont_write_bytecode", True):
        loader.exec_module(module)
    return module
