"""The model and tokenizer that a run starts from: a preset size, a trained folder, or a bare config.json."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from kakehashi.modeling import KakehashiConfig
from kakehashi.tokenization.hub_ids import may_be_hub_id, naming_hub_id
from kakehashi.training.arguments import StageArguments
from kakehashi.training.console import notify, quiet_library

_WEIGHT_FILES = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
_HEAD_PREFIXES = ("score.", "classifier.", "classification_head.")
_SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")


def load_tokenizer(arguments: StageArguments) -> PreTrainedTokenizerBase:
    """Returns the tokenizer of the recipe, or else the one beside the model.

    Args:
        arguments: `tokenizer`, or `model` in its absence, is a folder or Hub id.

    Raises:
        ValueError: If the recipe names neither, there is no tokenizer in what it names, or it cannot pad.
    """
    name = arguments.tokenizer or arguments.model
    if name is None:
        raise ValueError("`tokenizer` must name a tokenizer folder where `model` is not given, got nothing")
    _require_folder(name, "tokenizer" if arguments.tokenizer else "model", "tokenizer.json")
    with naming_hub_id(name):
        tokenizer = AutoTokenizer.from_pretrained(name)
    if tokenizer.pad_token_id is None:
        raise ValueError(
            f"`tokenizer` must have a padding token, but that of {name} has none: set its `pad_token`, such as to its "
            "`eos_token`, save it, and name its folder here"
        )
    return tokenizer


def _require_folder(name: str, key: str, file_name: str) -> None:
    """Raises a ValueError if a name that can only be a local folder is not one with the file in it."""
    folder = Path(name)
    if (folder.exists() or not may_be_hub_id(name)) and not (folder / file_name).is_file():
        raise ValueError(f"`{key}` must be a folder with {file_name} in it or a Hub id, got {name!r}")


def load_config(arguments: StageArguments, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """Returns the configuration of the model to train.

    Args:
        arguments: `model` names a folder, or `preset` and `config_overrides` describe a new kakehashi model.
        tokenizer: Gives a new model its vocabulary and special ids; has to fit a given one.

    Raises:
        ValueError: If neither or both of `model` and `preset` are given, an override is no field of the
            configuration, or the vocabularies differ.
    """
    if (arguments.model is None) == (arguments.preset is None):
        got = "both" if arguments.model else "neither"
        raise ValueError(f"a recipe must give either `model` to start from or `preset` to start anew, got {got}")
    # Text, as a command line gives it, is a mapping by the time the arguments exist.
    assert not isinstance(arguments.config_overrides, str)
    overrides = dict(arguments.config_overrides or {})
    if arguments.preset is not None:
        return new_config(arguments.preset, overrides, tokenizer)
    assert arguments.model is not None
    _require_folder(arguments.model, "model", "config.json")
    with _readable_configuration(), naming_hub_id(arguments.model):
        config, unknown = AutoConfig.from_pretrained(arguments.model, return_unused_kwargs=True, **overrides)
    _require_fields(unknown, config)
    require_same_vocabulary(config, tokenizer, arguments.model)
    return config


def new_config(preset: str, overrides: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> KakehashiConfig:
    """Returns the configuration of a new kakehashi model for a tokenizer.

    Args:
        preset: Name of the size.
        overrides: Fields that replace the preset's.
        tokenizer: Gives the vocabulary size and the special ids.

    Raises:
        ValueError: If an override is no field of the configuration, or the preset is unknown.
    """
    default = KakehashiConfig()
    _require_fields([name for name in overrides if name not in default.to_dict()], default)
    ids = {name: getattr(tokenizer, name) for name in (*_SPECIAL_IDS, "mask_token_id")}
    with _readable_configuration():
        return KakehashiConfig.preset(
            preset,
            **{"vocab_size": len(tokenizer), **ids, "decoder_start_token_id": tokenizer.bos_token_id, **overrides},
        )


def _require_fields(unknown: Iterable[str], config: PreTrainedConfig) -> None:
    """Raises a ValueError for the first name that no field of the configuration has."""
    for name in unknown:
        nearest = difflib.get_close_matches(str(name), config.to_dict(), n=1, cutoff=0.0)[0]
        raise ValueError(
            f"`config_overrides` must hold fields of {type(config).__name__}, got {name!r}; did you mean `{nearest}`?"
        )


@contextmanager
def _readable_configuration() -> Iterator[None]:
    """Turns what a configuration finds wrong with its fields into a ValueError with that sentence alone."""
    try:
        yield
    except StrictDataclassError as error:
        raise ValueError(f"`config_overrides` do not fit: {error.__cause__ or error}") from error


def require_same_vocabulary(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raises a ValueError unless a model was made for this tokenizer.

    Args:
        config: The model's configuration.
        tokenizer: The tokenizer that will feed it.
        name: The model's folder or Hub id; its own tokenizer, if it has one, has to have the same entries.
    """
    size, entries = config.vocab_size, len(tokenizer)
    # Other families round their tables up; ours are exact.
    if entries > size or (config.model_type == KakehashiConfig.model_type and entries != size):
        raise ValueError(
            f"`tokenizer` and `model` must have the same vocabulary, got {entries} entries in the tokenizer and "
            f"{size} in the model {name}"
        )
    own = Path(name)
    if (own / "tokenizer.json").is_file() and AutoTokenizer.from_pretrained(own).get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"`tokenizer` and `model` must have the same vocabulary, got another one than that in {name}; "
            "leave `tokenizer` out to use the model's own"
        )


def has_weights(name: str) -> bool:
    """Returns whether a model folder holds weights; a Hub id counts as one that does."""
    folder = Path(name)
    return not folder.is_dir() or any((folder / file).is_file() for file in _WEIGHT_FILES)


def start_model(auto_class: Any, config: PreTrainedConfig, arguments: StageArguments) -> PreTrainedModel:
    """Returns the model to train, from its folder or at random.

    Args:
        auto_class: Auto class of the head, such as `AutoModelForSeq2SeqLM`.
        config: Configuration as `load_config` gives it, possibly with labels added.
        arguments: `model` is the folder to start from, None for a new model.

    Returns:
        The model. What a folder has no weights for it names, in dots, in its attribute `new_modules`.

    Raises:
        ValueError: If an override changes the size of a weight that is no head's.
    """
    if arguments.model is not None and has_weights(arguments.model):
        return _load_quietly(auto_class, config, arguments.model)
    model = auto_class.from_config(config)
    source = arguments.preset if arguments.model is None else f"config.json of {arguments.model}"
    notify(f"new {type(model).__name__} ({source}), random weights, {model.num_parameters():,} parameters")
    return model


def _load_quietly(auto_class: Any, config: PreTrainedConfig, name: str) -> PreTrainedModel:
    """Loads a model and says in one line what the library would report as a table of keys."""
    with quiet_library():
        model, info = auto_class.from_pretrained(
            name, config=config, output_loading_info=True, ignore_mismatched_sizes=True
        )
    line = f"{type(model).__name__} from {name}, {model.num_parameters():,} parameters"
    resized = {key for key, *_ in info["mismatched_keys"]}
    # A classifier may get another number of classes; any other size comes from a configuration that does not fit.
    wrong = sorted(key for key in resized if not key.startswith(_HEAD_PREFIXES))
    if wrong:
        raise ValueError(f"`config_overrides` must keep the sizes of the weights in {name}, got others for {wrong[0]}")
    modules = model.new_modules = sorted({key.rsplit(".", 1)[0] for key in (*info["missing_keys"], *resized)})
    if modules:
        line += f"; new, to be trained: {', '.join(modules[:4])}{' …' if len(modules) > 4 else ''}"
    notify(line)
    return model


def adopt_special_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Gives a model the special ids that its tokenizer has, also for generation.

    The collator starts every target with the tokenizer's bos, so generation has to start there too, whatever the
    model's family starts with.

    Args:
        model: Model to change in place.
        tokenizer: Gives pad, bos and eos.
    """
    ids = {name: getattr(tokenizer, name) for name in _SPECIAL_IDS}
    if model.config.is_encoder_decoder:
        ids["decoder_start_token_id"] = tokenizer.bos_token_id
    # A model that cannot write has no settings for it.
    places: list[Any] = [model.config, getattr(model, "generation_config", None)]
    for place in places:
        for name, token_id in ids.items():
            if place is not None and token_id is not None:
                setattr(place, name, token_id)
