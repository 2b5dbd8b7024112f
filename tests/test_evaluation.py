"""The measures are what they say, whatever the batches."""

import math

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForMaskedLM, KakehashiForSequenceClassification
from kakehashi.tokenization import for_causal_lm
from kakehashi.training.collators import MaskedLMCollator
from kakehashi.training.evaluation import evaluate_classification, evaluate_hidden_tokens, evaluate_perplexity

T5_CONFIG = T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=512, decoder_start_token_id=1)


def measure(model, tokenizer, texts, batch_size=4):
    return evaluate_perplexity(model, tokenizer, texts, batch_size=batch_size).scores


@torch.no_grad()
def test_the_perplexity_of_a_decoder_is_that_of_every_next_token(build_tiny_model, tiny_tokenizer, tiny_sentences):
    model = build_tiny_model(KakehashiForCausalLM)
    losses, count = 0.0, 0
    for text in tiny_sentences:
        ids = torch.tensor([[1, *tiny_tokenizer(text)["input_ids"]]])
        losses += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    scores = measure(model, for_causal_lm(tiny_tokenizer), tiny_sentences)
    assert scores["predicted_tokens"] == count
    assert scores["perplexity"] == pytest.approx(math.exp(losses / count), rel=1e-4)


@torch.no_grad()
def test_an_encoder_decoder_predicts_the_second_half(tiny_model, tiny_tokenizer):
    ids = tiny_tokenizer("I love cats.")["input_ids"][:-1]
    middle = len(ids) // 2
    source, labels = torch.tensor([[*ids[:middle], 2]]), torch.tensor([[*ids[middle:], 2]])
    scores = measure(tiny_model, tiny_tokenizer, ["I love cats."])
    assert scores["loss"] == pytest.approx(float(tiny_model(input_ids=source, labels=labels).loss), rel=1e-5)


@pytest.mark.parametrize("shape", ["encoder-decoder", "decoder"])
def test_the_batch_size_changes_nothing(build_tiny_model, tiny_model, tiny_tokenizer, tiny_sentences, shape):
    model = tiny_model if shape == "encoder-decoder" else build_tiny_model(KakehashiForCausalLM)
    together, apart = (measure(model, tiny_tokenizer, tiny_sentences, size) for size in (10, 1))
    assert together["loss"] == pytest.approx(apart["loss"], rel=1e-5)
    assert together["predicted_tokens"] == apart["predicted_tokens"]


def test_a_text_longer_than_the_model_is_measured_whole(build_tiny_model, tiny_tokenizer):
    model = build_tiny_model(KakehashiForCausalLM)
    text = "I love cats. " * 100
    pieces = -(-len(tiny_tokenizer.tokenize(text)) // (model.config.max_position_embeddings - 2))
    scores = measure(model, tiny_tokenizer, [text])
    assert pieces > 1 and scores["predicted_tokens"] == len(tiny_tokenizer.tokenize(text)) + pieces


def test_no_text_has_no_perplexity(tiny_model, tiny_tokenizer):
    with pytest.raises(ValueError, match="there must be at least one text with a token"):
        measure(tiny_model, tiny_tokenizer, [""])
    with pytest.raises(ValueError, match="there must be at least one text"):
        measure(T5ForConditionalGeneration(T5_CONFIG), tiny_tokenizer, [])


def test_a_model_without_a_longest_text_is_measured_on_whole_texts(tiny_tokenizer, tiny_sentences):
    model = T5ForConditionalGeneration(T5_CONFIG).eval()
    texts = ["a", *tiny_sentences]
    alone = [measure(model, tiny_tokenizer, [text]) for text in texts]
    together = measure(model, tiny_tokenizer, texts)
    assert together["predicted_tokens"] == sum(scores["predicted_tokens"] for scores in alone)
    losses = sum(scores["loss"] * scores["predicted_tokens"] for scores in alone)
    assert together["loss"] == pytest.approx(losses / together["predicted_tokens"], rel=1e-5)


@torch.no_grad()
def test_hidden_tokens_are_measured_as_validation_does_whatever_the_batches(
    build_tiny_model, tiny_tokenizer, tiny_sentences
):
    model = build_tiny_model(KakehashiForMaskedLM)
    collate = MaskedLMCollator(tiny_tokenizer, 0.5)
    loss, right, count = 0.0, 0, 0
    for text in tiny_sentences:
        batch = collate([{"input_ids": tiny_tokenizer(text, add_special_tokens=False)["input_ids"]}])
        hidden = int((batch["labels"] != -100).sum())
        output = model(**batch)
        loss, count = loss + float(output.loss) * hidden, count + hidden
        right += int((output.logits.argmax(-1) == batch["labels"]).sum())
    for size in (1, 4, 10):
        measured = evaluate_hidden_tokens(model, tiny_tokenizer, tiny_sentences, batch_size=size, mlm_probability=0.5)
        expected = {"loss": loss / count, "accuracy": right / count, "predicted_tokens": count}
        assert measured.scores == pytest.approx(expected, rel=1e-4)
    assert measured.task == "fill-mask" and not measured.predictions


def test_a_model_that_knows_the_hidden_tokens_restores_all(build_tiny_model, tiny_tokenizer, monkeypatch):
    model = build_tiny_model(KakehashiForMaskedLM)
    word = tiny_tokenizer("cats", add_special_tokens=False)["input_ids"][0]
    text = tiny_tokenizer.decode([word])

    def answer(input_ids, attention_mask):
        logits = torch.full((*input_ids.shape, model.config.vocab_size), -50.0)
        logits[..., word] = 50.0
        return type("Output", (), {"logits": logits})

    monkeypatch.setattr(model, "forward", answer)
    scores = evaluate_hidden_tokens(model, tiny_tokenizer, [text] * 3, batch_size=2).scores
    assert scores == {"loss": 0.0, "accuracy": 1.0, "predicted_tokens": 3}
    with pytest.raises(ValueError, match="there must be at least one text"):
        evaluate_hidden_tokens(model, tiny_tokenizer, [""], batch_size=2)
    with pytest.raises(ValueError, match="`mlm_probability` must be above 0 and at most 1, but it is 0"):
        evaluate_hidden_tokens(model, tiny_tokenizer, ["cats"], batch_size=2, mlm_probability=0)


def test_several_labels_and_numbers_are_measured_on_their_own_scale(build_tiny_model, tiny_tokenizer, tiny_sentences):
    names = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    model = build_tiny_model(KakehashiForSequenceClassification, problem_type="multi_label_classification", **names)
    several = [["a"], ["a", "b"], [], *[["b"]] * 7]
    measured = evaluate_classification(model, tiny_tokenizer, tiny_sentences, several, batch_size=4)
    assert set(measured.scores) == {"micro_f1", "macro_f1", "exact_match"}
    right = sum(set(each["prediction"]) == set(each["label"]) for each in measured.predictions)
    assert measured.scores["exact_match"] == pytest.approx(right / 10)
    with pytest.raises(ValueError, match="must have a list of labels, as the training rows have, but row 1 has 'a'"):
        evaluate_classification(model, tiny_tokenizer, ["x"], ["a"], batch_size=1)
    model = build_tiny_model(KakehashiForSequenceClassification, problem_type="regression", num_labels=1)
    measured = evaluate_classification(model, tiny_tokenizer, tiny_sentences, [0.5] * 10, batch_size=4)
    errors = [abs(each["prediction"] - 0.5) for each in measured.predictions]
    assert measured.scores["mae"] == pytest.approx(sum(errors) / 10, rel=1e-5)
    for label in ("high", float("nan"), "inf", None):
        with pytest.raises(ValueError, match=f"must be a finite number for regression, but row 1 has {label!r}"):
            evaluate_classification(model, tiny_tokenizer, ["x"], [label], batch_size=1)


def test_a_row_that_nobody_has_labelled_is_told_even_where_a_label_is_called_none(build_tiny_model, tiny_tokenizer):
    names = {"id2label": {0: "None", 1: "some"}, "label2id": {"None": 0, "some": 1}}
    model = build_tiny_model(KakehashiForSequenceClassification, **names)
    with pytest.raises(ValueError, match="one of the training labels, but row 2 has None; known are `None`, `some`"):
        evaluate_classification(model, tiny_tokenizer, ["x", "y"], ["None", None], batch_size=1)
