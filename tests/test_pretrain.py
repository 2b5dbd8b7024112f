"""Pretraining from a text file to a loadable folder, in each of the three shapes."""

import json

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from kakehashi.tokenization import train_tokenizer
from kakehashi.training.arguments import PretrainArguments
from kakehashi.training.mixture import TASK_TOKENS, denoising_tasks, ul2_tasks
from kakehashi.training.pretrain import longest_piece, run_pretrain
from kakehashi.training.recipe import parse_recipe

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


@pytest.fixture
def recipe(tmp_path, tiny_tokenizer, tiny_sentences):
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join([*tiny_sentences, " ".join(tiny_sentences)]), encoding="utf-8")
    return {
        "preset": "nano",
        "config_overrides": SIZES,
        "tokenizer": str(tmp_path / "tokenizer"),
        "train_files": [str(corpus)],
        "validation_split": 0.2,
        "max_source_length": 16,
        "max_target_length": 16,
        "max_length": 16,
        "max_steps": 12,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 4,
        "logging_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 6,
        "save_strategy": "no",
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "run"),
    }


def run(recipe, **keys):
    return run_pretrain(*parse_recipe(PretrainArguments, {**recipe, **keys}))


@pytest.mark.parametrize(
    ("objective", "auto_class"),
    [
        ("encoder-decoder", AutoModelForSeq2SeqLM),
        ("causal-lm", AutoModelForCausalLM),
        ("masked-lm", AutoModelForMaskedLM),
    ],
)
def test_every_objective_learns_and_leaves_a_folder_of_its_shape(recipe, tmp_path, objective, auto_class):
    metrics = run(recipe, objective=objective)
    log = json.loads((tmp_path / "run" / "log_history.json").read_text())
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0]
    assert metrics["eval_loss"] > 0
    model, info = auto_class.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert type(model).__name__ in AutoConfig.from_pretrained(tmp_path / "run").architectures
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    starts_with_bos = tokenizer("I love cats.")["input_ids"][0] == tokenizer.bos_token_id
    assert starts_with_bos == (objective == "causal-lm")


def test_validation_draws_the_same_gaps_each_time(recipe, tmp_path):
    run(recipe, learning_rate=0.0, eval_steps=4, max_steps=8)
    log = json.loads((tmp_path / "run" / "log_history.json").read_text())
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert len(losses) == 2
    assert losses[0] == losses[1]


def test_a_run_starts_from_an_earlier_one(recipe, tmp_path, capsys):
    run(recipe)
    recipe = {key: value for key, value in recipe.items() if key not in ("preset", "config_overrides", "tokenizer")}
    run(recipe, model=str(tmp_path / "run"), output_dir=str(tmp_path / "second"), max_steps=1)
    assert "KakehashiForConditionalGeneration from" in capsys.readouterr().err


def test_a_longest_piece_leaves_room_for_what_the_objective_adds():
    lengths = {"max_source_length": 20, "max_target_length": 10, "max_length": 30}
    arguments = PretrainArguments(**lengths)
    assert longest_piece(arguments, denoising_tasks(1.0)) == 10
    assert longest_piece(arguments, denoising_tasks(0.0)) > 10
    assert longest_piece(arguments, denoising_tasks(0.5)) == 10
    assert longest_piece(arguments, ul2_tasks((7, 8, 9))) <= 10
    assert longest_piece(PretrainArguments(**lengths, objective="causal-lm"), ()) == 28
    assert longest_piece(PretrainArguments(**lengths, objective="masked-lm"), ()) == 29
    with pytest.raises(ValueError, match="`max_length` must be more than 2, got 2"):
        longest_piece(PretrainArguments(max_length=2, objective="causal-lm"), ())
    with pytest.raises(ValueError, match="`max_source_length` and `max_target_length` must be at least 3"):
        longest_piece(PretrainArguments(max_target_length=1), denoising_tasks())


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "corpus.txt"), (b"", "empty"), (b"good line\n\xff\xfe bad\n", "line 2")],
)
def test_a_corpus_that_cannot_be_read_is_named(recipe, tmp_path, content, message):
    corpus = tmp_path / "corpus.txt"
    corpus.unlink() if content is None else corpus.write_bytes(content)
    with pytest.raises((ValueError, OSError), match=message):
        run(recipe)


def test_an_absent_column_lists_those_present(recipe):
    with pytest.raises(ValueError, match="has no column `body`; the columns present are `text`"):
        run(recipe, text_column="body")


@pytest.mark.parametrize("objective", ["encoder-decoder", "causal-lm", "masked-lm"])
def test_packed_rows_are_full_and_teach(recipe, objective):
    metrics = run(recipe, objective=objective, packing=True, packed_length=64, per_device_train_batch_size=2)
    assert metrics["packing_efficiency"] > 0.7
    assert metrics["eval_loss"] < metrics["train_loss"] + 1


def test_ul2_pretrains_with_a_tokenizer_that_knows_its_tokens(recipe, tiny_sentences, tmp_path):
    tokenizer = train_tokenizer(
        tiny_sentences * 4, vocab_size=384, num_sentinels=10, extra_special_tokens=TASK_TOKENS, show_progress=False
    )
    tokenizer.save_pretrained(tmp_path / "ul2")
    metrics = run(recipe, objective="ul2", tokenizer=str(tmp_path / "ul2"), packing=True)
    assert metrics["steps"] == 12


def test_ul2_names_the_tokens_that_a_tokenizer_lacks(recipe):
    with pytest.raises(ValueError, match=r"without <\|next\|>, .*--special-token '<\|short\|>'"):
        run(recipe, objective="ul2")


def test_a_tokenizer_with_too_few_sentinels_is_refused_before_anything_is_read(recipe):
    message = r"`max_source_length` must be lower, got 256: 13 spans are cut out of 256 tokens .* the tokenizer has 10"
    recipe["train_files"] = ["nowhere.txt"]
    with pytest.raises(ValueError, match=message):
        run(recipe, max_source_length=256, max_target_length=256)
    for keys in ({"max_source_length": 64}, {"next_word_ratio": 1.0}, {"mean_noise_span_length": 8.0}):
        with pytest.raises(ValueError, match=r"nowhere\.txt"):
            run(recipe, **{"max_source_length": 256, "max_target_length": 256, **keys})


@pytest.mark.parametrize("keys", [{}, {"packing": True}, {"streaming": True}, {"streaming": True, "packing": True}])
def test_documents_without_text_are_too_few(recipe, tmp_path, keys):
    file = tmp_path / "blank.jsonl"
    file.write_text('{"text": ""}\n{"text": " "}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="`train_files` must give at least one example, got none"):
        run(recipe, train_files=[str(file)], validation_split=0.0, **keys)


@pytest.mark.parametrize(
    ("keys", "name"),
    [({"label_smoothing_factor": 0.1}, "label_smoothing"), ({"dataloader_persistent_workers": True}, "dataloader")],
)
def test_keys_of_trainer_that_would_not_do_what_they_say_are_refused(recipe, keys, name):
    with pytest.raises(ValueError, match=name):
        run(recipe, dataloader_num_workers=1, **keys)


@pytest.mark.parametrize("packing", [False, True])
def test_a_stream_is_pretrained_on(recipe, packing):
    metrics = run(
        recipe,
        streaming=True,
        validation_split=0.0,
        validation_files=recipe["train_files"],
        packing=packing,
        save_strategy="no",
    )
    assert metrics["steps"] == 12 and metrics["num_tokens_seen"] > 0


def test_a_stream_has_no_end_of_its_own(recipe):
    with pytest.raises(ValueError, match="`max_steps` or `max_minutes` must be given where `streaming` is true"):
        run(recipe, streaming=True, validation_split=0.0, max_steps=-1)
