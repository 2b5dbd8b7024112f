"""The model around ONNX graphs, with the graphs replaced by PyTorch: no engine is needed."""

from types import SimpleNamespace

import pytest
import torch

from kakehashi.modeling import KakehashiForConditionalGeneration
from kakehashi.training.export.onnx import CrossDecodeGraph, EncoderGraph
from kakehashi.training.export.onnx_model import OnnxSeq2SeqGenerator
from kakehashi.training.inference import generate_texts


class Runner(SimpleNamespace):
    """Runs a graph's module where ONNX Runtime would run the graph."""

    @torch.no_grad()
    def __call__(self, **inputs):
        return self.graph(**inputs)


@pytest.fixture
def around(tiny_tokenizer):
    """A function that puts the exported parts of a model together again, untraced."""

    def put_together(model):
        graphs = {"encoder": EncoderGraph(model), "decode": CrossDecodeGraph(model)}
        device = {"device": torch.device("cpu"), "dtype": torch.float32}
        runners = {name: Runner(graph=graph, **device) for name, graph in graphs.items()}
        return OnnxSeq2SeqGenerator(model.config, runners, model.generation_config)

    return put_together


@pytest.mark.parametrize("positions", ["rope", "relative_bias", "learned", "sinusoidal", "none"])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_parts_answer_as_the_whole(
    build_sharp_model, around, tiny_tokenizer, two_hundred_sentences, positions, num_beams
):
    model = build_sharp_model(KakehashiForConditionalGeneration, position_embedding_type=positions)
    settings = {"max_new_tokens": 6, "num_beams": num_beams}
    answers = generate_texts(around(model), tiny_tokenizer, two_hundred_sentences[:20], **settings)
    assert answers == generate_texts(model, tiny_tokenizer, two_hundred_sentences[:20], **settings)


def test_a_table_of_positions_that_ends_is_explained(build_sharp_model, around, tiny_tokenizer):
    model = build_sharp_model(
        KakehashiForConditionalGeneration, position_embedding_type="learned", max_position_embeddings=8
    )
    model.generation_config.eos_token_id = None
    with pytest.raises(ValueError, match="`max_position_embeddings` is 8, got 9 tokens: lower `max_new_tokens`"):
        generate_texts(around(model), tiny_tokenizer, ["cats"], max_new_tokens=9)
