"""The shipped configurations: accelerate reads them, and makes of them the launch that their comments name."""

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from kakehashi.cli import main
from kakehashi.training.accelerate_configs import find_config, list_configs

# Processes, machines, whether they share one model.
EXPECTED = {"one_gpu": (1, 1, False), "eight_gpus_fsdp2": (8, 1, True), "two_nodes": (16, 2, True)}


def test_every_configuration_is_listed_with_its_purpose(capsys):
    assert set(list_configs()) == {f"{name}.yaml" for name in EXPECTED}
    assert all(purpose.endswith(".") and len(purpose) > 20 for purpose in list_configs().values())
    assert main(["recipes", "accelerate"]) == 0
    assert "eight_gpus_fsdp2.yaml  Eight GPUs" in capsys.readouterr().out
    assert main(["recipes", "accelerate", "two_nodes"]) == 0
    assert capsys.readouterr().out.strip() == str(find_config("two_nodes"))
    assert main(["recipes", "accelerate", "three_nodes"]) == 2
    assert "`name` must be one of eight_gpus_fsdp2.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_reads_a_configuration_and_launches_what_it_says(name):
    processes, machines, is_shared = EXPECTED[name]
    path = str(find_config(name))
    # Unknown keys are an error there.
    config = load_config_from_file(path)
    assert config.to_dict().items() >= {"num_processes": processes, "num_machines": machines}.items()
    command = ["--config_file", path, "-m", "kakehashi", "instruct", "recipe.yaml", "--bf16", "true"]
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(command))
    assert (arguments.num_processes, arguments.num_machines, arguments.use_fsdp) == (processes, machines, is_shared)
    assert arguments.module and arguments.training_script == "kakehashi"
    assert arguments.training_script_args == ["instruct", "recipe.yaml", "--bf16", "true"]
    if is_shared:
        assert arguments.fsdp_version == 2
        assert arguments.fsdp_state_dict_type == "SHARDED_STATE_DICT"
