"""Examples and batches of a sample are those of the stage."""

import pytest
import torch
from datasets import Dataset

from kakehashi.training.arguments import ClassifyArguments, InstructArguments, PretrainArguments
from kakehashi.training.preview import Preview, make_batches, preview_stage
from kakehashi.training.recipe import parse_recipe


@pytest.fixture
def preview(tiny_tokenizer, tiny_config, tiny_sentences):
    """A function that previews a stage on twenty rows, and makes its batches."""

    def make(stage, is_whole=False, **keys):
        columns = {"text": tiny_sentences * 2, "label": [str(n % 3) for n in range(20)], "empty": [""] * 20}
        rows = Dataset.from_dict({**columns, "number": [n / 4 for n in range(20)]})
        given = {"output_dir": "run", "train_files": ["rows.tsv"], "per_device_train_batch_size": 4, **keys}
        arguments, training_arguments = parse_recipe(stage, given)
        previewed = preview_stage(arguments, training_arguments, tiny_tokenizer, tiny_config, rows, is_whole=is_whole)
        return previewed, make_batches(previewed, training_arguments)

    return make


def test_documents_become_pieces_and_pairs(preview):
    previewed, batches = preview(PretrainArguments, max_source_length=16, max_target_length=16)
    assert previewed.examples_per_row >= 1
    assert not previewed.is_cut
    assert {"input_ids", "labels", "decoder_input_ids"} <= set(batches[0])
    assert all(len(batch["input_ids"]) == 4 for batch in batches)


def test_what_a_run_would_refuse_is_refused_here_too(preview):
    with pytest.raises(ValueError, match=r"`max_source_length` must be lower, got 256: .* the tokenizer has 10"):
        preview(PretrainArguments)
    with pytest.raises(ValueError, match="`train_files` must give at least one example"):
        preview(InstructArguments, source_template=["{empty}"], target_template=["{label}"])
    with pytest.raises(ValueError, match="`train_files` must give at least one example"):
        preview(PretrainArguments, text_column="empty", packing=True, max_source_length=16, max_target_length=16)


def test_instructions_are_measured_before_they_are_cut_and_packed_as_the_stage_packs(preview):
    keys = {"source_template": ["Label: {text}"], "target_template": ["{label}"], "max_source_length": 8}
    previewed, batches = preview(InstructArguments, **keys)
    assert previewed.lengths["source"].max() > 8
    assert all(batch["input_ids"].shape[1] <= 8 for batch in batches)
    packed, batches = preview(InstructArguments, packing=True, packed_length=32, **keys)
    assert packed.examples_per_row < 1
    assert {"segment_ids", "decoder_segment_ids"} <= set(batches[0])


def test_texts_get_their_labels(preview, tiny_config):
    previewed, batches = preview(ClassifyArguments, max_length=16)
    assert tiny_config.num_labels == 3
    assert batches[0]["labels"].tolist() and batches[0]["labels"].dtype == torch.int64
    assert previewed.notes == ["single_label_classification, 3 labels in the sample"]


def test_a_loss_that_a_run_would_refuse_is_refused_where_the_rows_are_all_there_are(preview):
    keys = {"max_length": 16, "class_weights": {"3": 2.0}}
    with pytest.raises(ValueError, match="`class_weights` must name labels of the training rows, got '3'"):
        preview(ClassifyArguments, is_whole=True, **keys)
    previewed, _ = preview(ClassifyArguments, **keys)
    assert previewed.notes[1].startswith("in the sample: `class_weights` must name labels of the training rows")
    for key, value in (("class_weights", "balanced"), ("label_smoothing_factor", 0.1)):
        with pytest.raises(ValueError, match=f"`{key}` must be left out for regression"):
            preview(ClassifyArguments, max_length=16, label_column="number", **{key: value})


def test_texts_beyond_learned_positions_are_refused(preview, tiny_config):
    tiny_config.position_embedding_type = "learned"
    with pytest.raises(ValueError, match="`max_length` must be at most 128, the positions that KakehashiForSequenceC"):
        preview(ClassifyArguments)


def test_r_drop_reads_each_text_twice(preview, tiny_config):
    keys = {"max_length": 16, "r_drop_alpha": 1.0}
    with pytest.raises(ValueError, match="`r_drop_alpha` compares two answers"):
        preview(ClassifyArguments, **keys)
    tiny_config.dropout = 0.1
    _, batches = preview(ClassifyArguments, **keys)
    assert torch.equal(batches[0]["input_ids"][0::2], batches[0]["input_ids"][1::2])
    assert len(batches[0]["labels"]) == 2 * 4


def test_a_batch_larger_than_the_sample_is_made_of_what_there_is(preview):
    _, (batch,) = preview(ClassifyArguments, per_device_train_batch_size=500)
    assert len(batch["input_ids"]) == 20


def test_packed_rows_share_a_batch_with_rows_of_their_length_as_in_the_run(tmp_path):
    numbers = [7 * n % 40 + 1 for n in range(40)]
    rows = Dataset.from_dict({"input_ids": [[5] * n for n in numbers], "lengths": [[n] for n in numbers]})
    previewed = Preview(None, rows, 1.0, lambda examples: [len(row["input_ids"]) for row in examples], {}, {})
    _, training_arguments = parse_recipe(
        PretrainArguments, {"output_dir": str(tmp_path), "per_device_train_batch_size": 4}
    )
    batches = make_batches(previewed, training_arguments)
    assert len(batches) == 10 and all(max(batch) - min(batch) == 3 for batch in batches)
