import logging
from itertools import chain, islice
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, IterableDataset, Value
from transformers import DataCollatorWithPadding

from kakehashi.tokenization.chat import encode_source, encode_target, for_causal_lm
from kakehashi.training.documents import load_rows
from kakehashi.training.examples import (
    InstructionColumns,
    tokenize_classification,
    tokenize_documents,
    tokenize_instructions,
)
from kakehashi.training.label_names import collect_label_names, find_problem_type

LENGTHS = {"max_source_length": 64, "max_target_length": 64}


@pytest.fixture(autouse=True)
def warnings(caplog):
    caplog.set_level(logging.WARNING, "kakehashi.training.examples")
    return caplog


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def test_documents_become_ids_without_special_tokens(tiny_tokenizer, tiny_sentences, caplog):
    texts = [*tiny_sentences, "typed <s> and </s> stay text"]
    examples = tokenize_documents(Dataset.from_dict({"text": texts}), tiny_tokenizer, max_length=128)
    assert examples.column_names == ["input_ids"]
    assert [tiny_tokenizer.decode(ids) for ids in examples["input_ids"]] == texts
    assert not set(tiny_tokenizer.all_special_ids) & {token for ids in examples["input_ids"] for token in ids}
    assert not caplog.messages


def test_long_documents_are_split_evenly_and_nothing_is_lost(tiny_tokenizer, caplog):
    texts = ["猫が好き。" * 20, "I love cats.", " ", ""]
    examples = tokenize_documents(Dataset.from_dict({"text": texts}), tiny_tokenizer, max_length=16)
    short = ids_of(tiny_tokenizer, texts[1])
    *pieces, last = examples["input_ids"]
    assert last == short and list(chain.from_iterable(pieces)) == ids_of(tiny_tokenizer, texts[0])
    assert max(map(len, pieces)) <= 16 and max(map(len, pieces)) - min(map(len, pieces)) <= 1
    assert caplog.messages == [
        "1 of 4 documents are longer than 16 tokens and were split.",
        "2 of 4 documents hold no text and were left out.",
    ]


def test_each_document_of_a_stream_is_counted_once(tiny_tokenizer, caplog):
    texts = ["I love cats. " * 8, "", *["I love dogs."] * 1500, *[""] * 7]
    stream = Dataset.from_dict({"text": texts}).to_iterable_dataset()
    examples = tokenize_documents(stream, tiny_tokenizer, max_length=16)
    # A look at the beginning, and two passes.
    for count in (3, None, None):
        list(islice(examples, count))
    assert caplog.messages == [
        "So far 1 documents are longer than 16 tokens and were split.",
        "So far 1 documents hold no text and were left out.",
    ]


def test_instructions_of_a_stream_without_rows_are_refused(tiny_tokenizer):
    rows = IterableDataset.from_generator(lambda: iter(()))
    with pytest.raises(ValueError, match="Instruction rows must have the columns"):
        tokenize_instructions(rows, tiny_tokenizer, **LENGTHS)


def test_instructions_are_encoded_as_the_chat_format_says(tiny_tokenizer):
    messages = [
        {"role": "system", "content": "Be <s> brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yo"},
    ]
    rows = Dataset.from_dict({"messages": [messages, messages[1:]]})
    examples = tokenize_instructions(rows, tiny_tokenizer, **LENGTHS)
    assert examples["input_ids"][:] == [encode_source(tiny_tokenizer, messages[start:2]) for start in (0, 1)]
    assert examples["labels"][:] == [encode_target(tiny_tokenizer, "Yo")] * 2


def test_a_decoder_reads_the_conversation_as_its_chat_template_renders_it(tiny_tokenizer):
    roles = ["system", "user", "assistant", "user", "assistant"]
    messages = [{"role": role, "content": f"turn {place}"} for place, role in enumerate(roles)]
    rows = Dataset.from_dict({"messages": [messages]})
    *_, example = tokenize_instructions(rows, tiny_tokenizer, is_encoder_decoder=False, **LENGTHS)
    causal = for_causal_lm(tiny_tokenizer)
    assert example["input_ids"] == causal.apply_chat_template(messages, tokenize=True, return_dict=False)
    prompt = causal.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=True, return_dict=False)
    assert example["labels"] == [-100] * len(prompt) + encode_target(tiny_tokenizer, "turn 4")


def test_one_table_gives_both_directions(tmp_path, tiny_tokenizer):
    path = tmp_path / "pairs.tsv"
    path.write_text("en\tja\nI love cats.\t猫が好き。\nI love dogs.\t犬が好き。\n", encoding="utf-8")
    columns = InstructionColumns(source_template=["日本語に：{en}", "英語に：{ja}"], target_template=["{ja}", "{en}"])
    examples = tokenize_instructions(load_rows(str(path)), tiny_tokenizer, columns=columns, **LENGTHS)
    pairs = [
        tuple(tiny_tokenizer.decode(example[key], skip_special_tokens=True) for key in ("input_ids", "labels"))
        for example in examples
    ]
    assert pairs == [
        ("日本語に：I love cats.", "猫が好き。"),
        ("英語に：猫が好き。", "I love cats."),
        ("日本語に：I love dogs.", "犬が好き。"),
        ("英語に：犬が好き。", "I love dogs."),
    ]


def test_long_instructions_are_cut_and_counted_once(tiny_tokenizer, caplog):
    rows = Dataset.from_dict({"prompt": ["x" * 50, "x" * 60, "hi"], "completion": ["yes", "no", "y" * 50]})
    examples = tokenize_instructions(rows, tiny_tokenizer, max_source_length=10, max_target_length=12)
    sources, targets = examples["input_ids"][:], examples["labels"][:]
    assert [len(ids) for ids in sources[:2]] == [10, 10] and all(ids[-1] == 2 for ids in sources)
    # An answer that was cut does not end there.
    assert len(targets[2]) == 12 and targets[2][-1] != 2 and targets[0][-1] == 2
    assert caplog.messages == [
        "2 of 3 sources are longer than 10 tokens and were cut.",
        "1 of 3 targets are longer than 12 tokens and were cut.",
    ]


@pytest.mark.parametrize("is_encoder_decoder", [True, False])
def test_a_long_conversation_loses_its_oldest_turns_first(tiny_tokenizer, is_encoder_decoder):
    turns = [{"role": ("user", "assistant")[place % 2], "content": f"turn {place} " * 3} for place in range(8)]
    system = {"role": "system", "content": "Be brief."}
    rows = Dataset.from_dict({"messages": [[system, *turns]]})
    options = {"is_encoder_decoder": is_encoder_decoder, "max_source_length": 80, "max_target_length": 64}
    *_, example = tokenize_instructions(rows, tiny_tokenizer, **options)
    text = tiny_tokenizer.decode(example["input_ids"])
    assert "Be brief." in text and "turn 0" not in text and "turn 6 turn 6 turn 6" in text


def test_rows_without_instruction_or_answer_are_left_out_and_counted(tiny_tokenizer, caplog):
    rows = Dataset.from_dict({"instruction": ["a", " ", "c", "d"], "output": ["1", "2", "", None]})
    examples = tokenize_instructions(rows, tiny_tokenizer, **LENGTHS)
    assert len(examples) == 1 and examples.column_names == ["input_ids", "labels"]
    assert caplog.messages == ["3 of 4 examples have no instruction or no answer and were left out."]


def test_a_row_that_cannot_be_read_is_named(tiny_tokenizer):
    rows = Dataset.from_dict(
        {"messages": [[{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]]}
    )
    with pytest.raises(ValueError, match="Row 1: `content` of a message must be a string"):
        tokenize_instructions(rows, tiny_tokenizer, **LENGTHS)
    rows = Dataset.from_dict({"en": ["a"]})
    with pytest.raises(ValueError, match="these have `en`"):
        tokenize_instructions(rows, tiny_tokenizer, **LENGTHS)


def test_the_result_is_found_again_until_something_changes(tmp_path, tiny_tokenizer, monkeypatch):
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")

    def fingerprint(**options):
        rows = load_rows(str(path))
        return tokenize_instructions(rows, tiny_tokenizer, **{**LENGTHS, **options})._fingerprint

    first = fingerprint()
    # Truncation leaves its mark on the tokenizer, which must not matter.
    tiny_tokenizer("many words to cut", truncation=True, max_length=3)
    assert fingerprint() == first
    assert fingerprint(max_source_length=32) != first
    assert fingerprint(is_encoder_decoder=False) != first
    monkeypatch.setattr(tiny_tokenizer, "truncation_side", "left")
    assert fingerprint() != first
    monkeypatch.undo()
    assert fingerprint() == first
    path.write_text('{"prompt": "a", "completion": "c"}\n', encoding="utf-8")
    assert fingerprint() != first


@pytest.mark.parametrize("name", ["examples", "encoding", "instruction_rows", "label_names", "chat", "special_tokens"])
def test_rows_are_tokenized_anew_when_code_that_they_follow_from_has_changed(monkeypatch, tiny_tokenizer, name):
    rows = Dataset.from_dict({"text": ["I love cats."]})
    first = tokenize_documents(rows, tiny_tokenizer, max_length=8)
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read_bytes(path) + b"#" * (path.name == f"{name}.py"))
    assert tokenize_documents(rows, tiny_tokenizer, max_length=8)._fingerprint != first._fingerprint


def test_several_processes_give_the_same_examples(tiny_tokenizer, tiny_sentences):
    rows = Dataset.from_dict({"text": tiny_sentences})
    one, two = (tokenize_documents(rows, tiny_tokenizer, max_length=8, num_proc=number) for number in (None, 2))
    assert one["input_ids"][:] == two["input_ids"][:]


def test_texts_and_labels_become_ids_in_the_order_of_sorted_names(tiny_tokenizer):
    rows = Dataset.from_dict({"text": ["I love cats.", "猫", "<s>"], "label": ["noun", "act", "noun"]})
    names = collect_label_names(rows, "label")
    assert names == ["act", "noun"] and find_problem_type(rows, "label") == "single_label_classification"
    examples = tokenize_classification(rows, tiny_tokenizer, label_names=names, max_length=64)
    assert examples["labels"][:] == [1, 0, 1]
    assert examples["input_ids"][:] == [[*ids_of(tiny_tokenizer, text), 2] for text in rows["text"]]
    batch = DataCollatorWithPadding(tiny_tokenizer)(list(examples))
    assert batch["input_ids"].shape == batch["attention_mask"].shape and batch["labels"].tolist() == [1, 0, 1]


def test_long_texts_keep_their_end_mark_and_are_counted(tiny_tokenizer, caplog):
    rows = Dataset.from_dict({"text": ["x" * 50, "ok"], "label": [0, 1]})
    examples = tokenize_classification(rows, tiny_tokenizer, label_names=["0", "1"], max_length=8)
    assert len(examples["input_ids"][0]) == 8 and examples["input_ids"][0][-1] == 2
    assert caplog.messages == ["1 of 2 texts are longer than 8 tokens and were cut."]


def test_classes_of_the_hub_are_matched_by_name(tiny_tokenizer):
    features = Features({"label": ClassLabel(names=["no", "yes"]), "text": Value("string")})
    rows = Dataset.from_dict({"label": [1, 0], "text": ["a", "b"]}, features=features)
    examples = tokenize_classification(rows, tiny_tokenizer, label_names=["yes", "no"], max_length=8)
    assert examples["labels"][:] == [0, 1]


def test_lists_of_labels_become_one_float_for_each_name(tiny_tokenizer):
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [["x", "z"], []]})
    names = collect_label_names(rows, "label")
    kind = find_problem_type(rows, "label")
    assert (names, kind) == (["x", "z"], "multi_label_classification")
    examples = tokenize_classification(rows, tiny_tokenizer, label_names=names, problem_type=kind, max_length=8)
    assert examples["labels"][:] == [[1.0, 1.0], [0.0, 0.0]]


def test_decimal_numbers_are_kept_for_regression(tiny_tokenizer):
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [0.25, -1.5]})
    kind = find_problem_type(rows, "label")
    assert kind == "regression"
    for labels in ([0.25, -1.5], ["0.25", "-1.5"]):
        rows = Dataset.from_dict({"text": ["a", "b"], "label": labels})
        examples = tokenize_classification(rows, tiny_tokenizer, problem_type=kind, max_length=8)
        assert examples["labels"][:] == [0.25, -1.5]
    rows = Dataset.from_dict({"text": ["a"], "label": ["high"]})
    with pytest.raises(ValueError, match="must be a finite number for regression, but row 1 has 'high'"):
        tokenize_classification(rows, tiny_tokenizer, problem_type=kind, max_length=8)


def test_a_label_that_training_never_saw_is_named_with_the_known_ones(tiny_tokenizer):
    rows = Dataset.from_dict({"text": ["a", "b"], "label": ["act", "plant"]})
    with pytest.raises(ValueError, match="row 2 has 'plant'; known are `act`, `animal`"):
        tokenize_classification(rows, tiny_tokenizer, label_names=["act", "animal"], max_length=8)


def test_a_missing_text_and_unknown_settings_are_refused(tiny_tokenizer):
    rows = Dataset.from_dict({"text": ["a", None], "label": ["x", "y"]})
    with pytest.raises(ValueError, match="Every row must have a text in `text`, but row 2 has none"):
        tokenize_classification(rows, tiny_tokenizer, label_names=["x", "y"], max_length=8)
    with pytest.raises(ValueError, match="`problem_type` must be one of single_label_classification"):
        tokenize_classification(rows, tiny_tokenizer, problem_type="ranking", max_length=8)
    with pytest.raises(ValueError, match="`max_length` must be at least 1, but it is 0"):
        tokenize_documents(rows, tiny_tokenizer, max_length=0)
    with pytest.raises(ValueError, match="`max_source_length` must be at least 4, but it is 3"):
        tokenize_instructions(rows, tiny_tokenizer, max_source_length=3, max_target_length=8)
