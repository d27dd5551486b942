"""The replay window against a set that never forgets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlvpn.crypto.replay import MAX_GAPS, WINDOW_BITS, ReplayWindow


class NaiveWindow:
    """The same rules, said as plainly as possible."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def accept(self, lseq: int) -> bool:
        if lseq in self.seen or (self.seen and lseq <= max(self.seen) - WINDOW_BITS):
            return False
        self.seen.add(lseq)
        return True

    def accept_range(self, first: int, count: int) -> bool:
        wanted = range(first, first + count)
        highest = max(self.seen, default=-1)
        if first <= highest and (
            wanted[-1] > highest or first <= highest - WINDOW_BITS or self.seen.intersection(wanted)
        ):
            return False
        self.seen.update(wanted)
        return True


# Steps around 0, around the window's size, and far beyond, from wherever the highest lseq is.
_steps = st.one_of(
    st.integers(-40, 40), st.integers(-WINDOW_BITS - 5, -WINDOW_BITS + 5), st.integers(0, 3 * WINDOW_BITS)
)


@given(st.lists(st.tuples(_steps, st.integers(0, 70)), max_size=60))
def test_agrees_with_a_set(operations: list[tuple[int, int]]) -> None:
    window, model = ReplayWindow(), NaiveWindow()
    for step, count in operations:
        lseq = max(0, window.highest_lseq + step)
        if count:
            assert window.accept_range(lseq, count) == model.accept_range(lseq, count)
        else:
            assert window.accept(lseq) == model.accept(lseq)
        assert window.highest_lseq == max(model.seen)


def test_refused_range_records_nothing() -> None:
    window = ReplayWindow()
    assert window.accept(5)
    assert not window.accept_range(4, 10)
    assert window.highest_lseq == 5
    assert [window.accept(lseq) for lseq in (4, 5, 6)] == [True, False, True]


def test_range_longer_than_the_window() -> None:
    window = ReplayWindow()
    assert window.accept_range(0, 2 * WINDOW_BITS)
    assert not any(window.accept(lseq) for lseq in range(0, 2 * WINDOW_BITS, 97))


def test_a_jump_over_the_whole_number_range_costs_no_memory() -> None:
    window = ReplayWindow()
    assert window.accept(0)
    assert window.accept((1 << 48) - 1)
    assert not window.accept(0)
    assert window.accept((1 << 48) - WINDOW_BITS)
    assert not window.accept((1 << 48) - 1 - WINDOW_BITS)


def test_ever_more_gaps_cost_no_more_memory() -> None:
    window = ReplayWindow(bits=1 << 16)
    for lseq in range(0, 4 * MAX_GAPS, 2):
        assert window.accept(lseq)
    newest = 4 * MAX_GAPS - 2
    assert not window.accept(newest - 2 * MAX_GAPS - 1), "the oldest gaps count as seen"
    assert window.accept(newest - 2 * MAX_GAPS + 1), "the newer ones are as they were"
