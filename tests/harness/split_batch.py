"""A training step of a batch that is split over the processes of torchrun, or of the whole batch in one process.

In float64, with dropout, with statistics per frame and per clip. The first process writes the loss, every gradient and
every buffer to frame.safetensors and clip.safetensors in FOLDER. It writes those of layers that PyTorch converted to
SyncBatchNorm, on batches of different sizes, to uneven.safetensors.
"""

import gc
from pathlib import Path

import torch
import torch.distributed as dist
from harness.compare import randomise, seeded
from safetensors.torch import save_file
from torch import Tensor, nn

from mol_fast import F5C, MOL, JointLoss
from mol_fast.nn.config import TASKS
from mol_fast.nn.flow_layers import Conv
from mol_fast.nn.sync import synchronise
from mol_fast.training.balance import class_weights
from mol_fast.vision.facs import UNKNOWN

CLIPS = 4


def step(norm_stats: str, rank: int = 0, processes: int = 1) -> dict[str, Tensor]:
    """Loss, gradients and buffers, of `processes` together."""
    torch.manual_seed(0)
    model = MOL(3, flow_width=0.05, frames=5, norm_stats=norm_stats, tasks=TASKS)
    for block in (model.f5c_first, model.f5c_second):
        randomise(block)
    assert model.flow_head is not None
    torch.nn.init.normal_(model.flow_head.predict0.weight, std=0.1)
    model = model.double().train()
    # Rows that differ in mean and size, so that statistics of a part are far from those of the whole.
    scale = torch.tensor([1.0, 2.0, 4.0, 8.0]).double()
    clips = seeded(CLIPS, 1, 5, 128, 128, dtype=torch.float64) * scale[:, None, None, None, None] - 3
    flow = seeded(CLIPS, 2, 4, 128, 128, seed=1, dtype=torch.float64)
    landmarks = 64 + 20 * seeded(CLIPS, 5, 68, 2, seed=2, dtype=torch.float64)
    labels = torch.tensor([0, 2, 2, 1])
    units = torch.randint(2, (CLIPS, 12), generator=torch.Generator().manual_seed(3))
    units[0], units[1, 3], units[3, :5] = UNKNOWN, UNKNOWN, UNKNOWN  # 11 known ones in one half, 19 in the other
    own = slice(rank * CLIPS // processes, (rank + 1) * CLIPS // processes)
    criterion = JointLoss(1.0, 10.0, 0.5, class_weights([3, 1, 6]).double(), 2.0)
    if processes > 1:
        synchronise(model)
        synchronise(criterion)
    network = torch.nn.parallel.DistributedDataParallel(model) if processes > 1 else model
    torch.manual_seed(1)  # of dropout
    loss = criterion(network(clips[own]), labels[own], flow[own], landmarks[own], None, units[own]).total
    loss.backward()
    loss = loss.detach()
    if processes > 1:
        dist.all_reduce(loss)
    gradients = {f"gradient.{name}": value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {"loss": loss / processes, **gradients, **dict(model.named_buffers())}


def uneven(rank: int = 0, processes: int = 1) -> dict[str, Tensor]:
    """Gradients and buffers of F5C and a layer of the flow head; the first process has one clip of four."""
    layers = nn.ModuleList([F5C(6, (3, 4), 3), Conv(6, 4, 3)]).double()
    for layer in layers:
        randomise(layer)
    x = seeded(CLIPS, 2, 6, 3, 4, dtype=torch.float64) * torch.arange(1, CLIPS + 1)[:, None, None, None, None] + 5
    own = slice(None)
    if processes > 1:
        layers = nn.SyncBatchNorm.convert_sync_batchnorm(layers)
        own = slice(0, 1) if rank == 0 else slice(1, CLIPS)
    maps = x[own].flatten(0, 1).requires_grad_()
    y = layers[1](layers[0](maps, groups=2), (0, 1))
    (y * seeded(CLIPS, 2, 4, 3, 4, seed=9, dtype=torch.float64)[own].flatten(0, 1)).sum().backward()
    gradients = {f"gradient.{name}": value.grad for name, value in layers.named_parameters()}
    if processes > 1:
        for gradient in gradients.values():
            dist.all_reduce(gradient)
    assert maps.grad is not None
    return {"first clip": maps.grad[:2], **gradients, **dict(layers.named_buffers())}


def main(argv: list[str]) -> int:
    """Compute them in this process and the others."""
    dist.init_process_group("gloo")
    place = dist.get_rank(), dist.get_world_size()
    found = {"frame": step("frame", *place), "clip": step("clip", *place), "uneven": uneven(*place)}
    for name, values in found.items():
        if dist.get_rank() == 0:
            tensors = {name: value.contiguous() for name, value in values.items()}
            save_file(tensors, Path(argv[0]) / f"{name}.safetensors")
    gc.collect()  # what holds the group, whose threads must be joined while Python runs
    dist.barrier()
    dist.destroy_process_group()
    return 0
