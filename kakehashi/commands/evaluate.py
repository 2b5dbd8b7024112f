"""`kakehashi evaluate`: measure a model on rows it has not seen."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kakehashi.commands import options
from kakehashi.commands.generate import Language
from kakehashi.commands.terminal import silence_libraries
from kakehashi.training.aside import replace_file, require_writable_file

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kakehashi.training.evaluation import Evaluation

Data = Annotated[
    list[str],
    typer.Option("--data", help="File, folder, glob or Hub data set id; may be repeated.", metavar="FILE"),
]
To = Annotated[
    Language | None,
    typer.Option("--to", help="Measure translation into this language; the columns en and ja are then the defaults."),
]
SourceColumn = Annotated[str | None, typer.Option(help="Column of the text or question.")]
TargetColumn = Annotated[
    str | None, typer.Option(help="Column of the right answer, or of a list of answers that are all right.")
]
SourceTemplate = Annotated[
    str | None, typer.Option(help="Instruction with {column} in it; by default the one the model was tuned on.")
]
TextColumn = Annotated[str, typer.Option(help="Column of the text to label, to predict or to restore.")]
LabelColumn = Annotated[str, typer.Option(help="Column of the label.")]
MlmProbability = Annotated[float, typer.Option(help="Share of the tokens to hide from a masked language model.")]
MaxRows = Annotated[int | None, typer.Option(min=1, help="Use only the first rows.")]
Output = Annotated[Path | None, typer.Option(help="Write the numbers to this JSON file too.")]
Predictions = Annotated[Path | None, typer.Option(help="Write what the model answered to this JSON lines file.")]

_DEFAULT_COLUMNS = {"text_column": "text", "label_column": "label"}


def evaluate(
    model: options.Model,
    *,
    data: Data,
    to: To = None,
    source_column: SourceColumn = None,
    target_column: TargetColumn = None,
    source_template: SourceTemplate = None,
    text_column: TextColumn = _DEFAULT_COLUMNS["text_column"],
    label_column: LabelColumn = _DEFAULT_COLUMNS["label_column"],
    max_rows: MaxRows = None,
    output: Output = None,
    predictions: Predictions = None,
    batch_size: options.BatchSize = 32,
    max_new_tokens: options.MaxNewTokens = 128,
    num_beams: options.NumBeams = 1,
    mlm_probability: MlmProbability = 0.3,
    device: options.DeviceName = options.Device.auto,
    dtype: options.DtypeName = options.Dtype.auto,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Measure MODEL on rows it has not seen, and print the numbers as JSON.

    A classifier is measured on rows with a text and its label, labels or number. A model that writes is measured
    by exact match, chrF and BLEU on rows with a question and its answer (messages, instruction/output,
    prompt/completion, or two columns), and by perplexity on rows with a text alone. A masked language model is
    measured by the hidden tokens that it restores. If MODEL is the folder of a run, the numbers are also kept in its
    evaluations.json, for the model card.
    """
    silence_libraries()
    outputs = {"--output": output, "--predictions": predictions}
    written = {option: path for option, path in outputs.items() if path is not None}
    for option, path in written.items():
        require_writable_file(option, path)
    if output is not None and predictions is not None and output.resolve() == predictions.resolve():
        raise ValueError(f"`--predictions` must be another file than `--output`, got {predictions} for both")
    from kakehashi.training import inference
    from kakehashi.training.documents import load_rows, require_unread_file

    for option, path in written.items():
        require_unread_file(option, path, data)
    language = None if to is None else to.value
    columns = {"source_column": source_column, "target_column": target_column, "source_template": source_template}
    asks = language is not None or any(columns.values())
    is_classifier = inference.is_classifier(model, trust_remote_code=trust_remote_code)
    rows = _first_rows(load_rows(data, split="test"), max_rows)
    is_encoder = not asks and inference.restores_tokens(model, trust_remote_code=trust_remote_code)
    load = inference.load_for_restoring if is_encoder else inference.load_for_generation
    load = inference.load_for_classification if is_classifier else load
    network, tokenizer = load(model, device=device.argument, dtype=dtype.argument, trust_remote_code=trust_remote_code)
    asked: dict[str, Any] = {"text_column": text_column}
    answering: dict[str, Any] = {}
    with _progress_bar(len(rows)) as on_batch:
        subject = _Subject(network, tokenizer, rows, data, {"batch_size": batch_size, "on_batch": on_batch})
        if is_classifier:
            asked["label_column"] = label_column
            evaluation = subject.measure_labels(text_column, label_column)
        elif is_encoder:
            answering = {"mlm_probability": mlm_probability}
            subject.settings |= answering
            evaluation = subject.measure_hidden_tokens(text_column)
        elif not asks and subject.holds_plain_text(text_column):
            _require_weights(model)
            evaluation = subject.measure_text(text_column)
        else:
            asked, answering = columns, {"max_new_tokens": max_new_tokens, "num_beams": num_beams}
            subject.settings |= answering
            evaluation = subject.measure_answers(language, columns)
    about = {"model": model, "data": data, "rows": len(rows)}
    _report(evaluation, about, output, predictions)
    chosen = {key: value for key, value in asked.items() if value != _DEFAULT_COLUMNS.get(key)}
    _keep_for_the_card(evaluation, about, rows, language, {**chosen, **answering})


def _require_weights(model: str) -> None:
    from kakehashi.training.export.folder import engine_of

    engine = engine_of(model)
    if engine is not None:
        raise ValueError(f"perplexity needs the model folder that {model} was exported to {engine} from")


@dataclass
class _Subject:
    """A model beside the rows it is measured on."""

    network: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    rows: "Dataset"
    data: list[str]
    settings: dict[str, Any]

    def holds_plain_text(self, text_column: str) -> bool:
        """Whether the rows hold a text and no instruction."""
        from kakehashi.training.evaluation import holds_instructions

        return text_column in self.rows.column_names and not holds_instructions(self.rows)

    def measure_labels(self, text_column: str, label_column: str) -> "Evaluation":
        from kakehashi.training.documents import require_columns
        from kakehashi.training.evaluation import evaluate_classification
        from kakehashi.training.label_names import read_labels

        require_columns(self.rows, [text_column, label_column], self.data)
        texts, labels = self._texts(text_column), read_labels(self.rows, label_column)
        return evaluate_classification(self.network, self.tokenizer, texts, labels, **self.settings)

    def measure_text(self, text_column: str) -> "Evaluation":
        from kakehashi.training.evaluation import evaluate_perplexity

        return evaluate_perplexity(self.network, self.tokenizer, self._texts(text_column), **self.settings)

    def measure_hidden_tokens(self, text_column: str) -> "Evaluation":
        from kakehashi.training.documents import require_columns
        from kakehashi.training.evaluation import evaluate_hidden_tokens

        require_columns(self.rows, [text_column], self.data)
        return evaluate_hidden_tokens(self.network, self.tokenizer, self._texts(text_column), **self.settings)

    def _texts(self, text_column: str) -> list[str]:
        from kakehashi.training.instruction_rows import as_text

        return [as_text({text_column: value}, text_column) for value in self.rows[text_column]]

    def measure_answers(self, language: str | None, columns: dict[str, str | None]) -> "Evaluation":
        from kakehashi.training.evaluation import evaluate_generation, read_questions

        questions = read_questions(self.rows, self.data, self.network, to=language, **columns)
        return evaluate_generation(self.network, self.tokenizer, questions, target_language=language, **self.settings)


def _first_rows(rows: "Dataset", limit: int | None) -> "Dataset":
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def _report(evaluation: "Evaluation", about: dict[str, Any], output: Path | None, predictions: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{evaluation.task} of {about['model']} on {about['rows']:,} rows", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in evaluation.scores.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else f"{value:,}")
    Console(stderr=True).print(table)
    result = json.dumps({**about, "task": evaluation.task, **evaluation.scores}, ensure_ascii=False, indent=2)
    if output is not None:
        _write_lines(output, [result])
    if predictions is not None:
        _write_lines(predictions, (json.dumps(each, ensure_ascii=False) for each in evaluation.predictions))
    typer.echo(result)


def _keep_for_the_card(
    evaluation: "Evaluation", about: dict[str, Any], rows: "Dataset", language: str | None, settings: dict[str, Any]
) -> None:
    """Leaves the numbers beside the weights they were measured on, if those are the weights of a run."""
    from kakehashi.training.evaluations import EVALUATIONS_FILE, Measurement, fingerprint_rows, keep_measurement
    from kakehashi.training.finished_run import is_finished_run, read_finished_run

    if not is_finished_run(about["model"]):
        return
    run = read_finished_run(about["model"])
    names = [run.shown(source) for source in about["data"]]
    measured = Measurement(
        task=evaluation.task,
        data=names,
        rows=about["rows"],
        scores=evaluation.scores,
        target_language=language,
        settings=settings,
        rows_sha256=fingerprint_rows(rows),
    )
    try:
        keep_measurement(run.folder, measured)
    except OSError as error:
        # The numbers are printed already; a folder that cannot be written to loses only the card's copy.
        typer.echo(f"{run.folder / EVALUATIONS_FILE} was not written: {error.strerror}", err=True)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in lines)
    replace_file(path, lambda aside: aside.write_text(text, encoding="utf-8"))


@contextmanager
def _progress_bar(num_rows: int) -> Iterator[Callable[[int], None] | None]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("evaluate", total=num_rows)
        yield lambda count: progress.advance(task, count)
