"""The encoder with a mean over its context vectors is a SentenceTransformer: used, trained, saved and loaded."""

import json
import os
import subprocess
import sys

import pytest
import torch
from datasets import Dataset

from kakehashi.modeling import (
    KakehashiEncoderModel,
    KakehashiForConditionalGeneration,
    KakehashiForSequenceClassification,
)
from kakehashi.tokenization import encode_source
from kakehashi.training import embedding, inference

sentence_transformers = pytest.importorskip("sentence_transformers")
losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")

TEXTS = ["I love cats.", "She reads a book in the park. Do you want to eat an apple?", "私は猫が大好きです。"]
# Texts as they are. Left out, a tokenizer with a chat template makes every text the turn of a user.
AS_THEY_ARE = {
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
SHAPES = [KakehashiForConditionalGeneration, KakehashiEncoderModel, KakehashiForSequenceClassification]

# Runs where `import kakehashi` fails: argv[1] is the folder, argv[2] holds texts and their expected vectors.
STRANGER = """
import json, sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "kakehashi":
            raise ModuleNotFoundError("kakehashi is not installed here")

sys.meta_path.insert(0, NotInstalled())
from sentence_transformers import SentenceTransformer

texts, expected = json.load(open(sys.argv[2], encoding="utf-8"))
vectors = SentenceTransformer(sys.argv[1], trust_remote_code=True, device="cpu").encode(texts)
assert abs(vectors - expected).max() < 1e-5
print("same vectors")
"""


@pytest.fixture
def build(build_tiny_model, tiny_tokenizer, tmp_path):
    """A function that builds a SentenceTransformer from the folder of a model class."""

    def build(model_class, **settings):
        folder = tmp_path / model_class.__name__
        build_tiny_model(model_class).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        transformer = modules.Transformer(str(folder), **(settings or AS_THEY_ARE))
        pooling = modules.Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
        return sentence_transformers.SentenceTransformer(modules=[transformer, pooling], device="cpu")

    return build


def mean_vectors(folder, sources):
    """The mean of the context vectors of each source of ids, source by source."""
    encoder = KakehashiEncoderModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return torch.stack([encoder(torch.tensor([ids])).last_hidden_state[0].mean(dim=0) for ids in sources])


@pytest.mark.parametrize("model_class", SHAPES)
def test_a_text_is_the_mean_of_its_context_vectors_whatever_head_was_saved(
    build, tiny_tokenizer, tmp_path, model_class
):
    vectors = build(model_class).encode(TEXTS, convert_to_tensor=True)
    expected = mean_vectors(tmp_path / model_class.__name__, tiny_tokenizer(TEXTS)["input_ids"])
    torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=1e-5)


def test_its_vectors_are_those_of_kakehashi_embed(build, tmp_path):
    vectors = build(KakehashiForConditionalGeneration).encode(TEXTS)
    model, tokenizer = inference.load_for_embedding(tmp_path / "KakehashiForConditionalGeneration", device="cpu")
    assert abs(embedding.embed_texts(model, tokenizer, TEXTS) - vectors).max() < 1e-5


def test_without_settings_a_text_is_the_turn_of_a_user(build, tiny_tokenizer, tmp_path):
    vectors = build(KakehashiEncoderModel, max_seq_length=128).encode(TEXTS, convert_to_tensor=True)
    turns = [encode_source(tiny_tokenizer, [{"role": "user", "content": text}]) for text in TEXTS]
    expected = mean_vectors(tmp_path / "KakehashiEncoderModel", turns)
    torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=1e-5)


def test_the_length_of_the_longest_text_in_a_batch_changes_no_vector(build):
    model = build(KakehashiForConditionalGeneration)
    together = model.encode(TEXTS, batch_size=3, convert_to_tensor=True)
    alone = torch.stack([model.encode(text, convert_to_tensor=True) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_its_trainer_takes_steps_that_bring_pairs_together(build, tmp_path):
    model = build(KakehashiForConditionalGeneration)
    pairs = Dataset.from_dict({"anchor": TEXTS, "positive": [text.upper() for text in TEXTS]})
    arguments = sentence_transformers.SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=6,
        per_device_train_batch_size=3,
        learning_rate=5e-3,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    loss = losses.MultipleNegativesRankingLoss(model)
    trainer = sentence_transformers.SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=pairs, loss=loss
    )
    trainer.train()
    measured = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert measured[-1] < measured[0]


def test_what_it_saves_gives_the_same_vectors_with_and_without_kakehashi(build, tmp_path):
    model, folder = build(KakehashiForConditionalGeneration), tmp_path / "saved"
    expected = model.encode(TEXTS)
    model.save_pretrained(str(folder), create_model_card=False)
    loaded = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    assert abs(loaded.encode(TEXTS) - expected).max() < 1e-6

    question = tmp_path / "question.json"
    question.write_text(json.dumps([TEXTS, expected.tolist()]), "utf-8")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    result = subprocess.run(
        [sys.executable, "-c", STRANGER, str(folder), str(question)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip() == "same vectors"
