"""How much a run really does: tokens in a second, the share of slots they fill, the share of the device's peak."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from kakehashi.modeling.loss_kakehashi import shift_left
from kakehashi.training.callbacks import saved_state
from kakehashi.training.flops import ModelFlops, Workload, peak_rate
from kakehashi.training.objectives import IGNORED_LABEL
from kakehashi.training.processes import sum_over_processes


class TokenCounter(TrainerCallback, ExportableState):
    """Counts the tokens a model learns from, padding left out, their rate, and how well device and slots are used.

    Trainer's own count sees the source only; here the target of an encoder-decoder counts as well. The rates cover the
    time spent on steps and their data, not that of validation, checkpoints and samples. Logs gain

        num_tokens_seen          real tokens so far, source and target
        tokens_per_second        since the last log
        packing_efficiency       real tokens in each slot of `input_ids` and `decoder_input_ids`, since the last log
        model_flops_utilization  operations that the real tokens ask for (`flops.py`), in each one that the device
                                 could do at its peak, since the last log

    A plain Trainer calls what reports to TensorBoard and its like before the callbacks it is given; to have the
    numbers there, put this one first: `trainer.callback_handler.callbacks.insert(0, TokenCounter())`.

    Attributes:
        num_tokens_seen: Real tokens of the whole run, resumptions included.
        num_slots_seen: Slots of the batches they stood in.
        model_flops: Operations that they asked for.
        training_seconds: Time of the steps.
    """

    def __init__(
        self,
        num_tokens_seen: int = 0,
        training_seconds: float = 0.0,
        num_slots_seen: int = 0,
        model_flops: float = 0.0,
        run_seconds: float = 0.0,
    ) -> None:
        self.num_tokens_seen = num_tokens_seen
        self.training_seconds = training_seconds
        self.num_slots_seen = num_slots_seen
        self.model_flops = model_flops
        # Of this process since the last step, and of all processes since the last look.
        self._unread: torch.Tensor | None = None
        self._summed: torch.Tensor | None = None
        self._mark = self._begin = 0.0
        self._before_seconds = run_seconds
        self._logged = self.state()["args"]
        self._hook: Any = None
        # Those of forward and backward pass.
        self._costs: ModelFlops | None = None
        # Of all devices together, in operations a second.
        self._peak = 0.0

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps of the counts."""
        self._read()
        names = ("num_tokens_seen", "training_seconds", "num_slots_seen", "model_flops", "run_seconds")
        return {"args": {name: getattr(self, name) for name in names}, "attributes": {}}

    @property
    def run_seconds(self) -> float:
        """Time from the first step to the last one, its validation and its checkpoint, resumptions included."""
        return self._before_seconds + self._mark - self._begin

    @property
    def tokens_per_second(self) -> float:
        """Mean rate over the whole run."""
        return self.num_tokens_seen / self.training_seconds if self.training_seconds else 0.0

    def summary(self) -> dict[str, Any]:
        """Returns the numbers of the whole run, for `metrics.json`."""
        return {
            "num_tokens_seen": self.num_tokens_seen,
            "tokens_per_second": self.tokens_per_second,
            **self._shares(self.num_tokens_seen, self.num_slots_seen, self.model_flops, self.training_seconds),
            "model_flops": self.model_flops,
        }

    def _shares(self, tokens: int, slots: int, flops: float, seconds: float) -> dict[str, float]:
        shares = {"packing_efficiency": round(tokens / slots, 4)} if slots else {}
        if flops and seconds and self._peak:
            shares["model_flops_utilization"] = round(flops / seconds / self._peak, 4)
        return shares

    def _count(self, module: PreTrainedModel, _: tuple[Any, ...], batch: dict[str, Any]) -> None:
        """Adds a training batch to those of this process in this step."""
        if not module.training:
            return
        counts = count_batch(batch, bool(module.config.is_encoder_decoder), module.can_generate())
        self._unread = counts if self._unread is None else self._unread + counts

    def _sum_up(self) -> None:
        """Adds what this process counted to what all have; each has to take part, so it happens at fixed places."""
        unread, self._unread = self._unread, None
        if unread is not None:
            summed = sum_over_processes(unread)
            self._summed = summed if self._summed is None else self._summed + summed

    def _read(self) -> None:
        # Here and nowhere else: reading numbers off an accelerator waits for it, so it happens once per log and not
        # once per step.
        summed, self._summed = self._summed, None
        if summed is None:
            return
        slots, *sums = summed.tolist()
        work = Workload(*sums)
        self.num_slots_seen += slots
        self.num_tokens_seen += int(work.source_tokens + work.target_tokens)
        self.model_flops += 0.0 if self._costs is None else self._costs.forward(work)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the counts of the checkpoint, if there is one, and starts to count."""
        saved = saved_state(self, state)["args"]
        self.num_tokens_seen = saved.get("num_tokens_seen", 0)
        self.training_seconds = saved.get("training_seconds", 0.0)
        self.num_slots_seen = saved.get("num_slots_seen", 0)
        self.model_flops = saved.get("model_flops", 0.0)
        self._before_seconds = saved.get("run_seconds", 0.0)
        self._logged = self.state()["args"]
        model: PreTrainedModel = kwargs["model"]
        self._costs = ModelFlops.of_model(model).with_backward(model)
        dtype = torch.bfloat16 if args.bf16 else model.dtype
        self._peak = peak_rate(args.device, dtype).flops_per_second * args.world_size
        # Asking the compiler for an exemption imports it, which takes seconds: only where it is in use.
        count = torch.compiler.disable(self._count) if args.torch_compile else self._count
        self._hook = model.register_forward_pre_hook(count, with_kwargs=True)
        self.leave_out()
        self._begin = self._mark

    def leave_out(self) -> None:
        """Leaves the time since the last step out of the rates; for whoever did something else than training."""
        self._mark = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Adds the time of the step and what all processes learned from in it."""
        self._sum_up()
        now = time.perf_counter()
        self.training_seconds += now - self._mark
        self._mark = now

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Adds count and rates to what Trainer logs."""
        logs = kwargs["logs"]
        if "loss" not in logs:
            return
        now, before = self.state()["args"], self._logged
        since = {name: now[name] - before[name] for name in now}
        tokens, seconds = since["num_tokens_seen"], since["training_seconds"]
        entry = {
            "tokens_per_second": round(tokens / seconds, 1) if seconds else 0.0,
            "num_tokens_seen": self.num_tokens_seen,
            **self._shares(tokens, since["num_slots_seen"], since["model_flops"], seconds),
        }
        self._logged = now
        logs.update(entry)
        state.log_history[-1].update(entry)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves the time of validation out."""
        self.leave_out()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leaves the time of a checkpoint out."""
        self.leave_out()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stops counting."""
        self._sum_up()
        self._read()
        self._hook.remove()


def count_batch(batch: Mapping[str, Any], is_encoder_decoder: bool, is_generator: bool) -> torch.Tensor:
    """Returns the slots of a batch and the six sums of its `Workload`, as whole numbers on the batch's device.

        input_ids       a  b  </s> c  </s> p      2 slots of 14 hold padding; the segments are 3 and 2 tokens long,
        segment_ids     1  1  1    2  2    0      their targets 2 and 4: source_tokens 5, source_pairs 9 + 4,
        decoder_…       1  1  2 2 2 2 0 …         target_tokens 6, target_pairs 4 + 16, cross_pairs 3·2 + 2·4

    Nothing is read back, so an accelerator goes on working.

    Args:
        batch: What a forward pass is given: `input_ids`, `attention_mask` or `segment_ids` (and
            `decoder_segment_ids`), `labels`, `decoder_input_ids`.
        is_encoder_decoder: Whether the model has both stacks.
        is_generator: Whether a model of one stack predicts the next token, so that the first label of a text is not
            used.

    Returns:
        Shape (7,): slots, source_tokens, target_tokens, source_pairs, target_pairs, cross_pairs, labels.
    """
    ids, labels, segments = batch["input_ids"], batch.get("labels"), batch.get("segment_ids")
    sources = _segment_lengths(segments) if segments is not None else _row_lengths(ids, batch.get("attention_mask"))
    targets, slots = torch.zeros_like(sources), ids.numel()
    if is_encoder_decoder and labels is not None and labels.ndim == 2:
        target_segments = batch.get("decoder_segment_ids")
        decoded = batch.get("decoder_input_ids")
        is_label = labels.ne(IGNORED_LABEL)
        targets = is_label.sum(1, keepdim=True) if target_segments is None else _segment_lengths(target_segments)
        slots += (labels if decoded is None else decoded).numel()
    # A segment has the same number on both sides; those that only the wider side could number are empty.
    paired = min(sources.shape[1], targets.shape[1])
    sums = [
        torch.full((), slots, device=ids.device),
        sources.sum(),
        targets.sum(),
        sources.square().sum(),
        targets.square().sum(),
        (sources[:, :paired] * targets[:, :paired]).sum(),
        _count_labels(ids, labels, segments, is_shifted=is_generator and not is_encoder_decoder),
    ]
    return torch.stack(sums)


def _row_lengths(ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Returns the tokens of each row, shape (batch, 1)."""
    if attention_mask is None or attention_mask.ndim != 2:
        return torch.full((len(ids), 1), ids.shape[1], device=ids.device)
    return attention_mask.ne(0).sum(1, keepdim=True)


def _segment_lengths(segment_ids: torch.Tensor) -> torch.Tensor:
    """Returns the tokens of each segment of each row, shape (batch, length); 0 where there is no such segment."""
    # A row has no more segments than tokens, and asking for the largest number would wait for the accelerator.
    lengths = torch.zeros(len(segment_ids), segment_ids.shape[1] + 1, dtype=torch.int64, device=segment_ids.device)
    lengths.scatter_add_(1, segment_ids.long(), torch.ones_like(segment_ids, dtype=torch.int64))
    return lengths[:, 1:]


def _count_labels(
    ids: torch.Tensor, labels: torch.Tensor | None, segments: torch.Tensor | None, *, is_shifted: bool
) -> torch.Tensor:
    """Returns how many positions are projected."""
    if labels is None:
        return torch.zeros((), dtype=torch.long, device=ids.device)
    if labels.ndim == 1 or labels.is_floating_point():
        return torch.full((), len(labels), device=ids.device)
    return (shift_left(labels, segments) if is_shifted else labels).ne(IGNORED_LABEL).sum()
