"""Reporting to TensorBoard, Trackio, Weights & Biases and whatever else Trainer reports to."""

from __future__ import annotations

import difflib
from pathlib import Path

from transformers import Seq2SeqTrainingArguments, Trainer
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from kakehashi.training.run_files import claim_file

# Where the package is not called as the key is.
_PACKAGES = {"azure_ml": "azureml-core", "comet_ml": "comet-ml"}
# Transformers does not list it among those it can look for.
_NEVER_LISTED = "flyte"
_TENSORBOARD_FOLDER = "runs"


def check_reporters(training_arguments: Seq2SeqTrainingArguments) -> None:
    """Checks that what a run is to report to is known and installed.

    Args:
        training_arguments: Trainer's arguments with `report_to`.

    Raises:
        ValueError: Naming the package to install, or the nearest name.
    """
    for name in training_arguments.report_to or []:
        if name not in INTEGRATION_TO_CALLBACK:
            nearest = difflib.get_close_matches(str(name), INTEGRATION_TO_CALLBACK, n=1, cutoff=0.0)[0]
            known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            raise ValueError(f"`report_to` must be among none, all, {known}, got {name!r}; did you mean `{nearest}`?")
        if name not in get_available_reporting_integrations() and name != _NEVER_LISTED:
            package = _PACKAGES.get(name, name)
            raise ValueError(
                f"`report_to` {name} needs the package {package}, which is not installed: pip install {package}"
            )


def settle_reporters(trainer: Trainer) -> None:
    """Lets reporters be called after the callbacks whose numbers they report.

    Trainer calls them before the callbacks it is given, so that what these add to a log would never be reported.

    Args:
        trainer: Trainer with all its callbacks; TensorBoard's folder is listed as the run's own.
    """
    kinds = tuple(INTEGRATION_TO_CALLBACK.values())
    trainer.callback_handler.callbacks.sort(key=lambda callback: isinstance(callback, kinds))
    arguments = trainer.args
    if "tensorboard" in (arguments.report_to or []) and arguments.output_dir and trainer.is_world_process_zero():
        claim_file(Path(arguments.output_dir), _TENSORBOARD_FOLDER)
