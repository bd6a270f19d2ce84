"""What a soup of two models must do at least: read the files of both and write as much as one of them holds.

python plain_copy.py FOLDER FOLDER OUT      (prints the wall seconds as JSON; start-up is not in them)
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CHUNK = 2**20


def main(first: Path, second: Path, out: Path) -> dict[str, float]:
    """Read, write and return the seconds."""
    started = time.perf_counter()
    out.mkdir()
    with (out / "copy").open("wb", buffering=0) as file:
        for chunk in _chunks(first):
            file.write(chunk)
    for _ in _chunks(second):
        pass
    return {"seconds": time.perf_counter() - started}


def _chunks(folder: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(CHUNK))
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                yield buffer[:count]


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:]))))
