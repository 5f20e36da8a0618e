# SPDX-License-Identifier: MIT
"""Programs started with a deadline, and what /proc says of them. Nothing here touches a mount: only children may hang on it."""
import contextlib
import os
import signal
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A step that could not be carried out; the text says why."""


def run(command, deadline_s=60, output=False, **more):
    """Runs it to its end and returns its output if that is asked for. Kills it, and everything it started, at the deadline."""
    process = start(command, stdout=subprocess.PIPE if output else subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    try:
        text, errors = process.communicate(timeout=deadline_s)
    except BaseException as reason:
        kill(process)
        if isinstance(reason, subprocess.TimeoutExpired):
            raise Failed(f"{command[0]} had not ended after {deadline_s:.0f} s") from None
        raise
    if process.returncode != 0:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise Failed(f"{' '.join(command[:2])}: exit status {process.returncode}: {last[0]}")
    return text.decode() if output else None


def start(command, **more):
    # A session of its own: Ctrl-C on the terminal reaches this programme alone, which then ends the others in order.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **more)


def kill(process):
    """SIGKILL to it and to what it started. Does not wait for what cannot die, such as a process on a hung mount."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)


def stop(process, deadline_s=10):
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(deadline_s)
    kill(process)


def wait_until(what, condition, deadline_s=20):
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"no {what} within {deadline_s} s")
        time.sleep(0.02)


def tree(pid):
    """The process and all that descend from it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry)] = int(stat_fields(entry)[1])
    found = [pid] if pid in parents else []
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found


def stat_fields(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def cpu_seconds(pids):
    """User and system time, of children that have ended as well."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += sum(int(field) for field in stat_fields(pid)[11:15])
    return total / TICKS


def forget_peak_memory(pids):
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/clear_refs", "w", encoding="utf-8") as file:
            file.write("5")


def peak_memory_mib(pids):
    total_kib = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8") as file:
            total_kib += sum(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    return total_kib / 1024
