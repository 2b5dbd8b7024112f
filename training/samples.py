"""Answers of a model while it learns to give them: a look at more than a loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import IntervalStrategy

from kakehashi.tokenization.chat import message_text
from kakehashi.training.arguments import InstructArguments
from kakehashi.training.bfloat16 import autocast_of
from kakehashi.training.console import notify
from kakehashi.training.inference import Prompt, generate_texts
from kakehashi.training.instruction_rows import Conversation
from kakehashi.training.run_files import put_file

SAMPLES_FILE = "samples.jsonl"
# Enough to see what a model has learnt, and short enough to cost little while it has not learnt to stop.
_MAX_NEW_TOKENS = 64
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class SampleQuestion:
    """What a model is asked while it learns.

    Attributes:
        prompt: A text, or the turns of a conversation.
        reference: The right answer; `None` where nobody has given one.
    """

    prompt: Prompt
    reference: str | None = None

    @property
    def text(self) -> str:
        """The question as people read it; of a conversation its last turn."""
        return self.prompt if isinstance(self.prompt, str) else message_text(self.prompt[-1])


def choose_questions(
    arguments: InstructArguments, read_rows: Callable[[int], Sequence[Conversation]]
) -> list[SampleQuestion]:
    """Returns what to ask: the recipe's own prompts, or else the first validation rows.

    Args:
        arguments: `sample_prompts` and `sample_rows`.
        read_rows: Returns the conversations of so many first validation rows.
    """
    if arguments.sample_prompts:
        return [SampleQuestion(prompt) for prompt in arguments.sample_prompts]
    if not arguments.sample_rows:
        return []
    conversations = read_rows(arguments.sample_rows)[: arguments.sample_rows]
    return [SampleQuestion(messages, answer) for messages, answer in conversations]


def check_samples(arguments: InstructArguments, training_arguments: Seq2SeqTrainingArguments) -> None:
    """Checks that prompts of the recipe will ever be answered.

    Args:
        arguments: `sample_prompts` and `sample_steps`.
        training_arguments: Trainer's arguments with `eval_strategy`.

    Raises:
        ValueError: If there is neither a validation nor another time for them.
    """
    has_validation = bool(arguments.validation_files or arguments.validation_split)
    is_validated = has_validation and training_arguments.eval_strategy != IntervalStrategy.NO
    if arguments.sample_prompts and arguments.sample_steps is None and not is_validated:
        raise ValueError(
            "`sample_prompts` are answered at every validation, but there is none: give `sample_steps`, or "
            "`eval_strategy` with `validation_files` or `validation_split`"
        )


class AnswerSamples(TrainerCallback):
    """Asks the model the same questions again and again, appends the answers to `samples.jsonl` and shows them.

    Answers are greedy, and what they leave behind is nothing: torch's random state is given back, and the model
    trains on as it was. Where several processes share the weights, all of them answer and the first one writes.

    Args:
        tokenizer: The model's tokenizer.
        questions: What to ask.
        every: Steps from one time to the next; `None` asks at every validation.
        max_new_tokens: Longest answer, in tokens; never more than 64.
        leave_out: Called after each time, for whoever measures the time of training.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        questions: Sequence[SampleQuestion],
        *,
        every: int | None = None,
        max_new_tokens: int = _MAX_NEW_TOKENS,
        leave_out: Callable[[], None] = lambda: None,
    ) -> None:
        self._tokenizer = tokenizer
        self._questions = list(questions)
        self._every = every
        self._max_new_tokens = min(max_new_tokens, _MAX_NEW_TOKENS)
        self._leave_out = leave_out
        self._lines: list[str] = []
        self._asked_step = -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the answers up to the checkpoint; those after it will be given again."""
        file = Path(args.output_dir or "") / SAMPLES_FILE
        if state.global_step and file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            self._lines = [line for line in lines if json.loads(line)["step"] <= state.global_step]

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Asks after so many steps."""
        if self._every is not None and state.global_step % self._every == 0:
            self._ask(kwargs["model"], args, state)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Asks after a validation, once for a step; test rows are none."""
        is_validation = any(name.startswith("eval_") for name in kwargs.get("metrics") or {})
        if self._every is None and is_validation and self._asked_step != state.global_step:
            self._ask(kwargs["model"], args, state)

    def _ask(self, model: PreTrainedModel, args: TrainingArguments, state: TrainerState) -> None:
        if not self._questions:
            return
        self._asked_step = state.global_step
        prompts = [question.prompt for question in self._questions]
        with autocast_of(args):
            answers = answer_without_trace(model, self._tokenizer, prompts, self._max_new_tokens)
        if state.is_world_process_zero:
            self._write(Path(args.output_dir or ""), state.global_step, answers)
        self._leave_out()

    def _write(self, folder: Path, step: int, answers: Sequence[str]) -> None:
        for question, answer in zip(self._questions, answers, strict=True):
            entry = {"step": step, "prompt": question.text, "answer": answer, "reference": question.reference}
            self._lines.append(json.dumps(entry, ensure_ascii=False))
            right = "" if question.reference is None else f"   (right: {_one_line(question.reference)})"
            notify(f"step {step}: {_one_line(question.text)} → {_one_line(answer)}{right}")
        text = "\n".join([*self._lines, ""])
        # For lack of room for samples no run should end; a checkpoint will say so.
        with suppress(OSError):
            put_file(folder, SAMPLES_FILE, lambda path: _write_text(path, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]} …"


def answer_without_trace(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], max_new_tokens: int
) -> list[str]:
    """Returns greedy answers and leaves model and random state as they were.

    Args:
        model: A model that is in training.
        tokenizer: Its tokenizer.
        prompts: Texts or conversations.
        max_new_tokens: Longest answer, in tokens.
    """
    was_training = model.training
    # Greedy search draws nothing, but a model of another family may.
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        try:
            return generate_texts(
                model.eval(), tokenizer, prompts, batch_size=len(prompts), max_new_tokens=max_new_tokens
            )
        finally:
            model.train(was_training)
