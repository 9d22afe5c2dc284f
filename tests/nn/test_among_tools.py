"""The block among other tools: hooks, pruning, adapters, quantisation. Each takes effect, or is refused in words."""

import copy
import functools
import warnings
from typing import Any

import pytest
import torch
from harness.adapters import LowRank
from harness.compare import as_layer, assert_runs_equal, neighbour_gap, randomise, run, seeded, state
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.testing import assert_close

from mol_fast import F5C
from mol_fast import reference as ref

VARIANTS = ("paper", "official")
SIZE = (3, 4)
CELLS = 12
LINEAR = ["ccc.node", "ccc.edge", "ccc.mix"]
NORMS = ["fcc.vh.norm", "fcc.hv.norm"]
EVERY = [*LINEAR, *NORMS, "fcc.vh", "fcc.hv", "fcc", "ccc"]


def block(variant: str = "paper", backend: str = "auto", dtype: torch.dtype = torch.float64) -> F5C:
    module = F5C(6, SIZE, 3, variant, backend)
    randomise(module)
    return module.to(dtype)


@functools.cache
def clear_maps() -> Tensor:
    """Maps whose neighbours are clear, so that no rounding changes them."""
    for seed in range(100):
        x = seeded(4, 6, *SIZE, seed=seed, dtype=torch.float64)
        features = ref.fcc(ref.sub(state(block()), "fcc"), x, True)
        if all(neighbour_gap(features, 3, variant) > 1e-3 for variant in VARIANTS):
            return x
    raise AssertionError("no input with clear neighbours")


def maps(dtype: torch.dtype = torch.float64) -> Tensor:
    return clear_maps().to(dtype, copy=True)


def names_of(module: F5C) -> list[str]:
    return [name for name in EVERY if name != "ccc.mix" or module.ccc.mix is not None]


def nothing(*_: object) -> None:
    """A hook that looks and changes nothing."""


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_defect_14_a_layer_that_is_called_gives_what_its_weights_give(variant: str, training: bool) -> None:
    """Outputs, all gradients and running statistics, frame by frame, with every sub-layer called."""
    plain = block(variant).train(training)
    hooked = copy.deepcopy(plain)
    for name in names_of(hooked):
        hooked.get_submodule(name).register_forward_hook(nothing)
    x, g = maps(), seeded(4, 6, *SIZE, seed=9, dtype=torch.float64)
    for groups in (1, 2):
        expected = run(as_layer(plain, groups=groups), state(plain), x, g)
        assert_runs_equal(run(as_layer(hooked, groups=groups), state(plain), x, g), expected, 1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_defect_14_forward_hooks_fire_once(register: str, variant: str) -> None:
    module = copy.deepcopy(block(variant))  # hooks on a copy, and copied with it below
    seen: list[str] = []
    for name in names_of(module):
        getattr(module.get_submodule(name), register)(lambda *_, name=name: seen.append(name))
    for each in (module, copy.deepcopy(module)):
        seen.clear()
        each(maps())
        assert sorted(seen) == sorted(names_of(module))


def test_defect_14_a_forward_hook_changes_the_result() -> None:
    """Doubling what `mix` gives doubles the distance from its input; the norm's output can be replaced, too."""
    module = block()
    x = maps()
    middle = module.fcc(x)
    expected = 2 * module.ccc(middle) - middle
    handle = module.ccc.mix.register_forward_hook(lambda _, __, y: 2 * y)
    assert_close(module.ccc(middle), expected)
    handle.remove()
    twin = copy.deepcopy(module)
    twin.fcc.vh.norm.weight.data.zero_()
    twin.fcc.vh.norm.bias.data.zero_()
    module.fcc.vh.norm.register_forward_hook(lambda _, __, y: torch.zeros_like(y))
    assert_close(module(x), twin(x))


@pytest.mark.parametrize("name", [*LINEAR, *NORMS, "fcc", "ccc"])
def test_defect_14_full_backward_hooks_see_the_gradient(name: str) -> None:
    module = block()
    plain = copy.deepcopy(module)
    found: list[Tensor] = []
    layer = module.get_submodule(name)
    layer.register_full_backward_pre_hook(lambda _, gradients: found.append(gradients[0]))
    layer.register_full_backward_hook(lambda _, inputs, outputs: found.extend([inputs[0], outputs[0]]))
    x, g = maps(), seeded(4, 6, *SIZE, seed=9, dtype=torch.float64)
    assert_runs_equal(run(as_layer(module), state(plain), x, g), run(as_layer(plain), state(plain), x, g), 1e-12)
    assert len(found) == 3
    assert all(gradient.any() for gradient in found)


@pytest.mark.parametrize(
    ("name", "parameter"),
    [*((name, "weight") for name in [*LINEAR, *NORMS]), ("fcc.vh", "kernel1"), ("fcc.hv", "pos2")],
)
def test_defect_14_pruned_weights_train_over_several_steps(name: str, parameter: str) -> None:
    """Like the block with the mask multiplied into its weights, in every step; removing the mask keeps the values."""
    module = block()
    twin = copy.deepcopy(module)
    prune.l1_unstructured(module.get_submodule(name), parameter, 0.5)
    mask = module.get_submodule(name).get_buffer(f"{parameter}_mask")
    assert 0 < mask.sum() < mask.numel()
    masked = twin.get_submodule(name).get_parameter(parameter)
    for _ in range(3):
        masked.data.mul_(mask)
        for each in (module, twin):
            each.zero_grad()
            each(maps()).square().sum().backward()
        masked.grad.mul_(mask)
        original = module.get_submodule(name).get_parameter(f"{parameter}_orig")
        assert_close(original.grad, masked.grad, rtol=1e-10, atol=1e-12)
        for each in (module, twin):
            with torch.no_grad():
                for value in each.parameters():
                    value.sub_(value.grad, alpha=1e-3)
    expected = module.eval()(maps())
    prune.remove(module.get_submodule(name), parameter)
    assert_close(module(maps()), expected, rtol=1e-12, atol=1e-12)
    assert not module.get_submodule(name).get_parameter(parameter)[mask == 0].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_defect_14_an_adapter_equals_merged_weights(variant: str) -> None:
    """Output and gradient of the input; the gradient of the adapter is that of the merged weight by the chain rule."""
    merged = block(variant)
    module = copy.deepcopy(merged)
    layers = [name.partition(".")[2] for name in LINEAR if name in names_of(module)]
    for name in layers:
        adapted = LowRank(module.ccc.get_submodule(name))
        module.ccc.set_submodule(name, adapted)
        merged.ccc.get_submodule(name).weight.data.copy_(adapted.merged())
    x, g = maps().requires_grad_(), seeded(4, 6, *SIZE, seed=9, dtype=torch.float64)
    y, expected = module(x), merged(x)
    assert_close(y, expected, rtol=1e-12, atol=1e-12)
    assert_close(*(torch.autograd.grad(value, x, g, retain_graph=True)[0] for value in (y, expected)))
    y.backward(g)
    expected.backward(g)
    for name in layers:
        adapted = module.ccc.get_submodule(name)
        whole = merged.ccc.get_submodule(name).weight.grad.flatten(1)
        up, down = adapted.up.weight, adapted.down.weight
        assert_close(up.grad.flatten(1), whole @ down.flatten(1).T, rtol=1e-10, atol=1e-12)
        assert_close(down.grad.flatten(1), up.flatten(1).T @ whole, rtol=1e-10, atol=1e-12)
        assert adapted.weight.grad is None


def test_defect_14_peft_trains_and_merges() -> None:
    """LoRA by peft: targets inside CCC get gradients, and merging the adapter back keeps the output."""
    peft = pytest.importorskip("peft")
    module = block(dtype=torch.float32)
    plain = copy.deepcopy(module)
    config = peft.LoraConfig(r=2, target_modules=["node", "edge", "mix"], init_lora_weights=False)
    adapted = peft.get_peft_model(module, config).eval()
    x = maps(torch.float32)
    y = adapted(x)
    assert not torch.allclose(y, plain.eval()(x), atol=1e-3)
    y.sum().backward()
    trained = {name: value for name, value in adapted.named_parameters() if value.requires_grad}
    assert len(trained) == 6
    assert all("lora_" in name and value.grad.any() for name, value in trained.items())
    whole = adapted.merge_and_unload()
    assert type(whole.ccc.node) is nn.Linear
    assert_close(whole(x), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_defect_14_dynamic_quantisation(variant: str) -> None:
    """The error is that of 8 bits, and the linear layers of the whole block are quantised ones."""
    module = block(variant, dtype=torch.float32).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch announces torchao as the successor
        from torch.ao.quantization import quantize_dynamic

        small = quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8)
    assert "Quantized" in repr(small.ccc.node)
    middle = module.fcc(maps(torch.float32))
    expected, y = module.ccc(middle), small.ccc(middle)
    assert 0 < (y - expected).norm() < 0.05 * (expected - middle).norm()
    assert_close(small(maps(torch.float32)), small.ccc(small.fcc(maps(torch.float32))))


class Coded(Tensor):
    """A tensor that PyTorch takes apart, as quantised and distributed ones are; F.linear alone knows it."""

    inner: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> "Coded":
        made = Tensor._make_wrapper_subclass(cls, value.shape, dtype=value.dtype)
        made.inner = value
        return made  # type: ignore[no-any-return]

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @classmethod
    def __tensor_unflatten__(cls, inner: dict[str, Tensor], *_: object) -> "Coded":
        return cls(inner["inner"])

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is nn.functional.linear:
            return nn.functional.linear(args[0], args[1].inner, args[2])
        if function in (Tensor.detach, Tensor.requires_grad_):
            return args[0]
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError(f"{function} of a coded weight")


def test_defect_14_weights_in_another_form_are_multiplied_only() -> None:
    module = block()
    expected = module(maps())
    edge = module.ccc.edge
    coded = Coded(edge.weight.detach())
    del edge.weight
    edge.weight = coded
    assert_close(module(maps()), expected)


@pytest.mark.parametrize("name", ["ccc.node", "ccc.edge", "ccc.mix"])
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_defect_14_parametrized_weights(kind: str, name: str) -> None:
    """The fused path stays, reads the weight once, and the gradient reaches what it is made of."""
    module = block()
    getattr(parametrizations, kind)(module.get_submodule(name), "weight")
    with parametrize.cached():
        value = module.get_submodule(name).weight.detach().clone()
    module.eval()
    expected = block()
    expected.load_state_dict(
        {k: v for k, v in module.state_dict().items() if "parametrizations" not in k}, strict=False
    )
    expected.get_submodule(name).weight.data.copy_(module.get_submodule(name).weight)
    assert_close(module(maps()), expected.eval()(maps()))
    module.train()(maps()).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert value.shape == module.get_submodule(name).weight.shape


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_defect_14_older_weight_and_spectral_norm(kind: str) -> None:
    """They are pre-hooks that set a plain tensor before each call."""
    module = block()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        getattr(nn.utils, kind)(module.ccc.edge)
    for _ in range(2):
        module.zero_grad()
        module(maps()).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    module.eval()
    twin = block().eval()
    y = module(maps())  # sets the weight
    names = dict(twin.named_parameters())
    twin.load_state_dict({k: v for k, v in module.state_dict().items() if k in names}, strict=False)
    twin.load_state_dict({k: v for k, v in module.state_dict().items() if "running" in k}, strict=False)
    twin.ccc.edge.weight.data.copy_(module.ccc.edge.weight)
    assert_close(y, twin(maps()))


def test_defect_14_torch_compile_sees_hooks() -> None:
    """In one graph, with the values of the block itself."""
    module = block(dtype=torch.float32)
    module.ccc.mix.register_forward_hook(lambda _, __, y: 2 * y)
    module.fcc.vh.norm.register_forward_hook(lambda _, __, y: y + 1)
    twin = copy.deepcopy(module)
    torch._dynamo.reset()
    compiled = torch.compile(twin, fullgraph=True, backend="eager")
    x = maps(torch.float32)
    expected, y = module(x, 2), compiled(x, 2)
    assert_close(y, expected)
    expected.sum().backward()
    y.sum().backward()
    for name, value in module.named_parameters():
        assert_close(twin.get_parameter(name).grad, value.grad, rtol=1e-4, atol=1e-4, msg=name)


class WholeBlocks(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, F5C) or super().is_leaf_module(m, module_qualified_name)


def test_defect_14_fx_keeps_the_block_whole_or_says_why_not() -> None:
    model = nn.Sequential(block(), nn.ReLU())
    with pytest.raises(torch.fx.proxy.TraceError, match="cannot trace into the layers of F5C; let is_leaf"):
        torch.fx.symbolic_trace(model)
    graph = torch.fx.GraphModule(model, WholeBlocks().trace(model))
    assert_close(graph.eval()(maps()), model.eval()(maps()))


def test_defect_14_data_parallel() -> None:
    """The wrapper without GPUs, and a replica as it makes one for each GPU: its weights are plain attributes."""
    module = block()
    expected = copy.deepcopy(module)(maps())
    assert_close(nn.DataParallel(copy.deepcopy(module))(maps()), expected)

    def replicate(own: nn.Module) -> nn.Module:
        copied = own._replicate_for_data_parallel()
        for name, child in own.named_children():
            setattr(copied, name, replicate(child))
        for name, value in [*own.named_parameters(recurse=False), *own.named_buffers(recurse=False)]:
            setattr(copied, name, value.clone())
        return copied

    copied = replicate(module)
    assert not list(copied.parameters())
    y = copied(maps())
    assert_close(y, expected)
    y.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_defect_14_hooks_on_all_modules_measure_what_runs() -> None:
    """They do not turn the fused path off: a tool that counts would otherwise count something else."""
    module = block()
    seen: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_hook(lambda layer, *_: seen.append(layer))
    try:
        module(maps())
    finally:
        handle.remove()
    assert module.ccc in seen
    assert module.ccc.edge not in seen


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", ["autocast", "module", "maps"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_defect_14_called_layers_in_half_precision(variant: str, way: str, dtype: torch.dtype) -> None:
    """Under autocast, with a module of that dtype, and with maps of that dtype: as near as the fused path."""
    exact = block(variant).eval()
    fused = block(variant, dtype=dtype if way == "module" else torch.float32).eval()
    called = copy.deepcopy(fused)
    for name in names_of(called):
        called.get_submodule(name).register_forward_hook(nothing)
    x = maps(torch.float32 if way == "autocast" else dtype)
    with torch.autocast("cpu", dtype, enabled=way == "autocast"):
        first, second = (each.fcc(x) for each in (fused, called))
        assert first.dtype == second.dtype == dtype
        middle = maps().to(dtype)
        ys = [each.ccc(middle) for each in (fused, called)]
    assert {y.dtype for y in ys} == {dtype}
    for parts, wanted in (((first, second), exact.fcc(x.double())), (ys, exact.ccc(middle.double()))):
        ours, theirs = (float((y.double() - wanted).norm() / wanted.norm()) for y in reversed(parts))
        assert ours <= 2 * theirs + torch.finfo(dtype).eps


@pytest.mark.parametrize("variant", VARIANTS)
def test_defect_14_no_maps_and_one_neighbour_through_called_layers(variant: str) -> None:
    module = F5C(4, (2, 3), 1, variant).double()
    randomise(module)
    twin = copy.deepcopy(module)
    for name in names_of(twin):
        twin.get_submodule(name).register_forward_hook(nothing)
    x = seeded(3, 4, 2, 3, dtype=torch.float64)
    assert_close(twin(x), module(x))
    assert twin.eval()(x[:0]).shape == (0, 4, 2, 3)


@pytest.mark.parametrize(("name", "says"), [("ccc.edge", "does not call node, edge and mix"), (NORMS[0], "norms")])
def test_defect_14_triton_by_name_refuses_what_must_be_called(name: str, says: str) -> None:
    module = block(backend="triton")
    module.get_submodule(name).register_forward_hook(nothing)
    part = module.get_submodule(name.partition(".")[0])
    with pytest.raises(RuntimeError, match=says) as caught:
        part(maps())
    assert "\n" not in str(caught.value)


def test_defect_14_the_state_dict_of_a_hooked_block_is_the_same() -> None:
    module = block()
    module.ccc.edge.register_forward_hook(nothing)
    twin = F5C(6, SIZE, 3).double()
    twin.load_state_dict(module.state_dict())
    assert_close(twin.eval()(maps()), module.eval()(maps()))
