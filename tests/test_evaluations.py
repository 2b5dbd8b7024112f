"""What was measured stays beside the weights it was measured on."""

import dataclasses
import json

import pytest

from kakehashi.training.evaluations import (
    EVALUATIONS_FILE,
    Measurement,
    fingerprint_rows,
    keep_measurement,
    read_measurements,
)
from kakehashi.training.run_files import listed_files

FIRST = Measurement("generation", ["test.tsv"], 10, {"chrf": 0.25}, "ja", {"num_beams": 1}, "2026-01-02")


def test_measuring_again_replaces_and_measuring_otherwise_adds(finish_run):
    folder = finish_run()
    assert read_measurements(folder) == []
    better = dataclasses.replace(FIRST, scores={"chrf": 0.5})
    other = dataclasses.replace(FIRST, settings={"num_beams": 4})
    for each in (FIRST, other, better):
        keep_measurement(folder, each)
    assert read_measurements(folder) == [other, better]
    assert not list(folder.glob(".*"))


def test_files_of_one_name_and_length_are_told_apart_by_their_rows(finish_run):
    folder = finish_run()
    same, other = ([{"text": "a", "label": 1}, {"text": "b", "label": label}] for label in (1, 0))
    assert fingerprint_rows(same) == fingerprint_rows([dict(sorted(row.items())) for row in same])
    first, second = (dataclasses.replace(FIRST, rows_sha256=fingerprint_rows(rows)) for rows in (same, other))
    for each in (first, second, first):
        keep_measurement(folder, each)
    assert read_measurements(folder) == [second, first]


def test_the_file_is_listed_as_one_of_the_run(finish_run):
    folder = finish_run()
    keep_measurement(folder, FIRST)
    assert EVALUATIONS_FILE in listed_files(folder)


def test_what_was_measured_on_other_weights_is_dropped(finish_run):
    folder = finish_run()
    keep_measurement(folder, FIRST)
    finish_run(num_encoder_layers=1)
    assert read_measurements(folder) == []
    other = dataclasses.replace(FIRST, target_language="en")
    keep_measurement(folder, other)
    assert read_measurements(folder) == [other]


@pytest.mark.parametrize("content", ["{", "{}", json.dumps({"weights_sha256": "", "measurements": [{"task": "x"}]})])
def test_a_damaged_file_is_named(finish_run, content):
    folder = finish_run()
    (folder / EVALUATIONS_FILE).write_text(content, "utf-8")
    with pytest.raises(ValueError, match=rf"{EVALUATIONS_FILE} cannot be read: .*; remove it and evaluate again"):
        read_measurements(folder)


def test_a_measurement_carries_its_day():
    assert len(Measurement("perplexity", ["a"], 1, {}).date) == len("2026-01-02")
