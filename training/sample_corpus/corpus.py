"""The sample corpus as files: the held-out split by word × frame, and what is written for each kind of training."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from kakehashi.training.aside import replace_file
from kakehashi.training.sample_corpus.frames import FRAMES
from kakehashi.training.sample_corpus.instructions import Row, other_row, translation_rows
from kakehashi.training.sample_corpus.pairs import Pair, generate_pairs

Combination = tuple[str, str]

# "I love cats." is what every user tries first, so it stays unseen whatever the seed.
# The kitten goes with the cat, since 子猫が大好きです contains 猫が大好きです.
ALWAYS_HELD_OUT: frozenset[Combination] = frozenset({("noun:cat", "love"), ("noun:kitten", "love")})
# Share of the word × frame combinations kept out of training. A pair holds about two, so about an eighth of all pairs.
HELD_OUT_SHARE = 0.06
# So many pairs are made for each that is drawn for training: room to draw rare words and frames more often.
POOL_RATIO = 2.5
# A word that makes up more of a frame than this fills a slot that few other words fill, such as the vehicle in "by
# plane": without it the slot could not be learned.
_MAX_SHARE_OF_FRAME = 0.03
# Share of the pairs whose two sentences stand on one line of the unlabelled text.
GLOSSED_SHARE = 0.5
# What is held out of a frame may take at most this share from any verb in it, or the verb's form there is lost too.
_MAX_SHARE_OF_VERB = 0.3
# A word keeps at least this many frames in training, or it could not be learned at all.
_MIN_TRAINING_FRAMES = 3
# An English word has to stand in this many training sentences before a test sentence may use it.
_MIN_WORD_COUNT = 5


_SPLITTABLE = frozenset(frame.name for frame in FRAMES if frame.may_hold_out)


@dataclass(frozen=True)
class Split:
    """Pairs for training and for testing.

    Attributes:
        train: Pairs none of whose word × frame combinations is held out.
        test: Pairs with at least one held-out combination, made of words and frames that training has.
        held_out: The held-out combinations, each a key of a word and the name of a frame.
    """

    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    held_out: frozenset[Combination]


def combinations(pair: Pair) -> tuple[Combination, ...]:
    """Returns the word × frame combinations of a pair."""
    return tuple((word, pair.frame) for word in pair.words)


def _choose_held_out(pairs: Sequence[Pair], seed: int) -> frozenset[Combination]:
    """Chooses combinations of nouns and adjectives; verbs change form with the frame, so they are never chosen."""
    found = Counter(combination for pair in pairs for combination in combinations(pair))
    frame_sizes = Counter(pair.frame for pair in pairs)
    verbs_beside = _verbs_beside(pairs)
    frames_of: dict[str, int] = Counter(word for word, _ in found)
    words_of: dict[str, int] = Counter(frame for _, frame in found)
    lost: dict[str | Combination, int] = defaultdict(int)
    candidates = sorted(found)
    Random(f"held out {seed}").shuffle(candidates)
    chosen = set(ALWAYS_HELD_OUT)
    for word, frame in candidates:
        if len(chosen) >= HELD_OUT_SHARE * len(found):
            break
        beside = verbs_beside[word, frame]
        can_be_spared = (
            not word.startswith("verb:")
            and frame in _SPLITTABLE
            and found[word, frame] <= _MAX_SHARE_OF_FRAME * frame_sizes[frame]
            and all(lost[verb] + count <= _MAX_SHARE_OF_VERB * found[verb] for verb, count in beside.items())
            and frames_of[word] - lost[word] > _MIN_TRAINING_FRAMES
            and lost[frame] < 0.15 * words_of[frame] - 1
        )
        if can_be_spared:
            chosen.add((word, frame))
            lost[word] += 1
            lost[frame] += 1
            for verb, count in beside.items():
                lost[verb] += count
    return frozenset(chosen)


def _verbs_beside(pairs: Sequence[Pair]) -> dict[Combination, Counter[Combination]]:
    """Counts, for each word in a frame, the sentences it shares there with each verb."""
    beside: dict[Combination, Counter[Combination]] = defaultdict(Counter)
    for pair in pairs:
        verbs = [(word, pair.frame) for word in pair.words if word.startswith("verb:")]
        for combination in combinations(pair):
            beside[combination].update(verbs)
    return beside


def _balance(pairs: Sequence[Pair], number: int, seed: int) -> list[Pair]:
    """Draws pairs without putting any back, the likelier the rarer their rarest word or their frame is.

    The grammar says some things in many more ways than others; drawn evenly, half of the words would stand in fewer
    than fifty sentences. Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
    """
    random = Random(f"balance {seed}")
    words = Counter(word for pair in pairs for word in pair.words)
    frames = Counter(pair.frame for pair in pairs)
    keys = []
    for index, pair in enumerate(pairs):
        rarity = min([frames[pair.frame], *(words[word] for word in pair.words)])
        keys.append((random.random() ** rarity, index))
    drawn = sorted(index for _, index in sorted(keys, reverse=True)[:number])
    return [pairs[index] for index in drawn]


def _testable(test: Iterable[Pair], train: Sequence[Pair]) -> Iterator[Pair]:
    """Yields the test pairs whose English words training has, and whose sentences no training pair allows."""
    counts = Counter(word for pair in train for word in pair.english.rstrip(".?").lower().split())
    allowed = {text for pair in train for text in (*pair.english_references, *pair.japanese_references)}
    for pair in test:
        is_known = all(counts[word] >= _MIN_WORD_COUNT for word in pair.english.rstrip(".?").lower().split())
        if is_known and pair.english not in allowed and pair.japanese not in allowed:
            yield pair


def split_pairs(*, seed: int = 0, num_train_pairs: int = 24_000, num_test_pairs: int = 1_000) -> Split:
    """Returns training and test pairs, split by word × frame combination.

    Args:
        seed: Seed of the pairs and of the split.
        num_train_pairs: Pairs for training.
        num_test_pairs: Pairs for testing.

    Raises:
        ValueError: If a number is below 1, or larger than the grammar can fill.
    """
    for name, number in (("num_train_pairs", num_train_pairs), ("num_test_pairs", num_test_pairs)):
        if number < 1:
            raise ValueError(f"`{name}` must be at least 1, got {number}")
    pool_size = max(2_000, int(POOL_RATIO * num_train_pairs), 16 * num_test_pairs)
    pool = list(islice(generate_pairs(seed), pool_size))
    held_out = _choose_held_out(pool, seed)
    train: list[Pair] = []
    kept: list[Pair] = []
    for pair in pool:
        (kept if held_out.intersection(combinations(pair)) else train).append(pair)
    if len(train) < num_train_pairs:
        raise ValueError(f"`num_train_pairs` must be at most {len(train)} here, got {num_train_pairs}")
    train = _balance(train, num_train_pairs, seed)
    test = list(islice(_testable(kept, train), num_test_pairs))
    if len(test) < num_test_pairs:
        raise ValueError(f"`num_test_pairs` must be at most {len(test)} here, got {num_test_pairs}")
    return Split(tuple(train), tuple(test), held_out)


def _text_lines(random: Random, pairs: Sequence[Pair]) -> Iterator[str]:
    """Yields unlabelled lines: sentences of either language, and lines as in a phrase book, a sentence and its gloss.

    Japanese sentences come in both levels of politeness. The glossed lines let a model meet both languages in one
    context before anyone tells it to translate.
    """
    for pair in pairs:
        if random.random() < GLOSSED_SHARE:
            yield " ".join(random.sample([pair.english, pair.japanese], 2))
            continue
        lines = [pair.english, pair.japanese]
        if random.random() < 0.5:
            lines.append(random.choice(pair.japanese_references))
        random.shuffle(lines)
        yield from dict.fromkeys(lines)


def _translation_row(pair: Pair) -> Row:
    return {
        "en": pair.english,
        "ja": pair.japanese,
        "english_references": list(pair.english_references),
        "japanese_references": list(pair.japanese_references),
        "topic": pair.topic,
        "sentence_type": pair.sentence_type,
        "politeness": pair.politeness,
        "frame": pair.frame,
    }


def _classification_rows(random: Random, pairs: Sequence[Pair]) -> Iterator[Row]:
    for pair in pairs:
        text = pair.english if random.random() < 0.5 else pair.japanese
        yield {"text": text, "label": pair.topic, "sentence_type": pair.sentence_type}


def _instruction_rows(random: Random, pairs: Sequence[Pair]) -> Iterator[Row]:
    rows: list[Row] = []
    for pair in pairs:
        rows.extend(translation_rows(random, pair))
        if random.random() < 0.25:
            rows.append(other_row(random, pair))
    random.shuffle(rows)
    yield from rows


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    replace_file(path, lambda aside: aside.write_bytes(text.encode()))


def _write_rows(path: Path, rows: Iterable[Row]) -> None:
    _write_lines(path, (json.dumps(row, ensure_ascii=False) for row in rows))


def write_sample_corpus(
    output_dir: str | Path, *, seed: int = 0, num_train_pairs: int = 24_000, num_test_pairs: int = 1_000
) -> dict[str, Path]:
    """Writes the sample corpus as ordinary files and returns their paths by name.

    `text` (unlabelled lines, training side only), and for `translation`, `instruction` and `classification` a
    `.train` and a `.test` file of JSON lines. The test files hold only sentences with a word × frame combination that
    no training file has.

    Args:
        output_dir: Folder to write into; created where missing.
        seed: Seed of the pairs, of the split and of the wordings.
        num_train_pairs: Pairs for training; about 2.25 instruction rows come from each.
        num_test_pairs: Pairs for testing.

    Raises:
        ValueError: If a number is below 1, or larger than the grammar can fill.
        OSError: If the folder cannot be written.
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    split = split_pairs(seed=seed, num_train_pairs=num_train_pairs, num_test_pairs=num_test_pairs)
    random = Random(f"files {seed}")
    files = {"text": folder / "text.txt"}
    _write_lines(files["text"], _text_lines(random, split.train))
    for side, pairs in (("train", split.train), ("test", split.test)):
        rows: dict[str, Iterable[Row]] = {
            "translation": (_translation_row(pair) for pair in pairs),
            "instruction": _instruction_rows(random, pairs),
            "classification": _classification_rows(random, pairs),
        }
        for kind, content in rows.items():
            files[f"{kind}.{side}"] = folder / f"{kind}.{side}.jsonl"
            _write_rows(files[f"{kind}.{side}"], content)
    return files
