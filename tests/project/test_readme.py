"""What README and reference say is so: the example runs, tables are those of the code, commands exist."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml

from mda_core import Event, Memory, Remembered
from mda_daemon.cli.main import parser
from mda_daemon.config.schema import Config, Space, is_struct
from mda_daemon.contract.fields import documented
from mda_daemon.contract.requests import REQUESTS
from mda_daemon.host.metrics import Metrics
from mda_daemon.mqtt.topics import Topics
from mda_daemon.pipeline.report import health, info
from mda_daemon.settings import load
from tests.support import ROOT
from tests.support.fakes import HashEncoder

README = (ROOT / "README.md").read_text("utf-8")
CONTRACT = (ROOT / "docs" / "contract.md").read_text("utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text("utf-8")
MAX_LINES = 130
"""Of the README: the rest is in docs/."""
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("fuzz/*.md"),
        *ROOT.glob("systemd/*.md"),
    ]
)
# Cells of the column "default" that say in words what is made of something else.
IN_WORDS = {
    "node": "host name",
    "mqtt.port": "1883, with TLS 8883",
    "mqtt.base": "mda/node",
    "mqtt.client_id": "base with `-` for `/`",
    "encoder.model": "the one that ships",
}


def section(title: str, page: str = CONTRACT) -> str:
    """What stands between a heading of a page and the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no section {title}"
    return found[1]


def tables(title: str, page: str = CONTRACT) -> list[list[list[str]]]:
    """The tables of a section: rows of cells, without the head."""
    out: list[list[list[str]]] = [[]]
    for line in section(title, page).splitlines():
        if line.startswith("|"):
            out[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif out[-1]:
            out.append([])
    return [rows[2:] for rows in out if rows]


def quoted(cell: str) -> str:
    """What a cell says between back quotes, to its end."""
    assert cell[0] == cell[-1] == "`", f"expected a cell in back quotes, got {cell}"
    return cell[1:-1]


def code(kind: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The lines of the shell examples, and what stands between back quotes, as words."""
    found = [line for block in code("sh") for line in block.splitlines()]
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        found += re.findall(r"`((?:mda|make|python -m) [^`]+)`", text)
    return [shlex.split(line.rstrip("&")) for line in found]


def keys(kind: type[Any], path: str = "") -> dict[str, object]:
    """Every key of the configuration by its dotted path, with its default."""
    out: dict[str, object] = {}
    for item in msgspec.structs.fields(kind):
        if kind is Config and item.name in ("folder", "spaces"):
            continue
        name = f"{path}{item.name}"
        nested = [each for each in (item.type, *get_args(item.type)) if is_struct(each)]
        if not nested or nested[0] is not item.type:
            out[name] = None if item.default is msgspec.NODEFAULT else item.default
        for each in nested:
            out |= keys(each, f"{name}.")
    return out


def _without_time(line: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", line)


KEYS = keys(Config) | keys(Space, "spaces.<name>.")


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = code("python")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    shown = code("text")[1]
    assert shown.startswith("True ") and len(shown.splitlines()) == 1
    assert _without_time(capsys.readouterr().out) == _without_time(shown)
    assert list(tmp_path.glob("home.db"))


def test_the_readme_is_an_introduction() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_the_configuration_table_has_every_key_and_no_other() -> None:
    (table,) = tables("Configuration", CONFIGURATION)
    assert [quoted(row[0]) for row in table] == list(dict.fromkeys(quoted(row[0]) for row in table))
    assert {quoted(row[0]) for row in table} == set(KEYS)


@pytest.mark.parametrize("row", tables("Configuration", CONFIGURATION)[0], ids=lambda row: row[0].strip("`"))
def test_the_configuration_table_has_the_defaults(row: list[str]) -> None:
    key, cell = quoted(row[0]), row[2]
    if key in IN_WORDS:
        assert cell == IN_WORDS[key]
    elif KEYS[key] is None:
        assert cell == "none"
    else:
        default = KEYS[key]
        assert yaml.safe_load(quoted(cell)) == (list(default) if isinstance(default, tuple) else default)


def test_the_shipped_configuration_loads_and_holds_the_defaults() -> None:
    config = load(ROOT / "config.yaml")
    assert msgspec.structs.replace(config, state=Config().state, folder=".") == Config()


def test_the_shipped_configuration_names_every_key() -> None:
    text = (ROOT / "config.yaml").read_text("utf-8")
    last = "|".join({key.rpartition(".")[2] for key in KEYS})
    found = yaml.safe_load(re.sub(rf"^( *)# (?=(?:{last}): )", r"\1", text, flags=re.MULTILINE))

    def paths(value: object, path: str) -> list[str]:
        if not isinstance(value, dict):
            return [path]
        below = [each for key in value for each in paths(value[key], f"{path}.{key}" if path else str(key))]
        return [path, *below] if path in KEYS else below

    assert {path.replace("spaces.home.", "spaces.<name>.") for path in paths(found, "")} == set(KEYS)


def test_the_topic_table_has_every_topic_and_no_other() -> None:
    topics = Topics("<base>")
    expected = {topics.status, topics.info, topics.health, topics.novel("<space>")}
    expected |= {topics.learning, topics.learning_set, topics.snapshot}
    expected |= {topics.event("<space>"), topics.event("<space>", "<source…>")}
    expected |= {topics.request("<space>", verb) for verb in REQUESTS} | {
        topics.response("<space>", "<verb>")
    }
    (table,) = tables("Topics")
    assert {quoted(row[0]) for row in table} == expected


def test_the_tables_have_every_field_of_events_and_requests() -> None:
    assert {quoted(row[0]) for row in tables("Event")[0]} == {item.name for item in fields(Event)}
    expected = {(verb, name) for verb, kind in REQUESTS.items() for name in documented(kind) if name != "id"}
    assert {(row[0], quoted(row[1])) for row in tables("Requests")[0]} == expected


def test_the_tables_have_every_field_of_the_replies(tmp_path: Path) -> None:
    verbs, memory, errors = tables("Replies")
    assert {quoted(row[0]) for row in memory} == {item.name for item in fields(Remembered)}
    source = (ROOT / "daemon" / "mda_daemon" / "pipeline" / "requests.py").read_text("utf-8")
    codes = set(re.findall(r"_error\(\s*message,\s*[^,]+,\s*\"(\w+)\"", source))
    assert {quoted(row[0]) for row in errors} == codes
    with Memory.open(tmp_path / "home.db", units=8, encoder=HashEncoder()) as opened:
        stats = {"space", "handled", "used", "free", "capacity", *opened.stats()}
    named = {row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in verbs}
    assert named["stats"] == stats
    assert named["recall"] == {"known", "memories", "context"}
    assert named["forget"] == {"forgotten", "memories", "texts", "candidates"}


def test_the_reports_hold_what_the_contract_names() -> None:
    reported = set(health({}, Metrics(), queue=0, uptime=0.0))
    assert reported - set(re.findall(r"`(\w+)`", section("Health"))) == set()
    named = next(row for row in tables("Topics")[0] if row[0].endswith("/info`"))
    assert set(re.findall(r"`(\w+)`", named[2])) == set(info(Config(), HashEncoder()))  # type: ignore[arg-type]


def test_every_mda_command_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    found = [words[1:] for words in commands() if Path(words[0]).name == "mda"]
    assert {words[0] for words in found} >= {"run", "check", "tell", "ask", "forget", "stats"}
    needed = {"tell": ["text"], "ask": ["question"], "import": ["file"]}
    for words in found:
        given = needed.get(words[0], []) if len(words) == 1 else []
        try:
            parser().parse_args([*words, *given])
        except SystemExit as end:
            assert end.code == 0, f"mda {shlex.join(words)}: {capsys.readouterr().err}"


def test_every_make_target_and_module_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {words[1] for words in commands() if words[0] == "make"}
    assert {"run", "test"} <= named <= targets
    modules = {words[2] for words in commands() if words[:2] == ["python", "-m"]}
    assert modules
    for module in modules:
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file() or module in ("venv", "pydoc"), module


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_relative_link_is_broken(document: Path) -> None:
    text = document.read_text("utf-8")
    headings = {
        re.sub(r"[^\w -]", "", each).lower().replace(" ", "-")
        for each in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (document.parent / target.partition("#")[0]).exists(), target
