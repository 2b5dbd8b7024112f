"""Read rows of any form as conversations: what was said before, and the answer to learn.

columns of the row                   becomes
messages                             each assistant turn, after all turns before it
instruction, output (and input)      output, after one user turn: the instruction, a line break, the input
prompt, completion                   completion, after one user turn or the turns in prompt
any two named columns                the one, after one user turn of the other
any, with templates                  the filled answer template, after one user turn: the filled source template
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from kakehashi.tokenization.chat import message_text

Row: TypeAlias = Mapping[str, Any]
Message: TypeAlias = dict[str, Any]
Conversation: TypeAlias = tuple[list[Message], str]
"""The turns so far, and the answer; both may be empty where the row is."""

INSTRUCTION_FORMS = (("messages",), ("instruction", "output"), ("prompt", "completion"))
"""Columns that make a row an instruction without being named in the recipe."""

FIELD = re.compile(r"\{(\w+)\}")
"""A column in a template, such as {en}."""


@dataclass(frozen=True)
class InstructionColumns:
    """Where instruction and answer stand in a row, if not in `INSTRUCTION_FORMS`.

    Templates are texts with column names in braces. Those with the same answer template are wordings of one task:

        source_template  Translate to Japanese: {en}   日本語に訳してください。{en}   Translate to English: {ja}
        target_template  {ja}                          {ja}                         {en}

    Each row gives one example of each task, here one in each direction. Of several wordings it takes the next in
    turn, by its number plus `seed`, so all are used equally often and the examples are the same in every run.

    Attributes:
        source_column: Column of the instruction; None where templates or the usual names tell.
        target_column: Column of the answer; None likewise.
        source_template: Instructions, with columns in braces.
        target_template: The answer to each of them, with columns in braces.
        seed: Shifts the wordings.

    Raises:
        ValueError: Templates or columns do not come in pairs, both are given, or a template names no column.
    """

    source_column: str | None = None
    target_column: str | None = None
    source_template: Sequence[str] = ()
    target_template: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks that everything has its counterpart."""
        if len(self.source_template) != len(self.target_template):
            raise ValueError(
                "`source_template` and `target_template` must be equally many, got "
                f"{len(self.source_template)} and {len(self.target_template)}"
            )
        if (self.source_column is None) != (self.target_column is None):
            raise ValueError(
                "`source_column` and `target_column` must be given together, got "
                f"{self.source_column!r} and {self.target_column!r}"
            )
        if self.source_column is not None and self.source_template:
            raise ValueError("`source_column` and `source_template` must not both be given: choose one.")
        for template in (*self.source_template, *self.target_template):
            if not FIELD.search(template):
                raise ValueError(f"A template must name a column in braces, such as {{en}}, but it is {template!r}.")

    @property
    def named(self) -> list[str]:
        """The columns named here, each once."""
        templates = (*self.source_template, *self.target_template)
        columns = [name for name in (self.source_column, self.target_column) if name is not None]
        return list(dict.fromkeys([*columns, *(name for text in templates for name in FIELD.findall(text))]))

    def find(self, present: Sequence[str]) -> list[str]:
        """Returns the columns to read of rows that have those `present`.

        Raises:
            ValueError: A column is absent; the message lists those present.
        """
        form: Sequence[str] | None = self.named or next(
            (form for form in INSTRUCTION_FORMS if set(form) <= set(present)), None
        )
        listed = ", ".join(f"`{name}`" for name in present)
        if form is None:
            forms = ", or ".join(" and ".join(f"`{name}`" for name in each) for each in INSTRUCTION_FORMS)
            raise ValueError(
                f"Instruction rows must have the columns {forms}, or `source_template` and `target_template` must say "
                f"how to use theirs; these have {listed}."
            )
        missing = [name for name in form if name not in present]
        if missing:
            absent = ", ".join(f"`{name}`" for name in missing)
            raise ValueError(f"The rows have no column {absent}; the columns present are {listed}.")
        return [*form, *(["input"] if "instruction" in form and not self.named and "input" in present else [])]

    def pick_templates(self, index: int) -> list[tuple[str, str]]:
        """Returns the source and target templates that row number `index` is put into."""
        tasks: dict[str, list[tuple[str, str]]] = {}
        for pair in zip(self.source_template, self.target_template, strict=True):
            tasks.setdefault(pair[1], []).append(pair)
        return [wordings[(index + self.seed) % len(wordings)] for wordings in tasks.values()]


def read_conversations(row: Row, columns: InstructionColumns, index: int) -> Iterator[Conversation]:
    """Yields every conversation with an answer that a row holds, at least one.

    Args:
        row: One row, with the columns that `columns.find` gave.
        columns: Where to look.
        index: Number of the row, which picks the wording.

    Raises:
        ValueError: A value is neither text nor a number, or a turn has no text.
    """
    if columns.source_template:
        for source, target in columns.pick_templates(index):
            yield _ask(fill_template(source, row), fill_template(target, row))
    elif columns.source_column is not None and columns.target_column is not None:
        yield _ask(as_text(row, columns.source_column), as_text(row, columns.target_column))
    elif "messages" in row:
        yield from _answers_in(row["messages"] or [])
    elif "instruction" in row:
        parts = [as_text(row, "instruction"), as_text(row, "input") if "input" in row else ""]
        yield _ask("\n".join(part for part in parts if part), as_text(row, "output"))
    else:
        prompt, completion = row["prompt"], row["completion"]
        target = "".join(map(message_text, completion)) if isinstance(completion, list) else as_text(row, "completion")
        yield (prompt, target) if isinstance(prompt, list) else _ask(as_text(row, "prompt"), target)


def read_instruction_row(row: Row, columns: InstructionColumns | None = None) -> tuple[list[Message], str]:
    """Returns the conversation before the last answer in a row, and that answer.

    Args:
        row: One row; further columns do no harm.
        columns: Where to look; None means the columns of `INSTRUCTION_FORMS`.

    Raises:
        ValueError: A column is absent, or instruction or answer is empty.
    """
    columns = columns or InstructionColumns()
    wanted = {name: row[name] for name in columns.find(list(row))}
    messages, target = list(read_conversations(wanted, columns, index=0))[-1]
    if is_empty((messages, target)):
        raise ValueError(f"A row must hold an instruction and an answer that are not empty, but it is {wanted!r}.")
    return messages, target


def is_empty(conversation: Conversation) -> bool:
    """Returns whether nothing is asked or nothing is answered."""
    messages, target = conversation
    return not target.strip() or not any(message_text(message).strip() for message in messages)


def fill_template(template: str, row: Row) -> str:
    """Returns the template with each `{column}` replaced by its value, or nothing if one of the values is empty.

    Braces inside a value stay as they are.
    """
    values = {name: as_text(row, name) for name in FIELD.findall(template)}
    if not all(value.strip() for value in values.values()):
        return ""
    return FIELD.sub(lambda match: values[match.group(1)], template)


def as_text(row: Row, column: str) -> str:
    """Returns a value as text: numbers as they are written, and nothing for None.

    Raises:
        ValueError: The value is something else.
    """
    value = row[column]
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"Column `{column}` must hold text, but a value is {value!r} ({type(value).__name__}).")
    return str(value)


def _ask(instruction: str, answer: str) -> Conversation:
    return [{"role": "user", "content": instruction}], answer


def _answers_in(messages: Sequence[Message]) -> Iterator[Conversation]:
    """Yields each assistant turn with the turns before it; one empty conversation if there is none."""
    turns = [place for place, message in enumerate(messages) if place and message.get("role") == "assistant"]
    if not turns:
        yield [], ""
    for place in turns:
        yield list(messages[:place]), message_text(messages[place])
