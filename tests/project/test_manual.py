"""The manual page and the completions, made from the command line's own parser."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import manual

WAIT = 20.0


def test_the_manual_page_has_every_command_and_option_and_a_word_on_each() -> None:
    page = "\n".join(manual.man())
    for command in manual.commands():
        assert f".SS mda {command.name}\n" in page
        for action in (*command.options, *command.arguments):
            assert command.help_of(action), f"mda {command.name}: {action.dest} has no help"
            for name in action.option_strings:
                assert "\\fB" + name.replace("-", "\\-") + "\\fR" in page
    names = {command.name for command in manual.commands()}
    assert names >= {"run", "check", "tell", "ask", "forget", "stats", "export", "import", "verify"}


@pytest.mark.parametrize(
    "lint", [("groff", "-man", "-ww", "-z", "-Tutf8"), ("mandoc", "-Tlint", "-Wwarning")]
)
def test_the_manual_page_is_one(lint: tuple[str, ...]) -> None:
    if shutil.which(lint[0]) is None:
        pytest.skip(f"{lint[0]} not installed")
    page = "\n".join(manual.man()) + "\n"
    result = subprocess.run(lint, input=page, capture_output=True, text=True, timeout=WAIT)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["mda", "ver"], ["verify"]),
        (["mda", ""], [command.name for command in manual.commands()]),
        (["mda", "export", "--o"], ["--offline"]),
        (["mda", "verify", "--"], ["--help", "--config", "--host", "--port", "--base"]),
        (["mda", "run", "--log-level", "w"], ["warning"]),
        (["mda", "import", "home"], []),  # bash goes on with files then
        (["mda", "import", ""], []),
    ],
)  # fmt: skip
def test_bash_completes_commands_and_options(words: list[str], completed: list[str], tmp_path: Path) -> None:
    script = "\n".join(manual.bash()) + (
        '\nCOMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _mda; printf "%s\\n" "${COMPREPLY[@]}"'
        "\ncomplete -p mda >&2"
    )
    command = ["bash", "-eu", "-c", script, "-", *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT, check=True)
    assert result.stdout.split() == completed
    assert "-o default" in result.stderr


def test_zsh_can_read_its_completion(tmp_path: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh not installed")
    path = tmp_path / "_mda"
    path.write_text("\n".join(manual.zsh()) + "\n")
    subprocess.run(["zsh", "-f", "-n", str(path)], check=True, timeout=WAIT)
