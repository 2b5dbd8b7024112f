"""The GitHub workflows: that they say what pyproject.toml and the Makefile say, and keep no secret."""

import re
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".github" / "workflows"
if not FOLDER.is_dir():
    pytest.skip("the source archive holds no workflows", allow_module_level=True)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
# The trusted publisher is named by a branch that its authors keep for it; everything else by its major version.
VERSION = re.compile(r"[\w.-]+/[\w./-]+@(v\d+|release/v1)")


def read(name):
    # YAML 1.1 reads the key `on` as true.
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def commands(workflow):
    return "\n".join(step["run"] for step in steps(workflow) if "run" in step)


@pytest.fixture(params=["tests.yml", "release.yml"])
def workflow(request):
    return read(request.param)


def test_there_are_no_others():
    assert sorted(path.name for path in FOLDER.iterdir()) == ["release.yml", "tests.yml"]


def test_the_tests_run_on_every_python_that_we_name_and_on_three_systems():
    matrix = read("tests.yml")["jobs"]["test"]["strategy"]["matrix"]
    named = [each.rpartition(" ")[2] for each in PYPROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", each)]
    assert matrix["python"] == named
    assert PYPROJECT["project"]["requires-python"] == f">={named[0]}"
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]


def test_the_tests_install_and_run_as_the_makefile_does():
    workflow = read("tests.yml")
    for part in re.findall(r'-c constraints\.txt -e "\S+"', MAKEFILE):
        assert part in commands(workflow)
    environment = next(step for step in steps(workflow) if step.get("run") == "python -m pytest")["env"]
    offline = re.search(r"^OFFLINE := (.*)$", MAKEFILE, re.M).group(1).split()
    assert {f"{name}={value}" for name, value in environment.items()} >= {*offline}


def test_what_runs_on_windows_needs_no_make_and_no_shell():
    for step in read("tests.yml")["jobs"]["test"]["steps"]:
        assert re.fullmatch(r"python -m [^\n$&|;]+", step.get("run", "python -m x")), step


def test_the_commands_of_make_are_its_targets_and_those_of_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    for line in re.findall(r"^make (.*)$", commands(read("tests.yml")), re.M):
        for target in line.split():
            assert re.search(rf"^{target}:", MAKEFILE, re.M)
            assert re.search(rf"^\$ make .*\b{target}\b", readme, re.M)


def test_every_action_is_named_with_its_version(workflow):
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used and all(VERSION.fullmatch(name) for name in used), used


def test_a_job_may_do_no_more_than_it_needs(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    rights = {name: job.get("permissions") for name, job in workflow["jobs"].items()}
    assert all(rights[name] == ({"id-token": "write"} if name == "publish" else None) for name in rights)
    text = str(workflow)
    assert "secrets." not in text and "password" not in text


def test_nothing_that_others_choose_is_put_into_a_command(workflow):
    assert "${{" not in commands(workflow)


def test_every_job_ends_by_itself(workflow):
    assert all("timeout-minutes" in job or "uses" in job for job in workflow["jobs"].values())


def test_only_what_was_tested_built_and_checked_is_published():
    release = read("release.yml")
    publish = release["jobs"]["publish"]
    assert publish["needs"] == ["test", "build"] and publish["environment"] == "release"
    assert release["jobs"]["test"]["uses"] == "./.github/workflows/tests.yml"
    # YAML 1.1 reads the key `on` as true.
    assert release[True]["push"] == {"tags": ["v*"]} and "workflow_call" in read("tests.yml")[True]
    said = commands(release)
    assert said.index("python -m build") < said.index("twine check --strict") < said.index("kakehashi --version")
    assert not any("run" in step for step in publish["steps"])


def test_the_page_on_releasing_names_what_there_is():
    page = (ROOT / "docs" / "releasing.md").read_text("utf-8")
    for name in ("release.yml", "MANIFEST.in", "CHANGELOG.md", ".[release]"):
        assert name in page
    assert (ROOT / ".github/workflows/release.yml").exists() and "release" in PYPROJECT["project"][
        "optional-dependencies"
    ]
