"""Calls of the command line in tests: the result, and the form of an error."""

from __future__ import annotations

import re
from typing import NamedTuple

ERROR = re.compile(r"lenet: error: (.+); .+\n")


class Ended(NamedTuple):
    code: object
    out: str
    err: str
