"""`kakehashi tokenizer count`, `show`, `report` and `extend`, as they are called."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from typer.testing import CliRunner

from kakehashi.cli import main
from kakehashi.commands import tokenizer as command
from kakehashi.tokenization.train import save_tokenizer


@pytest.fixture(scope="module")
def folder(tiny_tokenizer, tmp_path_factory):
    saved = tmp_path_factory.mktemp("saved") / "tokenizer"
    save_tokenizer(tiny_tokenizer, saved)
    return saved


@pytest.fixture
def pairs(tiny_sentences, tmp_path):
    file = tmp_path / "pairs.tsv"
    rows = [f"{en}\t{ja}" for en, ja in zip(tiny_sentences[:5], tiny_sentences[5:], strict=True)]
    file.write_text("\n".join(["en\tja", *rows]) + "\n", "utf-8")
    return file


def invoke(*arguments, stdin=None):
    result = CliRunner().invoke(command.app, [str(argument) for argument in arguments], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_count_tabulates_each_language_and_tokenizer(folder, pairs, tiny_tokenizer, tiny_sentences, tmp_path):
    save_tokenizer(tiny_tokenizer, tmp_path / "peer")
    named = ["--tokenizer", folder, "--compare", tmp_path / "peer", "--text-column", "en", "--text-column", "ja"]
    lines = invoke("count", pairs, *named, "--examples", 1).stdout.splitlines()
    assert lines[0].split()[:3] == ["language", "tokenizer", "texts"]
    assert [line.split()[0] for line in lines[1:7]] == ["Latin", "Latin", "Japanese", "Japanese", "all", "all"]
    tokens = sum(map(len, tiny_tokenizer(tiny_sentences[:5], add_special_tokens=False)["input_ids"]))
    assert lines[1].split()[2:5] == ["5", str(sum(map(len, tiny_sentences[:5]))), str(tokens)]
    assert lines[2].split()[-1] == "+0.0%"
    assert [line.split()[:2] for line in lines[9:]] == [
        ["Latin", "most"],
        ["Latin", "least"],
        ["Japanese", "most"],
        ["Japanese", "least"],
    ]
    assert "characters/token" in lines[8]


@pytest.mark.parametrize("files", [[], ["-"]])
def test_count_reads_lines_from_stdin(folder, files):
    result = invoke(
        "count", *files, "--tokenizer", folder, "--examples", 0, stdin="I love cats.\n\n[b]no markup[/b]\n"
    )
    assert result.stdout.splitlines()[1].split()[:4] == ["Latin", str(folder), "2", "28"]


def test_count_of_nothing_and_of_a_wrong_column_is_refused(folder, pairs):
    with pytest.raises(ValueError, match="must hold at least one text to count, got none"):
        invoke("count", "--tokenizer", folder, stdin="")
    with pytest.raises(ValueError, match="no column `fr`; the columns present are `en`, `ja`"):
        invoke("count", pairs, "--tokenizer", folder, "--text-column", "fr")
    with pytest.raises(ValueError, match="stdin must be UTF-8, but line 2 is not"):
        invoke("count", "--tokenizer", folder, stdin=b"cat\n\xff\n")


def test_show_prints_each_token_with_id_and_bytes(folder, tiny_tokenizer):
    text = "I love <s>🐈."
    ids = tiny_tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    lines = invoke("show", text, "--tokenizer", folder).stdout.splitlines()
    assert [int(line.split()[0]) for line in lines[1 : 1 + len(ids)]] == ids
    shown = "".join(line.rstrip().split("  ")[-1] for line in lines[1 : 1 + len(ids)]).replace(" ", "")
    assert bytes.fromhex(shown).decode("utf-8") == text
    assert lines[-1] == f"{len(ids)} tokens, 12 characters, 15 bytes"


def test_show_merges_leads_from_bytes_to_words(folder):
    lines = invoke("show", "cats 🐈 [b]", "--tokenizer", folder, "--merges").stdout.splitlines()
    start = (
        lines.index("cats (one token)")
        if "cats (one token)" in lines
        else next(index for index, line in enumerate(lines) if line.startswith("cats ("))
    )
    assert lines[start + 1].split() == ["merge", "joins", "to", "now"]
    assert lines[start + 2].split() == ["bytes", "c|a|t|s"]
    assert "+" in lines[start + 3] and lines[start + 3].split()[0].isdigit()
    assert any(" 🐈 (stays in " in line for line in lines)


def test_show_refuses_a_lone_surrogate_in_one_line(folder, capsys):
    assert main(["tokenizer", "show", "a\udcff", "--tokenizer", str(folder)]) == 2
    assert "`TEXT` must hold Unicode scalar values only, but character 1" in capsys.readouterr().err


def test_report_writes_one_page_and_replaces_it_only_on_request(folder, pairs, tmp_path):
    page = tmp_path / "new" / "page.html"
    options = ["--texts", pairs, "--text-column", "ja", "--example", "猫が好き"]
    assert f"saved in  {page}" in invoke("report", folder, "--output", page, *options).stdout
    assert "猫が好き" in page.read_text("utf-8")
    with pytest.raises(ValueError, match="`--output` must be a new file"):
        invoke("report", folder, "--output", page)
    with pytest.raises(ValueError, match="`--output` must be a file in a folder that can be written to"):
        invoke("report", folder, "--output", page.parent, "--overwrite")
    with pytest.raises(ValueError, match="`--output` must be another file than those that are read"):
        invoke("report", folder, "--texts", pairs, "--output", pairs, "--overwrite")
    invoke("report", folder, "--output", page, "--overwrite")
    assert "猫が好き" not in page.read_text("utf-8")
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_extend_saves_tokenizer_and_model_that_belong_together(tiny_model_dir, tiny_tokenizer, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("架け橋\r\n encoder\n\n", "utf-8")
    output = tmp_path / "extended"
    named = ["--tokens", "です", "--tokens-file", words, "--model", tiny_model_dir, "--output-dir", output]
    result = invoke("extend", tiny_model_dir, *named)
    assert "new entries           2\n" in result.stdout
    assert "one token already     です\n" in result.stdout
    assert "vocabulary size       448 (it was 384)\n" in result.stdout
    tokenizer, model = AutoTokenizer.from_pretrained(output), AutoModelForSeq2SeqLM.from_pretrained(output)
    assert tokenizer("架け橋 encoder")["input_ids"] == [384, 385, 2]
    assert model.config.vocab_size == len(tokenizer) == 448
    before = AutoModelForSeq2SeqLM.from_pretrained(tiny_model_dir)
    torch.testing.assert_close(model.lm_head.weight[:384], before.lm_head.weight)


def test_extend_without_words_or_into_a_full_folder_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="must name at least one word, got none"):
        invoke("extend", folder, "--output-dir", tmp_path / "a")
    with pytest.raises(ValueError, match="`output_dir` must be empty or new"):
        invoke("extend", folder, "--tokens", "x", "--output-dir", folder)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match="`--tokens-file` must be UTF-8 text"):
        invoke("extend", folder, "--tokens-file", tmp_path / "bad.txt", "--output-dir", tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.txt"]
