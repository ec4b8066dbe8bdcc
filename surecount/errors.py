"""The one kind of error that people see: what is wrong, and what would be right."""

from __future__ import annotations

from copy import copy
from typing import Self


class SurecountError(Exception):
    """Something a person can mend.

    ``message`` names what is wrong, ``hint`` what to do about it. ``exit_code`` is 1 where a
    check failed as it should, 2 where the use or the environment is wrong.
    """

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def saying(self, message: str) -> Self:
        """The same kind of error with another message."""
        other = copy(self)
        other.message, other.args = message, (message,)
        return other

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message
