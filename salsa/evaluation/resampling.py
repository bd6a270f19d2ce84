"""The bootstrap by weights: how often each cluster is drawn, and what ratios become under such draws."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
# Resampled counts are made in blocks of about this many numbers, which stay in the processor's cache: twice as fast.
BLOCK = 60_000


# Draws of up to so many numbers are kept, a few at a time: those of a thousand rounds of a thousand clusters.
KEPT_NUMBERS = 1_000_000
_State = tuple[int, int, int, int]


def drawn_counts(groups: int, rounds: int, rng: np.random.Generator) -> Iterator[Numbers]:
    """Yield blocks [some rounds, groups] of how often each group is drawn, with replacement, as many as there are.

    Such counts are multinomial; counting uniform draws is much faster than drawing multinomials. A stream in the same
    state gives the same draws: the last ones are kept, since all figures of a study see the same ones. The blocks are
    read-only, and the stream is left as if they had just been drawn.
    """
    bits = rng.bit_generator
    if groups * rounds > KEPT_NUMBERS or not isinstance(bits, np.random.PCG64):
        yield from _drawn(groups, rounds, rng)
        return
    blocks, after = _kept(groups, rounds, _state(bits))
    _set_state(bits, after)
    yield from blocks


@lru_cache(maxsize=16)
def _kept(groups: int, rounds: int, state: _State) -> tuple[tuple[Numbers, ...], _State]:
    """Return the draws of a stream in a state, and its state afterwards."""
    bits = np.random.PCG64()
    _set_state(bits, state)
    return tuple(_drawn(groups, rounds, np.random.Generator(bits))), _state(bits)


def _state(bits: np.random.PCG64) -> _State:
    known = bits.state
    return known["state"]["state"], known["state"]["inc"], known["has_uint32"], known["uinteger"]


def _set_state(bits: np.random.PCG64, state: _State) -> None:
    place, increment, has_half, half = state
    known = bits.state
    known["state"]["state"], known["state"]["inc"] = place, increment
    known["has_uint32"], known["uinteger"] = has_half, half
    bits.state = known


def _drawn(groups: int, rounds: int, rng: np.random.Generator) -> Iterator[Numbers]:
    size = max(1, BLOCK // groups)
    for start in range(0, rounds, size):
        block = min(rounds - start, size)
        draws = rng.integers(groups, size=(block, groups))
        draws += groups * np.arange(block)[:, None]
        counts = np.bincount(draws.ravel(), minlength=block * groups).reshape(block, groups).astype(np.float64)
        counts.setflags(write=False)
        yield counts


def codes_of(names: Sequence[str]) -> tuple[NDArray[np.int64], int]:
    """Return a number for each name, equal for equal names, and how many there are."""
    known: dict[str, int] = {}
    codes = np.fromiter((known.setdefault(name, len(known)) for name in names), dtype=np.int64, count=len(names))
    return codes, len(known)


def ratio_draws(above: Numbers, below: Numbers, rounds: int, rng: np.random.Generator) -> Numbers:
    """Return [rounds, columns] of sum(above) / sum(below) over clusters [clusters, columns] drawn with replacement.

    All columns see the same draws. A round in which nothing of a column is drawn is NaN there.
    """
    both = np.concatenate([above, below], axis=1)
    columns = above.shape[1]
    found = []
    for counts in drawn_counts(len(above), rounds, rng):
        sums = counts @ both
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(np.where(sums[:, columns:] > 0, sums[:, :columns] / sums[:, columns:], np.nan))
    return np.concatenate(found)


def percentiles(draws: Numbers, level: float) -> tuple[Numbers, Numbers]:
    """Return the ends of the central interval of each column of [rounds, columns]; NaN where a column has no draw.

    Rounds that are NaN are left out.
    """
    tail = (1 - level) / 2
    low, high = np.full(draws.shape[1], np.nan), np.full(draws.shape[1], np.nan)
    whole = ~np.isnan(draws).any(axis=0)
    if whole.any():
        low[whole], high[whole] = np.quantile(draws[:, whole], [tail, 1 - tail], axis=0)
    for column in np.flatnonzero(~whole):
        usable = draws[~np.isnan(draws[:, column]), column]
        if len(usable):
            low[column], high[column] = np.quantile(usable, [tail, 1 - tail])
    return low, high
