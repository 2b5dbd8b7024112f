"""Two processes on one machine: wrapped in DDP or sharded by FSDP2, a model learns what it learns in one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from kakehashi.modeling import KakehashiConfig, KakehashiForConditionalGeneration

STEPS = 3


def build_model():
    """The same small model in every process."""
    torch.manual_seed(0)
    config = KakehashiConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    return KakehashiForConditionalGeneration(config).train()


def batches():
    """Rows for each step; half of them for either process."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(4, 64, (STEPS, 4, 6), generator=generator)


def train(model, rows):
    """Takes a step on each batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for ids in rows:
        model(input_ids=ids, labels=ids.flip(1)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def wrap(model, wrapping):
    """The model as either way of sharing work wants it."""
    if wrapping == "DDP":
        return DistributedDataParallel(model)
    mesh = dist.init_device_mesh("cpu", (2,))
    for module in list(model.modules()):
        if type(module).__name__ in model._no_split_modules:
            fully_shard(module, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def learn(rank, port, folder):
    """What one of the two processes does; the first writes down the weights in the end."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for wrapping in ("DDP", "FSDP2"):
        model = build_model()
        train(wrap(model, wrapping), batches()[:, 2 * rank : 2 * rank + 2])
        weights = model.state_dict()
        whole = {name: each.full_tensor() if wrapping == "FSDP2" else each for name, each in weights.items()}
        if rank == 0:
            torch.save(whole, folder / f"{wrapping}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder_of_two_processes(tmp_path_factory):
    """Where the two processes left the weights that they learned."""
    folder = tmp_path_factory.mktemp("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, __file__]
    processes = [subprocess.Popen([*command, rank, port, folder], stderr=subprocess.PIPE) for rank in ("0", "1")]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    return folder


@pytest.mark.parametrize("wrapping", ["DDP", "FSDP2"])
def test_two_processes_learn_what_one_learns(folder_of_two_processes, wrapping):
    found = torch.load(folder_of_two_processes / f"{wrapping}.pt", weights_only=True)
    model = build_model()
    start = model.lm_head.weight.detach().clone()
    train(model, batches())
    expected = model.state_dict()
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(start, expected["lm_head.weight"])
    assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])


if __name__ == "__main__":
    learn(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
