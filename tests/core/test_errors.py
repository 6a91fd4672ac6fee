"""What the scheduler refuses, in words."""

from __future__ import annotations

import re
from string import Formatter

import pytest

from towpath_server.core import errors
from towpath_server.core.errors import InvalidArgument, TowpathError, Violation

KINDS = [kind for kind in TowpathError.__subclasses__() if kind is not InvalidArgument]


def facts_of(kind: type[TowpathError]) -> set[str]:
    """The facts that the message names."""
    return {name for _, name, _, _ in Formatter().parse(kind.__doc__ or "") if name is not None}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_message_is_one_sentence_or_two_with_all_its_facts(kind: type[TowpathError]) -> None:
    error = kind(**{name: f"<{name}>" for name in facts_of(kind)})
    message = str(error)
    assert re.fullmatch(r"[^\n]+[.`]", message)
    assert all(f"<{name}>" in message for name in facts_of(kind))
    assert error.facts == {name: f"<{name}>" for name in facts_of(kind)}


def test_each_has_a_reason_of_its_own() -> None:
    reasons = [kind.reason for kind in TowpathError.__subclasses__()]
    assert len(set(reasons)) == len(reasons)
    assert all(re.fullmatch(r"[A-Z][A-Z_]{2,62}", reason) for reason in reasons)


def test_braces_in_a_fact_are_text() -> None:
    assert "{0} {x!r}" in str(errors.QueueNotFound(queue="{0} {x!r}"))


def test_all_wrong_fields_are_told_at_once() -> None:
    error = InvalidArgument((Violation("job.queue", "too {long}"), Violation("job.train", "is missing")))
    assert str(error) == "job.queue: too {long}; job.train: is missing"
    assert [violation.field for violation in error.violations] == ["job.queue", "job.train"]
