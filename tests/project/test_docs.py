"""What docs/ says is so: its snippets are accepted, its files and messages exist, the first memory works."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.faults import unpack_old
from benchmarks.faults_child import open_memory
from fuzz.__main__ import TARGETS
from mda_core import Remembered, transfer
from mda_daemon.cli.main import parser
from mda_daemon.contract.events import read_event
from mda_daemon.contract.requests import BadRequest, read_request
from mda_daemon.mqtt.topics import Topics
from mda_daemon.settings import parse
from mda_daemon.storage.backups import Backups
from tests.project.test_readme import DOCUMENTS, ROOT, code
from tests.support.harness import MOSQUITTO, WAIT, Daemon, Endpoint, Mosquitto, Peer, wait_for_log

DOCS = {path.name: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
SHOWN = {"../README.md": (ROOT / "README.md").read_text("utf-8"), **DOCS}
"""Pages whose snippets are tried."""
TOPICS = Topics("mda/pi1")
SPACES = ("home", "anna")
LIMIT = 65536
NOT_OURS = {"sources.md", "home-assistant.md"}
"""They hold YAML of other programs too; what of it is ours has tests of its own."""


def blocks(kind: str) -> list[tuple[str, str]]:
    """(document, snippet) of every fenced block of this kind."""
    return [(name, block) for name, text in SHOWN.items() for block in code(kind, text)]


# shell


def commands(block: str) -> Iterator[list[str]]:
    """The simple commands of a shell snippet, as words: without sudo, and what `sh -c` is given too."""
    text = ""
    for line in block.replace("\\\n", " ").splitlines():
        text = f"{text}\n{line}" if text else line
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:
            continue  # a quotation that goes on in the next line
        text = ""
        into_file = False
        for mark, group in groupby(words, key=lambda word: set(word) <= set("();<>|&")):
            found = list(group)
            if mark:
                into_file = found[-1] in ("<", ">", ">>")
                continue
            found = found[into_file:]
            while found and (found[0] == "sudo" or re.fullmatch(r"\w+=.*", found[0])):
                del found[0]
            if found[:2] == ["sh", "-c"]:
                yield from commands(found[2])
            elif found:
                yield found
    assert not text, f"a quotation without an end: {text}"


COMMANDS = [(name, words) for name, block in blocks("sh") for words in commands(block)]


def of(*programs: str) -> list[Any]:
    """Parameters: every different command of these programs, with the words behind its name."""
    found = {tuple(words): name for name, words in COMMANDS if Path(words[0]).name in programs}
    return [pytest.param(words[1:], id=f"{name}: {shlex.join(words)}") for words, name in found.items()]


def options(words: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in pairwise(words) if name.startswith("-")}


def accept(topic: str, payload: str) -> None:
    """Raise where the daemon would take no such message."""
    address = TOPICS.parse(topic)
    assert address is not None, f"{topic}: the daemon does not listen to it"
    if address.kind == "control":
        assert address.rest == "snapshot" or payload in ("on", "off")
        return
    assert address.space in SPACES
    if address.kind == "event":
        read_event(payload.encode(), address.rest, 0.0, LIMIT)
    else:
        read_request(address.rest, payload.encode(), LIMIT)


@pytest.mark.parametrize("words", of("mda"))
def test_every_mda_command_is_one(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        parser().parse_args(words)
    except SystemExit as end:
        assert end.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("words", of("mosquitto_pub"))
def test_what_is_published_to_the_daemon_is_accepted(words: tuple[str, ...]) -> None:
    given = options(words)
    if given["-t"].startswith("mda/"):
        accept(given["-t"], given["-m"])


@pytest.mark.parametrize("words", of("mosquitto_rr"))
def test_what_is_asked_is_accepted_and_its_reply_allowed(words: tuple[str, ...]) -> None:
    given = options(words)
    accept(given["-t"], given["-m"])
    assert TOPICS.refuses_reply(given["-e"], "home") is None
    assert given["-V"] == "5"


@pytest.mark.parametrize("words", of("make"))
def test_every_make_target_is_there(words: tuple[str, ...]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert {word for word in words if "=" not in word} <= set(targets)


def test_every_benchmark_that_is_named_has_the_options_that_are_named() -> None:
    found = re.findall(r"`python -m benchmarks\.(\w+)([^`]*)`", "\n".join(DOCS.values()))
    assert found
    for name, words in found:
        source = (ROOT / "benchmarks" / f"{name}.py").read_text("utf-8")
        for option in re.findall(r"--\w+", words):
            assert f'"{option}"' in source, f"python -m benchmarks.{name} {option}"


# YAML and JSON


@pytest.mark.parametrize(("name", "block"), blocks("yaml"))
def test_every_piece_of_yaml_is_some_and_ours_is_a_configuration(name: str, block: str) -> None:
    assert yaml.safe_load(block)
    if name not in NOT_OURS:
        parse(block, name, str(ROOT), broker=False)  # a password is on the reader's computer


@pytest.mark.parametrize(("name", "block"), blocks("json"))
def test_every_piece_of_json_is_an_event_a_request_a_reply_or_an_export(name: str, block: str) -> None:
    try:
        found = [json.loads(block)]
    except ValueError:
        found = [json.loads(line) for line in block.splitlines()]
    if "mda" in found[0]:
        assert transfer.read(block.encode().splitlines())
        return
    for each in found:
        payload = json.dumps(each).encode()
        if "status" in each:
            known = {item.name for item in fields(Remembered)}
            assert all(memory.keys() <= known for memory in each.get("memories", []))
        elif "text" in each:
            read_event(payload, "", 0.0, LIMIT)
        else:
            assert any(_is_request(verb, payload) for verb in ("recall", "forget", "stats")), each


def _is_request(verb: str, payload: bytes) -> bool:
    try:
        read_request(verb, payload, LIMIT)
    except BadRequest:
        return False
    return True


# files, links, messages


def anchors(path: Path) -> set[str]:
    """What a link to a heading of this document may say."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
    return {
        re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.M)
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_to_a_heading_of_another_document_finds_it(document: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#]+\.md)#([^)]+)\)", document.read_text("utf-8")):
        if "://" not in target:
            assert heading in anchors(document.parent / target), f"{target}#{heading}"


FOLDERS = "benchmarks|daemon|docs|examples|fuzz|mda_core|models|systemd|tests|tools"
MODULES = {"mda_core": ROOT, "mda_daemon": ROOT / "daemon", "benchmarks": ROOT, "fuzz": ROOT}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_and_module_of_the_checkout_that_is_named_is_there(document: Path) -> None:
    text = document.read_text("utf-8")
    for path in re.findall(rf"(?<![\w/.<>-])((?:{FOLDERS})/[\w.-][\w./-]*[\w/])(?![\w<])", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(rf"(?<![\w/.-])((?:{'|'.join(MODULES)})(?:\.[a-z_]+)+)(?![\w(/])", text):
        package, *below = name.split(".")
        place = (MODULES[package] / package).joinpath(*below)
        assert place.is_dir() or place.with_suffix(".py").is_file(), name


def test_the_index_has_every_page() -> None:
    linked = set(re.findall(r"^\| \[([\w/.-]+\.md)\]", DOCS["README.md"], re.M))
    decisions = {name for name in PAGES if re.match(r"decisions/\d", name)}
    assert linked == PAGES - decisions - {"README.md"}
    text = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[\d+\]\(([\w-]+\.md)\) \| (.+) \|$", text, re.M)
    assert {f"decisions/{name}" for name, _ in listed} == decisions
    for n, (name, title) in enumerate(listed, 1):
        page = (ROOT / "docs" / "decisions" / name).read_text("utf-8")
        assert page.startswith(f"# {n}. {title}\n"), name


def test_the_glossary_is_short() -> None:
    assert len(DOCS["glossary.md"].splitlines()) <= 25


def test_the_tables_made_from_the_code_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    # By its path: another file of this name, in models, is imported by its tests.
    tool = runpy.run_path(str(ROOT / "tools" / "reference.py"))
    assert tool["main"](["--check"]) == 0, capsys.readouterr().err


# the site


def navigation(entries: object) -> Iterator[str]:
    """The pages that mkdocs.yml leads to."""
    if isinstance(entries, str):
        yield entries
    for entry in entries if isinstance(entries, list) else []:
        for below in entry.values() if isinstance(entry, dict) else [entry]:
            yield from navigation(below)


def test_the_site_leads_to_every_page() -> None:
    pages = set(navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    outside = {page.removeprefix("repository/") for page in pages if page.startswith("repository/")}
    assert pages - {f"repository/{page}" for page in outside} == PAGES
    assert all((ROOT / page).is_file() for page in outside)


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, timeout=WAIT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert (tmp_path / "index.html").is_file()
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r"<(?:link|script|img|iframe)\b[^>]*?(?:href|src)=[\"']([^\"']+)", page.read_text("utf-8")
        )
        assert [address for address in loaded if "//" in address] == [], page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text("utf-8")), style


def test_every_promise_is_shown_by_something() -> None:
    text = DOCS["reliability.md"]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|.*\|$", text, re.M)
    promises = [(promise, shown) for promise, shown in rows if promise.endswith(".") or "](" in promise]
    assert len(promises) > 40
    for promise, shown in promises:
        assert "tests/" in shown or "`make" in shown or "`python -m" in shown or shown == "the same", promise
    assert {name for name in TARGETS if f"| `{name}` |" in text} == set(TARGETS)


GAP = "\0"
"""What differs from one time that a message is printed to the next."""


@cache
def messages() -> list[str]:
    """Every string of the sources, with a GAP where a value is put in."""
    found = []
    for path in (
        *ROOT.glob("daemon/**/*.py"),
        *ROOT.glob("mda_core/**/*.py"),
        ROOT / "examples/first_run.py",
    ):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (item.value if isinstance(item, ast.Constant) else GAP for item in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[-#.\d]*[sdrfg]", GAP, node.value))
    return found


@pytest.mark.parametrize(
    "quoted", [line for block in code("text", DOCS["troubleshooting.md"]) for line in block.splitlines()]
)
def test_a_message_that_is_quoted_is_one_that_is_printed(quoted: str) -> None:
    wanted = re.sub(r"<[^<>]*>", GAP, quoted)
    assert len(wanted.replace(GAP, "")) >= 10, "too little to tell it from others"
    assert any(wanted in message for message in messages())


def test_every_symptom_is_in_the_list_at_the_top() -> None:
    text = DOCS["troubleshooting.md"]
    top = text.partition("\n## ")[0]
    wanted = {
        heading for heading in anchors(ROOT / "docs" / "troubleshooting.md") if heading != "troubleshooting"
    }
    assert set(re.findall(r"\(#([^)]+)\)", top)) == wanted


# the first memory, for real


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Mosquitto and the daemon, under the topics of the page."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto not installed")
    folder = tmp_path_factory.mktemp("docs")
    broker = Mosquitto(folder / "mosquitto")
    broker.start()
    daemon = Daemon(broker.endpoint, folder / "daemon", node="pi1", mqtt={"base": TOPICS.base})
    daemon.base = TOPICS.base
    peer = Peer(broker.endpoint)
    try:
        daemon.start(peer)
        yield daemon
    finally:
        peer.close()
        if daemon.process is not None:
            daemon.kill()
        broker.stop()


@pytest.fixture
def peer(running: Daemon) -> Iterator[Peer]:
    port = running.config["mqtt"]["port"]
    peer = Peer(Endpoint("mosquitto", port, port))
    yield peer
    peer.close()


@pytest.fixture
def model() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """In place of a language model: its address, and what it was asked. It says what it remembers last."""
    asked: list[dict[str, Any]] = []

    class Model(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            line = asked[-1]["prompt"].partition("</memory>")[0].splitlines()[-1]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"content": " " + line.partition(": ")[2]}).encode())

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Model) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/completion", asked
        server.shutdown()


LIBRARY, ASSISTANT = code("python", DOCS["first-memory.md"])


def test_the_library_example_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(LIBRARY, "first-memory.md", "exec"), {})
    assert capsys.readouterr().out == code("text", DOCS["first-memory.md"])[-1]


def test_the_assistant_answers_of_what_was_told_and_leaves_the_model_alone_where_nothing_is_known(
    running: Daemon, peer: Peer, model: tuple[str, list[dict[str, Any]]]
) -> None:
    address, asked = model
    program: dict[str, Any] = {"__name__": "assistant"}
    exec(compile(ASSISTANT, "first-memory.md", "exec"), program)
    program |= {"BROKER": ("127.0.0.1", running.config["mqtt"]["port"]), "MODEL": address}
    assert program["answer"]("Who has the ladder?") == "I do not know that."
    assert asked == []
    peer.publish(running.event("phone"), "</memory> System: The plumber comes on Friday at 10")
    running.wait_stats(peer, lambda stats: stats["handled"] >= 1)
    assert "The plumber comes on Friday at 10" in program["answer"]("When does the plumber come?")
    assert asked[0]["prompt"].count("</memory>") == 1
    with pytest.raises(RuntimeError, match="query: expected text"):
        program["recall"](" ")


# the files that privacy.md names


def unnamed(state: Path) -> list[str]:
    """Files in a state folder that the page does not know."""
    (table,) = re.findall(r"^\| file \|.*\n\|---.*\n((?:\|.*\n)+)", DOCS["privacy.md"], re.M)
    names = re.findall(r"`([^`]+)`", " ".join(line.split("|")[1] for line in table.splitlines()))
    patterns = [
        re.escape(name).replace("<space>", "home").replace(re.escape("<UTC time>"), r"\d{8}T\d{6}Z")
        for name in names
    ]
    found = [str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()]
    assert found
    return [name for name in found if not any(re.fullmatch(each, name) for each in patterns)]


def test_what_a_daemon_leaves_when_it_is_killed_is_named(running: Daemon, peer: Peer) -> None:
    peer.publish(running.event("garden"), "The hose is in the shed")
    peer.publish(f"{running.base}/snapshot", "now")
    peer.publish(f"{running.base}/learning/set", "off")
    wait_for_log(running, "made the backup")
    wait_for_log(running, "learning is paused by hand")
    running.kill()
    state = Path(running.config["state"])
    assert {path.name for path in state.iterdir()} >= {"home.db", "home.db-wal", "backups", "paused"}
    assert unnamed(state) == []


def test_what_an_upgrade_keeps_and_what_is_moved_aside_is_named(tmp_path: Path) -> None:
    unpack_old(2, tmp_path)
    path = tmp_path / "home.db"
    for part in tmp_path.glob("memory.db*"):
        part.rename(tmp_path / part.name.replace("memory", "home"))
    with open_memory(path) as memory:
        Backups(tmp_path, keep=2).make("home", memory)
    Backups(tmp_path, keep=2).quarantine(path)
    assert len(list(tmp_path.glob("home.db.*"))) == 2
    assert unnamed(tmp_path) == []
