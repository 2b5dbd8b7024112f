"""Caches of keys and values: whichever one holds them, the same text is written and the same logits come out."""

import pytest
import torch
from transformers import CompileConfig, cache_utils
from transformers.cache_utils import DynamicCache, EncoderDecoderCache, QuantizedCache, StaticCache

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration

SOURCES = {
    "input_ids": torch.tensor([[10, 11, 12, 13, 14, 2], [15, 16, 2, 0, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),
}
PROMPTS = {
    "input_ids": torch.tensor([[1, 10, 11, 12], [0, 0, 1, 13]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]]),
}
SHAPES = ["encoder-decoder", "decoder"]
needs_fp8_cache = pytest.mark.skipif(
    not hasattr(cache_utils, "Fp8QuantizedLayer"), reason="this Transformers has no cache of 8-bit floats"
)


@torch.no_grad()
def sharpened(model):
    """Makes sub-layers outweigh the embedding, or an untrained model with a tied output repeats its last token."""
    for name, parameter in model.named_parameters():
        if "o_proj" in name or "down_proj" in name:
            parameter.mul_(8)
    model.get_decoder().norm.weight.mul_(8)
    return model


@pytest.fixture(params=SHAPES)
def model_and_inputs(request, build_tiny_model):
    """A model of each shape that writes, two decoder layers deep, and a padded batch for it."""
    if request.param == "decoder":
        return sharpened(build_tiny_model(KakehashiForCausalLM, num_decoder_layers=2)), PROMPTS
    return sharpened(build_tiny_model(KakehashiForConditionalGeneration, num_decoder_layers=2)), SOURCES


def write(model, inputs, length=8, **settings):
    return model.generate(**inputs, max_new_tokens=length, min_new_tokens=length, do_sample=False, **settings)


def with_cross_cache(model, cache):
    """The cache itself, or for an encoder-decoder beside a dynamic one for the source."""
    if not model.config.is_encoder_decoder:
        return cache
    return EncoderDecoderCache(cache, DynamicCache(config=model.config))


@pytest.fixture
def compiled_decoding(compiler):
    """Settings under which `generate` compiles its decoding steps, on a CPU too, into one graph without a break."""
    # Tracing is what a model can break; generating machine code would take a minute.
    settings = CompileConfig(fullgraph=True, backend="eager", mode=None)
    settings._compile_all_devices = True
    return settings


def test_compiled_decoding_with_a_static_cache_writes_the_same_through_one_graph(model_and_inputs, compiled_decoding):
    model, inputs = model_and_inputs
    expected = write(model, inputs)
    for _ in range(2):
        written = write(model, inputs, cache_implementation="static", compile_config=compiled_decoding)
        assert torch.equal(written, expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}], ids=["greedy", "beam"])
@pytest.mark.parametrize("cache", [{"use_cache": False}, {"cache_implementation": "static"}], ids=["none", "static"])
def test_a_batch_is_written_the_same_with_any_cache(model_and_inputs, cache, settings):
    model, inputs = model_and_inputs
    expected = write(model, inputs, **settings)
    assert torch.equal(write(model, inputs, **settings, **cache), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Transformers offloads from CUDA alone")
@pytest.mark.parametrize("implementation", ["offloaded", "offloaded_static"])
def test_an_offloaded_cache_writes_the_same(model_and_inputs, implementation):
    model, inputs = model_and_inputs
    model, inputs = model.cuda(), {name: tensor.cuda() for name, tensor in inputs.items()}
    expected = write(model, inputs)
    assert torch.equal(write(model, inputs, cache_implementation=implementation), expected)


@torch.no_grad()
def logits_by_step(model, inputs, target, cache):
    """Logits `(batch, length, vocab_size)` of a target that is read one position at a time through a cache."""
    if not model.config.is_encoder_decoder:
        steps = [model(target[:, i : i + 1], past_key_values=cache, use_cache=True) for i in range(target.shape[1])]
    else:
        source = {"attention_mask": inputs["attention_mask"], "encoder_outputs": model.get_encoder()(**inputs)}
        steps = [
            model(**source, decoder_input_ids=target[:, i : i + 1], past_key_values=cache, use_cache=True)
            for i in range(target.shape[1])
        ]
    return torch.cat([step.logits for step in steps], dim=1)


def quantized_cache(model, backend):
    """A quantized cache that quantizes from the first tokens on, rather than after 128."""
    settings = {"config": model.config}
    if backend != "fp8":
        settings |= {"nbits": 4 if backend == "quanto" else 8, "q_group_size": 8, "residual_length": 4}
    if backend == "hqq":
        settings |= {"axis_key": 1, "axis_value": 1}
    return with_cross_cache(model, QuantizedCache(backend=backend, **settings))


@pytest.mark.parametrize(
    ("backend", "tolerance"), [pytest.param("fp8", 0.1, marks=needs_fp8_cache), ("hqq", 0.05), ("quanto", 0.5)]
)
def test_a_quantized_cache_stays_near_an_exact_one(model_and_inputs, backend, tolerance):
    if backend != "fp8":
        pytest.importorskip({"quanto": "optimum.quanto"}.get(backend, backend))
    model, inputs = model_and_inputs
    target = torch.randint(4, 200, (2, 12))
    expected = logits_by_step(model, inputs, target, with_cross_cache(model, DynamicCache(config=model.config)))
    logits = logits_by_step(model, inputs, target, quantized_cache(model, backend))
    error = ((logits - expected).norm() / expected.norm()).item()
    assert 0 < error < tolerance


@needs_fp8_cache
def test_generate_makes_a_quantized_cache_for_the_decoder_alone(build_tiny_model):
    model = sharpened(build_tiny_model(KakehashiForCausalLM))
    outputs = write(
        model,
        PROMPTS,
        cache_implementation="quantized",
        cache_config={"backend": "fp8"},
        return_dict_in_generate=True,
    )
    assert isinstance(outputs.past_key_values, QuantizedCache)
    # Prompt and new tokens, less the last one, which is never read.
    assert outputs.past_key_values.get_seq_length() == outputs.sequences.shape[1] - 1


@needs_fp8_cache
def test_generate_takes_a_quantized_cache_for_the_encoder_decoder(build_tiny_model):
    model = sharpened(build_tiny_model(KakehashiForConditionalGeneration))
    cache = quantized_cache(model, "fp8")
    assert write(model, SOURCES, past_key_values=cache).shape == (2, 9)
    assert cache.get_seq_length() == 8


@pytest.mark.parametrize("step", [1, 3])
def test_a_cropped_cache_equals_a_shorter_one(model_and_inputs, step):
    model, inputs = model_and_inputs
    target = torch.randint(4, 200, (2, 9))
    cache = with_cross_cache(model, DynamicCache(config=model.config))
    logits_by_step(model, inputs, target[:, : 5 + step], cache)
    cache.crop(-step)
    assert cache.get_seq_length() == 5
    changed = torch.cat((target[:, :5], torch.randint(4, 200, (2, 3))), dim=1)
    fresh = with_cross_cache(model, DynamicCache(config=model.config))
    expected = logits_by_step(model, inputs, changed, fresh)[:, 5:]
    torch.testing.assert_close(logits_by_step(model, inputs, changed[:, 5:], cache), expected, rtol=1e-4, atol=1e-4)


def test_an_encoder_decoder_goes_on_from_the_cache_it_returned(build_tiny_model):
    model = sharpened(build_tiny_model(KakehashiForConditionalGeneration, num_decoder_layers=2))
    whole = write(model, SOURCES, 9)
    first = write(model, SOURCES, 4, return_dict_in_generate=True)
    rest = write(
        model,
        SOURCES,
        5,
        decoder_input_ids=first.sequences,
        decoder_attention_mask=torch.ones_like(first.sequences),
        past_key_values=first.past_key_values,
    )
    assert torch.equal(rest, whole)


@torch.no_grad()
def test_several_tokens_at_once_after_a_cache_see_only_what_is_before_them(model_and_inputs):
    model, inputs = model_and_inputs
    target = torch.randint(4, 200, (2, 7))
    one_by_one = with_cross_cache(model, DynamicCache(config=model.config))
    expected = logits_by_step(model, inputs, target, one_by_one)
    cache = with_cross_cache(model, DynamicCache(config=model.config))
    logits_by_step(model, inputs, target[:, :3], cache)
    if model.config.is_encoder_decoder:
        source = {"attention_mask": inputs["attention_mask"], "encoder_outputs": model.get_encoder()(**inputs)}
        logits = model(**source, decoder_input_ids=target[:, 3:], past_key_values=cache).logits
    else:
        logits = model(target[:, 3:], past_key_values=cache).logits
    torch.testing.assert_close(logits, expected[:, 3:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 3}, {"cache_implementation": "static"}, {"do_sample": True, "num_return_sequences": 2}],
    ids=["greedy", "beam", "static", "samples"],
)
def test_the_source_is_encoded_and_projected_once(build_tiny_model, monkeypatch, settings):
    model = sharpened(build_tiny_model(KakehashiForConditionalGeneration, num_decoder_layers=2))
    calls = {"encoder": 0, "keys and values": 0}

    def counted(function, name):
        def count(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        return count

    monkeypatch.setattr(model.get_encoder(), "forward", counted(model.get_encoder().forward, "encoder"))
    for layer in model.get_decoder().layers:
        projection = layer.cross_attn.k_proj
        monkeypatch.setattr(projection, "forward", counted(projection.forward, "keys and values"))
    model.generate(**SOURCES, max_new_tokens=6, min_new_tokens=6, **settings)
    assert calls == {"encoder": 1, "keys and values": 2}


@torch.no_grad()
def test_a_static_cache_that_is_reset_serves_the_next_source(build_tiny_model):
    model = sharpened(build_tiny_model(KakehashiForConditionalGeneration, num_decoder_layers=2))
    cache = EncoderDecoderCache(
        StaticCache(config=model.config, max_cache_len=12), StaticCache(config=model.config, max_cache_len=6)
    )
    target = torch.randint(4, 200, (2, 5))
    logits_by_step(model, SOURCES, target, cache)
    other = {**SOURCES, "input_ids": SOURCES["input_ids"].flip(0), "attention_mask": SOURCES["attention_mask"].flip(0)}
    expected = logits_by_step(model, other, target, with_cross_cache(model, DynamicCache(config=model.config)))
    cache.reset()
    torch.testing.assert_close(logits_by_step(model, other, target, cache), expected, rtol=1e-4, atol=1e-4)
