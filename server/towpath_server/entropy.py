"""Random numbers of the operating system, fetched many at a time."""

from __future__ import annotations

import os
import random

_BITS = 128
_FETCHED = 256


class Entropy(random.SystemRandom):
    """`SystemRandom` with one call to the system for many numbers: each job needs three."""

    def __init__(self) -> None:
        super().__init__()
        # Several threads take from it, each number once: `pop` is one step.
        self._pieces: list[int] = []

    def getrandbits(self, k: int) -> int:
        """A number of `k` bits."""
        if k > _BITS:
            return super().getrandbits(k)
        try:
            piece = self._pieces.pop()
        except IndexError:
            fresh = os.urandom(_FETCHED * _BITS // 8)
            steps = range(0, len(fresh), _BITS // 8)
            piece, *self._pieces = [int.from_bytes(fresh[start : start + _BITS // 8]) for start in steps]
        return piece >> (_BITS - k)
