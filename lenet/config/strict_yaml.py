"""A strict YAML reader that returns plain dictionaries and lists.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), so
``1e-3`` is a number and ``off`` is a string. Ambiguous or dangerous features are rejected, with
line and column: duplicate keys, anchors, aliases, merge keys, tags, deep nesting, long files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

import yaml
from yaml.reader import ReaderError

from lenet.errors import ConfigError, MissingConfigError, SystemFailure
from lenet.system.files import open_regular

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 20
MAX_VALUES: Final = 2000
MAX_DIGITS: Final = 100


def read_mapping(path: Path, if_missing: str = "check the path") -> dict[str, Value]:
    """Read the YAML file ``path``, whose top level must be a mapping.

    ``if_missing`` is the remedy if there is no such file.
    """
    try:
        value = parse(_read(path, if_missing))
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
        loader = _Loader(text)
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
        remedy = "check colons, quotes, brackets and indentation there"
        if "\\t" in str(error.problem):
            remedy = "indent with spaces, not with tabs"
        _refuse(error.problem_mark or begun, f"not YAML: {error.problem}{since}", remedy)
    except (ValueError, OverflowError):
        _refuse(  # PyYAML on an escape such as "\UFFFFFFFF"
            loader.get_mark() if loader else None,
            "not YAML: a number or an escaped character is out of range",
            "check the escapes and directives there",
        )
    value: Value = loader.construct_document(node) if loader and node else None
    return value


class _Loader(yaml.SafeLoader):
    """Constructs the types of the core schema; rejects what no configuration needs."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - those of YAML 1.1

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.count = 0
        self.section = ""  # the dotted key of the mapping that is constructed

    def next_event(self) -> Any:  # noqa: ANN401 - the stubs leave it bare
        return self.peek_event()  # type: ignore[no-untyped-call]

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.next_event()
        self.count += 1
        self.depth += 1
        for refused, problem, remedy in (
            (
                isinstance(event, yaml.AliasEvent) or event.anchor is not None,
                "anchors (&) and aliases (*) are not allowed",
                "write the value out, or quote a string that begins with & or *",
            ),
            (
                getattr(event, "tag", None) is not None,
                "tags (!) are not allowed",
                "write the plain value, or quote a string that begins with !",
            ),
            (
                self.depth > MAX_DEPTH,
                f"nested more than {MAX_DEPTH} levels deep",
                "a configuration has two levels, sections and keys",
            ),
            (
                self.count > MAX_VALUES,
                f"more than {MAX_VALUES} keys and values",
                "see `lenet config` for the keys of a configuration",
            ),
        ):
            if refused:
                _refuse(event.start_mark, problem, remedy)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def mapping(self, node: yaml.MappingNode) -> dict[str, Value]:
        section, values = self.section, {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse(key.start_mark, "a key must be a name", "write `name: value`")
            name, line = key.value, key.start_mark.line + 1
            if name == "<<" and not key.style:
                problem = "merge keys (<<) are not allowed"
                _refuse(key.start_mark, problem, "write the keys out here")
            self.section = f"{section}.{name}" if section else name
            if name in values:
                problem = f"is given twice, on lines {lines[name]} and {line}"
                raise ConfigError(problem, remedy="keep one of them", key=self.section)
            lines[name], values[name] = line, self.construct_object(value, deep=True)
        self.section = section
        return values

    def scalar(self, node: yaml.ScalarNode) -> bool | int | float | str | None:
        text: str = node.value
        if node.style:  # quoted
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _NOT_FINITE.fullmatch(text):
            return float(text.replace(".", ""))
        if not _NUMBER.fullmatch(text):
            return text
        if len(text) > MAX_DIGITS:
            problem = f"a number of {len(text)} characters"
            _refuse(node.start_mark, problem, "write a shorter number")
        if _INTEGER.fullmatch(text):
            return int(text)
        # 012 is 10 in some YAML readers and 12 in others: it stays a string.
        return text if re.match(r"[-+]?0[0-9]", text, re.ASCII) else float(text)


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)
_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.scalar)

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_KINDS: Final[dict[type, str]] = {
    **dict.fromkeys((int, float), "a number"),
    bool: "a boolean",
    str: "a string",
    list: "a list",
}


def _read(path: Path, if_missing: str) -> str:
    """Return the text of a small UTF-8 file, without a byte-order mark."""
    remedies = {
        "remedy": "save the configuration to a file",
        "directory_remedy": "name a YAML file in it",
    }
    try:
        with open_regular(path, ConfigError, **remedies) as stream:
            content = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingConfigError("does not exist", remedy=if_missing) from None
    except PermissionError:
        problem = "cannot be read: no permission"
        raise SystemFailure(problem, remedy="change its permissions") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot be read: {reason}", remedy="check the path") from None
    if len(content) > MAX_BYTES:
        problem = f"is longer than {MAX_BYTES // 1024} KiB"
        raise ConfigError(problem, remedy="check that it is a configuration file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start)
        begun = content[content.rfind(b"\n", 0, error.start) + 1 : error.start]
        place = _place(line, len(begun.decode("utf-8", "replace")))
        remedy = "save the file in UTF-8"
        raise ConfigError("not UTF-8 text", remedy=remedy, key=place) from None


def _refuse(mark: yaml.Mark | None, problem: str, remedy: str) -> NoReturn:
    key = None if mark is None else _place(mark.line, mark.column)
    raise ConfigError(problem, remedy=remedy, key=key) from None


def _place(line: int, column: int) -> str:
    return f"line {line + 1}, column {column + 1}"
