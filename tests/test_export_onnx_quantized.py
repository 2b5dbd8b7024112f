"""ONNX graphs of smaller numbers are smaller, and say nearly the same."""

import pytest

exporters = pytest.importorskip("transformers.exporters")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
if not hasattr(exporters, "ExportedModel"):
    pytest.skip("this Transformers cannot save and run what it exports", allow_module_level=True)

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration  # noqa: E402
from kakehashi.training.export.engines import export_model  # noqa: E402
from kakehashi.training.inference import load_for_generation  # noqa: E402


def first_ids(model, tokenizer, texts):
    batch = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    return model.generate(**batch, max_new_tokens=1, do_sample=False)[:, -1]


@pytest.mark.parametrize(
    ("quantization", "model_class"), [("int8", KakehashiForCausalLM), ("float16", KakehashiForConditionalGeneration)]
)
def test_quantized_graphs_are_smaller_and_nearly_as_good(
    build_sharp_model, tiny_tokenizer, two_hundred_sentences, tmp_path, quantization, model_class
):
    model = build_sharp_model(model_class, hidden_size=64)
    export_model(model, tiny_tokenizer, tmp_path / "export", "onnx", quantization)
    assert model.dtype.itemsize == 4
    exported, tokenizer = load_for_generation(tmp_path / "export", device="cpu")
    # Each graph has the embedding, which the input looks up and the output multiplies by.
    stored = sum(path.stat().st_size for path in (tmp_path / "export").glob("*.data"))
    numbers = sum(each.numel() for each in (*model.parameters(), model.get_input_embeddings().weight))
    assert stored < 0.7 * 4 * numbers
    same = first_ids(exported, tokenizer, two_hundred_sentences) == first_ids(model, tokenizer, two_hundred_sentences)
    assert same.float().mean() > 0.6
