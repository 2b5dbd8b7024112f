"""Recipes: what they may hold, what the command line changes, and what an error says."""

import pytest
import yaml
from transformers import Seq2SeqTrainingArguments

from kakehashi.training import recipe
from kakehashi.training.arguments import ClassifyArguments, InstructArguments, PretrainArguments
from kakehashi.training.recipe import (
    CHECKPOINTING,
    UNBOUNDED_EPOCHS,
    ends_by_time,
    parse_recipe,
    read_overrides,
    read_recipe,
    resolved_recipe,
    write_recipe,
)
from kakehashi.training.recipes import copy_recipe, find_recipe, list_recipes

STAGES = {"pretrain": PretrainArguments, "instruct": InstructArguments, "classify": ClassifyArguments}
RECIPE = {
    "output_dir": "runs/test",
    "train_files": "a.tsv",
    "source_template": ["Translate: {en}"],
    "target_template": ["{ja}"],
    "learning_rate": "1e-3",
    "max_steps": 10,
    "bf16": False,
    "warmup_steps": 0.1,
    "lr_scheduler_type": "cosine",
    "config_overrides": {"dropout": 0.1},
}


def test_keys_reach_both_sets_of_arguments_in_their_types():
    arguments, training_arguments = parse_recipe(InstructArguments, RECIPE)
    assert arguments.train_files == ["a.tsv"]
    assert arguments.config_overrides == {"dropout": 0.1}
    assert training_arguments.max_steps == 10
    # YAML 1.1 reads `1e-3` as text; the argument's type decides.
    assert training_arguments.learning_rate == 1e-3
    assert training_arguments.warmup_steps == 0.1


def test_the_command_line_overrides_the_recipe():
    tokens = ["--max-steps", "20", "--train_files", "a", "b", "--overwrite", "--config_overrides={hidden_size: 64}"]
    tokens += ["--lr_scheduler_kwargs", "{num_decay_steps: 0.3, decay_type: linear}"]
    arguments, training_arguments = parse_recipe(InstructArguments, RECIPE, read_overrides(tokens))
    assert training_arguments.max_steps == 20
    assert arguments.train_files == ["a", "b"]
    assert arguments.overwrite is True
    assert arguments.config_overrides == {"hidden_size": 64}
    assert training_arguments.lr_scheduler_kwargs == {"num_decay_steps": 0.3, "decay_type": "linear"}


def test_a_model_on_the_command_line_replaces_the_preset_of_the_recipe():
    recipe = {**RECIPE, "preset": "nano"}
    arguments, _ = parse_recipe(InstructArguments, recipe, {"model": "runs/pretrain"})
    assert (arguments.model, arguments.preset, arguments.config_overrides) == ("runs/pretrain", None, {})
    arguments, _ = parse_recipe(InstructArguments, {**RECIPE, "model": "runs/pretrain"}, {"preset": "mini"})
    assert (arguments.model, arguments.preset) == (None, "mini")


@pytest.mark.parametrize(
    ("recipe", "overrides", "epochs", "max_steps"),
    [
        # Time alone where nothing else is said with it, on the command line or in the recipe.
        ({"num_train_epochs": 3}, {"max_minutes": "60"}, UNBOUNDED_EPOCHS, -1),
        ({"max_steps": 10}, {"max_minutes": 60}, UNBOUNDED_EPOCHS, -1),
        ({"max_minutes": 60}, {}, UNBOUNDED_EPOCHS, -1),
        # Whatever comes first.
        ({"num_train_epochs": 1}, {"max_minutes": 60, "num_train_epochs": "3"}, 3.0, -1),
        ({"num_train_epochs": 1}, {"max_minutes": 60, "max_steps": "5"}, 1.0, 5),
        ({"max_minutes": 60, "num_train_epochs": 3}, {}, 3.0, -1),
        ({"max_minutes": 60, "max_steps": 5}, {}, UNBOUNDED_EPOCHS, 5),
        ({"max_minutes": 60}, {"num_train_epochs": 3.0}, 3.0, -1),
        ({"num_train_epochs": 5}, {"learning_rate": 1}, 5.0, -1),
        ({}, {}, 3.0, -1),
    ],
)
def test_time_ends_a_run_alone_unless_epochs_or_steps_stand_beside_it(recipe, overrides, epochs, max_steps):
    arguments, training_arguments = parse_recipe(InstructArguments, {"output_dir": "x", **recipe}, overrides)
    assert (training_arguments.num_train_epochs, training_arguments.max_steps) == (epochs, max_steps)
    assert ends_by_time(arguments, training_arguments) is (epochs == UNBOUNDED_EPOCHS and max_steps < 0)
    resolved = resolved_recipe(arguments, training_arguments)
    assert (resolved.get("num_train_epochs", 3.0) == 3.0) is (epochs in (3.0, UNBOUNDED_EPOCHS))
    again, training_again = parse_recipe(InstructArguments, {**resolved, "output_dir": "x"})
    assert resolved_recipe(again, training_again) == resolved
    assert (training_again.num_train_epochs, training_again.max_steps) == (epochs, max_steps)


def test_a_stream_with_a_time_budget_is_ended_by_time_alone():
    arguments, training_arguments = parse_recipe(
        InstructArguments, {"output_dir": "x", "max_minutes": 1, "streaming": True, "num_train_epochs": 1}
    )
    assert ends_by_time(arguments, training_arguments)


@pytest.mark.parametrize("what", ["logging", "eval", "save"])
def test_a_share_of_unknown_steps_is_refused(what):
    keys = {"output_dir": "x", "max_minutes": 60, f"{what}_steps": 0.1, f"{what}_strategy": "steps"}
    message = f"`{what}_steps` must be a whole number where `max_minutes` alone ends the run, got 0.1"
    with pytest.raises(ValueError, match=message):
        parse_recipe(InstructArguments, keys)
    parse_recipe(InstructArguments, {**keys, "max_steps": 100})
    parse_recipe(InstructArguments, {**keys, f"{what}_strategy": "no"})


def test_precision_is_that_of_accelerate_unless_the_recipe_says_something_else(monkeypatch):
    monkeypatch.setattr("kakehashi.training.recipe.computes_bfloat16", lambda device_type: True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    silent = {key: value for key, value in RECIPE.items() if key != "bf16"} | {"use_cpu": True}
    _, training_arguments = parse_recipe(InstructArguments, silent)
    assert training_arguments.bf16 and training_arguments.mixed_precision == "bf16"
    _, training_arguments = parse_recipe(InstructArguments, {**silent, "bf16": False})
    assert not training_arguments.bf16 and training_arguments.mixed_precision == "no"
    monkeypatch.setattr("kakehashi.training.recipe.computes_bfloat16", lambda device_type: False)
    _, training_arguments = parse_recipe(InstructArguments, silent)
    assert not training_arguments.bf16 and training_arguments.mixed_precision == "no"


@pytest.mark.parametrize(("command", "stage"), STAGES.items())
def test_one_process_trains_on_one_gpu_of_several_and_says_how_all_are_used(command, stage, monkeypatch, capsys):
    def see_four_gpus(arguments):
        arguments.distributed_state, arguments._n_gpu = None, 4

    monkeypatch.setattr(Seq2SeqTrainingArguments, "_setup_devices", property(see_four_gpus))
    _, training_arguments = parse_recipe(stage, {"output_dir": "run", "per_device_train_batch_size": 3})
    assert training_arguments.train_batch_size == 3
    told = f"training on one GPU of 4; `torchrun --nproc-per-node 4 -m kakehashi {command}` takes all"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("has_gpu", [False, True])
def test_memory_is_pinned_where_there_is_a_gpu(has_gpu, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    assert recipe._defaults()["dataloader_pin_memory"] is has_gpu


@pytest.mark.parametrize("computes", [True, False])
def test_bfloat16_is_left_out_with_a_word_on_a_processor_that_imitates_it(computes, monkeypatch, capsys):
    monkeypatch.setattr("kakehashi.training.recipe.computes_bfloat16", lambda device_type: computes)
    keys = {"bf16": True, "bf16_full_eval": True, "use_cpu": True}
    _, training_arguments = parse_recipe(InstructArguments, {**RECIPE, **keys})
    assert training_arguments.bf16 is training_arguments.bf16_full_eval is computes
    assert ("computing in float32" in capsys.readouterr().err) is not computes


@pytest.mark.parametrize("key", ["bf16", "bf16_full_eval"])
def test_bfloat16_is_for_processors_too_where_there_is_nothing_else(key, monkeypatch):
    monkeypatch.setattr("kakehashi.training.recipe.computes_bfloat16", lambda device_type: True)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    _, training_arguments = parse_recipe(InstructArguments, {**RECIPE, key: True})
    assert training_arguments.use_cpu and getattr(training_arguments, key)


def test_only_one_way_of_compiling_is_taken():
    with pytest.raises(ValueError, match="`compile_layers` must be false where `torch_compile` is true, got true"):
        parse_recipe(InstructArguments, {**RECIPE, "compile_layers": True, "torch_compile": True})


def test_an_unknown_key_names_the_nearest_one():
    with pytest.raises(ValueError, match="`learning_rat` is not a recipe key; did you mean `learning_rate`"):
        parse_recipe(InstructArguments, {**RECIPE, "learning_rat": 1})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rate", "fast", "`learning_rate` must be a number, got 'fast'"),
        ("max_steps", 1.5, "`max_steps` must be a whole number, got 1.5"),
        ("max_steps", [1], r"`max_steps` must be a whole number, got \[1\]"),
        ("max_steps", {"a": 1}, "`max_steps` must be a whole number, got {'a': 1}"),
        ("bf16", "maybe", "`bf16` must be true or false, got 'maybe'"),
        ("lr_scheduler_type", "foo", "`lr_scheduler_type` must be one of linear, cosine.*got 'foo'"),
        ("config_overrides", "3", "`config_overrides` must be a mapping .* got '3'"),
        ("config_overrides", "{a: [}", r"`config_overrides` must be a mapping such as .* got '{a: \[}'"),
        ("lr_scheduler_kwargs", "{a: [}", r"`lr_scheduler_kwargs` must be a mapping such as {name: 1}, got '{a: \[}'"),
        ("validation_split", 1.0, "`validation_split` must be at least 0 and below 1, got 1.0"),
        ("max_minutes", 0, "`max_minutes` must be greater than 0, got 0"),
        (
            "target_template",
            ["{ja}", "{en}"],
            "must be equally many, got 1 and 2",
        ),
        ("source_column", "en", "`source_column` and `target_column` must be given together"),
        ("output_dir", "", "`output_dir` must name the folder of the run"),
        ("max_steps", None, "`max_steps` must be a whole number, got None"),
        ("overwrite", [False, True], r"`overwrite` must be true or false, got \[False, True\]"),
        ("model", {"a": 1}, "`model` must be text, got {'a': 1}"),
        ("per_device_train_batch_size", 0, "`per_device_train_batch_size` must be at least 1, got 0"),
        ("per_device_eval_batch_size", -1, "`per_device_eval_batch_size` must be at least 1, got -1"),
        ("gradient_accumulation_steps", 0, "`gradient_accumulation_steps` must be at least 1, got 0"),
    ],
)
def test_a_bad_value_names_its_key_and_what_it_must_be(key, value, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe(InstructArguments, {**RECIPE, key: value})


@pytest.mark.parametrize("epochs", [0, -1, "nan"])
def test_epochs_are_more_than_none_unless_steps_are_given(epochs):
    with pytest.raises(ValueError, match="`num_train_epochs` must be greater than 0 where `max_steps` is not given"):
        parse_recipe(InstructArguments, {"output_dir": "x", "num_train_epochs": epochs})
    parse_recipe(InstructArguments, {"output_dir": "x", "num_train_epochs": epochs, "max_steps": 1})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--output_dir my run", r"`output_dir` must be text, got \['my', 'run'\]; a value with spaces needs quotes"),
        ("--output_dir x true", r"`output_dir` must be text, .* a flag such as --resume takes no value"),
        ("--output_dir", "`output_dir` must be text, got True, which a key without a value means"),
        ("--train_files", "`train_files` must be text, got True, which a key without a value means"),
        ("--max_steps", "`max_steps` must be a whole number, got True, which a key without a value means"),
        ("--overwrite false true", r"`overwrite` must be true or false, got \['false', 'true'\]"),
        ("--eval_strategy no steps", r"`eval_strategy` must be one of no, steps, epoch, got \['no', 'steps'\]"),
    ],
)
def test_too_many_values_and_too_few_are_told(line, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe(InstructArguments, RECIPE, read_overrides(line.split()))


def test_what_trainer_takes_as_text_or_a_list_or_a_mapping_is_passed_on():
    _, training_arguments = parse_recipe(
        InstructArguments,
        {**RECIPE, "report_to": ["none"], "liger_kernel_config": {"rope": True}, "fsdp": False},
        read_overrides(["--optim_target_modules", "q_proj", "v_proj"]),
    )
    assert training_arguments.optim_target_modules == ["q_proj", "v_proj"]
    assert training_arguments.liger_kernel_config == {"rope": True}


def test_an_objective_must_be_known():
    with pytest.raises(ValueError, match=r"`objective` must be one of encoder-decoder, .*, got 'gpt'"):
        parse_recipe(PretrainArguments, {"output_dir": "x", "objective": "gpt"})


def test_a_value_before_the_first_key_is_refused():
    with pytest.raises(ValueError, match="got 'extra' without a key"):
        read_overrides(["extra", "--max_steps", "1"])


def test_the_resolved_recipe_reads_back_to_the_same_arguments(tmp_path):
    arguments, training_arguments = parse_recipe(
        InstructArguments, RECIPE, {"train_sampling_strategy": "random", "overwrite": True}
    )
    resolved = resolved_recipe(arguments, training_arguments)
    assert resolved["train_sampling_strategy"] == "random"
    assert "overwrite" not in resolved
    write_recipe(resolved, "instruct", tmp_path / "recipe.yaml")
    again = parse_recipe(InstructArguments, read_recipe(tmp_path / "recipe.yaml"))
    assert resolved_recipe(*again) == resolved


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_the_key_of_checkpointed_layers_is_kept_by_one_name():
    for key in {"gradient_checkpointing", CHECKPOINTING}:
        resolved = resolved_recipe(*parse_recipe(InstructArguments, {**RECIPE, key: True}))
        assert [name for name in resolved if "checkpointing" in name] == [CHECKPOINTING]


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("debug", "underflow_overflow", ["underflow_overflow"]),
        ("debug", ["underflow_overflow"], ["underflow_overflow"]),
        ("hub_strategy", "end", "end"),
        ("accelerator_config", {"split_batches": True}, {"split_batches": True}),
    ],
)
def test_what_trainer_makes_objects_of_its_own_is_kept_in_words(key, value, kept, tmp_path):
    resolved = resolved_recipe(*parse_recipe(InstructArguments, {**RECIPE, key: value}))
    write_recipe(resolved, "instruct", tmp_path / "recipe.yaml")
    read = read_recipe(tmp_path / "recipe.yaml")
    assert read[key].items() >= kept.items() if isinstance(kept, dict) else read[key] == kept
    assert resolved_recipe(*parse_recipe(InstructArguments, read)) == resolved


def test_the_header_names_the_command_that_repeats_the_run_or_all_of_which_it_is_a_part(tmp_path):
    part = {"name": "fold-2", "train_rows": 20, "of_rows": 30, "keys": {"folds": 3, "seed": 0}}
    for told, title, options in [(None, "of this run with", ""), (part, "of fold-2, one", " --folds 3 --seed 0")]:
        write_recipe({"max_steps": 1}, "classify", tmp_path / "recipe.yaml", told)
        lines = (tmp_path / "recipe.yaml").read_text().splitlines()
        assert lines[0].startswith(f"# The recipe {title}")
        assert lines[-2:] == [f"#   kakehashi classify recipe.yaml{options} --output_dir OTHER", "max_steps: 1"]


def test_a_recipe_that_is_no_mapping_is_refused(tmp_path):
    file = tmp_path / "recipe.yaml"
    for content, message in [
        (b"- a\n- b\n", "must be a mapping"),
        (b"a: [", "must be YAML"),
        (b"\xff\xfe\x00", "must be UTF-8"),
        (b"", "must be a mapping"),
    ]:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_recipe(file)


def test_a_missing_recipe_lists_the_shipped_ones(tmp_path):
    with pytest.raises(ValueError, match=r"`recipe` must be a YAML file or one of .*tatoeba\.yaml.*got 'none\.yaml'"):
        read_recipe("none.yaml")


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_every_shipped_recipe_is_valid_and_has_a_complete_header(name):
    text = find_recipe(name).read_text(encoding="utf-8")
    header = "\n".join(line for line in text.split("\n") if line.startswith("#"))
    for part in ("Hardware and time:", "Command", "Expected result:"):
        assert part in header
    stage = next((stage for stage in STAGES if stage in name), "instruct")
    arguments, _ = parse_recipe(STAGES[stage], read_recipe(name))
    assert set(yaml.safe_load(text)) - {"overwrite"}
    assert arguments is not None


def test_a_shipped_recipe_is_copied_but_never_over_a_file(tmp_path):
    target = copy_recipe("tatoeba", tmp_path)
    assert target == tmp_path / "tatoeba.yaml"
    assert target.read_text(encoding="utf-8") == find_recipe("tatoeba.yaml").read_text(encoding="utf-8")
    with pytest.raises(FileExistsError):
        copy_recipe("tatoeba", tmp_path)
    with pytest.raises(ValueError, match=r"`name` must be one of .* got 'none'"):
        copy_recipe("none", tmp_path)
