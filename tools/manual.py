"""The manual page and the completions of `mda`, from its own parser: python tools/manual.py man|bash|zsh.

`make install` puts them where `man`, bash and zsh look.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from mda_daemon.cli.main import _parser
from mda_daemon.pipeline.report import program_version

INTRODUCTION = """\
An associative memory for a small language model that runs on the same device. The daemon,
.BR "mda run" ,
learns what it hears over MQTT and answers questions about it.
.BR export ,
.B import \\-\\-offline
and
.B verify
work on its files;
.B check
tries what it needs,
.B sources
listens beside it, and all other commands talk to it."""

CONCLUSION = """\
.SH FILES
.TP
.I /etc/mda/config.yaml
The configuration, where there is no ./config.yaml. Every key stands in it with a comment.
.TP
.I /var/lib/mda
Everything learned: SPACE.db for each space, and backups/SPACE\\-TIME.db.
.SH EXIT STATUS
0, or 1 where something went wrong, or 2 for a wrong option or configuration.
.SH EXAMPLES
.nf
mda tell \\-\\-source garden/shed "The bicycle pump is on the top shelf"
mda ask "Where is the bicycle pump?"
mda export \\-\\-backup > home.jsonl
.fi
.SH SEE ALSO
.BR mosquitto (8),
.BR systemd (1)"""


class Command:
    """One of `mda`, with its own options apart from those that all have."""

    def __init__(self, name: str, help: str, parser: argparse.ArgumentParser) -> None:
        self.name, self.help, self._parser = name, help, parser
        self.options = [a for a in parser._actions if a.option_strings]
        self.arguments = [a for a in parser._actions if not a.option_strings]

    def help_of(self, action: argparse.Action) -> str:
        return self._parser._get_formatter()._expand_help(action) if action.help else ""

    def own(self, shared: set[str]) -> list[argparse.Action]:
        return [a for a in self.options if a.option_strings[-1] not in shared] + self.arguments


def commands() -> list[Command]:
    (chooser,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return [Command(c.dest, str(c.help), chooser.choices[c.dest]) for c in chooser._choices_actions]


def shared(found: list[Command]) -> set[str]:
    """The options that every command has."""
    return set.intersection(*({a.option_strings[-1] for a in c.options} for c in found))


# roff


def man() -> Iterator[str]:
    found = commands()
    common = shared(found)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    day = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d")
    yield f'.TH MDA 1 {day} "mda {_roff(program_version())}"'
    yield ".SH NAME\nmda \\- an associative memory that listens and answers over MQTT"
    yield ".SH SYNOPSIS\n.B mda\n.I COMMAND\n.RI [ OPTIONS ]"
    yield f".SH DESCRIPTION\n{INTRODUCTION}"
    yield ".SH COMMANDS"
    for command in found:
        yield f".SS mda {_roff(command.name)}\n{_roff(command.help)}"
        for action in command.own(common):
            yield _entry(command, action)
    yield ".SH OPTIONS OF ALL COMMANDS"
    for action in found[0].options:
        if action.option_strings[-1] in common:
            yield _entry(found[0], action)
    yield CONCLUSION


def _entry(command: Command, action: argparse.Action) -> str:
    names = ", ".join(f"\\fB{_roff(name)}\\fR" for name in action.option_strings)
    value = _value(action)
    shown = " ".join(filter(None, (names, f"\\fI{_roff(value)}\\fR" if value else "")))
    return f".TP\n{shown}\n{_roff(command.help_of(action))}"


def _value(action: argparse.Action) -> str:
    """What stands for the value of an option or argument; empty where it takes none."""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    if action.nargs == 0:
        return ""
    return str(action.metavar or action.dest.upper())


def _roff(text: str) -> str:
    safe = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe


# shells


def bash() -> Iterator[str]:
    found = commands()
    yield "# Completion of mda for bash, made from its own parser."
    yield "_mda() {"
    yield "    local word=${COMP_WORDS[COMP_CWORD]} words="
    yield "    if ((COMP_CWORD == 1)); then"
    yield f'        words="{" ".join(c.name for c in found)}"'
    yield "    else"
    yield '        case "${COMP_WORDS[1]} ${COMP_WORDS[COMP_CWORD - 1]}" in'
    for command in found:
        for action in command.options:
            if action.choices is not None:
                where = f"{command.name} {action.option_strings[-1]}"
                yield f'        "{where}") words="{" ".join(action.choices)}" ;;'
    yield "        *)"
    yield '            case "${COMP_WORDS[1]}" in'
    for command in found:
        yield f'            {command.name}) words="{" ".join(_names(command))}" ;;'
    yield "            esac"
    yield "            [[ $word == -* ]] || words="
    yield "            ;;"
    yield "        esac"
    yield "    fi"
    yield '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")'
    yield "}"
    yield "complete -o default -F _mda mda"


def zsh() -> Iterator[str]:
    yield "#compdef mda"
    yield "# Completion of mda for zsh, made from its own parser."
    yield "local -a found"
    yield "if (( CURRENT == 2 )); then"
    yield f"    found=({' '.join(_described(c.name, c.help) for c in commands())})"
    yield "    _describe command found"
    yield "    return"
    yield "fi"
    yield "case $words[2] in"
    for command in commands():
        options = (_described(n, command.help_of(a)) for a in command.options for n in a.option_strings)
        yield f"    ({command.name}) found=({' '.join(options)}) ;;"
    yield "esac"
    yield "if [[ $PREFIX == -* ]]; then"
    yield "    _describe -o option found"
    yield "else"
    yield "    _files"
    yield "fi"


def _names(command: Command) -> list[str]:
    return [name for action in command.options for name in action.option_strings]


def _described(name: str, help: str) -> str:
    text = f"{name}:{help}" if help else name
    return "'" + text.replace("'", "'\\''") + "'"


if __name__ == "__main__":
    makers = {"man": man, "bash": bash, "zsh": zsh}
    if len(sys.argv) != 2 or sys.argv[1] not in makers:
        sys.exit(f"usage: python tools/manual.py {'|'.join(makers)}")
    print("\n".join(makers[sys.argv[1]]()))
