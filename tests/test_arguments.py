"""The keys of a recipe that are ours: their defaults, and what they refuse by themselves."""

import pytest
from transformers import Seq2SeqTrainingArguments

from kakehashi.training.arguments import (
    TRAINING_DEFAULTS,
    ClassifyArguments,
    InstructArguments,
    PretrainArguments,
    StageArguments,
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


@pytest.mark.parametrize("name", ["next_word_ratio", "noise_density", "mlm_probability"])
def test_a_share_lies_between_0_and_1(name):
    with pytest.raises(ValueError, match=f"`{name}` must be between 0 and 1, got 1.5"):
        PretrainArguments(**{name: 1.5})


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
