import gzip
import json
import lzma
import stat

import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from kakehashi.commands import tokenizer as command
from kakehashi.commands.texts import iterate_training_texts

ENGLISH = ["I love cats.", 'She said "no".', "They don't love dogs, and 12 cats sleep."]
JAPANESE = ["私は猫が大好きです。", "彼女は「いいえ」と言いました。", "犬が好きではありません。"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    rows = [f"{number}\t{en}\t{ja}" for number, (en, ja) in enumerate(zip(ENGLISH, JAPANESE, strict=True))]
    with lzma.open(folder / "pairs.tsv.xz", "wt", encoding="utf-8") as stream:
        stream.write("\n".join(["id\ten\tja", *rows * 4]) + "\n")
    (folder / "lines.txt").write_text("\n".join(ENGLISH * 4) + "\n", "utf-8")
    with gzip.open(folder / "rows.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"text": text}) + "\n" for text in JAPANESE * 4)
    return folder


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "tokenizer"
    invoke("train", files / "pairs.tsv.xz", "--text-column", "en", "--text-column", "ja", *size(), output)
    return output


def size(number=448):
    return ["--balance", "1", "--vocab-size", number, "--output-dir"]


def invoke(*arguments):
    result = CliRunner().invoke(command.app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_both_columns_of_a_table_are_trained_on(trained):
    loaded = AutoTokenizer.from_pretrained(trained)
    assert len(loaded) == 448
    assert loaded.decode(loaded("I love 猫。")["input_ids"], skip_special_tokens=True) == "I love 猫。"
    vocabulary = {loaded.decode([index]) for index in range(448)}
    assert {"love"} <= {token.strip() for token in vocabulary}
    assert any("\u3041" <= token[0] <= "\u309f" for token in vocabulary if token)


def test_training_prints_size_and_characters_per_token_on_stdout(files, tmp_path):
    result = invoke("train", files / "lines.txt", *size(380), tmp_path / "new" / "tokenizer")
    assert result.exit_code == 0
    assert "vocabulary size       384\n" in result.stdout
    assert "characters per token  " in result.stdout
    assert "(on 12 of the training texts)" in result.stdout
    assert "12 texts" in result.stderr


def test_files_of_several_kinds_are_read_together(files):
    texts = list(
        iterate_training_texts(
            [str(files / "lines.txt"), str(files / "pairs.tsv.xz"), str(files / "lines.txt")], ["ja"]
        )
    )
    assert sorted(texts) == sorted(ENGLISH * 8 + JAPANESE * 4)
    assert len(list(iterate_training_texts([str(files / "rows.jsonl.gz")], ["text"]))) == 12


def test_larger_files_are_thinned_out_on_request(files):
    names = [str(files / "lines.txt"), str(files / "rows.jsonl.gz")]
    texts = list(iterate_training_texts(names, ["text"], balance=0.0))
    assert sum(text in ENGLISH for text in texts) == 12
    assert 0 < sum(text in JAPANESE for text in texts) < 12
    with pytest.raises(ValueError, match="must be between 0 and 1, got -1"):
        iterate_training_texts(names, ["text"], balance=-1)


def test_a_saved_folder_has_the_usual_permissions_and_nothing_is_left_beside_it(trained):
    assert stat.S_IMODE(trained.stat().st_mode) & 0o500 == 0o500
    usual = trained.parent / "usual"
    usual.mkdir()
    assert trained.stat().st_mode == usual.stat().st_mode
    usual.rmdir()
    assert [path.name for path in trained.parent.iterdir()] == ["tokenizer"]


def test_an_empty_output_folder_is_used_and_a_full_one_refused(files, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    invoke("train", files / "lines.txt", *size(380), empty)
    assert (empty / "tokenizer.json").is_file()
    with pytest.raises(ValueError, match="`output_dir` must be empty or new"):
        invoke("train", files / "lines.txt", *size(380), empty)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="`output_dir` must be a folder"):
        invoke("train", files / "lines.txt", *size(380), tmp_path / "file")


def test_a_failed_training_leaves_no_folder(files, tmp_path):
    with pytest.raises(ValueError, match="`vocab_size` of 50,048 cannot be reached"):
        invoke("train", files / "lines.txt", *size(50_000), tmp_path / "tokenizer")
    assert list(tmp_path.iterdir()) == []


def test_a_smaller_vocabulary_is_accepted_on_request(files, tmp_path):
    result = invoke("train", files / "lines.txt", "--allow-smaller", *size(50_000), tmp_path / "tokenizer")
    assert result.exit_code == 0
    size_reached = len(AutoTokenizer.from_pretrained(tmp_path / "tokenizer"))
    assert size_reached < 512 and size_reached % 64 == 0


def test_a_wrong_column_lists_the_present_ones_before_anything_is_trained(files, tmp_path):
    with pytest.raises(ValueError, match="no column `fr`; the columns present are `id`, `en`, `ja`"):
        invoke("train", files / "lines.txt", files / "pairs.tsv.xz", "--text-column", "fr", *size(), tmp_path / "a")
    with pytest.raises(ValueError, match=r"absent\.txt"):
        invoke("train", files / "lines.txt", files / "absent.txt", *size(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_special_tokens_of_ones_own_get_ids_and_one_twice_is_refused(files, tmp_path):
    invoke("train", files / "lines.txt", "--special-token", "<|tool|>", *size(384), tmp_path / "a")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert loaded.convert_tokens_to_ids("<|tool|>") == 107
    assert loaded("<|tool|>")["input_ids"] == [107, 2]
    for tokens in (["<|tool|>", "<|tool|>"], ["<s>"], ["<extra_id_7>"]):
        options = [part for token in tokens for part in ("--special-token", token)]
        with pytest.raises(ValueError, match="special tokens must differ from each other"):
            invoke("train", files / "lines.txt", *options, *size(384), tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_vocabulary_smaller_than_bytes_and_special_tokens_is_refused(files, tmp_path):
    with pytest.raises(ValueError, match=r"`vocab_size` must be at least 363 .*, got 256"):
        invoke("train", files / "lines.txt", *size(256), tmp_path / "a")


def test_files_without_text_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n", "utf-8")
    with pytest.raises(ValueError, match=r"empty\.txt` is empty"):
        invoke("train", tmp_path / "empty.txt", *size(), tmp_path / "a")


def test_everything_transformers_js_needs_is_in_two_files(trained):
    assert sorted(path.name for path in trained.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    config = json.loads((trained / "tokenizer_config.json").read_text("utf-8"))
    assert config["chat_template"] == AutoTokenizer.from_pretrained(trained).chat_template
    assert (config["pad_token"], config["bos_token"], config["eos_token"]) == ("<pad>", "<s>", "</s>")
    assert (config["mask_token"], config["clean_up_tokenization_spaces"]) == ("<mask>", False)
    content = json.loads((trained / "tokenizer.json").read_text("utf-8"))
    assert content["decoder"]["type"] == "ByteLevel"
    assert [part["type"] for part in content["pre_tokenizer"]["pretokenizers"]] == ["Split", "ByteLevel"]
    assert all({"id", "content", "special", "normalized"} <= token.keys() for token in content["added_tokens"])
