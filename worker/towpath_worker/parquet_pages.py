"""What the pages of a Parquet file will take in memory, by their own headers: a footer may say anything.

A file of 100 KB can hold a page that inflates to 2 GB, or one value that stands for a billion. The headers are Thrift's
compact protocol: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

_HEADER_BYTES = (1 << 12, 1 << 16, 16 << 20)
_LARGEST = (1 << 31) - 1
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
#: Where the fields of each kind of page lie, and that of the encoding in it.
_FIELDS = {_DATA: (5, 2), _DICTIONARY: (7, 2), _DATA_V2: (8, 4)}
_BY_DICTIONARY = (2, 8)
_BY_THE_VALUE_BEFORE = 7
_DEEPEST = 16
#: Old writers forgot to count the header of the dictionary.
_UNCOUNTED = 100


@dataclass(frozen=True, slots=True)
class Page:
    """One page, unpacked."""

    #: Where its content lies in the file, how many bytes it takes there, and how many once unpacked.
    start: int
    packed: int
    size: int
    #: 0 for a dictionary, whose values are in no row.
    values: int
    is_dictionary: bool
    #: Whether its values are places in the dictionary.
    coded: bool
    #: Whether each value may repeat all of the one before.
    prefixed: bool


def pages(file: BinaryIO, start: int, length: int, values: int) -> Iterator[Page]:
    """The pages of a column chunk, as a reader would unpack them until it has so many values. Raises ValueError."""
    end, seen = start + length, 0
    while seen < values and start < end + _UNCOUNTED:
        try:
            header, size = _header(file, start)
        except ValueError:
            if start >= end:
                return
            raise
        kind, unpacked, packed = (_number(header, field) for field in (1, 2, 3))
        content = start + size
        start = content + packed
        place, encoding_at = _FIELDS.get(kind, (0, 0))
        detail = header.get(place, {})
        if not isinstance(detail, dict):
            raise ValueError("a page has a broken header")
        count, encoding = _number(detail, 1), _number(detail, encoding_at)
        is_data = kind in (_DATA, _DATA_V2)
        seen += count if is_data else 0
        yield Page(
            start=content,
            packed=packed,
            size=unpacked,
            values=count if is_data else 0,
            is_dictionary=kind == _DICTIONARY,
            coded=is_data and encoding in _BY_DICTIONARY,
            prefixed=is_data and encoding == _BY_THE_VALUE_BEFORE,
        )


def _number(fields: dict[int, Any], field: int) -> int:
    number = fields.get(field, 0)
    if not isinstance(number, int) or not 0 <= number <= _LARGEST:
        raise ValueError("a page has a broken header")
    return number


def _header(file: BinaryIO, start: int) -> tuple[dict[int, Any], int]:
    """The fields of a page's header, and how many bytes it takes."""
    for limit in _HEADER_BYTES:
        file.seek(start)
        thrift = _Thrift(file.read(limit))
        try:
            return thrift.struct(), thrift.at
        except IndexError:
            continue
    raise ValueError("a page has no header")


class _Thrift:
    """Reads structs; IndexError at the end of the bytes."""

    def __init__(self, content: bytes) -> None:
        self._content, self.at = content, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _DEEPEST:
            raise ValueError("a page has too deep a header")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = self._value(head & 15, depth, in_list=False)
        return fields

    def _value(self, kind: int, depth: int, *, in_list: bool) -> Any:
        if kind in (1, 2):
            return bool(self._byte()) if in_list else kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind in (7, 8):
            return self._skip(8 if kind == 7 else self._varint())
        if kind in (9, 10):
            head = self._byte()
            return self._items(head >> 4 if head >> 4 < 15 else self._varint(), (head & 15,), depth)
        if kind == 11:
            count = self._varint()
            kinds = self._byte() if count else 0
            return self._items(count, (kinds >> 4, kinds & 15), depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError("a page has a broken header")

    def _items(self, count: int, kinds: tuple[int, ...], depth: int) -> None:
        # Each takes a byte or more: a count that lies ends with the bytes.
        for _ in range(count):
            for kind in kinds:
                self._value(kind, depth + 1, in_list=True)

    def _byte(self) -> int:
        self.at += 1
        return self._content[self.at - 1]

    def _skip(self, count: int) -> None:
        if self.at + count > len(self._content):
            raise IndexError
        self.at += count

    def _varint(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise ValueError("a page has a broken header")

    def _zigzag(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)
