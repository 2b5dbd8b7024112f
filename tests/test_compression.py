from kakehashi.tokenization import train_tokenizer
from kakehashi.tokenization.compression import Compression, measure_compression


def test_characters_bytes_and_tokens_are_counted_over_all_texts():
    tokenizer = train_tokenizer(["猫 cat"] * 2, vocab_size=363, show_progress=False)
    # Without merges each byte is a token.
    measured = measure_compression(tokenizer, (text for text in ["猫", "cat", "<s>"] * 1000))
    assert measured == Compression(num_texts=3000, num_characters=7000, num_bytes=9000, num_tokens=9000)
    assert measured.bytes_per_token == 1.0
    assert measured.characters_per_token == 7 / 9


def test_nothing_to_count_gives_zeros():
    tokenizer = train_tokenizer(["cat"], vocab_size=363, show_progress=False)
    empty = measure_compression(tokenizer, [])
    assert empty == Compression()
    assert (empty.characters_per_token, empty.bytes_per_token) == (0.0, 0.0)


def test_counts_add_up():
    assert Compression(1, 2, 3, 4) + Compression(10, 20, 30, 40) == Compression(11, 22, 33, 44)
