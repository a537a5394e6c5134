"""Where a benchmark runs: the folder it works in, and what its report says about the machine."""

import contextlib
import datetime
import os
import platform
import tempfile

import jobs


def work_folder(name, needed_bytes, wanted=None):
    """Returns a new folder to work in: in memory where there is room, so that no disk is measured."""
    if wanted:
        return tempfile.mkdtemp(prefix=f"{name}-", dir=wanted)
    with open("/proc/meminfo") as lines:
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    shm = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    roomy = shm and shm.f_bavail * shm.f_frsize > needed_bytes and free > 1.5 * needed_bytes
    return tempfile.mkdtemp(prefix=f"{name}-", dir="/dev/shm" if roomy else None)


def describe(work, tools):
    """Describes where the figures come from."""
    with open("/proc/cpuinfo") as lines:
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    with open("/proc/meminfo") as lines:
        memory = int(lines.readline().split()[1]) // (1 << 20)
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "cpu": model,
            "cores": os.cpu_count(), "memory": memory, "kernel": platform.release(),
            "medium": "memory (tmpfs)" if work.startswith("/dev/shm") else f"disk ({work})",
            "load_before": os.getloadavg()[0],
            "versions": {name: jobs.version_of(name) for name in tools}}


@contextlib.contextmanager
def on_cores(cores):
    """Keeps processes that are started inside on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
