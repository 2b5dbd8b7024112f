"""Matrices in eight or four bits by torchao and bitsandbytes: loaded by Transformers, near the whole model, saved."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, BitsAndBytesConfig, TorchAoConfig

from kakehashi.modeling import KakehashiForConditionalGeneration

IDS = torch.tensor([[5, 60, 61, 62, 63, 2]])
# bitsandbytes packs blocks of 64 numbers: narrower matrices have none.
SIZES = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}


@pytest.fixture
def folder(build_tiny_model, tmp_path):
    """A model folder wide enough for blocks of 64 numbers."""
    build_tiny_model(KakehashiForConditionalGeneration, **SIZES).save_pretrained(tmp_path / "whole")
    return tmp_path / "whole"


def logits_of(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS, decoder_input_ids=IDS).logits.float()


def nearness(one, other):
    return torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0).item()


@pytest.mark.parametrize("scheme", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_torchao_loads_in_eight_bits_and_saves_what_it_loaded(folder, tmp_path, scheme):
    quantization = pytest.importorskip("torchao.quantization")
    whole = logits_of(AutoModelForSeq2SeqLM.from_pretrained(folder))
    settings = TorchAoConfig(getattr(quantization, scheme)())
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, quantization_config=settings)
    weight = model.model.encoder.layers[0].self_attn.q_proj.weight
    assert "int8" in type(weight).__name__.lower() and type(model.lm_head.weight) is torch.nn.Parameter
    assert nearness(logits_of(model), whole) > 0.999
    assert model.generate(IDS, max_new_tokens=4).shape[0] == 1
    model.save_pretrained(tmp_path / "small")
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "small")
    assert torch.equal(logits_of(loaded), logits_of(model))


@pytest.mark.parametrize(
    "settings, least",
    [
        ({"load_in_8bit": True}, 0.999),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}, 0.97),
    ],
    ids=["8 bits", "4 bits"],
)
def test_bitsandbytes_loads_in_fewer_bits_on_the_processor_too(folder, tmp_path, settings, least):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    whole = logits_of(AutoModelForSeq2SeqLM.from_pretrained(folder))
    model = AutoModelForSeq2SeqLM.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(**settings), device_map="cpu"
    )
    layer = model.model.encoder.layers[0].self_attn.q_proj
    assert isinstance(layer, (bitsandbytes.nn.Linear8bitLt, bitsandbytes.nn.Linear4bit))
    assert type(model.lm_head) is torch.nn.Linear
    assert nearness(logits_of(model), whole) > least
    assert model.generate(IDS, max_new_tokens=4).shape[0] == 1
