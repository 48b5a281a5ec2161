"""The packaged configurations by name: the files of the checkout's ``configs/``.

A wheel contains them as ``lenet/configs/``; in a checkout they are beside the package.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from lenet.system.text import nearest

CONFIGURATION = ".yaml"
BASELINE = "-baseline.json"  # of the regression gate


def packaged_files(ending: str) -> dict[str, Traversable]:
    """Return the packaged files with this ending, by their name without it.

    Examples
    --------
    >>> sorted(packaged_files(BASELINE))
    ['ci']
    """
    installed = files("lenet") / "configs"
    place = installed if installed.is_dir() else Path(__file__).parents[2] / "configs"
    if not place.is_dir():
        return {}
    found = {
        entry.name.removesuffix(ending): entry
        for entry in place.iterdir()
        if entry.name.endswith(ending)
    }
    return {name: found[name] for name in sorted(found)}


def find_packaged(path: Path, ending: str) -> Traversable | None:
    """Return the packaged file that ``path`` names, or None if it is a path in the file system.

    A file takes precedence over a name, a name over a directory.
    """
    found = packaged_files(ending).get(str(path))
    try:
        return found if found is None or path.is_dir() or not path.exists() else None
    except OSError:
        return None


def suggestion(path: Path) -> str:
    """Return what to do about the path of a configuration that does not exist.

    Examples
    --------
    >>> suggestion(Path("configs/ci.yaml"))
    'check the path, or name the packaged configuration: ci'
    """
    known = packaged_files(CONFIGURATION)
    name = path.name.removesuffix(CONFIGURATION).lower()
    near = name if name in known else nearest(name, known)
    if near is not None:
        return f"check the path, or name the packaged configuration: {near}"
    return f"check the path, or name a packaged configuration: {', '.join(known)}"


def descriptions() -> dict[str, str]:
    """Return a line about each packaged configuration: the comment on its first line."""
    return {
        name: file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        for name, file in packaged_files(CONFIGURATION).items()
    }
