"""`kakehashi evaluate` finds out what to measure, and prints it as JSON."""

import errno
import json

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from typer.testing import CliRunner

from kakehashi import cli
from kakehashi.modeling import KakehashiForMaskedLM, KakehashiForSequenceClassification
from kakehashi.training import evaluation, evaluations
from kakehashi.training.evaluations import read_measurements

pytestmark = pytest.mark.usefixtures("verbosity")

LABELS = {0: "animal", 1: "food"}


@pytest.fixture
def answers(monkeypatch):
    """Prompts the model was asked; it answers each with what the test puts under the prompt, or else "?"."""
    known = {}

    def answer(model, tokenizer, prompts, **settings):
        known["asked"] = prompts
        return [known.get(prompt if isinstance(prompt, str) else prompt[-1]["content"], "?") for prompt in prompts]

    monkeypatch.setattr(evaluation, "generate_texts", answer)
    return known


@pytest.fixture
def classifier_dir(build_tiny_model, tiny_tokenizer, tmp_path):
    label2id = {label: index for index, label in LABELS.items()}
    model = build_tiny_model(KakehashiForSequenceClassification, id2label=LABELS, label2id=label2id)
    folder = tmp_path / "classifier"
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def write(tmp_path):
    """A function that writes rows to a JSON lines file and returns its path."""

    def write_rows(rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return path

    return write_rows


def evaluate(*arguments):
    result = CliRunner().invoke(cli.app, ["evaluate", *(str(argument) for argument in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.stdout), result.stderr


def test_a_translation_is_measured_in_the_direction_asked_for(tiny_model_dir, tmp_path, answers):
    data = tmp_path / "pairs.tsv"
    data.write_text("en\tja\nI love cats.\t私は猫が大好きです。\nI run.\t私は走ります。\n")
    answers["Translate to Japanese: I love cats."] = "私は猫が大好きです。"
    numbers, table = evaluate(tiny_model_dir, "--data", data, "--to", "ja")
    assert answers["asked"] == ["Translate to Japanese: I love cats.", "Translate to Japanese: I run."]
    assert numbers["task"] == "generation" and numbers["rows"] == 2 and numbers["exact_match"] == 0.5
    assert {"chrf", "bleu"} <= numbers.keys()
    assert "exact_match" in table and "0.5000" in table


def test_any_of_several_right_answers_counts(tiny_model_dir, write, answers):
    data = write([{"q": "a {b}", "right": ["x", "y"]}, {"q": "c", "right": ["z"]}])
    answers |= {"Say: a {b}": "y", "Say: c": "y"}
    numbers, _ = evaluate(tiny_model_dir, "--data", data, "--source-template", "Say: {q}", "--target-column", "right")
    assert numbers["exact_match"] == 0.5


def test_columns_of_other_names_can_be_named(tiny_model_dir, write, answers):
    answers["a"] = "b"
    data = write([{"question": "a", "answer": "b"}])
    columns = "--source-column", "question", "--target-column", "answer"
    assert evaluate(tiny_model_dir, "--data", data, *columns)[0]["exact_match"] == 1.0


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"instruction": "a", "input": "", "output": "b"},
        {"prompt": "a", "completion": "b"},
    ],
    ids=["messages", "instruction", "prompt"],
)
def test_instruction_rows_are_measured_as_they_are_tuned_on(tiny_model_dir, write, answers, row):
    answers["a"] = "b"
    assert evaluate(tiny_model_dir, "--data", write([row]))[0]["exact_match"] == 1.0


def test_a_classifier_is_measured_by_its_labels(classifier_dir, write, tmp_path):
    data = write([{"text": "I love cats.", "label": label} for label in LABELS.values()])
    answers = tmp_path / "out" / "answers.jsonl"
    numbers, _ = evaluate(classifier_dir, "--data", data, "--predictions", answers)
    assert numbers["task"] == "classification" and numbers["accuracy"] == 0.5
    assert numbers["macro_f1"] == pytest.approx(1 / 3)
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["label"] for line in lines] == list(LABELS.values())
    assert lines[0]["prediction"] == lines[1]["prediction"] in LABELS.values()


def test_labels_kept_as_numbers_of_classes_are_measured_by_their_names(classifier_dir, tmp_path):
    # In another order than the model has them.
    features = Features({"text": Value("string"), "label": ClassLabel(names=["food", "animal"])})
    rows = Dataset.from_dict({"text": ["I love cats."] * 3, "label": [1, 1, 0]}, features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    numbers, _ = evaluate(classifier_dir, "--data", tmp_path / "rows.parquet", "--predictions", tmp_path / "answers")
    labels = [json.loads(line)["label"] for line in (tmp_path / "answers").read_text().splitlines()]
    assert labels == ["animal", "animal", "food"] and numbers["accuracy"] in {1 / 3, 2 / 3}


def test_white_space_around_a_right_answer_costs_nothing(tiny_model_dir, write, answers):
    answers["Q:"] = "Paris"
    numbers, _ = evaluate(tiny_model_dir, "--data", write([{"prompt": "Q:", "completion": " Paris\n"}]))
    assert numbers["exact_match"] == 1.0


def test_texts_that_are_numbers_or_absent_are_measured_as_they_are_trained_on(tiny_model_dir, write):
    numbers, _ = evaluate(tiny_model_dir, "--data", write([{"text": "I love cats."}, {"text": None}]))
    assert numbers["perplexity"] > 1
    numbers, _ = evaluate(tiny_model_dir, "--data", write([{"text": 5}, {"text": 12}]))
    assert numbers["perplexity"] > 1


def test_plain_text_is_measured_by_perplexity(tiny_model_dir, tmp_path, tiny_sentences):
    data = tmp_path / "text.txt"
    data.write_text("\n".join(tiny_sentences))
    numbers, _ = evaluate(tiny_model_dir, "--data", data)
    assert numbers["task"] == "perplexity" and numbers["perplexity"] > 1


def test_an_encoder_is_measured_by_the_tokens_it_restores(finish_run, write, capsys):
    folder = finish_run(KakehashiForMaskedLM)
    data = write([{"text": "I love cats."}, {"text": "I love dogs."}])
    numbers, _ = evaluate(folder, "--data", data, "--mlm-probability", 0.5)
    assert numbers["task"] == "fill-mask" and numbers["loss"] > 1 and 0 <= numbers["accuracy"] <= 1
    (kept,) = read_measurements(folder)
    assert kept.settings == {"mlm_probability": 0.5} and kept.scores["loss"] == numbers["loss"]
    assert cli.main(["evaluate", str(folder), "--data", str(data), "--text-column", "body"]) == 2
    assert "has no column `body`" in capsys.readouterr().err
    assert cli.main(["evaluate", str(folder), "--data", str(data), "--to", "ja"]) == 2
    assert "is a KakehashiForMaskedLM, which has no decoder" in capsys.readouterr().err


def test_the_output_file_holds_what_is_printed(tiny_model_dir, tmp_path, tiny_sentences):
    data, output = tmp_path / "text.txt", tmp_path / "new" / "numbers.json"
    data.write_text("\n".join(tiny_sentences))
    numbers, _ = evaluate(tiny_model_dir, "--data", data, "--output", output, "--max-rows", 3)
    assert json.loads(output.read_text()) == numbers and numbers["rows"] == 3
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("option", ["--output", "--predictions"])
def test_the_rows_are_not_written_over(tmp_path, capsys, option):
    rows = tmp_path / "rows.txt"
    rows.write_text("one\n", "utf-8")
    assert cli.main(["evaluate", "no-model", "--data", str(rows), option, str(rows)]) == 2
    assert f"`{option}` must be another file than those that are read, got {rows}" in capsys.readouterr().err
    assert rows.read_text("utf-8") == "one\n"


def test_numbers_and_answers_go_to_two_files(tmp_path, capsys):
    path = str(tmp_path / "new.json")
    assert cli.main(["evaluate", "no-model", "--data", "no-rows.txt", "--output", path, "--predictions", path]) == 2
    assert "`--predictions` must be another file than `--output`, got" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--output", "--predictions"])
@pytest.mark.parametrize("name", ["folder", "file/numbers.json"])
def test_a_path_that_cannot_be_written_to_is_refused_before_anything_is_measured(tmp_path, capsys, option, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    path = str(tmp_path / name)
    # Neither the model nor the rows are looked at.
    assert cli.main(["evaluate", "no-model", "--data", "no-rows.txt", option, path]) == 2
    assert f"`{option}` must be a file in a folder that can be written to, got {path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "row, arguments, message",
    [
        ({"a": "x"}, [], "Instruction rows must have the columns `messages`, or `instruction` and `output`"),
        ({"en": "x"}, ["--to", "ja"], "has no column `ja`"),
        ({"a": "x"}, ["--source-column", "a"], "`target_column` must name the column of the right answer"),
        ({"a": "x"}, ["--target-column", "a"], "`source_column` or `source_template` must say what to ask"),
        ({"a": "x", "b": []}, ["--source-column", "a", "--target-column", "b"], "`b` must hold a text or a list"),
    ],
)
def test_rows_that_say_nothing_to_measure_are_refused(tiny_model_dir, write, capsys, row, arguments, message):
    assert cli.main(["evaluate", str(tiny_model_dir), "--data", str(write([row])), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_label_the_model_does_not_know_is_refused(classifier_dir, write, capsys):
    data = write([{"text": "cats", "label": "animal"}, {"text": "cats", "label": "weather"}])
    assert cli.main(["evaluate", str(classifier_dir), "--data", str(data)]) == 2
    message = "Every label must be one of the training labels, but row 2 has 'weather'; known are `animal`, `food`."
    assert message in capsys.readouterr().err


def test_a_missing_file_is_refused(tiny_model_dir, capsys):
    assert cli.main(["evaluate", str(tiny_model_dir), "--data", "none.tsv", "--to", "ja"]) == 2
    assert "`none.tsv` does not exist" in capsys.readouterr().err


def test_a_classifier_needs_its_columns(classifier_dir, write, capsys):
    assert cli.main(["evaluate", str(classifier_dir), "--data", str(write([{"text": "cats"}]))]) == 2
    assert "has no column `label`" in capsys.readouterr().err


def test_the_numbers_of_a_run_are_kept_for_its_card(finish_run, answers, write, capsys):
    templates = {"translation": {"ja": "To Japanese: {text}"}}
    folder = finish_run(task_specific_params=templates)
    answers["To Japanese: Hi."] = "やあ。"
    rows = write([{"en": "Hi.", "ja": "やあ。"}])
    assert cli.main(["evaluate", str(folder), "--data", str(rows), "--to", "ja", "--num-beams", "2"]) == 0
    (kept,) = read_measurements(folder)
    assert (kept.task, kept.data, kept.rows, kept.target_language) == ("generation", ["rows.jsonl"], 1, "ja")
    assert kept.settings == {"max_new_tokens": 128, "num_beams": 2}
    printed = json.loads(capsys.readouterr().out)
    assert kept.scores == {name: printed[name] for name in kept.scores} and kept.scores["exact_match"] == 1.0


def test_other_rows_and_other_columns_are_kept_beside_each_other(finish_run, tmp_path):
    labels = {"id2label": LABELS, "label2id": {label: index for index, label in LABELS.items()}}
    folder = finish_run(KakehashiForSequenceClassification, "classify", **labels)
    for language, label in [("en", "animal"), ("ja", "food")]:
        (tmp_path / language).mkdir()
        row = json.dumps({"text": "I love cats.", "label": label, "topic": "food"})
        (tmp_path / language / "test.jsonl").write_text(row)
    for arguments in (["en"], ["ja"], ["en", "--label-column", "topic"], ["en"]):
        language, *options = arguments
        evaluate(folder, "--data", tmp_path / language / "test.jsonl", *options)
    kept = read_measurements(folder)
    assert [each.settings for each in kept] == [{}, {"label_column": "topic"}, {}]
    assert {tuple(each.data) for each in kept} == {("test.jsonl",)}


def test_a_prompt_of_ones_own_is_kept_and_columns_that_are_not_read_are_not(finish_run, answers, write):
    folder, data = finish_run(), write([{"q": "a", "a": "b"}])
    evaluate(folder, "--data", data, "--source-template", "Say: {q}", "--target-column", "a", "--text-column", "x")
    (kept,) = read_measurements(folder)
    asked = {"target_column": "a", "source_template": "Say: {q}"}
    assert kept.settings == {**asked, "max_new_tokens": 128, "num_beams": 1}


def test_a_model_folder_that_no_run_left_stays_as_it_is(classifier_dir, write):
    before = sorted(classifier_dir.iterdir())
    assert (
        cli.main(["evaluate", str(classifier_dir), "--data", str(write([{"text": "Cats.", "label": "animal"}]))]) == 0
    )
    assert sorted(classifier_dir.iterdir()) == before


def test_a_run_folder_that_cannot_be_written_to_costs_no_numbers(finish_run, write, capsys, monkeypatch):
    def refuse(folder, measurement):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(evaluations, "keep_measurement", refuse)
    folder = finish_run()
    assert cli.main(["evaluate", str(folder), "--data", str(write([{"text": "I love cats. I love dogs."}]))]) == 0
    output = capsys.readouterr()
    assert "perplexity" in json.loads(output.out)["task"]
    assert "evaluations.json was not written: Permission denied" in output.err
