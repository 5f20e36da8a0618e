# SPDX-License-Identifier: MIT
"""Trees of small files, and walking and reading them. Each workload does its work on a fresh mount."""
import os
import shutil
import time
from typing import Callable, NamedTuple

from processes import Failed, run

DIRECTORIES, FILES_PER_DIRECTORY = 100, 20
TREE_FILES = DIRECTORIES * FILES_PER_DIRECTORY
CHANGED_FILES = 3 * DIRECTORIES  # by the origin's other branch
HEADERS = 300
DEADLINE_S = 180
SYNCED = "files/s until synced"
GIT = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "safe.directory=*", "-c", "init.defaultBranch=main",
       "-c", "gc.auto=0", "-c", "maintenance.auto=false"]


def make_trees(files, home):
    """Served: tree, files that do not compress; repository, the same under git; project, C sources with headers. At home: an
    archive of the tree; origin, a repository to clone; other, what its other branch has."""
    for directory in range(DIRECTORIES):
        path = f"{files}/tree/d{directory}"
        os.makedirs(path)
        for number in range(FILES_PER_DIRECTORY):
            with open(f"{path}/f{number}", "wb") as file:
                file.write(os.urandom(1024 + 37 * number))
    make_project(f"{files}/project")
    if shutil.which("tar"):
        run(["tar", "-C", f"{files}/tree", "-cf", f"{home}/tree.tar", "."])
    if shutil.which("git"):
        shutil.copytree(f"{files}/tree", f"{files}/repository")
        run([*GIT, "-C", f"{files}/repository", "init", "-q"])
        commit_all(f"{files}/repository")
        make_origin(f"{files}/repository", home)


def commit_all(path):
    run([*GIT, "-C", path, "add", "-A"])
    run([*GIT, "-C", path, "commit", "-q", "-m", "all"])


def make_origin(repository, home):
    for name in ("origin", "other"):  # those of the link before
        shutil.rmtree(f"{home}/{name}", ignore_errors=True)
    run([*GIT, "clone", "-q", repository, f"{home}/origin"])
    run([*GIT, "-C", f"{home}/origin", "worktree", "add", "-q", "-b", "other", f"{home}/other"])
    for directory in range(DIRECTORIES):
        path = f"{home}/other/d{directory}"
        os.unlink(f"{path}/f0")
        for name in ("f1", "new"):
            with open(f"{path}/{name}", "wb") as file:
                file.write(os.urandom(1500))
    commit_all(f"{home}/other")


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


def counted(file_system, units, work, then_sync=False):
    """Speed of `work` in `units` ("files/s", how many), with what it cost in messages. `then_sync`: the speed until all is at the
    server as well; the messages are those until then."""
    unit, amount = units
    before = file_system.traffic()
    started = time.monotonic()
    work()
    figures = {unit: amount / (time.monotonic() - started)}
    if then_sync:
        run(["sync", file_system.mountpoint], DEADLINE_S)
        figures[SYNCED] = amount / (time.monotonic() - started)
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


def git(*command):
    return [*GIT, "-C", "{mnt}/repository", *command]


class TreeWorkload(NamedTuple):
    name: str
    title: str
    measure: Callable
    on_links: bool = True
    local: bool = True  # on the served files themselves, too
    over_ssh: str = ""  # the way that "tar over ssh" does the like: "from" or "to" the server
    needs: str = ""  # the program without which it is not measured


# Not to /dev/null: tar would then not read the files.
TAR_OUT = ("sh", "-c", "tar -C {mnt} -cf - tree | cat >/dev/null")
RUNS = ("runs/s", 1)

TREE_WORKLOADS = (
    TreeWorkload("find", f"find -ls of {TREE_FILES} files", on_tree("find", "{mnt}/tree", "-ls")),
    TreeWorkload("find-again", "the same again", on_tree("find", "{mnt}/tree", "-ls", warm=True)),
    TreeWorkload("du", "du of them", on_tree("du", "-s", "{mnt}/tree")),
    TreeWorkload("ls", "ls -lR of them", on_tree("ls", "-lR", "{mnt}/tree")),
    TreeWorkload("ls-again", "the same again", on_tree("ls", "-lR", "{mnt}/tree", warm=True)),
    TreeWorkload("tar", "tar c of them", on_tree(*TAR_OUT), over_ssh="from", needs="tar"),
    TreeWorkload("grep", "grep -r in them", on_tree("sh", "-c", "grep -r nowhere-to-be-found {mnt}/tree; test $? = 1")),
    TreeWorkload("git-status", "git status of them", on_tree(*git("status", "-s")), needs="git"),
    TreeWorkload("git-status-again", "the same again", on_tree(*git("status", "-s"), warm=True), needs="git"),
    TreeWorkload("rsync-from", "rsync -a of them from the mount",
                 on_tree("rsync", "-a", "{mnt}/tree/", "{home}/from-mount/"), needs="rsync"),
    TreeWorkload("cc", f"cc of one file with {HEADERS} headers",
                 on_tree("cc", "-c", "-o", "/dev/null", "{mnt}/project/s0.c", units=RUNS), needs="cc"),
    TreeWorkload("make", "make -j2 of a C project",
                 on_tree("make", "-s", "-j2", "-C", "{mnt}/scratch/project", make=project_for, units=RUNS), needs="make"),
)


def check_same(source, made, *options):
    """Fails unless both directories have the same names and contents."""
    try:
        run(["sh", "-c", 'diff -r "$@" >&2', "diff", *options, source, made], DEADLINE_S)
    except Failed as reason:
        raise Failed(f"{made} is not as {source}: {reason}") from None


def tar_over_ssh(direction, sshfs, data):
    """The practical limit: one stream of all files, unpacked at the other end."""
    prepared(data, None)
    here, there = f"{data.home}/over-ssh", f"{data.files}/scratch"
    shutil.rmtree(here, ignore_errors=True)
    os.makedirs(here)
    ssh = sshfs.ssh_command()
    if direction == "from":
        pipe = f"{ssh} tar -C {data.files} -cf - tree | tar -C {here} -xf -"
    else:
        pipe = f"tar -C {data.files} -cf - tree | {ssh} tar -C {there} -xf -"
    started = time.monotonic()
    run(sshfs.link.at_client(["bash", "-o", "pipefail", "-c", pipe]), DEADLINE_S)
    speed = TREE_FILES / (time.monotonic() - started)
    check_same(f"{data.files}/tree", f"{here if direction == 'from' else there}/tree")
    return {"files/s": speed} if direction == "from" else {"files/s": speed, SYNCED: speed}
