"""CTranslate2 answers as PyTorch does, and says what it cannot do."""

import pytest
import torch

from kakehashi.modeling import (
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForSequenceClassification,
)
from kakehashi.tokenization import for_causal_lm
from kakehashi.training.export.ctranslate2 import require_runnable, vocabulary_of
from kakehashi.training.export.engines import export_model
from kakehashi.training.inference import generate_texts, is_classifier, load_for_export, load_for_generation

ctranslate2 = pytest.importorskip("ctranslate2")

SEQ2SEQ = KakehashiForConditionalGeneration


@pytest.fixture
def export(tmp_path, tiny_tokenizer):
    """A function that exports a model and loads what it wrote."""

    def export_and_load(model, tokenizer=tiny_tokenizer, **settings):
        export_model(model, tokenizer, tmp_path / "export", "ctranslate2", **settings)
        return load_for_generation(tmp_path / "export", device="cpu")

    return export_and_load


def first_ids(model, tokenizer, texts):
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    ids = model.generate(**batch, max_new_tokens=1, pad_token_id=tokenizer.pad_token_id, num_beams=1, do_sample=False)
    return ids[:, -1]


def test_greedy_answers_to_two_hundred_sentences_are_those_of_pytorch(
    build_sharp_model, export, tiny_tokenizer, two_hundred_sentences
):
    model = build_sharp_model(SEQ2SEQ)
    exported, tokenizer = export(model)
    answers = generate_texts(exported, tokenizer, two_hundred_sentences, max_new_tokens=8)
    assert answers == generate_texts(model, tiny_tokenizer, two_hundred_sentences, max_new_tokens=8)
    assert len(set(answers)) > 100
    assert answers[:5] == generate_texts(
        exported, tokenizer, two_hundred_sentences[:5], batch_size=1, max_new_tokens=8
    )


@pytest.mark.parametrize(
    "overrides",
    [
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1, "head_dim": 16},
        {"scale_embedding": False},
        {"tie_word_embeddings": False},
        {"rms_norm_eps": 0.1},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
        {"vocab_size": 400},
    ],
    ids=lambda overrides: "-".join(overrides),
)
def test_every_size_and_switch_is_carried_over(
    build_sharp_model, export, tiny_tokenizer, two_hundred_sentences, overrides
):
    model = build_sharp_model(SEQ2SEQ, **overrides)
    exported, tokenizer = export(model)
    texts = two_hundred_sentences[:24]
    answers = generate_texts(exported, tokenizer, texts, max_new_tokens=6)
    assert answers == generate_texts(model, tiny_tokenizer, texts, max_new_tokens=6)


def test_a_decoder_alone_answers_as_in_pytorch(build_sharp_model, export, tiny_tokenizer, two_hundred_sentences):
    model, texts = build_sharp_model(KakehashiForCausalLM), two_hundred_sentences[:40]
    tokenizer = for_causal_lm(tiny_tokenizer)
    exported, loaded = export(model, tokenizer)
    answers = generate_texts(exported, loaded, texts, max_new_tokens=6)
    assert answers == generate_texts(model, tokenizer, texts, max_new_tokens=6)


@pytest.mark.parametrize("quantization", ["int8", "float16"])
def test_quantized_weights_are_smaller_and_nearly_as_good(
    build_sharp_model, tiny_tokenizer, two_hundred_sentences, tmp_path, quantization
):
    model = build_sharp_model(SEQ2SEQ, hidden_size=64)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sizes = {}
    for each in (None, quantization):
        export_model(model, tiny_tokenizer, tmp_path / str(each), "ctranslate2", each)
        sizes[each] = (tmp_path / str(each) / "model.bin").stat().st_size
    assert sizes[quantization] < 0.6 * sizes[None]
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    exported, tokenizer = load_for_generation(tmp_path / quantization, device="cpu")
    same = first_ids(exported, tokenizer, two_hundred_sentences) == first_ids(model, tokenizer, two_hundred_sentences)
    assert same.float().mean() > 0.8


def test_the_folder_serves_ctranslate2_and_transformers_alike(build_sharp_model, export, tiny_tokenizer, tmp_path):
    exported, tokenizer = export(build_sharp_model(SEQ2SEQ))
    translator = ctranslate2.Translator(str(tmp_path / "export"))
    source = tokenizer.convert_ids_to_tokens(tokenizer("I love cats.")["input_ids"])
    [result] = translator.translate_batch([source], beam_size=1, max_decoding_length=3)
    assert len(result.hypotheses[0]) == 3
    assert exported.config.model_type == "kakehashi" and tokenizer.get_vocab() == tiny_tokenizer.get_vocab()
    assert not is_classifier(tmp_path / "export")


def test_an_answer_has_at_most_as_many_tokens_as_asked_for(build_sharp_model, export):
    exported, tokenizer = export(build_sharp_model(SEQ2SEQ))
    batch = tokenizer(["I love cats.", "dogs"], padding=True, return_tensors="pt")
    assert exported.generate(**batch, max_new_tokens=5).shape == (2, 5)
    exported.generation_config.max_new_tokens = 4
    assert exported.generate(**batch).shape == (2, 4)


def test_an_answer_stops_at_any_of_its_ends(build_sharp_model, export, tiny_tokenizer, two_hundred_sentences):
    model, texts = build_sharp_model(SEQ2SEQ), two_hundred_sentences[:12]
    batch = tiny_tokenizer(texts, padding=True, return_tensors="pt")
    ends = model.generate(**batch, max_new_tokens=3)[:2, -1].tolist()
    model.generation_config.eos_token_id = ends
    exported, _ = export(model)
    # The end itself is no part of the answer.
    assert not torch.isin(exported.generate(**batch, max_new_tokens=9), torch.tensor(ends)).any()
    for ids, expected in zip(
        exported.generate(**batch, max_new_tokens=9), model.generate(**batch, max_new_tokens=9)[:, 1:], strict=True
    ):
        length = next((i for i, each in enumerate(expected) if each in torch.tensor(ends)), len(expected))
        assert ids[:length].tolist() == expected[:length].tolist() and not ids[length:].any()


def test_draws_follow_the_seed_of_torch(build_sharp_model, export, two_hundred_sentences):
    exported, tokenizer = export(build_sharp_model(SEQ2SEQ))
    texts = two_hundred_sentences[:8]
    settings = {"do_sample": True, "temperature": 9.0, "max_new_tokens": 6}
    first, again, other = (generate_texts(exported, tokenizer, texts, seed=seed, **settings) for seed in (1, 1, 2))
    assert first == again != other
    torch.manual_seed(1)
    third, fourth = (generate_texts(exported, tokenizer, texts, **settings) for _ in range(2))
    # Without a new seed, the numbers go on where they stood.
    assert first == third != fourth


def test_drawing_with_a_tiny_share_of_probability_is_greedy(build_sharp_model, export, two_hundred_sentences):
    exported, tokenizer = export(build_sharp_model(SEQ2SEQ))
    texts = two_hundred_sentences[:8]
    drawn = generate_texts(exported, tokenizer, texts, do_sample=True, top_p=0.01, max_new_tokens=6)
    assert drawn == generate_texts(exported, tokenizer, texts, max_new_tokens=6)


def test_missing_decoding_options_are_named(build_sharp_model, export):
    exported, tokenizer = export(build_sharp_model(SEQ2SEQ))
    batch = tokenizer(["I love cats."], return_tensors="pt")
    with pytest.raises(ValueError, match="ctranslate2 has no decoding option diversity_penalty: use the model folder"):
        exported.generate(**batch, diversity_penalty=1.0)
    with pytest.raises(ValueError, match="draws at random with `num_beams` 1 only, got 2"):
        exported.generate(**batch, do_sample=True, num_beams=2)


def test_stored_decoding_options_that_would_be_lost_are_refused(build_sharp_model, export, tmp_path):
    model = build_sharp_model(SEQ2SEQ)
    model.generation_config.bad_words_ids = [[5]]
    with pytest.raises(ValueError, match=r"no decoding option bad_words_ids, which generation_config\.json sets"):
        export(model)
    assert list(tmp_path.iterdir()) == []


def test_stored_decoding_options_are_obeyed(build_sharp_model, export, tiny_tokenizer, two_hundred_sentences):
    model, texts = build_sharp_model(SEQ2SEQ), two_hundred_sentences[:12]
    # Of 2, because PyTorch counts the start token as the first repeatable one and CTranslate2 does not.
    model.generation_config.no_repeat_ngram_size = 2
    exported, tokenizer = export(model)
    answers = generate_texts(exported, tokenizer, texts, max_new_tokens=8)
    assert answers == generate_texts(model, tiny_tokenizer, texts, max_new_tokens=8)
    assert exported._options({})["no_repeat_ngram_size"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "relative_bias"}, "needs `position_embedding_type` 'rope', got 'relative_bias'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "to be one of default, linear, got 'yarn': export to onnx"),
        ({"num_encoder_layers": 0}, "needs `num_encoder_layers` to be at least 1, got 0"),
        ({"pad_token_id": None}, "needs `pad_token_id` in the configuration, got None"),
    ],
)
def test_what_it_cannot_compute_is_refused(tiny_config, changes, message):
    require_runnable(tiny_config)
    for name, value in changes.items():
        object.__setattr__(tiny_config, name, value)
    with pytest.raises(ValueError, match=message):
        require_runnable(tiny_config)


def test_a_classifier_is_sent_to_onnx(build_tiny_model, tiny_tokenizer, tmp_path):
    model = build_tiny_model(KakehashiForSequenceClassification)
    with pytest.raises(ValueError, match="got KakehashiForSequenceClassification: export it to onnx"):
        export_model(model, tiny_tokenizer, tmp_path / "export", "ctranslate2")
    assert list(tmp_path.iterdir()) == []


def test_every_id_of_the_model_has_a_name_of_its_own(tiny_tokenizer):
    names = vocabulary_of(tiny_tokenizer, len(tiny_tokenizer) + 3)
    assert len(set(names)) == len(names) == len(tiny_tokenizer) + 3
    with pytest.raises(ValueError, match="tokens, the model only 10"):
        vocabulary_of(tiny_tokenizer, 10)


def test_an_absent_device_or_number_format_is_refused(build_sharp_model, export, tmp_path, monkeypatch):
    export(build_sharp_model(SEQ2SEQ))
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 0)
    with pytest.raises(ValueError, match="`device` must be cpu for ctranslate2 here, got mps"):
        load_for_generation(tmp_path / "export", device="mps")
    with pytest.raises(ValueError, match=r"`dtype` must be one of .*float32.* on cpu, got float8"):
        load_for_generation(tmp_path / "export", device="cpu", dtype="float8")
    assert load_for_generation(tmp_path / "export", device="cpu", dtype=torch.float32)


def test_damaged_weights_are_explained(build_sharp_model, export, tmp_path):
    export(build_sharp_model(SEQ2SEQ))
    weights = tmp_path / "export" / "model.bin"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"the weights of .* cannot be read"):
        load_for_generation(tmp_path / "export", device="cpu")


def test_an_exported_folder_is_not_exported_again(build_sharp_model, export, tmp_path):
    export(build_sharp_model(SEQ2SEQ))
    with pytest.raises(ValueError, match="is exported already"):
        load_for_export(tmp_path / "export")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"architecture": "x86_64", "avx512_vnni": False, "avx_vnni": False}, "float32"),
        ({"architecture": "x86_64", "avx512_vnni": True, "avx_vnni": False}, "int8_float32"),
        ({"architecture": "arm64", "neon": True}, "int8_float32"),
    ],
)
def test_eight_bits_are_computed_with_only_where_sums_of_them_are_exact(
    build_sharp_model, tiny_tokenizer, tmp_path, monkeypatch, capabilities, expected
):
    export_model(build_sharp_model(SEQ2SEQ), tiny_tokenizer, tmp_path / "export", "ctranslate2", "int8")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    exported, _ = load_for_generation(tmp_path / "export", device="cpu")
    assert exported.open_engine(inter_threads=1, intra_threads=1).compute_type == expected
