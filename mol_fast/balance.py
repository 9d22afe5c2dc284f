"""Class imbalance: weights of the cross-entropy, or an order that draws classes equally. Not in the paper."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mol_fast.data import ClipDataset


def class_counts(clips: ClipDataset) -> list[int]:
    """Number of clips of each class of the protocol, in its order."""
    labels = [label for _, _, label in clips.windows]
    return [labels.count(place) for place in range(len(clips.protocol.classes))]


def class_weights(counts: Sequence[int]) -> Tensor:
    """Weights `(K,)`, float32, inverse to the counts of the classes; 0 for one without clips.

    Their mean over the clips is 1, and the weights of all clips of a class add up to the same for each class that has
    clips.
    """
    present = sum(count > 0 for count in counts)
    total = sum(counts)
    return torch.tensor([total / (present * count) if count else 0.0 for count in counts])


def balanced_order(labels: Sequence[int], generator: torch.Generator) -> Tensor:
    """N draws `(N, 2)` from N `labels`: of each the index, and its round from 0 on, in which no index comes twice.

    From each class that occurs equally many are drawn (or one more), in random order. Those of rare classes come in
    several rounds, and not all of frequent ones come. The order depends on the state of `generator` only.
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
    """Names of the classes that have no clip to train on."""
    return [name for name, count in zip(classes, counts, strict=True) if not count]
