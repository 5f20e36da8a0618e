# SPDX-License-Identifier: MIT
"""What is measured. Each workload does its work on a fresh mount and returns figures by unit; more is better but for memory,
CPU time and requests. All work on the mount is done by programs with a deadline."""
import contextlib
import glob
import json
import os
import shutil
import time
from typing import Callable, NamedTuple

from making_workloads import MAKING_WORKLOADS
from processes import Failed, forget_peak_memory, kill, peak_memory_mib, run, start
from tree_workloads import SYNCED, TREE_WORKLOADS, make_trees

PARALLEL_READERS = 4
RANDOM_IO_SECONDS = 4
SPEED_UNITS = ("MiB/s", "IOPS", "files/s", SYNCED, "runs/s")


class Data:
    """The files that are served, and how large they are."""

    def __init__(self, files, home, mebibytes):
        self.files, self.home, self.mebibytes = files, home, mebibytes

    def make(self, with_streams, with_trees):
        if with_streams:
            self.make_file("random.bin", lambda size: os.urandom(size))
            text = text_source()
            self.make_file("text.txt", lambda size: next(text))
            for number in range(PARALLEL_READERS):
                size = self.mebibytes // PARALLEL_READERS
                run(["dd", f"if={self.files}/random.bin", f"of={self.files}/part{number}", "bs=1M", f"skip={number * size}",
                     f"count={size}"])
        if with_trees:
            make_trees(self.files, self.home)

    def make_file(self, name, block_of):
        with open(f"{self.files}/{name}", "wb") as file:
            left = self.mebibytes << 20
            while left > 0:
                block = block_of(min(left, 4 << 20))[:left]
                file.write(block)
                left -= len(block)

    def remove_results(self):
        """What workloads wrote, on the server's side."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.files}/written")
        shutil.rmtree(f"{self.files}/scratch", ignore_errors=True)
        for name in ("from-mount", "over-ssh"):
            shutil.rmtree(f"{self.home}/{name}", ignore_errors=True)

    def deadline_s(self, megabytes_per_second=0.5):
        return 60 + self.mebibytes / megabytes_per_second


def text_source():
    """Blocks of text as people and programs write it, for ever: this machine's headers, scripts and licences."""
    paths = sorted(glob.glob("/usr/include/**/*.h", recursive=True) + glob.glob("/usr/lib/python3*/**/*.py", recursive=True))
    while True:
        block = bytearray()
        for path in paths:
            with contextlib.suppress(OSError), open(path, "rb") as file:
                block += file.read()
            while len(block) >= 4 << 20:
                yield bytes(block[: 4 << 20])
                del block[: 4 << 20]
        if not block:
            raise Failed("there is no text on this machine to measure with")
        yield bytes(block)


def observed(file_system, mebibytes, work):
    """Speed of `work`, with the processor time and the requests that it took."""
    requests, cpu = file_system.requests(), file_system.cpu_seconds()
    started = time.monotonic()
    work()
    seconds = time.monotonic() - started
    figures = {"MiB/s": mebibytes / seconds, "CPU s/GiB": (file_system.cpu_seconds() - cpu) * 1024 / mebibytes}
    if requests is not None:
        figures["requests/MiB"] = (file_system.requests() - requests) / mebibytes
    return figures


def reading(name):
    def measure(file_system, data):
        command = ["dd", f"if={file_system.mountpoint}/{name}", "of=/dev/null", "bs=1M"]
        return observed(file_system, data.mebibytes, lambda: run(command, data.deadline_s()))

    return measure


def writing(name):
    def measure(file_system, data):
        command = ["dd", f"if={data.files}/{name}", f"of={file_system.mountpoint}/written", "bs=1M", "conv=fsync"]
        return observed(file_system, data.mebibytes, lambda: run(command, data.deadline_s()))

    return measure


def read_again(file_system, data):
    command = ["dd", f"if={file_system.mountpoint}/random.bin", "of=/dev/null", "bs=128k"]
    run(command, data.deadline_s())
    started = time.monotonic()
    run(command, data.deadline_s())
    return {"MiB/s": data.mebibytes / (time.monotonic() - started)}


def read_in_parallel(file_system, data):
    def work():
        readers = [start(["dd", f"if={file_system.mountpoint}/part{number}", "of=/dev/null", "bs=1M", "status=none"])
                   for number in range(PARALLEL_READERS)]
        end = time.monotonic() + data.deadline_s()
        try:
            for reader in readers:
                if reader.wait(max(0.1, end - time.monotonic())) != 0:
                    raise Failed("one of the readers failed")
        finally:
            for reader in readers:
                kill(reader)

    return observed(file_system, data.mebibytes, work)


def fio(file_system, file_name, *options):
    command = ["fio", "--output-format=json", "--name=job", f"--filename={file_system.mountpoint}/{file_name}", "--bs=4k",
               "--ioengine=psync", "--direct=0", "--invalidate=1", "--thread", "--time_based", f"--runtime={RANDOM_IO_SECONDS}",
               "--group_reporting", "--randrepeat=0", "--norandommap", "--fallocate=none", *options]
    report = run(command, RANDOM_IO_SECONDS + 60, output=True)
    job = json.loads(report[report.index("{"):])["jobs"][0]
    return job["read"], job["write"]


def random_reads(threads):
    def measure(file_system, data):
        requests = file_system.requests()
        done, _ = fio(file_system, "random.bin", "--rw=randread", f"--numjobs={threads}", f"--size={data.mebibytes}m",
                      "--allow_file_create=0")
        figures = {"IOPS": done["iops"]}
        if requests is not None:
            figures["requests/operation"] = (file_system.requests() - requests) / done["total_ios"]
        return figures

    return measure


def mixed(file_system, data):
    shutil.copy(f"{data.files}/part0", f"{data.files}/written")
    read, written = fio(file_system, "written", "--rw=randrw", "--rwmixread=70", "--numjobs=4", "--end_fsync=1",
                        f"--size={data.mebibytes // PARALLEL_READERS}m")
    return {"IOPS": read["iops"] + written["iops"]}


def peak_memory(file_system, data):
    processes = {"client": file_system.client_processes(), "server": file_system.server_processes()}
    forget_peak_memory(processes["client"] + processes["server"])
    run(["cp", f"{data.files}/random.bin", f"{file_system.mountpoint}/written"], data.deadline_s())
    run(["cp", f"{file_system.mountpoint}/random.bin", "/dev/null"], data.deadline_s())
    # A session's own process at the server (sshd) has begun since.
    processes["server"] = file_system.server_processes()
    return {f"MiB {side}": peak_memory_mib(pids) for side, pids in processes.items()}


class Workload(NamedTuple):
    name: str
    title: str
    measure: Callable
    on_links: bool = False  # measured on emulated links, too
    local: bool = False  # and on the served files themselves
    over_ssh: str = ""
    needs: str = ""  # the program without which it is not measured


WORKLOADS = (
    Workload("read", "sequential read, random data", reading("random.bin"), on_links=True),
    Workload("write", "sequential write and fsync, random data", writing("random.bin"), on_links=True),
    Workload("read-text", "sequential read, text", reading("text.txt"), on_links=True),
    Workload("write-text", "sequential write and fsync, text", writing("text.txt"), on_links=True),
    Workload("reread", "second read of a file", read_again, local=True),
    Workload("parallel", f"{PARALLEL_READERS} parallel readers", read_in_parallel),
    Workload("random-1", "random 4 KiB reads, 1 thread", random_reads(1), needs="fio"),
    Workload("random-16", "random 4 KiB reads, 16 threads", random_reads(16), needs="fio"),
    Workload("mixed", "random 4 KiB, 70 % reads, 4 threads", mixed, needs="fio"),
    Workload("memory", "peak memory while copying in and out", peak_memory),
)
STREAMS = frozenset(workload.name for workload in WORKLOADS)
WORKLOADS += TREE_WORKLOADS + MAKING_WORKLOADS
