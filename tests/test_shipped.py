"""YAML files of a package are listed with their purpose and found by name."""

from kakehashi.training.shipped import find_shipped, list_shipped

PACKAGE = "kakehashi.training.recipes"


def test_each_file_is_listed_with_the_purpose_in_its_first_line():
    listed = list_shipped(PACKAGE)
    assert list(listed) == sorted(listed) and all(name.endswith(".yaml") for name in listed)
    path = find_shipped(PACKAGE, "classify")
    assert path.read_text("utf-8").startswith(f"# {listed['classify.yaml']}\n")


def test_a_file_is_found_by_its_name_alone():
    assert find_shipped(PACKAGE, "classify.yaml") == find_shipped(PACKAGE, "classify")
    assert find_shipped(PACKAGE, "__init__.py") is None and find_shipped(PACKAGE, "nothing") is None
