"""A recall as a block for a prompt: one line a memory, within a number of tokens, and nothing in it but text.

What was told is data and may say anything, also what a prompt or a chat template takes for structure. That
is quoted: its first sign is replaced by one that looks alike and means nothing to a tokenizer. Ordinary text
stays as it is, to the byte. In texts and in sources:

1. Controls and line breaks become a space, what is invisible goes, a run of white space is one space.
2. `<` before anything but white space, a digit, `=` and `-`, or with its `>` in one word, becomes U+2039: no
   tag such as `</memory>`, no token such as `<|im_start|>`, `</s>`, `<<SYS>>` or `<0x0A>`.
3. `[` of a token such as `[INST]` or `[TOOL_CALLS]`, or before `/` or `|`, becomes U+27E6.
4. `:` of a role where a turn could begin (at the start, after a line break, after the end of a sentence), as
   in `System:` and `**User**:`, becomes U+A789.
5. Three and more of `#` become U+266F, three and more backticks `'`.
6. In a source alone, `:` before a space or at the end becomes U+A789, `(` of `(3 times since` becomes `[`: so
   the first `: ` of a line ends its head, and all of the head is ours.

The full-width forms of these signs count as the signs. What was told to the letter is `memories[].text`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

from ..event import Remembered

BYTES_PER_TOKEN = 3
"""A cautious guess for the tokenizers of small LLMs: English text has four and more."""


LIKELY = 0.1

# What any of the patterns below begins or ends with: most texts have none of it.
_SIGNS = re.compile(r"[<\[:#`\uff1c\ufe64\uff3b\uff1a\ufe55\ufe13\uff03\ufe5f\uff40]")
# No match starts inside of what another one runs over: the time is linear in what a client likes to send.
_TAG = re.compile(r"[<\uff1c\ufe64](?=[^\s\d=-]|[^\s>\uff1e\ufe65]{0,40}[>\uff1e\ufe65])")
# Of Llama 2, Mistral, BERT, GLM and InternLM.
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
    """`2026-11-22 23:40 hall/back_door (3 times since 20 Nov): The back door was left open`, times in UTC.

    A memory that is neither likely by itself nor half as active as the best one stays out: a small
    model takes every line for relevant. What does not fit within `max_tokens` is left out, the
    best come first.
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
    """Count and times are those of the period asked for, where one was."""
    told = memory.within or memory
    last = datetime.fromtimestamp(told.last, UTC)
    head = f"{last:%Y-%m-%d %H:%M}"
    if source := _HEAD_COUNT.sub("[", _HEAD_END.sub("\ua789", one_line(memory.source))):
        head += f" {source}"
    if told.count > 1:
        first = datetime.fromtimestamp(told.first, UTC)
        since = f"{first.day} {first:%b}" + (f" {first.year}" if first.year != last.year else "")
        head += f" ({told.count} times since {since})"
    return f"{head}: {one_line(memory.text)}"


def one_line(text: str) -> str:
    """`text` on one line, without anything that a prompt or a chat template takes for structure."""
    if text.isprintable():
        text = " ".join(text.split())
    else:
        shown = "".join(
            " " if unicodedata.category(c) == "Cc" and not c.isspace() else c
            for c in text
            if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn") or c in "\u200c\u200d"
        )
        text = "\n".join(filter(None, (" ".join(line.split()) for line in shown.splitlines())))
    if not _SIGNS.search(text):
        return text.replace("\n", " ")
    text = _TOKEN.sub("\u27e6", _TAG.sub("\u2039", text))
    text = _RULE.sub(lambda found: "\u266f" * len(found[0]), _ROLE.sub("\\1\ua789", text))
    return _FENCE.sub(lambda found: "'" * len(found[0]), text).replace("\n", " ")
