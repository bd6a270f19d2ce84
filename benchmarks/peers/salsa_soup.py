"""The soup of two models without start-up.

python -m benchmarks.peers.salsa_soup FOLDER FOLDER OUT      (prints the wall seconds as JSON)
"""

import json
import sys
import time
from pathlib import Path

from salsa.soup.average import average


def main(first: Path, second: Path, out: Path) -> dict[str, float]:
    """Average the models half and half; return the seconds."""
    started = time.perf_counter()
    average([first, second], [0.5, 0.5], out)
    return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:]))))
