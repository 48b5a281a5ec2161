"""The order of the folders: a file imports only from its own folder and earlier ones."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURE = SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "architecture")))
PACKAGE, FOLDERS = ARCHITECTURE.PACKAGE, ARCHITECTURE.FOLDERS
MODULES: dict[str, Path] = ARCHITECTURE.modules()
FILES = {path: name for name, path in MODULES.items()}
# Beside the folders: every file may import ANYWHERE, the others import what they want.
TOP = ("version", "arrays", "errors", "api", "model", "sklearn", "__init__", "__main__")
ANYWHERE = TOP[:3]

CORE = {"click", "numpy", "pyyaml", "scipy", "tqdm"}


def imported(path: Path) -> set[str]:
    """The modules below ``lenet`` that a file imports, in functions and for typing too."""
    return ARCHITECTURE.imported(path, MODULES)


def folder_of(path: Path) -> str:
    return ARCHITECTURE.folder_of(path)


def in_fresh_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_every_folder_has_its_place_in_the_order():
    assert {folder_of(path) for path in FILES} == {*FOLDERS, ""}
    assert {path.stem for path in FILES if not folder_of(path)} == set(TOP)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_from_its_folder_and_those_before_it(path):
    folder = folder_of(path)
    if not folder:
        assert path.stem != "version" or not imported(path)
        return
    allowed = FOLDERS[: FOLDERS.index(folder) + 1]
    above = [
        name
        for name in sorted(imported(path) - set(ANYWHERE))
        if folder_of(MODULES[name]) not in allowed
    ]
    assert not above, f"imports {above}, which are not in folders before {folder}/"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_circle_within_a_folder(folder):
    left = {
        name: imported(path) - {name} for path, name in FILES.items() if folder_of(path) == folder
    }
    while ready := [name for name, others in left.items() if not others & set(left)]:
        for name in ready:
            del left[name]
    assert not left, f"{sorted(left)} import each other"


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder != "cli"])
def test_a_folder_only_exports_what_its_files_define(folder):
    first, *others = ast.parse((PACKAGE / folder / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(first, ast.Expr)  # its docstring
    assert all(isinstance(statement, ast.ImportFrom) for statement in others)
    assert not others or folder in {"nn", "optim"}


def test_imports_in_functions_are_seen():
    assert "evaluation.ensemble" in imported(PACKAGE / "cli" / "eval.py")


def test_the_architecture_page_is_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "architecture", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_core_dependencies_are_exactly_five():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {line.split(">")[0].strip() for line in project["dependencies"]}
    assert names == CORE


def test_the_core_imports_nothing_but_its_dependencies():
    allowed = sys.stdlib_module_names | {"click", "lenet", "numpy", "scipy", "tqdm", "yaml"}
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        named += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        others = {module.partition(".")[0] for module in named} - allowed
        assert not others, f"{path}: extras come through lenet.system.extras.require"


def test_help_loads_nothing_that_computes():
    loaded = in_fresh_python(
        "import sys\n"
        "from lenet.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(*sys.modules)"
    ).split()
    assert "click" in loaded
    heavy = [m for m in loaded if m.startswith(("numpy", "scipy", "yaml", "tqdm", "lenet.data"))]
    assert heavy == []
