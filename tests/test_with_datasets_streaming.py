"""A plain Trainer takes examples from a stream that has no length, with our collators."""

import json

import pytest
from datasets import IterableDataset, load_dataset
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration, KakehashiForMaskedLM
from kakehashi.tokenization import encode_source, encode_target
from kakehashi.training.collators import CausalLMCollator, DenoisingCollator, MaskedLMCollator, Seq2SeqCollator

DOCUMENT_COLLATORS = [
    (KakehashiForConditionalGeneration, DenoisingCollator),
    (KakehashiForCausalLM, CausalLMCollator),
    (KakehashiForMaskedLM, MaskedLMCollator),
]


@pytest.fixture
def pairs(tmp_path, tiny_sentences):
    """A JSON-lines file of pairs, opened as a stream: nothing of it is read until it is asked for."""
    path = tmp_path / "pairs.jsonl"
    rows = [{"en": en, "ja": ja} for en, ja in zip(tiny_sentences[:5], tiny_sentences[5:], strict=True)] * 8
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    stream = load_dataset("json", data_files=str(path), split="train", streaming=True)
    assert isinstance(stream, IterableDataset)
    return stream


def arguments(folder, cls=TrainingArguments):
    return cls(
        output_dir=str(folder),
        max_steps=8,
        per_device_train_batch_size=4,
        learning_rate=5e-3,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )


def losses_of(trainer):
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_pairs_from_a_stream_train_an_encoder_decoder(tiny_model, tiny_tokenizer, pairs, tmp_path):
    def encode(row):
        source = encode_source(tiny_tokenizer, [{"role": "user", "content": f"Translate to Japanese: {row['en']}"}])
        return {"input_ids": source, "labels": encode_target(tiny_tokenizer, row["ja"])}

    trainer = Seq2SeqTrainer(
        model=tiny_model,
        args=arguments(tmp_path / "run", Seq2SeqTrainingArguments),
        train_dataset=pairs.map(encode, remove_columns=["en", "ja"]).shuffle(seed=0, buffer_size=16),
        data_collator=Seq2SeqCollator(tiny_tokenizer),
        processing_class=tiny_tokenizer,
    )
    losses = losses_of(trainer)
    assert len(losses) == 8 and losses[-1] < losses[0]


@pytest.mark.parametrize("model_class, collator", DOCUMENT_COLLATORS)
def test_documents_from_a_stream_train_every_objective(
    build_tiny_model, tiny_tokenizer, pairs, tmp_path, model_class, collator
):
    def encode(rows):
        return {"input_ids": tiny_tokenizer(rows["ja"], add_special_tokens=False)["input_ids"]}

    trainer = Trainer(
        model=build_tiny_model(model_class),
        args=arguments(tmp_path / "run"),
        train_dataset=pairs.map(encode, batched=True, batch_size=8, remove_columns=["en", "ja"]),
        data_collator=collator(tiny_tokenizer),
        processing_class=tiny_tokenizer,
    )
    losses = losses_of(trainer)
    assert len(losses) == 8 and losses[-1] < losses[0]
