"""The colours of signed numbers, the same in figures and reports.

The lightness falls from one end to the other, so that the sign can be read in grey too.
"""

from __future__ import annotations

from typing import Final

NEGATIVE: Final = (255, 178, 66)
ZERO: Final = (152, 155, 160)
POSITIVE: Final = (8, 42, 122)
WORDS: Final = "orange is negative, grey is zero, blue is positive"
