import itertools
from collections import Counter

import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainingArguments, T5Config

from kakehashi.modeling import KakehashiForMaskedLM
from kakehashi.training.arguments import InstructArguments, PretrainArguments
from kakehashi.training.collators import CollateByEpoch, MaskedLMCollator
from kakehashi.training.packing import measure_sequences
from kakehashi.training.sequence_stage import pack_for_training, repeat_stream, require_examples, require_packable
from kakehashi.training.trainer import RepeatableTrainer


@pytest.fixture
def training_arguments(tmp_path):
    return Seq2SeqTrainingArguments(tmp_path, use_cpu=True)


def make_pairs():
    return Dataset.from_dict({"input_ids": [[5, 6, 2]] * 40, "labels": [[7, 2]] * 40})


def test_rows_hold_two_of_the_longest_sources_and_their_use_is_told(training_arguments, capsys):
    arguments = InstructArguments(packing=True)
    measure = measure_sequences("input_ids", "labels")
    rows = pack_for_training(make_pairs(), arguments, training_arguments, measure=measure, longest=(15, 10))
    assert [len(row["input_ids"]) for row in rows] == [30] * 4
    assert "packed 40 examples into 4 rows of 30 + 20 tokens, 100.0% of the room used" in capsys.readouterr().err


def test_a_recipe_may_name_the_length_of_rows(training_arguments):
    arguments = InstructArguments(packing=True, packed_length=6)
    measure = measure_sequences("input_ids", "labels")
    rows = pack_for_training(make_pairs(), arguments, training_arguments, measure=measure, longest=(15, 10))
    assert len(rows) == 20


def make_documents(number=20):
    return Dataset.from_dict({"input_ids": [[100 + place, 150, 200 + place % 7] for place in range(number)]})


def make_stream(training_arguments, packing=False, num_shards=1):
    """An endless stream of twenty documents, and the documents."""
    documents = make_documents()
    examples, arguments = documents.to_iterable_dataset(num_shards), PretrainArguments(packing=packing)
    if packing:
        measure = measure_sequences("input_ids", extra=1)
        examples = pack_for_training(examples, arguments, training_arguments, measure=measure, longest=(4,))
    return repeat_stream(examples, arguments, training_arguments), [tuple(row["input_ids"]) for row in documents]


@pytest.mark.parametrize("packing", [False, True])
def test_a_stream_starts_anew_at_its_end_in_another_order_that_is_the_same_in_every_run(training_arguments, packing):
    stream, documents = make_stream(training_arguments, packing)
    rows = [tuple(row["input_ids"]) for row in itertools.islice(stream, 3 * (10 if packing else 20))]
    ids = [id for row in rows for id in row]
    passes = [[tuple(ids[start : start + 3]) for start in range(first, first + 60, 3)] for first in (0, 60, 120)]
    assert all(sorted(each) == sorted(documents) for each in passes)
    assert len({tuple(each) for each in [documents, *passes]}) == 4
    again, _ = make_stream(training_arguments, packing)
    for _ in range(2):
        assert [tuple(row["input_ids"]) for row in itertools.islice(again, len(rows))] == rows


def test_the_same_document_alone_in_a_batch_loses_other_words_in_each_pass(training_arguments, tiny_tokenizer):
    stream, documents = make_stream(training_arguments)
    collate = MaskedLMCollator(tiny_tokenizer)
    examples = list(itertools.islice(stream, 2 * len(documents)))
    fates = {(*example["input_ids"], *collate([example])["labels"][0].tolist()) for example in examples}
    # One of three words is hidden, so that a third of the documents meet the same fate again.
    assert 1.3 * len(documents) < len(fates) < 2 * len(documents)


def test_examples_that_are_no_stream_stay_as_they_are(training_arguments):
    pairs = make_pairs()
    assert repeat_stream(pairs, InstructArguments(), training_arguments) is pairs


# Of a single file the second worker has nothing.
@pytest.mark.parametrize("files", [1, 2])
def test_workers_share_the_files_of_a_stream_and_each_passes_over_its_own(training_arguments, files):
    stream, documents = make_stream(training_arguments, num_shards=files)
    loader = DataLoader(stream, batch_size=None, num_workers=2)
    ids = [[tuple(example["input_ids"]) for example in itertools.islice(loader, 60)] for _ in range(2)]
    assert ids[0] == ids[1]
    counts = Counter(ids[0])
    assert counts.keys() == set(documents) and set(counts.values()) == {3}


def train_on_stream(tokenizer, model, folder, seen, packing, **options):
    arguments = Seq2SeqTrainingArguments(
        str(folder), max_steps=9, save_steps=4, per_device_train_batch_size=6, gradient_accumulation_steps=2,
        remove_unused_columns=False, report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    stream, _ = make_stream(arguments, packing)
    hook = model.register_forward_pre_hook(lambda *call: seen.append(call[-1]["labels"].clone()), with_kwargs=True)
    collator = MaskedLMCollator(tokenizer, seed=arguments.seed)
    trainer = RepeatableTrainer(model, arguments, collator, stream, callbacks=[CollateByEpoch()])
    trainer.train(**options)
    hook.remove()
    return model.state_dict()


@pytest.mark.parametrize("packing", [False, True])
def test_a_run_on_a_stream_resumes_to_the_very_same_batches_and_weights(
    build_tiny_model, tiny_tokenizer, tmp_path, packing
):
    whole, resumed = [], []
    # A pass is over within four steps, and the checkpoint stands in the second one.
    expected = train_on_stream(tiny_tokenizer, build_tiny_model(KakehashiForMaskedLM), tmp_path, whole, packing)
    found = train_on_stream(
        tiny_tokenizer,
        build_tiny_model(KakehashiForMaskedLM),
        tmp_path,
        resumed,
        packing,
        resume_from_checkpoint=str(tmp_path / "checkpoint-4"),
    )
    assert all(torch.equal(each, again) for each, again in zip(whole[8:], resumed, strict=True))
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())
    assert not any(torch.equal(first, second) for first, second in itertools.combinations(whole, 2))


def test_something_must_be_left_to_train_on():
    for examples in (make_pairs(), make_pairs().to_iterable_dataset()):
        require_examples(examples)
    for examples in (make_pairs().select([]), make_pairs().to_iterable_dataset().take(0)):
        with pytest.raises(ValueError, match="`train_files` must give at least one example, got none"):
            require_examples(examples)


def test_only_models_that_keep_segments_apart_are_packed_for(tiny_config):
    require_packable(InstructArguments(packing=True), tiny_config)
    require_packable(InstructArguments(), T5Config())
    with pytest.raises(
        ValueError, match=r"`packing` needs a model that keeps the examples .* got a model of type 't5'"
    ):
        require_packable(InstructArguments(packing=True), T5Config())
