"""What a recipe says that is likely not meant; nothing here keeps a run from starting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedConfig, Seq2SeqTrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from kakehashi.modeling import KakehashiConfig
from kakehashi.training.arguments import SequenceStageArguments, StageArguments
from kakehashi.training.recipe import CHECKPOINTING

if TYPE_CHECKING:
    from kakehashi.training.check_recipe import RecipeCheck

# Share of texts from which a limit is worth a word.
_NOTABLE_SHARE = 0.01
_POOR_EFFICIENCY = 0.7
_LARGE_SHARE_OF_MEMORY = 0.9


def find_warnings(
    checked: RecipeCheck,
    arguments: StageArguments,
    training_arguments: Seq2SeqTrainingArguments,
    config: PreTrainedConfig,
) -> list[str]:
    """Returns one sentence for each thing that is likely not meant.

    Args:
        checked: What is known of the run.
        arguments: The stage's arguments.
        training_arguments: Trainer's arguments.
        config: The model's configuration.
    """
    return [
        *_about_lengths(checked, config),
        *_about_steps(checked, training_arguments),
        *_about_data(checked, arguments, training_arguments),
        *_about_padding(checked, arguments, config),
        *_about_resources(checked, arguments, training_arguments),
    ]


def _about_lengths(checked: RecipeCheck, config: PreTrainedConfig) -> list[str]:
    warnings = []
    for side, numbers in checked.data["lengths"].items():
        share = numbers.get("cut", 0.0)
        if share >= _NOTABLE_SHARE:
            warnings.append(
                f"{share:.1%} of the {side}s are longer than {numbers['limit']} tokens and will be cut; 99 % have at "
                f"most {numbers['p99']}"
            )
        meant = getattr(config, "max_position_embeddings", None)
        if meant is not None and numbers["limit"] > meant:
            warnings.append(
                f"{side}s may have {numbers['limit']} tokens, but the model is meant for {meant} "
                "(`max_position_embeddings`)"
            )
    return warnings


def _about_steps(checked: RecipeCheck, training_arguments: Seq2SeqTrainingArguments) -> list[str]:
    steps, warnings = checked.run["steps"], []
    if training_arguments.warmup_steps >= 1 and training_arguments.warmup_steps > steps / 2:
        warnings.append(
            f"`warmup_steps` {training_arguments.warmup_steps:.0f} are more than half of the run's {steps:,} steps"
        )
    for what, strategy, every in (
        ("eval", training_arguments.eval_strategy, training_arguments.eval_steps),
        ("save", training_arguments.save_strategy, training_arguments.save_steps),
    ):
        if strategy in (IntervalStrategy.STEPS, SaveStrategy.STEPS) and every and every >= 1 and every > steps:
            warnings.append(f"`{what}_steps` {every:.0f} are more than the run's {steps:,} steps")
    return warnings


def _about_data(
    checked: RecipeCheck, arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments
) -> list[str]:
    warnings: list[str] = []
    data, step = checked.data, checked.step
    if step["examples"] > data["train"]["examples"]:
        what = "packed rows" if data["train"]["is_packed"] else "examples"
        warnings.append(
            f"a step takes {step['examples']:,.0f} {what}, but there are only {data['train']['examples']:,}: lower "
            "`per_device_train_batch_size` or `gradient_accumulation_steps`"
        )
    if not data["is_complete"]:
        warnings.append("not all rows were counted, for lack of time: steps and epochs follow from those that were")
    is_validated = training_arguments.eval_strategy != IntervalStrategy.NO
    if is_validated and "validation" not in data:
        warnings.append("`eval_strategy` asks for validation, but no rows are held out: there will be none")
    if not is_validated and "validation" in data and training_arguments.load_best_model_at_end:
        warnings.append("`load_best_model_at_end` needs an `eval_strategy`")
    return warnings


def _about_padding(checked: RecipeCheck, arguments: StageArguments, config: PreTrainedConfig) -> list[str]:
    efficiency = checked.step["packing_efficiency"]
    if efficiency >= _POOR_EFFICIENCY:
        return []
    if isinstance(arguments, SequenceStageArguments) and arguments.packing:
        remedy = "a smaller `packed_length` uses more"
    elif isinstance(arguments, SequenceStageArguments) and isinstance(config, KakehashiConfig):
        remedy = "`packing: true` would use nearly all"
    else:
        remedy = "smaller batches use more"
    return [f"only {efficiency:.0%} of the token slots hold tokens; {remedy}"]


def _about_resources(
    checked: RecipeCheck, arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments
) -> list[str]:
    warnings = []
    total, device = checked.memory["total"], checked.memory["device"]
    if device is not None and total is not None and total > _LARGE_SHARE_OF_MEMORY * device:
        warnings.append(
            f"a step needs about {total / 2**30:.1f} GiB of the {device / 2**30:.1f} GiB there are: lower "
            f"`per_device_train_batch_size`, or set `{CHECKPOINTING}: true`"
        )
    if training_arguments.device.type == "cuda" and not (training_arguments.bf16 or training_arguments.fp16):
        warnings.append("an accelerator is several times faster with `bf16: true`")
    folder: Any = training_arguments.output_dir
    if Path(folder).is_dir() and any(Path(folder).iterdir()) and not arguments.overwrite:
        warnings.append(f"{folder} is not empty: the run needs --resume, `overwrite: true` or another `output_dir`")
    return warnings
