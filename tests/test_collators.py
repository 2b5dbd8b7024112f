import itertools

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

from kakehashi.tokenization.extension import extend_tokenizer
from kakehashi.training.collators import (
    CausalLMCollator,
    ClassificationCollator,
    CollateByEpoch,
    DenoisingCollator,
    MaskedLMCollator,
    Seq2SeqCollator,
    TwiceCollator,
)
from kakehashi.training.mixture import denoising_tasks
from kakehashi.training.r_drop import SeeTwice

PAD, BOS, EOS = 0, 1, 2
PAIRS = [
    {"input_ids": [100, 101, EOS], "labels": [110, 111, 112, EOS]},
    {"input_ids": [102, EOS], "labels": [110, EOS]},
]


def make_documents(number=12, length=20):
    draws = np.random.default_rng(0)
    return [{"input_ids": draws.integers(100, 380, size=length + i % 12).tolist()} for i in range(number)]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_pairs_are_padded_and_the_decoder_sees_the_target_one_step_late(tiny_tokenizer):
    batch = Seq2SeqCollator(tiny_tokenizer)(PAIRS)
    assert batch["input_ids"].tolist() == [[100, 101, EOS], [102, EOS, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[110, 111, 112, EOS], [110, EOS, -100, -100]]
    assert batch["decoder_input_ids"].tolist() == [[BOS, 110, 111, 112], [BOS, 110, EOS, PAD]]


@pytest.mark.parametrize("multiple", [None, 8])
def test_pairs_are_padded_as_transformers_pads_them(tiny_tokenizer, multiple):
    config = T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=512, decoder_start_token_id=BOS)
    theirs = DataCollatorForSeq2Seq(
        tiny_tokenizer, model=T5ForConditionalGeneration(config), pad_to_multiple_of=multiple
    )
    batch = theirs([dict(pair) for pair in PAIRS])
    assert same(Seq2SeqCollator(tiny_tokenizer, multiple)(PAIRS), {key: torch.as_tensor(batch[key]) for key in batch})


@pytest.mark.parametrize(("ratio", "has_sentinels"), [(1.0, False), (0.0, True)])
def test_the_ratio_decides_the_objective(tiny_tokenizer, ratio, has_sentinels):
    batch = DenoisingCollator(tiny_tokenizer, denoising_tasks(ratio))(make_documents())
    first_sentinel = tiny_tokenizer.convert_tokens_to_ids("<extra_id_0>")
    assert (batch["labels"][:, 0] == first_sentinel).all() == has_sentinels
    assert (batch["input_ids"] == first_sentinel).any() == has_sentinels


def test_objectives_are_mixed_in_the_ratio(tiny_tokenizer):
    batch = DenoisingCollator(tiny_tokenizer, denoising_tasks(0.25))(make_documents(400))
    is_corruption = batch["labels"][:, 0] == tiny_tokenizer.convert_tokens_to_ids("<extra_id_0>")
    assert abs(is_corruption.float().mean().item() - 0.75) < 0.07


@pytest.mark.parametrize("collator", [DenoisingCollator, MaskedLMCollator])
def test_batches_depend_on_seed_epoch_and_content_alone(tiny_tokenizer, collator):
    documents = make_documents()
    batch = collator(tiny_tokenizer)(documents)
    torch.manual_seed(123)
    assert same(batch, collator(tiny_tokenizer)(documents))
    for changed in ({"epoch": 1}, {"seed": 1}):
        other = collator(tiny_tokenizer, **changed)(documents)
        assert not same(batch, other)
    reordered = collator(tiny_tokenizer)(documents[::-1])
    assert not same(batch, {key: rows.flip(0) for key, rows in reordered.items()})


def test_batches_are_the_same_with_any_number_of_workers(tiny_tokenizer):
    documents, collator = make_documents(), DenoisingCollator(tiny_tokenizer)
    loaders = [DataLoader(documents, batch_size=4, collate_fn=collator, num_workers=workers) for workers in (0, 2)]
    assert all(same(first, second) for first, second in zip(*loaders, strict=True))


def train(folder, tokenizer, seen, **options):
    config = T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=512, decoder_start_token_id=BOS)
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    model.register_forward_pre_hook(
        lambda module, args, inputs: seen.append((model.training, inputs["labels"].clone())), with_kwargs=True
    )
    arguments = TrainingArguments(
        str(folder), max_steps=9, save_steps=2, per_device_train_batch_size=3, report_to=[], disable_tqdm=True,
        eval_strategy="steps", eval_steps=3, seed=0, use_cpu=True, logging_steps=100,
    )  # fmt: skip
    rows = Dataset.from_list(make_documents())
    trainer = Trainer(
        model, arguments, DenoisingCollator(tokenizer), rows, rows.select(range(3)), callbacks=[CollateByEpoch()]
    )
    trainer.train(**options)
    return model


# Four steps are an epoch of twelve documents: one run goes on at an epoch's start, one within it.
@pytest.mark.parametrize("step", [4, 6])
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one_and_ends_alike(tmp_path, tiny_tokenizer, step):
    whole, resumed = [], []
    model = train(tmp_path, tiny_tokenizer, whole)
    again = train(tmp_path, tiny_tokenizer, resumed, resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    labels = [labels for training, labels in whole if training]
    for (_, after), before in zip([entry for entry in resumed if entry[0]], labels[step:], strict=True):
        assert torch.equal(after, before)
    assert not any(torch.equal(first, second) for first, second in itertools.combinations(labels, 2))
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    evaluated = [labels for training, labels in whole if not training]
    assert len(evaluated) == 3 and all(torch.equal(labels, evaluated[0]) for labels in evaluated)


def test_causal_batches_open_close_and_ignore_padding(tiny_tokenizer):
    batch = CausalLMCollator(tiny_tokenizer, pad_to_multiple_of=6)([{"input_ids": [100, 101]}, {"input_ids": [102]}])
    assert batch["input_ids"].tolist() == [[BOS, 100, 101, EOS, PAD, PAD], [BOS, 102, EOS, PAD, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 100, 101, EOS, -100, -100], [-100, 102, EOS, -100, -100, -100]]


def test_causal_examples_with_labels_are_only_padded(tiny_tokenizer):
    examples = [{"input_ids": [BOS, 5, 100], "labels": [-100, -100, 100]}, {"input_ids": [BOS], "labels": [BOS]}]
    batch = CausalLMCollator(tiny_tokenizer)(examples)
    assert batch["input_ids"].tolist() == [[BOS, 5, 100], [BOS, PAD, PAD]]
    assert batch["labels"].tolist() == [[-100, -100, 100], [BOS, -100, -100]]


def test_masked_batches_hide_regular_tokens_alone(tiny_tokenizer):
    documents = make_documents(50)
    batch = MaskedLMCollator(tiny_tokenizer)(documents)
    rows = zip(batch["input_ids"], batch["attention_mask"], batch["labels"], documents, strict=True)
    for input_ids, attention_mask, labels, document in rows:
        length = len(document["input_ids"])
        original = torch.tensor([*document["input_ids"], EOS])
        assert attention_mask.sum() == length + 1 and (input_ids[length + 1 :] == PAD).all()
        assert input_ids[length] == EOS and labels[length] == -100
        chosen = labels != -100
        assert chosen.sum() == round(0.3 * length)
        assert torch.equal(labels[chosen], original[chosen[: length + 1]])
    special = set(tiny_tokenizer.all_special_ids) - {PAD, EOS, tiny_tokenizer.mask_token_id}
    assert not special & set(batch["input_ids"].flatten().tolist())


def test_added_words_are_hidden_but_added_special_tokens_are_not(tiny_tokenizer):
    extended = extend_tokenizer(tiny_tokenizer, ["猫"], pad_to_multiple_of=1).tokenizer
    extended = extend_tokenizer(extended, ["<猫>"], special=True, pad_to_multiple_of=1).tokenizer
    word, special = len(extended) - 2, len(extended) - 1
    examples = [{"input_ids": [word] * 50 + [special] * 50}] * 20
    masked = MaskedLMCollator(extended, mlm_probability=0.5)(examples)
    assert set(masked["labels"].flatten().tolist()) == {word, -100}
    assert (masked["input_ids"][:, 50:-1] == special).all()
    hidden = ClassificationCollator(extended, mask_probability=0.5, epoch=0)(
        [{**example, "labels": 0} for example in examples]
    )
    assert set(hidden["input_ids"].flatten().tolist()) == {word, special, extended.mask_token_id}
    assert (hidden["input_ids"][:, 50:] == special).all()


def test_masking_needs_a_mask_token():
    tokenizer = type("NoMask", (), {"mask_token_id": None})()
    with pytest.raises(ValueError, match="needs a tokenizer with a mask token"):
        MaskedLMCollator(tokenizer)
    with pytest.raises(ValueError, match="`mask_probability` needs a tokenizer with a mask token"):
        ClassificationCollator(tokenizer, mask_probability=0.1)


@pytest.mark.parametrize("mask_probability", [0.0, 0.3])
def test_collators_of_equal_settings_are_equal(tiny_tokenizer, mask_probability):
    collators = [ClassificationCollator(tiny_tokenizer, mask_probability=mask_probability) for _ in range(2)]
    assert collators[0] == collators[1] != ClassificationCollator(tiny_tokenizer, mask_probability=0.5)


@pytest.mark.parametrize("labels", [[2, 0], [0.5, -1.0], [[1.0, 0.0], [0.0, 0.0]]])
@pytest.mark.parametrize("multiple", [None, 8])
def test_texts_are_padded_as_transformers_pads_them(tiny_tokenizer, labels, multiple):
    texts = [[100, 101, 102, EOS], [103, EOS]]
    examples = [{"input_ids": text, "labels": label} for text, label in zip(texts, labels, strict=True)]
    batch = ClassificationCollator(tiny_tokenizer, multiple)(examples)
    theirs = DataCollatorWithPadding(tiny_tokenizer, pad_to_multiple_of=multiple)(examples)
    assert same(batch, dict(theirs)) and batch["labels"].dtype == theirs["labels"].dtype


def train_classifier_on_hidden_tokens(tokenizer, documents, callbacks, tmp_path):
    """Returns the batches of validation, and those of each of two epochs."""
    batches = []
    examples = [{"input_ids": [*document["input_ids"], EOS], "labels": 0} for document in documents]
    model = torch.nn.Linear(1, 1)

    def forward(**batch):
        batches.append((model.training, batch))
        return {"loss": model.weight.sum(), "logits": torch.zeros(len(batch["labels"]), 1)}

    model.forward = forward
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=2, per_device_train_batch_size=len(examples), eval_strategy="epoch",
        per_device_eval_batch_size=len(examples), save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
        remove_unused_columns=False,
    )  # fmt: skip
    collator = ClassificationCollator(tokenizer, mask_probability=0.3, seed=1)
    Trainer(model, arguments, collator, examples, examples, callbacks=callbacks).train()
    return [batch for training, batch in batches if not training], [batch for training, batch in batches if training]


@pytest.mark.parametrize("is_twice", [False, True])
def test_texts_lose_other_tokens_in_each_epoch_and_view_but_none_in_validation(tiny_tokenizer, is_twice, tmp_path):
    documents = make_documents(50)
    callbacks = [CollateByEpoch(), SeeTwice()] if is_twice else [CollateByEpoch()]
    (valid, _), (first, second) = train_classifier_on_hidden_tokens(tiny_tokenizer, documents, callbacks, tmp_path)
    mask = tiny_tokenizer.mask_token_id
    assert not (valid["input_ids"] == mask).any() and len(valid["labels"]) == 50
    views = [batch["input_ids"][start::2] for batch in (first, second) for start in (0, 1)] if is_twice else [
        first["input_ids"], second["input_ids"]
    ]  # fmt: skip
    whole = {tuple(row.tolist()) for row in valid["input_ids"]}
    for view in views:
        assert 0.25 < (view == mask).sum() / (view > EOS).sum() < 0.35
        assert (view == EOS).sum() == len(view)
        assert not whole & {tuple(row.tolist()) for row in view}
    if is_twice:
        assert all(len(view) == 50 for view in views)
        assert not torch.equal(views[0], views[1])
    again = train_classifier_on_hidden_tokens(tiny_tokenizer, documents, callbacks, tmp_path)[1]
    assert same(again[0], first) and same(again[1], second)
    assert (first["input_ids"] == mask).sum() != (second["input_ids"] == mask).sum()


def test_twice_is_each_example_and_itself(tiny_tokenizer):
    examples = [{"input_ids": [100, EOS], "labels": 1}, {"input_ids": [EOS], "labels": 0}]
    batch = TwiceCollator(ClassificationCollator(tiny_tokenizer))(examples)
    assert batch["input_ids"].tolist() == [[100, EOS], [100, EOS], [EOS, PAD], [EOS, PAD]]
    assert batch["labels"].tolist() == [1, 1, 0, 0]


PACKED_PAIRS = [
    {
        "input_ids": [100, 101, EOS, 102, EOS],
        "lengths": [3, 2],
        "labels": [110, 111, EOS, 110],
        "label_lengths": [3, 1],
    },
    {"input_ids": [103, EOS], "lengths": [2], "labels": [112, EOS], "label_lengths": [2]},
]


def test_packed_pairs_are_numbered_and_each_target_starts_anew(tiny_tokenizer):
    batch = Seq2SeqCollator(tiny_tokenizer)(PACKED_PAIRS)
    assert batch["input_ids"].tolist() == [[100, 101, EOS, 102, EOS], [103, EOS, PAD, PAD, PAD]]
    assert batch["segment_ids"].tolist() == [[1, 1, 1, 2, 2], [1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[110, 111, EOS, 110], [112, EOS, -100, -100]]
    assert batch["decoder_input_ids"].tolist() == [[BOS, 110, 111, BOS], [BOS, 112, EOS, PAD]]
    assert batch["decoder_segment_ids"].tolist() == [[1, 1, 1, 2], [1, 1, 0, 0]]
    assert "attention_mask" not in batch


def test_packed_rows_are_rounded_up_on_both_sides(tiny_tokenizer):
    batch = Seq2SeqCollator(tiny_tokenizer, pad_to_multiple_of=8)(PACKED_PAIRS)
    assert {name: tensor.shape[1] for name, tensor in batch.items()} == dict.fromkeys(batch, 8)


def test_packed_documents_are_framed_and_masked_one_by_one(tiny_tokenizer):
    rows = [{"input_ids": list(range(100, 130)), "lengths": [20, 10]}]
    causal = CausalLMCollator(tiny_tokenizer)(rows)
    assert causal["segment_ids"].tolist() == [[1] * 22 + [2] * 12]
    assert (causal["input_ids"] == BOS).nonzero()[:, 1].tolist() == [0, 22]
    assert (causal["input_ids"] == EOS).nonzero()[:, 1].tolist() == [21, 33]
    assert (causal["labels"] == -100).nonzero()[:, 1].tolist() == [0, 22]
    masked = MaskedLMCollator(tiny_tokenizer)(rows)
    assert masked["segment_ids"].tolist() == [[1] * 21 + [2] * 11]
    hidden = masked["labels"] != -100
    assert [int(hidden[masked["segment_ids"] == segment].sum()) for segment in (1, 2)] == [6, 3]
