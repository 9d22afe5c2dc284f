"""Items that a thread makes ahead of time."""

import threading
import time
from collections.abc import Iterator

import pytest

from mol_fast.utils.ahead import Begun, ahead


def test_items_come_in_order_and_the_thread_ends() -> None:
    before = threading.active_count()
    assert list(ahead(range(100), 3)) == list(range(100))
    assert list(ahead([], 1)) == []
    assert threading.active_count() == before


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    iterator = ahead(items(), 8)
    assert [next(iterator), next(iterator)] == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(iterator)


def test_it_makes_no_more_than_it_may_and_closes_what_it_reads() -> None:
    made, closed = [], []

    def items() -> Iterator[int]:
        try:
            for number in range(1000):
                made.append(number)
                yield number
        finally:
            closed.append(True)

    before = threading.active_count()
    iterator = ahead(items(), 2)
    assert next(iterator) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:  # one used, two waiting, one in the hand of the thread
        time.sleep(0.01)
    assert made == [0, 1, 2, 3]
    iterator.close()
    assert closed == [True]
    assert threading.active_count() == before


def test_something_begun_is_there_when_it_is_asked_for() -> None:
    wait = threading.Event()
    begun = Begun(lambda: (wait.wait(60), 7))
    begun.check()
    wait.set()
    assert begun() == begun() == (True, 7)
    begun.check()


def test_an_error_of_something_begun_is_raised_by_a_check_and_by_a_call() -> None:
    def fail() -> None:
        raise ValueError("no such weights")

    begun = Begun(fail)
    for ask in (begun, begun.check, begun):
        with pytest.raises(ValueError, match="no such weights"):
            ask()
