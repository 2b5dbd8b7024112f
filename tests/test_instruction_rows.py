import dataclasses

import pytest

from kakehashi.training.instruction_rows import (
    InstructionColumns,
    fill_template,
    read_conversations,
    read_instruction_row,
)

EN_JA = InstructionColumns(
    source_template=["To Japanese: {en}", "日本語に：{en}", "To English: {ja}"],
    target_template=["{ja}", "{ja}", "{en}"],
)
PAIR = {"en": "I love cats.", "ja": "猫が好き。"}


def user(text):
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("row", "messages", "target"),
    [
        ({"messages": [*user("Hi"), {"role": "assistant", "content": "Yo"}]}, user("Hi"), "Yo"),
        ({"instruction": "Say hi", "output": "Hi"}, user("Say hi"), "Hi"),
        ({"instruction": "Translate", "input": "cat", "output": "猫"}, user("Translate\ncat"), "猫"),
        ({"instruction": "Say hi", "input": "", "output": "Hi"}, user("Say hi"), "Hi"),
        ({"instruction": "Say hi", "input": None, "output": "Hi", "id": 3}, user("Say hi"), "Hi"),
        ({"instruction": "Two and two?", "output": 4}, user("Two and two?"), "4"),
        ({"prompt": "Say hi", "completion": "Hi"}, user("Say hi"), "Hi"),
        ({"prompt": user("A"), "completion": [{"role": "assistant", "content": "B"}]}, user("A"), "B"),
    ],
)
def test_rows_of_every_form_become_a_conversation_and_an_answer(row, messages, target):
    assert read_instruction_row(row) == (messages, target)


def test_named_columns_are_question_and_answer():
    columns = InstructionColumns(source_column="en", target_column="ja")
    assert read_instruction_row(PAIR, columns) == (user("I love cats."), "猫が好き。")


def test_every_assistant_turn_is_an_answer_and_the_last_one_is_asked_for():
    turns = [*user("1"), {"role": "assistant", "content": "2"}, *user("3"), {"role": "assistant", "content": "4"}]
    row = {"messages": [{"role": "system", "content": "0"}, *turns]}
    conversations = list(read_conversations(row, InstructionColumns(), 0))
    assert [(len(messages), target) for messages, target in conversations] == [(2, "2"), (4, "4")]
    assert read_instruction_row(row) == conversations[-1]


def test_wordings_take_turns_by_row_and_seed_and_each_direction_is_given():
    def wordings(index, seed=0):
        columns = dataclasses.replace(EN_JA, seed=seed)
        return [messages[0]["content"] for messages, _ in read_conversations(PAIR, columns, index)]

    assert wordings(0) == wordings(2) == wordings(1, seed=1) == ["To Japanese: I love cats.", "To English: 猫が好き。"]
    assert wordings(1) == ["日本語に：I love cats.", "To English: 猫が好き。"]


def test_braces_in_values_stay_and_an_empty_value_empties_the_whole():
    assert fill_template("{a}, {b}", {"a": "{b}", "b": 2}) == "{b}, 2"
    assert fill_template("Translate: {a}", {"a": " "}) == fill_template("Translate: {a}", {"a": None}) == ""


def test_the_columns_to_read_are_found_or_those_present_are_listed():
    assert InstructionColumns().find(["id", "instruction", "output", "input"]) == ["instruction", "output", "input"]
    assert EN_JA.find(["ja", "en", "id"]) == ["en", "ja"]
    with pytest.raises(ValueError, match="The rows have no column `ja`; the columns present are `en`, `fr`"):
        EN_JA.find(["en", "fr"])
    with pytest.raises(ValueError, match=r"must have the columns `messages`, or `instruction` and .*these have `en`"):
        InstructionColumns().find(["en"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source_template": ["{en}"]}, "must be equally many, got 1 and 0"),
        ({"source_column": "en"}, "must be given together, got 'en' and None"),
        ({"source_template": ["x"], "target_template": ["{ja}"]}, "must name a column in braces"),
        (
            {"source_template": ["{a}"], "target_template": ["{b}"], "source_column": "a", "target_column": "b"},
            "must not both be given",
        ),
    ],
)
def test_columns_that_do_not_fit_each_other_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        InstructionColumns(**arguments)


@pytest.mark.parametrize(
    "row", [{"instruction": " ", "output": "x"}, {"prompt": "x", "completion": None}, {"messages": user("Hi")}]
)
def test_a_row_without_instruction_or_answer_is_refused(row):
    with pytest.raises(ValueError, match="an instruction and an answer that are not empty"):
        read_instruction_row(row)


def test_a_value_that_is_not_text_is_refused():
    with pytest.raises(ValueError, match=r"Column `output` must hold text, but a value is \['x'\] \(list\)"):
        read_instruction_row({"instruction": "x", "output": ["x"]})
