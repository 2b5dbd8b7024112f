"""Packed rows: packed = separate in every shape, position type and implementation, and what is refused."""

import pytest
import torch

from kakehashi.modeling import (
    KakehashiConfig,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    loss_kakehashi,
    packing_kakehashi,
    varlen_kakehashi,
)
from kakehashi.modeling.packing_kakehashi import (
    TokenLayout,
    positions_in_segments,
    rounded_size,
    segment_starts,
    self_attention_mask,
)

KINDS = ["rope", "relative_bias", "learned", "sinusoidal", "none"]
SHAPES = [KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiForMaskedLM]
# Lengths of source and target of the examples in each of two rows; the first has padding in its target alone.
ROWS = [[(7, 3), (4, 5), (3, 1)], [(5, 4), (6, 2)]]


def examples():
    """Pairs of ids, row by row; as a decoder or an encoder alone takes them, source and target are equally long."""
    return [[(torch.randint(4, 100, (s,)), torch.randint(4, 100, (t,))) for s, t in row] for row in ROWS]


def pack(sequences, value):
    """Rows of sequences end to end, filled up to 14 places, and their segment ids."""
    ids, segments = torch.full((len(sequences), 14), value), torch.zeros(len(sequences), 14, dtype=torch.long)
    for row, parts in enumerate(sequences):
        whole = torch.cat(parts)
        ids[row, : len(whole)] = whole
        numbers = [torch.full((len(part),), number) for number, part in enumerate(parts, start=1)]
        segments[row, : len(whole)] = torch.cat(numbers)
    return ids, segments


def packed_batch(model_class, rows):
    """What the model takes for the packed rows."""
    ids, segments = pack([[source for source, _ in row] for row in rows], 0)
    if model_class is KakehashiForConditionalGeneration:
        labels, target_segments = pack([[target for _, target in row] for row in rows], -100)
        return {
            "input_ids": ids,
            "segment_ids": segments,
            "labels": labels,
            "decoder_segment_ids": target_segments,
        }
    return {"input_ids": ids, "segment_ids": segments, "labels": ids.masked_fill(segments == 0, -100)}


def separate_batches(model_class, rows):
    """What the model takes for each example by itself."""
    for source, target in (pair for row in rows for pair in row):
        labels = target if model_class is KakehashiForConditionalGeneration else source
        yield {"input_ids": source[None], "labels": labels[None]}


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("kind", "implementation"),
    [(kind, implementation) for kind in KINDS for implementation in ("eager", "sdpa")]
    + [(kind, "varlen") for kind in KINDS if kind != "relative_bias"],
)
@pytest.mark.parametrize("model_class", SHAPES)
def test_packed_equals_separate_in_loss_and_gradients(build_tiny_model, model_class, kind, implementation):
    model = build_tiny_model(model_class, position_embedding_type=kind).train()
    model.set_attn_implementation(implementation)
    rows = examples()
    packed = packed_batch(model_class, rows)
    loss = model(**packed).loss
    loss.backward()
    packed_gradients = gradients(model)

    model.zero_grad()
    model.set_attn_implementation("eager")
    total = int((packed["labels"] != -100).sum())
    if model_class is KakehashiForCausalLM:
        total -= sum(len(row) for row in rows)
    expected = torch.zeros(())
    for batch in separate_batches(model_class, rows):
        expected = expected + model(**batch, num_items_in_batch=total).loss
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(packed_gradients[name], gradient, rtol=1e-3, atol=1e-6, msg=lambda t, n=name: n + t)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention", "varlen"])
@pytest.mark.parametrize("model_class", SHAPES)
def test_packed_logits_are_those_of_each_example_by_itself(build_tiny_model, model_class, implementation, kind):
    if kind == "relative_bias" and implementation in ("flex_attention", "varlen"):
        pytest.skip("no biases there: a test of positions holds the error")
    model = build_tiny_model(model_class, position_embedding_type=kind)
    rows = examples()
    separate = [model(**batch).logits[0] for batch in separate_batches(model_class, rows)]
    model.set_attn_implementation(implementation)
    # Flex attention is compiled for minutes otherwise; its plain form computes the same.
    with torch.compiler.set_stance("force_eager"):
        logits = model(**packed_batch(model_class, rows)).logits
    at = 0
    for row, pairs in enumerate(rows):
        start = 0
        for source, target in pairs:
            length = len(target) if model_class is KakehashiForConditionalGeneration else len(source)
            torch.testing.assert_close(logits[row, start : start + length], separate[at], rtol=1e-3, atol=1e-5)
            start, at = start + length, at + 1
    assert logits.isfinite().all()


def test_a_packed_step_compiles_into_one_graph_for_all_lengths(build_tiny_model):
    model = build_tiny_model(KakehashiForConditionalGeneration).train()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for length in (10, 14):
        ids, segments = torch.randint(4, 100, (2, length)), torch.ones(2, length, dtype=torch.long)
        segments[:, length // 2 :] = 2
        batch = {"input_ids": ids, "segment_ids": segments, "labels": ids, "decoder_segment_ids": segments}
        torch.testing.assert_close(compiled(**batch).loss, model(**batch).loss)
    with torch.compiler.set_stance("fail_on_recompile"):
        for length in (18, 23):
            ids, segments = torch.randint(4, 100, (2, length)), torch.ones(2, length, dtype=torch.long)
            batch = {"input_ids": ids, "segment_ids": segments, "labels": ids, "decoder_segment_ids": segments}
            compiled(**batch).loss.backward()


def test_positions_restart_and_starts_are_found():
    segments = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [0, 1, 2, 2, 3, 3, 3]])
    assert positions_in_segments(segments).tolist() == [[0, 1, 2, 0, 1, 0, 0], [0, 0, 0, 1, 0, 1, 2]]
    assert segment_starts(segments).int().tolist() == [[1, 0, 0, 1, 0, 0, 0], [0, 1, 1, 0, 1, 0, 0]]


def test_sizes_are_few_in_half_precision_on_a_cpu_and_as_they_are_elsewhere():
    states = torch.empty(1, dtype=torch.bfloat16)
    sizes = torch.arange(1, 5000).tolist()
    rounded = [rounded_size(size, states) for size in sizes]
    assert all(0 <= new - size <= max(3, size / 16) for size, new in zip(sizes, rounded, strict=True))
    assert len({new for new in rounded if 1024 < new <= 2048}) == 16
    assert [rounded_size(size, torch.empty(1)) for size in sizes] == sizes
    assert [rounded_size(size, torch.empty(1, dtype=torch.bfloat16, device="meta")) for size in sizes] == sizes
    assert rounded_size(0, states) == 0


@pytest.mark.parametrize("model_class", SHAPES)
@pytest.mark.parametrize("chunked", [True, False])
def test_rounding_sizes_up_changes_neither_loss_nor_gradients(build_tiny_model, monkeypatch, model_class, chunked):
    model = build_tiny_model(model_class, chunked_loss=chunked).train()
    model.set_attn_implementation("varlen")
    ids = torch.randint(4, 100, (2, 9))
    segments = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 0, 0], [1, 2, 2, 2, 2, 2, 3, 3, 0]])
    batch = {"input_ids": ids, "labels": ids.masked_fill(segments == 0, -100), "segment_ids": segments}
    if model_class is KakehashiForConditionalGeneration:
        batch["decoder_segment_ids"] = segments
    results, sizes = [], []

    def count(size, states):
        sizes.append(size)
        return rounded_size(size, states) if not results else size

    for module in (packing_kakehashi, varlen_kakehashi, loss_kakehashi):
        monkeypatch.setattr(module, "rounded_size", count)
    for _ in range(2):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        results.append((loss.detach(), [parameter.grad.clone() for parameter in model.parameters()]))
    # Tokens and labels of two rows, and five segments.
    assert {15, 5} <= set(sizes)
    (loss, gradients), (expected_loss, expected_gradients) = results
    torch.testing.assert_close(loss, expected_loss, rtol=1e-3, atol=0)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize(
    ("attention_mask", "segment_ids", "starts", "longest"),
    [
        (None, None, [0, 4, 8], 4),
        ([[1, 1, 1, 0], [0, 1, 1, 0]], None, [0, 3, 5], 3),
        ([[0, 0, 0, 0], [1, 1, 1, 1]], None, [0, 0, 4], 4),
        (None, [[1, 2, 2, 0], [1, 1, 1, 2]], [0, 1, 3, 6, 7], 3),
    ],
)
def test_a_layout_takes_padding_out_and_puts_it_back(attention_mask, segment_ids, starts, longest):
    mask = None if attention_mask is None else torch.tensor(attention_mask)
    segments = None if segment_ids is None else torch.tensor(segment_ids)
    states = torch.randn(2, 4, 3)
    layout = TokenLayout.of(states, mask, segments)
    assert layout.cu_seq_lens.tolist() == starts
    assert layout.cu_seq_lens.dtype == torch.int32
    assert layout.max_length == longest
    kept = torch.ones(2, 4) if mask is None and segments is None else (mask if segments is None else segments != 0)
    assert layout.unpad(states).shape == (1, int(kept.sum()), 3)
    assert torch.equal(layout.pad(layout.unpad(states)), states * kept[..., None])


def test_a_mask_beside_segments_hides_as_well(build_tiny_model):
    model = build_tiny_model(KakehashiForMaskedLM)
    ids = torch.tensor([[5, 6, 7, 8]])
    segments, mask = torch.tensor([[1, 1, 2, 2]]), torch.tensor([[1, 1, 1, 0]])
    hidden = torch.tensor([[1, 1, 2, 0]])
    torch.testing.assert_close(
        model(ids, mask, segment_ids=segments).logits[:, :3], model(ids, segment_ids=hidden).logits[:, :3]
    )


@pytest.mark.parametrize(
    ("segment_ids", "decoder_segment_ids", "message"),
    [
        (None, [[1, 1, 2]], "`segment_ids` must be given beside `decoder_segment_ids`"),
        ([[1, 2, 2]], None, "Give segment ids for both source and target, got them only for the source"),
        ([[1, 2, 2]], [[1, 1, 1]], "must hold the same segments in each row, got 2 and 1 of them in row 0"),
        ([[1, 2, 1]], [[1, 2, 2]], "`segment_ids` must number .* row 0, position 2 should be 3, got 1"),
        ([[1, 2, 2]], [[2, 2, 2]], "`decoder_segment_ids` must number .* row 0, position 0 should be 1, got 2"),
        ([[1, 2]], [[1, 2, 2]], "Segment ids must be of the shape of their tokens"),
    ],
)
def test_segments_that_do_not_fit_are_refused(build_tiny_model, segment_ids, decoder_segment_ids, message):
    model = build_tiny_model(KakehashiForConditionalGeneration).train()
    given = {"segment_ids": segment_ids, "decoder_segment_ids": decoder_segment_ids}
    tensors = {name: None if value is None else torch.tensor(value) for name, value in given.items()}
    with pytest.raises(ValueError, match=message):
        model(input_ids=torch.tensor([[5, 6, 7]]), decoder_input_ids=torch.tensor([[1, 5, 6]]), **tensors)


def test_segments_beside_a_cache_are_refused(build_tiny_model):
    model = build_tiny_model(KakehashiForCausalLM)
    ids = torch.tensor([[5, 6, 7]])
    cache = model(ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="go with no `past_key_values`"):
        model(ids, past_key_values=cache, segment_ids=torch.tensor([[1, 1, 2]]))


def test_masks_of_another_shape_are_refused(build_tiny_model):
    model = build_tiny_model(KakehashiForConditionalGeneration)
    ids = torch.tensor([[5, 6, 7]])
    with pytest.raises(ValueError, match=r"`attention_mask` must be of shape .* \(1, 3\), got \(1, 4\)"):
        model(ids, torch.ones(1, 4), decoder_input_ids=ids)
    states = model.get_encoder()(ids)
    with pytest.raises(ValueError, match=r"`encoder_attention_mask` must be of shape .* \(1, 3\), got \(1, 2\)"):
        model(attention_mask=torch.ones(1, 2), encoder_outputs=states, decoder_input_ids=ids)


@pytest.mark.parametrize(("is_autocast", "dtype"), [(False, torch.float32), (True, torch.bfloat16)])
def test_masks_for_sdpa_are_numbers_of_the_dtype_of_queries_and_keys(is_autocast, dtype):
    config = KakehashiConfig()
    config._attn_implementation = "sdpa"
    segment_ids = torch.tensor([[1, 1, 2, 0]])
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        mask = self_attention_mask(config, torch.zeros(1, 4, 8), None, segment_ids, is_causal=True)
    hide = torch.finfo(dtype).min
    expected = [[0, hide, hide, hide], [0, 0, hide, hide], [hide, hide, 0, hide], [hide, hide, hide, 0]]
    torch.testing.assert_close(mask, torch.tensor(expected, dtype=dtype)[None, None])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["rope", "relative_bias"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_a_finished_mask_of_four_dimensions_does_as_the_mask_it_stands_for(
    build_tiny_model, dtype, kind, implementation
):
    model = build_tiny_model(KakehashiForMaskedLM, position_embedding_type=kind).eval()
    model.set_attn_implementation(implementation)
    ids, mask = torch.randint(4, 100, (2, 6)), torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    finished = mask[:, None, None].bool().expand(2, 1, 6, 6)
    if dtype != torch.bool:
        finished = torch.zeros(2, 1, 6, 6).masked_fill(~finished, -torch.inf)
    expected = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(model(input_ids=ids, attention_mask=finished).logits, expected)


def test_a_mask_with_a_hole_in_a_segment_is_refused_and_one_over_whole_segments_is_not(build_tiny_model):
    model = build_tiny_model(KakehashiForMaskedLM)
    ids, segments = torch.randint(4, 100, (1, 5)), torch.tensor([[1, 1, 1, 2, 2]])
    with pytest.raises(ValueError, match="got 0 before position 2 of row 0, which goes on with segment 1"):
        model(ids, torch.tensor([[1, 0, 1, 1, 1]]), segment_ids=segments)
    model(ids, torch.tensor([[0, 0, 0, 1, 1]]), segment_ids=segments)
    model(ids, torch.tensor([[0, 1, 1, 1, 0]]), segment_ids=segments)
