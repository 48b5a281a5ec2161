"""Data sets read in the words of the tests: files by role, a directory, a path."""

from __future__ import annotations

from lenet.data.dataset import Split, load_dataset


def load(target, split: str, *, files=None, directory=None, **options) -> Split:
    """Return the images of a name or path; ``files`` are IDX files by role."""
    roles = {role: str(path) for role, path in (files or {}).items() if path is not None}
    return load_dataset(target, split, dir=directory, **roles, **options)
