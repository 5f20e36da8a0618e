# SPDX-License-Identifier: MIT
"""Work on trees of small files: walking, reading, making and removing them. Each workload does its work on a fresh mount."""
import os
import shutil
import sys
import time
from typing import Callable, NamedTuple

from processes import Failed, run

DIRECTORIES, FILES_PER_DIRECTORY = 100, 20
TREE_FILES = DIRECTORIES * FILES_PER_DIRECTORY
HEADERS = 300
DEADLINE_S = 180
GIT = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "safe.directory=*", "-c", "init.defaultBranch=main",
       "-c", "gc.auto=0", "-c", "maintenance.auto=false"]


def make_trees(files, home):
    """tree: files that do not compress; repository: the same under git; project: C sources with headers."""
    for directory in range(DIRECTORIES):
        path = f"{files}/tree/d{directory}"
        os.makedirs(path)
        for number in range(FILES_PER_DIRECTORY):
            with open(f"{path}/f{number}", "wb") as file:
                file.write(os.urandom(1024 + 37 * number))
    run(["tar", "-C", f"{files}/tree", "-cf", f"{home}/tree.tar", "."])
    shutil.copytree(f"{files}/tree", f"{files}/repository")
    run([*GIT, "-C", f"{files}/repository", "init", "-q"])
    run([*GIT, "-C", f"{files}/repository", "add", "."])
    run([*GIT, "-C", f"{files}/repository", "commit", "-q", "-m", "all"])
    make_project(f"{files}/project")


def make_project(path):
    os.makedirs(f"{path}/include")
    for number in range(HEADERS):
        with open(f"{path}/include/h{number}.h", "w", encoding="utf-8") as file:
            file.write(f"#ifndef H{number}\n#define H{number}\nstatic inline int f{number}(int x) {{ return x + {number}; }}\n#endif\n")
    sources = [f"s{number}" for number in range(8)]
    for name in sources:
        with open(f"{path}/{name}.c", "w", encoding="utf-8") as file:
            file.write("".join(f'#include "include/h{number}.h"\n' for number in range(HEADERS)))
            file.write(f"int {name}(int x) {{ return f0(x) + f{HEADERS - 1}(x); }}\n")
    with open(f"{path}/main.c", "w", encoding="utf-8") as file:
        file.write("int main(void) { return 0; }\n")
    objects = " ".join(f"{name}.o" for name in [*sources, "main"])
    with open(f"{path}/Makefile", "w", encoding="utf-8") as file:
        file.write(f"program: {objects}\n\tcc -o $@ $^\n%.o: %.c $(wildcard include/*.h)\n\tcc -c -o $@ $<\n")


def counted(file_system, units, work):
    """Speed of `work` in `units` ("files/s", how many), with what it cost in messages."""
    before = file_system.traffic()
    started = time.monotonic()
    work()
    seconds = time.monotonic() - started
    unit, amount = units
    figures = {unit: amount / seconds}
    if before is not None:
        figures.update({name: value - before[name] for name, value in file_system.traffic().items()})
    return figures


def filled_in(command, file_system, data):
    return [word.format(mnt=file_system.mountpoint, home=data.home, files=data.files) for word in command]


def prepared(data, make):
    """A place of its own on the server's side for what the workload makes or removes."""
    shutil.rmtree(f"{data.files}/scratch", ignore_errors=True)
    os.makedirs(f"{data.files}/scratch")
    if make:
        make(data)


def on_tree(*command, make=None, warm=False, units=("files/s", TREE_FILES)):
    """The command with {mnt}, {home} and {files} filled in; `warm`: its second run."""

    def measure(file_system, data):
        prepared(data, make)
        words = filled_in(command, file_system, data)
        if warm:
            run(words, DEADLINE_S)
        return counted(file_system, units, lambda: run(words, DEADLINE_S))

    return measure


def copy_of(name):
    return lambda data: run(["cp", "-a", f"{data.files}/{name}", f"{data.files}/scratch/{name}"])


def project_for(data):
    copy_of("project")(data)


def repository_at_first_commit(data):
    copy_of("repository")(data)
    path = f"{data.files}/scratch/repository"
    run([*GIT, "-C", path, "rm", "-q", "-r", "."])
    run([*GIT, "-C", path, "commit", "-q", "-m", "none"])


def git(*command):
    return [*GIT, "-C", "{mnt}/repository", *command]


class TreeWorkload(NamedTuple):
    name: str
    title: str
    measure: Callable
    on_links: bool = True
    local: bool = True  # on the served files themselves, too
    over_ssh: str = ""  # the way that "tar over ssh" does the like: "from" or "to" the server


# Not to /dev/null: tar would then not read the files.
TAR_OUT = ("sh", "-c", "tar -C {mnt} -cf - tree | cat >/dev/null")
RUNS = ("runs/s", 1)

TREE_WORKLOADS = (
    TreeWorkload("find", f"find -ls of {TREE_FILES} files", on_tree("find", "{mnt}/tree", "-ls")),
    TreeWorkload("find-again", "the same again", on_tree("find", "{mnt}/tree", "-ls", warm=True)),
    TreeWorkload("du", "du of them", on_tree("du", "-s", "{mnt}/tree")),
    TreeWorkload("ls", "ls -lR of them", on_tree("ls", "-lR", "{mnt}/tree")),
    TreeWorkload("ls-again", "the same again", on_tree("ls", "-lR", "{mnt}/tree", warm=True)),
    TreeWorkload("tar", "tar c of them", on_tree(*TAR_OUT), over_ssh="from"),
    TreeWorkload("grep", "grep -r in them", on_tree("sh", "-c", "grep -r nowhere-to-be-found {mnt}/tree; test $? = 1")),
    TreeWorkload("git-status", "git status of them", on_tree(*git("status", "-s"))),
    TreeWorkload("git-status-again", "the same again", on_tree(*git("status", "-s"), warm=True)),
    TreeWorkload("rsync-from", "rsync -a of them from the mount", on_tree("rsync", "-a", "{mnt}/tree/", "{home}/from-mount/")),
    TreeWorkload("cc", f"cc of one file with {HEADERS} headers",
                 on_tree("cc", "-c", "-o", "/dev/null", "{mnt}/project/s0.c", units=RUNS)),
    TreeWorkload("make", "make -j2 of a C project",
                 on_tree("make", "-s", "-j2", "-C", "{mnt}/scratch/project", make=project_for, units=RUNS)),
    TreeWorkload("untar", f"untar of {TREE_FILES} files", on_tree("tar", "-C", "{mnt}/scratch", "-xf", "{home}/tree.tar"), over_ssh="to"),
    TreeWorkload("rm", "rm -rf of them", on_tree("rm", "-rf", "{mnt}/scratch/tree", make=copy_of("tree"))),
    TreeWorkload("cp-inside", "cp -r of them inside the mount", on_tree("cp", "-r", "{mnt}/tree", "{mnt}/scratch/copy")),
    TreeWorkload("cp-into", "cp -r of them into the mount", on_tree("cp", "-r", "{files}/tree", "{mnt}/scratch/copy")),
    TreeWorkload("git-clone", "git clone of them into the mount",
                 on_tree(*GIT, "clone", "-q", "{files}/repository", "{mnt}/scratch/clone")),
    TreeWorkload("git-checkout", "git checkout of them",
                 on_tree(*GIT, "-C", "{mnt}/scratch/repository", "checkout", "-q", "HEAD~1", make=repository_at_first_commit)),
    TreeWorkload("rsync-to", "rsync -a of them into the mount", on_tree("rsync", "-a", "{files}/tree/", "{mnt}/scratch/copy/")),
)


def tar_over_ssh(direction, sshfs, data):
    """The practical limit: one stream of all files, unpacked at the other end."""
    prepared(data, None)
    here = f"{data.home}/over-ssh"
    shutil.rmtree(here, ignore_errors=True)
    os.makedirs(here)
    ssh = sshfs.ssh_command()
    if direction == "from":
        pipe = f"{ssh} tar -C {data.files} -cf - tree | tar -C {here} -xf -"
    else:
        pipe = f"{ssh} tar -C {data.files}/scratch -xf - <{data.home}/tree.tar"
    started = time.monotonic()
    run(sshfs.link.at_client(["bash", "-o", "pipefail", "-c", pipe]), DEADLINE_S)
    return {"files/s": TREE_FILES / (time.monotonic() - started)}


def missing_programs():
    """Of those that the workloads call."""
    return [name for name in ("git", "rsync", "tar", "make", "cc") if not shutil.which(name)]


if missing := missing_programs():
    print(f"Not all trees can be measured: {', '.join(missing)} missing", file=sys.stderr)
    if "git" in missing:
        raise Failed("git is missing")
