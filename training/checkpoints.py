"""Checkpoints that are complete or invisible: how they are written, which one a run goes on from, which ones go."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn
from torch.distributed.checkpoint import FileSystemReader
from transformers import PreTrainedModel, Trainer
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput
from transformers.utils import CONFIG_NAME

from kakehashi.training.aside import WRITING_PREFIX, bring_to_disk, sync_folder
from kakehashi.training.console import notify

# Trainer writes this file last.
_STATE_FILE = "trainer_state.json"
# What is being removed stands under another name than a checkpoint's, as what is being written does.
_REMOVING_PREFIX = ".removing-"


class AtomicCheckpoints(Trainer):
    """Trainer whose checkpoints are complete or invisible, also after a power cut.

    A plain Trainer writes into `checkpoint-N` itself, so that a killed process leaves half of one that
    `resume_from_checkpoint=True` then takes. Here every process writes into `.writing-checkpoint` beside it; the
    first one brings files and folders to the disk, gives the folder its name in one step, and only then removes what
    `save_total_limit` no longer allows. Processes on several machines have to share the output folder.

    Use it alone or before any other trainer: `class MyTrainer(AtomicCheckpoints, Seq2SeqTrainer): pass`.
    """

    _aside: Path | None = None
    # Whether this trainer has saved a checkpoint, so that the newest one is its own.
    has_saved = False

    def _get_output_dir(self, trial: Any) -> str:
        """Returns the run folder, and while a checkpoint is written the folder aside."""
        return super()._get_output_dir(trial) if self._aside is None else str(self._aside)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Uploads a checkpoint once it has its name; an upload goes on while training does."""
        if self._aside is None:
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Writes a checkpoint aside, then moves it into place."""
        run_folder = Path(super()._get_output_dir(trial))
        aside = run_folder / f"{WRITING_PREFIX}checkpoint"
        checkpoint = run_folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            remove_leftovers(run_folder)
        self.accelerator.wait_for_everyone()
        self._aside = aside
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
        except BaseException as error:
            # What is half written takes the room by whose lack torch's error is known.
            has_room = not is_disk_full(error, run_folder)
            shutil.rmtree(aside, ignore_errors=True)
            if has_room:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run_folder)) from error
        finally:
            self._aside = None
        if self.state.best_model_checkpoint == str(aside / checkpoint.name):
            self.state.best_model_checkpoint = str(checkpoint)
        if self.args.should_save:
            self.state.save_to_json(str(aside / checkpoint.name / _STATE_FILE))
            move_into_place(aside / checkpoint.name, checkpoint)
            rotate_checkpoints(checkpoint, self.args.save_total_limit, self.state.best_model_checkpoint)
        self.has_saved = True
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(checkpoint))

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        """Takes up the state of a checkpoint, but for what the arguments say and where the folder stands by now."""
        place = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is None:
            return place
        self.state.compute_steps(self.args, max_steps)
        best = Path(resume_from_checkpoint).with_name(f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}")
        if best.is_dir():
            self.state.best_model_checkpoint = str(best)
        return place

    def _finalize_training(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Ends training with all checkpoints there are: Trainer would remove the one that a signal has asked for."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Returns whether an error says that the disk is full.

    Args:
        error: What was raised while a file was written.
        folder: Where it was written; where torch says only that something is wrong, the room left there decides.
    """
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    text = str(error)
    # A disk with a quota has room that this user has not.
    if any(words in text for words in ("No space left", "quota exceeded", "file write failed")):
        return True
    is_torch_write = "PytorchStreamWriter" in text or "unexpected pos" in text
    return is_torch_write and shutil.disk_usage(folder).free < 2**20


def move_into_place(written: Path, checkpoint: Path) -> None:
    """Gives a written checkpoint its name, after everything in it has reached the disk.

    Args:
        written: Complete checkpoint, in a folder of its own beside its place.
        checkpoint: Its place. What stands there, damaged or of a course that was left, is removed.

    Raises:
        OSError: If the disk does not take it.
    """
    bring_to_disk(written)
    if checkpoint.exists():
        remove_checkpoint(checkpoint)
    os.rename(written, checkpoint)
    written.parent.rmdir()
    sync_folder(checkpoint.parent)


def rotate_checkpoints(newest: Path, limit: int | None, best: str | None = None) -> None:
    """Removes checkpoints until as many are left as allowed.

    Later steps than the newest's belong to a course that was left; a resumption would go back to them. Trainer's own
    function deletes in place and by time of change: killed meanwhile, it leaves a checkpoint with files missing.

    Args:
        newest: Checkpoint that was written last; it stays.
        limit: How many may stay, `save_total_limit`; None or 0 keeps all but later steps.
        best: Checkpoint that stays too, as `TrainerState.best_model_checkpoint` names it; None for none.
    """
    checkpoints = list_checkpoints(newest.parent)
    kept = {newest, newest.parent / Path(best).name} if best else {newest}
    others = [each for each in checkpoints[checkpoints.index(newest) :] if each not in kept]
    room = max(0, limit - sum(each in kept for each in checkpoints)) if limit else len(others)
    for checkpoint in [*checkpoints[: checkpoints.index(newest)], *others[room:]]:
        remove_checkpoint(checkpoint)


def remove_checkpoint(checkpoint: Path) -> None:
    """Removes a checkpoint; from the first moment on it is invisible."""
    invisible = checkpoint.with_name(_REMOVING_PREFIX + checkpoint.name)
    shutil.rmtree(invisible, ignore_errors=True)
    os.rename(checkpoint, invisible)
    shutil.rmtree(invisible, ignore_errors=True)


def leftovers(run_folder: Path) -> list[Path]:
    """Returns what a killed process was writing or removing."""
    return [path for prefix in (WRITING_PREFIX, _REMOVING_PREFIX) for path in run_folder.glob(f"{prefix}*")]


def remove_leftovers(run_folder: Path) -> None:
    """Removes what a killed process was writing or removing."""
    for path in leftovers(run_folder):
        shutil.rmtree(path, ignore_errors=True)


def list_checkpoints(run_folder: Path) -> list[Path]:
    """Returns the checkpoint folders of a run, newest first, complete or not."""
    found = [(int(match[1]), path) for path in run_folder.glob("checkpoint-*") if (match := _step(path)) is not None]
    return [path for _, path in sorted(found, reverse=True)]


def _step(path: Path) -> re.Match[str] | None:
    return re.fullmatch(r"checkpoint-(\d+)", path.name) if path.is_dir() else None


def find_damage(checkpoint: Path) -> str | None:
    """Returns what makes a checkpoint unusable, or None if it is complete.

    Every file that a resumption reads is opened: sizes and headers are checked, not each number.

    Args:
        checkpoint: A folder that Trainer wrote, possibly cut off at any moment; weights and optimizer in one file
            each or sharded by FSDP.
    """
    try:
        TrainerState.load_from_json(str(checkpoint / _STATE_FILE))
    except FileNotFoundError:
        return f"{_STATE_FILE} is missing"
    except (OSError, ValueError, TypeError):
        return f"{_STATE_FILE} is damaged"
    names = {path.name for path in checkpoint.iterdir()}
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    if not weights and not any(name.startswith("pytorch_model_fsdp") for name in names):
        return "it holds no weights"
    for name in weights:
        try:
            with safe_open(checkpoint / name, framework="pt"):
                pass
        except (SafetensorError, OSError):
            return f"{name} is cut off or damaged"
    is_sharded = any(name == "optimizer.bin" or name.startswith("optimizer_") for name in names)
    required = {"scheduler.pt"} if is_sharded else {"scheduler.pt", "optimizer.pt"}
    # A resumption takes the arguments from the recipe.
    found = {name for name in names if name.endswith((".pt", ".pth", ".bin"))} - {"training_args.bin"}
    for name in sorted(required | found):
        # A torch file is a zip archive, whose directory stands at its end.
        if not zipfile.is_zipfile(checkpoint / name):
            return f"{name} is missing, cut off or damaged"
    folders = sorted(checkpoint / name for name in names if name.startswith(("pytorch_model_fsdp_", "optimizer_")))
    return next((damage for folder in folders if (damage := _find_shard_damage(folder)) is not None), None)


def _find_shard_damage(folder: Path) -> str | None:
    """Returns what is wrong with a folder that `torch.distributed.checkpoint` wrote, or None."""
    try:
        parts = (FileSystemReader(folder).read_metadata().storage_data or {}).values()
    except Exception:  # a damaged pickle raises anything
        return f"{folder.name}/.metadata is missing or damaged"
    for part in parts:
        file = folder / part.relative_path
        if not file.is_file() or file.stat().st_size < part.offset + part.length:
            return f"{folder.name}/{part.relative_path} is missing or cut off"
    return None


def newest_checkpoint(run_folder: Path) -> Path | None:
    """Returns the newest complete checkpoint of a run, or None if it saved none.

    Args:
        run_folder: Output folder of the run. Newer, damaged checkpoints are skipped with one line each.

    Raises:
        ValueError: If there are checkpoints and none is usable.
    """
    damages: list[str] = []
    for checkpoint in list_checkpoints(run_folder):
        damage = find_damage(checkpoint)
        if damage is None:
            for line in damages:
                notify(f"{line}; skipped, going on from {checkpoint.name}")
            return checkpoint
        damages.append(f"{checkpoint}: {damage}")
    if damages:
        raise ValueError(f"no checkpoint in {run_folder} is usable: {'; '.join(damages)}")
    return None


def require_same_model(checkpoint: Path, model: PreTrainedModel) -> None:
    """Checks that the weights of a checkpoint mean in a model what they meant when they were trained.

    Args:
        checkpoint: A complete checkpoint; one of adapters has no configuration and is not checked.
        model: The model of the recipe that is to go on.

    Raises:
        ValueError: If its labels or one of its sizes are others.
    """
    path = checkpoint / CONFIG_NAME
    if not path.is_file():
        return
    saved = json.loads(path.read_text(encoding="utf-8"))
    own = json.loads(model.config.to_json_string(use_diff=False))
    for key, value in saved.items():
        # Trainer takes the special ids from the tokenizer, but only when it begins.
        is_size = type(value) is int and not key.endswith("_token_id")
        if (is_size or key == "id2label") and own.get(key) != value:
            raise ValueError(
                f"`--resume` must go on with the model of {checkpoint}, whose `{key}` is {value}, got {own.get(key)}: "
                "take the recipe it was begun with, or begin anew with --overwrite true"
            )
