#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds the completions of bash, zsh and fish to the programs' --help: each shell is asked, and must offer every option,
command and mount option, and no other.

usage: test_completions.py COMPLETIONS REMOFS REMOFILE REMOFILE_SERVER
"""
import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "architecture"))
from test_manuals import options_of_help, words_of_help  # noqa: E402

# In the place of zsh's own functions: they print what they are given.
ZSH_STUBS = r"""
_arguments() {
    if [[ $1 == -C ]]; then state=$WANTED_STATE; words=($WANTED_COMMAND); fi
    print -rl -- "$@"
}
_describe() { print -rl -- "${(@P)2}" }
_values() { print -rl -- "$@" }
"""
# As readline would: it splits words at colons and "=" too.
BASH_ASK = r"""
compopt() { :; }
COMP_LINE=$LINE_ASKED COMP_POINT=${#COMP_LINE} COMP_WORDBREAKS=$' \t\n"\'><=;|&(:' COMP_CWORD=0
read -r -a COMP_WORDS <<<"$COMP_LINE"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMPREPLY=()
"$(complete -p "${COMP_WORDS[0]}" | sed 's/.*-F \([^ ]*\).*/\1/')"
printf '%s\n' "${COMPREPLY[@]}"
"""


def run(*command, **environment):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                          env={**os.environ, **environment}, check=False)
    if done.returncode != 0 or done.stderr:
        raise AssertionError(f"{command}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def help_of(*command):
    return run(*command, "--help")


def aliases(text):
    """What remofile --help lists, each under all of its names."""
    for names in re.findall(r"^  ([a-z][a-z-]*(?:, [a-z]+)*)\s{2,}", text[text.index("Subcommands:"):], re.M):
        yield names.split(", ")


def options_in_specs(lines):
    """Of what _arguments of zsh is given: (- *)--wait=-[text]:what: """
    for line in lines:
        found = re.match(r"^(?:\([^)]*\))?\*?(--?[a-zA-Z][\w-]*)(?:=-?)?\[", line)
        if found:
            yield found[1].rstrip("-")


class Bash(unittest.TestCase):
    def ask(self, line):
        program = line.split()[0]
        return set(run("bash", "-c", f". {COMPLETIONS}/bash/{program}\n{BASH_ASK}", LINE_ASKED=line).split())

    def test_remofs(self):
        text = help_of("remofs")
        self.assertEqual(self.ask("remofs --"), {name for name in options_of_help(text) if name.startswith("--")})
        self.assertEqual({name.rstrip("=") for name in self.ask("remofs host:/ /mnt -o ")}, words_of_help(text))
        self.assertEqual(self.ask("remofs host:/ /mnt -o ro,sym"), {"ro,symlinks="})
        self.assertEqual(self.ask("remofs host:/ /mnt -o ro,symlinks=k"), {"keep"})

    def test_server(self):
        self.assertEqual(self.ask("remofile-server --"), {name for name in options_of_help(help_of("remofile-server")) if name.startswith("--")})
        self.assertEqual(self.ask("remofile-server --watch a"), {"auto"})

    def test_remofile(self):
        text = help_of("remofile")
        self.assertEqual({command for command in words_of_help(text) if command.startswith("g")}, self.ask("remofile g"))
        for names in aliases(text):
            options = {name for name in options_of_help(help_of("remofile", names[0])) if name.startswith("--")}
            self.assertEqual(self.ask(f"remofile {names[0]} --"), options)


@unittest.skipUnless(shutil.which("fish"), "fish is not installed")
class Fish(unittest.TestCase):
    def ask(self, line):
        program = line.split()[0]
        text = run("fish", "--no-config", "-c", f"source {COMPLETIONS}/fish/{program}.fish; complete -C $LINE_ASKED", LINE_ASKED=line)
        return {found.split("\t")[0] for found in text.splitlines() if found}

    def options(self, line):
        return {name for name in self.ask(line + " -") | self.ask(line + " --") if re.match(r"--?[a-zA-Z]", name)}

    def test_remofs(self):
        text = help_of("remofs")
        self.assertEqual(self.options("remofs") - {"-o"}, options_of_help(text) - {"-o"})
        self.assertEqual({name.rstrip("=") for name in self.ask("remofs host:/ /mnt -o ")}, words_of_help(text))
        self.assertEqual(self.ask("remofs host:/ /mnt -o ro,sym"), {"ro,symlinks="})

    def test_server(self):
        self.assertEqual(self.options("remofile-server"), options_of_help(help_of("remofile-server")))
        self.assertEqual(self.ask("remofile-server --watch "), {"auto", "none"})

    def test_remofile(self):
        text = help_of("remofile")
        self.assertEqual(self.ask("remofile "), {name for names in aliases(text) for name in names})
        for names in aliases(text):
            options = options_of_help(help_of("remofile", names[0]))
            for name in names:
                with self.subTest(name):
                    self.assertEqual(self.options(f"remofile {name}"), options)


@unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
class Zsh(unittest.TestCase):
    def ask(self, program, state="", command="", then=""):
        text = run("zsh", "-f", "-c", f"{ZSH_STUBS}\nsource {COMPLETIONS}/zsh/_{program}\n{then}", WANTED_STATE=state, WANTED_COMMAND=command)
        return text.splitlines()

    def test_remofs(self):
        text = help_of("remofs")
        self.assertEqual(set(options_in_specs(self.ask("remofs"))), options_of_help(text) | {"-o"})
        offered = {line.split("[")[0] for line in self.ask("remofs", then="_remofs_options") if re.match(r"[a-z_]+\[", line)}
        self.assertEqual(offered, words_of_help(text))

    def test_server(self):
        self.assertEqual(set(options_in_specs(self.ask("remofile-server"))), options_of_help(help_of("remofile-server")))

    def test_remofile(self):
        text = help_of("remofile")
        self.assertEqual(set(options_in_specs(self.ask("remofile"))), options_of_help(text))
        offered = {found[1] for line in self.ask("remofile", "command") if (found := re.match(r"([a-z-]+):(?=[a-z])", line))}
        self.assertEqual(offered, {name for names in aliases(text) for name in names})
        for names in aliases(text):
            options = options_of_help(help_of("remofile", names[0]))
            for name in names:
                with self.subTest(name):
                    found = set(options_in_specs(self.ask("remofile", "arguments", name)))
                    self.assertEqual(found - {"--version"}, options)


if __name__ == "__main__":
    COMPLETIONS = Path(sys.argv[1])
    # The shells ask the programs that were built.
    os.environ["PATH"] = os.pathsep.join([str(Path(program).parent) for program in sys.argv[2:5]] + [os.environ["PATH"]])
    unittest.main(argv=sys.argv[:1] + sys.argv[5:])
