"""What a card says of each kind of model."""

import pytest

from kakehashi.training.card_heads import card_head, list_described_architectures


@pytest.mark.parametrize("architecture", list_described_architectures())
def test_every_head_says_its_purpose_in_both_languages_and_how_to_load_it(architecture):
    head = card_head({"architectures": [architecture]}, "pretrain")
    assert head.intended_use.endswith(".") and head.intended_use_ja.endswith("。")
    assert f"{head.auto_class}.from_pretrained(name, trust_remote_code=True)" in head.usage("user/name")
    assert 'name = "user/name"' in head.usage("user/name")


def test_a_model_without_a_task_has_nothing_to_say():
    assert card_head({"architectures": ["KakehashiModel"]}, "pretrain") is None
    assert card_head({}, None) is None


@pytest.mark.parametrize(
    ("templates", "question"),
    [
        ({"en": "To English: {text}", "ja": "To Japanese: {text}"}, "To Japanese: I love cats."),
        ({"en": "To English: {text}"}, "To English: 私は猫が大好きです。"),
        ({}, "I love cats."),
    ],
)
def test_a_translator_is_asked_as_it_was_tuned(templates, question):
    config = {
        "architectures": ["KakehashiForConditionalGeneration"],
        "task_specific_params": {"translation": templates},
    }
    head = card_head(config, "instruct")
    assert question in head.call
    assert ("pipeline(" in head.call) == bool(templates)
    assert head.pipeline_tag == ("translation" if templates else None)


def test_a_classifier_of_several_labels_and_a_regression_are_told_apart():
    config = {"architectures": ["KakehashiForSequenceClassification"]}
    calls = {
        kind: card_head({**config, "problem_type": kind}, "classify").call
        for kind in (None, "multi_label_classification", "regression")
    }
    assert "argmax" in calls[None] and "sigmoid" in calls["multi_label_classification"]
    assert "argmax" not in calls["regression"]
