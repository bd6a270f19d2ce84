"""Tables of raw rows: JSON lines (gzipped or not), JSON lists and Parquet, as streams that know each row's place."""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, cast

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_GIT_LFS = b"version https://git-lfs"
_HEAD_ROWS = 100  # rows that are looked at to tell which columns a file has


class DataError(ValueError):
    """Data that cannot be used, told in the user's terms: which file, what is wrong with it, what to do."""


class Row(NamedTuple):
    """One row and where it stands; `values` is None if it could not be read, and `problem` says why."""

    place: str
    values: dict[str, Any] | None
    problem: str = ""


class Table(Protocol):
    """A source of rows: a local file or a split of a hub set."""

    @property
    def name(self) -> str:
        """What messages call it: a path, or a hub name with its split."""
        ...

    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns (of JSON lines: those of the first rows)."""
        ...

    def rows(self, wanted: frozenset[str]) -> Iterator[Row]:
        """Yield all rows in order, with at least those `wanted` columns that there are."""
        ...


@dataclass(frozen=True)
class FileTable:
    """A local file whose format is told by its content, so that a wrong extension does no harm."""

    path: Path

    @property
    def name(self) -> str:
        """The path as it was given."""
        return str(self.path)

    def check(self) -> None:
        """Raise DataError if the file is missing, empty, or not the file itself; quick, for use before any work."""
        if not self.path.exists():
            raise DataError(f"{self.path} does not exist (looked for {self.path.absolute()}); correct the path")
        if self.path.is_dir():
            raise DataError(f"{self.path} is a folder; name the file in it")
        if self.path.stat().st_size == 0:
            raise DataError(f"{self.path} is empty; fetch or write it again, or name another file")
        start = self._start()
        if start.startswith(_GIT_LFS):
            raise DataError(f"{self.path} is a Git LFS pointer, not the data; fetch the data with `git lfs pull`")
        if self.path.suffix == ".parquet" and not start.startswith(_PARQUET):
            raise DataError(f"{self.path} is named as a Parquet file but is not one; was its download complete?")

    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns (of JSON lines: those of the first rows)."""
        if self._start().startswith(_PARQUET):
            with self._parquet() as file:
                return tuple(file.schema_arrow.names)
        names: dict[str, None] = {}
        for _, row in zip(range(_HEAD_ROWS), self.rows(frozenset()), strict=False):
            names.update(dict.fromkeys(row.values or {}))
        return tuple(names)

    def rows(self, wanted: frozenset[str]) -> Iterator[Row]:
        """Yield all rows in order; Parquet yields only the wanted columns.

        Raises DataError for a file that is missing, empty, damaged or truncated.
        """
        self.check()
        if self._start().startswith(_PARQUET):
            yield from self._parquet_rows(wanted)
        else:
            yield from self._json_rows()

    def _start(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(len(_GIT_LFS))

    def _open(self) -> IO[bytes]:
        if self._start().startswith(_GZIP):
            return cast(IO[bytes], gzip.open(self.path, "rb"))
        return self.path.open("rb")

    def _json_rows(self) -> Iterator[Row]:
        number = 0
        try:
            with self._open() as file:
                if _first_byte(file) == b"[":
                    yield from self._list_rows(file)
                    return
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield _json_row(f"{self.path}:{number}", line)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{self.path} is a damaged or incomplete gzip file (after line {number}: {error}); fetch it again"
            ) from error

    def _list_rows(self, file: IO[bytes]) -> Iterator[Row]:
        try:
            rows = json.load(file)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path} begins like a JSON list but is not one: {error}") from error
        for number, values in enumerate(rows, 1):
            place = f"{self.path}, row {number}"
            yield Row(place, values) if isinstance(values, dict) else Row(place, None, "not a JSON object")

    def _parquet_rows(self, wanted: frozenset[str]) -> Iterator[Row]:
        number = 0
        with self._parquet() as file:
            columns = [name for name in file.schema_arrow.names if name in wanted]
            for batch in file.iter_batches(batch_size=1024, columns=columns):
                for values in batch.to_pylist() if columns else [{}] * batch.num_rows:
                    number += 1
                    yield Row(f"{self.path}, row {number}", values)

    @contextmanager
    def _parquet(self) -> Iterator[Any]:
        # Imported here because planning imports this module and must stay quick.
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(self.path) as file:
                yield file
        except (ArrowException, OSError) as error:
            raise DataError(f"{self.path} is a damaged or incomplete Parquet file ({error}); fetch it again") from error


def _first_byte(file: IO[bytes]) -> bytes:
    """Return the first byte that is neither white space nor part of a byte order mark, and rewind."""
    start = file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(0)
    return start[:1]


def _json_row(place: str, line: bytes) -> Row:
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Row(place, None, "not UTF-8")
    except (json.JSONDecodeError, RecursionError):
        return Row(place, None, "not JSON")
    return Row(place, values) if isinstance(values, dict) else Row(place, None, "not a JSON object")
