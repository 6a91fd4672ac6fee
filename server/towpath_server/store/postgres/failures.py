"""What PostgreSQL's errors mean to whoever called the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from towpath_server.core.errors import InvalidArgument, StoreFull, StoreUnavailable, Violation
from towpath_server.store.base import Contended, IntegrityViolation

# Somebody else was there at the same moment: tried again as a whole, it may go through.
_RACES = (
    errors.UniqueViolation,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.LockNotAvailable,
    errors.IdleInTransactionSessionTimeout,
)
# Of the classes of SQLSTATE that speak of wrong SQL: a bug of ours, shown as it is.
_BUGS = ("42", "0A", "25", "26", "34", "P0")
_NOT_BUGS = (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)


@contextmanager
def translated() -> Iterator[None]:
    """Inside it the driver's errors become the store's."""
    try:
        yield
    except psycopg.Error as error:
        what = meaning(error)
        if what is error:
            raise
        raise what from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise _odd() from error


def meaning(error: psycopg.Error) -> Exception:
    """The store's error for one of the driver's; the same where it is a bug."""
    if isinstance(error, _RACES):
        return Contended(_told(error))
    if isinstance(error, errors.DiskFull):
        return StoreFull()
    if isinstance(error, psycopg.IntegrityError):
        return IntegrityViolation(_told(error))
    if isinstance(error, psycopg.DataError):
        return _odd()
    if isinstance(error, errors.ProgramLimitExceeded):
        return InvalidArgument((Violation("job", "it is too large for the store"),))
    code = error.sqlstate or ""
    if code[:2] in _BUGS and not isinstance(error, _NOT_BUGS):
        return error
    return StoreUnavailable()


def _odd() -> InvalidArgument:
    return InvalidArgument((Violation("job", "text must be Unicode without NUL and numbers fit 64 bits"),))


def _told(error: psycopg.Error) -> str:
    # Without the detail, which quotes values.
    return error.diag.message_primary or type(error).__name__
