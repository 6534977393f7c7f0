"""The trained parts together: text encoder and transformer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from monarchrt_train.config import ModelConfig
from monarchrt_train.prompts import Tokenizer
from monarchrt_train.umt5 import Umt5Encoder
from monarchrt_train.wan import WanTransformer


class TextToVideo(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.text_encoder = Umt5Encoder(config.text)
        self.transformer = WanTransformer(config.transformer)

    def encode(self, tokenizer: Tokenizer, prompts: Sequence[str]) -> Tensor:
        """-> [B, text_len, dim], what the transformer's cross-attention reads."""
        device = self.text_encoder.norm.weight.device
        ids, lengths = tokenizer.batch(prompts, self.transformer.config.text_len)
        rows = self.text_encoder(ids.to(device), lengths.to(device))
        return self.transformer.encode_text(rows)
