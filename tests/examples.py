"""How many examples a property is tried with: all, or a part where `make test-fast` asks for a first answer."""

from __future__ import annotations

import os

_PART = 5 if os.environ.get("SURECOUNT_FAST_TESTS") else 1


def examples(number: int) -> int:
    """So many, or a part of them."""
    return max(1, number // _PART)
