"""The values of a statement, numbered as they are named in its text."""

from __future__ import annotations

from collections.abc import Iterable

from towpath_server.store.postgres import arrays


class Values:
    """Each is given as text, and its place in the statement names its type: `$1::bigint`."""

    def __init__(self) -> None:
        self.given: list[str | None] = []

    def add(self, value: str | None, kind: str) -> str:
        """The place of a value that is text already."""
        self.given.append(value)
        return f"${len(self.given)}::{kind}"

    def number(self, value: int) -> str:
        """The place of a number."""
        return self.add(str(value), "bigint")

    def text(self, value: str) -> str:
        """The place of a text."""
        return self.add(value, "text")

    def numbers(self, values: Iterable[int], kind: str = "bigint") -> str:
        """The place of an array of numbers."""
        return self.add(arrays.numbers(values), f"{kind}[]")

    def blobs(self, values: Iterable[bytes]) -> str:
        """The place of an array of bytea."""
        return self.add(arrays.blobs(values), "bytea[]")
