"""Which devices compute in bfloat16 themselves, and in what a run computes."""

import pytest
import torch
from transformers import TrainingArguments

from kakehashi.training.bfloat16 import autocast_of, computes_bfloat16


@pytest.fixture(autouse=True)
def ask_again():
    computes_bfloat16.cache_clear()
    yield
    computes_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "amx_bf16": True}, True),
        ({"architecture": "arm64", "bf16": True}, True),
        ({"architecture": "arm64", "neon": True}, False),
    ],
)
def test_a_processor_needs_the_instructions(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert computes_bfloat16("cpu") is expected


@pytest.mark.parametrize("supported", [True, False])
def test_an_imitation_on_a_gpu_does_not_count(supported, monkeypatch):
    def is_bf16_supported(including_emulation):
        return supported or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert computes_bfloat16("cuda") is supported


@pytest.mark.parametrize(
    ("precision", "expected"), [({}, torch.float32), ({"bf16": True}, torch.bfloat16), ({"fp16": True}, torch.float16)]
)
def test_products_are_computed_in_the_precision_of_the_run(precision, expected, tmp_path):
    matrix = torch.ones(2, 2)
    with autocast_of(TrainingArguments(str(tmp_path), use_cpu=True, **precision)):
        assert (matrix @ matrix).dtype == expected
