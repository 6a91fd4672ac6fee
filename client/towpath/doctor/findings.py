"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: of which address (empty: of all), whether it is well, and what to do where it is not."""

    address: str
    check: str
    is_well: bool
    words: str
    advice: str = ""

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "address": self.address,
            "check": self.check,
            "ok": self.is_well,
            "words": self.words,
            "advice": self.advice,
        }


class Wrong(Exception):
    """Why the checks that follow make no sense."""

    def __init__(self, check: str, words: str, advice: str) -> None:
        super().__init__(words)
        self.check = check
        self.words = words
        self.advice = advice

    def at(self, address: str) -> Finding:
        """As what was found there."""
        return Finding(address, self.check, False, self.words, self.advice)
