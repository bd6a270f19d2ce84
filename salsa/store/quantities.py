"""Times and sizes as people write and read them."""

import re

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_DURATION = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>[smhdw])")
_SIZES = ("B", "kB", "MB", "GB", "TB")


def parsed_duration(text: str) -> float:
    """Return the seconds of a duration such as `30d`; raise ValueError that says how one is written."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration; write a number and s, m, h, d or w, such as 30d or 12h")
    return float(match["number"]) * _UNITS[match["unit"]]


def shown_duration(seconds: float) -> str:
    """Return a time in the largest unit of which there are two or more, or in seconds."""
    for unit in ("w", "d", "h", "m"):
        if seconds >= 2 * _UNITS[unit]:
            return f"{seconds / _UNITS[unit]:.0f} {'min' if unit == 'm' else unit}"
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def shown_size(count: float) -> str:
    """Return a number of bytes in the decimal unit in which it has one to three digits before the point."""
    unit = 0
    while count >= 999.5 and unit < len(_SIZES) - 1:
        count /= 1000
        unit += 1
    return f"{count:.1f} {_SIZES[unit]}" if unit and count < 99.95 else f"{count:.0f} {_SIZES[unit]}"
