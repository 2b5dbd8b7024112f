"""Low-rank adapters (LoRA) by one recipe key, put on by PEFT and merged into the model when the run is complete."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel

from kakehashi.training.arguments import StageArguments
from kakehashi.training.freezing import nearest_name
from kakehashi.training.starting_point import has_weights

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

# End of a class name → what PEFT calls the task, so that its `AutoPeftModel` classes find the head again.
_TASKS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "ForCausalLM": "CAUSAL_LM",
}
# What PEFT trains whole in every classifier.
_KNOWN_HEADS = ("classifier", "score")
ADAPTER_FOLDER = "adapter"


@dataclass(frozen=True)
class Adapter:
    """What LoRA trained, apart from the model it was trained on.

    Attributes:
        config: PEFT's description, with the name of the model it belongs to.
        weights: The low-rank matrices and the modules that were trained whole, such as a new head.
    """

    config: PeftConfig
    weights: dict[str, torch.Tensor]

    def save(self, folder: Path) -> None:
        """Writes `adapter_config.json` and `adapter_model.safetensors`, which `PeftModel.from_pretrained` reads.

        Args:
            folder: Folder to create.
        """
        from safetensors.torch import save_file

        folder.mkdir()
        self.config.save_pretrained(str(folder))
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.weights.items()}
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def add_adapter(model: PreTrainedModel, arguments: StageArguments) -> PreTrainedModel | PeftModel:
    """Returns the model with adapters on its linear layers, all else frozen but what is new in a classifier.

    A linear layer W becomes W + alpha / rank * B A, with A of shape (rank, in), B of shape (out, rank) and zero at
    first, so that training starts from the model as it was.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, section 4. Theirs are the attention
    projections only; here all linear layers of the blocks, as in Dettmers et al., "QLoRA", 2023, section 4.

    Args:
        model: Model to adapt.
        arguments: `lora_rank` and the other keys of LoRA; the model as it is if the rank is None or 0.

    Raises:
        ValueError: If PEFT is missing, the model has only random weights, or a target is no linear layer of it.
    """
    if not arguments.lora_rank:
        return model
    peft = _import_peft()
    if arguments.model is None or not has_weights(arguments.model):
        raise ValueError(f"`lora_rank` must be left out without a trained `model` to adapt, got {arguments.lora_rank}")
    targets = arguments.lora_target_modules
    _require_targets(model, targets or [])
    task = next((name for end, name in _TASKS.items() if type(model).__name__.endswith(end)), None)
    config = peft.LoraConfig(
        task_type=task,
        r=arguments.lora_rank,
        lora_alpha=arguments.lora_alpha or 2 * arguments.lora_rank,
        lora_dropout=arguments.lora_dropout,
        # PEFT's word for every linear layer but the head.
        target_modules=list(targets) if targets else "all-linear",
        # PEFT puts no adapters on these.
        modules_to_save=_new_modules(model) if task == "SEQ_CLS" else None,
    )
    with warnings.catch_warnings():
        # PEFT asks a model by the old name whether it computes layers once more.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return peft.get_peft_model(model, config)


def unwrap(model: nn.Module) -> nn.Module:
    """Returns the model inside its adapters; any other model as it is."""
    adapted: Any = model
    return adapted.get_base_model() if _is_adapted(model) else model


def merge_adapter(model: Any) -> tuple[PreTrainedModel, Adapter | None]:
    """Returns the plain model with its adapters added to its weights, and the adapters by themselves.

    Args:
        model: A trained model, whose adapters are taken off if it has any.

    Returns:
        The model that everyone can load, and what LoRA trained; None for a model without adapters.
    """
    if not _is_adapted(model):
        return model, None
    peft = _import_peft()
    weights = {name: weight.clone() for name, weight in peft.get_peft_model_state_dict(model).items()}
    adapter = Adapter(model.peft_config[model.active_adapter], weights)
    return model.merge_and_unload(), adapter


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ValueError("`lora_rank` needs the package peft: pip install 'kakehashi[lora]'") from error
    return peft


def _is_adapted(model: nn.Module) -> bool:
    # Told by what it offers, so that PEFT is needed only by those who use it.
    return hasattr(model, "merge_and_unload") and hasattr(model, "peft_config")


def _new_modules(model: PreTrainedModel) -> list[str]:
    """Returns what must train whole: the heads beside the body, and what the body has no weights for, as a pooler.

    The heads that PEFT saves itself are left out, and what lies in a head is part of it.
    """
    children = [name for name, module in model.named_children() if any(True for _ in module.parameters())]
    heads = [name for name in children if name != model.base_model_prefix]
    new = [name for name in getattr(model, "new_modules", []) if name.split(".")[0] not in heads]
    return [*(name for name in heads if name not in _KNOWN_HEADS), *new]


def _require_targets(model: nn.Module, targets: list[str]) -> None:
    """Raises a ValueError for the first target that is no linear layer, naming the nearest one."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            raise ValueError(
                f"`lora_target_modules` must name linear layers of the model, got {target!r}; "
                f"nearest: {nearest_name(linear, target)!r}"
            )
