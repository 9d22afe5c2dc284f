"""Where bfloat16 has instructions, and the warning where a CPU emulates it."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from mol_fast import MOL
from mol_fast.training.fabric import fabric_precision, make_fabric
from mol_fast.utils import bfloat16
from mol_fast.utils.bfloat16 import emulates_bfloat16, has_bfloat16

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A CPU with AVX-512 and bfloat16, of which a test may take something away."""
    found = SimpleNamespace(machine="x86_64", capability="AVX512", avx512_bf16=True, onednn=True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(bfloat16.platform, "machine", lambda: found.machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: found.capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: found.avx512_bf16)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: found.onednn)
    bfloat16.warn_emulated.cache_clear()
    return found


def test_a_cpu_that_has_it(machine: SimpleNamespace) -> None:
    assert has_bfloat16(CPU)
    assert not emulates_bfloat16(CPU)


@pytest.mark.parametrize(
    "lacking",
    [{"avx512_bf16": False}, {"capability": "AVX2"}, {"capability": "DEFAULT"}, {"machine": "arm64", "onednn": False}],
)
def test_a_cpu_that_lacks_it(machine: SimpleNamespace, lacking: dict[str, object]) -> None:
    vars(machine).update(lacking)
    assert emulates_bfloat16(CPU)


def test_arm_is_asked_by_its_own_name(machine: SimpleNamespace) -> None:
    vars(machine).update(machine="aarch64", avx512_bf16=False, capability="SVE256")
    assert has_bfloat16(CPU)


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(("name", "expected"), [("AVX2", False), ("avx512_core", False), ("AVX512_CORE_BF16", True)])
def test_one_machine_stands_for_another(
    machine: SimpleNamespace, variable: str, name: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, name)
    assert has_bfloat16(CPU) == expected


def small() -> MOL:
    return MOL(3, flow_width=0.05, frames=5)


def test_a_model_in_bfloat16_warns_once(machine: SimpleNamespace) -> None:
    machine.avx512_bf16 = False
    with pytest.warns(
        UserWarning, match=r"no instructions for bfloat16.* 40 times slower .*; use torch\.float32 instead$"
    ) as found:
        small().optimize_for_inference(torch.bfloat16)
    assert [warning.filename for warning in found] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small().optimize_for_inference(torch.bfloat16)


@pytest.mark.parametrize(("has", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_no_warning_without_reason(machine: SimpleNamespace, has: bool, dtype: torch.dtype) -> None:
    machine.avx512_bf16 = has
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small().optimize_for_inference(dtype)


@pytest.mark.parametrize("has", [True, False])
def test_a_run_in_bfloat16_warns(
    machine: SimpleNamespace, has: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.avx512_bf16 = has
    precision = fabric_precision(make_fabric("cpu", "auto"))
    assert precision == ("bfloat16" if has else "float32")
    assert capsys.readouterr().err == ""
    make_fabric("cpu", "bfloat16")
    said = capsys.readouterr().err
    assert (said == "") == has
    assert has or said == f"warning: {bfloat16.EMULATED}; give --precision float32 instead\n"
    monkeypatch.setenv("RANK", "1")
    make_fabric("cpu", "bfloat16")
    assert capsys.readouterr().err == ""
