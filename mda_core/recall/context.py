"""A recall as a block of text for a prompt: one line for each memory, within a number of tokens.

Texts of memories are untrusted data, and may contain what a prompt or a chat template takes for structure.
The first character of such structure is replaced by one that looks the same but means nothing to a
tokenizer. Ordinary text stays as it is, byte for byte. In texts and in sources:

1. Control characters and line breaks become a space, invisible characters are removed, runs of white space
   become one space.
2. `<` before anything but white space, a digit, `=` and `-`, or with its `>` in the same word, becomes
   U+2039: no tag like `</memory>`, no token like `<|im_start|>`, `</s>`, `<<SYS>>` or `<0x0A>`.
3. `[` of a token like `[INST]` or `[TOOL_CALLS]`, or before `/` or `|`, becomes U+27E6.
4. `:` of a role where a turn could begin (at the start, after a line break, after the end of a sentence), as
   in `System:` and `**User**:`, becomes U+A789.
5. Three or more `#` become U+266F, three or more backticks `'`.
6. In sources only, `:` before a space or at the end becomes U+A789, and the `(` of `(3 times since` becomes
   `[`. So the first `: ` of a line ends its head, and nothing in the head can be forged.

The full-width forms of these characters count as the characters. The exact text is in `memories[].text`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

from ..event import Remembered

BYTES_PER_TOKEN = 3
"""A cautious guess for the tokenizers of small LLMs: English text has four or more."""
LIKELY = 0.1
"""Confidence from which on a memory is in the block, whatever its score."""

# Every pattern below needs one of these characters; most texts have none.
_SPECIAL = re.compile(r"[<\[:#`\uff1c\ufe64\uff3b\uff1a\ufe55\ufe13\uff03\ufe5f\uff40]")
# No match can start inside the text that another attempt has scanned, so the time is linear in the input.
_TAG = re.compile(r"[<\uff1c\ufe64](?=[^\s\d=-]|[^\s>\uff1e\ufe65]{0,40}[>\uff1e\ufe65])")
# Tokens of Llama 2, Mistral, BERT, GLM and InternLM.
_TOKEN = re.compile(
    r"[\[\uff3b](?=[/|\uff0f\uff5c]|(?:INST|SYS\w{0,20}|AVAILABLE_TOOLS|TOOL_\w{1,20}|ARGS|CALL_ID|THINK"
    r"|MODEL_SETTINGS|IMG\w{0,20}|PREFIX|MIDDLE|SUFFIX|CLS|SEP|[GS]?MASK|PAD|UNK|BOS|EOS|UNUSED\w{0,20}"
    r"|CONTROL_\w{1,20})[\]\uff3d])",
    re.IGNORECASE,
)
_ROLE = re.compile(
    r"""((?:^|(?<=[\n.!?:;>)\]}"\u201d\u2026]))[ #\uff03\ufe5f*_=-]*"""
    r"(?:system|user|assistant|human|ai|bot|tool|developer|instructions?|response)[ *_]*)"
    r"[:\uff1a\ufe55\ufe13]",
    re.IGNORECASE,
)
_RULE = re.compile(r"[#\uff03\ufe5f]{3,}")
_FENCE = re.compile(r"[`\uff40]{3,}")
_HEAD_END = re.compile(r":(?=\s|$)")
_HEAD_COUNT = re.compile(r"\((?=\d+ times since)")


def context(memories: Sequence[Remembered], max_tokens: int | None = None) -> str:
    """The block, best memory first; a line looks like
    `2026-11-22 23:40 hall/back_door (3 times since 20 Nov): The back door was left open`, with times in UTC.

    A memory is left out unless it is likely by itself or its score is at least half of the best one: a small
    model takes every line for relevant. Lines are added until the next one would exceed `max_tokens`.
    """
    lines: list[str] = []
    best = max((m.score for m in memories), default=0.0)
    memories = [m for m in memories if m.confidence >= LIKELY or m.score >= best / 2]
    room = None if max_tokens is None else max_tokens * BYTES_PER_TOKEN
    for memory in memories:
        line = _line(memory)
        if room is not None:
            room -= len(line.encode()) + 1
            if room < -1:
                break
        lines.append(line)
    return "\n".join(lines)


def _line(memory: Remembered) -> str:
    """The line of one memory. Count and times are those in the period of the recall, where it had one."""
    occurred = memory.within or memory
    last = datetime.fromtimestamp(occurred.last, UTC)
    head = f"{last:%Y-%m-%d %H:%M}"
    if source := _HEAD_COUNT.sub("[", _HEAD_END.sub("\ua789", one_line(memory.source))):
        head += f" {source}"
    if occurred.count > 1:
        first = datetime.fromtimestamp(occurred.first, UTC)
        since = f"{first.day} {first:%b}" + (f" {first.year}" if first.year != last.year else "")
        head += f" ({occurred.count} times since {since})"
    return f"{head}: {one_line(memory.text)}"


def one_line(text: str) -> str:
    """`text` on one line, with everything replaced that a prompt or a chat template takes for structure."""
    if text.isprintable():
        text = " ".join(text.split())
    else:
        shown = "".join(
            " " if unicodedata.category(c) == "Cc" and not c.isspace() else c
            for c in text
            if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn") or c in "\u200c\u200d"
        )
        text = "\n".join(filter(None, (" ".join(line.split()) for line in shown.splitlines())))
    if not _SPECIAL.search(text):
        return text.replace("\n", " ")
    text = _TOKEN.sub("\u27e6", _TAG.sub("\u2039", text))
    text = _RULE.sub(lambda found: "\u266f" * len(found[0]), _ROLE.sub("\\1\ua789", text))
    return _FENCE.sub(lambda found: "'" * len(found[0]), text).replace("\n", " ")
