"""A training step of a batch that is split over the processes of torchrun, or of the whole batch in one process.

    PYTHONPATH=tests torchrun --nproc-per-node 2 -m harness.split_batch FOLDER

In float64, with dropout, with statistics per frame and per clip. The first process writes the loss, every gradient and
every buffer to frame.safetensors and clip.safetensors in FOLDER.
"""

import gc
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from harness.compare import randomise, seeded
from safetensors.torch import save_file
from torch import Tensor

from mol_fast import MOL, JointLoss
from mol_fast.nn.sync import synchronise
from mol_fast.training.balance import class_weights

CLIPS = 4


def step(norm_stats: str, rank: int = 0, processes: int = 1) -> dict[str, Tensor]:
    """Loss, gradients and buffers, of `processes` together."""
    torch.manual_seed(0)
    model = MOL(3, flow_width=0.05, frames=5, norm_stats=norm_stats)
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
    own = slice(rank * CLIPS // processes, (rank + 1) * CLIPS // processes)
    if processes > 1:
        synchronise(model)
    network = torch.nn.parallel.DistributedDataParallel(model) if processes > 1 else model
    criterion = JointLoss(1.0, 10.0, 0.5, class_weights([3, 1, 6]).double())
    torch.manual_seed(1)  # of dropout
    loss = criterion(network(clips[own]), labels[own], flow[own], landmarks[own]).total
    loss.backward()
    loss = loss.detach()
    if processes > 1:
        dist.all_reduce(loss)
    gradients = {f"gradient.{name}": value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {"loss": loss / processes, **gradients, **dict(model.named_buffers())}


if __name__ == "__main__":
    dist.init_process_group("gloo")
    for norm_stats in ("frame", "clip"):
        found = step(norm_stats, dist.get_rank(), dist.get_world_size())
        if dist.get_rank() == 0:
            tensors = {name: value.contiguous() for name, value in found.items()}
            save_file(tensors, Path(sys.argv[1]) / f"{norm_stats}.safetensors")
    gc.collect()  # what holds the group, whose threads must be joined while Python runs
    dist.barrier()
    dist.destroy_process_group()
