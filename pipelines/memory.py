"""How a process keeps the memory of its tensors."""

import ctypes

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Parameters of `mallopt` (glibc's malloc.h)."""
_LARGEST_KEPT = 32 * 2**20
"""Bytes; the most that glibc takes as a threshold on 64-bit systems."""
_NEVER = 2**31 - 1


def keep_freed() -> bool:
    """Let the C library keep freed memory for the next tensors, and return whether it does.

    By default it gives large pieces back to the system at once and gets new ones, page by page, a moment later: a tenth
    of the time of training a small model on a CPU. Elsewhere than on glibc nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_TRIM_THRESHOLD, _NEVER))
