"""Independent random streams named by what they are for, so that no two stages ever share noise by accident.

NumPy is imported where a stream is drawn: plans name seeds and draw none.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def sequence(root: int, replicate: int, role: str, index: int = 0) -> np.random.SeedSequence:
    """Return the seed sequence of one role of one replicate.

    The role's name enters as a hash, so that adding a role never shifts another role's stream.
    """
    import numpy as np

    role_key = int.from_bytes(hashlib.sha256(role.encode()).digest()[:4], "big")
    return np.random.SeedSequence(root, spawn_key=(replicate, role_key, index))


def generator(root: int, replicate: int, role: str, index: int = 0) -> np.random.Generator:
    """Return a NumPy generator for one role of one replicate."""
    import numpy as np

    return np.random.default_rng(sequence(root, replicate, role, index))


def integer(root: int, replicate: int, role: str, index: int = 0) -> int:
    """Return a non-negative 63-bit integer seed (for torch generators) for one role of one replicate."""
    import numpy as np

    return int(sequence(root, replicate, role, index).generate_state(1, np.uint64)[0] >> np.uint64(1))
