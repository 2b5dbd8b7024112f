"""The folder of a run: refused when it holds something else, filled at once when the run is complete."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
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

from kakehashi.tokenization import save_tokenizer
from kakehashi.training.arguments import StageArguments, require_compatible
from kakehashi.training.aside import WRITING_PREFIX, bring_to_disk, sync_folder
from kakehashi.training.checkpoints import (
    find_damage,
    leftovers,
    list_checkpoints,
    newest_checkpoint,
    remove_checkpoint,
    remove_leftovers,
)
from kakehashi.training.console import notify
from kakehashi.training.curves import plot_curves
from kakehashi.training.early_stopping import settle_stopping
from kakehashi.training.folder_lock import holding_folder, lock_folder, unlock_folder
from kakehashi.training.lora import ADAPTER_FOLDER, Adapter
from kakehashi.training.processes import is_first_process
from kakehashi.training.recipe import write_recipe
from kakehashi.training.reporting import check_reporters
from kakehashi.training.run_files import (
    MANIFEST,
    METRICS_FILE,
    PICTURE,
    RECIPE_FILE,
    VERSIONS_FILE,
    claim_file,
    listed_files,
    write_json,
    write_list,
)

# Value of `resume_from_checkpoint` that `--resume` stands for.
RESUME_NEWEST = "newest"
# Where an earlier run waits inside its folder until the one that replaces it has something to keep.
_REPLACED_RUN = ".replaced-run"
_PACKAGES = ("kakehashi", "torch", "transformers", "tokenizers", "datasets", "accelerate", "evaluate", "numpy")


def output_folder(training_arguments: TrainingArguments) -> Path:
    """Returns the folder of a run."""
    # No recipe is read without it.
    assert training_arguments.output_dir is not None
    return Path(training_arguments.output_dir)


@contextmanager
def no_empty_folder_left(folder: Path) -> Iterator[None]:
    """Leaves the output folder as it was if what runs inside fails with nothing to keep, and lets go of it at the end.

    Args:
        folder: Output folder; it need not exist yet. After a failure the earlier run is back in it, or it is removed.
    """
    try:
        yield
    except BaseException:
        if is_first_process() and folder.is_dir():
            _leave_as_it_was(folder)
        raise
    finally:
        unlock_folder(folder)


def _leave_as_it_was(folder: Path) -> None:
    """Puts back the run that was to be replaced, or removes a folder that is empty."""
    try:
        lock_folder(folder)
    except ValueError:
        # What is there is being written by the run of another process.
        return
    _put_back_replaced_run(folder)
    # A folder with something in it stays, and so does one that is a link, or `.`.
    with suppress(OSError):
        folder.rmdir()


def open_run_folder(arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments) -> Path | None:
    """Makes the output folder ready, and holds it until the end of `no_empty_folder_left`.

    Args:
        arguments: `overwrite` allows to replace what an earlier run wrote, which `remove_replaced_run` then removes.
        training_arguments: `output_dir` is the folder; `resume_from_checkpoint` is None, `newest` or a folder.

    Returns:
        The checkpoint to go on from, None for a fresh start. A run that was killed before its first checkpoint is
        resumed from the beginning.

    Raises:
        ValueError: If the folder holds something and the run neither goes on with that nor overwrites it, or another
            run is using it, or if there is no usable checkpoint to resume from, or the run asks for what cannot watch
            it.
        OSError: If nothing can be written into the folder.
    """
    require_compatible(arguments, training_arguments)
    settle_stopping(arguments, training_arguments)
    check_reporters(training_arguments)
    folder = output_folder(training_arguments)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`output_dir` must be a folder, got the file {folder}")
    resume = training_arguments.resume_from_checkpoint
    if resume != RESUME_NEWEST:
        folder.mkdir(parents=True, exist_ok=True)
    # Where this raises, the others end too.
    if is_first_process() and folder.is_dir():
        lock_folder(folder)
        _require_writable(folder)
        _undo_cut_off_moves(folder)
        if resume is None or not (_is_own(resume, folder) or holds_only_remains(folder)):
            _put_back_replaced_run(folder)
            _make_room(folder, overwrite=arguments.overwrite)
    return None if resume is None else _checkpoint_to_resume(folder, resume)


def _require_writable(folder: Path) -> None:
    """Raises an OSError that names the folder if nothing can be written into it."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


def _make_room(folder: Path, *, overwrite: bool) -> None:
    """Sets an earlier run aside where it may be replaced; anything else in the folder is refused."""
    earlier_run = set(_list_run(folder)) if overwrite else set()
    if not set(folder.iterdir()) <= earlier_run:
        hint = "it holds files that no run wrote" if overwrite else "add --resume to go on with its run, "
        if not overwrite:
            hint += "--overwrite true to replace it, or choose another folder"
        raise ValueError(f"`output_dir` must be empty, got {folder}: {hint}")
    if earlier_run:
        _set_run_aside(folder)


def _is_own(resume: str, folder: Path) -> bool:
    """Returns whether `resume_from_checkpoint` means a checkpoint of the folder's own run."""
    return resume == RESUME_NEWEST or Path(resume).resolve().parent == folder.resolve()


def _checkpoint_to_resume(folder: Path, resume: str) -> Path | None:
    """Returns the checkpoint that `resume_from_checkpoint` means; None where a run was cut off before its first."""
    if resume == RESUME_NEWEST:
        checkpoint = newest_checkpoint(folder)
        if checkpoint is None and not holds_only_remains(folder):
            raise ValueError(f"`--resume` needs a checkpoint in `output_dir`, got none in {folder}")
        if checkpoint is None:
            notify(f"no checkpoint in {folder} yet; starting from the beginning")
        remove_leftovers(folder)
        return checkpoint
    damage = find_damage(Path(resume))
    if damage is not None:
        raise ValueError(f"`resume_from_checkpoint` must be a complete checkpoint, got {resume}: {damage}")
    if (folder / METRICS_FILE).is_file():
        raise ValueError(
            f"`output_dir` must hold no complete run where `resume_from_checkpoint` names a folder, got {folder}: "
            "choose another folder"
        )
    return Path(resume)


def holds_only_remains(folder: Path) -> bool:
    """Returns whether a folder holds nothing but what a run leaves that is killed before it has anything to keep.

    Args:
        folder: Output folder; it need not exist.
    """
    written = {*leftovers(folder), *(folder / name for name in listed_files(folder)), folder / _REPLACED_RUN}
    return folder.is_dir() and set(folder.iterdir()) <= written - {folder / METRICS_FILE}


def finished_metrics(folder: Path) -> dict[str, Any] | None:
    """Returns the numbers of a run that is complete, after removing checkpoints it no longer needs; None if it is not.

    Args:
        folder: Output folder; it need not exist.
    """
    file = folder / METRICS_FILE
    if is_first_process() and folder.is_dir():
        with holding_folder(folder):
            _undo_cut_off_moves(folder)
            if file.is_file():
                remove_replaced_run(folder)
                remove_leftovers(folder)
                remove_checkpoints(folder)
    if not file.is_file():
        return None
    metrics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return metrics


def _list_run(folder: Path) -> list[Path]:
    """Returns everything in a folder that a run wrote, its list of files last."""
    listed = [folder / name for name in listed_files(folder)]
    return [*leftovers(folder), *list_checkpoints(folder), *(path for path in listed if os.path.lexists(path))]


def _set_run_aside(folder: Path) -> None:
    """Moves what a run wrote out of the way of the next one: a typo in the new recipe must not cost the old run."""
    remove_leftovers(folder)
    # A run that was killed early may have none.
    claim_file(folder, MANIFEST)
    aside = folder / _REPLACED_RUN
    aside.mkdir()
    # The list of files goes last, and comes back first: a list aside belongs to a run that is aside as a whole.
    for path in _list_run(folder):
        os.replace(path, aside / path.name)


def _put_back_replaced_run(folder: Path) -> None:
    """Undoes `_set_run_aside`, and removes what has been written since."""
    aside = folder / _REPLACED_RUN
    if (aside / MANIFEST).is_file():
        for path in _list_run(folder):
            _remove(path)
        os.replace(aside / MANIFEST, folder / MANIFEST)
    _undo_cut_off_moves(folder)


def _undo_cut_off_moves(folder: Path) -> None:
    """Puts back a run that is not aside as a whole, because moving it there or back was cut off."""
    aside = folder / _REPLACED_RUN
    if not aside.is_dir() or (aside / MANIFEST).is_file():
        return
    for path in aside.iterdir():
        os.replace(path, folder / path.name)
    aside.rmdir()


def remove_replaced_run(folder: Path) -> None:
    """Removes the run that another one replaces, once that has something to keep.

    Args:
        folder: Output folder; where a run over folds or seeds has listed it as a part, what that replaces goes too.
    """
    is_part = folder.name in listed_files(folder.parent)
    for place in (folder, folder.parent) if is_part else (folder,):
        if (place / _REPLACED_RUN).is_dir():
            remove_checkpoint(place / _REPLACED_RUN)


class EarlierRunRemover(TrainerCallback):
    """Removes the run that another one replaces once that has a checkpoint, also before anything is pushed."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Removes it: the first checkpoint has its name."""
        if is_first_process():
            remove_replaced_run(output_folder(args))

    on_push_begin = on_save


def _remove(path: Path, *, only_folder: bool = False) -> None:
    """Removes a file or a folder with all in it, if it is there; a file only if that is asked for."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif not only_folder:
        path.unlink(missing_ok=True)


def remove_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of a run, complete or not."""
    for checkpoint in list_checkpoints(folder):
        remove_checkpoint(checkpoint)


def fill_run_folder(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Mapping[str, Any],
    training_arguments: Seq2SeqTrainingArguments,
    command: str,
    metrics: Mapping[str, Any],
    log_history: Sequence[Mapping[str, Any]],
    adapter: Adapter | None = None,
) -> None:
    """Writes everything a complete run leaves: all files aside first, then each moved into place.

    The checkpoints, no longer needed, are removed at the end.

    Args:
        model: The trained model.
        tokenizer: Its tokenizer.
        recipe: The resolved recipe, for `recipe.yaml`.
        training_arguments: Trainer's arguments; `output_dir` is the folder.
        command: Command of the stage, such as `pretrain`.
        metrics: Final numbers, for `metrics.json`.
        log_history: Trainer's log, for `log_history.json` and `loss.png`.
        adapter: What LoRA trained, for the folder `adapter`; None for a run without it.
    """
    folder = output_folder(training_arguments)
    aside = Path(tempfile.mkdtemp(prefix=WRITING_PREFIX, dir=folder))
    try:
        model.save_pretrained(aside)
        save_tokenizer(tokenizer, aside)
        if adapter is not None:
            adapter.save(aside / ADAPTER_FOLDER)
        write_recipe(recipe, command, aside / RECIPE_FILE, metrics.get("part"))
        write_json(aside / VERSIONS_FILE, describe_environment(training_arguments))
        write_json(aside / "log_history.json", list(log_history))
        plot_curves(log_history, aside / PICTURE)
        write_json(aside / METRICS_FILE, dict(metrics))
        names = sorted([path.name for path in aside.iterdir()])
        # What was written while the run went on stays its own.
        write_list({*names, *listed_files(folder)}, aside / MANIFEST)
        bring_to_disk(aside)
        # The list of files goes first: whatever happens next, they are known to be the run's own.
        for name in [MANIFEST, *(name for name in names if name != METRICS_FILE), METRICS_FILE]:
            # A folder cannot replace one that a run killed at this place has left.
            _remove(folder / name, only_folder=True)
            os.replace(aside / name, folder / name)
        sync_folder(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    remove_replaced_run(folder)
    remove_checkpoints(folder)


def describe_environment(training_arguments: Seq2SeqTrainingArguments) -> dict[str, Any]:
    """Returns versions, commit and hardware, as `versions.json` keeps them."""
    device = training_arguments.device
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "python": platform.python_version(),
        **{name: _package_version(name) for name in _PACKAGES},
        "git_commit": _git_commit(),
        "platform": platform.platform(),
        "device": device.type,
        "accelerator": accelerator,
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "command": " ".join(sys.argv),
    }


def _package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Returns the commit of the source tree that this file stands in; None for an installed copy."""
    source = Path(__file__).resolve().parents[1]
    if not (source / ".git").exists():
        return None
    try:
        asked = ["git", "-C", str(source), "rev-parse", "HEAD"]
        return subprocess.run(asked, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
