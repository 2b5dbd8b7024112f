"""Weights move between the three shapes: which keys are missing, which are left over, which are equal."""

import logging

import pytest
import torch

from kakehashi.modeling import (
    KakehashiEncoderModel,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
    KakehashiForTokenClassification,
    KakehashiModel,
)

ENCODER, DECODER, CROSS, SCORE = "model.encoder.", "model.decoder.", "cross_attn", "score."

EMBEDDING = [
    "model.embed_tokens.weight",
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "lm_head.weight",
]

# Saved class, loaded class, parts of the names of the parameters that only the loaded class has.
DIRECTIONS = [
    (KakehashiForConditionalGeneration, KakehashiModel, ()),
    (KakehashiForConditionalGeneration, KakehashiEncoderModel, ()),
    (KakehashiForConditionalGeneration, KakehashiForMaskedLM, ()),
    (KakehashiForConditionalGeneration, KakehashiForSequenceClassification, (SCORE,)),
    (KakehashiForConditionalGeneration, KakehashiForTokenClassification, (SCORE,)),
    (KakehashiForConditionalGeneration, KakehashiForCausalLM, ()),
    (KakehashiModel, KakehashiForConditionalGeneration, ()),
    (KakehashiModel, KakehashiForCausalLM, ()),
    (KakehashiModel, KakehashiForSequenceClassification, (SCORE,)),
    (KakehashiEncoderModel, KakehashiForConditionalGeneration, (DECODER,)),
    (KakehashiEncoderModel, KakehashiForMaskedLM, ()),
    (KakehashiEncoderModel, KakehashiForSequenceClassification, (SCORE,)),
    (KakehashiForMaskedLM, KakehashiForConditionalGeneration, (DECODER,)),
    (KakehashiForMaskedLM, KakehashiEncoderModel, ()),
    (KakehashiForMaskedLM, KakehashiForSequenceClassification, (SCORE,)),
    (KakehashiForMaskedLM, KakehashiForTokenClassification, (SCORE,)),
    (KakehashiForCausalLM, KakehashiForConditionalGeneration, (ENCODER, CROSS)),
    (KakehashiForSequenceClassification, KakehashiForSequenceClassification, ()),
    (KakehashiForSequenceClassification, KakehashiForTokenClassification, ()),
    (KakehashiForSequenceClassification, KakehashiEncoderModel, ()),
    (KakehashiForSequenceClassification, KakehashiForMaskedLM, ()),
    (KakehashiForSequenceClassification, KakehashiForConditionalGeneration, (DECODER,)),
    (KakehashiForTokenClassification, KakehashiForTokenClassification, ()),
]
# What a checkpoint of these classes holds and no other class has a place for.
LEFT_OVER = {KakehashiForSequenceClassification: {"score.weight"}, KakehashiForTokenClassification: {"score.weight"}}
CLASSIFIERS = set(LEFT_OVER)


def full_name(name):
    """The name of a parameter as in a head: base models lack the `model.` in front."""
    return name if name.startswith(("model.", "lm_head.", "score.")) else f"model.{name}"


def named_parameters(model):
    return {full_name(name): parameter for name, parameter in model.named_parameters()}


def save_marked(model, folder):
    """Saves a model in which every parameter, norms too, differs from what initialisation would give."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    model.save_pretrained(folder)
    return named_parameters(model)


@pytest.mark.parametrize(
    ("saved_class", "loaded_class", "new_parts"),
    DIRECTIONS,
    ids=[f"{saved.__name__}-{loaded.__name__}" for saved, loaded, _ in DIRECTIONS],
)
def test_weights_move_between_shapes(build_tiny_model, tmp_path, saved_class, loaded_class, new_parts):
    saved = save_marked(build_tiny_model(saved_class, num_labels=3), tmp_path)
    model, info = loaded_class.from_pretrained(tmp_path, num_labels=3, output_loading_info=True)
    loaded = named_parameters(model)

    expected_missing = {name for name in loaded if any(part in name for part in new_parts)}
    assert {full_name(name) for name in info["missing_keys"]} == expected_missing
    left_over = set() if loaded_class in CLASSIFIERS else LEFT_OVER.get(saved_class, set())
    assert set(info["unexpected_keys"]) == left_over
    assert not info["mismatched_keys"]

    for name, parameter in loaded.items():
        if name in expected_missing:
            assert parameter.isfinite().all()
            # Freshly initialised: norms at 1, the rest small and not constant.
            assert (parameter == 1).all() if "norm" in name else 0 < parameter.std() < 0.5
        else:
            assert torch.equal(parameter, saved[name]), name


@pytest.mark.parametrize("loaded_class", [KakehashiForCausalLM, KakehashiForMaskedLM, KakehashiEncoderModel])
def test_a_stack_loaded_from_an_encoder_decoder_reports_nothing(build_tiny_model, tmp_path, caplog, loaded_class):
    build_tiny_model(KakehashiForConditionalGeneration).save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, logger="transformers"):
        loaded_class.from_pretrained(tmp_path)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@torch.no_grad()
def test_an_encoder_taken_out_computes_what_it_computed_inside(build_tiny_model, tmp_path):
    model = build_tiny_model(KakehashiForConditionalGeneration)
    model.save_pretrained(tmp_path)
    ids = torch.randint(4, 200, (2, 7))
    expected = model.get_encoder()(ids).last_hidden_state
    for loaded_class in (KakehashiEncoderModel, KakehashiModel):
        assert torch.equal(loaded_class.from_pretrained(tmp_path)(ids).last_hidden_state, expected)


@torch.no_grad()
def test_a_decoder_put_back_computes_what_it_computed_alone(build_tiny_model, tmp_path):
    model = build_tiny_model(KakehashiForCausalLM)
    model.save_pretrained(tmp_path)
    ids = torch.randint(4, 200, (2, 7))
    whole = KakehashiForConditionalGeneration.from_pretrained(tmp_path)
    # Without what cross-attention adds, its decoder is the decoder alone.
    for layer in whole.get_decoder().layers:
        layer.cross_attn.o_proj.weight.zero_()
    torch.testing.assert_close(whole(ids, decoder_input_ids=ids).logits, model(ids).logits)


def test_a_classifier_keeps_its_label_names(build_tiny_model, tmp_path):
    labels = {0: "question", 1: "statement", 2: "request"}
    ids = {name: index for index, name in labels.items()}
    build_tiny_model(KakehashiForSequenceClassification, id2label=labels, label2id=ids).save_pretrained(tmp_path)
    config = KakehashiForSequenceClassification.from_pretrained(tmp_path).config
    assert config.num_labels == 3
    assert config.id2label == labels
    assert config.label2id == ids


def test_a_classifier_of_another_size_is_refused_unless_told_otherwise(build_tiny_model, tmp_path):
    build_tiny_model(KakehashiForSequenceClassification, num_labels=3).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        KakehashiForSequenceClassification.from_pretrained(tmp_path, num_labels=5)
    model, info = KakehashiForSequenceClassification.from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert model.score.weight.shape[0] == 5
    assert [name for name, *_ in info["mismatched_keys"]] == ["score.weight"]


def test_folders_move_through_all_three_shapes_and_back(build_tiny_model, tmp_path):
    original = save_marked(build_tiny_model(KakehashiForConditionalGeneration), tmp_path / "0")
    path = [KakehashiForMaskedLM, KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiModel]
    for index, model_class in enumerate(path):
        model = model_class.from_pretrained(tmp_path / str(index))
        model.save_pretrained(tmp_path / str(index + 1))
    assert model.config.shape == "decoder"
    embedding = original["model.embed_tokens.weight"]
    assert torch.equal(model.get_input_embeddings().weight, embedding)


@pytest.mark.parametrize("name", ["lm_head.weight", "model.embed_tokens.weight", "model.encoder.embed_tokens.weight"])
def test_the_embedding_may_be_stored_under_any_name_of_its_tie(build_tiny_model, name):
    saved = build_tiny_model(KakehashiForConditionalGeneration)
    weights = {key: value for key, value in saved.state_dict().items() if key not in EMBEDDING}
    weights[name] = saved.get_input_embeddings().weight
    loaded, report = KakehashiForConditionalGeneration.from_pretrained(
        None, config=saved.config, state_dict=weights, output_loading_info=True
    )
    assert not report["missing_keys"]
    for key in EMBEDDING:
        assert torch.equal(loaded.get_parameter(key), saved.get_input_embeddings().weight), key


@pytest.mark.parametrize("loaded_class", [KakehashiModel, KakehashiEncoderModel, KakehashiForConditionalGeneration])
def test_an_embedding_that_no_checkpoint_has_is_reported_and_initialised(build_tiny_model, loaded_class):
    config = build_tiny_model(KakehashiForConditionalGeneration).config
    loaded, report = loaded_class.from_pretrained(None, config=config, state_dict={}, output_loading_info=True)
    embedding = loaded.get_input_embeddings().weight
    assert embedding.device.type == "cpu"
    torch.testing.assert_close(embedding.std().item(), config.initializer_range, rtol=0.1, atol=0)
    assert any(name.endswith("embed_tokens.weight") for name in report["missing_keys"])
