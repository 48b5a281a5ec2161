"""Writing the configuration: as commented YAML, and as the tables of its reference page."""

from __future__ import annotations

from operator import attrgetter
from textwrap import wrap

from lenet.config.rules import as_yaml
from lenet.config.schema import SECTIONS, SETTINGS, Config
from lenet.models.specification import layer_lines


def to_yaml(config: Config) -> str:
    """Return the complete configuration as YAML with a comment above each key.

    Loading the result gives an equal configuration.
    """
    lines = ["# Configuration of lenet: all keys with their meaning and accepted values.", ""]
    section = ""
    for dotted, key in SETTINGS.items():
        within, _, name = dotted.rpartition(".")
        if within != section:
            section = within
            lines += ["", f"# {SECTIONS[section].__doc__}", f"{section}:"]
        indent = "  " if section else ""
        value = attrgetter(dotted)(config)
        about = f"{key.metadata['doc']} ({key.metadata['rule'].words})"
        lines += wrap(about, 98, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        if dotted == "model.layers" and config.model.layers is not None:
            lines += [f"{indent}{line}" for line in layer_lines(config.model.layers)]
        else:
            lines += [f"{indent}{name}: {as_yaml(value)}"]
    return "\n".join(lines) + "\n"


def reference_markdown() -> str:
    """Return the tables of docs/configuration.md: all sections with their keys."""
    lines: list[str] = []
    section = None
    for dotted, key in SETTINGS.items():
        within = dotted.rpartition(".")[0]
        if within != section:
            section = within
            title = f"`{section}`" if section else "Top level"
            about = SECTIONS[section].__doc__ if section else "The only key outside the sections."
            lines += ["", f"## {title}", "", f"{about}", ""]
            lines += ["| key | default | accepts | meaning |", "|---|---|---|---|"]
        lines.append(
            f"| `{dotted}` | `{as_yaml(key.default)}` | {key.metadata['rule'].words} "
            f"| {key.metadata['doc']} |"
        )
    return "\n".join(lines[1:]) + "\n"
