"""Turn token ids into training pairs: one pure function per objective.

Each takes the ids of a document without special tokens and returns arrays of ids, and each draws its randomness from
a NumPy generator that the caller seeds, so that the same seed gives the same pair.

    function            shape of model      what is to be predicted
    split_for_next_word encoder-decoder     how the document goes on
    corrupt_spans       encoder-decoder     the spans that were cut out
    frame_for_causal_lm decoder only        every next token
    mask_tokens         encoder only        the tokens that were masked
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

IGNORED_LABEL = -100

Ids = NDArray[np.int64]


def split_for_next_word(
    ids: ArrayLike, generator: np.random.Generator, *, eos_token_id: int, split: int | None = None
) -> tuple[Ids, Ids]:
    """Splits a document at a random point into the context so far and what follows.

    The encoder reads the context; the decoder writes what follows, each word from the context and the words before
    it, never from those after. Each of the `length - 1` points between two tokens is equally likely, so over many
    epochs every token of a document is at some time the first one to be predicted:

        document   I    love  cats
        split           |            or              |
        source     I    </s>               I    love  </s>
        target     love cats  </s>         cats </s>

    A document of one token has no such point: its context is empty and its source is `</s>` alone.

    Args:
        ids: The document, shape (length,), without special tokens.
        generator: Draws the split point.
        eos_token_id: Closes the source and the target.
        split: Tokens of the context, where they were drawn before; None draws them now.

    Returns:
        The source, shape (split + 1,), and the target, shape (length - split + 1,).

    Raises:
        ValueError: The document is empty.

    Source:
        Prefix language modelling in "Exploring the Limits of Transfer Learning" (Raffel et al., 2020), section 3.2.1;
        ours closes the source with `</s>` too, so that it has the form of every other source.
    """
    document = _as_document(ids)
    if split is None:
        split = int(generator.integers(1, len(document))) if len(document) > 1 else 0
    return np.append(document[:split], eos_token_id), np.append(document[split:], eos_token_id)


def span_corruption_lengths(
    inputs_length: int, noise_density: float = 0.15, mean_noise_span_length: float = 3.0
) -> tuple[int, int]:
    """Returns how long the source and the target of `corrupt_spans` will be: chance has no part in it.

    Example:
        Of 12 tokens at density 0.25 and mean length 1.5, 3 tokens in 2 spans are cut out: the source holds 9 tokens,
        2 sentinels and `</s>`, the target 3 tokens, 2 sentinels and `</s>`: (12, 6).

    Args:
        inputs_length: Tokens of the document, without special tokens.
        noise_density: Fraction of the tokens to cut out, above 0 and below 1.
        mean_noise_span_length: Average tokens in a span that is cut out, at least 1.

    Returns:
        The source length and the target length in tokens, `</s>` and sentinels included.

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
    for length in range(max_source_length + max_target_length, 0, -1):
        source_length, target_length = span_corruption_lengths(length, noise_density, mean_noise_span_length)
        if source_length <= max_source_length and target_length <= max_target_length:
            return length
    raise ValueError(
        "Span corruption needs at least 2 source and 3 target tokens, but `max_source_length` is "
        f"{max_source_length} and `max_target_length` is {max_target_length}."
    )


def corrupt_spans(
    ids: ArrayLike,
    generator: np.random.Generator,
    *,
    sentinel_token_ids: Sequence[int],
    eos_token_id: int,
    noise_density: float = 0.15,
    mean_noise_span_length: float = 3.0,
) -> tuple[Ids, Ids]:
    """Cuts random spans out of a document; the target names each gap and says what stood there.

    Drawn with 12 tokens, density 0.25 and mean length 1.5, so 3 tokens in 2 spans:

        document  the small dog did not run because it was very tired .
        cut                   ^^^                       ^^^ ^^^^
        source    the small <0> did not run because it <1> tired . </s>
        target    <0> dog <1> was very </s>

    where <0> and <1> are the sentinels `<extra_id_0>` and `<extra_id_1>`. The lengths depend only on the length of
    the document (`span_corruption_lengths`); where the spans lie and how long each is, is drawn uniformly from all
    ways in which no two spans touch.

    Args:
        ids: The document, shape (length,), without special tokens.
        generator: Draws the spans.
        sentinel_token_ids: Ids of the sentinels in order, at least one per span.
        eos_token_id: Closes the source and the target.
        noise_density: Fraction of the tokens to cut out, above 0 and below 1.
        mean_noise_span_length: Average tokens in a span that is cut out, at least 1.

    Returns:
        The source, shape (source_length,), and the target, shape (target_length,).

    Raises:
        ValueError: The document is empty, needs more sentinels than there are, or an argument is outside its bounds.

    Source:
        "Exploring the Limits of Transfer Learning" (Raffel et al., 2020), section 3.1.4. There a document always
        begins with kept and ends with cut tokens; here either end may be kept or cut, and no sentinel closes the
        target, since `</s>` does.
    """
    document = _as_document(ids)
    num_noise_tokens, num_spans = _count_noise(len(document), noise_density, mean_noise_span_length)
    if num_spans > len(sentinel_token_ids):
        raise ValueError(
            f"A document of {len(document)} tokens with {num_spans} spans cut out needs {num_spans} sentinels, but "
            f"the tokenizer has {len(sentinel_token_ids)}: cut documents shorter, raise `mean_noise_span_length` "
            f"({mean_noise_span_length}) or train the tokenizer with more sentinels."
        )
    cut, span_lengths = _draw_spans(len(document), num_noise_tokens, num_spans, generator)
    # Where each span begins among the tokens that are cut out.
    first = np.cumsum(span_lengths) - span_lengths
    sentinels = np.asarray(sentinel_token_ids[:num_spans], dtype=np.int64)
    source = np.insert(np.delete(document, cut), cut[first] - first, sentinels)
    target = np.insert(document[cut], first, sentinels)
    return np.append(source, eos_token_id), np.append(target, eos_token_id)


def frame_for_causal_lm(ids: ArrayLike, *, bos_token_id: int, eos_token_id: int) -> tuple[Ids, Ids]:
    """Puts a document between `<s>` and `</s>`; every token but the first is to be predicted.

        input_ids  <s>  I  love  cats  </s>
        labels     <s>  I  love  cats  </s>

    The labels stand where their tokens stand, as causal models in Transformers expect: the model itself compares the
    prediction at each position with the label of the next.

    Args:
        ids: The document, shape (length,), without special tokens.
        bos_token_id: Opens the sequence.
        eos_token_id: Closes it.

    Returns:
        The input ids and the labels, both of shape (length + 2,).

    Raises:
        ValueError: The document is empty.
    """
    framed = np.concatenate(([bos_token_id], _as_document(ids), [eos_token_id]))
    return framed, framed.copy()


def mask_tokens(
    ids: ArrayLike,
    generator: np.random.Generator,
    *,
    mask_token_id: int,
    regular_token_ids: Ids,
    mlm_probability: float = 0.3,
    mask_fraction: float = 0.8,
    random_fraction: float = 0.1,
) -> tuple[Ids, Ids]:
    """Hides some tokens, which are to be predicted from all the others.

    Drawn with 10 tokens and probability 0.3; of the 3 chosen ones, one became `<mask>`, one another token, and one
    stayed (a dot is a label of -100, which counts for nothing):

        input_ids  the small <mask> did not run because green was tired </s>
        labels      .   .     dog    .   .  run    .     it    .    .    .

    Exactly `round(mlm_probability * regular)` tokens are chosen, and at least one, so that no sequence is without a
    label. Special tokens are never chosen and never put in.

    Args:
        ids: The sequence, shape (length,); it may hold special tokens.
        generator: Draws the positions and what becomes of them.
        mask_token_id: Id of `<mask>`.
        regular_token_ids: All ids that are not special, ascending, shape (number of them,).
        mlm_probability: Fraction of the regular tokens to choose, above 0 and at most 1.
        mask_fraction: Of the chosen ones, how many become `<mask>`, on average.
        random_fraction: How many become a random regular token, on average; the rest stay as they are.

    Returns:
        The input ids and the labels, both of shape (length,).

    Raises:
        ValueError: The sequence holds no regular token, or a fraction is outside its bounds.

    Source:
        "BERT" (Devlin et al., 2019), section 3.1, with the 30 % that "Should You Mask 15 % in Masked Language
        Modeling?" (Wettig et al., 2023) found better; there the number chosen varies, here it is exact.
    """
    _require_fraction("mlm_probability", mlm_probability)
    if min(mask_fraction, random_fraction) < 0 or mask_fraction + random_fraction > 1:
        raise ValueError(
            "`mask_fraction` and `random_fraction` must not be negative and sum to at most 1, "
            f"but they are {mask_fraction} and {random_fraction}."
        )
    input_ids = _as_document(ids).copy()
    regular = np.flatnonzero(np.isin(input_ids, regular_token_ids, kind="table"))
    if not len(regular):
        raise ValueError(f"A sequence to be masked must hold a token that is not special, but it is {input_ids}.")
    num_chosen = max(1, round(mlm_probability * len(regular)))
    chosen = generator.choice(regular, num_chosen, replace=False)
    labels = np.full_like(input_ids, IGNORED_LABEL)
    labels[chosen] = input_ids[chosen]
    fate = generator.random(num_chosen)
    masked, randomised = chosen[fate < mask_fraction], chosen[fate >= 1 - random_fraction]
    input_ids[masked] = mask_token_id
    input_ids[randomised] = generator.choice(regular_token_ids, len(randomised))
    return input_ids, labels


def _as_document(ids: ArrayLike) -> Ids:
    document = np.asarray(ids, dtype=np.int64)
    if document.ndim != 1 or not len(document):
        raise ValueError(f"A document must be a sequence of at least one id, but its shape is {document.shape}.")
    return document


def _require_fraction(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"`{name}` must be above 0 and at most 1, but it is {value}.")


def _count_noise(inputs_length: int, noise_density: float, mean_noise_span_length: float) -> tuple[int, int]:
    """Returns how many tokens are cut out and in how many spans."""
    if inputs_length < 1:
        raise ValueError(f"`inputs_length` must be at least 1, but it is {inputs_length}.")
    if not 0 < noise_density < 1:
        raise ValueError(f"`noise_density` must be above 0 and below 1, but it is {noise_density}.")
    if mean_noise_span_length < 1:
        raise ValueError(f"`mean_noise_span_length` must be at least 1, but it is {mean_noise_span_length}.")
    num_noise_tokens = min(max(round(inputs_length * noise_density), 1), max(inputs_length - 1, 1))
    num_spans = max(round(num_noise_tokens / mean_noise_span_length), 1)
    # Spans that do not touch need a kept token between each two.
    return num_noise_tokens, min(num_spans, inputs_length - num_noise_tokens + 1)


def _draw_spans(length: int, num_noise_tokens: int, num_spans: int, generator: np.random.Generator) -> tuple[Ids, Ids]:
    """Returns the positions that spans cover, ascending, and the length of each span.

    No two spans touch; all ways to place them so are equally likely.
    """
    span_lengths = _split_randomly(num_noise_tokens, num_spans, generator)
    # One kept run before, between and after the spans; only the outer two may be empty.
    kept_lengths = _split_randomly(length - num_noise_tokens + 2, num_spans + 1, generator)
    kept_lengths[[0, -1]] -= 1
    return np.repeat(np.cumsum(kept_lengths[:-1]), span_lengths) + np.arange(num_noise_tokens), span_lengths


def _split_randomly(total: int, num_parts: int, generator: np.random.Generator) -> Ids:
    """Returns the sizes of parts of at least one each, uniform over all ways to split: 5 in 2 → 1+4, 2+3, 3+2, 4+1."""
    cuts = np.sort(generator.choice(total - 1, num_parts - 1, replace=False, shuffle=False)) + 1
    return np.diff(cuts, prepend=0, append=total)
