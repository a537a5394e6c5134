"""Running commands and reading what they cost: wall time, CPU time of all their processes, peak memory."""

import os
import shutil
import statistics
import subprocess
import time


# Seconds from which one run tells enough.
ONCE_FROM = 10


class Failed(Exception):
    """A command of the comparison did not work."""


GNU_TIME = shutil.which("time", path="/usr/bin:/bin")


def run(command, environment, keep=None):
    """Runs a command (a list, or a text for sh) to its end and returns its costs.

    Memory is that of the largest single process. It is read by GNU time where that is present, because a child
    of this interpreter inherits the interpreter's own peak.
    """
    words = command if isinstance(command, list) else ["/bin/sh", "-c", command]
    peak_file = os.path.join(environment["TMPDIR"], "peak")
    if GNU_TIME:
        words = [GNU_TIME, "-q", "-f", "%M", "-o", peak_file, *words]
    log = os.path.join(environment["TMPDIR"], "log")
    with open(log, "wb") as errors, open(keep or os.devnull, "wb") as out:
        started = time.perf_counter()
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        with open(log, errors="replace") as text:
            raise Failed(f"{command!r} ended with {process.returncode}: {text.read().strip().splitlines()[-1:]}")
    peak = usage.ru_maxrss
    if GNU_TIME:
        with open(peak_file) as text:
            peak = int(text.read().split()[-1])
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": peak * 1024}


def median(costs):
    """Reduces the costs of several runs to medians, the fastest and slowest run, and the largest peak."""
    result = {key: statistics.median(cost[key] for cost in costs) for key in ("wall", "cpu")}
    result["peak"] = max(cost["peak"] for cost in costs)
    result["low"], result["high"] = min(c["wall"] for c in costs), max(c["wall"] for c in costs)
    result["runs"] = len(costs)
    if "size" in costs[0]:
        result["size"] = costs[0]["size"]
    return result


def interleaved(jobs, runs, environment, say):
    """Runs all jobs in turn, `runs` times after one round that does not count; returns their medians by name.

    A job is (name, command, before, size): `before()` clears the way, `size()` measures the output.
    A job that takes over ten seconds is run once, and counts; one that fails is left out, with a word.
    """
    costs = {name: [] for name, *_ in jobs}
    broken, slow = set(), set()
    for number in range(runs + (runs > 1)):
        for name, command, before, size in jobs:
            if name in broken or name in slow:
                continue
            before()
            try:
                cost = run(command, environment)
                cost["size"] = size()
            except (Failed, OSError) as error:
                say(f"left out: {name}: {error}")
                broken.add(name)
                continue
            if number == 0 and cost["wall"] > ONCE_FROM:
                slow.add(name)
            if number > 0 or runs == 1 or name in slow:
                costs[name].append(cost)
    for _, _, before, _ in jobs:
        before()
    return {name: median(list_) for name, list_ in costs.items() if list_ and name not in broken}


def start_up(command, environment, runs):
    """Returns the median wall time of a command that does next to nothing."""
    walls = []
    for _ in range(runs):
        started = time.perf_counter()
        pid = os.posix_spawn(command[0], command, environment, file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
        os.waitpid(pid, 0)
        walls.append(time.perf_counter() - started)
    return statistics.median(walls)


def size_of(path):
    """Returns the bytes of a file, or of all files in a folder."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def remove(*paths):
    """Removes files and folders, whether they are there or not."""
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.lexists(path):
            os.remove(path)
