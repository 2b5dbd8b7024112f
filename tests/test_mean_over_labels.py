"""Every label weighs the same: in a step of any family, and in a validation, however batches cut them."""

import copy
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
)

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration
from kakehashi.training.classification_loss import ClassificationLoss
from kakehashi.training.collators import CausalLMCollator, Seq2SeqCollator
from kakehashi.training.mean_over_labels import MeanOverLabels

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def make_trainer(model, tokenizer, folder, collator=Seq2SeqCollator, size=8, **options):
    """A trainer on eight texts of 1 to 15 labels."""
    rows = [{"input_ids": [5, 6, 7], "labels": [20 + place] * (1 + 2 * place)} for place in range(8)]
    if collator is CausalLMCollator:
        rows = [{"input_ids": row["labels"] + [2], "labels": [-100, *row["labels"]]} for row in rows]
    arguments = Seq2SeqTrainingArguments(
        str(folder), max_steps=1, per_device_train_batch_size=size, gradient_accumulation_steps=8 // size,
        per_device_eval_batch_size=size, learning_rate=1.0, optim="sgd", max_grad_norm=0.0, logging_steps=1,
        lr_scheduler_type="constant", save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
        dataloader_pin_memory=False, remove_unused_columns=False, label_names=["labels"],
    )  # fmt: skip
    rows = Dataset.from_list(rows)
    return MeanOverLabels(model, arguments, collator(tokenizer), train_dataset=rows, eval_dataset=rows, **options)


OTHERS = {
    # The first two return the mean of a batch, whatever they are told.
    "t5": lambda size: T5ForConditionalGeneration(
        T5Config(vocab_size=size, d_model=16, d_ff=32, d_kv=8, num_layers=1, num_heads=2, dropout_rate=0.0)
    ),
    "bert": lambda size: BertForMaskedLM(
        BertConfig(vocab_size=size, **SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    ),
    "modernbert": lambda size: ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=size, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, **SIZES
        )
    ),
    "llama": lambda size: LlamaForCausalLM(LlamaConfig(vocab_size=size, **SIZES)),
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_models_of_other_families_take_the_same_step_however_it_is_cut(name, tiny_tokenizer, tmp_path):
    start, ends = OTHERS[name](len(tiny_tokenizer)), []
    collator = Seq2SeqCollator if name == "t5" else CausalLMCollator
    for size in (8, 2):
        trainer = make_trainer(copy.deepcopy(start), tiny_tokenizer, tmp_path, collator, size)
        trainer.train()
        ends.append((trainer.state.log_history[0]["loss"], trainer.model.state_dict()))
    (loss, weights), (cut_loss, cut_weights) = ends
    assert cut_loss == pytest.approx(loss, rel=1e-5)
    for key, weight in weights.items():
        torch.testing.assert_close(cut_weights[key], weight, rtol=1e-3, atol=1e-5, msg=key)
    assert any(not torch.equal(weight, weights[key]) for key, weight in start.state_dict().items())


def test_a_step_without_any_label_leaves_models_of_other_families_alone(tiny_tokenizer, tmp_path):
    trainer = make_trainer(OTHERS["t5"](len(tiny_tokenizer)), tiny_tokenizer, tmp_path)
    batch = trainer.data_collator([{"input_ids": [5, 2], "labels": [-100]}])
    for count in (0, torch.tensor(7)):
        loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=count)
        loss.backward()
        assert loss == 0
    assert all(not parameter.grad.any() for parameter in trainer.model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("name", ["encoder-decoder", "decoder", "t5", "llama"])
def test_a_validation_is_the_mean_over_its_labels_whatever_the_batch(build_tiny_model, tiny_tokenizer, tmp_path, name):
    collator = CausalLMCollator if name in ("decoder", "llama") else Seq2SeqCollator
    ours = {"encoder-decoder": KakehashiForConditionalGeneration, "decoder": KakehashiForCausalLM}
    model = build_tiny_model(ours[name]) if name in ours else OTHERS[name](len(tiny_tokenizer))
    found = []
    for size in (1, 3, 8):
        trainer = make_trainer(model, tiny_tokenizer, tmp_path, collator, size)
        found.append(trainer.evaluate(metric_key_prefix="test")["test_loss"])
        assert trainer.state.log_history[-1]["test_loss"] == found[-1]
    with torch.no_grad():
        expected = model(**trainer.data_collator(list(trainer.eval_dataset))).loss.item()
    assert found == pytest.approx([expected] * 3, rel=1e-5)


def test_copies_that_fill_up_the_last_batches_of_several_processes_have_no_labels(
    tiny_model, tiny_tokenizer, tmp_path
):
    trainer = make_trainer(tiny_model, tiny_tokenizer, tmp_path)
    labels, kept = torch.arange(6).reshape(3, 2), []
    # Four rows are left for three processes of three.
    for is_last, process in ((False, 0), (True, 0), (True, 1), (True, 2)):
        trainer.accelerator = SimpleNamespace(gradient_state=SimpleNamespace(end_of_dataloader=is_last, remainder=4))
        trainer.args = SimpleNamespace(process_index=process)
        rows = trainer._without_copies(labels)
        kept.append(rows[(rows != -100).all(1)].tolist())
        assert (rows[len(kept[-1]) :] == -100).all()
    assert kept == [labels.tolist(), labels.tolist(), [[0, 1]], []]


def test_numbers_to_predict_all_count_also_one_that_marks_no_label_elsewhere(tiny_model, tiny_tokenizer, tmp_path):
    loss = ClassificationLoss("regression")
    trainer = make_trainer(tiny_model, tiny_tokenizer, tmp_path, compute_loss_func=loss)
    batches = [{"labels": torch.tensor([-100.0, 0.5])}, {"labels": torch.tensor([-100.0])}]
    assert trainer._get_num_items_in_batch(batches, torch.device("cpu")) == 3
    assert trainer._get_num_items_in_batch(batches[1:], torch.device("cpu")) == 1
    assert trainer._get_num_items_in_batch([{"labels": torch.tensor([[-100, 7]])}], torch.device("cpu")) == 1


def test_what_is_measured_leaves_out_the_copies_of_several_processes(build_tiny_model, tiny_tokenizer, tmp_path):
    trainer = make_trainer(build_tiny_model(KakehashiForConditionalGeneration), tiny_tokenizer, tmp_path)
    gathered, gather = [], trainer.accelerator.gather_for_metrics
    trainer.accelerator.gather_for_metrics = lambda *args, **kwargs: gathered.append(args) or gather(*args, **kwargs)
    trainer.evaluate()
    assert gathered
