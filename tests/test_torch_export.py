"""`torch.export` captures every head and the encoder by itself, for any batch and length."""

import pytest
import torch

from kakehashi.modeling import (
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
)

EXPORTED = [(KakehashiForConditionalGeneration, ("input_ids", "attention_mask", "decoder_input_ids"))] + [
    (model_class, ("input_ids", "attention_mask"))
    for model_class in (KakehashiForCausalLM, KakehashiForMaskedLM, KakehashiForSequenceClassification)
]


# Strictly, which takes twice as long, the two shapes that hold all blocks.
@pytest.mark.parametrize(
    ("model_class", "names", "strict"),
    [(*each, False) for each in EXPORTED] + [(*each, True) for each in EXPORTED[:2]],
)
def test_torch_export_captures_a_forward_for_any_batch_and_length(build_tiny_model, model_class, names, strict):
    model = build_tiny_model(model_class, num_labels=3)

    def inputs(rows, length):
        ids = torch.randint(4, 200, (rows, length))
        tensors = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids[:, 1:]}
        tensors["attention_mask"][0, -1] = 0
        return {name: tensors[name] for name in names}

    auto = torch.export.Dim.AUTO
    # A cache is no output that an exported program may have.
    example = {**inputs(2, 7), "use_cache": False} if model.can_generate() else inputs(2, 7)
    shapes = {name: {0: auto, 1: auto} if torch.is_tensor(value) else None for name, value in example.items()}
    program = torch.export.export(model, (), example, dynamic_shapes=shapes, strict=strict)
    for rows, length in ((2, 7), (3, 12)):
        given = {**example, **inputs(rows, length)}
        with torch.no_grad():
            torch.testing.assert_close(program.module()(**given).logits, model(**given).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strict", [True, False])
def test_torch_export_captures_the_encoder_by_itself(build_tiny_model, strict):
    encoder = build_tiny_model(KakehashiForConditionalGeneration).get_encoder()
    auto = torch.export.Dim.AUTO
    example = {"input_ids": torch.randint(4, 200, (2, 7)), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    shapes = {name: {0: auto, 1: auto} for name in example}
    program = torch.export.export(encoder, (), example, dynamic_shapes=shapes, strict=strict)
    given = {"input_ids": torch.randint(4, 200, (3, 11)), "attention_mask": torch.ones(3, 11, dtype=torch.long)}
    given["attention_mask"][1, 6:] = 0
    with torch.no_grad():
        found, expected = program.module()(**given).last_hidden_state, encoder(**given).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
