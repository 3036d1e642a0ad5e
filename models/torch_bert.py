"""The BERT sentence encoder as a function of its tensors, in torch: for training alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from bert_weights import Array
from torch import Tensor
from torch.nn import functional as F

HEAD_DIMS = 32  # MiniLM-H384: 12 heads of 32
EPSILON = 1e-12  # BERT's, in every norm
DROPOUT = 0.1  # as in BERT's own training
RUN_TOKENS = 4096
"""Tokens of one run, padding included: what the caches of two cores hold."""


class TorchBert:
    """Texts' tokens to unit vectors: the mean over the last layer's tokens, normalised.

    tensors: float32, by the checkpoint's names. Only `encoder.layer.*` is trained. The embeddings stay what
    they are: of 30,522 word pieces the pairs hold few, and a device's words are others.
    """

    def __init__(self, tensors: Mapping[str, Array], device: str = "cpu", bfloat16: bool = False) -> None:
        self.device, self.bfloat16 = device, bfloat16
        self._all = {name: torch.tensor(np.array(value), device=device) for name, value in tensors.items()}
        self.trained = {name: value for name, value in self._all.items() if name.startswith("encoder.layer.")}
        self.layers = 1 + max(int(name.split(".")[2]) for name in self.trained)

    def learn(self) -> None:
        """From here on gradients reach the trained tensors."""
        for value in self.trained.values():
            value.requires_grad_(True)

    def weights(self) -> dict[str, Tensor]:
        """A copy of the trained tensors as they are."""
        return {name: value.detach().clone() for name, value in self.trained.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put values in the place of the trained tensors."""
        with torch.no_grad():
            for name, value in tensors.items():
                self._all[name].copy_(value)

    def encode(self, texts: Sequence[Sequence[int]], *, dropout: bool = False) -> Tensor:
        """float32 (len(texts), dims) of token numbers, [CLS] and [SEP] included, in the order of `texts`.

        Texts of like length run together, `RUN_TOKENS` at once.
        """
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        parts: list[Tensor] = []
        begin = 0
        while begin < len(order):
            end = begin + 1
            while end < len(order) and (end + 1 - begin) * len(texts[order[end]]) <= RUN_TOKENS:
                end += 1
            parts.append(self._run([texts[at] for at in order[begin:end]], dropout))
            begin = end
        inverse = torch.empty(len(order), dtype=torch.long)
        inverse[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts)[inverse.to(self.device)]

    def _run(self, texts: Sequence[Sequence[int]], dropout: bool) -> Tensor:
        lengths = torch.tensor([len(text) for text in texts])
        ids = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
        ids, lengths = ids.to(self.device), lengths.to(self.device)
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bfloat16):
            return self._forward(ids, lengths, dropout)

    def _forward(self, ids: Tensor, lengths: Tensor, dropout: bool) -> Tensor:
        t = self._all
        mask = torch.arange(ids.shape[1], device=self.device) < lengths[:, None]
        x = F.embedding(ids, t["embeddings.word_embeddings.weight"])
        x = x + t["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = F.dropout(
            self._norm("embeddings", x + t["embeddings.token_type_embeddings.weight"][0]), DROPOUT, dropout
        )
        for at in range(self.layers):
            name = f"encoder.layer.{at}"
            mixed = self._linear(f"{name}.attention.output.dense", self._attention(name, x, mask))
            x = self._norm(f"{name}.attention.output", x + F.dropout(mixed, DROPOUT, dropout))
            wide = F.gelu(self._linear(f"{name}.intermediate.dense", x))
            narrow = self._linear(f"{name}.output.dense", wide)
            x = self._norm(f"{name}.output", x + F.dropout(narrow, DROPOUT, dropout))
        return F.normalize((x.float() * mask[:, :, None]).sum(dim=1), dim=-1)

    def _attention(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        """Vaswani et al. 2017: (batch, length, dims) to the same."""
        batch, length, dims = x.shape

        def heads(part: str) -> Tensor:
            flat = self._linear(f"{name}.attention.self.{part}", x)
            return flat.view(batch, length, dims // HEAD_DIMS, HEAD_DIMS).transpose(1, 2)

        scores = heads("query") @ heads("key").transpose(-1, -2) / math.sqrt(HEAD_DIMS)
        weights = scores.float().masked_fill(~mask[:, None, None, :], -math.inf).softmax(dim=-1)
        mixed = weights.to(scores.dtype) @ heads("value")
        return mixed.transpose(1, 2).reshape(batch, length, dims)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._all[f"{name}.weight"], self._all[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        scale, shift = (self._all[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        return F.layer_norm(x, (x.shape[-1],), scale, shift, EPSILON)
