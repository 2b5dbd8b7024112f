"""Pad examples to batches, and apply the pretraining objectives on the fly.

    collator             examples hold                     batch holds
    Seq2SeqCollator      input_ids (source), labels        input_ids, attention_mask, labels, decoder_input_ids
    DenoisingCollator    input_ids (document, no specials) the same
    CausalLMCollator     input_ids (document, no specials) input_ids, attention_mask, labels
    MaskedLMCollator     input_ids (document, no specials) input_ids, attention_mask, labels

Classification needs none of ours: `transformers.DataCollatorWithPadding` does it.

Randomness: where a collator throws dice, its generator is seeded with `seed`, `epoch` and the ids of the batch itself,
and with nothing else. So the same recipe gives the same batches, with any number of DataLoader workers, and a resumed
run goes on with exactly the batches it would have had (torch's running generator cannot promise that: Trainer loads
batches ahead of the step and restores the generator after them). Validation, always collated as epoch 0, sees the same
corruption each time. `CollateByEpoch` tells the training collator the epoch.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from kakehashi.tokenization.special_tokens import sentinel_ids
from kakehashi.training.objectives import (
    IGNORED_LABEL,
    Ids,
    corrupt_spans,
    frame_for_causal_lm,
    mask_tokens,
    split_for_next_word,
)

Example = Mapping[str, Any]
Batch = dict[str, torch.Tensor]


@dataclass
class Seq2SeqCollator:
    """Pads pairs of source and target, and gives the decoder its inputs.

    Drawn with `a b` → `X Y Z` and `c` → `X`; p is `<pad>`, a dot the label -100:

        input_ids          a  b  </s>        attention_mask  1 1 1
                           c  </s> p                         1 1 0
        labels             X  Y  Z  </s>     decoder_input_ids  <s>  X    Y  Z
                           X  </s> .  .                         <s>  X  </s> p

    At each position the decoder sees the target up to the token before and is asked for the next one.

    `transformers.DataCollatorForSeq2Seq` gives the same tensors (a test holds this), but only when it holds the
    model, which would be copied into each DataLoader worker.

    Attributes:
        tokenizer: Names the padding and the first decoder token.
        pad_to_multiple_of: Rounds both lengths up to a multiple of this; None means to the longest example.
    """

    tokenizer: PreTrainedTokenizerBase
    pad_to_multiple_of: int | None = None

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Returns a padded batch.

        Args:
            examples: Each with `input_ids`, shape (source_length,), and `labels`, shape (target_length,).

        Returns:
            `input_ids` and `attention_mask`, shape (batch, source_length), `labels` and `decoder_input_ids`, shape
            (batch, target_length).
        """
        labels = _pad([example["labels"] for example in examples], IGNORED_LABEL, self.pad_to_multiple_of)
        decoder_input_ids = torch.full_like(labels, self.tokenizer.bos_token_id)
        decoder_input_ids[:, 1:] = labels[:, :-1].masked_fill(
            labels[:, :-1] == IGNORED_LABEL, self.tokenizer.pad_token_id
        )
        return {
            **_pad_inputs([example["input_ids"] for example in examples], self.tokenizer, self.pad_to_multiple_of),
            "labels": labels,
            "decoder_input_ids": decoder_input_ids,
        }


@dataclass
class DenoisingCollator:
    """Makes pretraining pairs out of documents: next-word prediction and span corruption, mixed.

    For each document a throw of chance decides, see `split_for_next_word` and `corrupt_spans`:

        document I love cats  →  I love </s> → cats </s>                (next_word_ratio of the documents)
                              →  I <extra_id_0> cats </s> → <extra_id_0> love </s>        (the others)

    Attributes:
        tokenizer: Names the special tokens and the sentinels.
        next_word_ratio: Probability of next-word prediction, 0 to 1.
        noise_density: Fraction of the tokens that span corruption cuts out.
        mean_noise_span_length: Average tokens in a span that is cut out.
        pad_to_multiple_of: As for `Seq2SeqCollator`.
        seed: Another seed gives other pairs.
        epoch: Another epoch gives other pairs of the same documents.

    Raises:
        ValueError: `next_word_ratio` is not between 0 and 1.
    """

    tokenizer: PreTrainedTokenizerBase
    next_word_ratio: float = 0.5
    noise_density: float = 0.15
    mean_noise_span_length: float = 3.0
    pad_to_multiple_of: int | None = None
    seed: int = 0
    epoch: int = 0
    _sentinels: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks the ratio and looks the sentinels up."""
        if not 0 <= self.next_word_ratio <= 1:
            raise ValueError(f"`next_word_ratio` must be between 0 and 1, but it is {self.next_word_ratio}.")
        self._sentinels = sentinel_ids(self.tokenizer)

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Returns a padded batch of pairs.

        Args:
            examples: Each with `input_ids`, shape (length,), without special tokens.

        Returns:
            As `Seq2SeqCollator`.
        """
        generator = _seed_generator(examples, self.seed, self.epoch)
        is_next_word = generator.random(len(examples)) < self.next_word_ratio
        pairs = [
            self._make_pair(example["input_ids"], bool(next_word), generator)
            for example, next_word in zip(examples, is_next_word, strict=True)
        ]
        collate = Seq2SeqCollator(self.tokenizer, self.pad_to_multiple_of)
        return collate([{"input_ids": source, "labels": target} for source, target in pairs])

    def _make_pair(self, ids: Sequence[int], next_word: bool, generator: np.random.Generator) -> tuple[Ids, Ids]:
        if next_word:
            return split_for_next_word(ids, generator, eos_token_id=self.tokenizer.eos_token_id)
        return corrupt_spans(
            ids,
            generator,
            sentinel_token_ids=self._sentinels,
            eos_token_id=self.tokenizer.eos_token_id,
            noise_density=self.noise_density,
            mean_noise_span_length=self.mean_noise_span_length,
        )


@dataclass
class CausalLMCollator:
    """Puts documents between `<s>` and `</s>` and pads them, for the decoder-only shape.

        input_ids  <s>  I  love  cats  </s>     labels  <s>  I  love  cats  </s>
                   <s>  No </s>  p     p                <s>  No </s>  .     .

    `transformers.DataCollatorForLanguageModeling` adds no special tokens and leaves out labels by their id, so that
    a tokenizer whose padding is also its end would never learn to stop.

    Examples that bring `labels`, as `tokenize_instructions` makes them for this shape, are only padded.

    Attributes:
        tokenizer: Names the special tokens.
        pad_to_multiple_of: As for `Seq2SeqCollator`.
    """

    tokenizer: PreTrainedTokenizerBase
    pad_to_multiple_of: int | None = None

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Returns a padded batch.

        Args:
            examples: Each with `input_ids`, shape (length,), without special tokens; or complete, with `labels`.

        Returns:
            `input_ids`, `attention_mask` and `labels`, shape (batch, length + 2), or as long as the complete ones.
        """
        return _pad_labelled(
            [self._complete(example) for example in examples], self.tokenizer, self.pad_to_multiple_of
        )

    def _complete(self, example: Example) -> tuple[Ids, Ids]:
        if "labels" in example:
            return example["input_ids"], example["labels"]
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return frame_for_causal_lm(example["input_ids"], bos_token_id=bos, eos_token_id=eos)


@dataclass
class MaskedLMCollator:
    """Closes documents with `</s>`, hides some of their tokens and pads, for the encoder-only shape.

        document   I  love   cats          No
        input_ids  I  <mask> cats </s>     <mask> </s> p p
        labels     .  love   .    .        No     .    . .

    `transformers.DataCollatorForLanguageModeling` draws how many tokens it hides, so a short text may hide none, and
    puts in special tokens as random ones; see `mask_tokens` for ours.

    Attributes:
        tokenizer: Names the special tokens.
        mlm_probability: Fraction of the tokens to hide, above 0 and at most 1.
        pad_to_multiple_of: As for `Seq2SeqCollator`.
        seed: Another seed gives other pairs.
        epoch: Another epoch gives other pairs of the same documents.

    Raises:
        ValueError: The tokenizer has no mask token.
    """

    tokenizer: PreTrainedTokenizerBase
    mlm_probability: float = 0.3
    pad_to_multiple_of: int | None = None
    seed: int = 0
    epoch: int = 0
    _regular_token_ids: Ids = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Lists the tokens that may be hidden or put in."""
        if self.tokenizer.mask_token_id is None:
            raise ValueError("Masked language modelling needs a tokenizer with a mask token, but it has none.")
        special = np.array(sorted(self.tokenizer.added_tokens_decoder), dtype=np.int64)
        self._regular_token_ids = np.setdiff1d(np.arange(len(self.tokenizer)), special)

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Returns a padded batch.

        Args:
            examples: Each with `input_ids`, shape (length,), without special tokens.

        Returns:
            `input_ids`, `attention_mask` and `labels`, shape (batch, length + 1).
        """
        generator = _seed_generator(examples, self.seed, self.epoch)
        masked = [
            mask_tokens(
                np.append(example["input_ids"], self.tokenizer.eos_token_id),
                generator,
                mask_token_id=self.tokenizer.mask_token_id,
                regular_token_ids=self._regular_token_ids,
                mlm_probability=self.mlm_probability,
            )
            for example in examples
        ]
        return _pad_labelled(masked, self.tokenizer, self.pad_to_multiple_of)


class CollateByEpoch(TrainerCallback):
    """Makes the training batches of each epoch differ: hands the epoch to a collator that has an `epoch`."""

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: DataLoader | None = None,
        **kwargs: Any,
    ) -> None:
        """Replaces the collator of the training loader alone; the one for validation stays at epoch 0."""
        # accelerate wraps the loader that collates.
        loader: Any = getattr(train_dataloader, "base_dataloader", train_dataloader)
        collator = getattr(loader, "collate_fn", None)
        if isinstance(collator, (DenoisingCollator, MaskedLMCollator)):
            # A resumed run begins in the middle of an epoch, such as 1.5.
            loader.collate_fn = dataclasses.replace(collator, epoch=int(state.epoch or 0))


def _seed_generator(examples: Sequence[Example], seed: int, epoch: int) -> np.random.Generator:
    content = hashlib.blake2b(digest_size=16)
    for example in examples:
        content.update(np.asarray(example["input_ids"], dtype=np.int64).tobytes())
    return np.random.default_rng([seed, epoch, int.from_bytes(content.digest(), "little")])


def _pad_labelled(pairs: Sequence[tuple[Ids, Ids]], tokenizer: PreTrainedTokenizerBase, multiple: int | None) -> Batch:
    inputs = _pad_inputs([input_ids for input_ids, _ in pairs], tokenizer, multiple)
    return {**inputs, "labels": _pad([labels for _, labels in pairs], IGNORED_LABEL, multiple)}


def _pad_inputs(sequences: Sequence[Ids], tokenizer: PreTrainedTokenizerBase, multiple: int | None) -> Batch:
    ones = [np.ones(len(sequence), dtype=np.int64) for sequence in sequences]
    return {
        "input_ids": _pad(sequences, tokenizer.pad_token_id, multiple),
        "attention_mask": _pad(ones, 0, multiple),
    }


def _pad(sequences: Sequence[Sequence[int] | Ids], value: int, multiple: int | None) -> torch.Tensor:
    """Returns the sequences as rows, shape (batch, longest), filled up with `value` on the right."""
    longest = max(len(sequence) for sequence in sequences)
    longest += -longest % (multiple or 1)
    rows = np.full((len(sequences), longest), value, dtype=np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return torch.from_numpy(rows)
