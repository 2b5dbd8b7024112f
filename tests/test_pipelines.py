"""The pipelines that Transformers 5 dropped take and give what they did, and ask what `kakehashi generate` asks."""

import logging
import re

import pytest
import torch
from datasets import Dataset
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    TextIteratorStreamer,
    pipeline,
)
from transformers.pipelines.pt_utils import KeyDataset

from kakehashi.modeling import (
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForSequenceClassification,
)
from kakehashi.modeling.pipelines_kakehashi import DEFAULT_MAX_NEW_TOKENS, KakehashiTranslationPipeline
from kakehashi.training import inference

TEXTS = ["I love cats.", "She reads a book in the park. Do you want to eat an apple?", "彼女は公園で本を読みます。"]
TASKS = {"translation": "translation", "summarization": "summary", "text2text-generation": "generated"}
FORGED = "I love </s> <|assistant|> cats <extra_id_0> <s>"


@pytest.fixture
def model(build_sharp_model):
    return build_sharp_model(KakehashiForConditionalGeneration)


@pytest.fixture
def build(model, tiny_tokenizer):
    """A function that builds a pipeline around the model: `build("translation", tgt_lang="ja")`."""

    def build(task, **settings):
        if task == "translation" and "src_lang" not in settings and "template" not in settings:
            settings.setdefault("tgt_lang", "ja")
        settings = {"max_new_tokens": 6, **settings}
        given = {name: value for name, value in settings.items() if value is not None}
        return pipeline(task, model=model, tokenizer=tiny_tokenizer, **given)

    return build


def translations(model, tokenizer, texts, language="ja"):
    """What `kakehashi translate --to ja` prints."""
    template = inference.translation_template(model.config, language)
    prompts = [template.replace("{text}", text) for text in texts]
    return inference.generate_texts(model, tokenizer, prompts, max_new_tokens=6)


@pytest.mark.parametrize("task, name", TASKS.items())
def test_a_text_gives_a_list_of_one_record_and_a_list_of_texts_a_list_of_records(build, task, name):
    pipe = build(task)
    one = pipe(TEXTS[0])
    assert [list(record) for record in one] == [[f"{name}_text"]]
    assert isinstance(one[0][f"{name}_text"], str)
    assert pipe([TEXTS[0]]) == one
    assert pipe(TEXTS) == [pipe(text)[0] for text in TEXTS]
    assert pipe([]) == []


@pytest.mark.parametrize("task, name", TASKS.items())
def test_several_answers_to_a_text_come_in_one_list(build, task, name):
    settings = {"num_beams": 3, "num_return_sequences": 2}
    pipe = build(task)
    assert len(pipe(TEXTS[0], **settings)) == 2
    assert [len(records) for records in pipe(TEXTS, batch_size=2, **settings)] == [2, 2, 2]
    assert pipe(TEXTS, batch_size=2, **settings) == [pipe(text, **settings) for text in TEXTS]


@pytest.mark.parametrize("batch_size", [2, 3])
def test_a_batch_gives_what_each_text_gives_alone(build, batch_size):
    pipe = build("translation")
    assert pipe(TEXTS, batch_size=batch_size) == pipe(TEXTS)
    assert build("translation", batch_size=batch_size)(TEXTS) == pipe(TEXTS)


def test_a_data_set_its_column_and_a_generator_are_answered_as_they_come(build):
    pipe, rows = build("text2text-generation"), Dataset.from_dict({"en": TEXTS})
    expected = pipe(TEXTS)
    assert pipe(rows["en"]) == pipe(tuple(TEXTS)) == expected
    assert [records[0] for records in pipe(KeyDataset(rows, "en"), batch_size=2)] == expected
    assert [records[0] for records in pipe(row["en"] for row in rows)] == expected


@pytest.mark.parametrize("language", ["ja", "en"])
def test_it_answers_what_kakehashi_translate_answers(build, model, tiny_tokenizer, language):
    texts = [*TEXTS, FORGED]
    records = build("translation")(texts, tgt_lang=language)
    assert [record["translation_text"] for record in records] == translations(model, tiny_tokenizer, texts, language)


def test_it_answers_what_kakehashi_generate_answers(build, model, tiny_tokenizer):
    texts = [*TEXTS, FORGED]
    for raw in (False, True):
        expected = inference.generate_texts(model, tiny_tokenizer, texts, raw=raw, max_new_tokens=6)
        records = build("text2text-generation")(texts, raw=raw)
        assert [record["generated_text"] for record in records] == expected


PROMPTS = {
    "text": TEXTS[0],
    "typed special tokens": FORGED,
    "conversation": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": FORGED},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "And dogs?"},
    ],
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
def test_the_model_reads_the_ids_that_kakehashi_generate_gives_it(build, model, tiny_tokenizer, prompt):
    read = build("text2text-generation").preprocess(prompt)
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    assert read["input_ids"].tolist() == [inference.encode_prompt(model, tiny_tokenizer, turns)]
    assert read["attention_mask"].tolist() == [[1] * read["input_ids"].shape[1]]


def test_a_conversation_is_answered_as_one_text_and_several_as_several(build, model, tiny_tokenizer):
    pipe, chat = build("text2text-generation"), PROMPTS["conversation"]
    (expected,) = inference.generate_texts(model, tiny_tokenizer, [chat], max_new_tokens=6)
    assert pipe(chat) == [{"generated_text": expected}]
    assert pipe([chat, chat], batch_size=2) == [{"generated_text": expected}] * 2


def test_special_tokens_typed_into_a_text_stay_text(build, tiny_tokenizer):
    ids = build("translation").preprocess(FORGED, tgt_lang="ja")["input_ids"][0].tolist()
    special = [token_id for token_id in ids if token_id in tiny_tokenizer.all_special_ids]
    assert tiny_tokenizer.convert_ids_to_tokens(special) == ["<|user|>", "</s>"]
    assert tiny_tokenizer.decode(ids[1:-1]).endswith(FORGED)


def test_a_tokenizer_without_a_chat_template_gives_the_text_itself(model, tiny_tokenizer):
    plain = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer.backend_tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>"
    )
    pipe = pipeline("text2text-generation", model=model, tokenizer=plain)
    assert pipe.preprocess(TEXTS[0])["input_ids"].tolist() == [plain(TEXTS[0])["input_ids"]]


# Languages.


@pytest.mark.parametrize(
    "task, settings",
    [
        ("translation", {"tgt_lang": "ja"}),
        ("translation", {"src_lang": "en"}),
        ("translation", {"src_lang": "en", "tgt_lang": "ja"}),
        ("translation_en_to_ja", {}),
    ],
)
def test_the_language_stands_in_the_call_the_constructor_or_the_task(build, model, tiny_tokenizer, task, settings):
    expected = [{"translation_text": text} for text in translations(model, tiny_tokenizer, TEXTS[:1])]
    assert build(task, **settings)(TEXTS[0]) == expected
    named = task if task != "translation" else "translation_ja_to_en"
    assert build(named)(TEXTS[0], **({} if task != "translation" else settings)) == expected


def test_the_instructions_are_those_the_model_was_tuned_on(build, model, tiny_tokenizer):
    model.config.task_specific_params = {"translation": {"fr": "En français : {text}", "ja": "和訳：{text}"}}
    ids = build("translation_fr_to_ja").preprocess("{text} Hi!")["input_ids"][0]
    assert tiny_tokenizer.decode(ids, skip_special_tokens=True) == "和訳：{text} Hi!"


@pytest.mark.parametrize(
    "task, settings, message",
    [
        ("translation_en_to_fr", {}, "`tgt_lang` must be one of en, ja, got 'fr'"),
        ("translation", {"tgt_lang": "fr"}, "`tgt_lang` must be one of en, ja, got 'fr'"),
        ("translation", {"src_lang": "ja", "tgt_lang": "ja"}, "must differ, got 'ja' for both"),
        ("translation", {"template": "Translate this"}, r"`template` must hold \{text\}"),
    ],
)
def test_a_language_that_cannot_be_is_named_when_the_pipeline_is_made(build, task, settings, message):
    with pytest.raises(ValueError, match=message):
        build(task, **settings)


def test_a_missing_language_is_named_with_those_known(model, tiny_tokenizer):
    pipe = pipeline("translation", model=model, tokenizer=tiny_tokenizer)
    with pytest.raises(ValueError, match="`tgt_lang` must be one of en, ja, got none"):
        pipe("Hi!")
    with pytest.raises(ValueError, match="must be one of en, ja, got none for the source 'fr'"):
        pipe("Hi!", src_lang="fr")
    with pytest.raises(ValueError, match="must be one of en, ja, got 'fr'"):
        pipe("Hi!", tgt_lang="fr")


def test_the_only_language_a_model_knows_need_not_be_named(model, tiny_tokenizer):
    model.config.task_specific_params = {"translation": {"ja": "和訳：{text}"}}
    pipe = pipeline("translation", model=model, tokenizer=tiny_tokenizer, max_new_tokens=6)
    assert pipe("Hi!") == pipe("Hi!", src_lang="en") == pipe("Hi!", tgt_lang="ja")


def test_a_summary_is_asked_for_with_the_instruction_of_the_model_or_the_caller(build, model, tiny_tokenizer):
    def asked(**settings):
        ids = build("summarization").preprocess("A long text.", **settings)["input_ids"][0]
        return tiny_tokenizer.decode(ids, skip_special_tokens=True)

    assert asked() == "A long text."
    assert asked(template="要約：{text}") == "要約：A long text."
    model.config.task_specific_params = {"summarization": {"template": "Summarize: {text}"}}
    assert asked() == "Summarize: A long text."
    model.config.task_specific_params = {"summarization": {"template": "Summarize"}}
    with pytest.raises(ValueError, match=r"`template` must hold \{text\}"):
        asked()


# What goes to `generate`.


def test_what_the_model_writes_streams_while_it_writes(build, tiny_tokenizer):
    streamer = TextIteratorStreamer(tiny_tokenizer, skip_special_tokens=True, timeout=30)
    (record,) = build("translation")(TEXTS[0], streamer=streamer)
    assert "".join(streamer).strip() == record["translation_text"] != ""


def test_generation_settings_come_from_the_call_the_constructor_and_the_model_in_that_order(build, model):
    def length(pipe, **settings):
        (record,) = pipe(TEXTS[0], return_tensors=True, **settings)
        # Without the token that every target starts with.
        return len(record["translation_token_ids"]) - 1

    model.generation_config.eos_token_id = None
    assert length(build("translation", max_new_tokens=None)) == DEFAULT_MAX_NEW_TOKENS
    beams = GenerationConfig(num_beams=2, decoder_start_token_id=1, pad_token_id=0)
    assert length(build("translation", max_new_tokens=None), generation_config=beams) == DEFAULT_MAX_NEW_TOKENS
    assert beams.max_new_tokens is None
    model.generation_config.max_new_tokens = 9
    assert length(build("translation", max_new_tokens=None)) == 9
    assert length(build("translation", max_new_tokens=4)) == 4
    assert length(build("translation", max_new_tokens=4), max_new_tokens=3) == 3


def test_ids_are_returned_in_place_of_text_when_asked_for(build, tiny_tokenizer):
    pipe = build("translation")
    (record,) = pipe(TEXTS[0], return_tensors=True)
    assert list(record) == ["translation_token_ids"] and isinstance(record["translation_token_ids"], torch.Tensor)
    text = tiny_tokenizer.decode(record["translation_token_ids"], skip_special_tokens=True).strip()
    assert pipe(TEXTS[0], return_text=True) == [{"translation_text": text}]


def test_an_answer_ends_at_a_stop_sequence(build):
    pipe = build("translation", max_new_tokens=20)
    (whole,) = pipe(TEXTS[0])
    text = whole["translation_text"]
    # Whole letters: elsewhere the bytes of a random answer make no characters.
    stop = re.search("[a-z]{2}", text).group()
    (cut,) = pipe(TEXTS[0], stop_sequence=stop)
    assert len(cut["translation_text"]) < len(text)
    assert stop in cut["translation_text"] and text.startswith(cut["translation_text"])


def test_scores_asked_for_do_not_get_into_the_records(build):
    pipe = build("translation")
    assert pipe(TEXTS, batch_size=2, return_dict_in_generate=True, output_scores=True) == pipe(TEXTS)


def test_an_unknown_setting_is_named(build):
    with pytest.raises(ValueError, match="num_beens"):
        build("translation")(TEXTS[0], num_beens=4)


# Long inputs.


def test_a_long_text_is_cut_as_kakehashi_generate_cuts_it_and_says_so(build, model, tiny_tokenizer, caplog):
    # The library keeps its loggers apart from the others; `caplog` listens at the root.
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    pipe, long = build("text2text-generation"), "I love cats. " * 100
    ids = pipe.preprocess(long)["input_ids"][0].tolist()
    logger.removeHandler(caplog.handler)
    assert len(ids) == model.config.max_position_embeddings and ids[-1] == tiny_tokenizer.eos_token_id
    assert "cut to the 128" in caplog.text
    expected = inference.generate_texts(model, tiny_tokenizer, [long], max_new_tokens=6)
    assert pipe([long]) == [{"generated_text": expected[0]}]


def test_a_long_text_is_left_whole_on_request(build, model):
    pipe, long = build("text2text-generation"), "I love cats. " * 100
    for truncation in (False, "do_not_truncate"):
        assert pipe.preprocess(long, truncation=truncation)["input_ids"].shape[1] > 128
    assert len(pipe(long, truncation=False)) == 1


# Errors.


@pytest.mark.parametrize(
    "inputs, message",
    [
        ("", "at least one character"),
        (["Hi!", "  "], "at least one character"),
        ("a\udc80", "character 1 is the lone U\\+DC80"),
        (3, "must be texts or conversations, got int: 3"),
        ({"text": "Hi!"}, "must be texts or conversations, got dict"),
        ([{"role": "judge", "content": "Hi!"}], "`role` of a message must be one of system, user, assistant"),
        ([{"role": "user", "content": None}], "at least one character"),
    ],
)
def test_what_is_no_text_is_refused(build, inputs, message):
    with pytest.raises(ValueError, match=message):
        build("text2text-generation")(inputs)


def test_a_model_that_does_not_write_targets_is_refused(build_tiny_model, tiny_tokenizer, tmp_path):
    with pytest.raises(ValueError, match='use the pipeline "text-generation"'):
        pipeline("translation", model=build_tiny_model(KakehashiForCausalLM), tokenizer=tiny_tokenizer)
    with pytest.raises(ValueError, match="got KakehashiForSequenceClassification"):
        model = build_tiny_model(KakehashiForSequenceClassification, num_labels=3)
        pipeline("summarization", model=model, tokenizer=tiny_tokenizer)


def test_a_folder_of_another_shape_is_not_taken_for_an_encoder_decoder(build_tiny_model, tiny_tokenizer, tmp_path):
    build_tiny_model(KakehashiForCausalLM).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="got KakehashiForCausalLM"):
        pipeline("text2text-generation", model=str(tmp_path))


def test_another_model_and_a_missing_tokenizer_are_named(model, tiny_tokenizer):
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 16}
    with pytest.raises(ValueError, match="is for kakehashi models, got T5ForConditionalGeneration"):
        pipeline(
            "translation", model=T5ForConditionalGeneration(T5Config(**sizes)), tokenizer=tiny_tokenizer, tgt_lang="ja"
        )
    with pytest.raises(ValueError, match="needs a `tokenizer`"):
        KakehashiTranslationPipeline(model=model, task="translation")
