"""Weights that other tools have wrapped: found, or refused with the reason."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import golden
from harness.compare import randomise
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from mol_fast import F5C, MOL, load_into, load_official
from mol_fast.nn.weights import load_weights, save_weights

Weights = dict[str, Any]


def named(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + name: value for name, value in weights.items()}


def lightning(weights: Weights) -> Weights:
    optimiser = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}
    return {"epoch": 3, "state_dict": named("model.net.")(weights), "optimizer_states": [optimiser]}


def inside(weights: Weights) -> Weights:
    """Parts of a network that were compiled or made parallel each on their own."""
    changed = {}
    for name, value in weights.items():
        first, _, rest = name.partition(".")
        changed[f"{first}._orig_mod.module.{rest}"] = value
    return changed


def averaged(weights: Weights) -> Weights:
    return {"n_averaged": torch.tensor(5), **named("module.")(weights)}


WRAPS: dict[str, Callable[[Weights], Weights]] = {
    "not wrapped": dict,
    "DataParallel": named("module."),
    "compiled": named("_orig_mod."),
    "compiled twice in DataParallel": named("_orig_mod._orig_mod.module.module."),
    "trainer": named("model."),
    "trainer, compiled, parallel": named("model.module._orig_mod.model."),
    "state_dict": lambda weights: {"state_dict": weights},
    "model": lambda weights: {"model": weights, "epoch": 7},
    "several dicts": lambda weights: {"checkpoint": {"model": {"state_dict": named("module.")(weights)}}},
    "Lightning": lightning,
    "parts": inside,
    "averaged": averaged,
}


@pytest.fixture(scope="module")
def official() -> Weights:
    return golden.official_weights()


def block(seed: int = 1) -> F5C:
    module = F5C(4, (2, 3), 2)
    randomise(module, seed)
    return module


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))
@pytest.mark.parametrize("file", [None, "weights.pt"])
def test_defect_16_wrapped_weights_of_a_block_load(
    wrap: Callable[[Weights], Weights], file: str | None, tmp_path: Path
) -> None:
    wrapped: Weights | Path = wrap(block().state_dict())
    if file:
        torch.save(wrapped, tmp_path / file)
        wrapped = tmp_path / file
    module = block(seed=2).double()
    load_into(module, wrapped)
    assert_close(module.state_dict(), block().double().state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["DataParallel", "trainer, compiled, parallel", "Lightning", "several dicts"])
def test_defect_16_wrapped_weights_of_the_official_code_load(official: Weights, name: str) -> None:
    expected, model = load_official(official), load_official(WRAPS[name](official))
    assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_defect_16_safetensors_with_prefixes(tmp_path: Path) -> None:
    save_file(named("module.")(block().state_dict()), tmp_path / "block.safetensors")
    module = block(seed=2)
    load_into(module, str(tmp_path / "block.safetensors"))
    assert_close(module.state_dict(), block().state_dict(), rtol=0, atol=0)


def test_defect_16_real_wrappers() -> None:
    """Weights of what PyTorch itself wraps, into what it wraps."""
    wrapped = nn.DataParallel(torch.compile(block()))  # type: ignore[arg-type]
    averaged = torch.optim.swa_utils.AveragedModel(block())
    for source in (wrapped, averaged):
        for module in (block(seed=2), nn.DataParallel(block(seed=2))):
            load_into(module, source.state_dict())
            assert_close(list(module.state_dict().values()), list(block().state_dict().values()), rtol=0, atol=0)


def test_defect_16_our_own_weights_file_of_a_compiled_model(tmp_path: Path) -> None:
    model = MOL(3, flow_width=0.05, frames=5, tasks=("mer",))
    save_weights(tmp_path / "weights.safetensors", torch.compile(model), {"classes": ["a", "b", "c"]})  # type: ignore[arg-type]
    loaded, _ = load_weights(tmp_path / "weights.safetensors")
    assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)


MARK = "fcc.vh.kernel1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: {"model": w, "ema": w},
            r"there are 2 sets of weights, under 'model/', 'ema/': give one of them alone",
        ),
        (lambda w: {**named("a.")(w), **named("b.")(w)}, r"there are 2 sets of weights, under 'a\.', 'b\.'"),
        (lambda w: {**w, **named("module.")(w)}, r"there are two tensors fcc\.vh\.pos1"),
        (lambda w: {**w, "state_dict": w}, r"there are 2 sets of weights, under '', 'state_dict/'"),
        (lambda w: {**named("model.")(w), "loss.weight": torch.ones(2)}, r"unknown \['loss\.weight'\]"),
        (lambda w: {k: v for k, v in w.items() if k != "ccc.mix.bias"}, r"missing \['ccc\.mix\.bias'\], unknown \[\]"),
        (lambda w: {k: v for k, v in w.items() if k != MARK}, rf"missing \['{MARK}'\], unknown \[\]"),
        (lambda w: {**w, MARK: torch.ones(3)}, rf"{MARK} has shape \(3,\), expected \(2, 2\)"),
        (lambda w: {**w, "epoch": 3}, r"weights must hold tensors by name, got 'epoch': int"),
        (lambda w: {"state_dict": {}}, r"weights must hold tensors by name, got 'state_dict': dict"),
        (
            lambda w: {**w, MARK: w[MARK].to("meta")},
            rf"{MARK} is on the meta device, which has no values: give weights",
        ),
        (lambda w: {}, r"missing \["),
        (lambda w: "none.pt", r"no weights file at none\.pt"),
    ],
)
def test_defect_16_other_weights_are_refused_in_a_sentence(
    change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    module = block(seed=2)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=message) as caught:
        load_into(module, change(block().state_dict()))
    assert "\n" not in str(caught.value)
    assert_close(module.state_dict(), before, rtol=0, atol=0)


def test_a_module_on_the_meta_device_is_refused() -> None:
    """PyTorch warns of every tensor, and loads none."""
    with torch.device("meta"):
        module = F5C(4, (2, 3), 2)
    with pytest.raises(ValueError, match=r"the module is on the meta device, .*: make it on the device"):
        load_into(module, block().state_dict())


def test_defect_16_one_block_of_a_network_must_be_chosen() -> None:
    model = MOL(3, flow_width=0.05, frames=5, tasks=("mer",))
    twin = F5C(128, 16)
    with pytest.raises(ValueError, match=r"under 'f5c_first\.', 'f5c_second\.': give one of them alone"):
        load_into(twin, model.state_dict())
    load_into(twin, model.f5c_second.state_dict())
    assert_close(twin.state_dict(), model.f5c_second.state_dict(), rtol=0, atol=0)


def test_defect_16_dicts_in_dicts_do_not_exhaust_the_stack() -> None:
    deep: Weights = block().state_dict()
    for _ in range(10000):
        deep = {"model": deep}
    with pytest.raises(ValueError, match="got 'model': dict"):
        load_into(block(), deep)
