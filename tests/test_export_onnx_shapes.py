"""ONNX graphs of the other shapes, and of positions that are not rotary, answer as PyTorch does."""

import pytest

exporters = pytest.importorskip("transformers.exporters")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
if not hasattr(exporters, "ExportedModel"):
    pytest.skip("this Transformers cannot save and run what it exports", allow_module_level=True)

from kakehashi.modeling import (  # noqa: E402
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForSequenceClassification,
)
from kakehashi.tokenization import for_causal_lm  # noqa: E402
from kakehashi.training.export.engines import export_model  # noqa: E402
from kakehashi.training.inference import (  # noqa: E402
    generate_texts,
    load_for_classification,
    load_for_generation,
)
from kakehashi.training.labelling import classify_texts  # noqa: E402


def test_a_decoder_alone_answers_as_in_pytorch(build_sharp_model, tiny_tokenizer, two_hundred_sentences, tmp_path):
    model, tokenizer = build_sharp_model(KakehashiForCausalLM), for_causal_lm(tiny_tokenizer)
    export_model(model, tokenizer, tmp_path / "export", "onnx")
    exported = load_for_generation(tmp_path / "export", device="cpu")
    texts = two_hundred_sentences[:20]
    answers = generate_texts(*exported, texts, max_new_tokens=6)
    assert answers == generate_texts(model, tokenizer, texts, max_new_tokens=6)
    assert answers == generate_texts(*exported, texts, batch_size=1, max_new_tokens=6)


def test_a_classifier_gives_the_same_labels(build_sharp_model, tiny_tokenizer, tiny_sentences, tmp_path):
    model = build_sharp_model(KakehashiForSequenceClassification, id2label={0: "animal", 1: "food", 2: "place"})
    export_model(model, tiny_tokenizer, tmp_path / "export", "onnx")
    exported = load_for_classification(tmp_path / "export", device="cpu")
    answers = classify_texts(*exported, tiny_sentences, batch_size=3)
    for answer, expected in zip(answers, classify_texts(model, tiny_tokenizer, tiny_sentences), strict=True):
        assert answer == (expected[0], pytest.approx(expected[1], abs=1e-3))


def test_relative_biases_answer_as_in_pytorch(build_sharp_model, tiny_tokenizer, two_hundred_sentences, tmp_path):
    model = build_sharp_model(KakehashiForConditionalGeneration, position_embedding_type="relative_bias")
    export_model(model, tiny_tokenizer, tmp_path / "export", "onnx")
    exported = load_for_generation(tmp_path / "export", device="cpu")
    texts = two_hundred_sentences[:20]
    answers = generate_texts(*exported, texts, max_new_tokens=6)
    assert answers == generate_texts(model, tiny_tokenizer, texts, max_new_tokens=6)
