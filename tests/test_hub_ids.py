import pytest

from kakehashi.tokenization.hub_ids import may_be_hub_id, naming_hub_id


@pytest.mark.parametrize("name", ["t5-small", "google/t5-v1_1-small", "owner/name.v2"])
def test_a_name_with_or_without_its_owner_may_be_on_the_hub(name):
    assert may_be_hub_id(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "./model", "../model", "/models/t5", "a/b/c", "モデル", "owner/モデル", "my model", "~/model", "model/"],
)
def test_what_only_a_path_can_be_is_no_hub_id(name):
    assert not may_be_hub_id(name)


@pytest.mark.parametrize("name", ["runs/tokenizer", "runs"])
def test_a_run_that_is_not_there_is_not_looked_for_on_the_hub(name):
    assert not may_be_hub_id(name)


def test_an_error_of_the_hub_names_what_was_asked_for():
    message = "there is no folder owner/name, and the Hub gave nothing of that name: offline"
    with pytest.raises(OSError, match=message), naming_hub_id("owner/name"):
        raise OSError("offline")


def test_an_error_in_a_folder_that_is_there_is_not_blamed_on_the_hub(tmp_path):
    with pytest.raises(OSError, match=r"^no valid JSON$"), naming_hub_id(tmp_path):
        raise OSError("no valid JSON")
