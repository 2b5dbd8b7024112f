"""A text is one vector, the mean of its context vectors, whatever it is embedded with and whatever head was saved."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from kakehashi.modeling import (
    KakehashiEncoderModel,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
    KakehashiModel,
)
from kakehashi.training import embedding, inference

TEXTS = ["I love cats.", "She reads a book in the park. Do you want to eat an apple?", "猫", "I love <s> </s> cats."]
HEADS = [
    KakehashiForConditionalGeneration,
    KakehashiEncoderModel,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
    KakehashiModel,
]


@pytest.fixture
def encoder(build_tiny_model):
    return build_tiny_model(KakehashiEncoderModel)


def test_a_vector_is_the_mean_of_the_context_vectors_of_its_tokens(encoder, tiny_tokenizer):
    vectors = embedding.embed_texts(encoder, tiny_tokenizer, TEXTS)
    assert vectors.shape == (4, 32) and vectors.dtype == np.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = tiny_tokenizer(text, split_special_tokens=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected = encoder(ids).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_vector(encoder, tiny_tokenizer, batch_size, side, monkeypatch):
    alone = np.concatenate([embedding.embed_texts(encoder, tiny_tokenizer, [text]) for text in TEXTS])
    monkeypatch.setattr(tiny_tokenizer, "padding_side", side)
    together = embedding.embed_texts(encoder, tiny_tokenizer, TEXTS, batch_size=batch_size)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_class", HEADS)
def test_the_encoder_of_every_head_is_found_in_its_folder(build_tiny_model, tiny_tokenizer, tmp_path, model_class):
    model = build_tiny_model(model_class, num_labels=3)
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    loaded, tokenizer = inference.load_for_embedding(tmp_path, device="cpu")
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    with torch.no_grad():
        blocks = model if model_class in (KakehashiEncoderModel, KakehashiModel) else model.model
        expected = blocks(ids).last_hidden_state.mean(dim=1)
    np.testing.assert_allclose(embedding.embed_texts(loaded, tokenizer, TEXTS[:1]), expected, rtol=1e-4, atol=1e-5)


def test_a_folder_without_an_encoder_is_refused(build_tiny_model, tiny_tokenizer, tmp_path):
    build_tiny_model(KakehashiForCausalLM).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"must have an encoder, but .* is a KakehashiForCausalLM"):
        inference.load_for_embedding(tmp_path)


def test_an_exported_folder_is_refused(tiny_model_dir):
    (tiny_model_dir / "model.bin").write_bytes(b"")
    (tiny_model_dir / "shared_vocabulary.json").write_text("[]")
    if inference.engine_of(tiny_model_dir) is None:
        pytest.fail("the folder shall look like one for CTranslate2")
    with pytest.raises(ValueError, match="is exported"):
        inference.load_for_embedding(tiny_model_dir)


def test_an_empty_text_is_named_and_no_text_gives_no_row(encoder, tiny_tokenizer):
    with pytest.raises(ValueError, match="text 2 is empty"):
        embedding.embed_texts(encoder, tiny_tokenizer, ["a", " "])
    assert embedding.embed_texts(encoder, tiny_tokenizer, []).shape == (0, 32)


def test_each_batch_is_reported(encoder, tiny_tokenizer):
    sizes = []
    embedding.embed_texts(encoder, tiny_tokenizer, TEXTS, batch_size=3, on_batch=sizes.append)
    assert sizes == [3, 1]


def test_similarity_is_the_cosine_of_the_angle():
    vectors = np.array([[1, 0], [2, 0], [0, 3], [-1, 0], [1, 1], [0, 0]], np.float32)
    expected = [1, 1, 0, -1, 0.5**0.5, 0]
    np.testing.assert_allclose(embedding.cosine_similarities(vectors)[0], expected, atol=1e-6)


def test_the_nearest_text_is_another_one():
    vectors = np.array([[1, 0], [0, 1], [1, 0.2], [0.1, 1]], np.float32)
    assert embedding.nearest_texts(embedding.cosine_similarities(vectors)) == [2, 3, 0, 1]


@pytest.mark.parametrize("suffix", embedding.VECTOR_SUFFIXES)
def test_vectors_are_read_back_as_they_were(tmp_path, suffix):
    vectors = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    path = tmp_path / f"vectors{suffix}"
    embedding.save_vectors(path, TEXTS, vectors)
    if suffix == ".npy":
        read = np.load(path)
    elif suffix == ".safetensors":
        read = load_file(path)[embedding.VECTORS_NAME]
    else:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert [row["text"] for row in rows] == TEXTS
        read = np.array([row["embedding"] for row in rows], np.float32)
    assert np.array_equal(read, vectors)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"must end in .npy, .safetensors, .jsonl, got"):
        embedding.save_vectors(tmp_path / "vectors.txt", [], np.zeros((0, 1), np.float32))
    with pytest.raises(ValueError, match="zip"):
        embedding.save_vectors(tmp_path / "vectors.jsonl", ["one"], np.zeros((2, 1), np.float32))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(ValueError, match="`output` must be a file in a folder that can be written to"):
        embedding.save_vectors(tmp_path / "folder.npy", [], np.zeros((0, 1), np.float32))
