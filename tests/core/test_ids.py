"""Ids: ordered by time, always growing, readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.lives import NOW
from towpath_server.core.ids import ALPHABET, LENGTH, RANDOM_BITS, moment, new_id, read, show

NUMBERS = st.integers(0, (1 << 63) - 1)
MOMENTS = st.integers(0, 4_000_000_000_000_000)
BITS = st.integers(0, (1 << RANDOM_BITS) - 1)
MILLISECOND = 1000


@given(MOMENTS, BITS, BITS)
def test_a_later_millisecond_makes_a_greater_id(now: int, first: int, second: int) -> None:
    assert new_id(now, first) < new_id(now + MILLISECOND, second)


@given(st.lists(st.tuples(MOMENTS, BITS), min_size=2, max_size=20))
def test_ids_grow_whatever_the_clock_and_the_dice_do(rolls: list[tuple[int, int]]) -> None:
    last, made = 0, []
    for now, bits in rolls:
        last = new_id(now, bits, last)
        made.append(last)
    assert made == sorted(set(made))
    assert made[-1] < 1 << 63


@given(BITS)
def test_in_one_millisecond_ids_count_up(bits: int) -> None:
    first = new_id(NOW, bits)
    assert new_id(NOW, 0, first) == first + 1
    assert new_id(NOW + 999, bits, first) == first + 1


@given(MOMENTS, BITS)
def test_an_id_tells_its_moment(now: int, bits: int) -> None:
    assert moment(new_id(now, bits)) == now // MILLISECOND * MILLISECOND


def test_more_dice_than_asked_for_do_not_reach_the_clock() -> None:
    assert moment(new_id(NOW, (1 << 64) - 1)) == NOW


@given(NUMBERS, NUMBERS)
def test_shown_ids_sort_as_their_numbers(one: int, other: int) -> None:
    assert (show("job", one) < show("job", other)) == (one < other)


@given(st.sampled_from(["job", "wkr", "mdl", "tok", "sch"]), NUMBERS)
def test_what_is_shown_can_be_read(prefix: str, number: int) -> None:
    text = show(prefix, number)
    assert read(prefix, text) == number
    assert len(text) == len(prefix) + 1 + LENGTH


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "job_0000000000000"),
        (5, "job_0000000000005"),
        (32, "job_0000000000010"),
        ((1 << 63) - 1, "job_7zzzzzzzzzzzz"),
    ],
)
def test_how_it_looks(number: int, text: str) -> None:
    assert show("job", number) == text


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "job",
        "job_",
        "_0000000000005",
        "0000000000005",
        "wkr_0000000000005",
        "JOB_0000000000005",
        "job-0000000000005",
        "job_000000000005",
        "job_00000000000005",
        "job_000000000000 5",
        " job_0000000000005",
        "job_0000000000005\n",
        "job__000000000005",
        "job_000000000000A",
        "job_000000000000i",
        "job_000000000000l",
        "job_000000000000o",
        "job_000000000000u",
        "job_00000000000-5",
        "job_00000000000\u0665\u0665",
        "job_\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff15",
        "job_8000000000000",
        "job_zzzzzzzzzzzzz",
    ],
)
def test_junk_is_no_id(junk: str) -> None:
    assert read("job", junk) is None


@given(st.text(max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    number = read("job", f"job_{text}")
    assert number is None or show("job", number) == f"job_{text}"


def test_the_alphabet_is_crockfords() -> None:
    assert len(set(ALPHABET)) == 32
    assert not set("ilou") & set(ALPHABET)
    assert sorted(ALPHABET) == list(ALPHABET)
