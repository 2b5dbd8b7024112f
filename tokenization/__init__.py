"""Text to ids: the bunsetsu-aware byte-level BPE, its special tokens and the chat format."""

from kakehashi.tokenization.chat import (
    CHAT_TEMPLATE,
    encode_source,
    encode_target,
    for_causal_lm,
    split_last_assistant_turn,
)
from kakehashi.tokenization.special_tokens import sentinel_ids, sentinel_token
from kakehashi.tokenization.train import save_tokenizer, train_tokenizer

__all__ = [
    "CHAT_TEMPLATE",
    "encode_source",
    "encode_target",
    "for_causal_lm",
    "save_tokenizer",
    "sentinel_ids",
    "sentinel_token",
    "split_last_assistant_turn",
    "train_tokenizer",
]
