"""Number formats of safetensors: their sizes, and the floating ones to float64 and back, rounded once."""

from typing import Any

import numpy as np

BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Bits of one element, by safetensors' name of the format, in the order in which safetensors ranks them."""

FLOATING = ("F64", "F32", "F16", "BF16")
"""The formats that have averages here."""
WHOLE = ("BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64")
"""The formats of integers and truth values, which are copied."""

STORED = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("<u1"),
    "I8": np.dtype("<i1"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "C64": np.dtype("<c8"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
}
"""The numpy type in which a format is read and written (BF16: its bits); some have none."""

# The bits that are all set in infinities and NaN only.
_EXPONENT = {"F16": 0x7C00, "BF16": 0x7F80}
_NAN = 0x7FC0

Array = np.ndarray[Any, Any]


def size(dtype: str, count: int) -> int:
    """Return how many bytes `count` elements take."""
    return -(-count * BITS[dtype] // 8)


def widen(dtype: str, numbers: Array, out: Array) -> Array:
    """Write elements of a floating format, as they are stored, to `out` in float64; exact. Returns `out`."""
    np.copyto(out, _readable(dtype, numbers))
    return out


class Converter:
    """Sums in float64 from stored numbers and back, for up to `size` elements at once, in buffers of its own.

    One for each thread.
    """

    def __init__(self, size: int) -> None:
        self._words = np.empty(size, np.uint32)
        self._others = np.empty(size, np.uint32)
        self._flags = np.empty(size, bool)
        self._more = np.empty(size, bool)

    def scale(self, dtype: str, numbers: Array, coefficient: float, out: Array) -> None:
        """Write coefficient times elements of a floating format, as they are stored, to `out` in float64."""
        if dtype == "BF16":
            words = self._words[: len(numbers)]
            np.left_shift(numbers, 16, out=words, dtype=np.uint32)
            numbers = words.view(np.float32)
        # In two steps: a product of mixed types goes through small buffers, and takes longer.
        np.copyto(out, numbers)
        np.multiply(out, coefficient, out=out)

    def narrow(self, dtype: str, numbers: Array, out: Array) -> None:
        """Round float64 to a floating format, once and to the nearest (ties to even), into `out` as it is stored.

        What is beyond the format's range becomes infinite.
        """
        if dtype != "BF16":
            np.copyto(out, numbers, casting="same_kind")
            return
        bits, other = self._words[: len(numbers)], self._others[: len(numbers)]
        rounded = bits.view(np.float32)
        np.copyto(rounded, numbers, casting="same_kind")
        self._leave_the_middle(numbers, rounded, bits)
        # To the upper half, with ties to even.
        np.right_shift(bits, 16, out=other)
        np.bitwise_and(other, 1, out=other)
        np.add(other, 0x7FFF, out=other)
        np.add(other, bits, out=other)
        np.right_shift(other, 16, out=other)
        np.copyto(out, other, casting="unsafe")
        if not np.isfinite(rounded, out=self._flags[: len(numbers)]).all():
            out[np.isnan(rounded)] = _NAN

    def finite(self, dtype: str, numbers: Array) -> bool:
        """Return whether no element of a floating format, as it is stored, is NaN or infinite."""
        if dtype not in _EXPONENT:
            return bool(np.isfinite(numbers, out=self._flags[: len(numbers)]).all())
        # Faster than numpy's function, which knows no bfloat16 and is slow in half precision.
        exponents = self._words.view(np.uint16)[: len(numbers)]
        np.bitwise_and(numbers.view(np.uint16), _EXPONENT[dtype], out=exponents)
        return not len(numbers) or int(exponents.max()) != _EXPONENT[dtype]

    def _leave_the_middle(self, numbers: Array, rounded: Array, bits: Array) -> None:
        """Move float32 by one unit where it fell on the middle of two bfloat16 that the unrounded number is not on.

        Rounding twice would decide such an element by the rule for ties, on whichever side of the middle it lies.
        """
        other, middle, inexact = (buffer[: len(bits)] for buffer in (self._others, self._flags, self._more))
        np.bitwise_and(bits, 0xFFFF, out=other)
        np.equal(other, 0x8000, out=middle)
        np.not_equal(rounded, numbers, out=inexact)
        np.logical_and(middle, inexact, out=middle)
        found = np.flatnonzero(middle)
        if len(found):
            beyond = np.abs(numbers[found]) > np.abs(rounded[found])
            bits[found] += np.where(beyond, 1, -1).astype(np.uint32)


def _readable(dtype: str, numbers: Array) -> Array:
    """Return numbers that numpy understands: a bfloat16 is the upper half of a float32."""
    return np.left_shift(numbers, 16, dtype=np.uint32).view(np.float32) if dtype == "BF16" else numbers
