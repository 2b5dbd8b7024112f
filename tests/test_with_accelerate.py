"""Accelerate prepares model, optimizer and loader, and a step of its loop is a step of plain torch."""

import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch.utils.data import DataLoader

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration, KakehashiForMaskedLM
from kakehashi.training.collators import Seq2SeqCollator

SHAPES = [KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiForMaskedLM]


@pytest.fixture(autouse=True)
def fresh_state():
    """Accelerate keeps one state per process: each test starts and leaves without any."""
    for state in (AcceleratorState, PartialState):
        state._reset_state()
    yield
    for state in (AcceleratorState, PartialState):
        state._reset_state()


def rows():
    """Four rows of equal length, so that every shape takes them."""
    ids = torch.randint(20, 300, (4, 6), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row.clone(), "attention_mask": torch.ones_like(row)} for row in ids]


def step(model, optimizer, loader, backward):
    for batch in loader:
        loss = model(**batch).loss
        backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    return loss


@pytest.mark.parametrize("model_class", SHAPES)
def test_a_prepared_step_is_a_step_of_plain_torch(build_tiny_model, model_class):
    plain = build_tiny_model(model_class).train()
    prepared = copy.deepcopy(plain)
    expected = step(
        plain, torch.optim.AdamW(plain.parameters(), lr=1e-3), DataLoader(rows(), 2), torch.Tensor.backward
    )

    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.AdamW(prepared.parameters(), lr=1e-3)
    prepared, optimizer, loader = accelerator.prepare(prepared, optimizer, DataLoader(rows(), 2))
    assert torch.equal(step(prepared, optimizer, loader, accelerator.backward), expected)
    unwrapped = accelerator.unwrap_model(prepared)
    for (name, one), other in zip(plain.named_parameters(), unwrapped.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_it_trains_in_bfloat16_with_our_collator(tiny_model, tiny_tokenizer, tiny_sentences):
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    encoded = tiny_tokenizer(tiny_sentences)["input_ids"]
    examples = [{"input_ids": ids, "labels": ids} for ids in encoded]
    loader = DataLoader(examples, 5, collate_fn=Seq2SeqCollator(tiny_tokenizer))
    model, optimizer, loader = accelerator.prepare(
        tiny_model.train(), torch.optim.AdamW(tiny_model.parameters(), lr=5e-3), loader
    )
    first = step(model, optimizer, loader, accelerator.backward)
    for _ in range(4):
        last = step(model, optimizer, loader, accelerator.backward)
    assert last.isfinite() and last < first


def test_its_state_comes_back_from_a_folder(build_tiny_model, tmp_path):
    accelerator = Accelerator(cpu=True)
    model = build_tiny_model(KakehashiForConditionalGeneration).train()
    model, optimizer, loader = accelerator.prepare(
        model, torch.optim.AdamW(model.parameters(), lr=1e-3), DataLoader(rows(), 2)
    )
    step(model, optimizer, loader, accelerator.backward)
    accelerator.save_state(str(tmp_path))
    kept = copy.deepcopy(model.state_dict())
    step(model, optimizer, loader, accelerator.backward)
    accelerator.load_state(str(tmp_path))
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert model.lm_head.weight is model.model.embed_tokens.weight
