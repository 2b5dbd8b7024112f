"""The keys of a recipe that are ours: their defaults, and what they refuse by themselves."""

import pytest
from transformers import Seq2SeqTrainingArguments

from kakehashi.training.arguments import (
    TRAINING_DEFAULTS,
    ClassifyArguments,
    InstructArguments,
    PretrainArguments,
    StageArguments,
    require_compatible,
)


@pytest.mark.parametrize("stage", [StageArguments, PretrainArguments, InstructArguments, ClassifyArguments])
def test_every_key_has_a_default_and_says_what_it_is_for(stage):
    stage()
    for field in stage.__dataclass_fields__.values():
        assert field.metadata["help"].strip()


def test_our_defaults_are_keys_of_trainer(tmp_path):
    arguments = Seq2SeqTrainingArguments(**{**TRAINING_DEFAULTS, "output_dir": str(tmp_path)})
    assert arguments.train_sampling_strategy == "group_by_length"


def test_no_key_of_ours_hides_one_of_trainer():
    trainer_keys = set(Seq2SeqTrainingArguments.__dataclass_fields__)
    for stage in (PretrainArguments, InstructArguments, ClassifyArguments):
        assert not trainer_keys & set(stage.__dataclass_fields__)


def test_a_mapping_may_come_as_text_from_the_command_line():
    assert StageArguments(config_overrides="{hidden_size: 64}").config_overrides == {"hidden_size": 64}
    with pytest.raises(ValueError, match="`config_overrides` must be a mapping"):
        StageArguments(config_overrides="[1]")


def test_a_span_is_at_least_one_token_long():
    with pytest.raises(ValueError, match=r"`mean_noise_span_length` must be at least 1, got 0.5"):
        PretrainArguments(mean_noise_span_length=0.5)


@pytest.mark.parametrize(
    ("name", "bounds", "allowed", "refused"),
    [
        ("next_word_ratio", "between 0 and 1", (0.0, 1.0), (-0.1, 1.5)),
        ("noise_density", "above 0 and below 1", (0.1, 0.9), (0.0, 1.0)),
        ("mlm_probability", "above 0 and at most 1", (0.1, 1.0), (0.0, 1.5)),
    ],
)
def test_a_share_lies_between_0_and_1(name, bounds, allowed, refused):
    for value in allowed:
        PretrainArguments(**{name: value})
    for value in refused:
        with pytest.raises(ValueError, match=f"`{name}` must be {bounds}, got {value}"):
            PretrainArguments(**{name: value})


def test_label_smoothing_of_trainer_is_for_classification_alone(tmp_path):
    settings = Seq2SeqTrainingArguments(str(tmp_path), label_smoothing_factor=0.1, use_cpu=True)
    require_compatible(ClassifyArguments(), settings)
    for stage in (PretrainArguments, InstructArguments):
        with pytest.raises(
            ValueError,
            match=r"`label_smoothing_factor` must be 0 in this stage, got 0.1: use "
            r"`config_overrides: \{label_smoothing: 0.1\}`",
        ):
            require_compatible(stage(), settings)


def test_a_stream_needs_an_end_of_the_run(tmp_path):
    def settings(**keys):
        return Seq2SeqTrainingArguments(str(tmp_path), use_cpu=True, **keys)

    require_compatible(PretrainArguments(streaming=True), settings(max_steps=1))
    require_compatible(InstructArguments(streaming=True, max_minutes=1.0), settings())
    with pytest.raises(ValueError, match="`max_steps` or `max_minutes` must be given where `streaming` is true"):
        require_compatible(PretrainArguments(streaming=True), settings())


def test_checkpoints_that_cannot_be_gone_on_from_are_refused(tmp_path):
    settings = Seq2SeqTrainingArguments(str(tmp_path), save_only_model=True, use_cpu=True)
    with pytest.raises(ValueError, match="`save_only_model` must be false, got true: --resume needs the optimizer"):
        require_compatible(InstructArguments(), settings)


@pytest.mark.parametrize("key", ["prediction_loss_only", "batch_eval_metrics", "eval_do_concat_batches"])
def test_what_keeps_labels_from_being_scored_is_refused(key, tmp_path):
    needed = key == "eval_do_concat_batches"
    settings = Seq2SeqTrainingArguments(str(tmp_path), use_cpu=True, **{key: not needed})
    require_compatible(InstructArguments(), settings)
    with pytest.raises(ValueError, match=f"`{key}` must be {needed} in this stage, got {not needed}: ".lower()):
        require_compatible(ClassifyArguments(), settings)


@pytest.mark.parametrize("stage", [PretrainArguments, InstructArguments, ClassifyArguments])
def test_workers_that_outlive_an_epoch_are_refused(stage, tmp_path):
    settings = {"dataloader_num_workers": 1, "use_cpu": True}
    require_compatible(stage(), Seq2SeqTrainingArguments(str(tmp_path), **settings))
    settings["dataloader_persistent_workers"] = True
    with pytest.raises(ValueError, match="`dataloader_persistent_workers` must be false, got true: workers that"):
        require_compatible(stage(), Seq2SeqTrainingArguments(str(tmp_path), **settings))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seeds": 3}, "`seeds` must be given with `shots`, got 3 without it"),
        ({"lora_dropout": 0.1}, "`lora_dropout` must be given with `lora_rank`, got 0.1 without it"),
        ({"lora_alpha": 8.0, "lora_rank": 0}, "`lora_alpha` must be given with `lora_rank`, got 8.0 without it"),
        ({"lora_target_modules": ["q_proj"]}, r"`lora_target_modules` must be given with `lora_rank`, got \['q_"),
    ],
)
def test_a_key_without_the_one_that_it_belongs_to_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        ClassifyArguments(**keys)


def test_text_and_label_stand_in_two_columns():
    with pytest.raises(ValueError, match="`label_column` must be another one than `text_column`, got 'text' for both"):
        ClassifyArguments(label_column="text")
