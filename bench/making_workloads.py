# SPDX-License-Identifier: MIT
"""Making and removing trees of small files. A program may end before all that it made is at the server, so both moments are
measured; what the server has by the second is compared with the source, outside the measured time. Each workload does its work
on a fresh mount."""
import os
import shlex

from processes import Failed, run
from tree_workloads import CHANGED_FILES, GIT, TREE_FILES, TreeWorkload, check_same, copy_of, counted, filled_in, prepared

# Enough for ten round trips a file where one takes 20 ms, and somewhat more.
DEADLINE_S = 600


def making(*command, make=None, first=(), files=TREE_FILES, check):
    """The command with {mnt}, {home} and {files} filled in. `make` prepares it on the server's side, the commands of `first` on
    the mount; `check` fails if the outcome is wrong."""

    def measure(file_system, data):
        prepared(data, make)
        for words in first:
            run(filled_in(words, file_system, data), DEADLINE_S)
        words = filled_in(command, file_system, data)
        figures = counted(file_system, ("files/s", files), lambda: run(words, DEADLINE_S), then_sync=True)
        check(data)
        return figures

    return measure


def same_as_tree(made):
    return lambda data: check_same(f"{data.files}/tree", f"{data.files}/scratch/{made}", "--exclude=.git")


def removed(data):
    if os.path.lexists(f"{data.files}/scratch/tree"):
        raise Failed("the tree is still there")


def repository_at_first_commit(data):
    copy_of("repository")(data)
    path = f"{data.files}/scratch/repository"
    run([*GIT, "-C", path, "rm", "-q", "-r", "."])
    run([*GIT, "-C", path, "commit", "-q", "-m", "none"])


def check_clone(data, work_tree):
    check_same(work_tree, f"{data.files}/scratch/clone", "--exclude=.git")
    run([*GIT, "-C", f"{data.files}/scratch/clone", "fsck", "--strict", "--no-progress"], DEADLINE_S)


def cloned(data):
    check_clone(data, f"{data.files}/tree")


def cloned_and_clean(data):
    if os.path.getsize(f"{data.home}/status"):
        raise Failed("git status names files of a fresh clone")
    cloned(data)


def at_other_branch(data):
    check_clone(data, f"{data.home}/other")


# As from another machine: with a pack, instead of copies of (or hard links to) the objects.
CLONE = (*GIT, "clone", "-q", "--no-local", "{home}/origin", "{mnt}/scratch/clone")
SYNC = ("sync", "{mnt}")
STATUS = ("sh", "-c", shlex.join([*GIT, "-C", "{mnt}/scratch/clone", "status", "-s"]) + " >{home}/status")

MAKING_WORKLOADS = (
    TreeWorkload("untar", f"untar of {TREE_FILES} files",
                 making("tar", "-C", "{mnt}/scratch", "-xf", "{home}/tree.tar", check=same_as_tree("")), over_ssh="to", needs="tar"),
    TreeWorkload("rm", "rm -rf of them", making("rm", "-rf", "{mnt}/scratch/tree", make=copy_of("tree"), check=removed)),
    TreeWorkload("cp-inside", "cp -r of them inside the mount",
                 making("cp", "-r", "{mnt}/tree", "{mnt}/scratch/copy", check=same_as_tree("copy"))),
    TreeWorkload("cp-into", "cp -r of them into the mount",
                 making("cp", "-r", "{files}/tree", "{mnt}/scratch/copy", check=same_as_tree("copy")), over_ssh="to"),
    TreeWorkload("git-clone", "git clone of them into the mount", making(*CLONE, check=cloned), needs="git"),
    TreeWorkload("git-status-clone", "git status right after it", making(*STATUS, first=[CLONE], check=cloned_and_clean), needs="git"),
    TreeWorkload("git-switch", f"git checkout of a branch where {CHANGED_FILES} files differ, after it",
                 making(*GIT, "-C", "{mnt}/scratch/clone", "checkout", "-q", "other", first=[CLONE, SYNC],
                        files=CHANGED_FILES, check=at_other_branch), needs="git"),
    TreeWorkload("git-checkout", f"git checkout of all {TREE_FILES} files",
                 making(*GIT, "-C", "{mnt}/scratch/repository", "checkout", "-q", "HEAD~1", make=repository_at_first_commit,
                        check=same_as_tree("repository")), needs="git"),
    TreeWorkload("rsync-to", "rsync -a of them into the mount",
                 making("rsync", "-a", "{files}/tree/", "{mnt}/scratch/copy/", check=same_as_tree("copy")), over_ssh="to", needs="rsync"),
)
