import pytest
import torch
from transformers import Seq2SeqTrainingArguments, T5Config, T5ForConditionalGeneration

from kakehashi.modeling import KakehashiForConditionalGeneration, KakehashiForSequenceClassification
from kakehashi.training.arguments import ClassifyArguments, InstructArguments
from kakehashi.training.attention import set_attention


def fake_arguments(device, bf16=False):
    class Arguments:
        fp16 = False

    Arguments.device, Arguments.bf16 = torch.device(device), bf16
    return Arguments()


def test_attention_is_what_the_recipe_says(build_tiny_model, tmp_path):
    training_arguments = Seq2SeqTrainingArguments(tmp_path, use_cpu=True)
    model = build_tiny_model(KakehashiForConditionalGeneration)
    for chosen in ("sdpa", "varlen", "eager"):
        set_attention(model, InstructArguments(attn_implementation=chosen, packing=True), training_arguments)
        assert model.config._attn_implementation == chosen
    with pytest.raises(ValueError, match="`attn_implementation` 'nonsense' cannot be used"):
        set_attention(model, InstructArguments(attn_implementation="nonsense"), training_arguments)


@pytest.mark.parametrize(
    ("device", "bf16", "overrides", "packing", "expected"),
    [
        ("cuda", True, {}, True, "varlen"),
        ("cuda:1", True, {}, True, "sdpa"),
        ("cuda", False, {}, True, "sdpa"),
        ("cuda", True, {"attention_dropout": 0.1}, True, "sdpa"),
        ("cuda", True, {}, False, "sdpa"),
        ("cpu", False, {}, True, "varlen"),
        ("cpu", False, {}, False, "varlen"),
        ("cpu", False, {"attention_dropout": 0.1}, True, "sdpa"),
        ("cpu", True, {"position_embedding_type": "relative_bias"}, False, "sdpa"),
        ("mps", True, {}, True, "sdpa"),
    ],
)
def test_attention_needs_no_mask_where_it_can_run_without_one(
    build_tiny_model, device, bf16, overrides, packing, expected, monkeypatch
):
    # The second one stands for a card from before Ampere.
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5) if device.index else (9, 0))
    model = build_tiny_model(KakehashiForConditionalGeneration, **overrides)
    set_attention(model, InstructArguments(packing=packing), fake_arguments(device, bf16))
    assert model.config._attn_implementation == expected


def test_texts_to_classify_are_attended_to_without_their_padding(build_tiny_model):
    model = build_tiny_model(KakehashiForSequenceClassification)
    set_attention(model, ClassifyArguments(), fake_arguments("cpu"))
    assert model.config._attn_implementation == "varlen"


def test_a_model_of_another_family_keeps_its_attention():
    config = T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=16)
    model = T5ForConditionalGeneration(config)
    before = model.config._attn_implementation
    set_attention(model, InstructArguments(), fake_arguments("cpu"))
    assert model.config._attn_implementation == before
