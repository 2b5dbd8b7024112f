"""The order of the data: by length, shuffled, and the same again after a resumption."""

import os
import signal
import sys
from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Seq2SeqTrainingArguments, TrainerCallback

from kakehashi.training import packing
from kakehashi.training.packing import list_lengths
from kakehashi.training.trainer import LengthGroupedSampler, RepeatableTrainer, example_lengths


def batches_of(lengths, batch_size, seed=0, epoch=0):
    order = list(LengthGroupedSampler(np.array(lengths), batch_size, seed, lambda: epoch))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def test_every_example_comes_once_also_where_batches_do_not_fill_up():
    for size in (1, 7, 8, 399, 400, 401, 1003):
        lengths = np.random.default_rng(0).integers(1, 50, size)
        order = [index for batch in batches_of(lengths, 8) for index in batch]
        assert sorted(order) == list(range(size))


def test_a_batch_holds_examples_of_about_one_length_and_batches_are_not_sorted():
    lengths = np.random.default_rng(0).integers(1, 100, 803)
    batches = batches_of(lengths, 8)
    spreads = [int(np.ptp(lengths[batch])) for batch in batches[:-1]]
    assert np.mean(spreads) < 5
    assert max(spreads) < 30
    longest = [int(lengths[batch].max()) for batch in batches]
    descents = sum(first > second for first, second in pairwise(longest))
    assert 0.3 < descents / len(longest) < 0.7


def test_the_order_follows_from_seed_and_epoch_alone():
    lengths = list(range(1, 60))
    assert batches_of(lengths, 4) == batches_of(lengths, 4)
    assert batches_of(lengths, 4) != batches_of(lengths, 4, epoch=1)
    assert batches_of(lengths, 4) != batches_of(lengths, 4, seed=1)


def test_lengths_are_those_of_source_and_target_in_the_order_of_the_rows():
    dataset = Dataset.from_dict({"input_ids": [[1, 2, 3], [4], [5, 6]], "labels": [[1], [2, 3], [4]]})
    assert example_lengths(dataset).tolist() == [4, 3, 3]
    assert example_lengths(dataset.select([1, 0])).tolist() == [3, 4]
    labelled = Dataset.from_dict({"input_ids": [[1, 2, 3], [4]], "labels": [0, 1]})
    assert example_lengths(labelled).tolist() == [3, 1]


def test_lengths_of_selected_rows_are_read_piece_by_piece(monkeypatch):
    rows, read = Dataset.from_dict({"input_ids": [[1] * length for length in range(1, 41)]}), []
    monkeypatch.setattr(packing, "_PIECE", 8)
    monkeypatch.setattr(packing, "list_lengths", lambda column: read.append(len(column)) or list_lengths(column))
    assert example_lengths(rows.select(range(0, 40, 2))).tolist() == list(range(1, 41, 2))
    assert read == [8, 8, 4]


def test_validation_gives_back_the_random_state_of_the_accelerator_too(tiny_model, tmp_path, monkeypatch):
    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [8, 9]}])
    settings = Seq2SeqTrainingArguments(tmp_path / "run", report_to="none", use_cpu=True)
    trainer, forked = RepeatableTrainer(tiny_model, settings, eval_dataset=rows), []
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: forked.append(devices) or nullcontext())
    monkeypatch.setattr(RepeatableTrainer.__mro__[1], "evaluate", lambda *args, **kwargs: {}, raising=False)
    for device, expected in (("cpu", []), ("cuda:0", [torch.device("cuda:0")])):
        monkeypatch.setattr(trainer, "args", SimpleNamespace(device=torch.device(device), seed=0))
        trainer.evaluate()
        assert forked.pop() == expected


def test_examples_that_fill_no_batch_are_refused_where_a_part_of_one_is_left_out(tiny_model, tmp_path):
    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [8, 9]}] * 8)
    settings = {"dataloader_drop_last": True, "max_steps": 1, "report_to": "none", "use_cpu": True}
    arguments = Seq2SeqTrainingArguments(tmp_path / "run", per_device_train_batch_size=9, **settings)
    with pytest.raises(ValueError, match=r"`dataloader_drop_last` must be false .*, got 8 examples for a batch of 9"):
        RepeatableTrainer(tiny_model, arguments, train_dataset=rows).train()
    arguments.per_device_train_batch_size = 8
    assert len(RepeatableTrainer(tiny_model, arguments, train_dataset=rows).get_train_dataloader()) == 1


def test_a_run_that_has_stopped_takes_no_further_step(tiny_model, tmp_path):
    class StopAtOnce(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            control.should_training_stop = True

    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [8, 9]}] * 8)
    settings = Seq2SeqTrainingArguments(tmp_path / "run", max_steps=3, report_to="none", use_cpu=True)
    trainer = RepeatableTrainer(tiny_model, settings, train_dataset=rows, callbacks=[StopAtOnce()])
    trainer.train()
    assert trainer.state.global_step == 0


def test_a_checkpoint_of_the_last_step_is_resumed_without_another_step(tiny_model, tmp_path):
    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [8, 9]}] * 8)
    ends = []
    for resume in (None, True):
        # The run ends in the middle of an epoch, whose other steps Trainer would go on with.
        settings = Seq2SeqTrainingArguments(
            tmp_path / "run", max_steps=3, save_steps=3, per_device_train_batch_size=2, report_to="none", use_cpu=True
        )
        trainer = RepeatableTrainer(tiny_model, settings, train_dataset=rows)
        trainer.train(resume_from_checkpoint=resume)
        assert trainer.state.global_step == 3
        ends.append({name: weight.clone() for name, weight in tiny_model.state_dict().items()})
    assert all(torch.equal(weight, ends[1][name]) for name, weight in ends[0].items())


class SignalRows(torch.utils.data.Dataset):
    """Rows that say whether whoever makes them ignores the two signals that end a run."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"ignored": [signal.getsignal(each) == signal.SIG_IGN for each in (signal.SIGINT, signal.SIGTERM)]}


@pytest.mark.skipif(os.name == "nt", reason="Windows forks no workers")
def test_the_workers_of_a_loader_leave_signals_to_the_process_they_work_for(tmp_path):
    settings = Seq2SeqTrainingArguments(
        str(tmp_path),
        dataloader_num_workers=1,
        dataloader_multiprocessing_context="fork",
        remove_unused_columns=False,
        use_cpu=True,
        report_to=[],
    )
    rows = SignalRows()
    trainer = RepeatableTrainer(
        torch.nn.Linear(1, 1), settings, train_dataset=rows, data_collator=lambda rows: {"rows": rows}
    )
    for loader in (trainer.get_train_dataloader(), trainer.get_eval_dataloader(rows)):
        assert all(row["ignored"] == [True, True] for batch in loader for row in batch["rows"])
    assert signal.getsignal(signal.SIGTERM) != signal.SIG_IGN


def test_an_optimizer_whose_package_is_missing_is_one_readable_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "galore_torch", None)
    settings = Seq2SeqTrainingArguments(
        str(tmp_path), optim="galore_adamw", optim_target_modules=["weight"], use_cpu=True, report_to=[]
    )
    trainer = RepeatableTrainer(torch.nn.Linear(1, 1), settings)
    with pytest.raises(ValueError, match="`optim` must be one whose package is there, got galore_adamw: "):
        trainer.create_optimizer()
