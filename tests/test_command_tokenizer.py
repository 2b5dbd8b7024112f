import gzip
import json
import lzma
import stat

import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from kakehashi.commands import tokenizer as command

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


def size(number=400):
    return ["--vocab-size", number, "--output-dir"]


def invoke(*arguments):
    result = CliRunner().invoke(command.app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_both_columns_of_a_table_are_trained_on(trained):
    loaded = AutoTokenizer.from_pretrained(trained)
    assert len(loaded) == 400
    assert loaded.decode(loaded("I love 猫。")["input_ids"], skip_special_tokens=True) == "I love 猫。"
    vocabulary = {loaded.decode([index]) for index in range(400)}
    assert {"love"} <= {token.strip() for token in vocabulary}
    assert any("\u3041" <= token[0] <= "\u309f" for token in vocabulary if token)


def test_training_prints_size_and_characters_per_token_on_stdout(files, tmp_path):
    result = invoke("train", files / "lines.txt", *size(380), tmp_path / "new" / "tokenizer")
    assert result.exit_code == 0
    assert "vocabulary size       380\n" in result.stdout
    assert "characters per token  " in result.stdout
    assert "(on 12 of the training texts)" in result.stdout
    assert "12 texts" in result.stderr


def test_files_of_several_kinds_are_read_together(files):
    texts = list(
        command.iterate_training_texts(
            [str(files / "lines.txt"), str(files / "pairs.tsv.xz"), str(files / "lines.txt")], ["ja"]
        )
    )
    assert sorted(texts) == sorted(ENGLISH * 8 + JAPANESE * 4)
    assert len(list(command.iterate_training_texts([str(files / "rows.jsonl.gz")], ["text"]))) == 12


def test_larger_files_are_thinned_out_on_request(files):
    names = [str(files / "lines.txt"), str(files / "rows.jsonl.gz")]
    texts = list(command.iterate_training_texts(names, ["text"], balance=0.0))
    assert sum(text in ENGLISH for text in texts) == 12
    assert 0 < sum(text in JAPANESE for text in texts) < 12
    with pytest.raises(ValueError, match="must be between 0 and 1, got -1"):
        command.iterate_training_texts(names, ["text"], balance=-1)


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
    with pytest.raises(ValueError, match="`--output-dir` must be new or empty"):
        invoke("train", files / "lines.txt", *size(380), empty)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="`--output-dir` must be a folder"):
        invoke("train", files / "lines.txt", *size(380), tmp_path / "file")


def test_a_failed_training_leaves_no_folder(files, tmp_path):
    with pytest.raises(ValueError, match="`vocab_size` of 50,000 cannot be reached"):
        invoke("train", files / "lines.txt", *size(50_000), tmp_path / "tokenizer")
    assert list(tmp_path.iterdir()) == []


def test_a_smaller_vocabulary_is_accepted_on_request(files, tmp_path):
    result = invoke("train", files / "lines.txt", "--allow-smaller", *size(50_000), tmp_path / "tokenizer")
    assert result.exit_code == 0
    assert len(AutoTokenizer.from_pretrained(tmp_path / "tokenizer")) < 500


def test_a_wrong_column_lists_the_present_ones_before_anything_is_trained(files, tmp_path):
    with pytest.raises(ValueError, match="no column `fr`; the columns present are `id`, `en`, `ja`"):
        invoke("train", files / "lines.txt", files / "pairs.tsv.xz", "--text-column", "fr", *size(), tmp_path / "a")
    with pytest.raises(ValueError, match=r"absent\.txt"):
        invoke("train", files / "lines.txt", files / "absent.txt", *size(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_show_prints_each_token_with_id_and_bytes(trained):
    result = invoke("show", "I love <s>🐈.", "--tokenizer", trained)
    loaded = AutoTokenizer.from_pretrained(trained)
    ids = loaded("I love <s>🐈.", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    lines = result.stdout.splitlines()
    assert [int(line.split()[0]) for line in lines[1 : 1 + len(ids)]] == ids
    shown = "".join(line.rstrip().split("  ")[-1] for line in lines[1 : 1 + len(ids)]).replace(" ", "")
    assert bytes.fromhex(shown).decode("utf-8") == "I love <s>🐈."
    assert lines[-1] == f"{len(ids)} tokens, 12 characters, 15 bytes"


def test_count_prints_one_row_for_each_tokenizer(files, trained):
    result = invoke("count", files / "lines.txt", "--tokenizer", trained, "--compare", trained)
    rows = result.stdout.splitlines()[1:]
    assert len(rows) == 2
    assert f"{sum(map(len, ENGLISH)) * 4:,}" in rows[0]


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be a folder with a tokenizer\.json"):
        invoke("show", "text", "--tokenizer", tmp_path)
