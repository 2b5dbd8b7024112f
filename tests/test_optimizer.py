"""Muon and AdamW as one optimizer."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import AdamW, Muon
from transformers import TrainingArguments, get_scheduler

from kakehashi.training.optimizer import MuonAdamW, muon_adamw, orthogonalize, split_parameters, stackable


def take_steps(model, optimizers, count, schedulers=()):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        ids = torch.randint(8, model.config.vocab_size, (2, 5), generator=generator)
        model(input_ids=ids, labels=ids).loss.backward()
        for part in (*optimizers, *schedulers):
            part.step()
        for optimizer in optimizers:
            optimizer.zero_grad()


def test_blocks_go_to_muon_and_every_parameter_to_exactly_one_part(tiny_model):
    matrices, others = split_parameters(tiny_model)
    names = {id(parameter): name for name, parameter in tiny_model.named_parameters()}
    assert {names[id(matrix)].rsplit(".", 2)[1] for matrix in matrices} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    assert any("embed_tokens" in names[id(parameter)] for parameter in others)
    assert sorted(map(id, matrices + others)) == sorted(map(id, tiny_model.parameters()))


def test_steps_equal_those_of_the_two_optimizers_side_by_side(tiny_model, monkeypatch):
    monkeypatch.setattr("kakehashi.training.optimizer.computes_bfloat16", lambda device_type: True)
    model, reference = copy.deepcopy(tiny_model).train(), copy.deepcopy(tiny_model).train()
    ours = MuonAdamW(model, learning_rate=1e-2, weight_decay=0.1)
    matrices, others = split_parameters(reference)
    muon = Muon(matrices, lr=1e-2, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adamw = AdamW(others, lr=5e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    take_steps(model, [ours], 3)
    take_steps(reference, [muon, adamw], 3)
    for parameter, expected in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48)])
def test_a_device_without_bfloat16_orthogonalizes_in_float32(shape, monkeypatch):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    results = {}
    for computes in (True, False):
        monkeypatch.setattr("kakehashi.training.optimizer.computes_bfloat16", lambda device_type, it=computes: it)
        results[computes] = orthogonalize(matrix, (3.4445, -4.7750, 2.0315), steps=5, eps=1e-7)
    assert (results[True].dtype, results[False].dtype) == (torch.bfloat16, torch.float32)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    # The iteration leaves singular values between 0.7 and 1.2, not at 1.
    singular_values = torch.linalg.svdvals(results[False])
    assert singular_values.min() > 0.5
    assert singular_values.max() < 1.5
    cosine = torch.nn.functional.cosine_similarity(results[False].flatten(), (left @ right).flatten(), dim=0)
    assert cosine > 0.97
    torch.testing.assert_close(results[True].float(), results[False], rtol=0, atol=0.05)


@pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48)])
def test_several_matrices_are_orthogonalized_as_each_by_itself(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    arguments = {"coefficients": (3.4445, -4.7750, 2.0315), "steps": 5, "eps": 1e-7}
    together = orthogonalize(matrices, **arguments)
    for matrix, result in zip(matrices, together, strict=True):
        alone = orthogonalize(matrix, **arguments)
        assert alone.dtype == result.dtype
        torch.testing.assert_close(result.float(), alone.float(), rtol=0, atol=0.02)


def test_matrices_of_one_shape_stand_together_up_to_a_size(monkeypatch):
    monkeypatch.setattr("kakehashi.training.optimizer.STACKED", 40)
    small, wide, large = [torch.empty(4, 4) for _ in range(5)], [torch.empty(2, 8)], [torch.empty(7, 7)] * 2
    half = torch.empty(4, 4, dtype=torch.bfloat16)
    groups = stackable([small[0], *wide, *small[1:], half, *large])
    assert [[tuple(matrix.shape) for matrix in group] for group in groups] == [
        *([(4, 4)] * 2, [(4, 4)] * 2, [(4, 4)]),
        [(2, 8)],
        [(4, 4)],
        *([(7, 7)], [(7, 7)]),
    ]
    assert [id(matrix) for group in groups[:3] for matrix in group] == [id(matrix) for matrix in small]


def test_a_scheduler_reaches_both_parts(tiny_model):
    optimizer = MuonAdamW(copy.deepcopy(tiny_model).train(), learning_rate=1e-2)
    get_scheduler("linear", optimizer, num_warmup_steps=10, num_training_steps=20)
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [0.0, 0.0]


def test_saved_and_restored_state_goes_on_as_if_never_interrupted(tiny_model):
    model = copy.deepcopy(tiny_model).train()
    optimizer = MuonAdamW(model, learning_rate=1e-2)
    take_steps(model, [optimizer], 2)
    resumed = copy.deepcopy(model)
    restored = MuonAdamW(resumed, learning_rate=1e-2)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    take_steps(model, [optimizer], 2)
    take_steps(resumed, [restored], 2)
    for parameter, expected in zip(resumed.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=0, atol=0)


def test_trainer_arguments_set_both_parts(tiny_model, tmp_path):
    arguments = TrainingArguments(
        output_dir=str(tmp_path), learning_rate=3e-3, weight_decay=0.2, adam_beta2=0.9, use_cpu=True
    )
    muon, adamw = muon_adamw(tiny_model, arguments).parts
    assert (muon.param_groups[0]["lr"], muon.param_groups[0]["weight_decay"]) == (3e-3, 0.2)
    assert (adamw.param_groups[0]["lr"], adamw.param_groups[0]["betas"]) == (1.5e-3, (0.9, 0.9))


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="blocks with linear layers"):
        MuonAdamW(nn.Embedding(4, 4), learning_rate=1e-2)
