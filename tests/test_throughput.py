"""Tokens, slots and operations are counted from the batches a model sees, whatever their form."""

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from kakehashi.modeling import KakehashiForCausalLM
from kakehashi.training.flops import ModelFlops, Workload
from kakehashi.training.throughput import TokenCounter, count_batch


@pytest.fixture
def training_arguments(tmp_path):
    return TrainingArguments(output_dir=str(tmp_path))


@pytest.fixture
def state():
    return TrainerState(max_steps=1000, stateful_callbacks=[TrainerControl()])


PADDED = {
    "input_ids": torch.tensor([[10, 11, 2], [12, 2, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
    "labels": torch.tensor([[20, 2], [2, -100]]),
}
# The same examples in one row, with a slot of padding on either side.
PACKED = {
    "input_ids": torch.tensor([[10, 11, 2, 12, 2, 0]]),
    "segment_ids": torch.tensor([[1, 1, 1, 2, 2, 0]]),
    "labels": torch.tensor([[20, 2, 2, -100]]),
    "decoder_input_ids": torch.tensor([[1, 20, 1, 0]]),
    "decoder_segment_ids": torch.tensor([[1, 1, 2, 0]]),
}


def work_of(batch, **kinds):
    slots, *sums = count_batch(batch, **{"is_encoder_decoder": True, "is_generator": True, **kinds}).tolist()
    return slots, Workload(*sums)


def test_tokens_of_source_and_target_count_but_padding_does_not(tiny_model, training_arguments, state):
    counter = TokenCounter()
    tiny_model.train()
    counter.on_train_begin(training_arguments, state, TrainerControl(), model=tiny_model)
    tiny_model(**PADDED)
    # Validation in between is not training.
    tiny_model.eval()
    tiny_model(**PADDED)
    counter.on_train_end(training_arguments, state, TrainerControl())
    assert counter.num_tokens_seen == 5 + 3
    tiny_model.train()
    tiny_model(**PADDED)
    assert counter.state()["args"]["num_tokens_seen"] == 8


def test_a_log_gains_the_count_and_the_rate_of_tokens(tiny_model, training_arguments, state):
    counter = TokenCounter()
    counter.on_train_begin(training_arguments, state, TrainerControl(), model=tiny_model)
    counter.num_tokens_seen = 30
    counter.training_seconds = 2.0
    logs = {"loss": 1.0}
    state.log_history.append(dict(logs))
    counter.on_log(training_arguments, state, TrainerControl(), logs=logs)
    assert logs == state.log_history[-1] == {"loss": 1.0, "tokens_per_second": 15.0, "num_tokens_seen": 30}


def test_counts_go_on_from_the_checkpoint(tiny_model, training_arguments, state):
    state.stateful_callbacks["TokenCounter"] = TokenCounter(70, 7.0).state()
    counter = TokenCounter()
    counter.on_train_begin(training_arguments, state, TrainerControl(), model=tiny_model)
    assert (counter.num_tokens_seen, counter.tokens_per_second) == (70, 10.0)


def test_packed_rows_count_like_the_examples_in_them():
    expected = Workload(5, 3, 13, 5, 8, 3)
    assert work_of(PADDED) == (10, expected)
    assert work_of(PACKED) == (10, expected)


def test_more_sources_than_targets_in_a_row_are_paired_by_their_number():
    batch = {
        "input_ids": torch.zeros(1, 7, dtype=torch.int64),
        "segment_ids": torch.tensor([[1, 2, 2, 3, 3, 3, 4]]),
        "labels": torch.tensor([[5, 6]]),
        "decoder_segment_ids": torch.tensor([[1, 2]]),
    }
    assert work_of(batch)[1].cross_pairs == 1 * 1 + 2 * 1


def test_a_causal_model_projects_no_first_token_of_a_text():
    ids = torch.tensor([[1, 10, 2, 1, 2, 0]])
    packed = {"input_ids": ids, "labels": ids, "segment_ids": torch.tensor([[1, 1, 1, 2, 2, 0]])}
    assert work_of(packed, is_encoder_decoder=False)[1] == Workload(5, 0, 9 + 4, 0, 0, 3)
    masked = {"input_ids": ids, "labels": torch.tensor([[10, -100, -100, 1, -100, -100]])}
    assert work_of(masked, is_encoder_decoder=False, is_generator=False)[1].labels == 2
    assert work_of({"input_ids": ids}, is_encoder_decoder=False)[1] == Workload(6, 0, 36)


def test_a_text_with_one_label_or_several_is_one_row_for_the_head():
    ids = torch.ones(3, 4, dtype=torch.int64)
    for labels in (torch.tensor([0, 1, 0]), torch.ones(3, 5)):
        batch = {"input_ids": ids, "labels": labels}
        assert work_of(batch, is_encoder_decoder=False, is_generator=False) == (12, Workload(12, 0, 48, 0, 0, 3))


def test_a_run_knows_how_full_its_slots_are_and_what_share_of_the_peak_it_uses(tiny_model, training_arguments, state):
    counter = TokenCounter()
    counter.on_train_begin(training_arguments, state, TrainerControl(), model=tiny_model.train())
    tiny_model(**PACKED)
    counter.on_step_end(training_arguments, state, TrainerControl())
    logs = {"loss": 1.0}
    state.log_history.append(dict(logs))
    counter.on_log(training_arguments, state, TrainerControl(), logs=logs)
    assert logs["packing_efficiency"] == 0.8
    assert 0 <= logs["model_flops_utilization"] < 1
    summary = counter.summary()
    work = Workload(5, 3, 13, 5, 8, 3)
    assert summary["model_flops"] == ModelFlops.of_model(tiny_model).training(work)
    assert summary["packing_efficiency"] == 0.8
    # What a checkpoint keeps is enough to go on.
    assert TokenCounter(**counter.state()["args"]).state() == counter.state()


def test_time_that_is_left_out_is_not_training_time(tiny_model, training_arguments, state, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("kakehashi.training.throughput.time.perf_counter", lambda: now[0])
    counter = TokenCounter()
    counter.on_train_begin(training_arguments, state, TrainerControl(), model=tiny_model)
    for seconds, event in [(2.0, "on_step_end"), (9.0, "on_evaluate"), (12.0, "on_step_end"), (20.0, "on_save")]:
        now[0] = seconds
        getattr(counter, event)(training_arguments, state, TrainerControl())
    assert counter.training_seconds == 2.0 + 3.0


def test_a_causal_model_is_counted_through_its_hook(build_tiny_model, training_arguments, state):
    model = build_tiny_model(KakehashiForCausalLM).train()
    counter = TokenCounter()
    counter.on_train_begin(training_arguments, state, TrainerControl(), model=model)
    ids = torch.tensor([[1, 10, 11, 2]])
    model(input_ids=ids, labels=ids)
    counter.on_train_end(training_arguments, state, TrainerControl())
    assert counter.num_tokens_seen == counter.num_slots_seen == 4
    assert counter.model_flops == ModelFlops.of_config(model.config).training(Workload(4, 0, 16, 0, 0, 3))
