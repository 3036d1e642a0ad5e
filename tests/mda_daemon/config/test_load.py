from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mda_daemon.config.schema import Config, Mqtt, Queue, Space
from mda_daemon.errors import ConfigError
from mda_daemon.settings import load, parse
from tests.support import ROOT


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "test.yaml", ".")
    return caught.value.problems


def test_an_empty_file_is_a_configuration() -> None:
    config = parse("", "test.yaml", ".")
    assert config.mqtt == Mqtt() and config.spaces == {"home": Space()}
    assert config.base == f"mda/{config.node}"
    assert parse("mqtt:\nspaces:\nencoder:\n", "test.yaml", ".") == config


def test_every_problem_is_listed_by_path_with_value_and_range() -> None:
    found = problems(
        """
        node: [1]
        mqtt: {port: 99999, keepalive: soon, tls: {insecure: maybe}, colour: red}
        spaces: {home: {units: 0}, "a b": {}}
        queue: 5
        health_seconds: .nan
        nothing: here
        """
    )
    assert len(found) == 10
    assert "mqtt.port: expected a port, 1 to 65535, got 99999" in found
    assert "mqtt.tls.insecure: expected true or false, got 'maybe'" in found
    assert "spaces.home.units: expected 1 to 1048576, got 0" in found
    assert "queue: expected a mapping, got 5" in found
    assert any(item.startswith("mqtt.colour: unknown key, expected one of host, port") for item in found)
    assert any(item.startswith("nothing: unknown key") for item in found)


def test_an_unknown_key_brings_the_known_one_to_mind() -> None:
    found = problems("health_second: 5\nmqtt: {hots: pi}\nxyzzy: 1")
    assert [item.partition("; ")[2] for item in found] == [
        "did you mean health_seconds?",
        "did you mean host?",
        "",
    ]


@pytest.mark.parametrize(
    "text",
    ["a: [", "{a: b", "\x00", "? [a]\n: 1", "a: &x [*x]", "- 1", "5", "'", "!!python/name:os.system x"],
)
def test_anything_else_is_an_error_and_no_traceback(text: str) -> None:
    assert problems(text)


def test_a_key_given_twice_is_an_error() -> None:
    assert problems("node: a\nnode: b\n") == ("node: given twice, again in line 2",)


@pytest.mark.parametrize("base", ["a/#", "+", "/a", "a/", "", "$SYS", "a\nb"])
def test_a_base_must_be_a_plain_topic(base: str) -> None:
    assert problems(f"mqtt: {{base: {msgspec.json.encode(base).decode()}}}")[0].startswith(
        "mqtt.base: expected"
    )


@pytest.mark.parametrize("space", ["a/b", "+", "..", "", "x" * 65, "ä"])
def test_a_space_is_a_topic_level_and_a_file_name(space: str) -> None:
    assert problems(f"spaces: {{{msgspec.json.encode(space).decode()}: {{}}}}")


def test_files_named_must_be_there(tmp_path: Path) -> None:
    found = problems("mqtt: {password_file: /no/password, tls: {ca: /no/ca, key: /no/key}}")
    assert [item.split(":")[0] for item in found] == [
        "mqtt.username", "mqtt.password_file", "mqtt.tls.cert", "mqtt.tls.ca", "mqtt.tls.key",
    ]  # fmt: skip


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\r\nnot this\n")
    path = tmp_path / "config.yaml"
    path.write_text("state: here\nmqtt: {username: u, password_file: secret}\n")
    config = load(path)
    assert config.state_folder == tmp_path / "here"
    assert config.password() == "s3cret"


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match="/nowhere"):
        load(Path("/nowhere"))


def test_the_documented_file_is_valid_and_holds_the_defaults() -> None:
    config = load(ROOT / "config.yaml")
    assert config.state_folder == ROOT / "state"
    assert msgspec.structs.replace(config, state=Config().state, folder=".", node=Config().node) == Config()


def test_the_documented_file_names_every_key() -> None:
    text = (ROOT / "config.yaml").read_text()
    for kind in (Config, Mqtt, Queue, Space):
        for name in kind.__struct_fields__:
            assert name == "folder" or f"{name}:" in text, name


def test_the_port_follows_tls() -> None:
    assert parse("mqtt: {tls: {}}", "t", ".").mqtt.effective_port == 8883
    assert parse("mqtt: {tls: {}, port: 1}", "t", ".").mqtt.effective_port == 1
    assert parse("", "t", ".").mqtt.effective_port == 1883


@pytest.mark.parametrize(
    "text",
    [
        "node: !!bool x",
        "? !!bool x\n: 1",
        'node: !!int ""',
        'node: !!float ""',
        "node: !!timestamp x",
        "node: !!map [a]",
        "node: !!set [a]",
        "node: 1" + ":0" * 200 + ".0",
        'node: "\\UFFFFFFFF"',
        "node: 0x" + "f" * 5000,
        'mqtt: {username: u, password_file: "\\0"}',
        'mqtt: {tls: {ca: "\\0"}}',
        'mqtt: {username: u, password_file: "\\ud800"}',
        'mqtt: {tls: {ca: "\\ud800"}}',
    ],
)
def test_what_yaml_cannot_construct_is_an_error_and_no_traceback(text: str) -> None:
    assert problems(text)


@pytest.mark.parametrize(
    "text",
    [
        'node: "pi1\\n"',
        'spaces: {"home\\n": {}}',
        'mqtt: {base: "a\\n"}',
        'mqtt: {host: "a\\n"}',
        'mqtt: {reply_prefixes: ["a\\n"]}',
    ],
)
def test_a_name_has_no_line_break_at_its_end(text: str) -> None:
    assert problems(text)


def test_a_spaces_name_is_shown_without_its_escapes() -> None:
    assert "\x1b" not in "".join(problems('spaces: {"a\\e[31m": {units: 0}}'))
