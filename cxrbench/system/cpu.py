"""What a process must be told before torch is imported, so that a CPU forward is not slowed by others or by itself."""

import ctypes
import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

# mallopt(3) parameter numbers and the values that keep freed memory in the process.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_INT_MAX = 2**31 - 1
_TOP_PAD = 64 * 2**20


def prepare() -> bool:
    """Keep freed memory, and let waiting threads sleep; True if both took effect.

    glibc hands every freed activation back to the kernel, which costs a third of a ResNet-50 forward in page faults.
    OpenMP threads that spin while a neighbour uses their core made a two-thread forward ten times slower. No computed
    value changes; resident memory grows by the activations of a batch. A user's own OMP_WAIT_POLICY is respected.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return keep_freed_memory()


def keep_freed_memory() -> bool:
    """Tell glibc not to return freed memory to the kernel; False where there is no glibc, or it refuses."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return all(
        mallopt(parameter, value) == 1
        for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _INT_MAX), (_M_TOP_PAD, _TOP_PAD))
    )


def cores() -> int:
    """Processors that this process may use: those of its SLURM job or container, not of the whole machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def maker() -> str:
    """Of the processor, as it names itself: `GenuineIntel`, `AuthenticAMD`; empty where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "vendor_id":
                return value.strip()
    return next((part for part in platform.processor().split() if part in ("GenuineIntel", "AuthenticAMD")), "")
