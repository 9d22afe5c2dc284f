"""Ahead-of-time lane: every shipped kernel compiles for every target within the bars.

The launches come from the modules' own `shipped`: a new configuration is covered by adding it there. For sm_90, all in
bfloat16 are compiled. In float32 those are compiled that have a tile, warps or branches of their own, each at its
largest shape. The tiles of float16 are those of bfloat16, so one of each kernel is compiled. So it is for the other
targets, in bfloat16. MOL_FAST_AOT=all compiles everything for every target.
"""

import math
import os
from collections import defaultdict
from collections.abc import Hashable, Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

import triton
from mol_fast.kernels import resources
from mol_fast.kernels.common import DTYPES, Launch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime import driver

pytestmark = pytest.mark.aot

SHARED_LIMIT = {"gfx942": 64 * 1024}
"""Bytes of shared memory of a program; on NVIDIA those of the smallest supported class of cards, 99 KiB."""

EVERYTHING = os.environ.get("MOL_FAST_AOT") == "all"


def like(launch: Launch) -> Hashable:
    """What tells the code of a kernel apart but for sizes and strides: its tile, warps and branches."""
    branches = {name: value for name, value in launch.constants.items() if isinstance(value, bool | str)}
    return launch.name, launch.tile, launch.num_warps, launch.num_stages, *sorted(branches.items())


def size(launch: Launch) -> int:
    """Of a program: the product of the sides of maps and blocks."""
    return math.prod(value for value in launch.constants.values() if isinstance(value, int) and value > 0)


def chosen(launches: list[tuple[str, Launch]], target: str, dtype: torch.dtype) -> list[tuple[str, Launch]]:
    """Those that are compiled for a target."""
    if EVERYTHING or (target == "sm_90" and dtype == torch.bfloat16):
        return launches
    if target == "sm_90" and dtype == torch.float32:
        largest: dict[Hashable, tuple[str, Launch]] = {}
        for shape, launch in launches:
            if like(launch) not in largest or size(launch) > size(largest[like(launch)][1]):
                largest[like(launch)] = shape, launch
        return [*largest.values()]
    if target == "sm_90" or dtype == torch.bfloat16:
        return [*{launch.name: (shape, launch) for shape, launch in reversed(launches)}.values()]
    return []


def cases() -> Iterator[object]:
    for target, dtype in product(resources.TARGETS, DTYPES):
        for operator in resources.OPERATORS:
            launches = [*resources.shipped(operator, dtype, resources.TARGETS[target].backend)]
            for shape, launch in chosen(launches, target, dtype):
                name = f"{launch.name}-{shape}-{str(dtype).removeprefix('torch.')}-{target}"
                yield pytest.param(launch, target, id=name)


@pytest.mark.parametrize(("launch", "target"), [*cases()])
def test_compiles_within_the_bars(launch: Launch, target: str) -> None:
    used = resources.resources(resources.compile_launch(launch, resources.TARGETS[target]))
    assert used.shared <= SHARED_LIMIT.get(target, 99 * 1024)
    assert bool(used.matrix) == bool(launch.flops)
    if target in ("sm_80", "sm_90"):
        assert (used.stack, used.local) == (0, 0)


@pytest.mark.parametrize("operator", resources.OPERATORS)
def test_float16_has_the_tiles_of_bfloat16(operator: str) -> None:
    def tiles(dtype: torch.dtype) -> list[tuple[object, ...]]:
        launches = resources.shipped(operator, dtype, "cuda")
        return [(shape, launch.name, launch.grid, launch.constants, launch.options(90)) for shape, launch in launches]

    assert tiles(torch.float16) == tiles(torch.bfloat16)


class NoDevice:
    """Triton's view of a machine with a GPU, as far as a launch needs it before it launches."""

    get_current_device = get_current_stream = staticmethod(lambda *_: 0)
    get_active_torch_device = staticmethod(lambda: torch.device("cpu"))
    get_current_target = staticmethod(lambda: resources.TARGETS["sm_90"])


@pytest.mark.parametrize("operator", resources.OPERATORS)
def test_a_real_launch_compiles_the_same(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's own specialisation of the arguments of a launch is the one that is compiled ahead of time."""
    found: list[tuple[object, ...]] = []

    def record(source: ASTSource, target: GPUTarget, options: dict[str, object]) -> None:
        attributes = {place: value for place, value in source.attrs.items() if value}
        parsed = make_backend(target).parse_options(dict(options)).hash()
        found.append((source.fn, source.signature, source.constants, attributes, target, parsed))

    monkeypatch.setattr(driver, "_active", NoDevice())
    for owner in (triton, triton.compiler):
        monkeypatch.setattr(owner, "compile", record)
    for _, launch in resources.shipped(operator, torch.bfloat16, "cuda"):
        monkeypatch.setattr(launch.kernel, "compile", record, raising=False)
        monkeypatch.setattr(launch.kernel, "device_caches", defaultdict(launch.kernel.create_binder))
        held = {name: real(value) for name, value in launch.arguments.items()}
        launch.kernel.run(grid=launch.grid, warmup=True, **held, **launch.constants, **launch.options(90))
        resources.compile_launch(launch, resources.TARGETS["sm_90"])
        launched, ahead = found[-2:]
        assert launched == ahead, launch.name
    assert len(found) > 2


def real(value: object) -> object:
    """A small tensor with data for one without, which has an address that Triton can ask for."""
    return torch.empty(1, dtype=value.dtype) if isinstance(value, Tensor) else value


CCC_CASES = [
    pytest.param(launch, id=f"{launch.name}-{shape}")
    for shape, launch in resources.shipped("ccc", torch.bfloat16, "cuda")
    if "128x16x16" in shape
]


@pytest.mark.parametrize("launch", CCC_CASES)
def test_two_programs_of_ccc_share_a_multiprocessor(launch: Launch) -> None:
    """On sm_90, at the sizes of the model: one waits for memory or for its threads while the other computes."""
    used = resources.resources(resources.compile_launch(launch, resources.TARGETS["sm_90"]))
    assert used.ctas_per_sm is not None
    assert used.ctas_per_sm >= 2


@pytest.mark.parametrize("launch", [case for case in CCC_CASES if case.id == "ccc_edges_kernel-448x128x16x16"])
def test_registers_are_not_capped_where_products_read_operands_from_them(launch: Launch) -> None:
    """As on sm_80, so on sm_120, whose products are the same: under the cap of sm_90 kernels would spill."""
    used = resources.resources(resources.compile_launch(launch, GPUTarget("cuda", 120, 32)))
    assert used.matrix == ("mma.sync",)
    assert (used.stack, used.local) == (0, 0)


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "programs"),
    [(128, 0, 8, 2), (129, 0, 8, 1), (16, 0, 1, 32), (32, 0, 8, 8), (32, 113 * 1024, 4, 2), (32, 114 * 1024, 4, 1)],
)
def test_programs_at_once(registers: int, shared: int, warps: int, programs: int) -> None:
    """By registers, by the 32 programs and 64 warps of a multiprocessor, and by shared memory."""
    assert resources.held_at_once(registers, shared, warps, 90) == programs
