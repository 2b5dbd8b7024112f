"""The folder for the Hub: everything a stranger needs and nothing else, written aside and put in place when complete.

run folder                            →  folder for the Hub
weights in one piece                     safetensors, in shards of at most 5 GB
config.json, generation_config.json      the same, with the complete map of Auto classes
*_kakehashi.py of the run                the code of the kakehashi that publishes
tokenizer, plots                         the same
recipe, versions, metrics, evaluations   the same, without folders, host and command line
log_history.json, run_files.json, …      stay behind
                                         README.md (the card), LICENSE
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kakehashi.tokenization import save_tokenizer
from kakehashi.training.card_arguments import check_license
from kakehashi.training.evaluations import EVALUATIONS_FILE
from kakehashi.training.finished_run import FinishedRun, read_finished_run
from kakehashi.training.inference import load_for_export
from kakehashi.training.model_card import list_plots, public_recipe, public_versions, write_model_card
from kakehashi.training.publish.inspection import inspect_folder, is_published, refuse_executable_files
from kakehashi.training.publish.trial import compare_as_stranger
from kakehashi.training.recipe import write_recipe
from kakehashi.training.run_files import METRICS_FILE, RECIPE_FILE, VERSIONS_FILE, write_json

_OUR_LICENSE = "apache-2.0"
_SIZE = re.compile(r"[1-9]\d*(KB|MB|GB|TB)")


def assemble_folder(
    run_dir: str | os.PathLike[str],
    repo_id: str,
    output_dir: Path,
    *,
    license: str | None = None,
    license_file: Path | None = None,
    max_shard_size: str = "5GB",
) -> dict[str, str]:
    """Makes the folder of a run's model for the Hub, and tries it as a stranger would.

    Args:
        run_dir: Folder of a finished run.
        repo_id: Name on the Hub, `user/name`.
        output_dir: Folder to make; one that was made by an earlier call is replaced.
        license: Licence of the weights as the Hub spells it; `None` takes the recipe's.
        license_file: Its text; `None` knows that of apache-2.0 only.
        max_shard_size: Largest size of one weights file, such as `5GB`.

    Returns:
        For each Auto class and each pipeline of its own the class that it finds in the folder.

    Raises:
        ValueError: If the run cannot be published as it is, naming what is missing or must not be there; if the
            folder does not load without kakehashi, or answers otherwise than the run.
    """
    if Path(run_dir).is_dir():
        refuse_executable_files(Path(run_dir))
    run = read_finished_run(run_dir)
    if not _SIZE.fullmatch(max_shard_size):
        raise ValueError(f"`--max-shard-size` must be a size such as 5GB or 500MB, got {max_shard_size!r}")
    license = license or run.recipe.get("license")
    license_text = _read_license(license, license_file)
    model, tokenizer = load_for_export(run.folder)
    with _put_in_place(output_dir) as aside:
        _save_model(model, tokenizer, aside, max_shard_size)
        _write_records(run, aside)
        _write_license(license, license_text, aside)
        write_model_card(run.folder, name=repo_id, license=license, destination=aside / "README.md")
        inspect_folder(aside, repo_id)
        found = compare_as_stranger(model, aside)
    return found


def _read_license(license: str | None, license_file: Path | None) -> str:
    """Returns the text of the licence that the weights are published under."""
    if not license:
        raise ValueError(
            "`--license` must name the licence of the weights as the Hub spells it, such as apache-2.0; the recipe of "
            "this run has no key `license`"
        )
    check_license(license)
    if license_file is not None:
        if not license_file.is_file():
            raise ValueError(f"`--license-file` must be a text file, but there is no file {license_file}")
        return license_file.read_text(encoding="utf-8")
    if license != _OUR_LICENSE:
        raise ValueError(f"`--license-file` must name the text of the licence {license}, got nothing")
    return _text_of_our_license()


def _text_of_our_license() -> str:
    source_tree = Path(__file__).resolve().parents[2]
    if (source_tree / "pyproject.toml").is_file():
        return (source_tree / "LICENSE").read_text(encoding="utf-8")
    text = distribution("kakehashi").read_text("licenses/LICENSE")
    # Packaging puts it there; an installation without it is broken.
    assert text is not None
    return text


def _write_license(license: str | None, text: str, folder: Path) -> None:
    (folder / "LICENSE").write_text(text, encoding="utf-8")
    if license != _OUR_LICENSE:
        # The code goes along, and it is under its own licence whatever the weights are under.
        (folder / "LICENSE-CODE").write_text(_text_of_our_license(), encoding="utf-8")


def _save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, max_shard_size: str) -> None:
    """Writes weights, configurations, tokenizer and every file of code that remote loading may ask for."""
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    save_tokenizer(tokenizer, folder)
    for source in code_files():
        shutil.copyfile(source, folder / source.name)


def code_files() -> list[Path]:
    """Returns the files of code that go along with a model: the pipelines too, which no model file imports."""
    from kakehashi.modeling import configuration_kakehashi

    return sorted(Path(str(configuration_kakehashi.__file__)).parent.glob("*_kakehashi.py"))


def _write_records(run: FinishedRun, folder: Path) -> None:
    """Writes what tells how the model was made, without what tells where and by whom."""
    write_recipe(public_recipe(run), run.stage or "pretrain", folder / RECIPE_FILE, run.metrics.get("part"))
    write_json(folder / VERSIONS_FILE, public_versions(run))
    write_json(folder / METRICS_FILE, run.metrics)
    copied = [*list_plots(run.folder), run.folder / EVALUATIONS_FILE]
    for path in copied:
        if path.is_file():
            shutil.copyfile(path, folder / path.name)


@contextmanager
def _put_in_place(output_dir: Path) -> Iterator[Path]:
    """Yields a new folder to write to, which becomes `output_dir` when everything inside has gone well."""
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"`--output-dir` must be a folder, got the file {output_dir}")
    strange = next((path.name for path in _contents(output_dir) if not is_published(path.name)), None)
    if strange is not None:
        raise ValueError(f"`--output-dir` must be empty or published before, but {output_dir} holds {strange}")
    # The current folder has a name only so.
    output_dir = output_dir.resolve()
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    aside = output_dir.with_name(f".{output_dir.name}.{os.getpid()}")
    earlier = output_dir.with_name(f".{output_dir.name}.{os.getpid()}.earlier")
    aside.mkdir()
    try:
        yield aside
        if output_dir.exists():
            output_dir.rename(earlier)
        aside.rename(output_dir)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)


def _contents(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
