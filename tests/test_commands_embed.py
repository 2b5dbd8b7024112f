"""`kakehashi embed`, from the command line to the table, the file and the error."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from kakehashi import cli
from kakehashi.commands import embed
from kakehashi.modeling import KakehashiForCausalLM, KakehashiForSequenceClassification
from kakehashi.training import embedding, inference

pytestmark = pytest.mark.usefixtures("verbosity")

TEXTS = ["I love cats.", "I love dogs.", "彼女は公園で本を読みます。"]


def run(*arguments, stdin=None):
    result = CliRunner().invoke(cli.app, [str(argument) for argument in ("embed", *arguments)], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def similarities(tiny_model_dir):
    vectors = embedding.embed_texts(*inference.load_for_embedding(tiny_model_dir), TEXTS)
    return embedding.cosine_similarities(vectors)


def test_it_prints_how_near_every_two_texts_are(tiny_model_dir, similarities):
    lines = run(tiny_model_dir, *TEXTS).stdout.splitlines()
    assert lines[0].split() == ["text", "1", "2", "3"]
    for number, (line, text, row) in enumerate(zip(lines[1:4], TEXTS, similarities, strict=True), start=1):
        assert line.startswith(f"{number}  {text}")
        assert line.split()[-3:] == [f"{value:.3f}" for value in row]
    assert lines[4].startswith("cosine of the angle")


def test_of_many_texts_it_prints_the_nearest_of_each(tiny_model_dir, two_hundred_sentences):
    texts = two_hundred_sentences[: embed.MAX_COLUMNS + 1]
    lines = run(tiny_model_dir, *texts).stdout.splitlines()
    assert lines[0].split() == ["text", "nearest", "cosine"]
    assert len(lines) == len(texts) + 2


@pytest.mark.parametrize("file", ["texts.txt", "texts.jsonl", "texts.csv"])
def test_texts_come_from_files(tiny_model_dir, tmp_path, similarities, file):
    contents = {
        "texts.txt": "\n".join(TEXTS),
        "texts.jsonl": "\n".join(json.dumps({"line": text}) for text in TEXTS),
        "texts.csv": "\n".join(["line", *TEXTS]),
    }
    (tmp_path / file).write_text(contents[file] + "\n", "utf-8")
    result = run(tiny_model_dir, "--file", tmp_path / file, "--text-column", "line", "--json")
    read = json.loads(result.stdout)
    assert read["texts"] == TEXTS and read["dimensions"] == 32
    np.testing.assert_allclose(read["cosine_similarities"], similarities, atol=1e-5)


def test_texts_come_from_stdin(tiny_model_dir):
    expected = run(tiny_model_dir, *TEXTS).stdout
    assert run(tiny_model_dir, stdin="\n".join(TEXTS) + "\n").stdout == expected
    assert run(tiny_model_dir, "--file", "-", stdin="\n\n".join(TEXTS)).stdout == expected


@pytest.mark.parametrize("suffix", embedding.VECTOR_SUFFIXES)
def test_vectors_go_to_a_file_and_the_table_still_to_stdout(tiny_model_dir, tmp_path, suffix):
    path = tmp_path / "new" / f"vectors{suffix}"
    result = run(tiny_model_dir, *TEXTS, "--output", path)
    assert path.is_file() and result.stderr == f"3 vectors of 32 numbers in {path}\n"
    assert result.stdout == run(tiny_model_dir, *TEXTS).stdout


def test_one_text_has_a_vector_and_nothing_to_compare(tiny_model_dir, tmp_path):
    assert run(tiny_model_dir, "Hi!").stdout == "32 numbers; a second text would show how near they are\n"
    assert run(tiny_model_dir, "Hi!", "--output", tmp_path / "one.npy").stdout == ""
    assert np.load(tmp_path / "one.npy").shape == (1, 32)
    assert json.loads(run(tiny_model_dir, "Hi!", "--json").stdout)["cosine_similarities"] is None


def test_many_texts_need_a_file_to_go_to(tiny_model_dir, tmp_path, two_hundred_sentences, monkeypatch):
    monkeypatch.setattr(embed, "MAX_COMPARED", 5)
    texts = two_hundred_sentences[:6]
    with pytest.raises(ValueError, match="`--output` must be given for more than 5 texts, got 6 without it"):
        run(tiny_model_dir, *texts)
    assert run(tiny_model_dir, *texts, "--output", tmp_path / "many.npy").stdout == ""
    assert np.load(tmp_path / "many.npy").shape == (6, 32)


def test_a_classifier_has_an_encoder_too(build_tiny_model, tiny_tokenizer, tmp_path):
    build_tiny_model(KakehashiForSequenceClassification, num_labels=3).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert run(tmp_path, *TEXTS).exit_code == 0


def test_a_long_text_stays_one_short_line(tiny_model_dir):
    lines = run(tiny_model_dir, "I love\ncats. " * 20, "I love dogs.").stdout.splitlines()
    assert len(lines) == 4 and "…" in lines[1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a", "--file", "x.txt"], "texts must come from TEXT or from `--file`, got both"),
        (["a", "--output", "v.txt"], "`output` must end in .npy, .safetensors, .jsonl, got v.txt"),
        (["a", "--output", "model.safetensors/v.npy"], "`output` must be a file in a folder that can be written to"),
        (["--file", "x.jsonl", "--output", "x.jsonl"], "`--output` must be another file than those that are read"),
        (["a", ""], "text 2 is empty"),
        (["--file", "missing.txt"], "missing.txt"),
        ([], "there must be at least one text, got none"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tiny_model_dir, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tiny_model_dir)
    (tiny_model_dir / "x.jsonl").write_text('{"text": "a"}\n', "utf-8")
    monkeypatch.setattr("kakehashi.commands.texts._iterate_stdin", lambda: iter(()))
    assert cli.main(["embed", str(tiny_model_dir), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err


def test_a_model_without_an_encoder_is_one_line_and_exit_code_2(build_tiny_model, tiny_tokenizer, capsys, tmp_path):
    build_tiny_model(KakehashiForCausalLM).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert cli.main(["embed", str(tmp_path), "a", "b"]) == 2
    assert "must have an encoder" in capsys.readouterr().err.splitlines()[-1]
