"""`kakehashi tokenizer extend`: further entries for a vocabulary, and for the model that was trained with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kakehashi.commands import options
from kakehashi.training.aside import fill_new_folder, require_free_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def extend(
    tokenizer: Annotated[str, typer.Argument(help="Tokenizer or model folder, or a Hub id.", metavar="DIR")],
    output_dir: options.OutputDir,
    tokens: Annotated[list[str], typer.Option(help="A word to be one token; may be repeated.")] = [],  # noqa: B006
    tokens_file: Annotated[Path | None, typer.Option(help="UTF-8 text file with one word a line.")] = None,
    model: Annotated[str | None, typer.Option(help="Model folder or Hub id to resize and save beside it.")] = None,
    special: Annotated[
        bool, typer.Option("--special", help="The new tokens are special: plain text never makes them.")
    ] = False,
    pad_to_multiple_of: Annotated[int, typer.Option(help="Round the size up to a multiple of this.")] = 64,
) -> None:
    """Add words to a vocabulary without changing an id, and rows for them to a model."""
    require_free_folder(output_dir)
    words = [*tokens, *(_read_words(tokens_file) if tokens_file else [])]
    if not words:
        raise ValueError("`--tokens` or `--tokens-file` must name at least one word, got none.")
    from kakehashi.tokenization.extension import extend_tokenizer, resize_model
    from kakehashi.tokenization.peers import load_tokenizer
    from kakehashi.tokenization.train import save_tokenizer

    before = load_tokenizer(tokenizer)
    extension = extend_tokenizer(before, words, special=special, pad_to_multiple_of=pad_to_multiple_of)
    network = _load_model(model) if model else None
    if network is not None:
        resize_model(network, before, extension.tokenizer)
    with fill_new_folder(output_dir) as folder:
        save_tokenizer(extension.tokenizer, folder)
        if network is not None:
            network.save_pretrained(folder)
    typer.echo(f"new entries           {len(extension.added):,}")
    if extension.present:
        typer.echo(f"one token already     {', '.join(extension.present)}")
    typer.echo(f"vocabulary size       {len(extension.tokenizer):,} (it was {len(before):,})")
    if network is not None:
        typer.echo(f"rows of the model     {network.get_input_embeddings().num_embeddings:,}")
    typer.echo(f"saved in              {output_dir}")


def _read_words(file: Path) -> list[str]:
    try:
        # Spaces stay: " cat" is another token than "cat".
        lines = file.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"`--tokens-file` must be UTF-8 text, but {file} is not: {error.reason}.") from None
    return [word for line in lines if (word := line.removesuffix("\r"))]


def _load_model(name: str) -> "PreTrainedModel":
    """Returns a model as the class that saved it, so that no head is lost."""
    import transformers

    from kakehashi.commands.terminal import silence_libraries
    from kakehashi.tokenization.hub_ids import naming_hub_id

    silence_libraries()
    with naming_hub_id(name):
        config = transformers.AutoConfig.from_pretrained(name)
    architecture = (config.architectures or [""])[0]
    heads = {
        "ForConditionalGeneration": transformers.AutoModelForSeq2SeqLM,
        "ForCausalLM": transformers.AutoModelForCausalLM,
        "LMHeadModel": transformers.AutoModelForCausalLM,
        "ForMaskedLM": transformers.AutoModelForMaskedLM,
        "ForSequenceClassification": transformers.AutoModelForSequenceClassification,
        "ForTokenClassification": transformers.AutoModelForTokenClassification,
    }
    auto_class = next((value for head, value in heads.items() if architecture.endswith(head)), transformers.AutoModel)
    return auto_class.from_pretrained(name, dtype="auto")
