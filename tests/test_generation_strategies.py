"""Ways to choose the next token: drafts that are checked, samples from a cut distribution, several answers."""

import pytest
import torch
from transformers import TextIteratorStreamer, set_seed

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration

SOURCE = torch.tensor([[10, 11, 12, 13, 14, 2]])
PROMPT = torch.tensor([[1, 10, 11, 12, 10]])


@torch.no_grad()
def sharpened(model):
    """Makes sub-layers outweigh the embedding, or an untrained model with a tied output repeats its last token."""
    for name, parameter in model.named_parameters():
        if "o_proj" in name or "down_proj" in name:
            parameter.mul_(8)
    model.get_decoder().norm.weight.mul_(8)
    return model


@pytest.fixture(params=[KakehashiForConditionalGeneration, KakehashiForCausalLM], ids=["encoder-decoder", "decoder"])
def writer(request, build_tiny_model):
    """A model of each shape that writes, an input of one row, and a smaller model of the same shape."""
    model = sharpened(build_tiny_model(request.param, num_decoder_layers=3))
    assistant = build_tiny_model(request.param, num_decoder_layers=1, num_encoder_layers=1)
    return model, SOURCE if model.config.is_encoder_decoder else PROMPT, assistant


@torch.no_grad()
def first_probabilities(model, ids):
    """Probabilities `(vocab_size,)` of the first token to be written."""
    if model.config.is_encoder_decoder:
        logits = model(ids, decoder_input_ids=torch.tensor([[1]])).logits
    else:
        logits = model(ids).logits
    return logits[0, -1].softmax(-1)


def sample_first(model, ids, count=300, **settings):
    """The first tokens of that many samples; whatever the setting does not cut is kept."""
    set_seed(0)
    settings = {"top_k": 0, **settings}
    written = model.generate(ids, do_sample=True, max_new_tokens=1, num_return_sequences=count, **settings)
    return written[:, -1]


@pytest.mark.parametrize("use_itself", [False, True], ids=["smaller", "itself"])
def test_assisted_decoding_writes_what_the_model_alone_writes(writer, use_itself):
    model, ids, assistant = writer
    expected = model.generate(ids, max_new_tokens=12, min_new_tokens=12)
    assistant = model if use_itself else assistant
    assert torch.equal(model.generate(ids, max_new_tokens=12, min_new_tokens=12, assistant_model=assistant), expected)


def test_a_good_draft_saves_passes_of_the_model(writer, monkeypatch):
    model, ids, _ = writer
    passes, forward = [], model.get_decoder().forward
    monkeypatch.setattr(
        model.get_decoder(), "forward", lambda *args, **kwargs: passes.append(1) or forward(*args, **kwargs)
    )
    model.generate(ids, max_new_tokens=12, min_new_tokens=12)
    assert len(passes) == 12
    passes.clear()
    # A draft of the model's own weights, in an object of its own, is always right.
    twin = type(model)(model.config).eval()
    twin.load_state_dict(model.state_dict())
    model.generate(ids, max_new_tokens=12, min_new_tokens=12, assistant_model=twin)
    assert len(passes) < 6


def test_prompt_lookup_writes_what_the_model_alone_writes(writer):
    model, ids, _ = writer
    expected = model.generate(ids, max_new_tokens=12)
    assert torch.equal(model.generate(ids, max_new_tokens=12, prompt_lookup_num_tokens=3), expected)


def test_top_k_keeps_the_likeliest_tokens(writer):
    model, ids, _ = writer
    kept = set(first_probabilities(model, ids).topk(5).indices.tolist())
    drawn = set(sample_first(model, ids, top_k=5).tolist())
    assert drawn <= kept
    assert len(drawn) > 1


def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest(writer):
    model, ids, _ = writer
    probabilities = first_probabilities(model, ids)
    kept = set((probabilities >= 0.3 * probabilities.max()).nonzero().flatten().tolist())
    drawn = set(sample_first(model, ids, min_p=0.3).tolist())
    assert drawn <= kept
    assert len(drawn) > 1


@torch.no_grad()
def test_temperature_flattens_the_distribution(writer):
    model, ids, _ = writer
    likeliest = first_probabilities(model, ids).argmax()
    shares = [(sample_first(model, ids, temperature=heat) == likeliest).float().mean() for heat in (0.3, 1.0, 5.0)]
    assert shares[0] > shares[1] > shares[2]


def test_samples_come_with_the_frequency_of_their_probability(writer):
    model, ids, _ = writer
    probabilities = first_probabilities(model, ids)
    drawn = sample_first(model, ids, count=2000)
    frequency = torch.bincount(drawn, minlength=len(probabilities)) / len(drawn)
    assert (frequency - probabilities).abs().max() < 0.03


def test_beams_can_be_sampled(writer):
    model, ids, _ = writer
    settings = {"do_sample": True, "num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 6}
    set_seed(0)
    written = model.generate(ids, **settings)
    set_seed(0)
    assert torch.equal(model.generate(ids, **settings), written)
    assert len({tuple(row.tolist()) for row in written}) == 3


def test_nothing_is_repeated_when_that_is_forbidden(writer):
    model, ids, _ = writer
    written = model.generate(ids, max_new_tokens=20, min_new_tokens=20, no_repeat_ngram_size=2, do_sample=False)
    pairs = list(zip(written[0, :-1].tolist(), written[0, 1:].tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


def test_a_prompt_may_be_given_as_embeddings(writer):
    model, ids, _ = writer
    embeddings = model.get_input_embeddings()(ids)
    expected = model.generate(ids, max_new_tokens=8)
    written = model.generate(inputs_embeds=embeddings, max_new_tokens=8)
    # A decoder alone then returns what it wrote, without the prompt.
    assert torch.equal(written, expected if model.config.is_encoder_decoder else expected[:, ids.shape[1] :])


def test_a_long_prompt_may_be_read_in_chunks(build_tiny_model):
    model = sharpened(build_tiny_model(KakehashiForCausalLM, num_decoder_layers=2))
    prompts = {"input_ids": torch.tensor([[1, 10, 11, 12, 13], [0, 0, 1, 14, 15]])}
    prompts["attention_mask"] = (prompts["input_ids"] != 0).long()
    expected = model.generate(**prompts, max_new_tokens=8)
    assert torch.equal(model.generate(**prompts, max_new_tokens=8, prefill_chunk_size=2), expected)


def test_text_can_be_streamed_while_it_is_written(writer, tiny_tokenizer):
    model, ids, _ = writer
    streamer = TextIteratorStreamer(tiny_tokenizer, skip_prompt=True, timeout=5)
    written = model.generate(ids, max_new_tokens=10, streamer=streamer)
    start = 1 if model.config.is_encoder_decoder else ids.shape[1]
    assert "".join(streamer) == tiny_tokenizer.decode(written[0, start:])


def test_writing_stops_at_a_given_string(writer, tiny_tokenizer):
    model, ids, _ = writer
    start = 1 if model.config.is_encoder_decoder else ids.shape[1]
    whole = model.generate(ids, max_new_tokens=10, min_new_tokens=10)[0, start:]
    stop = tiny_tokenizer.decode(whole[2:4])
    written = model.generate(ids, max_new_tokens=10, stop_strings=[stop], tokenizer=tiny_tokenizer)[0, start:]
    assert stop in tiny_tokenizer.decode(written)
    assert len(written) < len(whole)
