import pytest

from kakehashi.tokenization import train_tokenizer
from kakehashi.tokenization.special_tokens import (
    ROLE_TOKENS,
    list_special_tokens,
    role_id,
    sentinel_ids,
    sentinel_token,
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["I love cats."] * 2, vocab_size=266, num_sentinels=3, show_progress=False)


def test_the_ids_follow_the_list_and_bytes_come_next(tokenizer):
    expected = ["<pad>", "<s>", "</s>", "<mask>", "<|system|>", "<|user|>", "<|assistant|>"]
    expected += ["<extra_id_0>", "<extra_id_1>", "<extra_id_2>"]
    assert list_special_tokens(3) == expected
    assert tokenizer.convert_ids_to_tokens(list(range(10))) == expected
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.mask_token_id) == (
        0,
        1,
        2,
        3,
    )
    assert len(tokenizer) == 10 + 256
    assert all(len(tokenizer.convert_ids_to_tokens(index)) == 1 for index in range(10, 266))


def test_there_is_no_unknown_token(tokenizer):
    assert tokenizer.unk_token is None
    assert tokenizer.backend_tokenizer.model.unk_token is None


def test_sentinels_are_found_in_order(tokenizer):
    assert sentinel_ids(tokenizer) == [7, 8, 9]
    assert sentinel_token(12) == "<extra_id_12>"


def test_a_negative_sentinel_is_refused():
    with pytest.raises(ValueError, match="`index` of a sentinel must be 0 or more, got -1"):
        sentinel_token(-1)
    with pytest.raises(ValueError, match="`num_sentinels` must be 0 or more, got -2"):
        list_special_tokens(-2)


def test_roles_have_ids_and_an_unknown_role_is_refused(tokenizer):
    assert [role_id(tokenizer, role) for role in ROLE_TOKENS] == [4, 5, 6]
    with pytest.raises(ValueError, match="must be one of system, user, assistant, got 'tool'"):
        role_id(tokenizer, "tool")


def test_a_tokenizer_without_roles_is_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    foreign = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(ValueError, match=r"`tokenizer` must know the role token <\|user\|>"):
        role_id(foreign, "user")
