#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is installed suffices to build and run programs outside of the tree, with pkg-config and nothing else.

usage: test_install.py BUILD_DIRECTORY SOURCE_DIRECTORY SERVER
"""
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEADERS = {"client.hpp", "directory.hpp", "error.hpp", "file.hpp", "remofile.h", "stream.hpp"}


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, **options)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))}\nended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def install(build, scratch):
    stage = scratch / "stage"
    run("meson", "install", "-C", build, "--no-rebuild", "--destdir", stage)
    (pc,) = stage.rglob("remofile.pc")
    headers = {path.name for path in stage.rglob("include/remofile/*")}
    assert headers == HEADERS, headers
    library = pc.parent.parent
    assert (library / "libremofile.so.0").exists() and (library / "libremofile.so").exists(), list(library.iterdir())
    return stage, pc.parent, library


def flags(stage, pkgconfig, *what):
    # The directory in which things are staged takes the place of the root, as for a cross compiler.
    environment = {**os.environ, "PKG_CONFIG_LIBDIR": str(pkgconfig), "PKG_CONFIG_SYSROOT_DIR": str(stage),
                   "PKG_CONFIG_ALLOW_SYSTEM_CFLAGS": "1", "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1"}
    return shlex.split(run("pkg-config", *what, "remofile", env=environment))


def start_server(server, scratch):
    (scratch / "export").mkdir()
    (scratch / "export" / "hello").write_bytes(b"from outside\n")
    log = scratch / "server.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", server, "--listen", "tcp://127.0.0.1:0", scratch / "export"],
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = re.search(r"listening on tcp:.*:(\d+)", log.read_text())
        if found:
            return process, f"127.0.0.1:{found[1]}:/"
        time.sleep(0.05)
    process.kill()
    sys.exit("the server does not start\n" + log.read_text())


def programs_of(document, scratch):
    """The programs that docs/LIBRARY.md shows, as files."""
    blocks = re.findall(r"^```(cpp|c)\n(.*?)^```", document.read_text(), re.M | re.S)
    assert {language for language, _ in blocks} == {"c", "cpp"}
    for number, (language, text) in enumerate(blocks):
        path = scratch / f"shown_{number}.{language}"
        path.write_text(text)
        yield path


def main():
    build, sources, server = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="remofile-install-") as directory:
        scratch = Path(directory)
        os.environ["REMOFILE_CONFIG_DIR"] = directory
        stage, pkgconfig, library = install(build, scratch)
        cflags = flags(stage, pkgconfig, "--cflags")
        libs = flags(stage, pkgconfig, "--libs")
        strict = ["-Wall", "-Wextra", "-Wshadow", "-pedantic", "-Werror"]
        programs = [sources / "examples/cat.c", sources / "examples/cat.cpp"]
        programs += programs_of(sources / "docs/LIBRARY.md", scratch)
        compilers = {".c": ["cc", "-std=c11"], ".cpp": ["c++", "-std=c++2b"]}
        process, source = start_server(server, scratch)
        try:
            for program in programs:
                compiled = scratch / "compiled"
                run(*compilers[program.suffix], program, *strict, *cflags, "-o", compiled, *libs, cwd=scratch)
                environment = {**os.environ, "LD_LIBRARY_PATH": str(library)}
                text = run(compiled, source, "hello", env=environment)
                assert text == "from outside\n", (program, text)
        finally:
            process.kill()
            process.wait()
        # The C header is C99 without extensions, and also C++.
        for language in (["cc", "-std=c99", "-xc"], ["c++", "-std=c++11", "-xc++"]):
            run(*language, *strict, *cflags, "-fsyntax-only", "-", input="#include <remofile/remofile.h>\nint unused;\n")
        print("installed:", *sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*remofile*")))


if __name__ == "__main__":
    main()
