"""One value per seed, in a cell: the mean, and the standard deviation where there are several."""

import statistics
from collections.abc import Collection, Sequence


def spread(values: Sequence[float | None], form: str = ".3f", unit: str = "") -> str:
    """Mean ± standard deviation of the values that there are, only the value where it is one.

    Args:
        values: one per seed, None where a seed has none.
        form: of both numbers.
        unit: written behind each of them.
    """
    known = [value for value in values if value is not None]
    if not known:
        return "n/a"
    deviation = f" ± {statistics.stdev(known):{form}}{unit}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):{form}}{unit}{deviation}"


def count(values: Sequence[int]) -> str:
    """Mean of numbers of videos or frames, with a decimal where seeds differ."""
    return str(values[0]) if len(set(values)) == 1 else f"{statistics.fmean(values):.1f}"


def over_seeds(seeds: Collection[int]) -> str:
    """Which seeds a mean is over, for the end of a sentence."""
    return f"over {len(seeds)} seeds ({', '.join(map(str, seeds))})"
