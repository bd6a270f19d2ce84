"""A clock that somebody keeps setting: years forwards, years backwards, and right again."""

import random
import time

YEAR = 365 * 24 * 3600
JUMPS = (-2 * YEAR, -3600, 0, 0, 0, 3600, 2 * YEAR)


def install(seed: str) -> None:
    """Let this process's time of day jump at about every third look; file systems and time-outs keep theirs."""
    chance = random.Random(seed)
    right, right_nanoseconds = time.time, time.time_ns
    offset = 0

    def look() -> int:
        nonlocal offset
        if chance.random() < 1 / 3:
            offset = chance.choice(JUMPS)
        return offset

    time.time = lambda: right() + look()
    time.time_ns = lambda: right_nanoseconds() + look() * 10**9
