"""LoRA adapters of peft on the attention projections: trained, saved, loaded and merged."""

import copy

import pytest
import torch
from torch import nn

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration, KakehashiForMaskedLM

peft = pytest.importorskip("peft")

SHAPES = [
    (KakehashiForConditionalGeneration, "SEQ_2_SEQ_LM"),
    (KakehashiForCausalLM, "CAUSAL_LM"),
    (KakehashiForMaskedLM, "FEATURE_EXTRACTION"),
]


@pytest.fixture(params=SHAPES, ids=["encoder-decoder", "decoder", "encoder"])
def adapted(request, build_tiny_model):
    """A model of each shape with fresh adapters, and the model as it was."""
    model_class, task = request.param
    model = build_tiny_model(model_class, num_decoder_layers=2)
    settings = peft.LoraConfig(task_type=task, r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    return peft.get_peft_model(copy.deepcopy(model), settings), model


def batch():
    ids = torch.randint(4, 200, (2, 7), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def logits_of(model):
    with torch.no_grad():
        return model.eval()(**batch()).logits


def train(model, steps=3):
    """Takes some steps; returns the losses."""
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = model.train()(**batch()).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_adapters_sit_on_every_query_and_value_projection_and_start_without_effect(adapted):
    model, plain = adapted
    targets = [name for name, module in plain.named_modules() if name.endswith(("q_proj", "v_proj"))]
    adapters = [name for name, module in model.named_modules() if name.endswith("lora_A")]
    assert len(adapters) == len(targets) > 0
    assert torch.equal(logits_of(model), logits_of(plain))


def test_training_moves_the_adapters_alone(adapted):
    model, plain = adapted
    losses = train(model)
    assert losses[-1] < losses[0]
    for name, parameter in plain.named_parameters():
        home = f"base_model.model.{name}"
        found = dict(model.named_parameters())
        kept = found.get(home, found.get(home.replace(".weight", ".base_layer.weight")))
        assert torch.equal(kept, parameter), name


def test_a_saved_adapter_is_small_and_gives_the_same_logits_when_loaded(adapted, tmp_path):
    model, plain = adapted
    train(model)
    expected = logits_of(model)
    assert not torch.allclose(expected, logits_of(plain), atol=1e-3)
    model.save_pretrained(tmp_path)
    whole = sum(parameter.numel() * 4 for parameter in plain.parameters())
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < whole / 2
    loaded = peft.PeftModel.from_pretrained(plain, tmp_path)
    assert torch.equal(logits_of(loaded), expected)


def test_a_merged_adapter_leaves_a_plain_model_with_the_same_logits(adapted, tmp_path):
    model, plain = adapted
    train(model)
    expected = logits_of(model)
    merged = model.merge_and_unload()
    assert type(merged) is type(plain)
    assert all(type(module) is nn.Linear for name, module in merged.named_modules() if name.endswith("_proj"))
    torch.testing.assert_close(logits_of(merged), expected, rtol=1e-4, atol=1e-5)
    merged.save_pretrained(tmp_path)
    loaded = type(plain).from_pretrained(tmp_path)
    torch.testing.assert_close(logits_of(loaded), expected, rtol=1e-4, atol=1e-5)


def test_new_tokens_are_trained_by_their_indices_and_saved_with_the_merged_model(build_tiny_model, tmp_path):
    model = build_tiny_model(KakehashiForConditionalGeneration)
    trained = batch()["input_ids"].unique().tolist()
    before = model.get_input_embeddings().weight.detach().clone()
    settings = peft.LoraConfig(target_modules=["q_proj"], trainable_token_indices=trained)
    adapted = peft.get_peft_model(model, settings)
    losses = train(adapted)
    assert losses[-1] < losses[0]
    expected = logits_of(adapted)
    adapted.merge_and_unload().save_pretrained(tmp_path)
    loaded = KakehashiForConditionalGeneration.from_pretrained(tmp_path)
    torch.testing.assert_close(logits_of(loaded), expected, rtol=1e-4, atol=1e-5)
    moved = (loaded.get_input_embeddings().weight != before).any(dim=1).nonzero().flatten()
    assert moved.tolist() == trained


# peft warns of it too, but goes on.
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings:UserWarning")
def test_embeddings_that_were_trained_apart_are_not_saved_as_one(build_tiny_model, tmp_path):
    model = build_tiny_model(KakehashiForConditionalGeneration)
    settings = peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    adapted = peft.get_peft_model(model, settings)
    train(adapted)
    expected = logits_of(adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    merged = adapted.merge_and_unload()
    with pytest.raises(ValueError, match=r"must be one table to be saved.*`trainable_token_indices`"):
        merged.save_pretrained(tmp_path / "merged")
    loaded = peft.PeftModel.from_pretrained(build_tiny_model(KakehashiForConditionalGeneration), tmp_path / "adapter")
    assert torch.equal(logits_of(loaded), expected)


# peft asks for this so that checkpointed layers have an input with a gradient.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_adapters_train_under_gradient_checkpointing(adapted, use_reentrant):
    model, _ = adapted
    expected = train(copy.deepcopy(model))
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    assert train(model) == pytest.approx(expected, rel=1e-4)


def test_an_adapted_model_writes(adapted):
    model, plain = adapted
    if not hasattr(plain, "generate"):
        pytest.skip("the encoder alone does not write")
    train(model)
    inputs = {"input_ids": batch()["input_ids"], "attention_mask": batch()["attention_mask"]}
    written = model.eval().generate(**inputs, max_new_tokens=5)
    assert torch.equal(model.merge_and_unload().generate(**inputs, max_new_tokens=5), written)
