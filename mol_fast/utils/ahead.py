"""Make things ahead of time in a thread, so that who makes them and who uses them work side by side."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import Full, Queue
from typing import Generic, TypeVar

Item = TypeVar("Item")

_PATIENCE = 0.1  # seconds between looks whether anybody still wants the items


def ahead(items: Iterable[Item], size: int) -> Iterator[Item]:
    """Yield `items` in order. A thread makes up to `size` of them before they are asked for.

    An exception of the items is raised here, after the items before it. When this iterator is closed, the thread ends
    after the item that it is making.
    """
    made: Queue[tuple[Item] | BaseException | None] = Queue(size)
    unwanted = threading.Event()

    def put(thing: tuple[Item] | BaseException | None) -> bool:
        while not unwanted.is_set():
            try:
                made.put(thing, timeout=_PATIENCE)
            except Full:
                continue
            return True
        return False

    def make() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put((item,)):
                    break
            put(None)
        except BaseException as error:
            put(error)
        finally:
            if isinstance(iterator, Iterator) and (close := getattr(iterator, "close", None)):
                close()

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (thing := made.get()) is not None:
            if isinstance(thing, BaseException):
                raise thing
            yield thing[0]
    finally:
        unwanted.set()
        thread.join()


class Begun(Generic[Item]):
    """Something that a thread makes from now on. Call it to wait for it, and to get it.

    A call raises the exception of `make`, if there was one. The program does not end before the thread.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[], Item]) -> None:
        self._made: Future[Item] = Future()
        threading.Thread(target=self._run, args=(make,)).start()

    def __call__(self) -> Item:
        return self._made.result()

    def check(self) -> None:
        """Raise the exception of `make`, if there was one already."""
        if self._made.done():
            self._made.result()

    def _run(self, make: Callable[[], Item]) -> None:
        try:
            self._made.set_result(make())
        except BaseException as error:
            self._made.set_exception(error)
