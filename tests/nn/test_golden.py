"""Parity with the official code: outputs, losses, gradients and running statistics on its own numbers."""

import pytest
import torch
from harness import golden
from torch import Tensor
from torch.testing import assert_close

from mol_fast import MOL, JointLoss, functional, load_official
from mol_fast import reference as ref
from mol_fast.nn.official import official_name


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-12))


@pytest.fixture(scope="module")
def model() -> MOL:
    return load_official(golden.official_weights())


def test_every_official_tensor_is_named(model: MOL) -> None:
    names = {official_name(name) for name in model.state_dict()}
    unused = {name for name in golden.official_weights() if ".ffn." in name}
    assert names | unused == set(golden.official_weights())


def test_f5c_eval(model: MOL) -> None:
    expected = golden.load("f5c.npz")
    x = golden.tensor("f5c.x", (2, 128, 16, 16))
    block = model.f5c_first.eval()
    with torch.no_grad():
        assert_close(block.fcc(x), expected["eval_fcc"], atol=1e-4, rtol=0)
        assert_close(block(x), expected["eval_out"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("implementation", ["layer", "reference"])
def test_f5c_training(implementation: str) -> None:
    expected = golden.load("f5c.npz")
    block = load_official(golden.official_weights()).f5c_first.train()
    x = golden.tensor("f5c.x", (2, 128, 16, 16)).requires_grad_()
    g = golden.tensor("f5c.g", (2, 128, 16, 16))
    if implementation == "layer":
        out = block(x)
    else:
        named = {**dict(block.named_parameters()), **dict(block.named_buffers())}
        out = ref.f5c(named, x, 4, "official", training=True)
    assert_close(out, expected["train_out"], atol=1e-4, rtol=0)
    (out * g).sum().backward()
    assert relative_error(x.grad, expected["grad_x"]) < 1e-3
    checked = 0
    for name, parameter in block.named_parameters():
        module, _, leaf = official_name(f"f5c_first.{name}").partition(".")
        key = f"grad.ccc.{leaf}" if module == "CCC_1" else f"grad.{leaf}"
        actual, wanted = parameter.grad.flatten(1 if parameter.dim() > 1 else 0), expected[key]
        if "kernel" in name or "pos" in name:
            wanted = wanted.reshape(actual.shape[0], -1)[:, : actual.shape[1]]
        assert relative_error(actual, wanted.reshape(actual.shape)) < 1e-3, name
        checked += 1
    assert checked == 20
    for name, buffer in block.named_buffers():
        key = "buffer." + official_name(f"f5c_first.{name}").partition(".")[2]
        assert_close(buffer, expected[key], atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("implementation", ["functional", "reference"])
def test_correlation(implementation: str) -> None:
    a, b = (golden.tensor(f"corr.{i}", (2, 256, 16, 16)) for i in (1, 2))
    out = (functional if implementation == "functional" else ref).correlation(a, b)
    assert_close(torch.nn.functional.leaky_relu(out, 0.1), golden.load("correlation.npz")["out"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("implementation", ["model", "reference"])
def test_model_eval(model: MOL, implementation: str) -> None:
    expected = golden.load("mol_eval.npz")
    clip = golden.tensor("mol.x", (1, 1, 8, 128, 128))
    with torch.no_grad():
        if implementation == "model":
            out = model.eval()(clip)
        else:
            out = ref.mol(model.state_dict(), clip, 4, "official", training=False)
    assert_close(out.logits, expected["logits"], atol=1e-4, rtol=0)
    assert_close(out.flow[:, :, :, ::4, ::4], expected["flow"].permute(0, 1, 4, 2, 3), atol=1e-4, rtol=0)
    assert_close(out.landmarks.flatten(2), expected["landmarks"].permute(0, 2, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("implementation", ["model", "reference"])
def test_model_training(implementation: str) -> None:
    expected = golden.load("mol_train.npz")
    model = load_official(golden.official_weights(num_classes=3)).train()
    model.expression_head.dropout.p = 0.0
    clip = golden.tensor("mol.train.x", (2, 1, 8, 128, 128))
    flow = golden.tensor("mol.train.flow", (2, 2, 7, 128, 128))
    targets = torch.tensor([0, 2]), flow, golden.landmarks_target()
    if implementation == "model":
        out = model(clip)
        terms = JointLoss(1, 10, 0.5)(out, *targets)
    else:
        named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        out = ref.mol(named, clip, 4, "official", training=True, dropout=0.0)
        terms = ref.losses(out, *targets)
    assert_close(out.logits, expected["logits"], atol=1e-4, rtol=0)
    assert_close(out.flow[:, :, :, ::4, ::4], expected["flow"].permute(0, 1, 4, 2, 3), atol=1e-4, rtol=0)
    assert_close(out.landmarks.flatten(2), expected["landmarks"].permute(0, 2, 1), atol=1e-4, rtol=0)
    losses = torch.stack([terms.expression, terms.flow, terms.landmarks, terms.total]).double()
    assert_close(losses, expected["loss"], atol=1e-4, rtol=1e-5)
    terms.total.backward()
    for name, parameter in model.named_parameters():
        wanted = expected[f"gradnorm.{official_name(name)}"]
        assert_close(parameter.grad.double().norm(), wanted, atol=1e-7, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
    buffers = {key: value for key, value in model.state_dict().items() if key not in dict(model.named_parameters())}
    assert len(buffers) == 45
    for name, buffer in buffers.items():
        assert_close(buffer, expected[f"buffer.{official_name(name)}"], atol=1e-5, rtol=0, msg=name)
