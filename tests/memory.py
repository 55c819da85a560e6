"""What the kernel says of the memory of a process.

Tricky bits
    `getrusage` is of no use here: the peak that it tells outlives `exec`, so that a child starts with that of
    whoever started it.
"""

from pathlib import Path


def status(process: int | str = "self") -> dict[str, str]:
    """The fields of /proc/PID/status; see proc(5)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def resident(process: int | str = "self") -> int:
    """Bytes of memory that a process holds now."""
    return int(status(process)["VmRSS"].split()[0]) << 10


def peak(process: int | str = "self") -> int:
    """The most bytes of memory that a process ever held."""
    return int(status(process)["VmHWM"].split()[0]) << 10
