"""Explain the samples of a run, for its report."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec

from mol_fast.data import ClipDataset
from mol_fast.explain.explainer import Explainer
from mol_fast.nn.model import MOL
from mol_fast.runs.sample import Sample
from mol_fast.vision.sizes import WINDOW


def explain_samples(model: MOL, clips: ClipDataset, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Add to each sample where its predicted class comes from, and what moves; unchanged without captum.

    Args:
        model: the model that predicted them.
        clips: the clips that they come from.
        samples: first windows of videos.
    """
    if not samples or find_spec("captum") is None or model.config.frames != WINDOW:
        return tuple(samples)
    device = next(model.parameters()).device
    places = {clips.videos[video].id: item for item, (video, window, _) in enumerate(clips.windows) if window == 0}
    explainer = Explainer(copy.deepcopy(model), clips.protocol.classes, gradients=False)  # a copy is not compiled
    explained = []
    for sample in samples:
        frames = clips[places[sample.id]]["frames"][None].to(device)
        (found,) = explainer.windows(frames, sample.predicted)
        regions, sentence = found.shares or {}, found.sentence or ""
        explained.append(replace(sample, attribution=found.attribution, regions=regions, sentence=sentence))
    return tuple(explained)
