"""Launches of every operator before they start: sizes they compile for, what they move, what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness.kernel_checks import Make, decide, each

pytest.importorskip("triton")

import triton
from harness import kernel_ccc, kernel_correlation, kernel_fcc
from mol_fast.kernels import ccc, ccc_forward, ccc_parameters, common, correlation, fcc, resources, tiles
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend

from mol_fast import F5C

pytestmark = pytest.mark.aot


@each(
    kernel_fcc.problem(2, 2, 3, 5), kernel_ccc.problem(1, 4, 2, 3, 2), kernel_correlation.problem(1, 2, 3, 4, 2, 1, 0.1)
)
def test_a_tensor_on_the_cpu_is_refused(make: Make) -> None:
    problem = make(torch.float32, "cpu")
    with pytest.raises(ValueError, match=r"[xa] must be on a GPU"):
        problem.layer(problem.params(), problem.x)


Launches = Callable[[], list[common.Launch]]
HALF = torch.bfloat16


def lower(source: ASTSource, target: GPUTarget, options: dict[str, Any]) -> None:
    """`triton.compile` as far as LLVM: the types of all values and their layouts on the card."""
    backend = make_backend(target)
    parsed = backend.parse_options({**options, **source.parse_options()})
    context, stages, metadata = ir.context(), {}, {"target": target, **parsed.__dict__}
    for dialects in (ir, backend):
        dialects.load_dialects(context)
    made = source.make_ir(target, parsed, backend.get_codegen_implementation(parsed), backend.get_module_map(), context)
    backend.add_stages(stages, parsed, source.language)
    for stage in ("ttir", "ttgir"):
        made = stages[stage](made, metadata)


@pytest.mark.parametrize(
    "launches",
    [
        pytest.param(lambda: fcc.launches((1, 2, 1, 1), HALF, "cuda", groups=1), id="fcc0"),
        pytest.param(lambda: fcc.launches((7, 4, 5, 12), HALF, "cuda", groups=7), id="fcc1"),
        pytest.param(lambda: ccc.launches((1, 1, 1, 1), 1, HALF, "cuda"), id="ccc0"),
        pytest.param(lambda: ccc.launches((200, 2, 4, 4), 2, HALF, "cuda"), id="ccc1"),
        pytest.param(lambda: correlation.launches((1, 1, 1, 1), HALF, "cuda", stride=1), id="correlation0"),
        pytest.param(lambda: correlation.launches((3, 5, 7, 12), HALF, "cuda", stride=1), id="correlation1"),
    ],
)
@pytest.mark.parametrize("wide", [False, True])
def test_extreme_sizes_compile(launches: Launches, wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes and strides of 1 become constants in a real launch, and large maps have int64 offsets, whose types the
    stages decide that are Triton's own."""
    if wide:
        decide(monkeypatch, common, "INT32_LIMIT", 1)
        monkeypatch.setattr(triton, "compile", lower)
    for launch in launches():
        resources.compile_launch(launch, resources.TARGETS["sm_90"])


def test_traffic_of_fcc_is_that_of_its_docstring() -> None:
    """Passes over the maps, with parameters and partial sums at most a tenth beside them."""
    shape = (448, 128, 16, 16)
    maps = 2 * 448 * 128 * 256
    for training, forward, backward in ((True, 3, 5), (False, 2, 4)):
        launches = fcc.launches(shape, torch.bfloat16, "cuda", groups=7, training=training)
        for phase, passes in (("forward", forward), ("backward", backward)):
            moved = sum(launch.bytes for launch in launches if launch.phase == phase)
            assert passes * maps <= moved <= 1.1 * passes * maps, (training, phase, moved / maps)


SMALL = (ccc_parameters.ccc_stack_kernel, ccc_parameters.ccc_sum_kernel)
"""The kernels on parameters, which touch no map."""


def test_int64_offsets_within_a_map_of_ccc() -> None:
    """Many maps need none, offsets of maps being int64 anyway; a map whose channels lie far apart does."""
    found = torch.empty((1, 2, 6), dtype=torch.int16, device="meta")
    for strides, wide in (((96, 16, 4, 1), False), ((0, 2**29, 4, 1), True)):
        x = torch.empty_strided((2**25, 6, 4, 4), strides, device="meta")
        assert ccc_forward.neighbours_launch(x, found, "cuda").constants["WIDE"] == wide


def test_traffic_of_ccc_is_that_of_its_docstring() -> None:
    """Passes over the maps, and parameters and partial sums at most a twentieth beside them; and so is what is moved
    to stack the parameters and to add up the partial sums of their gradients."""
    launches = ccc.launches((448, 128, 16, 16), 4, torch.bfloat16, "cuda")
    maps = 2 * 448 * 128 * 256
    for phase, passes in (("forward", 4.25), ("backward", 9.25)):
        own = [launch.bytes for launch in launches if launch.phase == phase and launch.kernel in SMALL]
        moved = sum(launch.bytes for launch in launches if launch.phase == phase) - sum(own)
        assert len(own) == 1
        assert sum(own) <= 0.05 * passes * maps
        assert passes * maps <= moved <= 1.05 * passes * maps, (phase, moved / maps)


def test_wider_programs_of_ccc_read_less_again() -> None:
    """Of twice the pixels: half as many programs, each of which reads its map and mix."""

    def edges(turns: int) -> common.Launch:
        with tiles.override({"ccc_edges_kernel": {"BD": 32, "TURNS": turns}}):
            launches = ccc.launches((448, 128, 16, 16), 4, torch.bfloat16, "cuda")
        return next(launch for launch in launches if launch.name == "ccc_edges_kernel")

    maps, mix = 2 * 448 * 128 * 256, 2 * 128 * 128
    assert edges(1).bytes == edges(2).bytes
    assert edges(1).l2_bytes - edges(2).l2_bytes == 4 * maps + 4 * 448 * mix


def test_only_reachable_pairs_are_counted() -> None:
    """On 16 x 16 a quarter of all pairs lies in rows and columns of one residue; those are what the backward reads."""
    assert correlation.reached((1, 1, 16, 16), 10, 2) == 16**4 // 4
    assert correlation.pairs((1, 1, 16, 16), 2) == 16**4 // 2


def test_traffic_of_a_training_step() -> None:
    """Device memory traffic at the standard shape, from the kernels' formulas, beside moving everything once."""
    shape, half = (448, 128, 16, 16), torch.bfloat16
    steps = [*fcc.launches(shape, half, "cuda"), *ccc.launches(shape, 4, half, "cuda")]
    x = 2 * torch.Size(shape).numel()
    block = F5C(128, 16, backend="torch")
    parameters = 2 * sum(parameter.numel() for parameter in block.parameters())
    forward = sum(step.bytes for step in steps if step.phase == "forward") / (2 * x + parameters)
    backward = sum(step.bytes for step in steps if step.phase == "backward") / (3 * x + 2 * parameters)
    assert 1 < forward <= 4
    assert 1 < backward <= 5
