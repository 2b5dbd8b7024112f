"""The ONNX graphs of an encoder-decoder answer as PyTorch does, whatever the lengths."""

import shutil

import pytest
import torch

exporters = pytest.importorskip("transformers.exporters")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
if not hasattr(exporters, "ExportedModel"):
    pytest.skip("this Transformers cannot save and run what it exports", allow_module_level=True)

from kakehashi.modeling import KakehashiForConditionalGeneration  # noqa: E402
from kakehashi.training.export.engines import export_model  # noqa: E402
from kakehashi.training.inference import generate_texts, load_for_generation  # noqa: E402


@pytest.fixture(scope="module")
def folder(build_sharp_model, tiny_tokenizer, tmp_path_factory):
    """An encoder-decoder, exported once for all tests: tracing takes seconds."""
    folder = tmp_path_factory.mktemp("onnx") / "export"
    export_model(build_sharp_model(KakehashiForConditionalGeneration), tiny_tokenizer, folder, "onnx")
    return folder


@pytest.fixture(scope="module")
def exported(folder):
    return load_for_generation(folder, device="cpu")


@pytest.fixture
def original(build_sharp_model, tiny_tokenizer):
    return build_sharp_model(KakehashiForConditionalGeneration), tiny_tokenizer


def test_greedy_answers_to_two_hundred_sentences_are_those_of_pytorch(exported, original, two_hundred_sentences):
    answers = generate_texts(*exported, two_hundred_sentences, max_new_tokens=8)
    assert answers == generate_texts(*original, two_hundred_sentences, max_new_tokens=8)
    assert len(set(answers)) > 100


def test_single_texts_are_answered_as_in_a_batch(exported, two_hundred_sentences):
    texts = two_hundred_sentences[:6]
    together = generate_texts(*exported, texts, max_new_tokens=6)
    assert together == generate_texts(*exported, texts, batch_size=1, max_new_tokens=6)


@pytest.mark.parametrize("settings", [{"num_beams": 3}, {"do_sample": True, "seed": 1}, {"num_beams": 2, "seed": 2}])
def test_decoding_options_are_those_of_transformers(exported, original, two_hundred_sentences, settings):
    texts = two_hundred_sentences[:12]
    answers = generate_texts(*exported, texts, max_new_tokens=5, **settings)
    assert answers == generate_texts(*original, texts, max_new_tokens=5, **settings)


@torch.no_grad()
def test_the_shortest_source_gives_the_same_logits(exported, original):
    ids = torch.tensor([[2]])
    settings = {"max_new_tokens": 3, "output_logits": True, "return_dict_in_generate": True}
    expected = original[0].generate(ids, attention_mask=torch.ones_like(ids), **settings)
    got = exported[0].generate(ids, attention_mask=torch.ones_like(ids), **settings)
    torch.testing.assert_close(torch.stack(got.logits), torch.stack(expected.logits), rtol=1e-3, atol=1e-3)


def test_the_runner_of_transformers_runs_the_folder(folder, original):
    loaded = exporters.ExportedModel.from_pretrained(folder, device="cpu")
    assert set(loaded.components) == {"encoder", "decode"}
    assert loaded.config.model_type == "kakehashi" and loaded.generation_config is not None
    ids = torch.tensor([[5, 6, 7, 2]])
    states = loaded.runners["encoder"](input_ids=ids, attention_mask=torch.ones_like(ids))["last_hidden_state"]
    with torch.no_grad():
        expected = original[0].get_encoder()(ids).last_hidden_state
    torch.testing.assert_close(states, expected, rtol=1e-3, atol=1e-3)


def test_nothing_but_the_export_is_in_the_folder(folder):
    graphs = {f"{name}.onnx{end}" for name in ("encoder", "decode") for end in ("", ".data")}
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    configurations = {"config.json", "generation_config.json", "export.json", "configuration_kakehashi.py"}
    assert {path.name for path in folder.iterdir()} == graphs | tokenizer | configurations


def test_another_number_format_is_refused(folder):
    with pytest.raises(ValueError, match="is fixed by its graphs, got bfloat16: leave it out, or export"):
        load_for_generation(folder, dtype=torch.bfloat16)


def test_damaged_graphs_are_explained(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copy")
    (copied / "decode.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"the graphs of .* cannot be read"):
        load_for_generation(copied, device="cpu")


def test_an_absent_device_is_refused(folder):
    with pytest.raises(ValueError, match="`device` must be one that ONNX Runtime has, got mps"):
        load_for_generation(folder, device="mps")
