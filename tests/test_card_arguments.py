"""The recipe keys that fill a card."""

import pytest

from kakehashi.training.arguments import InstructArguments
from kakehashi.training.card_arguments import CardArguments, check_license, describe_data_sets
from kakehashi.training.recipe import parse_recipe


def test_every_stage_takes_the_keys_of_the_card():
    recipe = {"output_dir": "x", "license": "cc-by-4.0", "language": ["en", "zh-Hant"], "data_revision": 2024}
    arguments, _ = parse_recipe(InstructArguments, recipe)
    assert (arguments.license, arguments.language, arguments.data_revision) == (
        "cc-by-4.0",
        ["en", "zh-Hant"],
        ["2024"],
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"license": "Apache 2.0"},
            r"`license` must be spelled as the Hub spells it, such as apache-2.0, got 'Apache 2",
        ),
        ({"language": ["English"]}, r"`language` must hold codes such as en, ja or zh-Hant, got 'English'"),
        (
            {"datasets": ["a", "b"], "data_license": ["1", "2", "3"]},
            r"`data_license` must hold one value, or one for each of the 2 `datasets`, got 3",
        ),
    ],
)
def test_what_the_hub_would_refuse_is_refused_before_training(keys, message):
    with pytest.raises(ValueError, match=message):
        CardArguments(**keys)


@pytest.mark.parametrize("key", ["data_license", "data_revision"])
def test_without_names_there_is_one_value_or_one_for_each_of_the_training_files(key):
    files = {"train_files": ["a.tsv", "b.tsv"]}
    for values in (["x"], ["x", "y"]):
        InstructArguments(**files, **{key: values})
    with pytest.raises(
        ValueError, match=f"`{key}` must hold one value, or one for each of the 2 `train_files`, got 3"
    ):
        InstructArguments(**files, **{key: ["x", "y", "z"]})
    InstructArguments(**files, datasets=["a", "b", "c"], **{key: ["x", "y", "z"]})


def test_a_licence_as_the_hub_spells_it_is_taken():
    check_license("apache-2.0")


def test_one_revision_counts_for_all_data_sets_and_several_for_each():
    recipe = {"datasets": ["user/a", "b"], "data_revision": ["r"], "data_license": ["x", "y"]}
    assert describe_data_sets(recipe, ["file.tsv"]) == [
        {"name": "user/a", "revision": "r", "license": "x"},
        {"name": "b", "revision": "r", "license": "y"},
    ]


def test_without_names_the_training_files_stand_in():
    assert describe_data_sets({}, ["file.tsv"]) == [{"name": "file.tsv", "revision": None, "license": None}]
