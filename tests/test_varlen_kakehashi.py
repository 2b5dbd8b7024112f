"""The varlen implementation: padded batches agree with masks, and the kernel of either torch is called rightly."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration, KakehashiForMaskedLM
from kakehashi.modeling import varlen_kakehashi as varlen
from kakehashi.modeling.layers_kakehashi import KakehashiDecoderLayer
from kakehashi.modeling.packing_kakehashi import TokenLayout

MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0]])


def loss_logits_gradients(model, batch, implementation):
    model.set_attn_implementation(implementation)
    model.zero_grad()
    outputs = model(**batch)
    outputs.loss.backward()
    return outputs, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(
    "model_class", [KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiForMaskedLM]
)
def test_varlen_agrees_with_masks_forward_and_backward(build_tiny_model, model_class, padded):
    model = build_tiny_model(model_class)
    ids = torch.randint(4, model.config.vocab_size, (3, 6))
    batch = {"input_ids": ids, "labels": ids}
    if padded:
        # A causal model would predict the first token of the last row from padding.
        has_label = MASK.bool() & F.pad(MASK[:, :-1], (1, 0), value=1).bool()
        batch = {"input_ids": ids, "labels": ids.masked_fill(~has_label, -100), "attention_mask": MASK}
    expected, expected_gradients = loss_logits_gradients(model, batch, "sdpa")
    outputs, gradients = loss_logits_gradients(model, batch, "varlen")
    torch.testing.assert_close(outputs.loss, expected.loss)
    real = MASK.bool() if padded else torch.ones_like(ids).bool()
    if model_class is KakehashiForConditionalGeneration:
        real = torch.ones_like(ids).bool()
    torch.testing.assert_close(outputs.logits[real], expected.logits[real], rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-3, atol=1e-6)


def test_what_follows_the_last_label_of_a_target_is_left_out_in_training(build_tiny_model, monkeypatch):
    model = build_tiny_model(KakehashiForConditionalGeneration).train()
    ids = torch.randint(4, model.config.vocab_size, (3, 6))
    lengths_of_targets = torch.tensor([6, 4, 2])
    labels = ids.masked_fill(torch.arange(6) >= lengths_of_targets[:, None], -100)
    # A place without a label between others is read all the same.
    labels[0, 1] = -100
    batch = {"input_ids": ids, "attention_mask": MASK, "labels": labels}
    expected, expected_gradients = loss_logits_gradients(model, batch, "sdpa")
    lengths = []
    monkeypatch.setattr(type(model.model.decoder.layers[0]), "forward", watch_lengths(lengths))
    outputs, gradients = loss_logits_gradients(model, batch, "varlen")
    assert lengths == [int(lengths_of_targets.sum())] * len(model.model.decoder.layers)
    torch.testing.assert_close(outputs.loss, expected.loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-3, atol=1e-6)


def watch_lengths(lengths):
    forward = KakehashiDecoderLayer.forward

    def watched(self, hidden_states, *args, **kwargs):
        lengths.append(hidden_states.shape[1])
        return forward(self, hidden_states, *args, **kwargs)

    return watched


def test_answers_in_float32_on_cuda_use_masks(build_tiny_model, monkeypatch):
    # What `generate` calls while a model is trained in mixed precision; the tensors are stand-ins for those of a GPU.
    encoder = build_tiny_model(KakehashiForConditionalGeneration).model.encoder
    encoder.config._attn_implementation = "varlen"
    monkeypatch.setattr(TokenLayout, "of", lambda *_: "laid out")
    with FakeTensorMode():
        states, mask = torch.empty(2, 3, 32, device="cuda"), torch.ones(2, 3, device="cuda")
        assert encoder.lay_out(states, mask, None) is None
        assert encoder.lay_out(states.bfloat16(), mask, None) == "laid out"
        assert encoder.lay_out(states.cpu(), mask.cpu(), None) == "laid out"
        # Training in float32 is told that the kernel cannot.
        assert encoder.train().lay_out(states, mask, None) == "laid out"


@torch.no_grad()
@pytest.mark.parametrize("model_class", [KakehashiForConditionalGeneration, KakehashiForCausalLM])
def test_generation_and_what_is_asked_beside_logits_work_with_varlen(build_tiny_model, model_class):
    model = build_tiny_model(model_class)
    ids, mask = torch.randint(4, 100, (3, 6)), MASK.flip(1).sort(dim=1).values
    arguments = {"attention_mask": mask, "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    expected = model.generate(ids, **arguments)
    model.set_attn_implementation("varlen")
    assert torch.equal(model.generate(ids, **arguments), expected)
    states = model(ids, mask, labels=ids, output_hidden_states=True)
    last = states.encoder_hidden_states if model_class is KakehashiForConditionalGeneration else states.hidden_states
    assert all(state.shape == (3, 6, model.config.hidden_size) for state in last)


def test_a_source_row_of_padding_alone_gives_finite_numbers(build_tiny_model):
    model = build_tiny_model(KakehashiForConditionalGeneration)
    model.set_attn_implementation("varlen")
    ids, mask = torch.tensor([[5, 6, 7], [0, 0, 0]]), torch.tensor([[1, 1, 1], [0, 0, 0]])
    outputs = model(ids, mask, labels=ids)
    assert outputs.logits.isfinite().all()
    outputs.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def reference(query, key, value, cu_seq_q, cu_seq_k, scale, is_causal):
    """What either kernel computes, on tokens of `(tokens, heads, head_dim)`."""
    contexts = []
    for index in range(len(cu_seq_q) - 1):
        q, k, v = (
            states[starts[index] : starts[index + 1]].transpose(0, 1)
            for states, starts in ((query, cu_seq_q), (key, cu_seq_k), (value, cu_seq_k))
        )
        contexts.append(F.scaled_dot_product_attention(q, k, v, scale=scale, is_causal=is_causal).transpose(0, 1))
    return torch.cat(contexts)


def kernel_of_torch_2_11(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)
):
    assert query.shape[1] == key.shape[1]
    assert window_size in ((-1, -1), (-1, 0))
    return reference(query, key, value, cu_seq_q, cu_seq_k, scale, window_size == (-1, 0))


def kernel_of_torch_2_13(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False
):
    assert enable_gqa
    assert window_size in ((-1, -1), (-1, 0))
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    return reference(query, key, value, cu_seq_q, cu_seq_k, scale, window_size == (-1, 0))


@pytest.mark.parametrize("kernel", [kernel_of_torch_2_11, kernel_of_torch_2_13])
@pytest.mark.parametrize("is_causal", [True, False])
def test_the_kernel_of_either_torch_gets_what_it_needs(monkeypatch, kernel, is_causal):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel, raising=False)
    query, key, value = torch.randn(7, 4, 8).bfloat16(), *torch.randn(2, 7, 2, 8).bfloat16()
    starts = torch.tensor([0, 3, 7], dtype=torch.int32)
    arguments = (query, key, value, starts, starts, 4, 4, is_causal, 0.3)
    expected = kernel_of_torch_2_13(
        query, key, value, starts, starts, 4, 4, scale=0.3, window_size=(-1, 0 if is_causal else -1), enable_gqa=True
    )
    torch.testing.assert_close(varlen._attend_by_kernel(*arguments), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("filler", [0, 3])
def test_blocks_of_about_equal_length_give_what_segments_give_alone(dtype, is_causal, filler):
    generator = torch.Generator().manual_seed(0)
    # Short ones, one beyond what is written out, and where source and target differ an empty one.
    lengths = torch.tensor([3, 300, 17, 1, 40, 2, 33])
    key_lengths = lengths if is_causal else torch.tensor([9, 5, 270, 2, 1, 0, 64])
    starts, key_starts = (F.pad(each.cumsum(0), (1, 0)).to(torch.int32) for each in (lengths, key_lengths))
    tokens = int(lengths.sum())
    query = torch.randn(tokens + filler, 4, 8, generator=generator).to(dtype).requires_grad_()
    key, value = (
        torch.randn(int(key_lengths.sum()) + filler, 2, 8, generator=generator).to(dtype).requires_grad_()
        for _ in range(2)
    )
    result = varlen._attend_by_blocks(query, key, value, starts, key_starts, is_causal, None)
    # What queries without a key give means nothing, but must be a number.
    assert result.shape == query.shape and result.isfinite().all() and not result[tokens:].any()
    expected = kernel_of_torch_2_13(
        query, key, value, starts, key_starts, 300, 300, window_size=(-1, 0 if is_causal else -1), enable_gqa=True
    )
    seen = key_lengths.ne(0).repeat_interleave(lengths)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(result[:tokens][seen], expected[seen], **tolerance)
    gradient = torch.randn(tokens, 4, 8, generator=generator).to(dtype)
    # What stands behind the tokens belongs to no segment, whatever its gradient is.
    got = torch.autograd.grad(
        result, (query, key, value), F.pad(gradient * seen[:, None, None], (0, 0, 0, 0, 0, filler), value=5)
    )
    for each, right in zip(got, torch.autograd.grad(expected[seen], (query, key, value), gradient[seen]), strict=True):
        torch.testing.assert_close(each, right, **{name: 4 * value for name, value in tolerance.items()})


def test_the_kernel_refuses_float32(monkeypatch):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel_of_torch_2_13, raising=False)
    states, starts = torch.randn(3, 2, 8), torch.tensor([0, 3], dtype=torch.int32)
    with pytest.raises(ValueError, match=r"computes in float16 or bfloat16 on CUDA, got torch.float32"):
        varlen._attend_by_kernel(states, states, states, starts, starts, 3, 3, False, None)


def test_the_installed_kernel_has_the_arguments_that_are_used():
    from torch.nn.attention.varlen import varlen_attn

    names = varlen.varlen_arguments(varlen_attn)
    assert {"query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k", "scale", "window_size"} <= names


def test_attention_dropout_is_refused(build_tiny_model):
    model = build_tiny_model(KakehashiForMaskedLM, attention_dropout=0.1).train()
    model.set_attn_implementation("varlen")
    with pytest.raises(ValueError, match=r"`attention_dropout` must be 0 .* got 0.1"):
        model(torch.tensor([[5, 6]]))


def pack(rows, segments, length):
    """Segment ids of rows that hold so many segments of about equal length."""
    return (torch.arange(length) * segments // length + 1).expand(rows, length)


@pytest.mark.parametrize(
    ("segments", "length", "expected"), [(5, 256, True), (4, 256, False), (1, 64, False), (2, 128, True)]
)
def test_masks_are_chosen_where_segments_outnumber_the_tiles_of_a_row(segments, length, expected):
    assert varlen.masks_touch_fewer_tiles(pack(3, segments, length)) is expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernel runs on CUDA alone")
@pytest.mark.parametrize("segments", [2, 30])
@pytest.mark.parametrize("model_class", [KakehashiForConditionalGeneration, KakehashiForMaskedLM])
def test_packed_rows_on_cuda_agree_with_separate_masks_on_the_processor(build_tiny_model, model_class, segments):
    model = build_tiny_model(model_class).train()
    ids = torch.randint(4, model.config.vocab_size, (2, 256))
    batch = {"input_ids": ids, "labels": ids, "segment_ids": pack(2, segments, 256)}
    if model_class is KakehashiForConditionalGeneration:
        batch["decoder_segment_ids"] = batch["segment_ids"]
    expected, expected_gradients = loss_logits_gradients(model, batch, "sdpa")
    model.cuda()
    with torch.autocast("cuda", torch.bfloat16):
        on_cuda = {name: each.cuda() for name, each in batch.items()}
        outputs, gradients = loss_logits_gradients(model, on_cuda, "varlen")
    torch.testing.assert_close(outputs.loss.cpu(), expected.loss, rtol=0.01, atol=0.01, check_dtype=False)
    for name, gradient in gradients.items():
        error = (gradient.cpu() - expected_gradients[name]).norm() / expected_gradients[name].norm()
        assert error < 0.1, (name, error)
