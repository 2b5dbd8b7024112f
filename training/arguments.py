"""The keys a recipe may hold beside those of `Seq2SeqTrainingArguments`, one dataclass for each stage.

Every key is optional here; what a stage cannot do without is checked where it enters, with the key named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from kakehashi.training.card_arguments import CardArguments
from kakehashi.training.watch_arguments import SampleArguments, WatchArguments

if TYPE_CHECKING:
    # `kakehashi recipes keys` answers without them.
    from transformers import Seq2SeqTrainingArguments

    from kakehashi.training.instruction_rows import InstructionColumns

BALANCED = "balanced"
DEFAULT_SEEDS = 5
OBJECTIVES = ("encoder-decoder", "ul2", "causal-lm", "masked-lm")

# Where our defaults differ from those of `Seq2SeqTrainingArguments`; a recipe may still set each of them.
TRAINING_DEFAULTS: dict[str, Any] = {
    # Sentences of equal length share a batch, so little is computed on padding.
    "train_sampling_strategy": "group_by_length",
    # Our collators take exactly the columns they need; Trainer would look for them in the model's forward instead.
    "remove_unused_columns": False,
    # Trainer's filter would hide a non-finite loss behind an average; the run has to stop instead.
    "logging_nan_inf_filter": False,
    "logging_steps": 50,
    "save_total_limit": 2,
    "disable_tqdm": False,
    "report_to": "none",
}

# What the keys that hold a mapping look like.
_MAPPINGS = {"config_overrides": "{hidden_size: 256}", "class_weights": "{spam: 5} or the word balanced"}


def read_mapping(value: dict[str, Any] | str | None, name: str) -> dict[str, Any]:
    """Returns a key that holds a mapping as a dict; the command line gives it as YAML text.

    Raises:
        ValueError: If it is no mapping.
    """
    try:
        parsed = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        # Refused below, as text.
        parsed = value
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ValueError(f"`{name}` must be a mapping such as {_MAPPINGS.get(name, '{name: 1}')}, got {value!r}")
    return parsed


def _fraction(value: float, name: str, *, lower_included: bool = True, upper_included: bool = True) -> None:
    """Raises a ValueError unless the value lies between 0 and 1."""
    is_inside = 0.0 < value < 1.0 or (value == 0.0 and lower_included) or (value == 1.0 and upper_included)
    if not is_inside:
        lower, upper = "at least" if lower_included else "above", "at most" if upper_included else "below"
        bounds = "between 0 and 1" if lower_included and upper_included else f"{lower} 0 and {upper} 1"
        raise ValueError(f"`{name}` must be {bounds}, got {value}")


@dataclass
class StageArguments(CardArguments, WatchArguments):
    """Recipe keys shared by all stages."""

    preset: str | None = field(default=None, metadata={"help": "Size of a new model: nano, mini, small, base, large."})
    config_overrides: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Fields of KakehashiConfig that replace those of the preset."}
    )
    model: str | None = field(
        default=None,
        metadata={"help": "Folder or Hub id to start from; a folder with only a config.json starts at random."},
    )
    tokenizer: str | None = field(default=None, metadata={"help": "Tokenizer folder; the model's own when left out."})
    train_files: list[str] | None = field(
        default=None, metadata={"help": "Files, directories, globs or Hub ids of training data."}
    )
    validation_files: list[str] | None = field(default=None, metadata={"help": "The same for validation."})
    test_files: list[str] | None = field(
        default=None, metadata={"help": "The same for a final test, reported as test_*."}
    )
    validation_split: float = field(
        default=0.0, metadata={"help": "Fraction of the training data held out when no validation files are given."}
    )
    max_train_examples: int | None = field(
        default=None, metadata={"help": "Train on the first so many rows only; None means all."}
    )
    max_validation_examples: int | None = field(
        default=None, metadata={"help": "Validate on at most so many rows; None means all."}
    )
    preprocessing_workers: int = field(
        default=1, metadata={"help": "Processes that tokenize; more pay off from about 100,000 rows on."}
    )
    use_muon: bool = field(
        default=False,
        metadata={
            "help": "Muon for the matrices of the blocks, AdamW at half the learning rate for the rest, in place of "
            "`optim`. The learning rate may be higher than that of AdamW alone."
        },
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "How attention is computed: sdpa, eager, varlen, flex_attention or flash_attention_2. None means, "
            "for a kakehashi model, varlen on a CPU and, where rows are packed, on a GPU in half precision; else sdpa."
        },
    )
    compile_layers: bool = field(
        default=False,
        metadata={
            "help": "Compile each layer of the model by itself, equal layers once; `torch_compile` compiles all of it "
            "as one, which takes minutes."
        },
    )
    lora_rank: int | None = field(
        default=None,
        metadata={
            "help": "Rank of low-rank adapters (LoRA), which are trained in place of the weights, with a new head; "
            "None or 0: train the weights. Needs kakehashi[lora]."
        },
    )
    lora_alpha: float | None = field(
        default=None,
        metadata={"help": "What adapters add is scaled by lora_alpha / lora_rank; None means twice the rank."},
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout before the adapters."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Names of the linear layers to adapt; None means all of the blocks."}
    )
    freeze_encoder: bool = field(
        default=False, metadata={"help": "Keep the weights of the encoder and of the embedding it reads."}
    )
    freeze: list[str] | None = field(
        default=None,
        metadata={"help": "Modules that keep their weights, such as embed_tokens or 'encoder.layers.[01]'."},
    )
    max_minutes: float | None = field(
        default=None,
        metadata={
            "help": "Stop after so many minutes of wall-clock from the first step on, validation included. The "
            "learning rate then follows elapsed time and reaches its end when the time is up. Time alone ends the "
            "run, unless `num_train_epochs` or `max_steps` stand beside it: then whatever comes first. Those of a "
            "recipe do not count where `max_minutes` is given on the command line without them."
        },
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Replace what an earlier run wrote to the same output folder."}
    )

    def __post_init__(self) -> None:
        """Checks the values that the dataclass alone can judge."""
        CardArguments.__post_init__(self)
        WatchArguments.__post_init__(self)
        if not self.datasets:
            self.require_one_each("train_files", self.train_files)
        self.config_overrides = read_mapping(self.config_overrides, "config_overrides")
        _fraction(self.validation_split, "validation_split", upper_included=False)
        _fraction(self.lora_dropout, "lora_dropout", upper_included=False)
        if self.lora_rank is not None and self.lora_rank < 0:
            raise ValueError(f"`lora_rank` must be at least 1, or 0 for no adapters, got {self.lora_rank}")
        for name in ("lora_alpha", "lora_dropout", "lora_target_modules"):
            if getattr(self, name) and not self.lora_rank:
                raise ValueError(f"`{name}` must be given with `lora_rank`, got {getattr(self, name)!r} without it")
        numbers = ("max_train_examples", "max_validation_examples", "max_minutes", "preprocessing_workers")
        for name in (*numbers, "lora_alpha"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"`{name}` must be greater than 0, got {value}")

    @property
    def num_proc(self) -> int | None:
        """`preprocessing_workers` as `datasets` takes them: None for this process alone."""
        return self.preprocessing_workers if self.preprocessing_workers > 1 else None


@dataclass
class SequenceStageArguments(StageArguments):
    """Recipe keys shared by the stages whose every token counts, pretraining and instruction tuning."""

    packing: bool = field(
        default=False,
        metadata={
            "help": "Put several examples into each row, so that hardly anything is computed on padding. "
            "`per_device_train_batch_size` then counts rows. Only for kakehashi models, which keep the examples apart."
        },
    )
    packed_length: int | None = field(
        default=None,
        metadata={
            "help": "Source tokens of a packed row, its target tokens follow from the data; None means twice the "
            "longest source, which leaves hardly a gap."
        },
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the training files while training, for corpora larger than the disk. Needs `max_steps` or "
            "`max_minutes`; the order is shuffled within a buffer, anew in each pass."
        },
    )

    def __post_init__(self) -> None:
        """Checks what packing needs."""
        super().__post_init__()
        if self.packed_length is not None and (self.packed_length < 1 or not self.packing):
            needed = "with `packing: true`" if not self.packing else "greater than 0"
            raise ValueError(f"`packed_length` must be given {needed}, got {self.packed_length}")
        if self.streaming and self.validation_split:
            raise ValueError(
                f"`validation_split` must be 0 where `streaming` is true, got {self.validation_split}: name "
                "`validation_files`"
            )


@dataclass
class PretrainArguments(SequenceStageArguments):
    """Recipe keys of `kakehashi pretrain`."""

    objective: str = field(
        default="encoder-decoder", metadata={"help": "Shape and task: encoder-decoder, ul2, causal-lm or masked-lm."}
    )
    text_column: str = field(default="text", metadata={"help": "Column that holds the documents."})
    max_source_length: int = field(default=256, metadata={"help": "Tokens of a source (encoder-decoder)."})
    max_target_length: int = field(default=256, metadata={"help": "Tokens of a target (encoder-decoder)."})
    max_length: int = field(default=256, metadata={"help": "Tokens of a sequence (causal-lm and masked-lm)."})
    next_word_ratio: float = field(
        default=0.5,
        metadata={"help": "Share of examples that predict what follows; the others restore removed spans."},
    )
    noise_density: float = field(default=0.15, metadata={"help": "Share of tokens that span corruption removes."})
    mean_noise_span_length: float = field(default=3.0, metadata={"help": "Mean tokens of a removed span."})
    mlm_probability: float = field(default=0.3, metadata={"help": "Share of tokens that masked-lm hides."})

    def __post_init__(self) -> None:
        """Checks the objective with its fractions and lengths."""
        super().__post_init__()
        if self.objective not in OBJECTIVES:
            raise ValueError(f"`objective` must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        _fraction(self.next_word_ratio, "next_word_ratio")
        _fraction(self.noise_density, "noise_density", lower_included=False, upper_included=False)
        _fraction(self.mlm_probability, "mlm_probability", lower_included=False)
        if self.mean_noise_span_length < 1:
            raise ValueError(f"`mean_noise_span_length` must be at least 1, got {self.mean_noise_span_length}")


@dataclass
class InstructArguments(SequenceStageArguments, SampleArguments):
    """Recipe keys of `kakehashi instruct`.

    Rows hold `messages`, `instruction`/`input`/`output`, `prompt`/`completion`, or parallel columns that the templates
    turn into one instruction and one answer each. Several templates make several examples of each row.
    """

    source_template: list[str] | None = field(
        default=None,
        metadata={"help": "Instruction(s) with {column} in braces, e.g. 'Translate to Japanese: {en}'."},
    )
    target_template: list[str] | None = field(
        default=None, metadata={"help": "The answer to each source_template, e.g. '{ja}'."}
    )
    source_column: str | None = field(
        default=None, metadata={"help": "Column of the instruction where its name is not one of those above."}
    )
    target_column: str | None = field(
        default=None, metadata={"help": "Column of the answer where its name is not one of those above."}
    )
    max_source_length: int = field(default=256, metadata={"help": "Tokens of an instruction; longer ones are cut."})
    max_target_length: int = field(default=256, metadata={"help": "Tokens of an answer; longer ones are cut."})
    generation_examples: int = field(
        default=0,
        metadata={"help": "Answer so many validation rows at the end and report exact match, chrF and BLEU; 0: none."},
    )
    target_language: str | None = field(
        default=None, metadata={"help": "Language of the answers for BLEU, ja or en; found by script when left out."}
    )

    def __post_init__(self) -> None:
        """Checks that the templates come in pairs."""
        super().__post_init__()
        SampleArguments.__post_init__(self)
        # It checks that they come in pairs.
        _ = self.columns

    @property
    def columns(self) -> InstructionColumns:
        """Where instruction and answer stand in a row."""
        # Here, since `kakehashi recipes keys` answers without what this needs.
        from kakehashi.training.instruction_rows import InstructionColumns

        return InstructionColumns(
            source_column=self.source_column,
            target_column=self.target_column,
            source_template=tuple(self.source_template or ()),
            target_template=tuple(self.target_template or ()),
        )


@dataclass
class ClassifyArguments(StageArguments):
    """Recipe keys of `kakehashi classify`."""

    text_column: str = field(default="text", metadata={"help": "Column that holds the text."})
    label_column: str = field(
        default="label", metadata={"help": "Column that holds the label, a list of labels, or a number."}
    )
    max_length: int = field(default=256, metadata={"help": "Tokens of a text; longer ones are cut."})
    class_weights: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Weights of labels in the loss: balanced, so that rare labels count as much as frequent ones, "
            "or a mapping of labels to weights; absent ones weigh 1."
        },
    )
    mask_probability: float = field(
        default=0.0, metadata={"help": "Share of the tokens of a training text that are hidden, anew in each epoch."}
    )
    r_drop_alpha: float = field(
        default=0.0,
        metadata={
            "help": "R-Drop: see each text twice under two draws of dropout, and add so many times how far the two "
            "answers are apart to the loss. 0 sees it once."
        },
    )

    folds: int | None = field(
        default=None,
        metadata={
            "help": "Run so many times, each on all rows but those of one fold, which it is tested on; "
            "each run has a folder of its own."
        },
    )
    shots: int | None = field(
        default=None,
        metadata={"help": "Train on so many rows of each label only, drawn anew in each of `seeds` runs."},
    )
    seeds: int | None = field(default=None, metadata={"help": f"Runs of `shots`; None means {DEFAULT_SEEDS}."})

    def __post_init__(self) -> None:
        """Checks the columns, how often to run, and the weights, which the command line gives as text."""
        super().__post_init__()
        if self.text_column == self.label_column:
            raise ValueError(
                f"`label_column` must be another one than `text_column`, got {self.label_column!r} for both"
            )
        if self.folds is not None and self.shots is not None:
            raise ValueError(f"`folds` must be left out with `shots`, got {self.folds} and {self.shots}")
        if self.seeds is not None and self.shots is None:
            raise ValueError(f"`seeds` must be given with `shots`, got {self.seeds} without it")
        for name, least in (("folds", 2), ("shots", 1), ("seeds", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}")
        _fraction(self.mask_probability, "mask_probability", upper_included=False)
        if not 0 <= self.r_drop_alpha < math.inf:
            raise ValueError(f"`r_drop_alpha` must be a number from 0 on, got {self.r_drop_alpha}")
        if self.class_weights in (None, BALANCED):
            return
        self.class_weights = read_mapping(self.class_weights, "class_weights")
        for label, weight in self.class_weights.items():
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
                raise ValueError(f"`class_weights` must be positive numbers, got {weight!r} for {label!r}")


def require_compatible(arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments) -> None:
    """Raises a ValueError for keys of Trainer that do not do in a stage what they say, or that it needs.

    Args:
        arguments: The stage's arguments.
        training_arguments: Trainer's arguments.
    """
    if training_arguments.dataloader_persistent_workers:
        raise ValueError(
            "`dataloader_persistent_workers` must be false, got true: workers that outlive an epoch would make the "
            "batches of the next one as they made those of the first"
        )
    if training_arguments.save_only_model:
        raise ValueError("`save_only_model` must be false, got true: --resume needs the optimizer of a checkpoint")
    if isinstance(arguments, ClassifyArguments):
        _require_all_answers(training_arguments)
    if not isinstance(arguments, SequenceStageArguments):
        return
    if arguments.streaming and training_arguments.max_steps <= 0 and arguments.max_minutes is None:
        raise ValueError("`max_steps` or `max_minutes` must be given where `streaming` is true, got neither")
    smoothing = training_arguments.label_smoothing_factor
    if smoothing:
        # Trainer would compute a loss of its own, without the z-loss and across the seams of packed rows.
        raise ValueError(
            f"`label_smoothing_factor` must be 0 in this stage, got {smoothing}: use "
            f"`config_overrides: {{label_smoothing: {smoothing}}}`"
        )


def _require_all_answers(training_arguments: Seq2SeqTrainingArguments) -> None:
    """Raises a ValueError for keys of Trainer that keep the answers to all validation rows from being scored."""
    for name, needed in (
        ("prediction_loss_only", False),
        ("batch_eval_metrics", False),
        ("eval_do_concat_batches", True),
    ):
        got = getattr(training_arguments, name)
        if got != needed:
            raise ValueError(
                f"`{name}` must be {str(needed).lower()} in this stage, got {str(got).lower()}: labels are scored on "
                "the answers to all rows together"
            )


STAGES: dict[str, type[StageArguments]] = {
    "pretrain": PretrainArguments,
    "instruct": InstructArguments,
    "classify": ClassifyArguments,
}
