"""Bars on the machine code for sm_90 in the common class of shapes, 448 x 128 x 16 x 16 in bfloat16."""

from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl

pytest.importorskip("triton")

from harness import sass
from mol_fast.kernels import ccc, resources, tiles
from mol_fast.kernels.common import Launch

pytestmark = pytest.mark.aot

TARGET = resources.TARGETS["sm_90"]
LAUNCHES = {
    f"{launch.name}-{shape}-{number}": launch
    for operator in resources.OPERATORS
    for number, (shape, launch) in enumerate(resources.shipped(operator, torch.bfloat16, "cuda"))
    if shape.endswith("x16x16") or "x16x16-" in shape
}


@pytest.mark.parametrize("launch", LAUNCHES.values(), ids=LAUNCHES)
def test_bars(launch: Launch) -> None:
    compiled = resources.compile_launch(launch, TARGET)
    text = sass.disassemble(compiled.asm["cubin"])
    used = resources.resources(compiled)
    wrong = [sass.matrix_units(launch, text), sass.wide_loads(launch, text), sass.no_spills(launch, used)]
    wrong.append(sass.two_programs(launch, used))
    assert not any(wrong), wrong


@triton.jit
def copy_strided(p_x, p_y, stride, B: tl.constexpr):
    """Reads two bytes at a time."""
    o = tl.arange(0, B)
    tl.store(p_y + o, tl.load(p_x + o * stride))


@triton.jit
def square(p_x, p_y, B: tl.constexpr):
    """A product of matrices that fits no register file when four programs share it."""
    o = tl.arange(0, B)[:, None] * B + tl.arange(0, B)[None, :]
    b_x = tl.load(p_x + o)
    tl.store(p_y + o, tl.dot(b_x, b_x).to(tl.bfloat16))


def planted(kernel: triton.JITFunction, flops: int, programs: int = 1, **arguments: int) -> tuple[Launch, str, object]:
    x = torch.empty(2**20, dtype=torch.bfloat16, device="meta")
    constants = {name: value for name, value in arguments.items() if name.isupper()}
    others = {name: value for name, value in arguments.items() if not name.isupper()}
    launch = Launch(kernel, "forward", (1,), {"p_x": x, "p_y": x, **others}, constants, 4, 2, 0, flops, programs)
    compiled = resources.compile_launch(launch, TARGET)
    return launch, sass.disassemble(compiled.asm["cubin"]), resources.resources(compiled)


def test_narrow_loads_are_reported() -> None:
    launch, text, _ = planted(copy_strided, 0, stride=3, B=1024)
    assert sass.wide_loads(launch, text) == "copy_strided has no load of 16 bytes"


def test_a_product_without_matrix_units_is_reported() -> None:
    launch, text, _ = planted(copy_strided, 128, stride=3, B=1024)
    assert sass.matrix_units(launch, text) == "copy_strided counts 128 FLOPs and has 0 matrix instructions"


def test_matrix_units_without_flops_are_reported() -> None:
    launch, text, used = planted(square, 2 * 64**3, B=64)
    assert not any([sass.matrix_units(launch, text), sass.wide_loads(launch, text), sass.no_spills(launch, used)])
    assert "counts 0 FLOPs" in str(sass.matrix_units(replace(launch, flops=0), text))


def test_spills_are_reported() -> None:
    launch, _, used = planted(square, 2 * 128**3, programs=4, B=128)
    assert "square spills" in str(sass.no_spills(launch, used))


def test_a_program_that_fills_a_multiprocessor_is_reported() -> None:
    shape, kernel = (448, 128, 16, 16), "ccc_edges_kernel"
    with tiles.override({kernel: {"programs": 1, "BK": 128, "num_stages": 3}}):
        launch = next(step for step in ccc.launches(shape, 4, torch.bfloat16, "cuda") if step.name == kernel)
    used = resources.resources(resources.compile_launch(launch, TARGET))
    assert sass.two_programs(launch, used) == f"{kernel} has 1 programs on a multiprocessor"
