"""Other people's messages: the template of a source (the first line), a topic (the second) and a payload."""

from __future__ import annotations

import json

from mda_core import BadInput
from mda_daemon.errors import DaemonError
from mda_daemon.settings import parse
from mda_daemon.sources import Sources, preset
from mda_daemon.sources.paths import Scope
from mda_daemon.sources.payload import read_payload
from mda_daemon.sources.template import parse_template

_PRESETS = Sources(
    parse(json.dumps({"sources": [{"preset": name} for name in preset.NAMES]}), "fuzz.yaml", ".")
)


def one_input(data: bytes) -> None:
    template, _, rest = data.partition(b"\n")
    topic, _, payload = rest.partition(b"\n")
    name = topic.decode(errors="replace").replace("\0", "")
    for arrived in (1000.0, 1001.5):
        outcome = _PRESETS.read(name, payload, arrived)
        assert outcome.event is not None or outcome.why
        assert outcome.why != "a fault, which the log describes"
    try:
        value = read_payload(payload, 4096)
        made = parse_template(template.decode(errors="replace"))
    except (BadInput, DaemonError):
        return
    said = value if isinstance(value, dict) else None
    text = made.render(Scope(name.split("/"), value, said, "a b"))
    assert text is None or (text.strip() == text != "" and len(text.splitlines()) <= 1), text
