"""A configuration file, byte for byte as it is on the disk."""

from __future__ import annotations

from mda_daemon.errors import ConfigError
from mda_daemon.mqtt.topics import Topics
from mda_daemon.settings import parse
from mda_daemon.text import visible


def one_input(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return  # refused before it is parsed
    try:
        config = parse(text, "fuzz.yaml", ".")
    except ConfigError as exc:
        assert exc.problems
        assert all(visible(problem) == problem for problem in exc.problems), exc.problems
        assert sum(map(len, exc.problems)) < 1000 + 100 * len(data), "more said than read"
        return
    Topics(config.base, config.mqtt.reply_prefixes)
    assert config.client_id and config.default_space and config.state_folder
