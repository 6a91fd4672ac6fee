"""Random numbers for ids and tokens."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from towpath_server.entropy import Entropy


def test_no_number_is_given_twice_whoever_asks() -> None:
    entropy = Entropy()
    with ThreadPoolExecutor(4) as threads:
        drawn = [number for many in threads.map(lambda _: _draw(entropy), range(8)) for number in many]
    assert len(set(drawn)) == len(drawn)


def test_a_number_has_as_many_bits_as_were_asked_for() -> None:
    entropy = Entropy()
    for bits in (1, 21, 128, 500):
        drawn = [entropy.getrandbits(bits) for _ in range(400)]
        assert max(drawn) < 1 << bits
        assert max(drawn) >= 1 << (bits - 1)
    assert 0 <= entropy.random() < 1


def _draw(entropy: Entropy) -> list[int]:
    return [entropy.getrandbits(128) for _ in range(2_000)]
