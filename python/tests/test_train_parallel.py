"""Two processes train one model: the same weights in both, other clips in each."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import distributed, nn

from monarchrt_train import autoencoder, checkpoint, flow, parallel, tokenizer
from monarchrt_train.clips import Squares
from monarchrt_train.config import Optimizer
from monarchrt_train.learner import Learner

RANKS = 2
SMOKE = Path(flow.__file__).parent / "configs" / "smoke.json"
SQUARES, HELD_OUT = Squares(), Squares(1 << 40)


def arguments(work: Path, *more: str) -> list[str]:
    config = f"--config={work / 'config.json'}"
    return [config, f"--work={work}", "--device=cpu", "--log-every=1", *more]


def _join(rank: int, folder: str) -> None:
    """What torchrun does, but for the port."""
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    store = distributed.FileStore(f"{folder}/store", RANKS)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)


def _leave() -> None:
    """Together: a process that ends while another still talks to it can abort both."""
    distributed.barrier()
    distributed.destroy_process_group()


def _update(rank: int, folder: str) -> None:
    _join(rank, folder)
    torch.manual_seed(1)
    learner = Learner(nn.Linear(3, 2), Optimizer(warmup_steps=1))
    x = torch.arange(6.0).view(2, 3)[rank : rank + 1]  # its half of the batch
    learner.update(learner.module(x).square().mean(), 0)
    torch.save(learner.module.state_dict(), f"{folder}/{rank}.pt")
    assert parallel.largest(0.5 + rank) == 1.5
    assert parallel.share(6) == 3
    captions = parallel.Share(SQUARES).captions([0, 1, 2])
    assert captions == SQUARES.captions([rank, 2 + rank, 4 + rank])
    for tell in ("partly", "mentions", "shown"):
        assert getattr(parallel.Share(SQUARES), tell)([1]) == getattr(SQUARES, tell)([2 + rank])
    _leave()


def _train(rank: int, folder: str) -> None:
    _join(rank, folder)
    work = Path(folder)
    autoencoder.main(arguments(work, "--minutes=0"), SQUARES, HELD_OUT)
    distributed.barrier()  # the first process has written the file
    flow.main(arguments(work), SQUARES, HELD_OUT)
    _leave()


def _spawn(function, folder: Path) -> None:
    torch.multiprocessing.spawn(function, (str(folder),), nprocs=RANKS)


def test_an_update_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    _spawn(_update, tmp_path)
    torch.manual_seed(1)
    learner = Learner(nn.Linear(3, 2), Optimizer(warmup_steps=1))
    learner.update(learner.module(torch.arange(6.0).view(2, 3)).square().mean(), 0)
    for rank in range(RANKS):
        weights = torch.load(tmp_path / f"{rank}.pt")
        for name, x in learner.module.state_dict().items():
            torch.testing.assert_close(weights[name], x, msg=f"{rank} {name}")


def test_stages_run_in_two_processes(tmp_path: Path) -> None:
    config = json.loads(SMOKE.read_text())
    config["autoencoder"]["fresh"] = 2  # an even number of new clips
    for phase, until in zip(config["flow"]["phases"], (12, 24), strict=True):
        phase |= {"until_step": until, "fresh": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer.main(arguments(tmp_path), SQUARES)
    _spawn(_train, tmp_path)
    assert checkpoint.load(tmp_path / "flow" / "checkpoint").step == 24
    lines = map(json.loads, (tmp_path / "flow" / "log.jsonl").read_text().splitlines())
    lines = [x for x in lines if "loss" in x]
    assert [x["step"] for x in lines] == list(range(24))  # of one process only
    losses = [x["loss"] for x in lines]
    assert sum(losses[-4:]) < sum(losses[:4])
