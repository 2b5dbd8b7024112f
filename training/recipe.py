"""Recipes: flat YAML whose keys are argument names, any of them overridden on the command line."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
import yaml
from transformers import HfArgumentParser, Seq2SeqTrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import IntervalStrategy

from kakehashi.training.arguments import STAGES, TRAINING_DEFAULTS, StageArguments, read_mapping
from kakehashi.training.bfloat16 import computes_bfloat16
from kakehashi.training.console import notify
from kakehashi.training.processes import launched_processes
from kakehashi.training.recipes import find_recipe, list_recipes

Stage = TypeVar("Stage", bound=StageArguments)

UNBOUNDED_EPOCHS = 10_000.0
"""`num_train_epochs` of a run that time alone ends: more than any run reaches.

`parse_recipe` gives it; whoever makes Trainer's arguments in Python gives it beside `max_minutes`, where the epochs
that Trainer has by default would count as well.
"""

CHECKPOINTING = (
    "activation_checkpointing"
    if hasattr(Seq2SeqTrainingArguments, "activation_checkpointing")
    else "gradient_checkpointing"
)
"""What this version of Transformers calls the key that has layers computed again in place of kept."""

_COUNTS = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a recipe as it stands in its file.

    Args:
        path: A YAML file, or the name of a shipped recipe where no such file exists.

    Returns:
        Keys and values as YAML reads them.

    Raises:
        ValueError: If there is no such recipe or it is not a flat YAML mapping.
    """
    file = Path(path)
    if not file.is_file():
        shipped = find_recipe(file.name) if len(file.parts) == 1 else None
        if shipped is None:
            raise ValueError(f"`recipe` must be a YAML file or one of {', '.join(list_recipes())}, got {str(path)!r}")
        file = shipped
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"`recipe` {file} must be UTF-8 text: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"`recipe` {file} must be YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"`recipe` {file} must be a mapping of `key: value` lines, got {type(content).__name__}")
    return content


def read_overrides(tokens: Sequence[str]) -> dict[str, Any]:
    """Reads `--key value`, `--key=value`, `--key v1 v2` and `--flag` from a command line.

    Args:
        tokens: What the command line holds beside the recipe. A key's hyphens count as underscores.

    Returns:
        Text for one value, a list of texts for several, True for none.

    Raises:
        ValueError: If a value stands before the first key.
    """
    overrides: dict[str, Any] = {}
    values: dict[str, list[str]] = {}
    key = None
    for token in tokens:
        if token.startswith("--"):
            name, separator, value = token[2:].partition("=")
            key = name.replace("-", "_")
            values[key] = [value] if separator else []
        elif key is None:
            raise ValueError(f"arguments must have the form --key value, got {token!r} without a key")
        else:
            values[key].append(token)
    for key, given in values.items():
        overrides[key] = True if not given else given[0] if len(given) == 1 else given
    return overrides


def parse_recipe(
    stage: type[Stage], recipe: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> tuple[Stage, Seq2SeqTrainingArguments]:
    """Turns the keys of a recipe into the arguments of a stage.

    Args:
        stage: Dataclass of the stage's own keys.
        recipe: Keys and values of the recipe.
        overrides: Keys and values that replace those of the recipe; a `model` also takes the place of the recipe's
            `preset` and `config_overrides`, a `preset` that of its `model`, and `max_minutes` without
            `num_train_epochs` and `max_steps` that of its `num_train_epochs` and `max_steps`.

    Returns:
        The stage's arguments and Trainer's. `bf16` and `bf16_full_eval` are false on a processor that only imitates
        it, whatever was asked; `num_train_epochs` is `UNBOUNDED_EPOCHS` where `max_minutes` was given and it was not.

    Raises:
        ValueError: If a key is unknown (naming the nearest one), a value has the wrong type or nothing would be done
            with it, two keys exclude each other, or there is no `output_dir`.
    """
    given = _merge(recipe, overrides or {})
    kinds: Any = [stage, Seq2SeqTrainingArguments]
    parser = HfArgumentParser(kinds, add_help=False, allow_abbrev=False, exit_on_error=False)
    # Complements such as `--no_x` have the destination of `x`: the first action of each name is the key itself.
    actions = {action.option_strings[0].removeprefix("--"): action for action in parser._actions}
    _require_known(given, [name for name, action in actions.items() if action.dest == name])
    if not given.get("output_dir"):
        raise ValueError("`output_dir` must name the folder of the run, got nothing")
    hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}
    typed = {key: _typed(parser, actions[key], value, hints[key]) for key, value in given.items()}
    values = {**_defaults(), **typed}
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched in ("bf16", "fp16") and not {"bf16", "fp16"} & values.keys():
        # What accelerate's configuration says of precision, unless the recipe says something else.
        values[launched] = True
    if values.get("max_minutes") is not None:
        values.setdefault("num_train_epochs", UNBOUNDED_EPOCHS)
    _require_work(values)
    if values.get("compile_layers") and values.get("torch_compile"):
        raise ValueError("`compile_layers` must be false where `torch_compile` is true, got true")
    halved = [name for name in ("bf16", "bf16_full_eval") if values.get(name)]
    if (halved or launched_processes() > 1) and not torch.accelerator.is_available():
        # Trainer takes bfloat16, and accelerate several processes, on processors only if told that these are meant.
        values.setdefault("use_cpu", True)
    if halved and values.get("use_cpu") and not computes_bfloat16("cpu"):
        notify(
            "computing in float32: this processor has no instructions for bfloat16, which it would be far slower in"
        )
        values |= dict.fromkeys(halved, False)
    arguments, training_arguments = parser.parse_dict(values)
    # Or Trainer would go by accelerate's configuration even so.
    training_arguments.mixed_precision = _precision(training_arguments)
    if training_arguments.world_size == 1 and training_arguments.n_gpu > 1:
        _take_one_gpu(stage, training_arguments)
    if ends_by_time(arguments, training_arguments):
        _require_whole_steps(training_arguments)
    return arguments, training_arguments


def _defaults() -> dict[str, Any]:
    """Returns our defaults of Trainer's keys, on this machine."""
    return {**TRAINING_DEFAULTS, "dataloader_pin_memory": torch.cuda.is_available()}


def _precision(training_arguments: Seq2SeqTrainingArguments) -> str:
    """Returns the precision of products, as accelerate names it."""
    return "bf16" if training_arguments.bf16 else "fp16" if training_arguments.fp16 else "no"


def ends_by_time(arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments) -> bool:
    """Returns whether time alone ends a run, so that its steps are known only afterwards.

    Args:
        arguments: The stage's arguments; a stream has no epochs that could end it.
        training_arguments: Trainer's arguments.
    """
    if arguments.max_minutes is None or training_arguments.max_steps > 0:
        return False
    return training_arguments.num_train_epochs >= UNBOUNDED_EPOCHS or getattr(arguments, "streaming", False)


def _take_one_gpu(stage: type[StageArguments], training_arguments: Seq2SeqTrainingArguments) -> None:
    """Keeps Trainer from cutting each batch for all GPUs that one process sees, and says how to use them."""
    count = training_arguments.n_gpu
    command = next(name for name, kind in STAGES.items() if issubclass(stage, kind))
    notify(f"training on one GPU of {count}; `torchrun --nproc-per-node {count} -m kakehashi {command}` takes all")
    training_arguments._n_gpu = 1


def _require_whole_steps(training_arguments: Seq2SeqTrainingArguments) -> None:
    """Raises a ValueError for what would happen at shares of a number of steps that nobody knows."""
    for what in ("logging", "eval", "save"):
        every = getattr(training_arguments, f"{what}_steps")
        if getattr(training_arguments, f"{what}_strategy") == IntervalStrategy.STEPS and every < 1:
            raise ValueError(
                f"`{what}_steps` must be a whole number where `max_minutes` alone ends the run, got {every}: a share "
                "of steps that are not known before"
            )


def _require_work(values: Mapping[str, Any]) -> None:
    """Raises a ValueError for a batch of nothing and for a run of no epochs."""
    for name in _COUNTS:
        if values.get(name, 1) < 1:
            raise ValueError(f"`{name}` must be at least 1, got {values[name]}")
    epochs = values.get("num_train_epochs", 1)
    if not epochs > 0 and values.get("max_steps", -1) <= 0:
        raise ValueError(f"`num_train_epochs` must be greater than 0 where `max_steps` is not given, got {epochs}")


def _merge(recipe: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the recipe with its keys replaced; a new starting point or end takes the place of the recipe's."""
    given = {key for key, value in overrides.items() if value is not None}
    dropped: set[str] = set()
    if "model" in given:
        dropped = {"preset", "config_overrides"}
    elif "preset" in given:
        dropped = {"model"}
    ends = {"num_train_epochs", "max_steps"}
    if "max_minutes" in given and not ends & given:
        dropped |= ends
    return {**{key: value for key, value in recipe.items() if key not in dropped}, **overrides}


def _require_known(given: Iterable[str], known: Sequence[str]) -> None:
    """Raises a ValueError for the first key that no argument has."""
    for key in given:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"`{key}` is not a recipe key; did you mean `{nearest}`?")


def _typed(parser: HfArgumentParser, action: argparse.Action, value: Any, hint: Any) -> Any:
    """Returns a value in the type its argument declares, by the parser that would read it from a command line.

    Args:
        parser: Knows all keys, each as one of the types it is declared to have.
        action: The key in it.
        value: As YAML or `read_overrides` gives it.
        hint: All types of the key.
    """
    is_list = isinstance(value, (list, tuple))
    if value is None or isinstance(value, dict) or (is_list and action.nargs != "+"):
        # What a command line cannot spell is passed on as YAML read it.
        wanted = type(None) if value is None else list if is_list else dict
        if wanted not in [get_origin(kind) or kind for kind in get_args(hint)]:
            how = "; a value with spaces needs quotes, a flag such as --resume takes no value" if is_list else ""
            raise ValueError(f"`{action.dest}` must be {_type_name(action)}, got {value!r}{how}")
        return value
    if action.dest.endswith(("_kwargs", "_config")) and isinstance(value, str) and value.startswith("{"):
        # As in a recipe; Trainer itself would only read JSON.
        return read_mapping(value, action.dest)
    if action.dest == "fsdp" and str(value).lower() in ("true", "false"):
        # Declared as text, from the times when it held options.
        return str(value).lower() == "true"
    if isinstance(value, bool) and action.type in (str, int, float):
        how = ", which a key without a value means" if value else ""
        raise ValueError(f"`{action.dest}` must be {_type_name(action)}, got {value}{how}")
    option = f"--{action.dest}"
    tokens = [option, *map(str, value)] if is_list else [f"{option}={value}"]
    try:
        return getattr(parser.parse_known_args(tokens)[0], action.dest)
    except argparse.ArgumentError as error:
        raise ValueError(f"`{action.dest}` must be {_type_name(action)}, got {value!r}") from error


def _type_name(action: argparse.Action) -> str:
    """Returns how an error names what an argument accepts."""
    if action.choices:
        return f"one of {', '.join(map(str, action.choices))}"
    names = {int: "a whole number", float: "a number", str: "text", dict: "a mapping"}
    if action.type in names:
        return names[action.type]
    return "true or false"


def resolved_recipe(arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments) -> dict[str, Any]:
    """Returns every key whose value is not the default, so that reading them again gives the same arguments.

    Args:
        arguments: The stage's arguments.
        training_arguments: Trainer's arguments.

    Returns:
        Keys in the order their dataclasses declare them, values as YAML can write them.
    """
    stage_defaults = type(arguments)()
    # Making arguments settles anew where the process trains, so these have to say the same.
    use_cpu = training_arguments.use_cpu
    defaults = {**_defaults(), "output_dir": "", "use_cpu": use_cpu}
    if arguments.max_minutes is not None:
        defaults["num_train_epochs"] = UNBOUNDED_EPOCHS
    training_defaults = type(training_arguments)(**defaults)
    # How one run treated its folder, and where it had to run, is not handed on to the next one by its recipe, and a
    # secret not to anybody.
    left_out = {"overwrite", "resume_from_checkpoint", "hub_token"}
    if CHECKPOINTING == "activation_checkpointing":
        # Trainer gives the old names the same values.
        left_out |= {"gradient_checkpointing", "gradient_checkpointing_kwargs"}
    chosen = {**_changed(arguments, stage_defaults), **_changed(training_arguments, training_defaults)}
    if use_cpu and torch.accelerator.is_available():
        chosen["use_cpu"] = True
    return {key: value for key, value in chosen.items() if key not in left_out}


def _changed(arguments: Any, defaults: Any) -> dict[str, Any]:
    """Returns the fields that differ from their defaults and that YAML can hold."""
    changed = {}
    for field in dataclasses.fields(arguments):
        value, default = getattr(arguments, field.name), getattr(defaults, field.name)
        if not field.init or value == default:
            continue
        value = _plain(value)
        if isinstance(value, (str, int, float, bool, list, dict)) or value is None:
            changed[field.name] = value
    return changed


def _plain(value: Any) -> Any:
    """Returns a value as YAML can hold it: Trainer makes choices and mappings objects of its own."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, AcceleratorConfig):
        return value.to_dict()
    return [_plain(item) for item in value] if isinstance(value, list) else value


def write_recipe(recipe: Mapping[str, Any], command: str, path: Path, part: Mapping[str, Any] | None = None) -> None:
    """Writes the resolved recipe of a run.

    Args:
        recipe: Keys and values as `resolved_recipe` gives them.
        command: Command that reads it, such as `pretrain`.
        path: File to write.
        part: Of one of several runs its `name`, its rows and the `keys` that make them all, see `Splits.part`; None
            for a run by itself.
    """
    title, options = "# The recipe of this run with every key that is not a default. To repeat it", ""
    if part is not None:
        title = (
            f"# The recipe of {part['name']}, one of several runs, with every key that is not a default. It had "
            f"{part['train_rows']} of the\n# {part['of_rows']} training rows. To repeat all of these runs"
        )
        options = "".join(f" --{key} {value}" for key, value in part["keys"].items())
    header = f"{title} into another folder:\n#   kakehashi {command} {path.name}{options} --output_dir OTHER\n"
    body = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True, width=119)
    path.write_text(header + body, encoding="utf-8")
