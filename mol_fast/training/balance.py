"""Remedies for class imbalance: weights of the cross-entropy, or balanced sampling. Not in the paper."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mol_fast.data import ClipDataset


def class_counts(clips: ClipDataset) -> list[int]:
    """Return the number of clips of each class, in the order of the protocol."""
    labels = [label for _, _, label in clips.windows]
    return [labels.count(place) for place in range(len(clips.protocol.classes))]


def class_weights(counts: Sequence[int]) -> Tensor:
    """Return weights (K,), float32, inverse to the class counts; 0 for a class without clips.

    The mean weight over all clips is 1. The total weight of a class is the same for every class with clips.
    """
    present = sum(count > 0 for count in counts)
    total = sum(counts)
    return torch.tensor([total / (present * count) if count else 0.0 for count in counts])


def balanced_order(labels: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw N clips from N `labels`, equally many of each class (or one more), in random order.

    Clips of rare classes repeat; some clips of frequent classes are missing. The order depends only on the state of
    `generator`.

    Returns:
        (N, 2): the index of each clip, and its round. Rounds count from 0; no index repeats within a round.
    """
    known = torch.tensor(labels)
    classes = known.unique()
    share, rest = divmod(len(labels), len(classes))
    extra = set(torch.randperm(len(classes), generator=generator)[:rest].tolist())
    drawn = []
    for place, label in enumerate(classes.tolist()):
        members = (known == label).nonzero()[:, 0]
        wanted = share + (place in extra)
        rounds = -(-wanted // len(members))
        order = torch.cat([torch.randperm(len(members), generator=generator) for _ in range(rounds)])
        draw = torch.arange(wanted) // len(members)
        drawn.append(torch.stack([members[order[:wanted]], draw], dim=1))
    together = torch.cat(drawn)
    return together[torch.randperm(len(together), generator=generator)]


def missing_classes(counts: Sequence[int], classes: Sequence[str]) -> list[str]:
    """Return the names of classes without training clips."""
    return [name for name, count in zip(classes, counts, strict=True) if not count]
