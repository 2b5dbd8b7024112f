"""The quickstart: the whole road from raw text to models that anyone can load, on the embedded sample corpus.

    corpus → tokenizer → pretrain → instruct → classify → evaluate → load without kakehashi

Each stage writes one folder below the output folder, and `summary.json` holds what was measured.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kakehashi.tokenization import save_tokenizer, train_tokenizer
from kakehashi.training.arguments import ClassifyArguments, InstructArguments, PretrainArguments, StageArguments
from kakehashi.training.aside import require_free_folder
from kakehashi.training.classify import run_classify
from kakehashi.training.console import quiet_library
from kakehashi.training.documents import iterate_texts, load_rows
from kakehashi.training.inference import (
    generate_texts,
    load_for_classification,
    load_for_generation,
    translation_template,
)
from kakehashi.training.instruct import run_instruct
from kakehashi.training.labelling import classify_texts
from kakehashi.training.metrics import load_metric
from kakehashi.training.pretrain import run_pretrain
from kakehashi.training.recipe import parse_recipe, read_recipe
from kakehashi.training.run_files import write_json
from kakehashi.training.sample_corpus import write_sample_corpus
from kakehashi.training.stranger import ask_stranger

VOCAB_SIZE = 3072
NUM_SENTINELS = 32
EVALUATION_BATCH_SIZE = 128
MAX_NEW_TOKENS = 48

# Never in the training data, whatever the seed.
UNSEEN_SENTENCES = {"ja": ["I love cats."], "en": ["私は猫が大好きです。"]}
NUM_SHOWN = 2

LANGUAGES = {"ja": ("en", "ja", "japanese_references"), "en": ("ja", "en", "english_references")}
"""Target language → source column, target column, column of every translation the grammar allows."""


@dataclass
class Quickstart:
    """One run of the quickstart: its folders, its clock and what it has measured so far.

    Attributes:
        output_dir: Folder that holds one folder per stage.
        seed: Seeds the corpus and every stage.
        console: Where progress is told.
        seconds_by_stage: Wall-clock of the stages that are done.
    """

    output_dir: Path
    seed: int
    console: Console
    seconds_by_stage: dict[str, float] = field(default_factory=dict)

    def folder(self, stage: str) -> Path:
        """The folder of a stage."""
        return self.output_dir / stage

    @contextmanager
    def stage(self, name: str, purpose: str) -> Iterator[None]:
        """Announces a stage and takes its time."""
        self.console.rule(f"[bold]{name}[/bold] · {purpose}", align="left")
        start = time.perf_counter()
        yield
        self.seconds_by_stage[name] = round(time.perf_counter() - start, 1)


def run_quickstart(output_dir: Path, seed: int, console: Console) -> dict[str, Any]:
    """Runs every stage and writes `summary.json`.

    Args:
        output_dir: Folder to fill; must not hold anything yet.
        seed: Seeds the corpus and every stage.
        console: Where progress is told.

    Returns:
        The content of `summary.json`, and under `examples` what the freshly loaded models answered.

    Raises:
        ValueError: If the output folder is not empty.
    """
    require_free_folder(output_dir)
    start = time.perf_counter()
    run = Quickstart(output_dir, seed, console)
    with run.stage("corpus", "write the sample corpus and train a vocabulary on it"):
        files = write_sample_corpus(run.folder("corpus"), seed=seed)
        _train_tokenizer(run, files)
    with run.stage("pretrain", "predict the next words and restore removed spans of unlabelled text"):
        pretrained = _run_stage(run, "pretrain", PretrainArguments, run_pretrain, files["text"])
    with run.stage("instruct", "answer instructions: translate, rewrite, explain"):
        _run_stage(run, "instruct", InstructArguments, run_instruct, files["instruction.train"], "pretrain")
    with run.stage("classify", "tell the topic of a sentence"):
        _run_stage(run, "classify", ClassifyArguments, run_classify, files["classification.train"], "pretrain")
    with run.stage("evaluate", "measure on combinations of words and frames that were held out"), quiet_library():
        measured = {**_evaluate_translation(run, files), **_evaluate_classification(run, files)}
    with run.stage("load", "load every folder in a fresh process that has no kakehashi"), quiet_library():
        examples = _load_as_a_stranger(run, files)
    summary = {
        **measured,
        "seconds_total": round(time.perf_counter() - start, 1),
        "seconds_by_stage": run.seconds_by_stage,
        "parameters": pretrained["parameters"],
        "seed": seed,
    }
    write_json(output_dir / "summary.json", summary)
    return {**summary, "examples": examples}


def _train_tokenizer(run: Quickstart, files: dict[str, Path]) -> None:
    """Trains the vocabulary on the text and on the instructions, whose words the text does not have."""
    texts = itertools.chain(
        iterate_texts(str(files["text"])), iterate_texts(str(files["instruction.train"]), text_column="instruction")
    )
    tokenizer = train_tokenizer(texts, vocab_size=VOCAB_SIZE, num_sentinels=NUM_SENTINELS)
    save_tokenizer(tokenizer, run.folder("tokenizer"))


def _run_stage(
    run: Quickstart,
    name: str,
    arguments_class: type[StageArguments],
    run_stage: Callable[[Any, Any], dict[str, Any]],
    train_file: Path,
    model: str | None = None,
) -> dict[str, Any]:
    """Runs a training stage by its shipped recipe, with the paths of this quickstart."""
    paths = {"train_files": [str(train_file)], "output_dir": str(run.folder(name)), "seed": run.seed}
    start = {"tokenizer": str(run.folder("tokenizer"))} if model is None else {"model": str(run.folder(model))}
    arguments, training_arguments = parse_recipe(
        arguments_class, read_recipe(f"quickstart-{name}.yaml"), {**paths, **start}
    )
    return run_stage(arguments, training_arguments)


@contextmanager
def _progress(console: Console, description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar and yields what moves it forward by a number of items."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.advance(task, count)


def _evaluate_translation(run: Quickstart, files: dict[str, Path]) -> dict[str, float]:
    """Exact match and chrF on the held-out pairs in both directions."""
    rows = load_rows(str(files["translation.test"]))
    model, tokenizer = load_for_generation(run.folder("instruct"))
    metric = load_metric("translation_quality")
    measured = {}
    for language, (source_column, target_column, references_column) in LANGUAGES.items():
        template = translation_template(model.config, language)
        prompts = [template.replace("{text}", text) for text in rows[source_column]]
        name = f"{source_column}_{target_column}"
        with _progress(run.console, f"translate {direction(language)}", len(prompts)) as on_batch:
            answers = generate_texts(
                model,
                tokenizer,
                prompts,
                batch_size=EVALUATION_BATCH_SIZE,
                max_new_tokens=MAX_NEW_TOKENS,
                on_batch=on_batch,
            )
        scores = metric.compute(
            predictions=answers, references=list(rows[references_column]), target_language=language
        )
        measured[f"exact_match_{name}"] = scores["exact_match"]
        measured[f"chrf_{name}"] = scores["chrf"]
        _write_answers(run.folder("evaluate") / f"{name}.jsonl", rows, source_column, references_column, answers)
    return measured


def _write_answers(path: Path, rows: Any, source_column: str, references_column: str, answers: Sequence[str]) -> None:
    """Writes what was asked, what came out and what would have been right, for whoever wants to look."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row, output in zip(rows, answers, strict=True):
            references = row[references_column]
            line = {
                "source": row[source_column],
                "output": output,
                "is_right": output in references,
                "references": references,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _evaluate_classification(run: Quickstart, files: dict[str, Path]) -> dict[str, float]:
    """Accuracy on the held-out sentences."""
    rows = load_rows(str(files["classification.test"]))
    model, tokenizer = load_for_classification(run.folder("classify"))
    with _progress(run.console, "classify", len(rows)) as on_batch:
        predicted = classify_texts(
            model, tokenizer, list(rows["text"]), batch_size=EVALUATION_BATCH_SIZE, on_batch=on_batch
        )
    label_ids = model.config.label2id or {}
    scores = load_metric("classification_quality").compute(
        predictions=[label_ids[label] for label, _ in predicted],
        references=[label_ids[label] for label in rows["label"]],
    )
    return {"classification_accuracy": scores["accuracy"]}


def _load_as_a_stranger(run: Quickstart, files: dict[str, Path]) -> list[dict[str, str]]:
    """Loads the folders in a fresh process, with Transformers alone, and asks them about sentences never seen."""
    held_out = load_rows(str(files["translation.test"]))[:NUM_SHOWN]
    texts = load_rows(str(files["classification.test"]))[:NUM_SHOWN]["text"]
    instruct, classify = str(run.folder("instruct")), str(run.folder("classify"))
    sentences = {
        language: UNSEEN_SENTENCES[language] + list(held_out[column]) for language, (column, _, _) in LANGUAGES.items()
    }
    model, _ = load_for_generation(run.folder("instruct"))
    prompts = [
        translation_template(model.config, language).replace("{text}", text)
        for language, sources in sentences.items()
        for text in sources
    ]
    request = {
        "folders": {
            str(run.folder("pretrain")): "AutoModelForSeq2SeqLM",
            instruct: "AutoModelForSeq2SeqLM",
            classify: "AutoModelForSequenceClassification",
        },
        "translation": {"model": instruct, "texts": prompts},
        "classification": {"model": classify, "texts": list(texts)},
    }
    reply = ask_stranger(request)
    asked = [(direction(language), text) for language, texts in sentences.items() for text in texts]
    for folder, loaded in reply["classes"].items():
        run.console.print(f"{folder}: {loaded}", highlight=False, soft_wrap=True)
    answered = [*zip(asked, reply["translation"], strict=True)]
    answered += [(("topic", text), label) for text, label in zip(texts, reply["classification"], strict=True)]
    return [{"task": task, "input": text, "output": output} for (task, text), output in answered]


def direction(language: str) -> str:
    """How a direction of translation is called, such as `en → ja` for the target language `ja`."""
    source, target, _ = LANGUAGES[language]
    return f"{source} → {target}"
