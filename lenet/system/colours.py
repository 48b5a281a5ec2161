"""The colours of signed numbers, the same in figures and reports.

The lightness falls from one end to the other, so that the sign can be read in grey too.
"""

from __future__ import annotations

from typing import Final

NEGATIVE: Final = (255, 198, 96)
ZERO: Final = (138, 141, 147)
POSITIVE: Final = (8, 42, 122)
WORDS: Final = "orange is negative, grey is zero, blue is positive"
