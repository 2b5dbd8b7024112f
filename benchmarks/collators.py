"""Make batches of the same documents with kakehashi's collators and with those of transformers, and compare the speed.

    python benchmarks/collators.py text.en.txt.xz text.ja.txt.xz --tokenizer my-tokenizer

A model that trains faster than a process makes batches waits for them, unless DataLoader workers share the work. The
contestants take turns, on one thread; the table holds medians of the document tokens a second. For pretraining, ours
get packed rows, transformers' the same documents one by one, as many to a batch, which are padded; for classification
both pad. Span corruption is in no collator of transformers.
"""

import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import Annotated, Any

import torch
import typer
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, DataCollatorWithPadding, Seq2SeqTrainingArguments

from kakehashi.commands.texts import iterate_training_texts
from kakehashi.tokenization.peers import load_tokenizer
from kakehashi.training.arguments import PretrainArguments
from kakehashi.training.collators import ClassificationCollator
from kakehashi.training.examples import tokenize_documents
from kakehashi.training.pretrain import find_tasks, longest_piece, make_collator, pack_pieces

Contestant = tuple[str, str, Callable[[list[Any]], Any], list[list[dict[str, Any]]]]


def split_into_batches(examples: Dataset, size: float) -> list[list[dict[str, Any]]]:
    """Returns the examples in lists of about `size` each."""
    rows, count = list(examples), max(1, round(len(examples) / size))
    return [rows[len(rows) * number // count : len(rows) * (number + 1) // count] for number in range(count)]


def count_tokens(batches: list[list[dict[str, Any]]]) -> int:
    """Returns how many tokens the documents of all batches have."""
    return sum(len(example["input_ids"]) for batch in batches for example in batch)


def main(
    files: Annotated[list[str], typer.Argument(help="Documents: txt, tsv, jsonl, … files.")],
    tokenizer: Annotated[str, typer.Option(help="Folder of a tokenizer.")],
    column: Annotated[list[str], typer.Option(help="Columns of the tables among FILES.")] = ["text"],  # noqa: B006
    every: Annotated[int, typer.Option(min=1, help="Take every N-th document.")] = 50,
    batch_size: Annotated[int, typer.Option(min=1, help="Packed rows of a batch.")] = 64,
    row_length: Annotated[int, typer.Option(min=16, help="Tokens of a packed row.")] = 512,
    rounds: Annotated[int, typer.Option(min=1, help="Make all batches this often.")] = 5,
) -> None:
    """Print one row for each collator."""
    torch.set_num_threads(1)
    vocabulary = load_tokenizer(tokenizer)
    texts = Dataset.from_dict({"text": list(islice(iterate_training_texts(files, column), 0, None, every))})
    contestants: list[Contestant] = []
    # Only its seed is read.
    training_arguments = Seq2SeqTrainingArguments(use_cpu=True)
    for objective in ("masked-lm", "causal-lm", "encoder-decoder"):
        arguments = PretrainArguments(objective=objective, packing=True, packed_length=row_length)
        tasks = find_tasks(arguments, vocabulary)
        documents: Any = tokenize_documents(
            texts, vocabulary, text_column="text", max_length=longest_piece(arguments, tasks)
        )
        rows: Any = pack_pieces(documents, arguments, training_arguments, tasks)
        collate = make_collator(arguments, vocabulary, tasks, seed=0)
        contestants.append((objective, "kakehashi", collate, split_into_batches(rows, batch_size)))
        if objective != "encoder-decoder":
            theirs = DataCollatorForLanguageModeling(
                vocabulary, mlm=objective == "masked-lm", mlm_probability=arguments.mlm_probability
            )
            batches = split_into_batches(documents, batch_size * len(documents) / len(rows))
            contestants.append((objective, "transformers", theirs, batches))
    labelled = documents.add_column("labels", [0] * len(documents))
    for name, pad in (("kakehashi", ClassificationCollator), ("transformers", DataCollatorWithPadding)):
        contestants.append(("classification", name, pad(vocabulary), split_into_batches(labelled, batch_size)))
    rates: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds):
        for (_, _, collator, batches), measured in zip(contestants, rates, strict=True):
            start = time.perf_counter()
            for batch in batches:
                collator(batch)
            measured.append(count_tokens(batches) / (time.perf_counter() - start))
    print(f"{len(texts):,} documents of {count_tokens(contestants[0][3]) / len(texts):.0f} tokens on average")
    print("\n| objective | collator | tokens/s |\n|---|---|---:|")
    for (objective, name, _, _), measured in zip(contestants, rates, strict=True):
        print(f"| {objective} | {name} | {statistics.median(measured):,.0f} |")


if __name__ == "__main__":
    typer.run(main)
