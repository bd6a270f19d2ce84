"""Weighted sums of tensors, piece by piece: what one thread needs for it, and what it does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salsa.soup import formats
from salsa.soup.checkpoint import Checkpoint, Entry, SoupError
from salsa.soup.formats import Array
from salsa.soup.writer import Writer

PIECE = 2**18
"""Elements of two terms that are summed at once: little memory, yet so many that threads seldom wait for each other.

A multiple of 4, because sums of more terms take shorter pieces of the same memory.
"""

Term = tuple[Checkpoint, float]
"""A model and its coefficient, which is not 0."""


@dataclass(frozen=True)
class Piece:
    """The flat elements [start, stop) of a tensor of the result, and the sum that they are."""

    entry: Entry
    terms: Sequence[Term]
    start: int
    stop: int


def longest(terms: Sequence[Term]) -> int:
    """Return how many elements a piece of a sum may have."""
    return PIECE if len(terms) <= 2 else PIECE // 4


class Mixer:
    """Computes pieces and writes them; has buffers for one piece, of the same size whatever the number of terms."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._read = np.empty(8 * PIECE, np.uint8)
        self._result = np.empty(8 * PIECE, np.uint8)
        self._converter = formats.Converter(PIECE)
        self._sums = np.empty(2 * PIECE)

    def __call__(self, piece: Piece) -> int:
        """Write a piece; return its size in bytes.

        Raises:
            SoupError: if an element of a term is not finite, or the sum is beyond the number format; if tensors of
                integers differ.
        """
        # What overflows is found in the result, and said with its name.
        with np.errstate(all="ignore"):
            elements = self._mixed(piece) if piece.entry.floating else self._common(piece)
        self._writer.write(piece.entry.name, formats.size(piece.entry.dtype, piece.start), elements)
        return elements.nbytes

    def _mixed(self, piece: Piece) -> Array:
        """Return the weighted sum, rounded once to the format of the result."""
        total = self._added(piece) if len(piece.terms) <= 2 else self._compensated(piece)
        result = self._result.view(formats.STORED[piece.entry.dtype])[: len(total)]
        self._converter.narrow(piece.entry.dtype, total, result)
        if not self._converter.finite(piece.entry.dtype, result):
            self._explain(piece)
        return result

    def _added(self, piece: Piece) -> Array:
        """Return the sum of two terms at most, whose order does not matter, in float64."""
        total, other = (buffer[: piece.stop - piece.start] for buffer in self._sums.reshape(2, PIECE))
        if piece.terms:
            self._product(piece, piece.terms[0], total)
        else:
            total.fill(0)
        for term in piece.terms[1:]:
            self._product(piece, term, other)
            np.add(total, other, out=total)
        return total

    def _compensated(self, piece: Piece) -> Array:
        """Return the sum of the terms by compensated summation (Knuth's two-sum), in float64.

        An average often lies half-way between two numbers of the format, and there the last bit of a plain sum, which
        depends on the order of the models, would decide.
        """
        buffers = self._sums.reshape(8, PIECE // 4)[:, : piece.stop - piece.start]
        total, grown, part, other, lost = buffers[:5]
        # Minus what was lost: with this sign a sum of negative zeros is one.
        lost.fill(0)
        self._product(piece, piece.terms[0], total)
        for term in piece.terms[1:]:
            self._product(piece, term, other)
            np.add(total, other, out=grown)
            np.subtract(grown, total, out=part)
            np.subtract(part, other, out=other)
            np.subtract(grown, part, out=part)
            np.subtract(part, total, out=part)
            np.add(part, other, out=part)
            np.add(lost, part, out=lost)
            total, grown = grown, total
        np.subtract(total, lost, out=total)
        return total

    def _product(self, piece: Piece, term: Term, out: Array) -> None:
        """Write coefficient times tensor to `out`, in float64."""
        model, coefficient = term
        dtype = model.entries[piece.entry.name].dtype
        numbers = self._read.view(formats.STORED[dtype])[: len(out)]
        model.fill(piece.entry.name, piece.start, numbers)
        self._converter.scale(dtype, numbers, coefficient, out)

    def _explain(self, piece: Piece) -> None:
        """Raise the error of a piece whose sum is not finite."""
        name, dtype = piece.entry.name, piece.entry.dtype
        for model, _ in piece.terms:
            if not np.isfinite(model.values(name, piece.start, piece.stop)).all():
                raise SoupError(f"the tensor {name} of {model.folder} holds NaN or infinity; train that model again")
        raise SoupError(
            f"the weighted sum of the tensors {name} is beyond what {dtype} holds; use weights nearer to 0, or "
            f"save the models in {'BF16 or F32' if dtype == 'F16' else 'F64'}"
        )

    def _common(self, piece: Piece) -> Array:
        """Return the bytes of integers or truth values, which all models have in common."""
        size = formats.size(piece.entry.dtype, piece.stop) - formats.size(piece.entry.dtype, piece.start)
        result, other = self._result[:size], self._read[:size]
        (first, _), *rest = piece.terms
        first.fill(piece.entry.name, piece.start, result)
        for model, _ in rest:
            model.fill(piece.entry.name, piece.start, other)
            if not np.array_equal(result, other):
                raise SoupError(
                    f"the integer tensor {piece.entry.name} differs between {first.folder} and {model.folder}, "
                    "and integers have no average"
                )
        return result
