"""How a handler says that its input is wrong, and how it learns that it is to stop."""

from __future__ import annotations


class InvalidInput(Exception):
    """The job's parameters or data are wrong: the job fails at once and is not tried again. Say what to do about it."""


class Cancelled(BaseException):
    """The job was asked to stop. Not an Exception, so that no library's `except Exception` swallows it."""
