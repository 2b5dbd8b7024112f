"""`kakehashi classify-text`: a label, a tab and a probability for each text."""

import pytest
from typer.testing import CliRunner

from kakehashi import cli
from kakehashi.modeling import KakehashiForSequenceClassification

pytestmark = pytest.mark.usefixtures("verbosity")

LABELS = {0: "animal", 1: "food", 2: "place"}


@pytest.fixture
def classifier_dir(build_tiny_model, tiny_tokenizer, tmp_path):
    label2id = {label: index for index, label in LABELS.items()}
    model = build_tiny_model(KakehashiForSequenceClassification, id2label=LABELS, label2id=label2id)
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_each_text_gives_a_label_and_its_probability(classifier_dir):
    result = CliRunner().invoke(cli.app, ["classify-text", classifier_dir, "I love cats.", "りんごを食べたいですか。"])
    assert result.exit_code == 0 and result.stderr == ""
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert len(lines) == 2
    for label, probability in lines:
        assert label in LABELS.values() and 1 / 3 <= float(probability) <= 1


@pytest.mark.parametrize(("threshold", "count"), [("0", 3), ("1", 0)])
def test_of_several_labels_all_above_the_threshold_are_printed(
    build_tiny_model, tiny_tokenizer, tmp_path, threshold, count
):
    names = {"id2label": LABELS, "label2id": {label: index for index, label in LABELS.items()}}
    settings = {"problem_type": "multi_label_classification", **names}
    build_tiny_model(KakehashiForSequenceClassification, **settings).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    result = CliRunner().invoke(cli.app, ["classify-text", str(tmp_path), "cats", "--threshold", threshold])
    fields = result.stdout.removesuffix("\n").split("\t")
    assert set(fields[::2]) == (set(LABELS.values()) if count else {""})
    assert sorted(fields[1::2], reverse=True) == fields[1::2] and len(fields[1::2]) == count


def test_a_regression_model_gives_its_number_alone(build_tiny_model, tiny_tokenizer, tmp_path):
    model = build_tiny_model(KakehashiForSequenceClassification, problem_type="regression", num_labels=1)
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    result = CliRunner().invoke(cli.app, ["classify-text", str(tmp_path), "I love cats."])
    assert len(result.stdout.split()) == 1 and abs(float(result.stdout)) < 10


def test_each_line_of_stdin_gives_one_line(classifier_dir):
    texts = ["I love cats.", "", "The small dog did not run.", "I love cats."]
    result = CliRunner().invoke(cli.app, ["classify-text", classifier_dir, "--batch-size", "2"], "\n".join(texts))
    first, empty, other, again, end = result.stdout.split("\n")
    assert first == again != "" and empty == end == "" and "\t" in other


def test_a_writer_asked_to_classify_names_the_command_that_fits(tiny_model_dir, capsys):
    assert cli.main(["classify-text", str(tiny_model_dir), "cats"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "use `kakehashi generate`" in error


def test_an_empty_text_is_refused(classifier_dir, capsys):
    assert cli.main(["classify-text", classifier_dir, "cats", " "]) == 2
    assert "text 2 is empty" in capsys.readouterr().err
