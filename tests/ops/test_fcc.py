"""FCC as batched PyTorch."""

import torch

from mol_fast.ops.fcc import circulant


def test_circulant() -> None:
    kernel = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.equal(circulant(kernel)[0], torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0], [2.0, 3.0, 1.0]]))
