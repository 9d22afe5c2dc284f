"""Format values of several seeds: mean and standard deviation."""

import statistics
from collections.abc import Collection, Sequence


def spread(values: Sequence[float | None], form: str = ".3f", unit: str = "") -> str:
    """Format values as mean ± standard deviation; a single value alone; no value as "n/a".

    Args:
        values: one per seed, None if a seed has no value.
        form: format of both numbers.
        unit: written after both numbers.
    """
    known = [value for value in values if value is not None]
    if not known:
        return "n/a"
    deviation = f" ± {statistics.stdev(known):{form}}{unit}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):{form}}{unit}{deviation}"


def count(values: Sequence[int]) -> str:
    """Format the mean of numbers of videos or frames, with a decimal if seeds differ."""
    return str(values[0]) if len(set(values)) == 1 else f"{statistics.fmean(values):.1f}"


def over_seeds(seeds: Collection[int]) -> str:
    """Say which seeds a mean is over, for the end of a sentence."""
    return f"over {len(seeds)} seeds ({', '.join(map(str, seeds))})"
