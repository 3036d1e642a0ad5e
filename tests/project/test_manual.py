"""The manual page and the completions in tools/share are those of the command line as it is."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mda_daemon.cli.main import parser
from mda_daemon.pipeline.report import program_version
from tests.support import ROOT, WAIT

SHARE = ROOT / "tools/share"
PAGE = SHARE / "man/man1/mda.1"
COMPLETIONS = {
    "bash": SHARE / "bash-completion/completions/mda",
    "zsh": SHARE / "zsh/site-functions/_mda",
    "fish": SHARE / "fish/vendor_completions.d/mda.fish",
}
Entries = set[tuple[str, str]]


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


def entries(command: argparse.ArgumentParser) -> Entries:
    """What it takes, and a word on each, apart from --help."""
    formatter = command._get_formatter()
    return {
        (
            ", ".join(action.option_strings) or str(action.metavar or action.dest),
            formatter._expand_help(action),
        )
        for action in command._actions
        if action.help and not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    }


def plain(roff: str) -> str:
    return re.sub(r"\\f[A-Z]|\\[,/]", "", roff).replace("\\-", "-").replace("\\(aq", "'")


def entries_of(section: str) -> Entries:
    """The same, as a section of the page has it."""
    found = re.findall(r"^\.TP\n(.+)\n(.+)$", section, re.M)
    # The value that an option takes is in italics behind its name.
    return {(plain(re.sub(r" \\fI.*?\\fR", "", name)), plain(help)) for name, help in found}


def test_the_manual_page_has_every_command_and_option_with_its_help_and_no_other() -> None:
    text = PAGE.read_text("utf-8")
    own, rest = re.split(r"^\.SH\nCOMMANDS\n", text, flags=re.M)
    rest = rest.split("\n.SH FILES\n")[0]
    sections = {plain(s.split("\n")[0]): s for s in re.split(r"^\.SS ", rest, flags=re.M)[1:]}
    assert entries_of(own) == entries(parser())
    assert {name: entries_of(section) for name, section in sections.items()} == {
        f"mda {name}": entries(command) for name, command in commands().items()
    }, "run `make manual`"


def test_every_option_has_a_word_on_it() -> None:
    for name, command in commands().items():
        assert all(action.help for action in command._actions), name


def test_the_manual_page_is_of_this_version_and_has_what_no_parser_knows() -> None:
    text = PAGE.read_text("utf-8")
    assert f'"mda {program_version()}"' in text.splitlines()[0], "run `make manual`"
    sections = re.findall(r"^\.SH ?\n?(.+)$", text, re.M)
    assert sections == [
        *("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS"),
        *("FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"),
    ]
    for section in re.findall(r"^\[(.+)\]\n(.+)$", (ROOT / "tools/manual.h2m").read_text("utf-8"), re.M):
        assert section[1] in text, "run `make manual`"


@pytest.mark.parametrize(
    "lint", [("groff", "-man", "-ww", "-z", "-Tutf8"), ("mandoc", "-Tlint", "-Wwarning")]
)
def test_the_manual_page_is_one(lint: tuple[str, ...]) -> None:
    if shutil.which(lint[0]) is None:
        pytest.skip(f"{lint[0]} not installed")
    result = subprocess.run([*lint, PAGE], capture_output=True, text=True, timeout=WAIT)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_a_completion_is_that_of_the_parser_as_it_is(shell: str) -> None:
    command = [sys.executable, "-m", "shtab", "--error-unimportable", "--prefix", "mda", "--shell", shell]
    command.append("mda_daemon.cli.main.parser")
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT, check=True)
    assert COMPLETIONS[shell].read_text("utf-8") == made.stdout, "run `make manual`"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["mda", "ver"], {"verify"}),
        (["mda", ""], set(commands())),
        (["mda", "--v"], {"--version"}),
        (["mda", "export", "--o"], {"--offline"}),
        (["mda", "verify", "--"], {"--help", "--config", "--host", "--port", "--base"}),
        (["mda", "run", "--log-level", "w"], {"warning"}),
        (["mda", "import", "ho"], {"home.jsonl"}),
        (["mda", "tell", "--config", "ho"], {"home.jsonl"}),
        (["mda", "ask", "ho"], set()),
    ],
)  # fmt: skip
def test_bash_completes_commands_options_and_files(
    words: list[str], completed: set[str], tmp_path: Path
) -> None:
    (tmp_path / "home.jsonl").touch()
    script = COMPLETIONS["bash"].read_text("utf-8") + (
        '\nCOMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _shtab_mda; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "-c", script, "-", *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT, check=True)
    assert set(result.stdout.split()) == completed


def test_fish_completes_commands_options_and_files(tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish not installed")
    (tmp_path / "home.jsonl").touch()

    def completed(line: str) -> set[str]:
        script = f"source {COMPLETIONS['fish']}; complete --do-complete '{line}'"
        command = ["fish", "--no-config", "-c", script]
        env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        result = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=WAIT, check=True
        )
        return {each.split("\t")[0] for each in result.stdout.splitlines()}

    assert completed("mda ") == set(commands())
    assert completed("mda export --off") == {"--offline"}
    assert completed("mda run --log-level w") == {"warning"}
    assert completed("mda tell --config ho") == {"home.jsonl"}


def test_zsh_can_read_its_completion() -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh not installed")
    subprocess.run(["zsh", "-f", "-n", COMPLETIONS["zsh"]], check=True, timeout=WAIT)
