"""`kakehashi publish`: the folder of a run as a repository on the Hub."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from kakehashi.commands.terminal import silence_libraries

Run = Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN", show_default=False)]
Repository = Annotated[str, typer.Argument(help="Name on the Hub.", metavar="USER/NAME", show_default=False)]
Push = Annotated[bool, typer.Option("--push", help="Upload the folder. Without it, the folder is only written.")]
Private = Annotated[bool, typer.Option("--private", help="Make the repository private, if it is new.")]
Revision = Annotated[str | None, typer.Option(help="Branch to push to; by default the main one.", metavar="BRANCH")]
OutputDir = Annotated[
    Path | None, typer.Option(help="Folder to write; by default beside RUN, with -hub at the end of its name.")
]
License = Annotated[
    str | None,
    typer.Option(help="Licence of the weights, such as apache-2.0; by default the recipe's key `license`."),
]
LicenseFile = Annotated[Path | None, typer.Option(help="Text of that licence, if it is not apache-2.0.")]
DEFAULT_SHARD_SIZE = "5GB"
MaxShardSize = Annotated[str, typer.Option(help="Largest size of one weights file.", metavar="SIZE")]


def publish(
    run: Run,
    repository: Repository,
    *,
    push: Push = False,
    private: Private = False,
    revision: Revision = None,
    output_dir: OutputDir = None,
    license: License = None,
    license_file: LicenseFile = None,
    max_shard_size: MaxShardSize = DEFAULT_SHARD_SIZE,
) -> None:
    """Make the folder of RUN for the Hub, with code, card and licence, and upload it if asked.

    Before anything is uploaded the folder is loaded in a process without kakehashi, where it must answer as RUN does,
    and every file is searched for paths, tokens and names of this machine.
    """
    silence_libraries()
    from kakehashi.training.console import quiet_library
    from kakehashi.training.publish.folder import assemble_folder
    from kakehashi.training.publish.hub import check_login, check_repo_id, check_revision, push_folder

    check_repo_id(repository)
    check_revision(revision)
    if push:
        check_login(repository)
    named = run if run.name not in ("", "..") else run.resolve()
    folder = output_dir or named.with_name(f"{named.name}-hub")
    with quiet_library():
        found = assemble_folder(
            run, repository, folder, license=license, license_file=license_file, max_shard_size=max_shard_size
        )
    num_auto = sum(name.startswith("Auto") for name in found)
    size = sum(path.stat().st_size for path in folder.iterdir())
    typer.echo(f"folder   {folder}, {len(list(folder.iterdir()))} files, {size / 1e6:,.1f} MB")
    ways = f"{num_auto} Auto classes and {len(found) - num_auto} pipelines"
    typer.echo(f"checked  loads without kakehashi by {ways}, and answers as {run} does")
    if push:
        typer.echo(f"pushed   {push_folder(folder, repository, private=private or None, revision=revision)}")
    else:
        options = {
            "--revision": revision,
            "--output-dir": output_dir,
            "--license": license,
            "--license-file": license_file,
            "--max-shard-size": max_shard_size if max_shard_size != DEFAULT_SHARD_SIZE else None,
        }
        typer.echo(f"next     {_next_command(run, repository, private, options)}")


def _next_command(run: Path, repository: str, private: bool, options: Mapping[str, object]) -> str:
    """Returns the same command with `--push`."""
    words = ["kakehashi", "publish", str(run), repository, "--push", *(["--private"] if private else [])]
    for option, value in options.items():
        words += [] if value is None else [option, str(value)]
    return shlex.join(words)
