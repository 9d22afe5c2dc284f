"""Check layers and model as a user calls them: weights load, results are finite."""

from collections.abc import Iterator
from typing import Any

import torch

from mol_fast.checks.accuracy import in_a_line
from mol_fast.nn.config import PRESETS
from mol_fast.nn.f5c import F5C
from mol_fast.nn.model import MOL
from mol_fast.vision.sizes import CROP


def network(device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield one row per check; `problem` is None if it passes."""
    for name, check in (("F5C weights", weights_problem), ("MOL small", model_problem)):
        try:
            problem = check(device)
        except Exception as raised:  # the doctor reports whatever a layer raises
            problem = in_a_line(raised)
        yield {"check": name, "problem": problem}


def weights_problem(device: torch.device) -> str | None:
    """Copy the weights of a block to another block, which must then compute the same."""
    block, other = (F5C(8, (4, 6), neighbors=3).to(device) for _ in range(2))
    x = torch.randn(2, 8, 4, 6, device=device)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.3)
        block(x)
        other.load_state_dict(block.state_dict())
        same = torch.equal(block.eval()(x), other.eval()(x))
    return None if same else "a block with the weights of another one gives other results"


def model_problem(device: torch.device) -> str | None:
    """Run one clip through the small model."""
    config = PRESETS["small"]
    model = MOL(config=config).to(device).eval()
    with torch.no_grad():
        output = model(torch.randn(1, 1, config.frames, CROP, CROP, device=device))
    broken = [name for name, value in output._asdict().items() if not torch.isfinite(value).all()]
    return f"{' and '.join(broken)} of a random clip are not finite" if broken else None
