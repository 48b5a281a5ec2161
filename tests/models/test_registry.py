"""The registry of layer types, and its table in the documentation."""

from __future__ import annotations

from pathlib import Path

from lenet.models.registry import reference_markdown

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_layers_in_the_documentation_is_that_of_the_registry():
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    table = page.partition("<!-- layers -->\n\n")[2].partition("\n## ")[0]
    assert table == reference_markdown(), (
        "paste lenet.models.registry.reference_markdown() under the mark in docs/networks.md"
    )
