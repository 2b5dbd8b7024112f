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
"""The kakehashi model and its heads: one set of blocks as encoder-decoder, as encoder alone, as decoder alone.

Every head keeps its blocks under `model`, under the same names, so weights move between the shapes:

    model.embed_tokens                  every shape; also the output projection
    model.encoder.layers.N.{self_attn, mlp}
    model.decoder.layers.N.{self_attn, cross_attn, mlp}

What every class shares is in `pretrained_kakehashi.py`, the stacks are in `stacks_kakehashi.py`, what they are made of
in `layers_kakehashi.py` and `attention_kakehashi.py`, what these need to know of places in `positions_kakehashi.py`
and `packing_kakehashi.py`, the loss in `loss_kakehashi.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
    MaskedLMOutput,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.auto import modeling_auto
from transformers.utils import can_return_tuple

from .configuration_kakehashi import KakehashiConfig, Shape
from .loss_kakehashi import TokenLoss, shift_left, shift_right, up_to_last_label
from .packing_kakehashi import check_packing
from .pretrained_kakehashi import KakehashiPreTrainedModel
from .stacks_kakehashi import KakehashiDecoder, KakehashiEncoder

if TYPE_CHECKING:
    # Never run: `save_pretrained` takes along the files that such lines name, and a folder needs its pipelines.
    from .pipelines_kakehashi import KakehashiTranslationPipeline  # noqa: F401

# What the checkpoint of an encoder-decoder holds beyond one of its stacks.
ENCODER_KEYS = r"(^|\.)encoder\."
DECODER_KEYS = r"(^|\.)decoder\."
CROSS_ATTENTION_KEYS = r"\.cross_attn(_norm)?\."


class KakehashiModel(KakehashiPreTrainedModel):
    """The stacks that `config.shape` names, without a head, around one embedding."""

    _auto_class = "AutoModel"

    def __init__(self, config: KakehashiConfig) -> None:
        super().__init__(config)
        self.embed_tokens: nn.Module = nn.Embedding(config.vocab_size, config.hidden_size)
        # FSDP2 shards tied weights only where all owners hold the same embedding object.
        self.encoder = KakehashiEncoder(config, self.embed_tokens) if config.shape != "decoder" else None
        self.decoder = KakehashiDecoder(config, self.embed_tokens) if config.shape != "encoder" else None
        stacks = [name for name in ("encoder", "decoder") if getattr(self, name) is not None]
        self._tied_weights_keys = {f"{name}.embed_tokens.weight": "embed_tokens.weight" for name in stacks}
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The one embedding."""
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the one embedding, in both stacks."""
        self.embed_tokens = value
        for stack in (self.encoder, self.decoder):
            if stack is not None:
                stack.set_input_embeddings(value)

    def get_encoder(self, modality: str | None = None) -> KakehashiEncoder | None:
        """The encoder, or `None` in a decoder alone."""
        return self.encoder

    def get_decoder(self) -> KakehashiDecoder | None:
        """The decoder, or `None` in an encoder alone."""
        return self.decoder

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        segment_ids: torch.Tensor | None = None,
        decoder_segment_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput | BaseModelOutput | BaseModelOutputWithPastAndCrossAttentions:
        """Runs the stacks.

        Args:
            input_ids: `(batch, source_length)`; of a decoder alone `(batch, target_length)`.
            attention_mask: As `input_ids`, 1 for a token and 0 for padding. `None` means no padding.
            decoder_input_ids: `(batch, target_length)`. Without them an encoder-decoder returns its encoder's
                states, so that it serves as a text encoder as it is.
            decoder_attention_mask: `(batch, cached_length + target_length)`.
            position_ids: As `input_ids`. `None` counts from 0.
            decoder_position_ids: `(batch, target_length)`. `None` counts on from the cache.
            encoder_outputs: States of a source that is encoded already.
            past_key_values: Cache of the decoder.
            inputs_embeds: In place of `input_ids`, before scaling.
            decoder_inputs_embeds: In place of `decoder_input_ids`, before scaling.
            use_cache: Whether the decoder returns a cache.
            segment_ids: As `input_ids`, where a row packs several examples: 1 for the tokens of the first, 2 for
                those of the second, 0 for padding. See `packing_kakehashi.py`.
            decoder_segment_ids: `(batch, target_length)`, the same numbers for the targets of those examples.
            **kwargs: `output_attentions`, `output_hidden_states` and what the attention implementation takes.

        Returns:
            An encoder-decoder's `Seq2SeqModelOutput`, or the output of its one stack.

        Raises:
            ValueError: If segment ids are not numbered as said, or differ between source and target.
        """
        check_packing(segment_ids, decoder_segment_ids)
        if self.encoder is None:
            assert self.decoder is not None
            return self.decoder(
                input_ids,
                attention_mask,
                position_ids,
                past_key_values=past_key_values,
                inputs_embeds=inputs_embeds,
                use_cache=use_cache,
                segment_ids=segment_ids,
                **kwargs,
            )
        source: BaseModelOutput
        if encoder_outputs is None:
            source = self.encoder(input_ids, attention_mask, position_ids, inputs_embeds, segment_ids, **kwargs)
        elif isinstance(encoder_outputs, (tuple, list)):
            source = BaseModelOutput(*encoder_outputs)
        else:
            source = encoder_outputs
        if self.decoder is None or (decoder_input_ids is None and decoder_inputs_embeds is None):
            return source
        decoder_outputs = self.decoder(
            decoder_input_ids,
            decoder_attention_mask,
            decoder_position_ids,
            encoder_hidden_states=source.last_hidden_state,
            encoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            segment_ids=decoder_segment_ids,
            encoder_segment_ids=segment_ids,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            past_key_values=decoder_outputs.past_key_values,
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=source.last_hidden_state,
            encoder_hidden_states=source.hidden_states,
            encoder_attentions=source.attentions,
        )


class KakehashiEncoderModel(KakehashiModel):
    """The encoder alone, from an encoder-decoder's folder or its own: text in, context vectors out."""

    _auto_class = "AutoModelForTextEncoding"
    _keys_to_ignore_on_load_unexpected = [DECODER_KEYS]

    def __init__(self, config: KakehashiConfig) -> None:
        super().__init__(config.with_shape("encoder"))


class KakehashiTokenPredictionModel(KakehashiPreTrainedModel):
    """What the three heads that predict tokens share: blocks, the tied output projection and the loss."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    shape: Shape

    def __init__(self, config: KakehashiConfig) -> None:
        config = config.with_shape(self.shape)
        super().__init__(config)
        self.model = KakehashiModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.token_loss = TokenLoss.of(config)
        self.post_init()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the one embedding, and the output projection's weight where it is tied."""
        self.model.set_input_embeddings(value)
        if self.config.tie_word_embeddings:
            self.lm_head.weight = value.weight

    def get_output_embeddings(self) -> nn.Module:
        """The output projection."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replaces the output projection."""
        self.lm_head = new_embeddings

    def project(
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor | None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The loss and the logits.

        In training no logits are returned, because only positions that have a label are projected, see `TokenLoss`.

        Args:
            hidden_states: `(batch, length, hidden_size)`.
            labels: `(batch, length)`, beside the position that predicts them. `None` for no loss.
            logits_to_keep: Number of last positions to project, or the indices of them; 0 for all.
            num_items_in_batch: Labels in the whole optimizer step, which the loss is divided by.

        Returns:
            The scalar loss or `None`, and logits `(batch, kept, vocab_size)` or `None` in training with labels.
        """
        if labels is not None and self.training:
            return self.token_loss.from_states(hidden_states, self.lm_head, labels, num_items_in_batch), None
        if labels is None and not (isinstance(logits_to_keep, int) and logits_to_keep == 0):
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            hidden_states = hidden_states[:, kept]
        logits = self.lm_head(hidden_states)
        if labels is None:
            return None, logits
        return self.token_loss.from_logits(logits.flatten(0, 1), labels.flatten(), num_items_in_batch), logits


class KakehashiForConditionalGeneration(KakehashiTokenPredictionModel, GenerationMixin):
    """The encoder-decoder: reads a source, writes a target."""

    _auto_class = "AutoModelForSeq2SeqLM"
    shape = "encoder-decoder"

    def prepare_decoder_input_ids_from_labels(
        self, labels: torch.Tensor, decoder_segment_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Decoder inputs `(batch, target_length)` for the labels; the name that Transformers' collators call.

        Args:
            labels: `(batch, target_length)`, -100 where there is nothing to predict.
            decoder_segment_ids: `(batch, target_length)` where rows are packed.

        Raises:
            ValueError: If the configuration has no start or padding id.
        """
        start_token_id, pad_token_id = self.config.decoder_start_token_id, self.config.pad_token_id
        if start_token_id is None or pad_token_id is None:
            raise ValueError(
                "`decoder_start_token_id` and `pad_token_id` must be set to make decoder inputs from labels, "
                f"got {start_token_id} and {pad_token_id}."
            )
        return shift_right(labels, start_token_id, pad_token_id, decoder_segment_ids)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
        segment_ids: torch.Tensor | None = None,
        decoder_segment_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Predicts the target.

        Args:
            input_ids: `(batch, source_length)`.
            attention_mask: `(batch, source_length)`.
            decoder_input_ids: `(batch, target_length)`. `None` makes them from `labels`.
            decoder_attention_mask: `(batch, cached_length + target_length)`.
            position_ids: `(batch, source_length)`.
            decoder_position_ids: `(batch, target_length)`.
            encoder_outputs: States of a source that is encoded already.
            past_key_values: Cache of the decoder.
            inputs_embeds: `(batch, source_length, hidden_size)`.
            decoder_inputs_embeds: `(batch, target_length, hidden_size)`.
            labels: `(batch, target_length)`, the target itself; -100 where there is nothing to predict.
            use_cache: Whether to return a cache. `None` takes `config.use_cache`, and no when there are labels.
            logits_to_keep: Number of last positions to project; 0 for all.
            num_items_in_batch: Labels in the whole optimizer step, which the loss is divided by.
            segment_ids: `(batch, source_length)` where a row packs several examples, see `KakehashiModel.forward`.
            decoder_segment_ids: `(batch, target_length)`, the same for their targets.
            **kwargs: `output_attentions`, `output_hidden_states` and what the attention implementation takes.

        Returns:
            Loss, logits `(batch, target_length, vocab_size)` (none in training with labels, see `project`), cache,
            and states and attentions of both stacks if asked for.

        Raises:
            ValueError: If nothing says what the decoder reads.
        """
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if labels is None:
                raise ValueError("Give one of `labels`, `decoder_input_ids` and `decoder_inputs_embeds`, got none.")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels, decoder_segment_ids)
        if labels is not None and use_cache is None:
            use_cache = False
        is_laid_out = self.training and self.config._attn_implementation == "varlen" and decoder_segment_ids is None
        if labels is not None and decoder_attention_mask is None and is_laid_out:
            # Less to compute. Masks would not gain by it: the causal order hides what comes later.
            decoder_attention_mask = up_to_last_label(labels)
        outputs = self.model(
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            position_ids,
            decoder_position_ids,
            encoder_outputs,
            past_key_values,
            inputs_embeds,
            decoder_inputs_embeds,
            use_cache,
            segment_ids,
            decoder_segment_ids,
            **kwargs,
        )
        loss, logits = self.project(outputs.last_hidden_state, labels, logits_to_keep, num_items_in_batch)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )


class KakehashiForCausalLM(KakehashiTokenPredictionModel, GenerationMixin):
    """The decoder alone, as GPT: continues a text. Takes the decoder of an encoder-decoder, less cross-attention."""

    _auto_class = "AutoModelForCausalLM"
    _keys_to_ignore_on_load_unexpected = [ENCODER_KEYS, CROSS_ATTENTION_KEYS]
    shape = "decoder"

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
        segment_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithCrossAttentions:
        """Predicts each next token.

        Args:
            input_ids: `(batch, length)`.
            attention_mask: `(batch, cached_length + length)`, 1 for a token and 0 for padding.
            position_ids: `(batch, length)`. `None` counts on from the cache.
            past_key_values: Cache to read and extend.
            inputs_embeds: `(batch, length, hidden_size)`.
            labels: `(batch, length)`, usually `input_ids` themselves; shifted here, so that position `i` predicts
                label `i + 1`. -100 where there is nothing to predict.
            use_cache: Whether to return a cache. `None` takes `config.use_cache`, and no when there are labels.
            logits_to_keep: Number of last positions to project; 0 for all.
            num_items_in_batch: Labels in the whole optimizer step, which the loss is divided by.
            segment_ids: `(batch, length)` where a row packs several texts, see `KakehashiModel.forward`.
            **kwargs: `output_attentions`, `output_hidden_states` and what the attention implementation takes; and
                `shift_labels`, labels that are shifted already, in place of `labels`.

        Returns:
            Loss, logits `(batch, length, vocab_size)` (none in training with labels, see `project`), cache.
        """
        # Not an argument of its own: Trainer would take it for a label that every batch must hold.
        shift_labels = kwargs.pop("shift_labels", None)
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=False if use_cache is None and labels is not None else use_cache,
            segment_ids=segment_ids,
            **kwargs,
        )
        if shift_labels is None and labels is not None:
            shift_labels = shift_left(labels, segment_ids)
        loss, logits = self.project(outputs.last_hidden_state, shift_labels, logits_to_keep, num_items_in_batch)
        return CausalLMOutputWithCrossAttentions(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class KakehashiForMaskedLM(KakehashiTokenPredictionModel):
    """The encoder alone, as BERT: restores masked tokens."""

    _auto_class = "AutoModelForMaskedLM"
    _keys_to_ignore_on_load_unexpected = [DECODER_KEYS]
    shape = "encoder"

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        segment_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Predicts the token at each position.

        Args:
            input_ids: `(batch, length)`, some of them `config.mask_token_id`.
            attention_mask: `(batch, length)`, 1 for a token and 0 for padding.
            position_ids: `(batch, length)`. `None` counts from 0.
            inputs_embeds: `(batch, length, hidden_size)`.
            labels: `(batch, length)`, the hidden tokens; -100 elsewhere.
            num_items_in_batch: Labels in the whole optimizer step, which the loss is divided by.
            segment_ids: `(batch, length)` where a row packs several texts, see `KakehashiModel.forward`.
            **kwargs: `output_attentions`, `output_hidden_states` and what the attention implementation takes.

        Returns:
            Loss and logits `(batch, length, vocab_size)` (none in training with labels, see `project`).
        """
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            segment_ids=segment_ids,
            **kwargs,
        )
        loss, logits = self.project(outputs.last_hidden_state, labels, num_items_in_batch=num_items_in_batch)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class KakehashiClassificationModel(KakehashiPreTrainedModel):
    """What the two classification heads share: the encoder, dropout and the projection to labels."""

    _keys_to_ignore_on_load_unexpected = [DECODER_KEYS, r"^lm_head\."]

    def __init__(self, config: KakehashiConfig) -> None:
        config = config.with_shape("encoder")
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = KakehashiModel(config)
        dropout = config.dropout if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(dropout)
        assert config.num_labels is not None
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()


class KakehashiForSequenceClassification(KakehashiClassificationModel):
    """The encoder with one label, several labels or numbers per text, read from the mean of its context vectors."""

    _auto_class = "AutoModelForSequenceClassification"

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Classifies each text.

        Args:
            input_ids: `(batch, length)`.
            attention_mask: `(batch, length)`, 1 for a token and 0 for padding, which the mean leaves out.
            position_ids: `(batch, length)`. `None` counts from 0.
            inputs_embeds: `(batch, length, hidden_size)`.
            labels: `(batch,)` label ids, -100 where a text does not count; `(batch, num_labels)` zeros and ones for
                several labels per text; numbers for regression. `config.problem_type` says which; `None` is settled
                by dtype and `num_labels`.
            num_items_in_batch: Numbers in the labels of the whole optimizer step, which the loss is divided by.
            **kwargs: `output_attentions`, `output_hidden_states` and what the attention implementation takes.

        Returns:
            Loss and logits `(batch, num_labels)`.

        Raises:
            ValueError: If rows are packed: one row has one mean, and so one text.
        """
        if kwargs.get("segment_ids") is not None:
            raise ValueError("`segment_ids` must be None here: a row is one text, and its mean is classified.")
        outputs = self.model(
            input_ids, attention_mask, position_ids=position_ids, inputs_embeds=inputs_embeds, **kwargs
        )
        states = outputs.last_hidden_state
        if attention_mask is None:
            pooled = states.mean(dim=1)
        else:
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        logits = self.score(self.dropout(pooled))
        loss = None
        if labels is not None:
            # Also settles the type of problem.
            loss = self.loss_function(labels, logits, self.config)
            if self.config.problem_type == "single_label_classification":
                loss = TokenLoss().from_logits(logits, labels.flatten().to(logits.device), num_items_in_batch)
            elif num_items_in_batch is not None:
                loss = loss * labels.numel() / num_items_in_batch
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class KakehashiForTokenClassification(KakehashiClassificationModel):
    """The encoder with a label for each token."""

    _auto_class = "AutoModelForTokenClassification"

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        segment_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Classifies each token.

        Args:
            input_ids: `(batch, length)`.
            attention_mask: `(batch, length)`, 1 for a token and 0 for padding.
            position_ids: `(batch, length)`. `None` counts from 0.
            inputs_embeds: `(batch, length, hidden_size)`.
            labels: `(batch, length)` label ids, -100 where a token does not count.
            num_items_in_batch: Labels in the whole optimizer step, which the loss is divided by.
            segment_ids: `(batch, length)` where a row packs several texts, see `KakehashiModel.forward`.
            **kwargs: `output_attentions`, `output_hidden_states` and what the attention implementation takes.

        Returns:
            Loss and logits `(batch, length, num_labels)`.
        """
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            segment_ids=segment_ids,
            **kwargs,
        )
        logits = self.score(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            loss = TokenLoss().from_logits(logits.flatten(0, 1), labels.flatten(), num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


# Tables of names that the library reads where it has no class: without ours, `pipeline` calls a model unsupported, and
# Trainer smooths the labels of a causal model without shifting them. Here, so that a folder's code alone sets them.
modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.setdefault("kakehashi", "KakehashiForCausalLM")
modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.setdefault("kakehashi", "KakehashiForMaskedLM")
modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.setdefault(
    "kakehashi", "KakehashiForSequenceClassification"
)
modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES.setdefault("kakehashi", "KakehashiForTokenClassification")

__all__ = [
    "KakehashiEncoderModel",
    "KakehashiForCausalLM",
    "KakehashiForConditionalGeneration",
    "KakehashiForMaskedLM",
    "KakehashiForSequenceClassification",
    "KakehashiForTokenClassification",
    "KakehashiModel",
    "KakehashiPreTrainedModel",
]
