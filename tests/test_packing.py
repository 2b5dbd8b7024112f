import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration
from kakehashi.training import packing
from kakehashi.training.collators import CausalLMCollator, DenoisingCollator, Seq2SeqCollator
from kakehashi.training.mixture import denoising_tasks
from kakehashi.training.packing import (
    assign_tasks,
    choose_budgets,
    fill_rows,
    find_lengths,
    list_lengths,
    measure_sequences,
    measure_tasks,
    pack_examples,
)


def draw_lengths(number, sides=2, longest=60):
    draws = np.random.default_rng(0)
    common = draws.lognormal(2.5, 0.6, size=(number, 1))
    return np.clip(common * draws.uniform(0.7, 1.4, size=(number, sides)), 1, longest).astype(np.int64)


def make_pairs(number=600, seed=0):
    draws = np.random.default_rng(seed)
    lengths = draw_lengths(number)
    return Dataset.from_dict(
        {
            "input_ids": [draws.integers(100, 380, size=length).tolist() for length in lengths[:, 0]],
            "labels": [draws.integers(100, 380, size=length).tolist() for length in lengths[:, 1]],
        }
    )


def unpack(row):
    """The examples of a packed row."""
    sides = []
    for name, lengths in (("input_ids", "lengths"), ("labels", "label_lengths")):
        sides.append([tuple(piece) for piece in np.split(row[name], np.cumsum(row[lengths])[:-1])])
    return list(zip(*sides, strict=True))


def test_rows_are_filled_as_the_docstring_draws():
    lengths = np.array([[5, 3], [4, 4], [3, 1], [2, 2], [2, 1]])
    assert fill_rows(lengths, (8, 5)) == [[1, 2], [0, 4], [3]]


def test_every_example_is_in_exactly_one_row_and_no_row_is_too_long():
    lengths = draw_lengths(2000)
    rows = fill_rows(lengths, (128, 120))
    assert sorted(itertools.chain(*rows)) == list(range(2000))
    assert all((lengths[row].sum(axis=0) <= (128, 120)).all() for row in rows)


@pytest.mark.parametrize("sides", [1, 2])
def test_at_least_98_percent_of_the_room_is_used(sides):
    lengths = draw_lengths(10_000, sides)
    budgets = choose_budgets(lengths, 256)
    assert lengths.sum() / (len(fill_rows(lengths, budgets)) * sum(budgets)) >= 0.98


def test_an_example_that_fits_no_row_is_named():
    with pytest.raises(ValueError, match=r"a row of 8 \+ 5 tokens, but one has 3 \+ 6"):
        fill_rows(np.array([[1, 1], [3, 6]]), (8, 5))


def test_budgets_follow_the_data_and_hold_the_longest_example():
    lengths = np.array([[10, 5], [20, 10], [30, 15]])
    assert choose_budgets(lengths, 100) == (100, 50)
    assert choose_budgets(lengths, 20) == (30, 15)
    assert choose_budgets(np.array([[10, 1], [10, 40]]), 10) == (10, 40)


def test_no_example_is_lost_or_changed():
    examples = make_pairs()
    packed = pack_examples(examples, measure_sequences("input_ids", "labels"), 128)
    found = sorted(pair for row in packed.rows for pair in unpack(row))
    assert found == sorted((tuple(row["input_ids"]), tuple(row["labels"])) for row in examples)
    assert packed.efficiency == pytest.approx(
        sum(len(source) + len(target) for source, target in found) / (len(packed.rows) * sum(packed.budgets))
    )


def test_packing_is_found_again_until_something_changes():
    examples, measure = make_pairs(), measure_sequences("input_ids", "labels")
    first = pack_examples(examples, measure, 128).rows
    assert pack_examples(examples, measure, 128).rows._fingerprint == first._fingerprint
    others = [
        pack_examples(examples, measure, 96),
        pack_examples(examples, measure, 128, seed=1),
        pack_examples(examples, measure, 128, settings="other"),
        pack_examples(make_pairs(seed=1), measure, 128),
    ]
    assert first._fingerprint not in {other.rows._fingerprint for other in others}


@pytest.mark.parametrize("name", ["packing", "mixture", "objectives", "sequences"])
def test_rows_are_packed_anew_when_code_that_they_follow_from_has_changed(monkeypatch, name):
    examples, measure = make_pairs(), measure_sequences("input_ids", "labels")
    first = pack_examples(examples, measure, 128).rows
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read_bytes(path) + b"#" * (path.name == f"{name}.py"))
    assert pack_examples(examples, measure, 128).rows._fingerprint != first._fingerprint


def test_several_processes_pack_the_same_examples():
    examples = make_pairs()
    packed = pack_examples(examples, measure_sequences("input_ids", "labels"), 128, num_proc=2)
    found = sorted(pair for row in packed.rows for pair in unpack(row))
    assert found == sorted((tuple(row["input_ids"]), tuple(row["labels"])) for row in examples)


def test_a_stream_is_packed_while_it_is_read():
    examples = make_pairs()
    packed = pack_examples(
        examples.to_iterable_dataset(), measure_sequences("input_ids", "labels"), 128, longest=(60, 60)
    )
    found = sorted(pair for row in packed.rows for pair in unpack(row))
    assert found == sorted((tuple(row["input_ids"]), tuple(row["labels"])) for row in examples)
    assert packed.efficiency > 0.9


def test_rows_of_a_stream_are_not_in_the_order_of_their_examples_lengths():
    measure = measure_sequences("input_ids", "labels")
    rows = list(pack_examples(make_pairs().to_iterable_dataset(), measure, 128, longest=(60, 60)).rows)
    numbers = [len(row["lengths"]) for row in rows]
    middle = len(rows) // 2
    assert np.mean(numbers[:middle]) == pytest.approx(np.mean(numbers[middle:]), rel=0.2)


def test_a_stream_needs_to_know_its_longest_example():
    with pytest.raises(ValueError, match="`longest` must be given"):
        pack_examples(make_pairs().to_iterable_dataset(), measure_sequences("input_ids", "labels"), 128)


def test_a_row_has_at_least_one_token():
    with pytest.raises(ValueError, match="`row_length` must be at least 1, but it is 0"):
        pack_examples(make_pairs(), measure_sequences("input_ids", "labels"), 0)


def make_pieces(number=300):
    draws = np.random.default_rng(0)
    lengths = draw_lengths(number, 1)[:, 0]
    return Dataset.from_dict({"input_ids": [draws.integers(100, 380, size=length).tolist() for length in lengths]})


def test_denoised_rows_are_as_long_as_was_measured_in_every_epoch(tiny_tokenizer):
    tasks = denoising_tasks()
    pieces = assign_tasks(make_pieces(), tasks, seed=0)
    packed = pack_examples(pieces, measure_tasks(tasks), 128)
    batches = []
    for epoch in (0, 1):
        batch = DenoisingCollator(tiny_tokenizer, tasks, epoch=epoch)(list(packed.rows))
        assert batch["segment_ids"].shape[1] <= packed.budgets[0]
        assert batch["decoder_segment_ids"].shape[1] <= packed.budgets[1]
        tokens = (batch["segment_ids"] > 0).sum() + (batch["labels"] != -100).sum()
        assert tokens / (len(packed.rows) * sum(packed.budgets)) == pytest.approx(packed.efficiency)
        batches.append(batch)
    assert not torch.equal(batches[0]["input_ids"], batches[1]["input_ids"])


def test_selected_examples_are_measured_piece_by_piece(monkeypatch):
    tasks, read = denoising_tasks(), []
    selected = make_pieces().select(range(0, 300, 3))
    lengths, assigned = find_lengths(selected, measure_sequences("input_ids")), assign_tasks(selected, tasks, 0)[:]
    monkeypatch.setattr(packing, "_PIECE", 8)
    monkeypatch.setattr(packing, "list_lengths", lambda column: read.append(len(column)) or list_lengths(column))
    assert find_lengths(selected, measure_sequences("input_ids")).tolist() == lengths.tolist()
    assert assign_tasks(selected, tasks, 0)[:] == assigned
    assert sum(read) == 200 and max(read) == 8


def test_a_stream_of_pieces_gets_tasks_too(tiny_tokenizer):
    tasks = denoising_tasks()
    pieces = assign_tasks(make_pieces().to_iterable_dataset(), tasks, seed=0)
    packed = pack_examples(pieces, measure_tasks(tasks), 128, longest=(62, 62))
    rows = list(packed.rows)
    assert sum(len(row["task"]) for row in rows) == 300
    assert DenoisingCollator(tiny_tokenizer, tasks)(rows)["input_ids"].shape[0] == len(rows)


def test_a_packed_batch_has_the_loss_of_its_examples_padded(build_tiny_model, tiny_tokenizer):
    model = build_tiny_model(KakehashiForConditionalGeneration)
    collate, examples = Seq2SeqCollator(tiny_tokenizer), make_pairs(20)
    packed = collate(list(pack_examples(examples, measure_sequences("input_ids", "labels"), 128).rows))
    assert packed["input_ids"].shape[0] < 10
    torch.testing.assert_close(model(**packed).loss, model(**collate(list(examples))).loss)


def test_a_packed_batch_of_a_decoder_has_the_loss_of_its_texts_padded(build_tiny_model, tiny_tokenizer):
    model = build_tiny_model(KakehashiForCausalLM)
    collate, examples = CausalLMCollator(tiny_tokenizer), make_pieces(20)
    packed = collate(list(pack_examples(examples, measure_sequences("input_ids", extra=2), 128).rows))
    assert packed["input_ids"].shape[1] <= 128
    torch.testing.assert_close(model(**packed).loss, model(**collate(list(examples))).loss)


@pytest.mark.parametrize(("batch_size", "packed"), [(5, True), (1, True), (4, False)])
def test_a_step_of_a_plain_trainer_on_a_decoder_is_that_on_the_texts_apart(
    build_tiny_model, tiny_tokenizer, tmp_path, batch_size, packed
):
    texts = make_pieces(20)
    rows = pack_examples(texts, measure_sequences("input_ids", extra=2), 64).rows
    assert len(rows) == 5

    def step(examples, batch_size):
        arguments = TrainingArguments(
            tmp_path,
            max_steps=1,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=len(examples) // batch_size,
            learning_rate=0.1,
            optim="sgd",
            logging_steps=1,
            save_strategy="no",
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        model = build_tiny_model(KakehashiForCausalLM)
        trainer = Trainer(model, arguments, train_dataset=examples, data_collator=CausalLMCollator(tiny_tokenizer))
        trainer.train()
        return trainer.state.log_history[0]["loss"], model.state_dict()

    expected_loss, expected = step(texts, 20)
    loss, weights = step(rows if packed else texts, batch_size)
    assert loss == pytest.approx(expected_loss, abs=1e-4)
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-6, msg=name)


def test_a_plain_trainer_learns_from_packed_rows(build_tiny_model, tiny_tokenizer, tmp_path):
    packed = pack_examples(make_pairs(60), measure_sequences("input_ids", "labels"), 128)
    arguments = TrainingArguments(
        tmp_path,
        max_steps=3,
        per_device_train_batch_size=2,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    model = build_tiny_model(KakehashiForConditionalGeneration)
    before = model.lm_head.weight.clone()
    Trainer(model, arguments, train_dataset=packed.rows, data_collator=Seq2SeqCollator(tiny_tokenizer)).train()
    assert not torch.equal(model.lm_head.weight, before)
