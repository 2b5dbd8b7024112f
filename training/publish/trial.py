"""Tries a folder as a stranger would: in a process without kakehashi, against the model it was made from."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from kakehashi.modeling.configuration_kakehashi import AUTO_MAP
from kakehashi.training.stranger import ask_stranger

_NUM_TOKENS = 12
# Two processes may sum in another order, by the number of their threads.
_TOLERANCE = 1e-4


def compare_as_stranger(model: PreTrainedModel, folder: Path) -> dict[str, str]:
    """Loads a folder where kakehashi cannot be imported and compares its outputs with those of a model.

    Args:
        model: The model that the folder was made from.
        folder: The folder.

    Returns:
        For each Auto class and each pipeline of its own the class that it finds in the folder.

    Raises:
        ValueError: If the folder does not load, lacks a class, or its outputs differ.
    """
    inputs = fixed_inputs(model)
    with torch.inference_mode():
        expected = model(**{name: torch.tensor(ids) for name, ids in inputs.items()})[0]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "outputs.safetensors"
        request = {
            "folders": {str(folder): auto_class_of(model)},
            "outputs": {"model": str(folder), "inputs": inputs, "file": str(file)},
        }
        try:
            reply = ask_stranger(request)
        except RuntimeError as error:
            last_line = str(error).strip().splitlines()[-1]
            raise ValueError(f"the folder does not load where kakehashi is not installed: {last_line}") from error
        outputs = load_file(file)["outputs"]
    if not torch.allclose(outputs.float(), expected.float(), rtol=_TOLERANCE, atol=_TOLERANCE):
        largest = (outputs.float() - expected.float()).abs().max().item()
        raise ValueError(f"the folder answers otherwise than the run it was made from, by up to {largest:.3g}")
    found = reply["auto_map"][str(folder)]
    missing = [name for name in AUTO_MAP if name not in found]
    if missing:
        raise ValueError(f"the folder has no class for {', '.join(missing)}")
    return found


def auto_class_of(model: PreTrainedModel) -> str:
    """Returns the name of the Auto class that gives a model's class."""
    return next(name for name, home in AUTO_MAP.items() if home.endswith(f".{type(model).__name__}"))


def fixed_inputs(model: PreTrainedModel) -> dict[str, list[list[int]]]:
    """Returns two rows of ids spread over the vocabulary, the second one half as long and padded.

    Args:
        model: The model that is to read them.

    Returns:
        Inputs by their name, each of shape (2, length).
    """
    size, pad = model.config.vocab_size, model.config.pad_token_id or 0
    ids = [(7919 * (index + 1)) % size for index in range(_NUM_TOKENS)]
    half = _NUM_TOKENS // 2
    inputs = {
        "input_ids": [ids, ids[:half] + [pad] * (_NUM_TOKENS - half)],
        "attention_mask": [[1] * _NUM_TOKENS, [1] * half + [0] * (_NUM_TOKENS - half)],
    }
    if model.config.is_encoder_decoder:
        start = [model.config.decoder_start_token_id]
        inputs["decoder_input_ids"] = [start + ids[:half], start + ids[half:]]
    return inputs
