"""The model's code beside what Trainer pushes while it trains."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.dynamic_module_utils import custom_object_save


class CodeForTheHub(TrainerCallback):
    """Makes every push of a Trainer complete: `Trainer(..., callbacks=[CodeForTheHub()])`.

    `trainer.push_to_hub()` saves the model, and with it the code. What Trainer pushes by itself after a checkpoint
    (`push_to_hub=True` with any `hub_strategy` but `end`) is the checkpoint's weights and configuration alone: without
    this callback, nobody could load the repository until the run is over.
    """

    def on_push_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Copies the code to the folder that is about to be pushed."""
        model = kwargs.get("model")
        if isinstance(model, PreTrainedModel) and args.output_dir is not None:
            custom_object_save(model, args.output_dir)
