"""The order of the folders: a file imports only from its own folder and earlier ones."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lenet"

# From the ground up.
FOLDERS = (
    *("system", "nn", "optim", "models", "data", "config", "parallel"),
    *("checkpoint", "evaluation", "train"),
    *("predict", "report", "inspect"),
    *("targets", "targets/c", "targets/onnx", "targets/page", "targets/torch"),
    *("bench", "gate", "sweep", "cli"),
)
# Beside the folders: GROUND may be imported by all, the others import what they want.
TOP = ("version", "arrays", "errors", "api", "model", "__init__", "__main__")
GROUND = tuple(PACKAGE / f"{name}.py" for name in TOP[:3])

CORE = {"click", "numpy", "pyyaml", "scipy", "tqdm"}
FILES = sorted(PACKAGE.rglob("*.py"))


def folder_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parent.as_posix()


def lenet_imports(path: Path) -> set[str]:
    """The dotted names below ``lenet`` that a file imports, in functions and for typing too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.partition(".")[2] for name in found if name.partition(".")[0] == "lenet"}


def module_of(name: str) -> Path:
    """The file that ``lenet.a.b`` is, or that defines ``lenet.a.b.something``."""
    parts = name.split(".")
    while parts:
        module, package = PACKAGE.joinpath(*parts).with_suffix(".py"), PACKAGE.joinpath(*parts)
        if module.exists():
            return module
        if (package / "__init__.py").exists():
            return package / "__init__.py"
        parts.pop()
    return PACKAGE / "__init__.py"


def in_fresh_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_every_folder_is_a_floor():
    assert {folder_of(path) for path in FILES} == {*FOLDERS, "."}
    assert {path.stem for path in FILES if folder_of(path) == "."} == set(TOP)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_from_its_folder_and_those_before_it(path):
    folder = folder_of(path)
    if folder == ".":
        assert path.stem != "version" or not lenet_imports(path)
        return
    allowed = FOLDERS[: FOLDERS.index(folder) + 1]
    others = {module_of(name) for name in lenet_imports(path)}
    above = [
        other.relative_to(PACKAGE).as_posix()
        for other in sorted(others)
        if folder_of(other) not in allowed and other not in GROUND
    ]
    assert not above, f"imports {above}, which do not stand before {folder}/"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_circle_within_a_folder(folder):
    left = {
        path: {module_of(name) for name in lenet_imports(path)} - {path}
        for path in FILES
        if folder_of(path) == folder
    }
    while ready := [path for path, others in left.items() if not others & set(left)]:
        for path in ready:
            del left[path]
    assert not left, f"{sorted(map(str, left))} import each other"


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder != "cli"])
def test_a_folder_only_exports_what_its_files_define(folder):
    first, *others = ast.parse((PACKAGE / folder / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(first, ast.Expr)  # its docstring
    assert all(isinstance(statement, ast.ImportFrom) for statement in others)
    assert not others or folder in {"nn", "optim"}


def test_imports_in_functions_are_seen():
    assert "evaluation.ensemble.evaluate_checkpoints" in lenet_imports(PACKAGE / "cli" / "eval.py")


def test_the_architecture_page_draws_the_house_as_it_is():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "house", "--check"],
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
