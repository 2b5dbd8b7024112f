"""Make batches of examples, packed or padded, and apply the pretraining objectives on the fly.

    collator               examples hold                     batch holds
    Seq2SeqCollator        input_ids (source), labels        input_ids, attention_mask, labels, decoder_input_ids
    DenoisingCollator      input_ids (document, no specials) the same
    CausalLMCollator       input_ids (document, no specials) input_ids, attention_mask, labels
    MaskedLMCollator       input_ids (document, no specials) input_ids, attention_mask, labels
    ClassificationCollator input_ids, labels (of the text)   input_ids, attention_mask, labels
    TwiceCollator          as another collator takes them    what it makes of each example twice

Packed rows (`pack_examples`) go through the first four, too: their batches hold `segment_ids`, and
`decoder_segment_ids` where there is a decoder input, in place of `attention_mask`.

Speed: each works on all ids of a batch at once, see `sequences.py`, because a GPU waits for every batch that is made
more slowly than it is trained on; `benchmarks/collators.py` compares.

Randomness: where a collator throws dice, its generator is seeded with `seed`, `epoch` (or the pass over a stream) and
the ids of the batch itself, and with nothing else. So the same recipe gives the same batches, with any number of
DataLoader workers, and a resumed run goes on with exactly the batches it would have had (torch's running generator
cannot promise that: Trainer loads batches ahead of the step and restores the generator after them). Validation, always
collated as epoch 0, sees the same corruption each time. `CollateByEpoch` tells the training collator the epoch.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

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

from kakehashi.modeling.loss_kakehashi import shift_right
from kakehashi.tokenization.special_tokens import sentinel_ids
from kakehashi.training.mixture import Task, denoising_tasks, draw_tasks, exchange_splits, make_pairs
from kakehashi.training.objectives import IGNORED_LABEL, frame_for_causal_lm, mask_tokens
from kakehashi.training.packing import LENGTHS_OF
from kakehashi.training.sequences import Ids, Numbers, Sequences, find_owners, find_positions

Example: TypeAlias = Mapping[str, Any]
Batch: TypeAlias = dict[str, torch.Tensor]

PASS = "pass"
"""Under this name an example of a stream says which pass over the stream it is from."""


@dataclass
class Seq2SeqCollator:
    """Pads pairs of source and target, and gives the decoder its inputs.

    Drawn with `a b` → `X Y Z` and `c` → `X`; p is `<pad>`, a dot the label -100:

        input_ids          a  b  </s>        attention_mask  1 1 1
                           c  </s> p                         1 1 0
        labels             X  Y  Z  </s>     decoder_input_ids  <s>  X    Y  Z
                           X  </s> .  .                         <s>  X  </s> p

    At each position the decoder sees the target up to the token before and is asked for the next one. The same pairs
    in one packed row:

        input_ids    a  b  </s> c  </s>      labels               X   Y  Z  </s> X   </s>
        segment_ids  1  1  1    2  2         decoder_input_ids    <s> X  Y  Z    <s> X
                                             decoder_segment_ids  1   1  1  1    2   2

    `transformers.DataCollatorForSeq2Seq` gives the same tensors for padded pairs (a test holds this), but only when it
    holds the model, which would be copied into each DataLoader worker.

    Attributes:
        tokenizer: Names the padding and the first decoder token.
        pad_to_multiple_of: Rounds both lengths up to a multiple of this; None means to the longest row.
    """

    tokenizer: PreTrainedTokenizerBase
    pad_to_multiple_of: int | None = None

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Returns a batch.

        Args:
            examples: Each with `input_ids`, shape (source_length,), and `labels`, shape (target_length,); or packed
                rows of such.

        Returns:
            `input_ids` and `attention_mask` or `segment_ids`, shape (batch, source_length), `labels` and
            `decoder_input_ids`, for packed rows `decoder_segment_ids` too, shape (batch, target_length).
        """
        sources, targets = _pieces(examples, "input_ids"), _pieces(examples, "labels")
        return self.join_pairs(sources, targets, _count_pieces(examples), is_packed=_is_packed(examples))

    def join_pairs(self, sources: Sequences, targets: Sequences, counts: Numbers, *, is_packed: bool) -> Batch:
        """Returns a batch of sources and targets.

        Args:
            sources: Sources of all rows.
            targets: The target of each.
            counts: How many pairs each row has, shape (batch,).
            is_packed: Whether a row may hold several.
        """
        labels = _join(targets, counts, IGNORED_LABEL, self.pad_to_multiple_of)
        segment_ids = _number_segments(targets, counts, self.pad_to_multiple_of) if is_packed else None
        start, pad = self.tokenizer.bos_token_id, self.tokenizer.pad_token_id
        batch = {
            **_join_inputs(sources, counts, self.tokenizer, self.pad_to_multiple_of, is_packed=is_packed),
            "labels": labels,
            "decoder_input_ids": shift_right(labels, start, pad, segment_ids),
        }
        return batch if segment_ids is None else {**batch, "decoder_segment_ids": segment_ids}


@dataclass
class DenoisingCollator:
    """Makes pretraining pairs out of pieces of documents, by the tasks of a mixture.

    For each piece a throw of chance decides, see `mixture.py`; with the tasks that are the default:

        piece  I love cats  →  I love </s> → cats </s>                          (next words: half of the pieces)
                            →  I <extra_id_0> cats </s> → <extra_id_0> love </s>         (spans: the other half)

    In a packed row the tasks were drawn when it was packed, so that the lengths fit; which spans are cut and how the
    contexts of the row are divided is drawn here, anew in every epoch.

    Attributes:
        tokenizer: Names the special tokens and the sentinels.
        tasks: The mixture; the same as for packing.
        pad_to_multiple_of: As for `Seq2SeqCollator`.
        seed: Another seed gives other pairs.
        epoch: Another epoch gives other pairs of the same pieces.
    """

    tokenizer: PreTrainedTokenizerBase
    tasks: Sequence[Task] = field(default_factory=denoising_tasks)
    pad_to_multiple_of: int | None = None
    seed: int = 0
    epoch: int = 0
    _sentinels: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Looks the sentinels up."""
        self._sentinels = sentinel_ids(self.tokenizer)

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Returns a batch of pairs.

        Args:
            examples: Each with `input_ids`, shape (length,), without special tokens; or packed rows of such.

        Returns:
            As `Seq2SeqCollator`.
        """
        pieces, counts = _pieces(examples, "input_ids"), _count_pieces(examples)
        generator = _seed_generator(examples, pieces, self.seed, self.epoch)
        chosen, splits = self._find_tasks(examples, pieces.lengths, counts, generator)
        sources, targets = make_pairs(
            pieces,
            generator,
            self.tasks,
            chosen,
            splits,
            sentinel_token_ids=self._sentinels,
            eos_token_id=self.tokenizer.eos_token_id,
        )
        collator = Seq2SeqCollator(self.tokenizer, self.pad_to_multiple_of)
        return collator.join_pairs(sources, targets, counts, is_packed=_is_packed(examples))

    def _find_tasks(
        self, examples: Sequence[Example], lengths: Numbers, counts: Numbers, generator: np.random.Generator
    ) -> tuple[Numbers, Numbers]:
        """Returns the task and the split of each piece: those of packing, splits exchanged, or drawn now."""
        if "task" not in examples[0]:
            return draw_tasks(lengths, self.tasks, generator)
        chosen, splits = (_join_column(examples, name) for name in ("task", "split"))
        is_next_word = np.array([task.is_next_word for task in self.tasks])[chosen]
        rows = find_owners(counts)[is_next_word]
        splits[is_next_word] = exchange_splits(splits[is_next_word], lengths[is_next_word], rows, generator)
        return chosen, splits


@dataclass
class CausalLMCollator:
    """Puts documents between `<s>` and `</s>` and pads them, for the decoder-only shape.

        input_ids  <s>  I  love  cats  </s>     labels  .  I  love  cats  </s>
                   <s>  No </s>  p     p                .  No </s>  .     .

    and in one packed row, where the model asks nothing across the seam:

        input_ids    <s>  I  love  cats  </s>  <s>  No  </s>
        labels        .   I  love  cats  </s>   .   No  </s>
        segment_ids  1    1  1     1     1     2    2   2

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
        pieces = _pieces(examples, "input_ids")
        if "labels" in examples[0]:
            input_ids, labels = pieces, _pieces(examples, "labels")
        else:
            bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
            input_ids, labels = frame_for_causal_lm(pieces, bos_token_id=bos, eos_token_id=eos)
        return _join_labelled(input_ids, labels, examples, self.tokenizer, self.pad_to_multiple_of)


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
    _regular_token_ids: Ids = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Lists the tokens that may be hidden or put in."""
        self._regular_token_ids = _find_regular_token_ids(self.tokenizer, "Masked language modelling")

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Returns a padded batch.

        Args:
            examples: Each with `input_ids`, shape (length,), without special tokens.

        Returns:
            `input_ids`, `attention_mask` and `labels`, shape (batch, length + 1).
        """
        pieces = _pieces(examples, "input_ids")
        input_ids, labels = mask_tokens(
            pieces.append(self.tokenizer.eos_token_id),
            _seed_generator(examples, pieces, self.seed, self.epoch),
            mask_token_id=self.tokenizer.mask_token_id,
            regular_token_ids=self._regular_token_ids,
            mlm_probability=self.mlm_probability,
        )
        return _join_labelled(input_ids, labels, examples, self.tokenizer, self.pad_to_multiple_of)


@dataclass
class ClassificationCollator:
    """Pads texts and keeps their labels.

        input_ids  I  love cats </s>      attention_mask  1 1 1 1      labels  2
                   No </s> p    p                         1 1 0 0              0

    `transformers.DataCollatorWithPadding` gives the same tensors (a test holds this), but takes the texts one by one.

    In training each token may be hidden, so that no text can be told by the same few words in every epoch:

        input_ids  I  <mask> cats </s>

    Attributes:
        tokenizer: Names the special tokens.
        pad_to_multiple_of: As for `Seq2SeqCollator`.
        mask_probability: Probability with which each token that is not special is hidden in training.
        seed: Another seed hides other tokens.
        epoch: Another epoch hides other tokens; None, as in validation, hides none.

    Raises:
        ValueError: Tokens are to be hidden, and the tokenizer has no mask token.
    """

    tokenizer: PreTrainedTokenizerBase
    pad_to_multiple_of: int | None = None
    mask_probability: float = 0.0
    seed: int = 0
    epoch: int | None = None
    _regular_token_ids: Ids = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Lists the tokens that may be hidden."""
        if self.mask_probability:
            self._regular_token_ids = _find_regular_token_ids(self.tokenizer, "`mask_probability`")

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Returns a padded batch.

        Args:
            examples: Each with `input_ids`, shape (length,), and `labels`, as `tokenize_classification` makes them.

        Returns:
            `input_ids` and `attention_mask`, shape (batch, length), and `labels`, shape (batch,), of several labels
            shape (batch, num_labels).
        """
        pieces, counts = _pieces(examples, "input_ids"), _count_pieces(examples)
        if self.mask_probability and self.epoch is not None:
            pieces = self._hide_tokens(pieces, _seed_generator(examples, pieces, self.seed, self.epoch))
        return {
            **_join_inputs(pieces, counts, self.tokenizer, self.pad_to_multiple_of, is_packed=False),
            "labels": torch.tensor([example["labels"] for example in examples]),
        }

    def _hide_tokens(self, pieces: Sequences, generator: np.random.Generator) -> Sequences:
        is_hidden = generator.random(len(pieces.ids)) < self.mask_probability
        is_hidden &= np.isin(pieces.ids, self._regular_token_ids, kind="table")
        return Sequences(np.where(is_hidden, self.tokenizer.mask_token_id, pieces.ids), pieces.lengths)


@dataclass
class TwiceCollator:
    """Makes a batch in which each example is followed by itself, see `r_drop.py`.

    Attributes:
        collate: Makes a batch of examples.
    """

    collate: Callable[[Sequence[Any]], Any]

    def __call__(self, examples: Sequence[Any]) -> Any:
        """Returns a batch of twice as many rows as there are examples."""
        return self.collate([example for example in examples for _ in range(2)])


def replace_collator(train_dataloader: Any, change: Callable[[Any], Any]) -> None:
    """Gives the loader of a training another collator; the one for validation keeps its own.

    Args:
        train_dataloader: As a callback of Trainer gets it.
        change: Returns the new collator for the present one.
    """
    # accelerate wraps the loader that collates.
    loader = getattr(train_dataloader, "base_dataloader", train_dataloader)
    if hasattr(loader, "collate_fn"):
        loader.collate_fn = change(loader.collate_fn)


class CollateByEpoch(TrainerCallback):
    """Makes the training batches of each epoch differ: hands the epoch to a collator that has an `epoch`.

    A stream is one epoch to Trainer; its examples say themselves which pass they are from.
    """

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: DataLoader | None = None,
        **kwargs: Any,
    ) -> None:
        """Replaces the collator of the training loader; the one for validation stays as it was made."""

        def change(collator: Any) -> Any:
            if isinstance(collator, TwiceCollator):
                return TwiceCollator(change(collator.collate))
            if not isinstance(collator, (DenoisingCollator, MaskedLMCollator, ClassificationCollator)):
                return collator
            # A resumed run begins in the middle of an epoch, such as 1.5.
            return dataclasses.replace(collator, epoch=int(state.epoch or 0))

        replace_collator(train_dataloader, change)


def _find_regular_token_ids(tokenizer: PreTrainedTokenizerBase, purpose: str) -> Ids:
    """Returns the ids of a vocabulary that are not special, ascending, if it has a mask to hide them behind."""
    if tokenizer.mask_token_id is None:
        raise ValueError(f"{purpose} needs a tokenizer with a mask token, but it has none.")
    marked = [index for index, token in tokenizer.added_tokens_decoder.items() if token.special]
    return np.setdiff1d(np.arange(len(tokenizer)), np.array([*marked, *tokenizer.all_special_ids], dtype=np.int64))


def _seed_generator(examples: Sequence[Example], pieces: Sequences, seed: int, epoch: int) -> np.random.Generator:
    digest = hashlib.blake2b(pieces.ids.tobytes(), digest_size=16).digest()
    return np.random.default_rng([seed, epoch + examples[0].get(PASS, 0), int.from_bytes(digest, "little")])


def _is_packed(examples: Sequence[Example]) -> bool:
    return LENGTHS_OF["input_ids"] in examples[0]


def _pieces(examples: Sequence[Example], name: str) -> Sequences:
    """Returns the sequences of all rows: those that were packed into a row, or the one that it is."""
    sequences = Sequences.of(example[name] for example in examples)
    if not _is_packed(examples):
        return sequences
    return Sequences(sequences.ids, _join_column(examples, LENGTHS_OF[name]))


def _count_pieces(examples: Sequence[Example]) -> Numbers:
    """Returns how many sequences each row holds."""
    name = LENGTHS_OF["input_ids"]
    return np.array([len(example[name]) if name in example else 1 for example in examples])


def _join_column(examples: Sequence[Example], name: str) -> Numbers:
    """Returns the numbers of all rows; a row that is not packed has one."""
    return np.concatenate([np.atleast_1d(example[name]) for example in examples]).astype(np.int64)


def _join_labelled(
    input_ids: Sequences,
    labels: Sequences,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    multiple: int | None,
) -> Batch:
    counts = _count_pieces(examples)
    return {
        **_join_inputs(input_ids, counts, tokenizer, multiple, is_packed=_is_packed(examples)),
        "labels": _join(labels, counts, IGNORED_LABEL, multiple),
    }


def _join_inputs(
    pieces: Sequences, counts: Numbers, tokenizer: PreTrainedTokenizerBase, multiple: int | None, *, is_packed: bool
) -> Batch:
    return {
        "input_ids": _join(pieces, counts, tokenizer.pad_token_id, multiple),
        # The one sequence of a row that is not packed has number 1, and padding 0: a mask.
        "segment_ids" if is_packed else "attention_mask": _number_segments(pieces, counts, multiple),
    }


def _number_segments(pieces: Sequences, counts: Numbers, multiple: int | None) -> torch.Tensor:
    numbers = np.repeat(find_positions(counts) + 1, pieces.lengths)
    return _join(Sequences(numbers, pieces.lengths), counts, 0, multiple)


def _join(pieces: Sequences, counts: Numbers, value: int, multiple: int | None) -> torch.Tensor:
    """Returns the sequences of each row end to end, shape (batch, longest), filled up with `value` on the right.

    Args:
        pieces: Sequences of all rows.
        counts: How many of them each row holds, shape (batch,).
        value: What padding is.
        multiple: What the length of the rows is rounded up to.
    """
    lengths = np.add.reduceat(pieces.lengths, np.cumsum(counts) - counts)
    longest = lengths.max() + -lengths.max() % (multiple or 1)
    joined = np.full((len(counts), longest), value, dtype=np.int64)
    joined[np.arange(longest) < lengths[:, None]] = pieces.ids
    return torch.from_numpy(joined)
