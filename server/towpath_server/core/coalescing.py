"""Much of the same, told in few words: the first at once, the others by their number once in a while."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(slots=True)
class _Span:
    end: int
    count: int = 0


@dataclass(slots=True)
class Coalescing(Generic[KeyT]):
    """Counts what comes again within `span` (in the unit of the clock) of what was told.

    Of `most` keys at a time, that is; all others are counted together, as `others`. So what is told in a span is
    bounded too, however many keys somebody makes up. Of those of one crowd it is `share` keys, and the others of this
    crowd are counted together as the crowd: whoever makes up keys leaves room for those of others.
    """

    span: int
    most: int
    others: KeyT
    share: int
    # By what all keys are counted that are made up by the same people.
    crowd: Callable[[KeyT], KeyT]
    _sizes: Counter[KeyT] = field(default_factory=Counter)
    _spans: dict[KeyT, _Span] = field(default_factory=dict)

    def add(self, key: KeyT, now: int) -> KeyT | None:
        """Another one. As what it is to be told at once; None where it is only counted."""
        if key not in self._spans and self._sizes[self.crowd(key)] >= self.share:
            key = self.crowd(key)
        if key not in self._spans and len(self._spans) >= self.most:
            key = self.others
        known = self._spans.get(key)
        if known is None:
            self._sizes[self.crowd(key)] += 1
            self._spans[key] = _Span(now + self.span)
            return key
        known.count += 1
        return None

    def due(self, now: int) -> Iterator[tuple[KeyT, int]]:
        """What is to be told now, with how many more they were; what did not come again is forgotten."""
        for key, known in list(self._spans.items()):
            if known.end > now:
                continue
            if known.count:
                yield key, known.count
                self._spans[key] = _Span(now + self.span)
            else:
                del self._spans[key]
                crowd = self.crowd(key)
                self._sizes[crowd] -= 1
                if not self._sizes[crowd]:
                    del self._sizes[crowd]

    def all(self) -> Iterator[tuple[KeyT, int]]:
        """All that was counted and not told, before the end."""
        for key, known in self._spans.items():
            if known.count:
                yield key, known.count
        self._spans.clear()
        self._sizes.clear()

    def __contains__(self, key: KeyT) -> bool:
        return key in self._spans

    def next_due(self) -> int | None:
        """When to look next; None: when something was added."""
        return min((known.end for known in self._spans.values()), default=None)
