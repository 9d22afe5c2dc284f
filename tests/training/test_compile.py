"""The model through torch.compile, which changes nothing but the rounding."""

import copy
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from harness.compare import randomise, seeded
from harness.compiler import quick_compiler
from torch import Tensor, nn
from torch.testing import assert_close

from mol_fast import MOL, PRESETS, MOLOutput
from mol_fast.data import ClipDataset, PreparedSet, get_protocol
from mol_fast.nn.config import PAPER_TASKS, TASKS
from mol_fast.nn.model import compile_frozen
from mol_fast.training.fabric import make_fabric
from mol_fast.training.fold import make_model
from mol_fast.training.loop import train
from mol_fast.training.settings import TrainSettings

FRAMES = 5


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with quick_compiler():
        yield


def model(*tasks: str) -> MOL:
    torch.manual_seed(0)
    module = MOL(3, flow_width=0.02, frames=FRAMES, dropout=0.0, tasks=tasks or PAPER_TASKS).eval()
    for block in (module.f5c_first, module.f5c_second):
        randomise(block)
    if module.flow_head is not None:
        nn.init.normal_(module.flow_head.predict0.weight, std=0.1)
    return module


def clips(b: int) -> Tensor:
    return seeded(b, 1, FRAMES, 128, 128)


def assert_close_outputs(actual: MOLOutput, expected: MOLOutput) -> None:
    """float32 keeps 4 digits of the largest value of every output."""
    for name, value in expected._asdict().items():
        if value is None:
            assert getattr(actual, name) is None
            continue
        error = float((getattr(actual, name) - value).abs().max() / value.abs().max())
        assert error < 1e-4, f"{name}: {error:.2e}"


ALL = os.environ.get("MOL_FAST_AOT") == "all"


def test_the_model_for_inference() -> None:
    """To native code, in which weights are constants; without vector instructions, which take longer to compile."""
    module = model()
    assert module.flow_head is not None
    plain, compiled = module.optimize_for_inference(), module.optimize_for_inference(compile=True)
    with torch.inference_mode(), torch._inductor.config.patch({} if ALL else {"cpp.simdlen": 1}):
        assert_close_outputs(compiled(clips(2)), plain(clips(2)))
        before = compiled(clips(2)).flow
        compiled.flow_head.conv2.conv.weight.zero_()
        assert torch.equal(compiled(clips(2)).flow, before)
    assert not torch._inductor.config.freezing


class Layers(nn.Module):
    """PyTorch's own containers, called alone, are not compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


def test_a_second_batch_size_leaves_the_first_as_it_was() -> None:
    """In native code; two layers alone, since every size compiles all there is."""
    plain = Layers().eval().requires_grad_(False)
    randomise(plain)
    compiled = copy.deepcopy(plain)
    compile_frozen(compiled)
    graphs = torch._dynamo.utils.counters["stats"]
    graphs.clear()
    with torch.inference_mode():
        for b, count in ((2, 1), (3, 2), (2, 2)):
            maps = seeded(b, 4, 2, 3)
            assert_close(compiled(maps), plain(maps))
            assert graphs["unique_graphs"] == count


def test_another_batch_size_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one graph each; the graphs themselves run in Python here."""
    compile = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, dynamic: compile(module, dynamic=dynamic, backend="eager"))
    compiled = model("mer").optimize_for_inference(compile=True)
    graphs = torch._dynamo.utils.counters["stats"]
    graphs.clear()
    found = []
    with torch.inference_mode():
        for b in (1, 1, 2, 2):
            compiled(clips(b))
            found.append(graphs["unique_graphs"])
    assert found == [1, 1, 2, 2]


def losses(prepared: PreparedSet, tasks: tuple[str, ...], compiled: bool) -> list[float]:
    """Of three steps of training."""
    settings = TrainSettings(
        steps=3, batch_size=2, precision="float32", device="cpu", checkpoint_every=0, compile=compiled, tasks=tasks
    )
    protocol = get_protocol("embedded-3")
    clips = ClipDataset(protocol.select(prepared.videos), protocol, "random", True, 0)
    torch.manual_seed(0)
    found: list[float] = []
    module = make_model(settings, protocol)
    train(
        module,
        clips,
        settings,
        make_fabric(settings.device, settings.precision),
        lambda step: found.append(step.terms["total"]),
    )
    assert len(found) == settings.steps
    return found


NATIVE = pytest.mark.skipif(not ALL, reason="takes minutes, runs with MOL_FAST_AOT=all")


@pytest.mark.parametrize(("backend", "tasks"), [pytest.param("inductor", TASKS, marks=NATIVE), ("aot_eager", TASKS)])
def test_training(
    backend: str, tasks: tuple[str, ...], embedded_small: PreparedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train --compile` has the losses of training without it; compiled dropout draws other masks, so none here.

    PyTorch runs the graphs of the whole model; `test_f5c_compiled.py` trains the block in native code.
    """
    monkeypatch.setitem(PRESETS, "small", replace(PRESETS["small"], flow_width=0.02, dropout=0.0))
    expected = losses(embedded_small, tasks, compiled=False)
    compile = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: compile(module, backend=backend, **options))
    assert losses(embedded_small, tasks, compiled=True) == pytest.approx(expected, rel=1e-4)
