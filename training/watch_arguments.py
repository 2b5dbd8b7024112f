"""The recipe keys that say how a run is watched: when it stops early, and what it is asked while it learns."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class WatchArguments:
    """Recipe keys of all stages for stopping early; `metric_for_best_model` is Trainer's own key."""

    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop after so many validations in a row without improvement of `metric_for_best_model`, which is "
            "the loss when left out; None never stops early."
        },
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "Least difference that counts as an improvement."}
    )

    def __post_init__(self) -> None:
        """Checks the bounds."""
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise ValueError(f"`early_stopping_patience` must be at least 1, got {self.early_stopping_patience}")
        if self.early_stopping_threshold < 0:
            raise ValueError(f"`early_stopping_threshold` must not be negative, got {self.early_stopping_threshold}")


@dataclass
class SampleArguments:
    """Recipe keys of `kakehashi instruct` for answers while the model learns."""

    sample_prompts: list[str] | None = field(
        default=None,
        metadata={
            "help": "Instructions to answer at every validation, into samples.jsonl and on stderr; None takes the "
            "first validation rows."
        },
    )
    sample_rows: int = field(
        default=3, metadata={"help": "So many validation rows are answered without `sample_prompts`; 0: none."}
    )
    sample_steps: int | None = field(
        default=None, metadata={"help": "Answer every so many steps; None answers at every validation."}
    )

    def __post_init__(self) -> None:
        """Checks the bounds."""
        if self.sample_rows < 0:
            raise ValueError(f"`sample_rows` must not be negative, got {self.sample_rows}")
        if self.sample_steps is not None and self.sample_steps < 1:
            raise ValueError(f"`sample_steps` must be at least 1, got {self.sample_steps}")
        for prompt in self.sample_prompts or []:
            if not prompt.strip():
                raise ValueError(f"`sample_prompts` must hold texts, got {prompt!r}")
