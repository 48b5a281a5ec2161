"""The house stands: every file imports only from below, and docs/architecture.md draws it as it is.

``scripts/house`` draws the picture anew.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- house: drawn by scripts/house -->\n", "<!-- /house -->\n"

# From the ground up. A file imports only from what stands before it, on any floor.
FLOORS = {
    "ground": "version errors extras files terminal launch cores im2col gemm initializers",
    "layers": (
        "layers/base layers/conv layers/pooling layers/transposed layers/linear "
        "layers/activations layers/fused losses"
    ),
    "network": "network models",
    "data": "data/idx data/strokes data/datasets data/augment data/loader",
    "learning": "optimizers schedules",
    "running": (
        "config_rules strict_yaml config metrics checkpoint workers mpi evaluation rundir trainer "
        "callbacks run"
    ),
    "uses": (
        "summary imagefile digit predict views charts report plots tensorboard gradcheck "
        "regress sweep_plan sweep bench_programs bench export/subject export/onnx_model "
        "export/c_source"
    ),
    "front": (
        "api __init__ cli/options cli/train cli/sweep cli/eval cli/summary cli/config cli/export "
        "cli/inspect cli/predict cli/gradcheck cli/report cli/bench cli/regress cli/data "
        "cli/__init__ __main__"
    ),
}
ORDER = [name for names in FLOORS.values() for name in names.split()]
FOLDERS = {"layers/__init__", "data/__init__", "export/__init__"}
CORE = {"click", "numpy", "pyyaml", "scipy", "tqdm"}


@cache
def files() -> dict[str, Path]:
    package = ROOT / "lenet"
    return {
        path.relative_to(package).with_suffix("").as_posix(): path
        for path in sorted(package.rglob("*.py"))
    }


@cache
def imports(name: str) -> tuple[str, ...]:
    """The files that a file imports anywhere in it, in functions and for type checking too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(files()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {file_of(alias.name) for alias in node.names if is_ours(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: import by the full name"
            if is_ours(node.module or ""):
                found |= {file_of(f"{node.module}.{alias.name}") for alias in node.names}
    return tuple(sorted(found, key=lambda other: (other not in ORDER, other)))


def is_ours(module: str) -> bool:
    return module.partition(".")[0] == "lenet"


def file_of(dotted: str) -> str:
    """The file that holds ``lenet.a.b`` or defines ``lenet.a.b.something``."""
    path = "/".join(dotted.split(".")[1:])
    while path not in files() and f"{path}/__init__" not in files():
        if not path:
            return "__init__"
        path = path.rpartition("/")[0]
    return path if path in files() else f"{path}/__init__"


def draw() -> str:
    """The house in Markdown: its floors as a picture, and a table of what every file imports."""
    lines = ["```mermaid", "flowchart BT"]
    for floor, names in FLOORS.items():
        cells = [f"{name}.py" for name in names.split()]
        rows = [" · ".join(cells[i : i + 4]) for i in range(0, len(cells), 4)]
        lines.append(f'    {floor}["<b>{floor}</b><br/>{"<br/>".join(rows)}"]')
    for floor in FLOORS:
        used = floors_below(floor)
        # An arrow that follows from two others is left out.
        hidden = {deeper for other in used for deeper in reach(other)}
        lines += [f"    {other} --> {floor}" for other in used if other not in hidden]
    lines += ["```", "", "| floor | file | imports |", "|---|---|---|"]
    for floor, names in reversed(FLOORS.items()):
        for name in reversed(names.split()):
            below = ", ".join(f"`{other}`" for other in imports(name)) or "nothing of ours"
            lines.append(f"| {floor} | `{name}.py` | {below} |")
    return "\n".join(lines) + "\n"


def floors_below(floor: str) -> list[str]:
    used = {other for name in FLOORS[floor].split() for other in imports(name)}
    return [f for f, names in FLOORS.items() if f != floor and used & set(names.split())]


def reach(floor: str) -> set[str]:
    below = floors_below(floor)
    return set(below).union(*map(reach, below))


def redrawn() -> str:
    """The page with the picture as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"{PAGE.name} has no place for the picture"
    return f"{before}{BEGIN}\n{draw()}\n{END}{after}"


def in_fresh_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_every_file_has_its_place_in_the_house():
    assert set(files()) - FOLDERS - set(ORDER) == set(), "put new files into FLOORS"
    assert set(ORDER) - set(files()) == set(), "these are gone"
    assert len(ORDER) == len(set(ORDER))


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_a_folder_holds_no_code_of_its_own(name):
    body = ast.parse(files()[name].read_text(encoding="utf-8")).body
    assert [type(statement) for statement in body] == [ast.Expr]  # its docstring


@pytest.mark.parametrize("name", ORDER)
def test_a_file_imports_only_from_below(name):
    below = ORDER[: ORDER.index(name)]
    above = [other for other in imports(name) if other not in below]
    assert not above, f"lenet/{name}.py imports {above}, which do not stand below it"


def test_imports_in_functions_are_seen():
    assert "evaluation" in imports("cli/eval")
    assert "data/datasets" in imports("cli/data")  # from lenet.data import datasets
    assert "strict_yaml" in imports("config")


def test_the_page_draws_the_house_as_it_is():
    assert PAGE.read_text(encoding="utf-8") == redrawn(), "run scripts/house"


def test_core_dependencies_are_exactly_five():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {line.split(">")[0].strip() for line in project["dependencies"]}
    assert names == CORE


def test_the_core_imports_nothing_but_its_dependencies():
    allowed = sys.stdlib_module_names | {"click", "lenet", "numpy", "scipy", "tqdm", "yaml"}
    for name, path in files().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        named += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        others = {module.partition(".")[0] for module in named} - allowed
        assert not others, f"lenet/{name}.py: extras come through lenet.extras.require"


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


if __name__ == "__main__":
    PAGE.write_text(redrawn(), encoding="utf-8")
