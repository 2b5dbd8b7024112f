"""Loading a trained model for use, and running texts through it in batches.

`load_for_generation`, `load_for_classification` and their like check a folder before the weights are read, so that
each thing that can be wrong with it has one message. `generate_texts` sorts by length, so that a batch carries little
padding, and gives the answers back in the order of the questions; `labelling.py` does the same for labels,
`embedding.py` for vectors.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import kakehashi.modeling as modeling
from kakehashi.modeling.configuration_kakehashi import translation_templates
from kakehashi.tokenization.chat import check_scalar_values, encode_source
from kakehashi.tokenization.hub_ids import may_be_hub_id
from kakehashi.tokenization.peers import TOKENIZER_FILES
from kakehashi.tokenization.special_tokens import ROLE_TOKENS
from kakehashi.training.export.engines import load_exported
from kakehashi.training.export.folder import engine_of

Message: TypeAlias = dict[str, str]
Prompt: TypeAlias = str | Sequence[Message]
"""What a model answers: a text, or the turns of a conversation."""

DEFAULT_BATCH_SIZE = 16
DEFAULT_MAX_NEW_TOKENS = 128

logger = logging.getLogger(__name__)


def load_for_generation(
    model: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Returns an encoder-decoder or decoder-only model that writes text, and its tokenizer.

    Args:
        model: A model folder, an exported folder or a Hub id.
        device: Where to run; `None` takes the accelerator if there is one.
        dtype: Number format of the weights, such as `"bfloat16"`; `None` keeps the stored one.
        trust_remote_code: Whether to run the code that comes with a model Transformers and kakehashi do not know.

    Raises:
        ValueError: If `model` is no model folder, has no safetensors weights or tokenizer, does not write text, or
            has a tokenizer with more tokens than the model has embeddings.
        OSError: If the Hub cannot be reached.
    """
    config = _load_config(model, trust_remote_code)
    architecture = _architecture(config)
    if "Classification" in architecture:
        raise ValueError(
            f"`model` must write text, but {model} is a {architecture}, which labels it: use `kakehashi classify-text`"
        )
    if architecture.endswith(("ForMaskedLM", "EncoderModel")):
        raise ValueError(f"`model` must write text, but {model} is a {architecture}, which has no decoder")
    decoder_only = architecture.endswith("ForCausalLM") or not config.is_encoder_decoder
    auto_class = AutoModelForCausalLM if decoder_only else AutoModelForSeq2SeqLM
    return _load(model, auto_class, config, device, dtype, trust_remote_code)


def load_for_classification(
    model: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Returns a model that labels texts, and its tokenizer.

    The arguments are those of `load_for_generation`.

    Raises:
        ValueError: As `load_for_generation`, or if the model was not trained to classify.
        OSError: If the Hub cannot be reached.
    """
    config = _load_config(model, trust_remote_code)
    architecture = _architecture(config)
    if architecture and not architecture.endswith("ForSequenceClassification"):
        raise ValueError(
            f"`model` must label texts, but {model} is a {architecture}: use `kakehashi generate`, or train a "
            "classifier from it with `kakehashi classify`"
        )
    return _load(model, AutoModelForSequenceClassification, config, device, dtype, trust_remote_code)


def load_for_restoring(
    model: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Returns an encoder that restores hidden tokens, and its tokenizer.

    The arguments are those of `load_for_generation`.

    Raises:
        ValueError: As `load_for_generation`, or if the model was not trained to restore tokens.
        OSError: If the Hub cannot be reached.
    """
    config = _load_config(model, trust_remote_code)
    architecture = _architecture(config)
    if not architecture.endswith("ForMaskedLM"):
        raise ValueError(f"`model` must restore hidden tokens, but {model} is a {architecture or config.model_type}")
    return _load(model, AutoModelForMaskedLM, config, device, dtype, trust_remote_code)


def load_for_embedding(
    model: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Returns the encoder of a model, whatever head it was trained with, and its tokenizer.

    The arguments are those of `load_for_generation`.

    Raises:
        ValueError: As `load_for_generation`, or if the model has no encoder or is exported.
        OSError: If the Hub cannot be reached.
    """
    config = _load_config(model, trust_remote_code)
    if engine_of(model) is not None:
        raise ValueError(f"`model` must be a trained folder or a Hub id, but {model} is exported")
    architecture = _architecture(config)
    if architecture.endswith("ForCausalLM") or (config.is_decoder and not config.is_encoder_decoder):
        raise ValueError(f"`model` must have an encoder, but {model} is a {architecture}")
    return _load(model, AutoModelForTextEncoding, config, device, dtype, trust_remote_code)


def load_for_export(model: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Returns a kakehashi model of any shape, as it was trained and on the processor, and its tokenizer.

    Args:
        model: A model folder or a Hub id.

    Raises:
        ValueError: As `load_for_generation`, or if the model is exported already or not of kakehashi.
        OSError: If the Hub cannot be reached.
    """
    if engine_of(model) is not None:
        raise ValueError(f"`model` must be a model folder or a Hub id, but {model} is exported already")
    config = _load_config(model, False)
    architecture = _architecture(config)
    if architecture not in modeling.__all__:
        raise ValueError(f"`model` must be a kakehashi model, but {model} is a {architecture or config.model_type}")
    return _load(model, getattr(modeling, architecture), config, "cpu", None, False)


def is_classifier(model: str | Path, *, trust_remote_code: bool = False) -> bool:
    """Returns whether a model folder or Hub id holds a model that labels texts; reads its configuration only."""
    return _architecture(_load_config(model, trust_remote_code)).endswith("ForSequenceClassification")


def restores_tokens(model: str | Path, *, trust_remote_code: bool = False) -> bool:
    """Returns whether a model folder or Hub id holds an encoder that restores hidden tokens, as `is_classifier`."""
    return _architecture(_load_config(model, trust_remote_code)).endswith("ForMaskedLM")


def translation_template(config: PreTrainedConfig, language: str) -> str:
    """Returns the instruction a model was tuned on to translate, with `{text}` where the text goes.

    Args:
        config: Its configuration; `task_specific_params["translation"]` maps languages to instructions.
        language: The language to translate into, such as `"ja"`.

    Raises:
        ValueError: If the model was not tuned on that language.
    """
    templates = translation_templates(config)
    if language not in templates:
        raise ValueError(f"`language` must be one of {', '.join(sorted(templates))}, got {language!r}")
    return templates[language]


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
    num_beams: int = 1,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int | None = None,
    raw: bool = False,
    on_batch: Callable[[int], None] | None = None,
) -> list[str]:
    """Returns the model's answer to each prompt, in order.

    Args:
        model: From `load_for_generation`, or any encoder-decoder or decoder-only model.
        tokenizer: Its tokenizer.
        prompts: Texts, conversations, or both mixed. A text is what a user says, if the tokenizer has a chat template.
        batch_size: Prompts that run through the model together.
        max_new_tokens: Longest answer, in tokens.
        num_beams: Beams of the search; 1 is greedy.
        do_sample: Whether to draw tokens at random; `temperature` and `top_p` have no effect otherwise.
        temperature: Divides the logits before drawing.
        top_p: Draws from the likeliest tokens that together have this probability.
        seed: Seeds torch before the first batch; `None` leaves its state alone.
        raw: Whether a text goes to the model as it is instead.
        on_batch: Called after each batch with its number of prompts, for a progress bar.

    Raises:
        ValueError: If a prompt is empty or a batch does not fit into memory.
    """
    require_text(prompts)
    if seed is not None:
        torch.manual_seed(seed)
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "do_sample": do_sample}
    if do_sample:
        settings |= {"temperature": temperature, "top_p": top_p}
    as_turn = tokenizer.chat_template is not None and not raw
    turns = [[{"role": "user", "content": each}] if as_turn and isinstance(each, str) else each for each in prompts]
    encoded = [encode_prompt(model, tokenizer, turn) for turn in turns]
    # A decoder writes its answer into the same sequence that holds the prompt.
    sources = _fit_all(encoded, model, tokenizer, room=0 if model.config.is_encoder_decoder else max_new_tokens)
    answers = [""] * len(prompts)
    for indices in batches_by_length([len(source) for source in sources], batch_size):
        batch = _pad_sources(model, tokenizer, [sources[index] for index in indices])
        for index, answer in zip(indices, _generate_batch(model, tokenizer, batch, settings), strict=True):
            answers[index] = answer
        if on_batch is not None:
            on_batch(len(indices))
    return answers


def encode_prompt(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """Returns the ids the model reads before it answers: a text as it is, a conversation with its role tokens.

    Special tokens typed into a prompt stay plain text: nobody can forge a turn of the conversation.

    Raises:
        ValueError: If the prompt is a conversation and the tokenizer knows no roles.
    """
    is_encoder_decoder = model.config.is_encoder_decoder
    if isinstance(prompt, str):
        ids = tokenizer(prompt, split_special_tokens=True)["input_ids"]
        # A decoder continues its prompt; after the end of text there is nothing to continue.
        return ids[:-1] if not is_encoder_decoder and ids[-1:] == [tokenizer.eos_token_id] else ids
    messages = [dict(message) for message in prompt]
    # Not by `get_vocab`, which copies the whole vocabulary for each prompt.
    if tokenizer.convert_tokens_to_ids(ROLE_TOKENS["user"]) not in (None, tokenizer.unk_token_id):
        return encode_source(tokenizer, messages) if is_encoder_decoder else _encode_for_decoder(tokenizer, messages)
    if tokenizer.chat_template is None:
        raise ValueError("`prompts` must be plain texts: the tokenizer of this model has no chat template")
    rendered: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return rendered


def _encode_for_decoder(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[int]:
    ids = [tokenizer.bos_token_id]
    for message in messages:
        turn = encode_source(tokenizer, [message])
        # In one sequence only an answer ends with the end mark: the model learnt to stop there.
        ids += turn if message["role"] == "assistant" else turn[:-1]
    return [*ids, tokenizer.convert_tokens_to_ids(ROLE_TOKENS["assistant"])]


def batches_by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yields the indices of each batch, longest items first.

    The longest come first because they need the most memory: a batch size that is too large fails at once.

    Args:
        lengths: Length of each item, in tokens.
        batch_size: Items per batch.

    Raises:
        ValueError: If `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}")
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def preferred_device(device: str | torch.device | None = None) -> torch.device:
    """Returns `device`, or where `None` is given the accelerator if there is one and the processor if not.

    Raises:
        ValueError: If the device asked for is not present.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        return accelerator or torch.device("cpu")
    chosen = torch.device(device)
    if chosen.type != "cpu" and (accelerator is None or accelerator.type != chosen.type):
        raise ValueError(f"`device` must be present, got {device}; here is {accelerator or 'only cpu'}")
    return chosen


def require_text(prompts: Sequence[Prompt]) -> None:
    """Raises a ValueError naming the first prompt that is empty or is no Unicode text."""
    for index, prompt in enumerate(prompts):
        if not prompt or (isinstance(prompt, str) and not prompt.strip()):
            raise ValueError(f"each text must hold at least one character, but text {index + 1} is empty: {prompt!r}")
        if isinstance(prompt, str):
            # A shell hands on bytes that are not UTF-8 as surrogates.
            check_scalar_values(prompt, f"text {index + 1}")


def _architecture(config: PreTrainedConfig) -> str:
    return (config.architectures or [""])[0]


def _load_config(model: str | Path, trust_remote_code: bool) -> PreTrainedConfig:
    folder = Path(model)
    if folder.is_dir():
        _require_model_folder(folder)
    elif folder.exists():
        raise ValueError(f"`model` must be a folder or a Hub id, but {model} is a file")
    elif not may_be_hub_id(model):
        raise ValueError(f"`model` must be an existing folder or a Hub id, but there is no folder {model}")
    try:
        return AutoConfig.from_pretrained(str(model), trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise _explain(error, model, folder.is_dir()) from error


def _explain(error: Exception, model: str | Path, is_folder: bool) -> Exception:
    if "trust_remote_code" in str(error):
        return ValueError(f"{model} comes with model code of its own: read it, then pass `--trust-remote-code`")
    if is_folder:
        return ValueError(f"`config.json` of {model} cannot be used: {error}")
    return OSError(f"there is no folder {model}, and the Hub gave no model of that name: {error}")


def _require_model_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ValueError(
                f"`model` must be a model folder, but {folder} holds an adapter; take the folder around it"
            )
        raise ValueError(f"`model` must be a model folder, but {folder} has no config.json")
    if engine_of(folder) is None and not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.bin")):
            raise ValueError(
                f"the weights of {folder} must be safetensors, but there are only .bin files, which can run code when "
                "they are read; convert them with `save_pretrained` in a process you trust"
            )
        raise ValueError(f"`model` must be a model folder with weights, but {folder} has no .safetensors file")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ValueError(f"{folder} has no tokenizer: copy tokenizer.json and tokenizer_config.json into it")


def _load(
    name: str | Path,
    auto_class: Any,
    config: PreTrainedConfig,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    trust_remote_code: bool,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    engine = engine_of(name)
    target = None if engine is not None else preferred_device(device)
    tokenizer = _load_tokenizer(name, trust_remote_code)
    if engine is not None:
        names = [None if each is None else str(each).removeprefix("torch.") for each in (device, dtype)]
        return load_exported(name, engine, config, *names), tokenizer
    model: Any = _load_weights(name, auto_class, config, dtype or "auto", trust_remote_code)
    num_embeddings = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > num_embeddings:
        raise ValueError(
            f"tokenizer and model of {name} do not belong together: the tokenizer has {len(tokenizer)} tokens, the "
            f"model only {num_embeddings} embeddings"
        )
    return model.to(target).eval(), tokenizer


def _load_tokenizer(name: str | Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name), trust_remote_code=trust_remote_code)
    except Exception as error:
        # `tokenizers` raises bare `Exception` for a file it cannot parse.
        raise ValueError(f"the tokenizer of {name} cannot be read: {error}") from error
    if tokenizer.pad_token_id is None:
        # Some decoder-only models have no padding token; the attention mask hides whatever stands in for it.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_weights(
    name: str | Path, auto_class: Any, config: PreTrainedConfig, dtype: str | torch.dtype, trust_remote_code: bool
) -> PreTrainedModel:
    try:
        model, report = auto_class.from_pretrained(
            str(name),
            config=config,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"the weights of {name} cannot be read: {error}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(f"the weights of {name} are not complete: {len(missing)} are missing, first {missing[0]}")
    return model


def _fit_all(
    sources: Sequence[list[int]], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, room: int
) -> list[list[int]]:
    """Returns the prompts cut to what the model is meant for, less the room an answer needs."""
    longest: int | None = getattr(model.config, "max_position_embeddings", None)
    if longest is None:
        return list(sources)
    limit = max(longest - room, 1)
    num_long = sum(len(source) > limit for source in sources)
    if num_long > 0:
        logger.warning("%d of %d texts are longer than %d tokens and were cut", num_long, len(sources), limit)
    return [_fit(source, limit, tokenizer.eos_token_id) for source in sources]


def _fit(source: list[int], limit: int, eos_token_id: int | None) -> list[int]:
    if len(source) <= limit:
        return source
    if source[-1] == eos_token_id:
        # The end mark stays, so that the text ends rather than stops.
        return [*source[: limit - 1], eos_token_id]
    # What a decoder goes on from is the end.
    return source[-limit:]


def _pad_sources(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sources: list[list[int]]
) -> dict[str, torch.Tensor]:
    # A decoder goes on where the prompt ends, so there the padding has to come first.
    side = "right" if model.config.is_encoder_decoder else "left"
    batch = tokenizer.pad({"input_ids": sources}, padding_side=side, return_tensors="pt")
    return to_model(batch, model)


def to_model(batch: Any, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Returns ids and mask of a padded batch, `(batch, length)`, where the model is."""
    return {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}


@torch.inference_mode()
def _generate_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: dict[str, torch.Tensor],
    settings: dict[str, Any],
) -> list[str]:
    generate: Any = model.generate
    with MemoryAdvice(len(batch["input_ids"])):
        sequences = generate(**batch, pad_token_id=tokenizer.pad_token_id, **settings)
    if not model.config.is_encoder_decoder:
        sequences = sequences[:, batch["input_ids"].shape[1] :]
    answers = tokenizer.batch_decode(sequences, skip_special_tokens=True)
    return [answer.strip() for answer in answers]


class MemoryAdvice:
    """Turns running out of accelerator memory into an error that says what to do."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            raise ValueError(f"a batch of {self._batch_size} does not fit into memory: lower `batch_size`") from error
