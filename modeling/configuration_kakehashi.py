# Copyright 2026 The kakehashi authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The configuration of a kakehashi model: one flat class for three shapes and five preset sizes."""

# No `from __future__ import annotations` here: `@strict` checks the types of fields, but not types written as strings.
import copy
from itertools import permutations
from typing import Any, Literal, get_args

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

Shape = Literal["encoder-decoder", "encoder", "decoder"]
PositionEmbeddingType = Literal["rope", "relative_bias", "learned", "sinusoidal", "none"]

# A Hub folder is complete only if every Auto class finds its head, whichever head was saved.
AUTO_MAP = {
    "AutoConfig": "configuration_kakehashi.KakehashiConfig",
    "AutoModel": "modeling_kakehashi.KakehashiModel",
    "AutoModelForSeq2SeqLM": "modeling_kakehashi.KakehashiForConditionalGeneration",
    "AutoModelForCausalLM": "modeling_kakehashi.KakehashiForCausalLM",
    "AutoModelForMaskedLM": "modeling_kakehashi.KakehashiForMaskedLM",
    "AutoModelForSequenceClassification": "modeling_kakehashi.KakehashiForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_kakehashi.KakehashiForTokenClassification",
    "AutoModelForTextEncoding": "modeling_kakehashi.KakehashiEncoderModel",
}

# Transformers 5 has dropped these pipelines; a folder brings them along. Languages are added by `custom_pipelines`.
PIPELINES = {
    "text2text-generation": "KakehashiText2TextGenerationPipeline",
    "summarization": "KakehashiSummarizationPipeline",
    "translation": "KakehashiTranslationPipeline",
}

DEFAULT_TRANSLATION_TEMPLATES = {"ja": "Translate to Japanese: {text}", "en": "Translate to English: {text}"}
"""Target language → instruction, for a model whose configuration names no other."""

# Deep encoder, shallow decoder: only decoder layers run once per generated token, and 12 + 1 layers come within
# 1.5 BLEU of 6 + 6 (Kasai et al., "Deep Encoder, Shallow Decoder", 2021).
PRESETS: dict[str, dict[str, int]] = {
    "nano": {
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_encoder_layers": 4,
        "num_decoder_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
    },
    "mini": {
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_encoder_layers": 6,
        "num_decoder_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
    },
    "small": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_encoder_layers": 8,
        "num_decoder_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
    },
    "base": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_encoder_layers": 16,
        "num_decoder_layers": 4,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "head_dim": 64,
    },
    "large": {
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_encoder_layers": 32,
        "num_decoder_layers": 6,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 64,
    },
}

_IS_REMOTE_CODE = __name__.partition(".")[0] == "transformers_modules"


@strict
class KakehashiConfig(PreTrainedConfig):
    """The sizes and switches of a kakehashi model.

    One flat configuration describes the encoder-decoder, and with `is_encoder_decoder=False` the encoder alone or,
    with `is_decoder=True` as well, the decoder alone.

    Args:
        vocab_size: Number of entries in the one embedding that source, target and output share.
        hidden_size: Width of the residual stream.
        intermediate_size: Width inside the SwiGLU feed-forward block.
        num_encoder_layers: Layers of the encoder; run once per source.
        num_decoder_layers: Layers of the decoder; run once per generated token. Also read as `num_hidden_layers`,
            because generation caches are counted in decoder layers.
        num_attention_heads: Query heads of every attention.
        num_key_value_heads: Key and value heads, each shared by `num_attention_heads / num_key_value_heads` query
            heads. `None` means as many as query heads.
        head_dim: Width of one head; even where rotary positions turn pairs. `None` means
            `hidden_size / num_attention_heads`.
        position_embedding_type: How the model is told where a token stands, see `positions_kakehashi.py`: `"rope"`,
            `"relative_bias"`, `"learned"`, `"sinusoidal"` or `"none"`.
        max_position_embeddings: Longest length, in tokens, that the model is meant for. A hard limit for learned
            positions only.
        rope_parameters: Rotary settings as Transformers writes them, `{"rope_type": "default", "rope_theta": 10000}`
            when `None`.
        relative_attention_num_buckets: Buckets of distances, with `"relative_bias"`.
        relative_attention_max_distance: Distance, in tokens, from which all share the last bucket.
        rms_norm_eps: Added to the mean square in every RMSNorm.
        initializer_range: Standard deviation of the embedding at initialisation. `None` means
            `0.5 * hidden_size ** -0.5`: at any width, logits then start with a standard deviation of 0.5. Linear
            layers use `fan_in ** -0.5`, see `KakehashiPreTrainedModel`.
        scale_embedding: Multiply embeddings by `sqrt(hidden_size)` on their way in, so that the tied table can be
            small for the output and still carry weight in the residual stream.
        dropout: Probability of dropping a feature of the embedding and of each sub-layer's output.
        attention_dropout: Probability of dropping an attention weight.
        classifier_dropout: Dropout before the classification heads. `None` means `dropout`.
        label_smoothing: Part of each label's probability that the token loss spreads over the vocabulary, in training
            and in validation.
        z_loss_weight: Weight of the squared log of the softmax's denominator in the token loss.
        chunked_loss: Whether training computes logits piece by piece, never all at once. `None` does so where that
            pays, see `TokenLoss`.
        is_encoder_decoder: Whether the model has both stacks.
        is_decoder: Whether a model of one stack is the decoder.
        use_cache: Whether decoders return keys and values for the next step.
        tie_word_embeddings: Whether the output projection is the embedding.
        pad_token_id: Id that fills short rows.
        bos_token_id: Id that a target starts with.
        eos_token_id: Id that ends every source and target.
        decoder_start_token_id: First decoder input; the same as `bos_token_id`.
        mask_token_id: Id that hides a token in masked language modelling.

    Raises:
        ValueError: If heads, widths, layers, positions, rates or token ids do not fit together.
    """

    model_type = "kakehashi"
    keys_to_ignore_at_inference = ["past_key_values", "encoder_last_hidden_state"]
    attribute_map = {"num_hidden_layers": "num_decoder_layers"}

    vocab_size: int = 32_000
    hidden_size: int = 512
    intermediate_size: int = 1408
    num_encoder_layers: int = 8
    num_decoder_layers: int = 2
    num_attention_heads: int = 8
    num_key_value_heads: int | None = 4
    head_dim: int | None = 64
    position_embedding_type: PositionEmbeddingType = "rope"
    max_position_embeddings: int = 2048
    rope_parameters: dict | None = None
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    rms_norm_eps: float = 1e-6
    initializer_range: float | None = None
    scale_embedding: bool = True
    dropout: float | int = 0.0
    attention_dropout: float | int = 0.0
    classifier_dropout: float | int | None = None
    label_smoothing: float | int = 0.0
    z_loss_weight: float | int = 0.0
    chunked_loss: bool | None = None
    is_encoder_decoder: bool = True
    is_decoder: bool = False
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 1
    mask_token_id: int | None = 3

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.initializer_range is None:
            self.initializer_range = 0.5 * max(self.hidden_size, 1) ** -0.5
        # Names without a repository in front: right for this folder, and for every folder the model is saved to next.
        kwargs["auto_map"] = dict(AUTO_MAP)
        super().__post_init__(**kwargs)

    @property
    def custom_pipelines(self) -> dict[str, dict[str, Any]]:
        """The pipelines that `pipeline` of Transformers finds in the folder, as it wants them described.

        None where kakehashi is installed: then they are registered under their names, and Transformers would ask for
        leave to run the folder's code in their place.
        """
        return self._describe_pipelines() if _IS_REMOTE_CODE else {}

    @custom_pipelines.setter
    def custom_pipelines(self, value: Any) -> None:
        # What a `config.json` or the library names changes nothing: the list follows from shape and languages.
        pass

    @property
    def shape(self) -> Shape:
        """Which stacks the model has."""
        if self.is_encoder_decoder:
            return "encoder-decoder"
        return "decoder" if self.is_decoder else "encoder"

    def with_shape(self, shape: Shape) -> "KakehashiConfig":
        """A copy of this configuration for the given stacks, or this very object if it has that shape already."""
        if shape == self.shape:
            return self
        config = copy.deepcopy(self)
        config.is_encoder_decoder = shape == "encoder-decoder"
        config.is_decoder = shape == "decoder"
        return config

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> "KakehashiConfig":
        """This very object, for both ends of the model.

        For a flat encoder-decoder the library would hand out a copy under other field names, anew at each question:
        what is set on a copy has no effect, and generation asks often.
        """
        return self

    def to_dict(self) -> dict[str, Any]:
        """What `config.json` holds: the fields, and the pipelines of a model that writes."""
        pipelines = self._describe_pipelines()
        return {**super().to_dict(), **({"custom_pipelines": pipelines} if pipelines else {})}

    def _describe_pipelines(self) -> dict[str, dict[str, Any]]:
        if not self.is_encoder_decoder:
            return {}
        languages = sorted(translation_templates(self))
        pairs = {f"translation_{one}_to_{other}": "translation" for one, other in permutations(languages, 2)}
        classes = {**PIPELINES, **{name: PIPELINES[task] for name, task in pairs.items()}}
        return {
            # A list for each: the library writes classes over the names.
            task: {"impl": f"pipelines_kakehashi.{name}", "pt": ["AutoModelForSeq2SeqLM"]}
            for task, name in classes.items()
        }

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "KakehashiConfig":
        """The configuration of a preset size, with any field overridden.

        Args:
            name: One of `PRESETS`: nano, mini, small, base, large.
            **overrides: Fields that replace the preset's, such as `vocab_size`.

        Raises:
            ValueError: If there is no preset of that name.
        """
        if name not in PRESETS:
            raise ValueError(f"`preset` must be one of {', '.join(PRESETS)}, got {name!r}.")
        return cls(**{**PRESETS[name], **overrides})

    def validate_architecture(self) -> None:
        """Checks that heads, widths, layers, positions, rates and token ids fit together.

        Raises:
            ValueError: Naming the field, what it must be and what it is.
        """
        # Filled in by `__post_init__`, whatever was given.
        assert self.num_key_value_heads is not None
        assert self.head_dim is not None
        assert self.rope_parameters is not None
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
        for name in (*sizes, "head_dim", "max_position_embeddings"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("num_encoder_layers", "num_decoder_layers"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"`num_attention_heads` must be a multiple of `num_key_value_heads`, "
                f"got {self.num_attention_heads} and {self.num_key_value_heads}."
            )
        self._validate_positions()
        self._validate_rates()
        self._validate_token_ids()

    def _validate_positions(self) -> None:
        assert self.head_dim is not None
        assert self.rope_parameters is not None
        kinds = get_args(PositionEmbeddingType)
        if self.position_embedding_type not in kinds:
            raise ValueError(
                f"`position_embedding_type` must be one of {', '.join(kinds)}, got {self.position_embedding_type!r}."
            )
        if self.position_embedding_type == "rope" and self.head_dim % 2:
            raise ValueError(f"`head_dim` must be even because rotary positions turn pairs, got {self.head_dim}.")
        if self.position_embedding_type == "sinusoidal" and self.hidden_size % 2:
            raise ValueError(
                f"`hidden_size` must be even because sinusoidal positions come in pairs, got {self.hidden_size}."
            )
        rope_type, rope_types = self.rope_parameters["rope_type"], ("default", *ROPE_INIT_FUNCTIONS)
        if rope_type not in rope_types:
            raise ValueError(
                f"`rope_parameters['rope_type']` must be one of {', '.join(rope_types)}, got {rope_type!r}."
            )
        turned = self.rope_parameters.get("partial_rotary_factor")
        if turned not in (None, 1):
            raise ValueError(
                "`rope_parameters['partial_rotary_factor']` must be 1 because all pairs of a head are turned, "
                f"got {turned}."
            )
        buckets, farthest = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets < 4 or buckets % 4:
            raise ValueError(f"`relative_attention_num_buckets` must be a multiple of 4, got {buckets}.")
        if farthest <= buckets // 2:
            raise ValueError(
                f"`relative_attention_max_distance` must be greater than half of `relative_attention_num_buckets`, "
                f"got {farthest} and {buckets}."
            )

    def _validate_rates(self) -> None:
        for name in ("dropout", "attention_dropout", "classifier_dropout", "label_smoothing"):
            rate = getattr(self, name)
            if rate is not None and not 0 <= rate < 1:
                raise ValueError(f"`{name}` must be at least 0 and less than 1, got {rate}.")
        for name in ("rms_norm_eps", "initializer_range", "z_loss_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")

    def _validate_token_ids(self) -> None:
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "mask_token_id"):
            token_ids = getattr(self, name, None)
            for token_id in token_ids if isinstance(token_ids, list) else [token_ids]:
                if token_id is not None and not 0 <= token_id < self.vocab_size:
                    raise ValueError(f"`{name}` must be between 0 and `vocab_size` - 1, got {token_id}.")


def translation_templates(config: PreTrainedConfig) -> dict[str, str]:
    """Returns the instructions a model was tuned on to translate: target language → text with `{text}` in it.

    Args:
        config: Its configuration; `task_specific_params["translation"]` holds them. `DEFAULT_TRANSLATION_TEMPLATES`
            where it does not.
    """
    tasks = getattr(config, "task_specific_params", None) or {}
    return tasks.get("translation", DEFAULT_TRANSLATION_TEMPLATES)


__all__ = [
    "AUTO_MAP",
    "DEFAULT_TRANSLATION_TEMPLATES",
    "PIPELINES",
    "PRESETS",
    "KakehashiConfig",
    "PositionEmbeddingType",
    "Shape",
    "translation_templates",
]
