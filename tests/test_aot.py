"""Ahead-of-time lane: every shipped kernel, dtype and configuration compiles for every target within the bars.

The launches come from the modules' own `shipped`, so a new configuration is covered by adding it there.
"""

import pytest

pytest.importorskip("triton")

from mol_fast.kernels import resources
from mol_fast.kernels.common import DTYPES, Launch

pytestmark = pytest.mark.aot

SHARED_LIMIT = {"gfx942": 64 * 1024}
"""Bytes of shared memory of a program; on NVIDIA those of the smallest supported class of cards, 99 KiB."""

CASES = [
    pytest.param(launch, target, id=f"{launch.name}-{shape}-{str(dtype).removeprefix('torch.')}-{target}")
    for operator in resources.OPERATORS
    for target in resources.TARGETS
    for dtype in DTYPES
    for shape, launch in resources.shipped(operator, dtype, resources.TARGETS[target].backend)
]


@pytest.mark.parametrize(("launch", "target"), CASES)
def test_compiles_within_the_bars(launch: Launch, target: str) -> None:
    used = resources.resources(resources.compile_launch(launch, resources.TARGETS[target]))
    assert used.shared <= SHARED_LIMIT.get(target, 99 * 1024)
    assert bool(used.matrix) == bool(launch.flops)
    if target in ("sm_80", "sm_90"):
        assert (used.stack, used.local) == (0, 0)
