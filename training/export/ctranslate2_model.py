"""Running a CTranslate2 folder with the words of Transformers: ids in, `generate` settings, ids out."""

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedConfig

from kakehashi.training.export.ctranslate2 import require_known_settings
from kakehashi.training.export.folder import require_packages

_DTYPES = ("float32", "float16", "bfloat16")
# What `generate` takes when neither the call nor generation_config.json says otherwise.
_DEFAULTS = {"num_beams": 1, "do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "max_new_tokens": 20}
_DEFAULTS |= {"length_penalty": 1.0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_new_tokens": 0}
_LARGEST_SEED = 2**31 - 1


class CTranslate2Model:
    """An exported model that writes text.

    Args:
        config: Configuration of the model it was exported from.
        generation_config: Its generation settings.
        open_engine: Opens the weights, given `inter_threads` and `intra_threads`, as a `ctranslate2.Translator` of an
            encoder-decoder or a `ctranslate2.Generator` of a decoder alone.
        tokens: The vocabulary, one name for each id.
        num_workers: Parts of a batch that run at the same time.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        generation_config: GenerationConfig,
        open_engine: Callable[..., Any],
        tokens: list[str],
        num_workers: int,
    ) -> None:
        require_known_settings(generation_config)
        self.config = config
        self.generation_config = generation_config
        self.open_engine = open_engine
        self.engine = open_engine(inter_threads=num_workers, intra_threads=1)
        self.tokens = tokens
        self.ids = {token: index for index, token in enumerate(tokens)}
        self.num_workers = num_workers
        self._sampler: Any = None
        self._random_state: torch.Tensor | None = None
        # Of the ids that go in and come out; CTranslate2 moves them itself.
        self.device = torch.device("cpu")

    def can_generate(self) -> bool:
        """Yes: other models are not exported to CTranslate2."""
        return True

    def generate(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pad_token_id: int | None = None, **settings: Any
    ) -> torch.Tensor:
        """Answers a batch, as `generate` of Transformers does.

        Args:
            input_ids: `(batch, length)`.
            attention_mask: As `input_ids`, 1 for a token and 0 for padding.
            pad_token_id: Fills the rows that ended early; `None` takes the configuration's.
            **settings: `max_new_tokens`, `min_new_tokens`, `num_beams`, `do_sample`, `temperature`, `top_k`, `top_p`,
                `length_penalty`, `repetition_penalty`, `no_repeat_ngram_size`. Others come from the folder's
                generation settings.

        Returns:
            Ids `(batch, length)`: the targets, without a start token, or for a decoder alone each prompt and what
            follows it. Ends are not marked.

        Raises:
            ValueError: If a setting does not exist in CTranslate2, or sampling is asked for with several beams.
        """
        options = self._options(settings)
        rows = zip(input_ids.tolist(), attention_mask.tolist(), strict=True)
        sources = [[self.tokens[i] for i, is_token in zip(*row, strict=True) if is_token] for row in rows]
        engine = self.engine
        if "sampling_topk" in options:
            engine = self._seeded_engine()
        else:
            # A part for each worker: sentences are short, and one core each is the fastest way through many.
            options["max_batch_size"] = -(-len(sources) // self.num_workers)
        if self.config.is_encoder_decoder:
            answers = [result.hypotheses[0] for result in engine.translate_batch(sources, **options)]
        else:
            results = engine.generate_batch(sources, **options)
            answers = [result.sequences[0] for result in results]
        fill = self.config.pad_token_id if pad_token_id is None else pad_token_id
        ids = [torch.tensor([self.ids[token] for token in answer], dtype=torch.long) for answer in answers]
        padded = pad_sequence(ids, batch_first=True, padding_value=fill)
        return padded if self.config.is_encoder_decoder else torch.cat([input_ids, padded], dim=1)

    def _options(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings of `generate` as CTranslate2 names them."""
        unknown = sorted(set(settings) - set(_DEFAULTS))
        if unknown:
            raise ValueError(
                f"ctranslate2 has no decoding option {', '.join(unknown)}: use the model folder it was exported from"
            )
        stored = {name: getattr(self.generation_config, name, None) for name in _DEFAULTS}
        chosen = _DEFAULTS | {name: value for name, value in stored.items() if value is not None} | settings
        if chosen["do_sample"] and chosen["num_beams"] > 1:
            raise ValueError(f"ctranslate2 draws at random with `num_beams` 1 only, got {chosen['num_beams']}")
        options = {
            "beam_size": chosen["num_beams"],
            "repetition_penalty": chosen["repetition_penalty"],
            "no_repeat_ngram_size": chosen["no_repeat_ngram_size"],
            # It counts only where hypotheses of several lengths are compared.
            "length_penalty": chosen["length_penalty"] if chosen["num_beams"] > 1 else 0,
        }
        ends = getattr(self.generation_config, "eos_token_id", None)
        if ends is not None:
            options["end_token"] = list(ends) if isinstance(ends, (list, tuple)) else [ends]
        if chosen["do_sample"]:
            options["sampling_topk"] = chosen["top_k"]
            options["sampling_topp"] = chosen["top_p"]
            options["sampling_temperature"] = chosen["temperature"]
        shortest, longest = chosen["min_new_tokens"], chosen["max_new_tokens"]
        if self.config.is_encoder_decoder:
            # Sources are cut by whoever encodes them, with a warning.
            return options | {"max_decoding_length": longest, "min_decoding_length": shortest, "max_input_length": 0}
        return options | {"max_length": longest, "min_length": shortest, "include_prompt_in_result": False}

    def _seeded_engine(self) -> Any:
        """An engine whose random numbers follow torch's, so that `torch.manual_seed` holds here too.

        CTranslate2 seeds a thread when it first draws in it, and never again. So the weights are opened anew, with
        one thread to draw in, whenever torch's generator is not where it was left.
        """
        import ctranslate2

        if self._random_state is None or not torch.equal(self._random_state, torch.get_rng_state()):
            ctranslate2.set_random_seed(int(torch.randint(1, _LARGEST_SEED, ())))
            self._sampler = self.open_engine(inter_threads=1, intra_threads=self.num_workers)
            self._random_state = torch.get_rng_state()
        return self._sampler


def load_ctranslate2(
    folder: Path,
    config: PreTrainedConfig,
    generation_config: GenerationConfig | None,
    device: str | None,
    dtype: str | None,
) -> CTranslate2Model:
    """Opens a folder.

    Args:
        folder: What `write_ctranslate2` filled.
        config: The configuration in it.
        generation_config: The generation settings in it; `None` takes the defaults.
        device: `cpu` or `cuda`; `None` takes a GPU if there is one.
        dtype: Number format to compute in; `None` keeps the stored one where the device computes in it exactly.

    Raises:
        ValueError: If the package is missing, the device or the number format is, or the weights cannot be read.
    """
    require_packages("ctranslate2", "ctranslate2")
    import ctranslate2

    has_gpu = ctranslate2.get_cuda_device_count() > 0
    chosen = device or ("cuda" if has_gpu else "cpu")
    if chosen not in ("cpu", "cuda") or (chosen == "cuda" and not has_gpu):
        raise ValueError(f"`device` must be {'cpu or cuda' if has_gpu else 'cpu'} for ctranslate2 here, got {device}")
    supported = sorted(ctranslate2.get_supported_compute_types(chosen) & set(_DTYPES))
    if dtype is not None and dtype not in supported:
        raise ValueError(f"`dtype` must be one of {', '.join(supported)} for ctranslate2 on {chosen}, got {dtype}")
    num_workers = torch.get_num_threads() if chosen == "cpu" else 1
    engine = ctranslate2.Translator if config.is_encoder_decoder else ctranslate2.Generator
    open_engine = partial(_open, engine, str(folder), device=chosen, compute_type=dtype or _compute_type(chosen))
    tokens = json.loads(next(folder.glob("*vocabulary.json")).read_text(encoding="utf-8"))
    try:
        return CTranslate2Model(config, generation_config or GenerationConfig(), open_engine, tokens, num_workers)
    except RuntimeError as error:
        raise ValueError(f"the weights of {folder} cannot be read: {error}") from error


def _compute_type(device: str) -> str:
    """Returns `default`, the stored format, unless an x86-64 processor would get sums of 8-bit products wrong.

    Without VNNI instructions two neighbouring products meet in 16 bits and are cut off there. Weights stored in 8 bits
    are then computed with in float32.
    """
    capabilities = torch.cpu.get_capabilities()
    is_exact = any(capabilities.get(name, True) for name in ("avx512_vnni", "avx_vnni"))
    return "default" if device != "cpu" or is_exact else "float32"


def _open(engine: Callable[..., Any], folder: str, **settings: Any) -> Any:
    """Opens weights without the remark that a processor computes in float32 what is stored in float16."""
    import ctranslate2

    level = ctranslate2.get_log_level()
    ctranslate2.set_log_level(logging.ERROR)
    try:
        return engine(folder, **settings)
    finally:
        ctranslate2.set_log_level(level)
