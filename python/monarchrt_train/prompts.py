"""Prompts to token ids, as the engine does it (src/model/tokenizer)."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Sequence

import sentencepiece
import torch
from torch import Tensor

PAD, END, UNKNOWN = 0, 1, 2
BYTE_PIECES = 256  # so that any text can be written
BASE_PIECES = 3


def clean(text: str) -> str:
    """HTML entities twice, white space. The engine also repairs broken encodings: not needed
    for captions we make ourselves."""
    return " ".join(html.unescape(html.unescape(text)).split())


def train(captions: Iterable[str], vocabulary: int) -> bytes:
    """A SentencePiece model (unigram, byte fallback, UMT5's special ids)."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(clean(caption) for caption in captions),
        model_writer=model,
        model_type="unigram",
        vocab_size=vocabulary,
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=PAD,
        eos_id=END,
        unk_id=UNKNOWN,
        bos_id=-1,
        num_threads=1,
        minloglevel=1,
    )
    return model.getvalue()


class Tokenizer:
    def __init__(self, model: bytes):
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def ends(self, ids: Tensor) -> Tensor:
        """Where in its text each piece of `ids` [B, L] ends, in characters: int64 [B, L]. Of texts
        that are clean, of known pieces."""
        lengths = torch.tensor([len(self._processor.id_to_piece(n)) for n in range(len(self))])
        return lengths[ids].cumsum(1) - 1  # a text begins with a space that is not there

    def ids(self, text: str, text_len: int) -> list[int]:
        """At most text_len ids, the end of text included."""
        return [*self._processor.encode(clean(text))[: text_len - 1], END]

    def batch(self, texts: Sequence[str], text_len: int) -> tuple[Tensor, Tensor]:
        """-> ids int64 [B, L] padded to the longest, lengths int64 [B]."""
        rows = [self.ids(text, text_len) for text in texts]
        ids = torch.full((len(rows), max(map(len, rows))), PAD)
        for row, out in zip(rows, ids, strict=True):
            out[: len(row)] = torch.tensor(row)
        return ids, torch.tensor([len(row) for row in rows])
