"""Which devices compute in bfloat16 themselves."""

import pytest
import torch

from kakehashi.training.bfloat16 import computes_bfloat16


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
