"""A source and a text (the first line, the rest) as a line of a prompt."""

from __future__ import annotations

import re

from mda_core.event import Remembered
from mda_core.recall.context import context, one_line

HEAD = re.compile(r"2026-11-22 23:40( .*\S)? \(3 times since 20 Nov\)")


def one_input(data: bytes) -> None:
    source, _, text = data.decode(errors="surrogateescape").partition("\n")
    memory = Remembered(1, text, 1, 1, "match", source, (), 3, 1795212843.0, 1795390810.0, ())
    line = context([memory])
    assert line.splitlines() == [line] and line.encode()
    head, _, quoted = line.partition(": ")
    assert HEAD.fullmatch(head) and len(re.findall(r"\(\d+ times since", head)) == 1, head
    assert quoted == one_line(text) == one_line(quoted)
    assert not re.search(r"<[^\s\d=-]|<\S{,40}>|###|```|\[[/|]|\[INST\]", line), line
    assert not re.match(r"(?:system|user|assistant)\s*:", quoted, re.IGNORECASE), quoted
