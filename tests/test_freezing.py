"""Modules that keep their weights, by name or by the word encoder."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForSequenceClassification
from kakehashi.training.arguments import ClassifyArguments
from kakehashi.training.freezing import count_parameters, find_encoder, find_modules, freeze_parts


def trained_names(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_a_frozen_encoder_of_an_encoder_decoder_leaves_the_decoder(tiny_model, capsys):
    freeze_parts(tiny_model, ClassifyArguments(freeze_encoder=True))
    names = trained_names(tiny_model)
    assert names and all(name.startswith("model.decoder.") for name in names)
    trained, total = count_parameters(tiny_model)
    assert 0 < trained < total == sum(each.numel() for each in tiny_model.parameters())
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith(f"training {trained:,} of {total:,} parameters ({trained / total:.2%})")
    )


def test_a_classifier_over_a_frozen_encoder_trains_its_head_alone(build_tiny_model):
    model = build_tiny_model(KakehashiForSequenceClassification)
    freeze_parts(model, ClassifyArguments(freeze_encoder=True))
    assert trained_names(model) == {"score.weight"}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    other = BertForSequenceClassification(BertConfig(vocab_size=50, **sizes))
    freeze_parts(other, ClassifyArguments(freeze_encoder=True))
    assert trained_names(other) == {"classifier.weight", "classifier.bias"}


def test_a_decoder_alone_has_no_encoder(build_tiny_model):
    other = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2))
    for model in (build_tiny_model(KakehashiForCausalLM), other):
        with pytest.raises(ValueError, match=r"`freeze_encoder` must be left out for .*, which has no encoder"):
            find_encoder(model)


def test_patterns_name_modules_by_their_end(tiny_model):
    assert find_modules(tiny_model, "embed_tokens")
    assert find_modules(tiny_model, "encoder.layers.[01]") == list(tiny_model.model.encoder.layers)
    assert len(find_modules(tiny_model, "encoder.layers.*.self_attn")) == 2
    freeze_parts(tiny_model, ClassifyArguments(freeze=["encoder.layers.0", "*.mlp"]))
    names = trained_names(tiny_model)
    assert not any("encoder.layers.0." in name or ".mlp." in name for name in names)
    assert any("encoder.layers.1.self_attn" in name for name in names)
    before = {name: weight.clone() for name, weight in tiny_model.state_dict().items()}
    ids = torch.randint(4, 200, (2, 5))
    tiny_model(ids, labels=ids).loss.backward()
    torch.optim.SGD([each for each in tiny_model.parameters() if each.requires_grad], lr=0.1).step()
    moved = {name for name, weight in tiny_model.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved and {name for name, _ in tiny_model.named_parameters() if name in moved} <= names


def test_an_unknown_pattern_names_the_nearest_module(tiny_model):
    with pytest.raises(ValueError, match=r"must name modules of the model, got 'encoder\.layer'; nearest: 'encod"):
        find_modules(tiny_model, "encoder.layer")
    with pytest.raises(ValueError, match="nearest: 'embed_tokens'"):
        find_modules(tiny_model, "embed_token")


def test_something_is_left_to_train(tiny_model, build_tiny_model):
    with pytest.raises(ValueError, match="`freeze` must leave something to train"):
        freeze_parts(tiny_model, ClassifyArguments(freeze=["model", "lm_head"]))
    model = build_tiny_model(KakehashiForSequenceClassification)
    with pytest.raises(ValueError, match="`use_muon` needs linear layers of blocks to train"):
        freeze_parts(model, ClassifyArguments(freeze_encoder=True, use_muon=True))
