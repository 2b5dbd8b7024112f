"""Turn token ids into training pairs: one pure function per objective.

Each takes documents without special tokens and returns as many sequences of ids, and each draws its randomness from a
NumPy generator that the caller seeds, so that the same seed gives the same pairs.

    function            shape of model      what is to be predicted
    split_for_next_word encoder-decoder     how the document goes on
    corrupt_spans       encoder-decoder     the spans that were cut out
    frame_for_causal_lm decoder only        every next token
    mask_tokens         encoder only        the tokens that were masked
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakehashi.training.sequences import Ids, Numbers, Sequences, choose, find_positions

IGNORED_LABEL = -100

# Of the tokens that `mask_tokens` chooses; the rest stay as they are.
_MASK_FRACTION, _RANDOM_FRACTION = 0.8, 0.1


def draw_splits(lengths: Numbers, generator: np.random.Generator) -> Numbers:
    """Draws where documents are split for `split_for_next_word`.

    Args:
        lengths: Tokens of each document, shape (documents,).
        generator: Draws; each point between two tokens is equally likely.

    Returns:
        Tokens of each context, shape (documents,); 0 where a document of one token has no such point.
    """
    return np.where(lengths > 1, generator.integers(1, np.maximum(lengths, 2)), 0)


def split_for_next_word(documents: Sequences, splits: Numbers, *, eos_token_id: int) -> tuple[Sequences, Sequences]:
    """Splits documents into the context so far and what follows.

    The encoder reads the context; the decoder writes what follows, each word from the context and the words before
    it, never from those after. `draw_splits` takes each of the `length - 1` points between two tokens equally often,
    so over many epochs every token of a document is at some time the first one to be predicted:

        document   I    love  cats
        split           |            or              |
        source     I    </s>               I    love  </s>
        target     love cats  </s>         cats </s>

    The context of a document of one token is empty: its source is `</s>` alone.

    Args:
        documents: Documents without special tokens.
        splits: Tokens of each context, shape (documents,).
        eos_token_id: Closes the source and the target.

    Returns:
        The sources, of `split + 1` tokens each, and the targets, of `length - split + 1`.

    Raises:
        ValueError: A document is empty.

    Source:
        Prefix language modelling in "Exploring the Limits of Transfer Learning" (Raffel et al., 2020), section 3.2.1;
        ours closes the source with `</s>` too, so that it has the form of every other source.
    """
    _require_tokens(documents)
    is_context = documents.positions < np.repeat(splits, documents.lengths)
    source, target = documents.keep(is_context), documents.keep(~is_context)
    return source.append(eos_token_id), target.append(eos_token_id)


def span_corruption_lengths(
    inputs_length: int | Numbers, noise_density: float = 0.15, mean_noise_span_length: float = 3.0
) -> tuple[Numbers, Numbers]:
    """Returns how long the source and the target of `corrupt_spans` will be: chance has no part in it.

    Example:
        Of 12 tokens at density 0.25 and mean length 1.5, 3 tokens in 2 spans are cut out: the source holds 9 tokens,
        2 sentinels and `</s>`, the target 3 tokens, 2 sentinels and `</s>`: (12, 6).

    Args:
        inputs_length: Tokens of the document, without special tokens; or those of several, shape (documents,).
        noise_density: Fraction of the tokens to cut out, above 0 and below 1.
        mean_noise_span_length: Average tokens in a span that is cut out, at least 1.

    Returns:
        The source length and the target length in tokens, `</s>` and sentinels included, of the shape of the input.

    Raises:
        ValueError: An argument is outside its bounds.
    """
    num_noise_tokens, num_spans = _count_noise(inputs_length, noise_density, mean_noise_span_length)
    return inputs_length - num_noise_tokens + num_spans + 1, num_noise_tokens + num_spans + 1


def longest_corruptible_length(
    max_source_length: int,
    max_target_length: int,
    noise_density: float = 0.15,
    mean_noise_span_length: float = 3.0,
) -> int:
    """Returns how long a document may be for its corrupted source and target both to fit.

    Cutting documents to this length leaves the least padding when all are long.

    Args:
        max_source_length: Most tokens of a source, `</s>` included.
        max_target_length: Most tokens of a target, `</s>` included.
        noise_density: As for `span_corruption_lengths`.
        mean_noise_span_length: As for `span_corruption_lengths`.

    Returns:
        The most tokens of a document, without special tokens.

    Raises:
        ValueError: Not even one token fits, or an argument is outside its bounds.
    """
    # A span of one or more tokens is replaced by one sentinel, so the document is at most the sum of both.
    lengths = np.arange(1, max_source_length + max_target_length + 1)
    source_lengths, target_lengths = span_corruption_lengths(lengths, noise_density, mean_noise_span_length)
    fits = (source_lengths <= max_source_length) & (target_lengths <= max_target_length)
    if fits.any():
        return int(lengths[fits].max())
    raise ValueError(
        "Span corruption needs at least 2 source and 3 target tokens, but `max_source_length` is "
        f"{max_source_length} and `max_target_length` is {max_target_length}."
    )


def corrupt_spans(
    documents: Sequences,
    generator: np.random.Generator,
    *,
    sentinel_token_ids: Sequence[int],
    eos_token_id: int,
    noise_density: float = 0.15,
    mean_noise_span_length: float = 3.0,
) -> tuple[Sequences, Sequences]:
    """Cuts random spans out of documents; the target names each gap and says what stood there.

    Drawn with 12 tokens, density 0.25 and mean length 1.5, so 3 tokens in 2 spans:

        document  the small dog did not run because it was very tired .
        cut                   ^^^                       ^^^ ^^^^
        source    the small <0> did not run because it <1> tired . </s>
        target    <0> dog <1> was very </s>

    where <0> and <1> are the sentinels `<extra_id_0>` and `<extra_id_1>`. The lengths depend only on the length of
    the document (`span_corruption_lengths`); where the spans lie and how long each is, is drawn uniformly from all
    ways in which no two spans touch.

    Args:
        documents: Documents without special tokens.
        generator: Draws the spans.
        sentinel_token_ids: Ids of the sentinels in order, at least one per span.
        eos_token_id: Closes the source and the target.
        noise_density: Fraction of the tokens to cut out, above 0 and below 1.
        mean_noise_span_length: Average tokens in a span that is cut out, at least 1.

    Returns:
        The sources and the targets.

    Raises:
        ValueError: A document is empty, needs more sentinels than there are, or an argument is outside its bounds.

    Source:
        "Exploring the Limits of Transfer Learning" (Raffel et al., 2020), section 3.1.4. There a document always
        begins with kept and ends with cut tokens; here either end may be kept or cut, and no sentinel closes the
        target, since `</s>` does.
    """
    _require_tokens(documents)
    num_noise_tokens, num_spans = _count_noise(documents.lengths, noise_density, mean_noise_span_length)
    most = int(num_spans.max(initial=0))
    if most > len(sentinel_token_ids):
        raise ValueError(
            f"A document of {documents.lengths[num_spans.argmax()]} tokens with {most} spans cut out needs {most} "
            f"sentinels, but the tokenizer has {len(sentinel_token_ids)}: cut documents shorter, raise "
            f"`mean_noise_span_length` ({mean_noise_span_length}) or train the tokenizer with more sentinels."
        )
    span_starts, span_lengths = _draw_spans(documents.lengths, num_noise_tokens, num_spans, generator)
    sentinels = np.asarray(sentinel_token_ids, dtype=np.int64)[find_positions(num_spans)]
    # The first token of a span gives its place to the sentinel.
    shown = documents.ids.copy()
    shown[span_starts] = sentinels
    is_cut = np.zeros(len(shown), dtype=bool)
    is_cut[np.repeat(span_starts, span_lengths) + find_positions(span_lengths)] = True
    is_hidden = is_cut.copy()
    is_hidden[span_starts] = False
    source = Sequences(shown, documents.lengths).keep(~is_hidden)
    target = documents.keep(is_cut).insert(np.cumsum(span_lengths) - span_lengths, sentinels, num_spans)
    return source.append(eos_token_id), target.append(eos_token_id)


def frame_for_causal_lm(documents: Sequences, *, bos_token_id: int, eos_token_id: int) -> tuple[Sequences, Sequences]:
    """Puts documents between `<s>` and `</s>`; every token but the first is to be predicted.

        input_ids  <s>  I  love  cats  </s>
        labels      .   I  love  cats  </s>

    The labels stand where their tokens stand, as causal models in Transformers expect: the model itself compares the
    prediction at each position with the label of the next. A dot is the label -100, which counts for nothing: nobody
    predicts `<s>`, and in a packed row Trainer would count it among the labels that it divides the loss by.

    Args:
        documents: Documents without special tokens.
        bos_token_id: Opens the sequence.
        eos_token_id: Closes it.

    Returns:
        The input ids and the labels, of `length + 2` tokens each.

    Raises:
        ValueError: A document is empty.
    """
    _require_tokens(documents)
    framed = documents.prepend(bos_token_id).append(eos_token_id)
    labels = framed.ids.copy()
    labels[framed.starts] = IGNORED_LABEL
    return framed, Sequences(labels, framed.lengths)


def mask_tokens(
    sequences: Sequences,
    generator: np.random.Generator,
    *,
    mask_token_id: int,
    regular_token_ids: Ids,
    mlm_probability: float = 0.3,
) -> tuple[Sequences, Sequences]:
    """Hides some tokens of each sequence, which are to be predicted from all the others.

    Drawn with 10 tokens and probability 0.3; of the 3 chosen ones, one became `<mask>`, one another token, and one
    stayed (a dot is a label of -100, which counts for nothing):

        input_ids  the small <mask> did not run because green was tired </s>
        labels      .   .     dog    .   .  run    .     it    .    .    .

    Exactly `round(mlm_probability * regular)` tokens of a sequence are chosen, and at least one, so that none is
    without a label. On average 8 of 10 become `<mask>`, one a random regular token, and one stays. Special tokens are
    never chosen and never put in.

    Args:
        sequences: Sequences, which may hold special tokens.
        generator: Draws the positions and what becomes of them.
        mask_token_id: Id of `<mask>`.
        regular_token_ids: All ids that are not special, ascending, shape (number of them,).
        mlm_probability: Fraction of the regular tokens to choose, above 0 and at most 1.

    Returns:
        The input ids and the labels, as long as the sequences.

    Raises:
        ValueError: A sequence holds no regular token, or the fraction is outside its bounds.

    Source:
        "BERT" (Devlin et al., 2019), section 3.1, with the 30 % that "Should You Mask 15 % in Masked Language
        Modeling?" (Wettig et al., 2023) found better; there the number chosen varies, here it is exact.
    """
    _require_fraction("mlm_probability", mlm_probability)
    is_regular = np.isin(sequences.ids, regular_token_ids, kind="table")
    regular = sequences.keep(is_regular)
    if not regular.lengths.all():
        empty = sequences.split()[int(regular.lengths.argmin())]
        raise ValueError(f"A sequence to be masked must hold a token that is not special, but it is {empty}.")
    counts = np.maximum(_round(mlm_probability * regular.lengths), 1)
    chosen = np.flatnonzero(is_regular)[choose(regular.lengths, counts, generator)]
    labels = np.full_like(sequences.ids, IGNORED_LABEL)
    labels[chosen] = sequences.ids[chosen]
    fate = generator.random(len(chosen))
    masked, randomised = chosen[fate < _MASK_FRACTION], chosen[fate >= 1 - _RANDOM_FRACTION]
    input_ids = sequences.ids.copy()
    input_ids[masked] = mask_token_id
    input_ids[randomised] = generator.choice(regular_token_ids, len(randomised))
    return Sequences(input_ids, sequences.lengths), Sequences(labels, sequences.lengths)


def _require_tokens(documents: Sequences) -> None:
    if not documents.lengths.all():
        raise ValueError(f"A document must hold at least one id, but number {documents.lengths.argmin()} holds none.")


def _require_fraction(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"`{name}` must be above 0 and at most 1, but it is {value}.")


def _count_noise(
    inputs_length: int | Numbers, noise_density: float, mean_noise_span_length: float
) -> tuple[Numbers, Numbers]:
    """Returns how many tokens are cut out and in how many spans."""
    lengths = np.asarray(inputs_length)
    if (lengths < 1).any():
        raise ValueError(f"`inputs_length` must be at least 1, but it is {lengths.min()}.")
    if not 0 < noise_density < 1:
        raise ValueError(f"`noise_density` must be above 0 and below 1, but it is {noise_density}.")
    if mean_noise_span_length < 1:
        raise ValueError(f"`mean_noise_span_length` must be at least 1, but it is {mean_noise_span_length}.")
    num_noise_tokens = _round(lengths * noise_density).clip(1, np.maximum(lengths - 1, 1))
    num_spans = np.maximum(_round(num_noise_tokens / mean_noise_span_length), 1)
    # Spans that do not touch need a kept token between each two.
    return num_noise_tokens, np.minimum(num_spans, lengths - num_noise_tokens + 1)


def _round(values: NDArray[np.floating[Any]]) -> Numbers:
    return np.rint(values).astype(np.int64)


def _draw_spans(
    lengths: Numbers, num_noise_tokens: Numbers, num_spans: Numbers, generator: np.random.Generator
) -> tuple[Numbers, Numbers]:
    """Returns where spans begin among the tokens of all documents, ascending, and how long each is.

    No two spans of a document touch; all ways to place them so are equally likely.
    """
    span_lengths = _split_randomly(num_noise_tokens, num_spans, generator)
    # One kept run before, between and after the spans of a document; only the outer two may be empty.
    kept_lengths = _split_randomly(lengths - num_noise_tokens + 2, num_spans + 1, generator)
    lasts = np.cumsum(num_spans + 1) - 1
    kept_lengths[lasts] -= 1
    kept_lengths[lasts - num_spans] -= 1
    # Before a span stand its own kept run, all earlier ones and all earlier spans.
    is_before_span = np.ones(len(kept_lengths), dtype=bool)
    is_before_span[lasts] = False
    return np.cumsum(kept_lengths)[is_before_span] + np.cumsum(span_lengths) - span_lengths, span_lengths


def _split_randomly(totals: Numbers, num_parts: Numbers, generator: np.random.Generator) -> Numbers:
    """Returns the sizes of parts of at least one each, uniform over all ways to split: 5 in 2 → 1+4, 2+3, 3+2, 4+1.

    Args:
        totals: What is split, shape (documents,).
        num_parts: In how many parts, shape (documents,).
        generator: Draws.

    Returns:
        Shape (sum of all numbers of parts,).
    """
    is_end = choose(totals - 1, num_parts - 1, generator)
    # The last part ends with the whole.
    is_end = np.insert(is_end, np.cumsum(totals - 1), True)
    return np.diff(np.flatnonzero(is_end), prepend=-1)
