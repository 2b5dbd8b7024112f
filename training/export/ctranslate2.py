"""A model in the layout of CTranslate2, whose C++ runs these very blocks.

CTranslate2 knows no kakehashi, but it knows each part: rotary positions in both stacks, grouped-query attention, the
norms of queries and keys, SwiGLU and one tied embedding. So a model is its general `TransformerSpec`, filled.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from kakehashi.training.export.folder import Quantization, require_packages

_ROPE_TYPES = ("default", "linear")
# Settings of `generation_config.json` that either mean the same there or say nothing about decoding.
_KNOWN_SETTINGS = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "use_cache", "transformers_version"),
    *("max_new_tokens", "max_length", "min_new_tokens", "num_beams", "do_sample", "temperature", "top_k", "top_p"),
    *("length_penalty", "repetition_penalty", "no_repeat_ngram_size", "early_stopping"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
}


def write_ctranslate2(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, quantization: Quantization | None
) -> None:
    """Writes weights, vocabulary and the keys that CTranslate2 reads from `config.json`.

    Args:
        model: A kakehashi encoder-decoder or decoder that writes text.
        tokenizer: Its tokenizer, which names the entries of the vocabulary.
        folder: Where to; it exists.
        quantization: Number format of the matrices, `None` for float32.

    Raises:
        ValueError: If the package is missing or CTranslate2 cannot run the model.
    """
    require_packages("ctranslate2", "ctranslate2")
    require_runnable(model.config)
    if not model.can_generate():
        raise ValueError(f"ctranslate2 runs models that write text, got {type(model).__name__}: export it to onnx")
    assert model.generation_config is not None
    require_known_settings(model.generation_config)
    spec = build_spec(model)
    tokens = vocabulary_of(tokenizer, model.config.vocab_size)
    if model.config.is_encoder_decoder:
        spec.register_source_vocabulary(tokens)
        spec.register_target_vocabulary(tokens)
        spec.config.decoder_start_token = tokens[_start_token_id(model)]
    else:
        spec.register_vocabulary(tokens)
    spec.config.bos_token = tokens[model.config.bos_token_id]
    spec.config.eos_token = tokens[_first(model.config.eos_token_id)]
    # There is no unknown token: every text is bytes. It must be an entry of the vocabulary, or one is added.
    spec.config.unk_token = tokens[model.config.pad_token_id]
    spec.config.layer_norm_epsilon = model.config.rms_norm_eps
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))


def require_runnable(config: PreTrainedConfig) -> None:
    """Checks that CTranslate2 computes what this configuration describes.

    Raises:
        ValueError: If positions are not rotary, their angles are scaled in a way it does not know, a stack has no
            layer, or the token ids it needs are absent.
    """
    positions = getattr(config, "position_embedding_type", "rope")
    if positions != "rope":
        raise ValueError(f"ctranslate2 needs `position_embedding_type` 'rope', got {positions!r}: export to onnx")
    rope_type = config.rope_parameters["rope_type"]
    if rope_type not in _ROPE_TYPES:
        raise ValueError(
            f"ctranslate2 needs `rope_parameters['rope_type']` to be one of {', '.join(_ROPE_TYPES)}, got "
            f"{rope_type!r}: export to onnx"
        )
    stacks = ["num_decoder_layers", *(["num_encoder_layers"] if config.is_encoder_decoder else [])]
    for name in stacks:
        if getattr(config, name) < 1:
            raise ValueError(f"ctranslate2 needs `{name}` to be at least 1, got {getattr(config, name)}")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if getattr(config, name) is None:
            raise ValueError(f"ctranslate2 needs `{name}` in the configuration, got None")


def require_known_settings(generation_config: GenerationConfig) -> None:
    """Checks that nothing in the generation settings would be ignored.

    Raises:
        ValueError: Naming the settings CTranslate2 lacks.
    """
    asked = {name for name in generation_config.to_diff_dict() if not name.startswith("_")}
    unknown = sorted(asked - _KNOWN_SETTINGS)
    if unknown:
        raise ValueError(
            f"ctranslate2 has no decoding option {', '.join(unknown)}, which generation_config.json sets: remove it "
            "there, or export to onnx"
        )


def vocabulary_of(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> list[str]:
    """Returns one name for each id of the model, those beyond the tokenizer included.

    Args:
        tokenizer: The tokenizer.
        vocab_size: Entries of the embedding.

    Raises:
        ValueError: If the tokenizer has more tokens than the model, or two ids of one name.
    """
    if len(tokenizer) > vocab_size:
        raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, the model only {vocab_size}")
    names: Any = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    tokens = [name if name is not None else f"<unused_{index}>" for index, name in enumerate(names)]
    tokens += [f"<unused_{index}>" for index in range(len(tokens), vocab_size)]
    if len(set(tokens)) < len(tokens):
        raise ValueError("the tokenizer must have a name of its own for each id, but some ids share one")
    return tokens


def build_spec(model: PreTrainedModel) -> Any:
    """Returns the model as CTranslate2 describes it, with a copy of its weights in float32."""
    from ctranslate2.specs import transformer_spec

    config: Any = model.config
    settings = _stack_settings(config)
    decoder = transformer_spec.TransformerDecoderSpec(
        config.num_decoder_layers, with_encoder_attention=config.is_encoder_decoder, **settings
    )
    _fill_stack(decoder, decoder.embeddings, model.get_decoder(), config)
    _fill_linear(decoder.projection, model.get_output_embeddings())
    if not config.is_encoder_decoder:
        return transformer_spec.TransformerDecoderModelSpec(decoder)
    encoder = transformer_spec.TransformerEncoderSpec(config.num_encoder_layers, **settings)
    _fill_stack(encoder, encoder.embeddings[0], model.get_encoder(), config)
    return transformer_spec.TransformerSpec(encoder, decoder)


def _stack_settings(config: Any) -> dict[str, Any]:
    from ctranslate2.specs import attention_spec, common_spec

    rope = config.rope_parameters
    is_linear = rope["rope_type"] == "linear"
    grouped = config.num_key_value_heads != config.num_attention_heads
    return {
        "num_heads": config.num_attention_heads,
        "pre_norm": True,
        "activation": common_spec.Activation.SWISH,
        "ffn_glu": True,
        "rms_norm": True,
        "num_heads_kv": config.num_key_value_heads if grouped else None,
        "head_dim": config.head_dim,
        "rotary_dim": config.head_dim,
        # Feature `i` is turned with `i + head_dim / 2`.
        "rotary_interleave": False,
        "rotary_base": rope["rope_theta"],
        "rotary_scaling_type": attention_spec.RotaryScalingType.Linear if is_linear else None,
        "rotary_scaling_factor": rope["factor"] if is_linear else 1,
        "qk_norm": True,
    }


def _fill_stack(spec: Any, embeddings: Any, stack: Any, config: Any) -> None:
    spec.scale_embeddings = config.scale_embedding
    embeddings.weight = _copy(stack.embed_tokens.weight)
    spec.layer_norm.gamma = _copy(stack.norm.weight)
    for layer_spec, layer in zip(spec.layer, stack.layers, strict=True):
        attention = layer.self_attn
        layer_spec.self_attention.layer_norm.gamma = _copy(layer.self_attn_norm.weight)
        _fill_linear(layer_spec.self_attention.linear[0], attention.q_proj, attention.k_proj, attention.v_proj)
        _fill_linear(layer_spec.self_attention.linear[1], attention.o_proj)
        _fill_norms(layer_spec.self_attention, attention)
        if getattr(layer, "cross_attn", None) is not None:
            _fill_cross_attention(layer_spec.attention, layer.cross_attn, layer.cross_attn_norm)
        layer_spec.ffn.layer_norm.gamma = _copy(layer.mlp_norm.weight)
        _fill_linear(layer_spec.ffn.linear_0, layer.mlp.gate_proj)
        _fill_linear(layer_spec.ffn.linear_0_noact, layer.mlp.up_proj)
        _fill_linear(layer_spec.ffn.linear_1, layer.mlp.down_proj)


def _fill_cross_attention(spec: Any, attention: Any, norm: nn.Module) -> None:
    spec.layer_norm.gamma = _copy(norm.weight)
    _fill_linear(spec.linear[0], attention.q_proj)
    _fill_linear(spec.linear[1], attention.k_proj, attention.v_proj)
    _fill_linear(spec.linear[2], attention.o_proj)
    _fill_norms(spec, attention)


def _fill_norms(spec: Any, attention: Any) -> None:
    spec.q_norm.gamma = _copy(attention.q_norm.weight)
    spec.k_norm.gamma = _copy(attention.k_norm.weight)


def _fill_linear(spec: Any, *linears: Any) -> None:
    """One matrix for several linear layers that read the same input."""
    spec.weight = torch.cat([_copy(linear.weight) for linear in linears])


def _copy(weight: Any) -> torch.Tensor:
    # Quantization scales what it is given in place.
    return weight.detach().to("cpu", torch.float32, copy=True)


def _start_token_id(model: PreTrainedModel) -> int:
    start = model.config.decoder_start_token_id
    return model.config.bos_token_id if start is None else start


def _first(token_ids: int | list[int]) -> int:
    return token_ids[0] if isinstance(token_ids, list) else token_ids
