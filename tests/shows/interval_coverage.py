"""How often the 95 % intervals hold the truth, for runs as large as those of the field.

    python tests/shows/interval_coverage.py --runs 2000

Makes runs of two equally good models: subjects differ in their number of videos, in their classes and in how hard they
are, the same for both models in part. Videos, classes and subjects are as many as in the protocols. An interval of one
run should hold the UF1 over very many subjects, and one of a difference should hold zero, in 95 % of the runs. Prints
the shares for the jackknife, which the product uses, and for percentiles of the bootstrap. Exits with 1 if a share of
the jackknife is not between 93 and 97 %, beyond what chance explains. The tests do not collect this program.
"""

import argparse
import math
import sys

import numpy as np
import numpy.typing as npt

from mol_fast.data import PROTOCOLS
from mol_fast.metrics import recognition_ratios
from mol_fast.metrics.jackknife import interval, leave_one_out

Array = npt.NDArray[np.float64]
DRAWS = 500  # of the bootstrap
POPULATION = 20_000  # subjects whose score is the truth
EASY = (0.5, -0.2, -0.1, 0.1, 0.3)  # log-odds by which videos of a class are recognised more easily than others


def confusions(rng: np.random.Generator, protocol: str, subjects: int | None = None) -> Array:
    """Confusion matrices (2, S, K, K) of two equally good models over the subjects of a protocol."""
    counts = PROTOCOLS[protocol].counts[0]
    shares = np.array([*counts.classes.values()]) / sum(counts.classes.values())
    count, size = subjects or counts.subjects, len(shares)
    mean = sum(counts.classes.values()) / counts.subjects - 1
    videos = 1 + rng.negative_binomial(1.3, 1.3 / (1.3 + mean), count)  # a few subjects have most of the videos
    of_class = np.stack([rng.multinomial(n, p) for n, p in zip(videos, rng.dirichlet(3 * shares, count), strict=True)])
    hard = rng.normal(0, 0.8, count)
    found = np.zeros((2, count, size, size))
    for model in found:
        skill = 0.6 + 0.7 * hard + 0.71 * rng.normal(0, 0.8, count)
        for k in range(size):
            right = rng.binomial(of_class[:, k], 1 / (1 + np.exp(-skill - EASY[k])))
            others = np.delete(shares, k) / (1 - shares[k])
            model[:, k, k] = right
            model[:, k, np.arange(size) != k] = [rng.multinomial(n, others) for n in of_class[:, k] - right]
    return found


def uf1(weights: Array, models: Array) -> Array:
    """UF1 (R, 2) of two models for weights (R, S) of the subjects."""
    return recognition_ratios(np.einsum("rs,mskl->rmkl", weights, models)).uf1


def one_run(rng: np.random.Generator, parts: tuple[str, ...], truth: float) -> list[bool]:
    """Whether each interval holds the truth: of one run and of a difference, by jackknife and by bootstrap."""
    drawn = [confusions(rng, part) for part in parts]
    sizes = [part.shape[1] for part in drawn]
    models = np.concatenate(drawn, axis=1)
    strata = [part for part, size in zip(parts, sizes, strict=True) for _ in range(size)]
    values = uf1(leave_one_out(len(strata)), models)
    jackknife = interval(values[:, 0], strata, "ratio"), interval(values[:, 1] - values[:, 0], strata, "difference")
    weights = [rng.multinomial(size, np.full(size, 1 / size), DRAWS) for size in sizes]
    resampled = uf1(np.concatenate(weights, axis=1).astype(float), models)
    edges = np.quantile(np.stack([resampled[:, 0], resampled[:, 1] - resampled[:, 0]]), [0.025, 0.975], axis=1).T
    ends = [*(pair or (math.nan, math.nan) for pair in jackknife), *edges]
    return [low <= true <= high for (low, high), true in zip(ends, (truth, 0.0) * 2, strict=True)]


def truth_of(rng: np.random.Generator, parts: tuple[str, ...]) -> float:
    """UF1 over very many subjects, with the share of each part in the composite."""
    total = sum(
        confusions(rng, part, POPULATION)[0].sum(0) * PROTOCOLS[part].counts[0].subjects / POPULATION for part in parts
    )
    return float(recognition_ratios(np.asarray(total)).uf1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    composite = tuple(PROTOCOLS["megc2019"].parts.values())
    cases = {name: (name,) for name in ("casme2-3", "samm-3", "smic-3", "casme2-5", "samm-5")} | {"megc2019": composite}
    chance = 3 * math.sqrt(0.05 * 0.95 / options.runs)
    print(f"{'share of intervals that hold the truth':40}{'one run':>22}{'difference':>22}")
    print(f"{'':40}{'jackknife':>11}{'bootstrap':>11}{'jackknife':>11}{'bootstrap':>11}")
    good = True
    for name, parts in cases.items():
        truth = truth_of(rng, parts)
        shares = np.mean([one_run(rng, parts, truth) for _ in range(options.runs)], axis=0)
        good = good and all(0.93 - chance <= share <= 0.97 + chance for share in shares[:2])
        single, difference, old_single, old_difference = (f"{100 * share:.1f} %" for share in shares)
        print(f"{name:40}{single:>11}{old_single:>11}{difference:>11}{old_difference:>11}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
