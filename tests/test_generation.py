"""Writing: greedy, beam and sampling; batched, padded, cached and continued as one would expect."""

import pytest
import torch
from transformers import GenerationConfig, set_seed
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration

ROWS = [[10, 11, 12, 13, 14, 2], [15, 16, 2], [17, 18, 19, 20, 2], [21, 2]]
EOS = 2


def pad(rows, side="right"):
    length = max(map(len, rows))
    fillings = [[0] * (length - len(row)) for row in rows]
    left = side == "left"
    ids = [fill + row if left else row + fill for row, fill in zip(rows, fillings, strict=True)]
    mask = [
        [0] * len(fill) + [1] * len(row) if left else [1] * len(row) + [0] * len(fill)
        for row, fill in zip(rows, fillings, strict=True)
    ]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


@pytest.fixture
def model(build_tiny_model):
    """An encoder-decoder whose choices are clear-cut and varied, so that rounding cannot turn them."""
    return sharpened(build_tiny_model(KakehashiForConditionalGeneration, num_decoder_layers=2))


@pytest.fixture
def causal_model(build_tiny_model):
    """The same for the decoder alone."""
    return sharpened(build_tiny_model(KakehashiForCausalLM, num_decoder_layers=2))


@torch.no_grad()
def sharpened(model):
    """Makes sub-layers outweigh the embedding, or an untrained model with a tied output repeats its last token."""
    for name, parameter in model.named_parameters():
        if "o_proj" in name or "down_proj" in name:
            parameter.mul_(8)
    model.get_decoder().norm.weight.mul_(8)
    return model


def until_eos(row):
    """The ids written up to and including the first end of sentence after the start token."""
    row = row.tolist()
    return row[: row.index(EOS, 1) + 1] if EOS in row[1:] else row


@torch.no_grad()
def naive_greedy(model, source, length):
    """Picks the likeliest next token again and again, from the full pass and without a cache."""
    target = torch.tensor([[model.config.decoder_start_token_id]])
    for _ in range(length):
        logits = model(torch.tensor([source]), decoder_input_ids=target, use_cache=False).logits
        target = torch.cat((target, logits[:, -1:].argmax(-1)), dim=1)
        if target[0, -1] == EOS:
            break
    return target[0].tolist()


@pytest.mark.parametrize("settings", [{}, {"use_cache": False}, {"cache_implementation": "static"}])
def test_greedy_decoding_equals_a_naive_loop(model, settings):
    written = model.generate(**pad(ROWS), max_new_tokens=12, do_sample=False, **settings)
    for row, source in zip(written, ROWS, strict=True):
        assert until_eos(row) == naive_greedy(model, source, 12)
    assert len({tuple(row.tolist()) for row in written}) > 1, "the source must matter"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}], ids=["greedy", "beam"])
def test_a_padded_batch_is_written_as_its_rows_alone(model, settings, side):
    together = model.generate(**pad(ROWS, side), max_new_tokens=10, **settings)
    for row, source in zip(together, ROWS, strict=True):
        alone = model.generate(input_ids=torch.tensor([source]), max_new_tokens=10, **settings)[0]
        assert until_eos(row) == until_eos(alone)


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}], ids=["greedy", "beam"])
def test_the_decoder_alone_continues_a_padded_batch_as_its_rows_alone(causal_model, settings):
    prompts = [[1, 10, 11, 12], [1, 13], [1, 14, 15]]
    together = causal_model.generate(**pad(prompts, "left"), max_new_tokens=8, **settings)
    for row, prompt in zip(together, prompts, strict=True):
        alone = causal_model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=8, **settings)[0]
        assert until_eos(row[max(map(len, prompts)) - 1 :]) == until_eos(alone[len(prompt) - 1 :])


@pytest.mark.parametrize("settings", [{"use_cache": False}, {"cache_implementation": "static"}])
def test_the_decoder_alone_writes_the_same_with_any_cache(causal_model, settings):
    prompts = pad([[1, 10, 11, 12], [1, 13]], "left")
    expected = causal_model.generate(**prompts, max_new_tokens=8)
    assert torch.equal(causal_model.generate(**prompts, max_new_tokens=8, **settings), expected)


@pytest.mark.parametrize("settings", [{}, {"cache_implementation": "static"}], ids=["dynamic", "static"])
def test_logits_of_each_step_are_those_of_one_pass_over_the_whole(model, settings):
    inputs = pad(ROWS)
    outputs = model.generate(
        **inputs,
        max_new_tokens=8,
        min_new_tokens=8,
        output_logits=True,
        return_dict_in_generate=True,
        **settings,
    )
    with torch.no_grad():
        whole = model(**inputs, decoder_input_ids=outputs.sequences[:, :-1]).logits
    torch.testing.assert_close(torch.stack(outputs.logits, dim=1), whole, rtol=1e-3, atol=1e-4)


def test_beam_search_finds_sequences_at_least_as_likely_as_greedy(model):
    inputs = pad(ROWS)
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "return_dict_in_generate": True, "output_scores": True}
    beam = model.generate(**inputs, num_beams=6, length_penalty=0.0, **settings)
    greedy = model.generate(**inputs, **settings)

    def log_likelihood(sequences):
        """Of the written tokens; the end of sentence is forbidden, as `min_new_tokens` did."""
        with torch.no_grad():
            logits = model(**inputs, decoder_input_ids=sequences[:, :-1]).logits
        logits[:, :, EOS] = -torch.inf
        return logits.log_softmax(-1).gather(2, sequences[:, 1:, None]).sum((1, 2))

    scores = log_likelihood(beam.sequences)
    torch.testing.assert_close(beam.sequences_scores, scores, rtol=1e-3, atol=1e-3)
    assert (scores >= log_likelihood(greedy.sequences) - 1e-4).all()


def test_several_answers_per_source_are_distinct_and_best_first(model):
    outputs = model.generate(
        **pad(ROWS[:2]),
        num_beams=4,
        num_return_sequences=3,
        max_new_tokens=6,
        return_dict_in_generate=True,
        output_scores=True,
    )
    for answers, scores in zip(outputs.sequences.split(3), outputs.sequences_scores.split(3), strict=True):
        assert len({tuple(answer.tolist()) for answer in answers}) == 3
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def sample(model, seed, **settings):
    set_seed(seed)
    return model.generate(**pad(ROWS), do_sample=True, max_new_tokens=10, **settings).tolist()


def test_sampling_repeats_itself_for_the_same_seed_alone(model):
    assert sample(model, 1) == sample(model, 1)
    assert sample(model, 1) != sample(model, 2)


def test_temperature_sharpens_and_flattens_what_is_sampled(model):
    spread = []
    for temperature in (0.5, 1.0, 2.0):
        answer = model.generate(
            torch.tensor([[5, 6, 7]]),
            do_sample=True,
            temperature=temperature,
            top_k=0,
            max_new_tokens=1,
            output_scores=True,
            output_logits=True,
            return_dict_in_generate=True,
        )
        probabilities = answer.scores[0].softmax(dim=-1)
        torch.testing.assert_close(probabilities, (answer.logits[0] / temperature).softmax(dim=-1))
        spread.append(torch.special.entr(probabilities).sum().item())
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("settings", [{"temperature": 1e-4}, {"top_p": 1e-4}, {"top_k": 1}])
def test_sampling_without_any_room_is_greedy(model, settings):
    expected = model.generate(**pad(ROWS), max_new_tokens=10).tolist()
    assert sample(model, 3, **settings) == expected


@torch.no_grad()
def test_top_p_samples_from_the_nucleus_alone(model):
    logits = model(torch.tensor([ROWS[0]]), decoder_input_ids=torch.tensor([[1]])).logits[0, -1]
    ranked = logits.softmax(-1).sort(descending=True)
    kept = set(ranked.indices[ranked.values.cumsum(0) - ranked.values < 0.5].tolist())
    first = model.generate(
        input_ids=torch.tensor([ROWS[0]]),
        do_sample=True,
        top_k=0,
        top_p=0.5,
        max_new_tokens=1,
        num_return_sequences=200,
    )[:, 1]
    assert set(first.tolist()) <= kept
    assert len(set(first.tolist())) > 1


def test_encoder_outputs_can_be_reused(model):
    inputs = pad(ROWS)
    expected = model.generate(**inputs, max_new_tokens=8)
    with torch.no_grad():
        encoder_outputs = model.get_encoder()(**inputs)
    written = model.generate(
        encoder_outputs=encoder_outputs, attention_mask=inputs["attention_mask"], max_new_tokens=8
    )
    assert torch.equal(written, expected)


def test_a_given_beginning_is_continued(model):
    inputs = {"input_ids": torch.tensor([ROWS[0]])}
    whole = model.generate(**inputs, max_new_tokens=8, min_new_tokens=8)
    rest = model.generate(**inputs, decoder_input_ids=whole[:, :4], max_new_tokens=5, min_new_tokens=5)
    assert torch.equal(rest, whole)


def test_writing_continues_from_a_returned_cache(causal_model):
    prompt = torch.tensor([[1, 10, 11, 12]])
    whole = causal_model.generate(prompt, max_new_tokens=8, min_new_tokens=8)
    first = causal_model.generate(prompt, max_new_tokens=3, min_new_tokens=3, return_dict_in_generate=True)
    assert isinstance(first.past_key_values, DynamicCache)
    rest = causal_model.generate(
        first.sequences, past_key_values=first.past_key_values, max_new_tokens=5, min_new_tokens=5
    )
    assert torch.equal(rest, whole)


def test_an_encoder_decoder_cache_is_accepted_and_returned(model):
    inputs = {"input_ids": torch.tensor([ROWS[0]])}
    expected = model.generate(**inputs, max_new_tokens=6, min_new_tokens=6)
    cache = EncoderDecoderCache(DynamicCache(config=model.config), DynamicCache(config=model.config))
    outputs = model.generate(
        **inputs, past_key_values=cache, max_new_tokens=6, min_new_tokens=6, return_dict_in_generate=True
    )
    assert torch.equal(outputs.sequences, expected)
    assert outputs.past_key_values is cache
    # The last token written is never read.
    assert cache.self_attention_cache.get_seq_length() == 6
    assert cache.cross_attention_cache.get_seq_length() == len(ROWS[0])


def test_attentions_of_each_step_can_be_asked_for(model):
    model.set_attn_implementation("eager")
    outputs = model.generate(
        **pad(ROWS[:2]), max_new_tokens=4, min_new_tokens=4, return_dict_in_generate=True, output_attentions=True
    )
    assert len(outputs.cross_attentions) == 4
    for step in outputs.cross_attentions:
        assert [tuple(layer.shape) for layer in step] == [(2, 4, 1, 6)] * 2
        assert (step[0][1, :, :, 3:] == 0).all()


def test_settings_of_generation_live_in_their_own_file(model, tmp_path):
    assert model.generation_config.decoder_start_token_id == 1
    model.generation_config.num_beams = 3
    model.save_pretrained(tmp_path)
    loaded = KakehashiForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.generation_config.num_beams == 3
    assert (loaded.generation_config.eos_token_id, loaded.generation_config.pad_token_id) == (2, 0)
    assert GenerationConfig.from_pretrained(tmp_path).decoder_start_token_id == 1
    assert torch.equal(loaded.generate(**pad(ROWS), max_new_tokens=5), model.generate(**pad(ROWS), max_new_tokens=5))


def test_rows_end_with_eos_and_then_padding(model):
    sources = [[30 + i, 40 + i, 2] for i in range(24)]
    written = model.generate(**pad(sources), max_new_tokens=20, eos_token_id=list(range(0, 380, 10)))
    lengths = set()
    for row in written:
        end = next((index for index, token in enumerate(row.tolist()) if index and token % 10 == 0), len(row) - 1)
        assert (row[end + 1 :] == model.config.pad_token_id).all()
        lengths.add(end)
    assert len(lengths) > 3
    assert written[:, 0].tolist() == [1] * len(written)
