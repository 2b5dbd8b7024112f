import bz2
import gzip
import lzma
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from kakehashi.training import documents
from kakehashi.training.documents import (
    is_unreadable,
    iterate_texts,
    load_rows,
    readable_errors,
    require_columns,
    require_unread_file,
)

COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, ".zst": zstandard.compress}
FILES = {
    "rows.txt": "猫が好き。\n  two spaces \n",
    "rows.jsonl": '{"text": "猫が好き。"}\n{"text": "  two spaces "}\n',
    "rows.json": '[{"text": "猫が好き。"},\n {"text": "  two spaces "}]\n',
    "rows.csv": 'id,text\n1,猫が好き。\n2,"  two spaces "\n',
    "rows.tsv": "id\ttext\n1\t猫が好き。\n2\t  two spaces \n",
}


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def refusal(paths, **options):
    with pytest.raises(ValueError) as caught:
        load_rows(paths, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", FILES)
def test_every_format_and_compression_gives_the_same_texts_streamed_or_not(tmp_path, name, compression):
    path = write(tmp_path, name + compression, COMPRESS[compression](FILES[name].encode()))
    expected = ["猫が好き。", "  two spaces "]
    assert list(load_rows(path)["text"]) == expected
    assert [row["text"] for row in load_rows(path, streaming=True)] == expected
    assert list(iterate_texts(path)) == expected


def test_parquet_is_read_streamed_or_not(tmp_path):
    path = str(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"text": ["one", "two"], "label": [0, 1]}), path)
    assert load_rows(path)[:] == {"text": ["one", "two"], "label": [0, 1]}
    assert list(iterate_texts(path)) == ["one", "two"]


def test_words_and_numbers_in_tables_stay_the_text_they_are(tmp_path):
    values = ["null", "NA", "007", "1.50", "True", "2020-01-01", '"Hi', "a, b"]
    tsv = write(tmp_path, "t.tsv", "text\tx\n" + "".join(f"{value}\t0\n" for value in values))
    assert list(load_rows(tsv)["text"]) == values
    csv = write(tmp_path, "t.csv", "text,x\n" + "".join('"{}",0\n'.format(v.replace('"', '""')) for v in values))
    assert list(load_rows(csv)["text"]) == values


def test_a_text_line_ends_at_line_feeds_alone_and_blank_lines_are_left_out(tmp_path):
    path = write(tmp_path, "t.txt", "\ufeffone\u2028still\x0bone\r\n\r\n \u3000\n two \n")
    expected = ["one\u2028still\x0bone", " two "]
    assert list(load_rows(path)["text"]) == expected
    assert list(iterate_texts(path)) == expected


def test_files_folders_and_globs_are_read_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b", "a", "deep/c"):
        write(tmp_path / "corpus", f"{name}.txt", name)
    write(tmp_path / "corpus", ".hidden/d.txt", "d")
    write(tmp_path / "corpus", "README.md", "no data")
    assert list(iterate_texts("corpus")) == ["a", "b", "deep/c"]
    assert list(iterate_texts("corpus/*.txt")) == ["a", "b"]
    assert list(iterate_texts(["corpus/b.txt", "corpus/a.txt"])) == ["b", "a"]
    assert list(load_rows("corpus/**/*.txt")["text"]) == ["a", "b", "deep/c"]


def test_brackets_in_a_file_name_are_no_pattern(tmp_path):
    path = write(tmp_path, "a[1].txt", "one\n")
    write(tmp_path, "a1.txt", "other\n")
    assert list(load_rows(path)["text"]) == ["one"]


def test_a_changed_file_is_read_again(tmp_path):
    path = write(tmp_path, "t.txt", "one\n")
    assert list(load_rows(path)["text"]) == ["one"]
    write(tmp_path, "t.txt", "another\n")
    assert list(load_rows(path)["text"]) == ["another"]


def test_a_missing_file_is_named_without_asking_the_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(documents, "load_dataset", None)
    for name in ("nowhere.txt", "corpus/nowhere.txt", "corpus/nowhere.tsv.xz", "a/b/c", "corpus/*.txt"):
        assert f"`{name}` does not exist" in refusal(name)


def test_a_hub_id_is_loaded_with_its_configuration_and_split(monkeypatch):
    calls = []
    rows = datasets.Dataset.from_dict({"text": ["one"]})
    monkeypatch.setattr(documents, "load_dataset", lambda *args, **options: calls.append((args, options)) or rows)
    assert load_rows("owner/name", split="validation") is rows
    assert load_rows("owner/name:ja", streaming=True) is rows
    assert calls == [
        (("owner/name", None), {"split": "validation", "streaming": False}),
        (("owner/name", "ja"), {"split": "train", "streaming": True}),
    ]


def test_a_hub_id_that_cannot_be_loaded_gives_one_readable_error(monkeypatch):
    def fail(*args, **options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(documents, "load_dataset", fail)
    assert refusal("owner/name").startswith("`owner/name` is neither a local file or folder nor a Hub data set")
    assert "must be the only path" in refusal(["owner/name", "owner/other"])


@pytest.mark.parametrize("name", ["t.txt", "t.jsonl", "t.csv", "t.tsv", "t.parquet", "t.txt.gz"])
def test_an_empty_file_is_refused(tmp_path, name):
    path = write(tmp_path, name, gzip.compress(b"") if name.endswith(".gz") else b"")
    assert refusal(path) == f"`{path}` is empty."


def test_documents_without_any_text_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Column `text` of .* holds no text"):
        list(iterate_texts(write(tmp_path, "t.jsonl", '{"text": " "}\n{"text": null}\n')))


def test_a_file_without_rows_is_refused(tmp_path):
    for name, content in {"a.tsv": "en\tja\n", "b.json": "[]", "c.txt": "\n \n"}.items():
        assert refusal(write(tmp_path, name, content)).endswith(("has no rows.", "is empty."))


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("t.txt", b"one\n\xff\xfe\n", 2),
        ("t.jsonl", b'{"text": "one"}\n{"text": "\xff"}\n', 2),
        ("t.tsv", b"text\tja\none\ttwo\n\xff\tx\n", 3),
        ("t.csv", b"en,\xff\none,two\n", 1),
        ("t.txt", "猫\n".encode("cp932"), 1),
    ],
)
def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path, name, content, line):
    path = write(tmp_path, name, content)
    assert refusal(path).startswith(f"`{path}` must be UTF-8 text, but line {line} is not")
    with pytest.raises(ValueError, match=f"line {line} is not"):
        list(iterate_texts(path))


def test_a_binary_file_is_refused(tmp_path):
    path = write(tmp_path, "t.txt", b"one\n\x00\x01\x02\n")
    assert refusal(path) == f"`{path}` must be UTF-8 text, but line 2 holds a zero byte: it is a binary file."
    assert "cannot be read" in refusal(write(tmp_path, "t.parquet", b"this is not parquet"))


def test_a_damaged_archive_is_refused(tmp_path):
    whole = lzma.compress(("line of text\n" * 5000).encode())
    for name, content in {"a.txt.xz": b"no archive", "b.txt.xz": whole[: len(whole) // 2]}.items():
        path = write(tmp_path, name, content)
        assert refusal(path).startswith(f"`{path}` cannot be decompressed")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "one"}\n{"text": "two"\n{"text": "three"}\n', "is not valid JSON"),
        ('{"text": "one"}\nplain words\n', "line 2 is not valid JSON"),
        ('[{"text": "one"},\n {"text": }]\n', "line 2 is not valid JSON"),
        ('"one"\n"two"\n', "line 1 must be a JSON object"),
    ],
)
def test_a_line_that_is_not_json_is_named(tmp_path, content, message):
    assert message in refusal(write(tmp_path, "t.jsonl", content))


def test_a_table_row_with_too_many_fields_is_named(tmp_path):
    assert "line 2 has more fields than the 2" in refusal(write(tmp_path, "a.tsv", "en\tja\n1\t2\t3\n"))
    message = refusal(write(tmp_path, "b.tsv", "en\tja\n1\t2\n1\t2\t3\n"))
    assert "b.tsv" in message and "line 3" in message


@pytest.mark.parametrize(("name", "compress"), [("t.tsv", bytes), ("t.tsv.gz", gzip.compress)])
def test_a_carriage_return_within_a_line_of_a_table_is_refused_with_its_line(tmp_path, monkeypatch, name, compress):
    monkeypatch.setattr(documents, "_SCANNED_BYTES", 8)
    whole = "text\tlabel\r\none\tx\r\r\n\r\ntwo\ty\r"
    assert load_rows(write(tmp_path, name, compress(whole.encode())))[:] == {
        "text": ["one", "two"],
        "label": ["x", "y"],
    }
    for line in ("on\re\tx", "o\rne\tx", "one\r\tx", "one\t\rx"):
        path = write(tmp_path, name, compress(f"text\tlabel\r\n{line}\n".encode()))
        message = f"`{path}` must have one row on each line, but line 2 holds a carriage return"
        assert refusal(path).startswith(message)


@pytest.mark.parametrize("streaming", [False, True])
def test_files_of_objects_with_other_columns_than_the_first_are_refused_with_both(tmp_path, streaming):
    paths = [
        write(tmp_path, "a.jsonl", '{"instruction": "a", "output": "b"}\n'),
        write(tmp_path, "b.jsonl", '{"instruction": "a", "input": "c", "output": "b"}\n'),
    ]
    with pytest.raises(ValueError, match="must have the same columns") as caught, readable_errors(paths):
        list(load_rows(paths, streaming=streaming))
    assert str(caught.value) == (
        f"Rows read together must have the same columns, but in `{paths[0]}` and 1 more the first have `instruction`, "
        "`output` and later ones `instruction`, `input`, `output`."
    )
    with pytest.raises(Exception) as caught:
        list(load_rows(paths, streaming=True))
    assert is_unreadable(caught.value)


@pytest.mark.parametrize("source", ["rows.txt", ".", "*.txt", "link.txt"])
def test_a_file_that_is_read_is_not_written_by_whatever_name(tmp_path, monkeypatch, source):
    write(tmp_path, "rows.txt", "one\n")
    write(tmp_path, "notes.md", "no rows\n")
    (tmp_path / "link.txt").symlink_to("rows.txt")
    monkeypatch.chdir(tmp_path)
    for name in ("rows.txt", tmp_path / "rows.txt"):
        with pytest.raises(ValueError, match="`--output` must be another file than those that are read, got"):
            require_unread_file("--output", Path(name), ["owner/name", source])
    for name in ("notes.md", "new.txt"):
        require_unread_file("--output", Path(name), ["owner/name", source])


def test_folders_without_readable_files_mixed_and_unknown_kinds_are_refused(tmp_path):
    folder = write(tmp_path, "only/README.md", "x").removesuffix("/README.md")
    assert f"Folder `{folder}` has no file that can be read" in refusal(folder)
    assert "unknown extension" in refusal(f"{folder}/README.md")
    text, table = write(tmp_path, "a.txt", "one\n"), write(tmp_path, "b.tsv", "en\tja\n1\t2\n")
    assert "must be of one kind" in refusal([text, table])
    other = write(tmp_path, "c.tsv", "en\tfr\n1\t2\n")
    assert "must have the same columns" in refusal([table, other])
    assert "`paths` must name at least one" in refusal([])


def test_an_absent_column_is_named_with_those_present(tmp_path):
    path = write(tmp_path, "t.tsv", "en\tja\n1\t2\n")
    for streaming in (False, True):
        with pytest.raises(ValueError, match="has no column `text`; the columns present are `en`, `ja`"):
            require_columns(load_rows(path, streaming=streaming), ["en", "text"], path)
    with pytest.raises(ValueError, match="the columns present are `en`, `ja`"):
        list(iterate_texts(path))
    require_columns(load_rows(path), ["ja", "en"], path)


def test_dates_that_the_json_reader_would_change_are_refused_where_they_are_used(tmp_path):
    path = write(tmp_path, "t.jsonl", '{"text": "one", "date": "2020-01-01"}\n')
    rows = load_rows(path)
    require_columns(rows, ["text"], path)
    with pytest.raises(ValueError, match="holds only dates"):
        require_columns(rows, ["date"], path)


def test_a_value_that_is_not_text_is_refused(tmp_path):
    path = write(tmp_path, "t.jsonl", '{"text": 3}\n')
    with pytest.raises(ValueError, match=r"must hold text, but a value is 3 \(int\)"):
        list(iterate_texts(path))


@pytest.mark.parametrize("size", [0, 100, -10])
def test_a_damaged_file_of_the_cache_is_made_again(tmp_path, size):
    path = write(tmp_path, "t.jsonl", b"".join(b'{"text": "row %d"}\n' % row for row in range(2000)))
    cache = Path(load_rows(path).cache_files[0]["filename"])
    whole = cache.read_bytes()
    cache.write_bytes(whole[:size])
    rows = load_rows(path)
    assert len(rows) == 2000
    assert rows[1999]["text"] == "row 1999"
    assert len(cache.read_bytes()) == len(whole)


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.jsonl.xz", "t.parquet"])
def test_a_file_that_was_cut_off_is_named(tmp_path, name):
    rows = b"".join(b'{"text": "row %d"}\n' % row for row in range(2000))
    if name == "t.parquet":
        pq.write_table(pa.table({"text": [f"row {row}" for row in range(2000)]}), tmp_path / "whole.parquet")
        content = (tmp_path / "whole.parquet").read_bytes()
    else:
        content = COMPRESS[name.removeprefix("t.jsonl")](rows)
    message = refusal(write(tmp_path, name, content[: len(content) // 2 - 5]))
    assert name in message


@pytest.mark.parametrize("compression", [".gz", ".xz", ".bz2", ".zst"])
def test_damage_in_a_stream_is_known_by_what_each_reader_says(tmp_path, compression):
    lines = "".join(f"{number:x}\n" for number in np.random.default_rng(0).integers(2**62, size=120_000))
    content = COMPRESS[compression](lines.encode())
    middle = len(content) * 3 // 4
    path = write(tmp_path, f"rows.txt{compression}", content[:middle] + bytes(64) + content[middle + 64 :])
    with pytest.raises(Exception) as caught:
        list(load_rows(path, streaming=True))
    assert is_unreadable(caught.value), repr(caught.value)


def test_a_model_that_is_not_found_is_no_damaged_file():
    assert not is_unreadable(OSError("We couldn't connect to 'https://huggingface.co'"))
    assert not is_unreadable(FileNotFoundError(2, "No such file or directory"))
    assert not is_unreadable(ValueError("`train_files` must name at least one file"))
