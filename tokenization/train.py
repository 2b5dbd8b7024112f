"""Training of the byte-level BPE tokenizer from a stream of texts."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from kakehashi.tokenization.chat import chat_template, check_scalar_values
from kakehashi.tokenization.pretokenization import build_pre_tokenizer
from kakehashi.tokenization.special_tokens import (
    BOS_TOKEN,
    EOS_TOKEN,
    MASK_TOKEN,
    NUM_BYTES,
    PAD_TOKEN,
    list_special_tokens,
)
from kakehashi.tokenization.vocabulary import add_fillers

DEFAULT_VOCAB_SIZE = 16_000
DEFAULT_MAX_TOKEN_BYTES = 48


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int = DEFAULT_VOCAB_SIZE,
    num_sentinels: int = 100,
    extra_special_tokens: Sequence[str] = (),
    min_frequency: int = 2,
    max_token_length: int = DEFAULT_MAX_TOKEN_BYTES,
    pattern: str | None = None,
    pad_to_multiple_of: int | None = None,
    allow_smaller: bool = False,
    show_progress: bool = True,
) -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE tokenizer trained on `texts`, ready for `save_pretrained`.

    The texts are read once; memory grows with the number of distinct pre-tokens, not with the number of texts.
    Special tokens written in the texts count as ordinary characters.

    Args:
        texts: documents or sentences, any number of them.
        vocab_size: size of the whole vocabulary: special tokens, 256 bytes and merges.
        num_sentinels: number of span-corruption sentinels.
        extra_special_tokens: further special tokens, such as `<|tool|>`; their ids follow those of the sentinels.
        min_frequency: how often a pair must occur to be merged.
        max_token_length: longest token, in bytes (a kana or kanji takes three).
        pattern: regular expression of the pre-tokens; None means the bunsetsu split, `split_pattern()`.
        pad_to_multiple_of: round `vocab_size` up to a multiple of this before training; None leaves it.
        allow_smaller: accept a vocabulary smaller than `vocab_size` if the texts give no more merges; entries that no
            text makes then round it up to a multiple of `pad_to_multiple_of`.
        show_progress: draw a progress bar on stderr.

    Raises:
        ValueError: if an argument is out of range, `texts` holds no text or a lone surrogate, or `vocab_size`
            cannot be reached and `allow_smaller` is false.
        TypeError: if `texts` is one string or holds something else than strings.

    Source:
        Sennrich et al. 2016 (byte pair encoding), Radford et al. 2019 section 2.2 (on bytes); the split is ours.
    """
    special_tokens = list_special_tokens(num_sentinels, extra_special_tokens)
    vocab_size = _round_up(vocab_size, pad_to_multiple_of)
    _check_sizes(vocab_size, len(special_tokens), min_frequency, max_token_length)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = build_pre_tokenizer(pattern)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        # A mask takes the space before it with it, for the token that it hides begins with one.
        special_tokens=[
            AddedToken(token, special=True, normalized=False, lstrip=token == MASK_TOKEN) for token in special_tokens
        ],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=max_token_length,
        show_progress=False,
    )
    with _Reading(texts, show_progress) as reading:
        tokenizer.train_from_iterator(reading, trainer=trainer)
    reached = tokenizer.get_vocab_size()
    if reached < vocab_size and not allow_smaller:
        raise ValueError(
            f"`vocab_size` of {vocab_size:,} cannot be reached: {reading.num_texts:,} texts of "
            f"{reading.num_characters:,} characters give {reached:,} entries at `min_frequency` {min_frequency}. "
            f"Ask for at most {reached:,}, give more text, or accept less (`allow_smaller`, `--allow-smaller`)."
        )
    if reached < vocab_size and pad_to_multiple_of is not None:
        tokenizer = _add_fillers(tokenizer, pad_to_multiple_of)
    return _wrap(tokenizer, special_tokens, chat_template(extra_special_tokens))


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Saves a tokenizer as `save_pretrained` does, with the chat template where transformers.js reads it.

    Transformers would put the template into a file of its own, which transformers.js leaves alone; in
    `tokenizer_config.json` both find it.

    Args:
        tokenizer: any tokenizer of Transformers.
        folder: made if it is not there.
    """
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def _add_fillers(tokenizer: Tokenizer, multiple: int) -> Tokenizer:
    content = json.loads(tokenizer.to_str())
    add_fillers(content["model"]["vocab"], multiple)
    return Tokenizer.from_str(json.dumps(content))


def _round_up(vocab_size: int, multiple: int | None) -> int:
    if multiple is None:
        return vocab_size
    if multiple < 1:
        raise ValueError(f"`pad_to_multiple_of` must be 1 or more, got {multiple}.")
    return -(-vocab_size // multiple) * multiple


def _check_sizes(vocab_size: int, num_special_tokens: int, min_frequency: int, max_token_length: int) -> None:
    smallest = num_special_tokens + NUM_BYTES
    if vocab_size < smallest:
        raise ValueError(
            f"`vocab_size` must be at least {smallest} ({num_special_tokens} special tokens and {NUM_BYTES} bytes), "
            f"got {vocab_size}."
        )
    if min_frequency < 1:
        raise ValueError(f"`min_frequency` must be 1 or more, got {min_frequency}.")
    if max_token_length < 2:
        raise ValueError(f"`max_token_length` must be 2 bytes or more, got {max_token_length}.")


class _Reading:
    """The texts, checked and counted while the trainer pulls them, with a progress display around it."""

    def __init__(self, texts: Iterable[str], show_progress: bool) -> None:
        if isinstance(texts, str):
            raise TypeError("`texts` must be an iterable of strings, got one string: put it into a list.")
        self.texts = texts
        self.num_texts = 0
        self.num_characters = 0
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=not show_progress,
        )
        self.task = self.progress.add_task("reading")

    def __enter__(self) -> "_Reading":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __iter__(self) -> Iterator[str]:
        for index, text in enumerate(self.texts):
            if not isinstance(text, str):
                raise TypeError(f"`texts` must hold strings, got {type(text).__name__} as text number {index}.")
            if not text:
                continue
            check_scalar_values(text, f"text number {index} of `texts`")
            self.num_texts += 1
            self.num_characters += len(text)
            if self.num_texts % 1000 == 0:
                self._describe("reading")
            yield text
        if not self.num_texts:
            raise ValueError("`texts` must hold at least one text that is not empty, got none.")
        self._describe("merging")

    def _describe(self, doing: str) -> None:
        description = f"{doing}: {self.num_texts:,} texts, {self.num_characters / 1e6:.1f} M characters"
        self.progress.update(self.task, description=description)


def _wrap(tokenizer: Tokenizer, special_tokens: list[str], template: str) -> PreTrainedTokenizerFast:
    eos_id = tokenizer.token_to_id(EOS_TOKEN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS_TOKEN}",
        pair=f"$A {EOS_TOKEN} $B {EOS_TOKEN}",
        special_tokens=[(EOS_TOKEN, eos_id)],
    )
    named = [PAD_TOKEN, BOS_TOKEN, EOS_TOKEN, MASK_TOKEN]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_TOKEN,
        bos_token=BOS_TOKEN,
        eos_token=EOS_TOKEN,
        mask_token=MASK_TOKEN,
        extra_special_tokens=[token for token in special_tokens if token not in named],
        model_input_names=["input_ids", "attention_mask"],
        padding_side="right",
        truncation_side="right",
        clean_up_tokenization_spaces=False,
        chat_template=template,
    )
