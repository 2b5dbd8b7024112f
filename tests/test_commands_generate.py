"""`kakehashi generate` and `kakehashi translate`, from the command line to the printed line."""

import pytest
from typer.testing import CliRunner

from kakehashi import cli
from kakehashi.modeling import KakehashiForSequenceClassification
from kakehashi.training import inference

pytestmark = pytest.mark.usefixtures("verbosity")


@pytest.fixture
def asked(monkeypatch):
    """What the model was asked: the prompts and the settings of each call; it answers with the last word."""
    calls = []

    def answer(model, tokenizer, prompts, **settings):
        calls.append((prompts, settings))
        return [prompt.split()[-1] for prompt in prompts]

    monkeypatch.setattr(inference, "generate_texts", answer)
    return calls


def run(*arguments, stdin=None):
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_generate_prints_one_line_for_each_text(tiny_model_dir):
    result = run("generate", tiny_model_dir, "I love cats.", "I love dogs.", "--max-new-tokens", 4)
    assert result.exit_code == 0 and result.stdout.count("\n") == 2
    assert result.stderr == ""


def test_generate_answers_stdin_line_by_line(tiny_model_dir, asked):
    result = run("generate", tiny_model_dir, stdin="I love cats.\n\nI love dogs.\n")
    assert result.stdout == "cats.\n\ndogs.\n"
    [(prompts, _)] = asked
    assert prompts == ["I love cats.", "I love dogs."]


def test_generate_raw_gives_the_text_as_it_is(tiny_model_dir, asked):
    run("generate", tiny_model_dir, "--raw", "I love")
    run("generate", tiny_model_dir, "I love")
    assert [settings["raw"] for _, settings in asked] == [True, False]


def test_generate_passes_its_options_on(tiny_model_dir, asked):
    run(
        *("generate", tiny_model_dir, "I love", "--batch-size", 3, "--max-new-tokens", 7, "--num-beams", 2),
        *("--do-sample", "--temperature", 0.5, "--top-p", 0.8),
    )
    assert asked[0][1] == {
        "raw": False,
        "batch_size": 3,
        "max_new_tokens": 7,
        "num_beams": 2,
        "do_sample": True,
        "temperature": 0.5,
        "top_p": 0.8,
    }


def test_generate_draws_the_same_again_with_the_same_seed(tiny_model_dir):
    def draw(seed):
        return run("generate", tiny_model_dir, "I love", "--do-sample", "--seed", seed, "--max-new-tokens", 8).stdout

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize("language, name", [("ja", "Japanese"), ("en", "English")])
def test_translate_asks_with_the_instruction_of_the_language(tiny_model_dir, asked, language, name):
    instruction = f"Translate to {name}: "
    result = run("translate", tiny_model_dir, "--to", language, "I {text} cats.", "I love dogs.")
    assert result.stdout == "cats.\ndogs.\n"
    assert asked[0][0] == [f"{instruction}I {{text}} cats.", f"{instruction}I love dogs."]


def test_translate_answers_stdin_line_by_line(tiny_model_dir):
    result = run("translate", tiny_model_dir, "--to", "ja", "--max-new-tokens", 3, stdin="a\n\nb\nc")
    assert result.stdout.count("\n") == 4 and result.stdout.split("\n")[1] == ""


def test_translate_knows_two_languages(capsys):
    assert cli.main(["translate", "model", "--to", "fr", "cats"]) == 2
    error = capsys.readouterr().err
    assert "'fr'" in error and "'ja', 'en'" in error


def test_translate_needs_a_language(capsys):
    assert cli.main(["translate", "model", "cats"]) == 2
    assert "--to" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["generate"], ["translate", "--to", "ja"]])
def test_a_missing_model_is_one_line_on_stderr(command, capsys):
    assert cli.main([*command, "./no/such/model", "cats"]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert output.err.startswith("kakehashi: error: `model` must be an existing folder or a Hub id")


def test_an_empty_text_is_one_line_on_stderr(tiny_model_dir, capsys):
    assert cli.main(["generate", str(tiny_model_dir), ""]) == 2
    assert capsys.readouterr().err == (
        "kakehashi: error: `TEXT` must hold at least one character, but text 1 is empty: ''\n"
    )


def test_a_classifier_asked_to_generate_names_the_command_that_fits(
    build_tiny_model, tiny_tokenizer, tmp_path, capsys
):
    build_tiny_model(KakehashiForSequenceClassification).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert cli.main(["generate", str(tmp_path), "cats"]) == 2
    assert "use `kakehashi classify-text`" in capsys.readouterr().err
