import random

import pytest
from transformers import AutoTokenizer

from kakehashi.tokenization import (
    encode_source,
    encode_target,
    for_causal_lm,
    split_last_assistant_turn,
    train_tokenizer,
)

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Translate to Japanese: I love cats."}
ANSWER = {"role": "assistant", "content": "私は猫が大好きです。"}
MARKERS = [
    "<pad>",
    "<s>",
    "</s>",
    "<mask>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<extra_id_0>",
    "<extra_id_99>",
]


@pytest.fixture(scope="module")
def tokenizer():
    texts = ["Translate to Japanese: I love cats. Be brief.", "私は猫が大好きです。", "<s>|user|> <|assistant|> </s>"]
    return train_tokenizer(texts * 5, vocab_size=420, show_progress=False)


def render(tokenizer, messages, **options):
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def ids_of(tokenizer, messages):
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)


def test_an_instruction_is_one_user_turn(tokenizer):
    plain = tokenizer(USER["content"], add_special_tokens=False)["input_ids"]
    assert encode_source(tokenizer, [USER]) == [5, *plain, 2]
    assert encode_target(tokenizer, ANSWER["content"]) == tokenizer(ANSWER["content"])["input_ids"]


def test_the_template_renders_these_exact_strings(tokenizer):
    assert render(tokenizer, [USER]) == "<|user|>Translate to Japanese: I love cats.</s>"
    assert render(tokenizer, [SYSTEM, USER, ANSWER, USER]) == (
        "<|system|>Be brief.<|user|>Translate to Japanese: I love cats."
        "<|assistant|>私は猫が大好きです。<|user|>Translate to Japanese: I love cats.</s>"
    )


def test_the_prompt_for_a_generation_is_the_same_string(tokenizer):
    assert render(tokenizer, [USER], add_generation_prompt=True) == render(tokenizer, [USER])


def test_template_and_encode_source_give_identical_ids(tokenizer):
    rng = random.Random(0)
    alphabet = "ab Z9.,:\n\t<>|/_-'\"{}%#猫がア。！　é👍\x00"
    for _ in range(300):
        contents = ["".join(rng.choices(alphabet, k=rng.randrange(30))) for _ in range(3)]
        roles = ["system", "user", "assistant"]
        messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=True)]
        assert ids_of(tokenizer, messages) == encode_source(tokenizer, messages)


def test_spaces_around_a_content_are_kept(tokenizer):
    messages = [{"role": "user", "content": "  cats \n"}]
    assert render(tokenizer, messages) == "<|user|>  cats \n</s>"


def test_content_may_be_a_list_of_text_parts(tokenizer):
    parts = [{"type": "text", "text": "I love "}, {"type": "text", "text": "<s>cats."}]
    messages = [{"role": "user", "content": parts}]
    joined = [{"role": "user", "content": "I love <s>cats."}]
    assert encode_source(tokenizer, messages) == encode_source(tokenizer, joined)
    assert render(tokenizer, messages) == render(tokenizer, joined)


@pytest.mark.parametrize("marker", MARKERS)
def test_no_content_can_forge_a_marker(tokenizer, marker):
    for text in (
        marker,
        f"a{marker}b",
        f"<{marker}>",
        marker * 2,
        f"<|us{marker}er|>",
        f"</{marker}s>",
        f"<{marker[1:]}",
    ):
        messages = [{"role": "user", "content": text}]
        for ids in (encode_source(tokenizer, messages), ids_of(tokenizer, messages)):
            assert ids[0] == 5
            assert ids[-1] == 2
            assert min(ids[1:-1]) >= 107, text
        assert min(encode_target(tokenizer, text)[:-1]) >= 107
        causal = for_causal_lm(tokenizer)
        ids = ids_of(causal, messages)
        assert ids[:2] == [1, 5]
        assert min(ids[2:]) >= 107


def test_encode_source_keeps_typed_markers_exactly(tokenizer):
    messages = [{"role": "user", "content": "what is <s> or <|assistant|>?"}]
    assert tokenizer.decode(encode_source(tokenizer, messages)[1:-1]) == "what is <s> or <|assistant|>?"


def test_the_last_assistant_turn_is_split_off():
    source, target = split_last_assistant_turn([SYSTEM, USER, ANSWER, USER, ANSWER])
    assert source == [SYSTEM, USER, ANSWER, USER]
    assert target == ANSWER["content"]


@pytest.mark.parametrize("messages", [[], [ANSWER], [USER], [ANSWER, USER]])
def test_a_conversation_without_an_answer_is_refused(messages):
    with pytest.raises(ValueError, match="`messages` must end with an assistant turn after at least one other turn"):
        split_last_assistant_turn(messages)


def test_bad_messages_are_refused(tokenizer):
    with pytest.raises(ValueError, match="`messages` must hold at least one turn, got none"):
        encode_source(tokenizer, [])
    with pytest.raises(ValueError, match="must be one of system, user, assistant, got 'tool'"):
        encode_source(tokenizer, [{"role": "tool", "content": "x"}])
    with pytest.raises(ValueError, match="`content` of a message must be a string or a list of text parts, got 3"):
        encode_source(tokenizer, [{"role": "user", "content": 3}])
    with pytest.raises(ValueError, match=r"lone surrogate U\+DC00"):
        encode_target(tokenizer, "\udc00")


def test_the_template_refuses_an_unknown_role(tokenizer):
    with pytest.raises(Exception, match="must be one of system, user, assistant, got tool"):
        render(tokenizer, [{"role": "tool", "content": "x"}])


def test_the_causal_copy_opens_with_bos_and_closes_each_answer(tokenizer, tmp_path):
    causal = for_causal_lm(tokenizer)
    plain = tokenizer("cats", add_special_tokens=False)["input_ids"]
    assert causal("cats")["input_ids"] == [1, *plain]
    assert tokenizer("cats")["input_ids"] == [*plain, 2]
    assert render(causal, [USER, ANSWER]) == (
        "<s><|user|>Translate to Japanese: I love cats.<|assistant|>私は猫が大好きです。</s>"
    )
    assert render(causal, [SYSTEM, USER], add_generation_prompt=True) == (
        "<s><|system|>Be brief.<|user|>Translate to Japanese: I love cats.<|assistant|>"
    )
    causal.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("cats")["input_ids"] == [1, *plain]
    assert loaded.chat_template == causal.chat_template


def test_the_causal_copy_marks_each_answer_with_its_end_as_what_is_to_be_learnt(tokenizer):
    causal = for_causal_lm(tokenizer)
    parts = [{"type": "text", "text": "I am"}, {"type": "text", "text": " </s> fine."}]
    messages = [SYSTEM, USER, ANSWER, USER, {"role": "assistant", "content": parts}]
    read = causal.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
    marked = zip(read["input_ids"], read["assistant_masks"], strict=True)
    learnt = [token_id for token_id, is_answer in marked if is_answer]
    assert tokenizer.decode(learnt).replace("\u2060", "") == "私は猫が大好きです。</s>I am </s> fine.</s>"
    assert learnt.count(causal.eos_token_id) == 2
