#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds the tree to its own rules. Each rule is a function of a tree that returns what breaks it; each is also shown a
tree in which something was planted, so that a rule that no longer finds anything is found.

usage: test_architecture.py [unittest's arguments]
"""
import re
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Which layers a layer may include, itself among them.
LAYERS = {
    "src/base": {"base"},
    "src/wire": {"base", "wire"},
    "src/spool": {"base", "wire", "spool"},
    "src/transport": {"base", "wire", "transport"},
    "src/client": {"base", "wire", "transport", "client"},
    "server": {"base", "wire", "transport", "server"},
    "src/filesystem": {"base", "wire", "transport", "client", "spool", "filesystem"},
    "remofs": {"base", "wire", "transport", "client", "spool", "filesystem", "remofs"},
    "cli": {"base", "wire", "transport", "client", "cli"},
    "lib": {"base", "wire", "transport", "client", "lib"},
}
LAYER_NAMES = {"base", "wire", "spool", "transport", "client", "filesystem", "server", "remofs", "cli", "lib"}
# The rooms of a layer, from the bottom up, and which others each may include besides those of its own and what lies at
# the layer's root.
ROOMS = {
    "src/client": {
        "requests": (),
        "session": ("requests",),
    },
    "server": {
        "files": (),
        "locks": ("files",),
        "leases": ("files",),
        "operations": ("files", "locks", "leases"),
        "sessions": ("leases",),
        "program": ("leases", "sessions"),
    },
    "remofs": {
        "kernel": (),
        "ids": ("kernel",),
        "operations": ("kernel", "ids"),
        "program": ("kernel", "ids", "operations"),
        "umount": (),
    },
}
# What may lie at a layer's root, if not all may: it is what the rooms meet in, and includes none of them.
ROOTS = {"server": ("server/file_service.hpp",), "remofs": ()}
# Where one must look up: libfuse hands its callbacks the session's user data, which is the Mount.
ROOM_EXCEPTIONS = {("remofs/kernel/init_reply.cpp", "remofs/operations/mount.hpp")}
# Libraries with one home each: what their includes begin with, and where they may.
LIBRARY_HOMES = {
    r"zmq\.|zmq_": ("src/transport",),
    r"fuse|fuse_": ("remofs",),
    r"spdlog/(?!fmt/)": ("src/base",),
}
# System calls that turn a name into a file, which belong to one file of the server. With an empty name they act on the
# descriptor itself, which is no look-up.
NAME_CALLS = (
    "openat openat2 mkdirat unlinkat renameat renameat2 linkat symlinkat mknodat mkfifoat fstatat statx readlinkat"
    " faccessat faccessat2 utimensat fchmodat fchownat name_to_handle_at open_by_handle_at SYS_openat SYS_openat2"
).split()
NAME_CALLS_HOME = "server/files/export.cpp"

CODE_FOLDERS = ("bench", "cli", "lib", "remofs", "server", "src", "tests")
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.M)


def code_files(root, folders=CODE_FOLDERS):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".cpp", ".hpp"):
                yield path, path.relative_to(root).as_posix()


def includes_point_one_way(root):
    for layer, allowed in LAYERS.items():
        for path, name in code_files(root, (layer,)):
            for include in INCLUDE.findall(path.read_text()):
                target = include.split("/")[0]
                if "/" in include and target in LAYER_NAMES and target not in allowed:
                    yield f"{name} includes {include}"
                if ".." in include.split("/"):
                    yield f"{name} includes {include}: paths start at the layer's name"


def rooms_point_one_way(root):
    for layer, rooms in ROOMS.items():
        order = list(rooms)
        for room, others in rooms.items():
            for other in others:
                if order.index(other) >= order.index(room):
                    yield f"the table of rooms lets {layer}/{room} include {other}, which is above it"
        for path, name in code_files(root, (layer,)):
            below = path.relative_to(root / layer).parts
            room = below[0] if len(below) == 2 else None
            at_root = len(below) == 1 and name in ROOTS.get(layer, (name,))
            if room not in rooms and not at_root:
                yield f"{name} is in no room of {layer}/"
            if room not in rooms and layer not in ROOTS:
                continue
            for include in INCLUDE.findall(path.read_text()):
                target = include.split("/")
                if target[0] != layer.split("/")[-1] or len(target) != 3 or (name, include) in ROOM_EXCEPTIONS:
                    continue
                if target[1] != room and target[1] not in rooms.get(room, ()):
                    yield f"{name} includes {include}"


def libraries_have_one_home(root):
    for path, name in code_files(root, ("bench", "cli", "lib", "remofs", "server", "src")):
        for include in INCLUDE.findall(path.read_text()):
            for library, homes in LIBRARY_HOMES.items():
                if re.match(library, include) and not name.startswith(tuple(home + "/" for home in homes)):
                    yield f"{name} includes {include}, which only {' and '.join(homes)} may"


def one_file_turns_names_into_paths(root):
    call = re.compile(r"(?<![\w.>])(?:::)?(" + "|".join(NAME_CALLS) + r')\s*[(,](?!\s*[\w.()>-]+\s*,\s*"")')
    for path, name in code_files(root, ("server",)):
        if name == NAME_CALLS_HOME:
            continue
        without_comments = re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.S)
        for found in call.finditer(without_comments):
            yield f"{name} calls {found[1]}: only {NAME_CALLS_HOME} may"


def sources_name_their_licence(root):
    patterns = ["meson.build", "meson_options.txt", "dev", ".ci/run"]
    patterns += [f"{folder}/**/*{suffix}" for folder in CODE_FOLDERS for suffix in (".cpp", ".hpp", ".py", ".sh")]
    patterns += [f"{folder}/**/meson.build" for folder in CODE_FOLDERS] + ["man/*.[0-9]"]
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            lines = path.read_text().splitlines()[:2]
            if lines and lines[0].startswith("#!"):
                lines = lines[1:]
            if not lines or "SPDX-License-Identifier: MIT" not in lines[0]:
                yield f"{path.relative_to(root)} does not begin with its SPDX line"


def headers_are_included_once(root):
    for path, name in code_files(root):
        if path.suffix == ".hpp" and not re.search(r"^#pragma once$", path.read_text(), re.M):
            yield f"{name} has no #pragma once"


def nothing_is_left_to_do(root):
    for path, name in code_files(root):
        for found in re.finditer(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text()):
            yield f"{name} says {found[1]}"


# ---- the protocol's document against the sources ----


def table_rows(text, columns):
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) >= columns:
            yield cells


def enumerators(text, name):
    body = re.search(r"enum class " + name + r"[^{]*\{(.*?)\};", text, re.S)[1]
    body = re.sub(r"//[^\n]*", "", body)
    return {found[1]: int(found[2], 0) for found in re.finditer(r"(\w+)\s*=\s*(\w+)", body)}


def constants(text):
    """The values of the inline constants, as far as they are arithmetic."""
    values = {}
    for found in re.finditer(r"inline constexpr std::\w+ (\w+)\s*=\s*([^;]+);", text):
        expression = re.sub(r"\b(\d+)[uU][lL]*", r"\1", found[2]).replace("/", "//")
        expression = " ".join(expression.split())
        if re.fullmatch(r"[\w\s+*/<>()-]+", expression):
            values[found[1]] = eval(expression, {"__builtins__": {}}, dict(values))  # of our own header, and arithmetic
    return values


def opcodes_match_the_document(root):
    document = (root / "docs/PROTOCOL.md").read_text()
    written = {}
    for cells in table_rows(document, 3):
        if re.fullmatch(r"(0x)?[0-9a-f]+", cells[0]) and re.fullmatch(r"[A-Z_]+", cells[1]):
            number = int(cells[0], 0)
            written[("push_" if number & 0x8000 else "") + cells[1].lower()] = number
    in_code = enumerators((root / "src/wire/protocol.hpp").read_text(), "Opcode")
    for name, number in sorted(set(written.items()) ^ set(in_code.items())):
        side = "docs/PROTOCOL.md" if (name, number) in written.items() else "src/wire/protocol.hpp"
        yield f"opcode {name} = {number} is only in {side}"


def statuses_match_the_document(root):
    document = (root / "docs/PROTOCOL.md").read_text().split("## Status codes")[-1]
    written = {}
    for cells in table_rows(document, 7):
        for number, name, errno in (cells[0:3], cells[4:7]):
            if number.isdigit():
                written[name] = int(number)
    header = (root / "src/base/status.hpp").read_text()
    local = set(re.findall(r"(\w+) = \d+,\s*// client side only", header))
    in_code = {name: number for name, number in enumerators(header, "Status").items() if name not in local}
    for name, number in sorted(set(written.items()) ^ set(in_code.items())):
        side = "docs/PROTOCOL.md" if (name, number) in written.items() else "src/base/status.hpp"
        yield f"status {name} = {number} is only in {side}"
    table = (root / "src/base/status.cpp").read_text()
    for cells in table_rows(document, 7):
        for number, name, errnos in (cells[0:3], cells[4:7]):
            for errno in errnos.split(", "):
                if number.isdigit() and errno.startswith("E") and f"{{Status::{name}, {errno}," not in table:
                    yield f"status {name} is not {errno} in src/base/status.cpp"


# How the document says what a constant of protocol.hpp is worth.
DOCUMENTED_LIMITS = {
    "message_magic": r"u16 magic \| (0x[0-9a-f]+)",
    "protocol_version": r"u8 version \| (\d+)",
    "default_port": r"default port is (\d+)",
    "max_head_bytes": r"head frame ([\d,]+) bytes",
    "max_frame_bytes": r"bulk frame ([\d,]+) bytes",
    "max_bulk_bytes": r"bulk data once decoded, at most ([\d,]+)",
    "max_records": r"u16 records \| 1 to (\d+)",
    "max_name_bytes": r"name (\d+) bytes",
    "max_path_bytes": r"symlink target ([\d,]+) bytes",
    "max_xattr_bytes": r"extended attribute ([\d,]+)\s+bytes",
    "max_forgets": r"list of forget_node \(at most ([\d,]+)\)",
    "max_groups": r"u32 groups \(at most ([\d,]+)\)",
    "max_token_bytes": r"token \(at most ([\d,]+) bytes\)",
    "feature_lz4": r"features \((\d) LZ4",
    "feature_zeros": r"features \(1 LZ4, (\d) zeros,",
    "feature_sealed_lanes": r"zeros, (\d) sealed lanes,",
    "feature_set_id": r"sealed lanes, (\d) set-id flags,",
    "feature_leases": r"set-id flags, (\d+) leases,",
    "feature_exclusive_leases": r"leases, (\d+) exclusive leases,",
    "feature_lent_inodes": r"exclusive leases, (\d+) lent inodes,",
    "feature_reclaim_locks": r"known answers, (\d+) locks reclaimed,",
    "feature_exports": r"locks reclaimed, (\d+) exports,",
    "feature_kept_files": r"exports, (\d+) kept files,",
    "feature_next_keys": r"kept files, (\d+) next keys\)",
    "max_next_keys": r"list of 32 bytes key \(at most (\d+)\)",
    "max_exports": r"at most (\d+) exports",
    "max_export_name_bytes": r"export has a name of 1 to (\d+) characters",
    "max_reclaimed_locks": r"list of held_lock \(at most ([\d,]+)\)",
    "feature_kept_answers": r"lent inodes, (\d+) kept answers,",
    "feature_known_answers": r"kept answers, (\d+) known answers,",
    "max_returned_leases": r"list of u64 directories \(at most ([\d,]+)\)",
    "message_overtakes": r"u16 flags \| of replies: (\d) `overtakes`",
    "flag_link": r"u8 flags \| (\d) `link`",
    "flag_bulk": r"`link`, (\d) `bulk`",
    "flag_resent": r"`bulk`, (\d) `resent`",
    "flag_in_order": r"`void`, (\d+) `in order`",
    "max_lent_inodes": r"u32 files, directories \(of each at most ([\d,]+)\)",
    "max_taken_leases": r"TAKE_LEASES \| list of u64 directories \(at most ([\d,]+)\)",
}


def limits_match_the_document(root):
    document = (root / "docs/PROTOCOL.md").read_text()
    in_code = constants((root / "src/wire/protocol.hpp").read_text())
    in_code |= constants((root / "src/wire/kept_answers.hpp").read_text())
    for name, pattern in DOCUMENTED_LIMITS.items():
        found = re.search(pattern, document)
        if not found:
            yield f"docs/PROTOCOL.md does not say what {name} is"
        elif int(found[1].replace(",", ""), 0) != in_code.get(name):
            yield f"{name} is {in_code.get(name)} in src/wire and {found[1]} in docs/PROTOCOL.md"
    lanes = re.search(r"u8 lane \(1 to (\d+)\)", document)
    if not lanes or int(lanes[1]) != in_code.get("max_lanes", 0) - 1:
        yield "max_lanes and the lanes of ATTACH differ"


RULES = (
    includes_point_one_way,
    rooms_point_one_way,
    libraries_have_one_home,
    one_file_turns_names_into_paths,
    sources_name_their_licence,
    headers_are_included_once,
    nothing_is_left_to_do,
    opcodes_match_the_document,
    statuses_match_the_document,
    limits_match_the_document,
)

SPDX = "// SPDX-License-Identifier: MIT\n"
# For each rule, changes to a copy of the tree that it must find: (file, text to replace or None for the whole, new text).
PLANTED = {
    includes_point_one_way: [
        ("src/base/planted.hpp", None, SPDX + '#pragma once\n#include "wire/frame.hpp"\n'),
        ("src/client/planted.cpp", None, SPDX + '#include "server/files/export.hpp"\n'),
        ("server/sessions/planted.cpp", None, SPDX + "#include <client/session.hpp>\n"),
        ("src/filesystem/planted.cpp", None, SPDX + '#include "remofs/operations/request.hpp"\n'),
        ("remofs/operations/planted.cpp", None, SPDX + '#include "cli/x.hpp"\n'),
        ("src/wire/planted.cpp", None, SPDX + '#include "../transport/lane.hpp"\n'),
    ],
    rooms_point_one_way: [
        ("src/client/requests/planted.cpp", None, SPDX + '#include "client/session/connection.hpp"\n'),
        ("src/client/attic/planted.cpp", None, SPDX),
        ("server/files/planted.hpp", None, SPDX + '#pragma once\n#include "server/locks/lock_table.hpp"\n'),
        ("server/sessions/planted.cpp", None, SPDX + '#include "server/operations/operation.hpp"\n'),
        ("server/planted.hpp", None, SPDX + "#pragma once\n"),
        ("server/file_service.hpp", None, SPDX + '#pragma once\n#include "server/files/export.hpp"\n'),
        ("server/attic/planted.cpp", None, SPDX),
        ("remofs/kernel/planted.cpp", None, SPDX + '#include "remofs/operations/mount.hpp"\n'),
        ("remofs/operations/planted.cpp", None, SPDX + '#include "remofs/program/options.hpp"\n'),
    ],
    libraries_have_one_home: [
        ("server/sessions/planted.cpp", None, SPDX + "#include <zmq.hpp>\n"),
        ("src/client/planted.cpp", None, SPDX + "#include <zmq_addon.hpp>\n"),
        ("src/filesystem/planted.cpp", None, SPDX + "#include <fuse_lowlevel.h>\n"),
        ("cli/planted.cpp", None, SPDX + "#include <fuse3/fuse.h>\n"),
        ("remofs/operations/planted.cpp", None, SPDX + "# include <spdlog/spdlog.h>\n"),
    ],
    one_file_turns_names_into_paths: [
        ("server/sessions/planted.cpp", None, SPDX + "int f() { return ::openat(1, name, 0); }\n"),
        ("server/sessions/planted.cpp", None, SPDX + 'int f() { return linkat(fd, "", dir, name, 0x1000) + unlinkat(d, n, 0); }\n'),
        ("server/sessions/planted.cpp", None, SPDX + "long f() { return ::syscall(SYS_openat2, fd, name, &how, sizeof how); }\n"),
    ],
    sources_name_their_licence: [
        ("cli/planted.cpp", None, "int main() {}\n"),
        ("tests/planted.py", None, "#!/usr/bin/env python3\nprint()\n"),
        ("server/meson.build", None, "x = 1\n"),
    ],
    headers_are_included_once: [("src/base/planted.hpp", None, SPDX + "int x;\n")],
    nothing_is_left_to_do: [("remofs/operations/planted.cpp", None, SPDX + "// TO" + "DO: the rest\n")],
    opcodes_match_the_document: [
        ("src/wire/protocol.hpp", "lookup = 16,", "lookup = 15,"),
        ("docs/PROTOCOL.md", "| 37 | RELEASE |", "| 36 | RELEASE |"),
        ("docs/PROTOCOL.md", "| 0x8002 | SHUTDOWN |", "| 0x8003 | SHUTDOWN |"),
        ("src/wire/protocol.hpp", "flock = 66,", "flock = 66, planted = 67,"),
    ],
    statuses_match_the_document: [
        ("src/base/status.hpp", "no_entry = 2,", "no_entry = 3,"),
        ("docs/PROTOCOL.md", "| 205 | in_use |", "| 209 | in_use |"),
        ("docs/PROTOCOL.md", "| stale | ESTALE |", "| stale | EIO |"),
    ],
    limits_match_the_document: [
        ("src/wire/protocol.hpp", "max_records = 64;", "max_records = 65;"),
        ("docs/PROTOCOL.md", "bulk frame 1,052,704 bytes", "bulk frame 1,052,705 bytes"),
        ("src/wire/protocol.hpp", "max_lanes = 8;", "max_lanes = 9;"),
        ("src/wire/protocol.hpp", "flag_resent = 1U << 2;", "flag_resent = 1U << 3;"),
    ],
}
COPIED = ("docs/PROTOCOL.md", "src/wire/protocol.hpp", "src/wire/kept_answers.hpp", "src/base/status.hpp", "src/base/status.cpp", "server/meson.build")


class TheTree(unittest.TestCase):
    def test_keeps_its_rules(self):
        for rule in RULES:
            with self.subTest(rule.__name__):
                findings = list(rule(ROOT))
                self.assertEqual(findings, [], "\n".join(findings))


class TheRules(unittest.TestCase):
    def tree(self, directory):
        root = Path(directory)
        for name in COPIED:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text((ROOT / name).read_text())
        return root

    def test_find_what_was_planted(self):
        self.assertEqual(set(PLANTED), set(RULES), "a rule without a planted violation")
        for rule, changes in PLANTED.items():
            for name, old, new in changes:
                with self.subTest(rule.__name__, planted=new), tempfile.TemporaryDirectory() as directory:
                    root = self.tree(directory)
                    self.assertEqual(list(rule(root)), [], "the tree was not clean before")
                    path = root / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if old is not None:
                        self.assertIn(old, path.read_text())
                        new = path.read_text().replace(old, new, 1)
                    path.write_text(new)
                    self.assertNotEqual(list(rule(root)), [], f"{rule.__name__} found nothing in {name}")

    def test_leave_what_is_allowed(self):
        allowed = {
            "server/sessions/planted.cpp": 'struct stat s; int f() { return ::statx(fd, "", 0, 0, &s); } // openat(x, y)\n',
            "server/files/export.cpp": "int f() { return ::openat(1, name, 0); }\n",
            "src/transport/planted.cpp": "#include <zmq.hpp>\n",
            "remofs/operations/planted.cpp": '#include <fuse_lowlevel.h>\n#include "client/session.hpp"\n',
        }
        with tempfile.TemporaryDirectory() as directory:
            root = self.tree(directory)
            for name, text in allowed.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(SPDX + text)
            for rule in RULES:
                self.assertEqual(list(rule(root)), [], rule.__name__)


if __name__ == "__main__":
    unittest.main()
