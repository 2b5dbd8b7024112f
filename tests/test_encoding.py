"""Texts as ids: what a cut leaves, and where positions end, in models of every family."""

import logging

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5EncoderModel,
)

from kakehashi.modeling import KakehashiEncoderModel
from kakehashi.training.embedding import embed_texts
from kakehashi.training.encoding import count_positions, encode_and_cut, encode_to_fit
from kakehashi.training.labelling import score_texts

SHAPE = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
LONG = " ".join("abcdefghijklmnopqrstuvwxyz")


@pytest.fixture
def bert_tokenizer():
    """Letters between `[CLS]`, 2, and `[SEP]`, 3: it has no end of text."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LONG.split()]
    backend = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def test_a_long_text_loses_its_end_and_keeps_the_marks_around_it(bert_tokenizer):
    ids, lengths = encode_and_cut(bert_tokenizer, [LONG, "a [SEP]"], 6)
    assert ids == [[2, 4, 5, 6, 7, 3], bert_tokenizer("a [SEP]", split_special_tokens=True)["input_ids"]]
    assert lengths == [28, len(ids[1])]
    assert encode_and_cut(bert_tokenizer, [LONG], None)[0] == [[2, *range(4, 30), 3]]
    assert encode_and_cut(bert_tokenizer, [], 6) == ([], [])


def test_models_that_do_not_write_read_the_beginning_of_what_is_too_long_for_them(bert_tokenizer, caplog):
    model = BertForSequenceClassification(BertConfig(**SHAPE, max_position_embeddings=8)).eval()
    with caplog.at_level(logging.WARNING):
        assert encode_to_fit(model, bert_tokenizer, [LONG, "a"]) == [[2, *range(4, 10), 3], [2, 4, 3]]
    assert caplog.messages == ["1 of 2 texts are longer than 8 tokens and were cut"]
    whole, beginning = score_texts(model, bert_tokenizer, [LONG, "a b c d e f"])
    torch.testing.assert_close(whole, beginning)
    whole, beginning = embed_texts(model.bert, bert_tokenizer, [LONG, "a b c d e f"])
    torch.testing.assert_close(torch.tensor(whole), torch.tensor(beginning))


def test_positions_that_a_family_keeps_for_itself_hold_no_tokens(bert_tokenizer):
    config = RobertaConfig(**SHAPE, max_position_embeddings=10, pad_token_id=0)
    assert score_texts(RobertaForSequenceClassification(config).eval(), bert_tokenizer, [LONG]).shape == (1, 2)


@torch.no_grad()
def test_learned_positions_are_counted_and_others_do_not_end(build_tiny_model):
    small = {"vocab_size": 40, "d_model": 16}
    bart = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ending = [
        (BertModel(BertConfig(**SHAPE, max_position_embeddings=8)), 8),
        (RobertaForSequenceClassification(RobertaConfig(**SHAPE, max_position_embeddings=10)), 8),
        (BartModel(BartConfig(**small, **bart, max_position_embeddings=8)), 8),
        (GPT2Model(GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=8)), 8),
        (build_tiny_model(KakehashiEncoderModel, position_embedding_type="learned", max_position_embeddings=8), 8),
    ]
    for model, positions in ending:
        assert count_positions(model) == positions
        model.eval()(torch.full((1, positions), 5))
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            model(torch.full((1, positions + 1), 5))
    for model in (T5EncoderModel(T5Config(**small, num_layers=1)), build_tiny_model(KakehashiEncoderModel)):
        assert count_positions(model) is None
