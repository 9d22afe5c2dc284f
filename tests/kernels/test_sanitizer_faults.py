"""The sanitizer reports every kind of fault that is planted, and nothing where nothing is wrong."""

from collections.abc import Callable

import pytest
import torch

pytest.importorskip("triton")

from harness import faulty
from harness.sanitizer import Sanitizer
from harness.shadow import Kind

pytestmark = pytest.mark.sanitizer

B = 8


def of(size: int, *, step: int = 1) -> torch.Tensor:
    """`size` ones, `step` elements apart."""
    return torch.ones(size * step)[::step]


def two_arguments_in_one_storage() -> None:
    """The kernel leaves p_y by the distance to p_x."""
    x, y = torch.ones(4 * B).chunk(2)
    faulty.copy_by[(1,)](x, y, -2 * B, B=B)


def uninitialised() -> None:
    """The second launch reads what the first left out."""
    y, z = torch.empty(2 * B), of(2 * B)
    faulty.copy[(1,)](of(B), y, B, FIRST=0, B=B)
    faulty.copy[(2,)](y, z, 2 * B, FIRST=0, B=B)
    y.fill_(0)


FAULTS: list[tuple[Kind, str, Callable[[], object]]] = [
    (Kind.OUT_OF_BOUNDS, "p_x", lambda: faulty.copy_without_load_mask[(2,)](of(B + 5), of(B + 5), B + 5, B=B)),
    (Kind.OUT_OF_BOUNDS, "p_y", lambda: faulty.copy_without_store_mask[(2,)](of(B + 5), of(B + 5), B + 5, B=B)),
    (Kind.OUT_OF_BOUNDS, "p_x", lambda: faulty.copy[(1,)](of(B, step=2), of(B), B, FIRST=0, B=B)),
    (Kind.OUT_OF_BOUNDS, "p_y", two_arguments_in_one_storage),
    (Kind.UNINITIALISED, "p_x", uninitialised),
    (Kind.WRITE_RACE, "p_y", lambda: faulty.overlapping[(2,)](of(3 * B), B=B)),
    (Kind.READ_RACE, "p_y", lambda: faulty.read_left[(2,)](of(2 * B), B=B)),
    (Kind.READ_RACE, "p_y", lambda: faulty.read_right[(2,)](of(2 * B), 2 * B, B=B)),
    (Kind.UNORDERED_READ, "p_y", lambda: faulty.reverse[(1,)](of(B), of(B), B=B, AFTER_STORE=False, AFTER_LOAD=True)),
    (Kind.UNORDERED_WRITE, "p_y", lambda: faulty.reverse[(1,)](of(B), of(B), B=B, AFTER_STORE=True, AFTER_LOAD=False)),
    (Kind.UNORDERED_WRITES, "p_y", lambda: faulty.write_twice[(1,)](of(B), B=B, BARRIER=False)),
    (Kind.ONE_ADDRESS, "p_y", lambda: faulty.halves[(1,)](of(B), B=B)),
    (Kind.NEVER_WRITTEN, "p_y", lambda: faulty.copy[(1,)](of(B), torch.empty(B), B, FIRST=1, B=B)),
]


@pytest.mark.parametrize(("kind", "argument", "launch"), FAULTS, ids=[f"{f[0].name.lower()}-{f[1]}" for f in FAULTS])
def test_a_fault_is_reported(kind: Kind, argument: str, launch: Callable[[], object]) -> None:
    """With its kind alone, its argument and its line."""
    with Sanitizer() as sanitizer:
        launch()
    assert {(fault.kind, fault.argument) for fault in sanitizer.faults} == {(kind, argument)}, sanitizer.report()
    places = {fault.place.split(":")[0] for fault in sanitizer.faults}
    assert places == {"at the end" if kind is Kind.NEVER_WRITTEN else "faulty.py"}


def no_fault() -> None:
    y = torch.empty(B + 5)
    faulty.copy[(2,)](of(B + 5), y, B + 5, FIRST=0, B=B)
    faulty.copy[(2,)](y, torch.empty(B + 5), B + 5, FIRST=0, B=B)
    faulty.copy[(2,)](of(2 * B), torch.empty(2 * B), 2 * B, FIRST=0, B=B)
    faulty.copy[(1,)](torch.empty(B).fill_(0), of(B), B, FIRST=0, B=B)
    faulty.reverse[(1,)](of(B), torch.empty(B), B=B, AFTER_STORE=True, AFTER_LOAD=True)
    faulty.write_twice[(1,)](torch.empty(B), B=B, BARRIER=True)


def test_nothing_is_reported_where_nothing_is_wrong() -> None:
    with Sanitizer() as sanitizer:
        no_fault()
    assert not sanitizer.faults, sanitizer.report()
    assert sanitizer.kernels == {"copy", "reverse", "write_twice"}


def test_a_launch_outside_is_not_checked_and_gives_the_same() -> None:
    """The interpreter is as it was when the sanitizer is done."""
    x, ys = torch.arange(B).float(), [torch.empty(B), torch.empty(B)]
    with Sanitizer() as sanitizer:
        faulty.reverse[(1,)](x, ys[0], B=B, AFTER_STORE=True, AFTER_LOAD=True)
    faulty.reverse[(1,)](x, ys[1], B=B, AFTER_STORE=False, AFTER_LOAD=False)
    assert not sanitizer.faults
    assert torch.equal(ys[0], torch.full((B,), B - 1.0))
    assert torch.equal(ys[1], ys[0])


def test_an_access_out_of_bounds_is_not_made() -> None:
    """Whoever owns the memory keeps what is in it."""
    whole = torch.zeros(4 * B)
    with Sanitizer():
        faulty.copy_without_store_mask[(2,)](of(2 * B), whole[: B + 1], B + 1, B=B)
    assert whole.tolist() == [1.0] * (B + 1) + [0.0] * (3 * B - 1)


def test_spare_memory_may_stay_unwritten() -> None:
    with Sanitizer(spare={"p_y"}) as sanitizer:
        faulty.copy[(1,)](of(B), torch.empty(B), B, FIRST=1, B=B)
    assert not sanitizer.faults


def test_atomics_are_refused() -> None:
    with Sanitizer(), pytest.raises(Exception, match="does not know atomics"):
        faulty.count[(1,)](of(B), B=B)
