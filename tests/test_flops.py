"""Operations counted from a configuration are those that torch counts while the model runs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from kakehashi.modeling import (
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
)
from kakehashi.training import flops
from kakehashi.training.flops import ModelFlops, Workload, peak_rate

ROWS, SOURCE, TARGET = 2, 24, 17


def counted(model, batch, *, backward=True):
    model.set_attn_implementation("eager")
    # Where gradients are wanted, the loss computes its own along with itself.
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        loss = model(**batch).loss
        if backward:
            loss.backward()
    return counter.get_total_flops()


def work_of(sources, targets=(), labels=None):
    """What examples of these lengths ask for; without targets of a model of one stack."""
    pairs = list(zip(sources, targets or [0] * len(sources), strict=True))
    sums = [sum(s for s, _ in pairs), sum(t for _, t in pairs)]
    sums += [sum(s * s for s, _ in pairs), sum(t * t for _, t in pairs), sum(s * t for s, t in pairs)]
    return Workload(*sums, labels=sums[bool(targets)] if labels is None else labels)


def ids(length, rows=ROWS):
    return torch.randint(10, 300, (rows, length))


def test_an_encoder_decoder_costs_what_torch_counts(tiny_model):
    batch = {"input_ids": ids(SOURCE), "labels": ids(TARGET)}
    costs, work = ModelFlops.of_model(tiny_model), work_of([SOURCE] * ROWS, [TARGET] * ROWS)
    tiny_model.train()
    assert costs.forward(work) == pytest.approx(counted(tiny_model, batch, backward=False), rel=0.01)
    assert costs.training(work) == pytest.approx(counted(tiny_model, batch), rel=0.01)
    assert costs == ModelFlops.of_config(tiny_model.config)


def test_only_labelled_positions_cost_an_output_projection(tiny_model):
    labels = ids(TARGET)
    labels[:, 5:] = -100
    costs = ModelFlops.of_model(tiny_model)
    work = work_of([SOURCE] * ROWS, [TARGET] * ROWS, labels=5 * ROWS)
    assert costs.training(work) == pytest.approx(
        counted(tiny_model.train(), {"input_ids": ids(SOURCE), "labels": labels}), rel=0.01
    )


@pytest.mark.parametrize(
    ("model_class", "labels", "labelled"),
    [
        # The first label of a causal model is nobody's next token.
        (KakehashiForCausalLM, ids(SOURCE), ROWS * (SOURCE - 1)),
        (KakehashiForMaskedLM, ids(SOURCE), ROWS * SOURCE),
        (KakehashiForSequenceClassification, torch.tensor([0, 1]), ROWS),
    ],
)
def test_a_single_stack_costs_what_torch_counts(build_tiny_model, model_class, labels, labelled):
    model = build_tiny_model(model_class, num_decoder_layers=3, num_labels=2).train()
    work = work_of([SOURCE] * ROWS, labels=labelled)
    batch = {"input_ids": ids(SOURCE), "labels": labels}
    assert ModelFlops.of_model(model).training(work) == pytest.approx(counted(model, batch), rel=0.01)


@pytest.mark.parametrize("heads", [1, 4])
def test_fewer_key_heads_cost_less_by_exactly_their_projections(build_tiny_model, heads):
    model = build_tiny_model(
        KakehashiForConditionalGeneration, num_key_value_heads=heads, num_decoder_layers=2
    ).train()
    work = work_of([SOURCE] * ROWS, [TARGET] * ROWS)
    batch = {"input_ids": ids(SOURCE), "labels": ids(TARGET)}
    assert ModelFlops.of_model(model).training(work) == pytest.approx(counted(model, batch), rel=0.01)


def test_frozen_weights_save_their_part_of_the_backward_pass(build_tiny_model):
    sizes = {"num_encoder_layers": 4, "num_decoder_layers": 4}
    model = build_tiny_model(KakehashiForConditionalGeneration, **sizes).train()
    work = work_of([SOURCE] * ROWS, [TARGET] * ROWS)
    batch = {"input_ids": ids(SOURCE), "labels": ids(TARGET)}
    costs = ModelFlops.of_model(model)
    assert costs.with_backward(model).forward(work) == pytest.approx(costs.training(work))
    model.get_encoder().requires_grad_(False)
    # Keys and values of the source are the decoder's: their weights are trained, nothing goes on to the encoder. The
    # output projection is the encoder's frozen embedding.
    assert costs.with_backward(model).forward(work) == pytest.approx(counted(model, batch), rel=0.001)
    model.requires_grad_(False)
    model.get_encoder().layers[0].self_attn_norm.weight.requires_grad = True
    assert costs.with_backward(model).forward(work) == pytest.approx(2 * costs.forward(work))


def test_other_families_cost_six_operations_for_each_weight_and_token(tiny_tokenizer):
    config = T5Config(
        vocab_size=384, d_model=64, d_ff=256, d_kv=16, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    model = T5ForConditionalGeneration(config).train()
    work = work_of([SOURCE] * ROWS, [TARGET] * ROWS)
    batch = {"input_ids": ids(SOURCE), "labels": ids(TARGET)}
    # Attention's own products are a few percent at this length; keys of the source pass the decoder's weights.
    assert ModelFlops.of_model(model).training(work) == pytest.approx(counted(model, batch), rel=0.15)
    causal = GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=64, n_layer=2, n_head=4, n_positions=64)).train()
    batch = {"input_ids": ids(SOURCE), "labels": ids(SOURCE)}
    work = work_of([SOURCE] * ROWS)
    assert ModelFlops.of_model(causal).training(work) == pytest.approx(counted(causal, batch), rel=0.15)


def test_workloads_add_up():
    first, second = work_of([3], [2]), work_of([5, 1], [4, 1])
    assert first == Workload(3, 2, 9, 4, 6, 2)
    assert first + second == work_of([3, 5, 1], [2, 4, 1])
    assert first * 2 == first + first


@pytest.mark.parametrize(
    ("name", "known", "rate"),
    [
        ("NVIDIA H200", "H200", 989e12),
        ("NVIDIA H100 PCIe", "H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", "A100", 312e12),
        ("NVIDIA GeForce RTX 4090", "RTX 4090", 165e12),
        ("AMD Instinct MI250X / MI250", "MI250X", 383e12),
    ],
)
def test_the_peak_of_a_known_gpu_is_its_data_sheet_s(monkeypatch, name, known, rate):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    peak = peak_rate(torch.device("cuda"))
    assert (peak.flops_per_second, peak.source) == (rate, f"data sheet, {known}, dense bfloat16")


@pytest.mark.parametrize(
    "name",
    ["NVIDIA RTX A1000", "NVIDIA RTX A4000", "NVIDIA H20", "NVIDIA GeForce RTX 4090 Laptop GPU",
     "NVIDIA GeForce RTX 4090 D", "NVIDIA A100-SXM4-40GB MIG 1g.5gb"],
)  # fmt: skip
def test_the_peak_of_a_gpu_is_not_that_of_one_with_a_similar_name(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(flops, "measure_peak", lambda *measured: 1e12)
    assert peak_rate(torch.device("cuda")).source.startswith("measured matrix product")


def test_the_peak_of_a_processor_is_measured_without_a_random_number():
    before = torch.random.get_rng_state()
    peak = peak_rate(torch.device("cpu"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert 1e8 < peak.flops_per_second < 1e14
    assert peak.source.startswith("measured matrix product, ")
    # A second question costs nothing.
    assert peak_rate(torch.device("cpu")) == peak
    assert flops.measure_peak.cache_info().hits > 0
