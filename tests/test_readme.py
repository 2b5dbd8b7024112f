"""Every command and code block of both READMEs runs; with a real quickstart at hand their output is compared too.

`make readme` runs this file with KAKEHASHI_QUICKSTART set to the folder that `make quickstart` has filled. Without it,
tiny untrained models stand where the READMEs expect the quickstart's: then everything is run, but only what does not
depend on the weights is compared.
"""

import contextlib
import functools
import io
import lzma
import os
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kakehashi import cli
from kakehashi.modeling import KakehashiConfig, KakehashiForSequenceClassification
from kakehashi.modeling.configuration_kakehashi import PRESETS
from kakehashi.training import inference
from kakehashi.training.arguments import ClassifyArguments, InstructArguments, PretrainArguments
from kakehashi.training.recipe import parse_recipe, read_overrides, read_recipe

ROOT = Path(__file__).resolve().parent.parent
READMES = ["README.md", "README.ja.md"]
QUICKSTART = os.environ.get("KAKEHASHI_QUICKSTART")
if QUICKSTART:
    QUICKSTART = str(Path(QUICKSTART).resolve())
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
PAIRS = "en\tja\n" + "I love cats.\t私は猫が大好きです。\nShe reads a book.\t彼女は本を読みます。\n" * 40


def blocks(name, language):
    return [body for kind, body in BLOCK.findall((ROOT / name).read_text("utf-8")) if kind == language]


def console_commands(name):
    """(command, printed lines) of every `$ …` line."""
    for body in blocks(name, "console"):
        for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def run_kakehashi(arguments):
    result = CliRunner().invoke(cli.app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.fixture
def models(tmp_path, monkeypatch, tiny_model, tiny_tokenizer, build_tiny_model):
    """The working directory that the READMEs assume: models under runs/quickstart, real or tiny."""
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    if QUICKSTART:
        Path("runs/quickstart").symlink_to(QUICKSTART, target_is_directory=True)
        return
    classifier = build_tiny_model(KakehashiForSequenceClassification, num_labels=2)
    for folder, model in (("instruct", tiny_model), ("classify", classifier)):
        model.save_pretrained(f"runs/quickstart/{folder}")
        tiny_tokenizer.save_pretrained(f"runs/quickstart/{folder}")
    # An untrained model never ends a sentence by itself.
    monkeypatch.setattr(inference, "generate_texts", functools.partial(inference.generate_texts, max_new_tokens=4))


@pytest.mark.parametrize("name", READMES)
def test_every_console_command_runs_and_prints_what_the_readme_shows(name, models):
    for command, output in console_commands(name):
        words = shlex.split(command)
        if words[0] == "make":
            targets = re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.M)
            assert set(words[1:]) <= set(targets), command
        elif words[0] == "kakehashi":
            printed = run_kakehashi(words[1:])
            if QUICKSTART or words[1] == "recipes":
                assert printed == output, command
        else:
            assert command == ". .venv/bin/activate"


@pytest.mark.parametrize("name", READMES)
def test_the_python_block_runs_and_prints_what_the_readme_shows(name, models):
    [code] = blocks(name, "python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, name, "exec"), {})
    assert printed.getvalue().count("\n") == 1
    if QUICKSTART:
        assert printed.getvalue() in blocks(name, "text")


def short(words):
    """A training command of the READMEs with a few steps of a tiny model."""
    if words[1] == "instruct":
        words += ["--max_steps", "2", "--preset", "nano", "--disable_tqdm", "true", "--use_cpu", "true"]
        words += ["--per_device_train_batch_size", "2", "--per_device_eval_batch_size", "2"]
    if words[1] == "tokenizer":
        words[words.index("--vocab-size") + 1] = "384"
    return words


@pytest.mark.parametrize("name", READMES)
def test_the_training_commands_run_one_after_the_other(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script, _ = blocks(name, "sh")
    for split in ("train", "valid", "test"):
        Path(f"{split}.tsv.xz").write_bytes(lzma.compress(PAIRS.encode()))
    for line in script.splitlines():
        words = shlex.split(line)
        assert words[0] == "kakehashi"
        run_kakehashi(short(words)[1:])


@pytest.mark.parametrize("name", READMES)
def test_the_other_commands_exist_with_the_options_shown(name):
    _, script = blocks(name, "sh")
    stages = {"pretrain": PretrainArguments, "instruct": InstructArguments, "classify": ClassifyArguments}
    stages["check"] = InstructArguments
    for line in script.splitlines():
        words = shlex.split(line)
        words = words[words.index("kakehashi") + 1 :]
        arguments = stages.get(words[0])
        if arguments is None:
            shown = run_kakehashi([words[0], "--help"])
            assert all(word in shown for word in words if word.startswith("--") and "_" not in word), line
        else:
            overrides = read_overrides(words[2:])
            # An option of the command, no key of the recipe.
            overrides.pop("folds", None)
            parse_recipe(arguments, read_recipe(words[1]), overrides)


@pytest.mark.parametrize("name", READMES)
def test_the_table_of_sizes_is_that_of_the_presets(name):
    import torch

    from kakehashi.modeling import KakehashiForConditionalGeneration

    text = (ROOT / name).read_text("utf-8")
    for preset in PRESETS:
        config = KakehashiConfig.preset(preset)
        with torch.device("meta"):
            parameters = KakehashiForConditionalGeneration(config).num_parameters()
        row = re.search(rf"^\| {preset} \|(.*)\|$", text, re.M).group(1)
        layers, width, shown = (cell.strip() for cell in row.split("|"))
        assert layers == f"{config.num_encoder_layers} + {config.num_decoder_layers}"
        assert int(width) == config.hidden_size
        assert parse_count(shown) == pytest.approx(parameters, rel=0.005), preset


def parse_count(text):
    """The number in `47.5 M`, `4,750 万` or `1 億 5,670 万`."""
    if text.endswith("M"):
        return float(text.split()[0]) * 1e6
    hundred_millions, _, rest = text.rpartition("億")
    return float(hundred_millions or 0) * 1e8 + float(rest.split()[0].replace(",", "")) * 1e4
