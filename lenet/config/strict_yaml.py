"""A strict YAML reader that returns plain dictionaries and lists.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), so
``1e-3`` is a number and ``off`` is a string. Ambiguous or dangerous features are rejected, with
line and column: duplicate keys, anchors, aliases, merge keys, tags (nothing is ever constructed
from one), deep nesting, long files.

This uses PyYAML's Python parser, not the C parser: 64 KiB do not need its speed, and the messages
of the Python parser are the same on every machine.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

import yaml
from yaml.reader import ReaderError

from lenet.errors import ConfigError, SystemFailure
from lenet.system.files import open_regular

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 20
MAX_VALUES: Final = 2000
MAX_DIGITS: Final = 100

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read_mapping(path: Path, if_missing: str = "check the path") -> dict[str, Value]:
    """Read the YAML file ``path``, whose top level must be a mapping.

    ``if_missing`` is the remedy if there is no such file.

    Raises
    ------
    ConfigError
        The file is missing, not a regular file, over 64 KiB, or not accepted by this reader.
    SystemFailure
        There is no permission to read the file.
    """
    try:
        value = parse(_decode(_read_small_file(path, if_missing)))
        if value is None:
            raise ConfigError("is empty", remedy="see `lenet config` for its keys")
        if not isinstance(value, dict):
            raise ConfigError(
                f"must have keys with values at its top level, has {_KINDS[type(value)]}",
                remedy="begin with a section such as `train:`",
            )
    except (ConfigError, SystemFailure) as error:
        error.file = str(path)
        raise
    return value


def parse(text: str) -> Value:
    r"""Return the only YAML document in ``text`` as dictionaries, lists, strings and numbers.

    Raises
    ------
    ConfigError
        ``text`` is not YAML, or uses a rejected feature; ``key`` is the line and column.

    Examples
    --------
    >>> parse("optimizer: {lr: 1e-3, name: sgd}")
    {'optimizer': {'lr': 0.001, 'name': 'sgd'}}
    >>> parse("a: 1\na: 2")
    Traceback (most recent call last):
    lenet.errors.ConfigError: a: is given twice, on lines 1 and 2; keep one of them
    """
    loader = None
    try:
        loader = _Composer(text)
        node = loader.get_node() if loader.check_node() else None
        if loader.check_node():
            place = loader.next_event().start_mark
            _refuse(place, "a second document begins", "keep one document in the file")
    except ReaderError as error:
        before = text[: error.position]
        raise ConfigError(
            f"the character U+{ord(text[error.position]):04X} is not allowed in YAML",
            remedy="delete it, or save the file as plain UTF-8 text",
            key=_place(before.count("\n"), len(before) - before.rfind("\n") - 1),
        ) from None
    except yaml.MarkedYAMLError as error:
        begun = error.context_mark
        since = f" ({error.context} from line {begun.line + 1})" if begun else ""
        _refuse(
            error.problem_mark or begun,
            f"not YAML: {error.problem}{since}",
            "indent with spaces, not with tabs"
            if "\\t" in str(error.problem)
            else "check colons, quotes, brackets and indentation there",
        )
    except (ValueError, OverflowError):  # PyYAML on an escape such as "\UFFFFFFFF"
        _refuse(
            loader.get_mark() if loader else None,
            "not YAML: a number or an escaped character is out of range",
            "check the escapes and directives there",
        )
    return None if node is None else _plain(node, "")


class _Composer(yaml.BaseLoader):
    """Composes nodes without resolving tags; rejects features that no configuration needs."""

    depth = 0
    values = 0

    def next_event(self) -> Any:  # noqa: ANN401 - the stubs leave it bare
        return self.peek_event()  # type: ignore[no-untyped-call]

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.next_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            _refuse(
                event.start_mark,
                "anchors (&) and aliases (*) are not allowed",
                "write the value out, or quote a string that begins with & or *",
            )
        if event.tag is not None:
            _refuse(
                event.start_mark,
                "tags (!) are not allowed",
                "write the plain value, or quote a string that begins with !",
            )
        self.values += 1
        self.depth += 1
        if self.depth > MAX_DEPTH:
            _refuse(
                event.start_mark,
                f"nested more than {MAX_DEPTH} levels deep",
                "a configuration has two levels, sections and keys",
            )
        if self.values > MAX_VALUES:
            _refuse(
                event.start_mark,
                f"more than {MAX_VALUES} keys and values",
                "see `lenet config` for the keys of a configuration",
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _plain(node: yaml.Node, key: str) -> Value:
    """Convert the node at the dotted ``key`` to a dictionary, a list or a scalar."""
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, f"{key}[{i}]") for i, item in enumerate(node.value)]
    values: dict[str, Value] = {}
    lines: dict[str, int] = {}
    for name_node, value_node in node.value:
        line = name_node.start_mark.line + 1
        if not isinstance(name_node, yaml.ScalarNode):
            _refuse(name_node.start_mark, "a key must be a name", "write `name: value`")
        name = name_node.value
        dotted = f"{key}.{name}" if key else name
        if name == "<<" and not name_node.style:
            _refuse(
                name_node.start_mark, "merge keys (<<) are not allowed", "write the keys out here"
            )
        if name in values:
            raise ConfigError(
                f"is given twice, on lines {lines[name]} and {line}",
                remedy="keep one of them",
                key=dotted,
            )
        lines[name] = line
        values[name] = _plain(value_node, dotted)
    return values


def _scalar(node: yaml.ScalarNode) -> bool | int | float | str | None:
    """Resolve a scalar by the core schema; quoted and block scalars are strings."""
    text: str = node.value
    if node.style:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    if not _NUMBER.fullmatch(text):
        return text
    if len(text) > MAX_DIGITS:
        _refuse(node.start_mark, f"a number of {len(text)} characters", "write a shorter number")
    if _INTEGER.fullmatch(text):
        return int(text)
    # 012 is 10 in some YAML readers and 12 in others: it stays a string.
    return text if re.match(r"[-+]?0[0-9]", text, re.ASCII) else float(text)


def _read_small_file(path: Path, if_missing: str) -> bytes:
    try:
        with open_regular(
            path,
            ConfigError,
            remedy="save the configuration to a file",
            directory_remedy="name a YAML file in it",
        ) as stream:
            content = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError("does not exist", remedy=if_missing) from None
    except PermissionError:
        raise SystemFailure(
            "cannot be read: no permission", remedy="change its permissions"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot be read: {reason}", remedy="check the path") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"is longer than {MAX_BYTES // 1024} KiB",
            remedy="check that it is a configuration file",
        )
    return content


def _decode(content: bytes) -> str:
    """Decode UTF-8 ``content``, without a byte-order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start)
        start = content.rfind(b"\n", 0, error.start) + 1
        raise ConfigError(
            "not UTF-8 text",
            remedy="save the file in UTF-8",
            key=_place(line, len(content[start : error.start].decode("utf-8", "replace"))),
        ) from None


def _refuse(mark: yaml.Mark | None, problem: str, remedy: str) -> NoReturn:
    """Raise the error for the position ``mark``."""
    key = None if mark is None else _place(mark.line, mark.column)
    raise ConfigError(problem, remedy=remedy, key=key) from None


def _place(line: int, column: int) -> str:
    return f"line {line + 1}, column {column + 1}"


_KINDS: Final[dict[type, str]] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
}
