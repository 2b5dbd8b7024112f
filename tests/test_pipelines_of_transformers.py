"""The pipelines that Transformers has itself, each on the head that it is for."""

import logging

import numpy as np
import pytest
import torch
from transformers import pipeline

from kakehashi.modeling import (
    KakehashiEncoderModel,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
    KakehashiForTokenClassification,
)
from kakehashi.tokenization import for_causal_lm
from kakehashi.training import inference, labelling

TEXTS = ["I love cats.", "She reads a book in the park. Do you want to eat an apple?", "彼女は公園で本を読みます。"]
LABELS = {"id2label": {0: "cat", 1: "dog", 2: "book"}, "label2id": {"cat": 0, "dog": 1, "book": 2}}


@pytest.fixture
def build(build_sharp_model, tiny_tokenizer, tmp_path, caplog):
    """A function that builds a pipeline from a saved folder: `build("fill-mask", KakehashiForMaskedLM)`."""
    library = logging.getLogger("transformers")
    library.addHandler(caplog.handler)

    def build(task, model_class, tokenizer=tiny_tokenizer, **overrides):
        model = build_sharp_model(model_class, **overrides)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return pipeline(task, model=str(tmp_path), device="cpu"), model

    yield build
    library.removeHandler(caplog.handler)
    assert "not supported" not in caplog.text


def test_text_classification_gives_the_labels_of_kakehashi_classify_text(build, tiny_tokenizer):
    pipe, model = build("text-classification", KakehashiForSequenceClassification, num_labels=3, **LABELS)
    answers = pipe(TEXTS, batch_size=2)
    expected = labelling.classify_texts(model, tiny_tokenizer, TEXTS)
    assert [answer["label"] for answer in answers] == [label for label, _ in expected]
    np.testing.assert_allclose([answer["score"] for answer in answers], [score for _, score in expected], rtol=1e-4)
    assert len(pipe(TEXTS[0], top_k=None)) == 3


def test_a_text_longer_than_a_table_of_positions_is_cut_to_the_length_given(build, tiny_tokenizer):
    settings = {"num_labels": 3, "position_embedding_type": "learned"}
    pipe, model = build("text-classification", KakehashiForSequenceClassification, **settings)
    batch = tiny_tokenizer(TEXTS[0] * 100, truncation=True, max_length=128, return_tensors="pt")
    assert batch["input_ids"].shape == (1, 128) and batch["input_ids"][0, -1] == tiny_tokenizer.eos_token_id
    with torch.no_grad():
        expected = model(**batch).logits.softmax(-1).max().item()
    (answer,) = pipe(TEXTS[0] * 100, truncation=True, max_length=128)
    assert answer["score"] == pytest.approx(expected, rel=1e-4)


def test_token_classification_gives_a_label_and_its_place_in_the_text(build):
    pipe, _ = build("token-classification", KakehashiForTokenClassification, num_labels=3, **LABELS)
    for text, entities in zip(TEXTS, pipe(TEXTS, batch_size=3), strict=True):
        assert entities and {entity["entity"] for entity in entities} <= set(LABELS["label2id"])
        assert all(0 <= entity["start"] < entity["end"] <= len(text) for entity in entities)
    grouped = pipe(TEXTS[0], aggregation_strategy="simple")
    assert all(group["word"].strip() in TEXTS[0] for group in grouped)


def test_fill_mask_gives_the_likeliest_tokens(build, tiny_tokenizer):
    pipe, model = build("fill-mask", KakehashiForMaskedLM)
    ids = tiny_tokenizer("I love <mask> cats.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        likeliest = model(ids).logits[0, ids[0].tolist().index(tiny_tokenizer.mask_token_id)].topk(3).indices
    for text in ("I love <mask> cats.", "I love<mask> cats."):
        assert [answer["token"] for answer in pipe(text, top_k=3)] == likeliest.tolist()


@pytest.mark.parametrize("model_class", [KakehashiForConditionalGeneration, KakehashiEncoderModel])
def test_feature_extraction_gives_the_context_vectors(build, tiny_tokenizer, model_class):
    pipe, model = build("feature-extraction", model_class)
    encoder = model if model_class is KakehashiEncoderModel else model.model
    for text, vectors in zip(TEXTS, pipe(TEXTS), strict=True):
        with torch.no_grad():
            expected = encoder(**tiny_tokenizer(text, return_tensors="pt")).last_hidden_state
        np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-4)


def test_text_generation_continues_texts_and_answers_conversations(build, tiny_tokenizer):
    causal = for_causal_lm(tiny_tokenizer)
    pipe, model = build("text-generation", KakehashiForCausalLM, causal)
    settings = {"max_new_tokens": 6, "do_sample": False, "return_full_text": False}
    expected = inference.generate_texts(model, causal, TEXTS, raw=True, max_new_tokens=6)
    for batch_size in (1, 3):
        answers = [records[0]["generated_text"].strip() for records in pipe(TEXTS, batch_size=batch_size, **settings)]
        assert answers == expected

    chat = [{"role": "user", "content": TEXTS[0]}]
    (expected,) = inference.generate_texts(model, causal, [chat], max_new_tokens=6)
    (record,) = pipe(chat, **{**settings, "return_full_text": True})
    assert record["generated_text"][0] == chat[0]
    assert record["generated_text"][1]["role"] == "assistant"
    assert record["generated_text"][1]["content"].strip() == expected
