"""The program that loads folders as a stranger does."""

import json

import pytest
import torch

from kakehashi.modeling import KakehashiForSequenceClassification
from kakehashi.training.inference import encode_prompt
from kakehashi.training.load_without_kakehashi import HideKakehashi
from kakehashi.training.stranger import ask_stranger


def test_a_fresh_process_without_kakehashi_gives_the_same_answers(
    tiny_model_dir, tiny_model, tiny_tokenizer, build_tiny_model, tmp_path
):
    classifier = build_tiny_model(KakehashiForSequenceClassification, num_labels=3)
    for folder in (tmp_path / "classifier",):
        classifier.save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
    generator, folder = str(tiny_model_dir), str(tmp_path / "classifier")
    reply = ask_stranger(
        {
            "folders": {generator: "AutoModelForSeq2SeqLM", folder: "AutoModelForSequenceClassification"},
            "translation": {"model": generator, "texts": ["I love cats."]},
            "classification": {"model": folder, "texts": ["I love cats."]},
        }
    )
    source = torch.tensor([encode_prompt(tiny_model, tiny_tokenizer, "I love cats.")])
    expected = tiny_model.generate(source, max_new_tokens=48, do_sample=False)
    label_id = classifier(**tiny_tokenizer("I love cats.", return_tensors="pt")).logits.argmax().item()
    assert reply["translation"] == tiny_tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert reply["classification"] == [classifier.config.id2label[label_id]]
    assert reply["classes"][generator] == "AutoModelForSeq2SeqLM → KakehashiForConditionalGeneration"


def test_a_folder_that_does_not_load_is_reported(tmp_path):
    request = {"folders": {str(tmp_path): "AutoModelForSeq2SeqLM"}, "translation": {}, "classification": {}}
    with pytest.raises(RuntimeError, match="did not load without kakehashi"):
        ask_stranger(json.loads(json.dumps(request)))


def test_only_kakehashi_is_hidden():
    with pytest.raises(ModuleNotFoundError, match="kakehashi"):
        HideKakehashi().find_spec("kakehashi.modeling", None)
    assert HideKakehashi().find_spec("json", None) is None
