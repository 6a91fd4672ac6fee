"""PostgreSQL's driver, which is an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from towpath_server.store.base import StoreRefused


@contextmanager
def needed() -> Iterator[None]:
    """Around the import of what needs it: raises `StoreRefused` where it is not there, or is of no use."""
    try:
        yield
    except ImportError as error:
        if error.name is not None and error.name.startswith("towpath"):
            raise
        raise StoreRefused(
            f"A PostgreSQL store needs psycopg, which is not there ({' '.join(str(error).split())}). Install it: "
            "pip install 'towpath[server,postgres]'"
        ) from error
