"""Stage 3a: the text encoder learns what captions say, before it has to speak to a transformer.

python -m monarchrt_train.text --config FILE --work DIR --minutes 10

A probe asks its rows, by attention, what shape, size, motion, direction and speed the thing of each
colour has, and what background, camera and number of things there are; "not said" is an answer,
too. So rows bind attributes to things, which pictures teach only slowly: a wrong colour changes few
pixels. Other heads must say the same of a thing, and its colour, from the row of each word that
speaks of it, alone and without attention: so the row of "heart" says that it is the blue one. The
probe is thrown away. If there is a flow already, its encoder is the start, and the flow takes the
result with `take_text_encoder`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from monarchrt_train.clips import Pool
from monarchrt_train.config import TextStage
from monarchrt_train.flow import load_tokenizer, text_encoder_of
from monarchrt_train.labels import (
    ABSENT,
    OF_A_THING,
    OF_A_WORD,
    OF_THE_SCENE,
    Mentions,
    number,
    targets,
)
from monarchrt_train.learner import Learner
from monarchrt_train.parallel import rank, share
from monarchrt_train.prompts import Tokenizer
from monarchrt_train.run import Run
from monarchrt_train.umt5 import Umt5Config, Umt5Encoder
from monarchrt_train.world import Caption, caption, in_turn, sample_scene
from monarchrt_train.world import scene as world

HELD_OUT_CAPTIONS = 1024
SEEDS_AT_ONCE = 4000


def owners(tokenizer: Tokenizer, ids: Tensor, told: list[Caption]) -> Tensor:
    """The thing that each piece of ids [n, L] speaks of: int64 [n, L], -1 if none."""
    ends = tokenizer.ends(ids)
    out = torch.full_like(ids, -1)
    for row, end, caption_ in zip(out, ends, told, strict=True):
        for thing, (start, stop) in enumerate(caption_.clauses):
            row[(end > start) & (end <= stop)] = thing
    return out


def word_targets(owner: Tensor, mentions: list[Mentions]) -> dict[str, Tensor]:
    """What each word should say of its thing: of each attribute int8 [n, L]."""
    out, most = {}, len(world.COUNTS)
    for name, values in OF_A_WORD.items():
        said = [[number(values, thing.get(name)) for thing in m["objects"]] for m in mentions]
        table = torch.tensor([(row + [ABSENT] * most)[:most] for row in said])
        out[f"at_{name}"] = table.gather(1, owner.clamp(min=0)).where(owner >= 0, ABSENT).char()
    return out


class Probe(nn.Module):
    def __init__(self, c: Umt5Config):
        super().__init__()
        self.questions = nn.Parameter(torch.randn(1 + len(world.COLORS), c.dim))
        self.attention = nn.MultiheadAttention(c.dim, c.heads, batch_first=True)
        answers = {"there": ("no", "yes"), **OF_A_THING, **OF_THE_SCENE}
        self.heads = nn.ModuleDict({n: nn.Linear(c.dim, len(v) + 1) for n, v in answers.items()})
        self.at_word = nn.ModuleDict(
            {n: nn.Linear(c.dim, len(v) + 1) for n, v in OF_A_WORD.items()}
        )

    def forward(self, rows: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """rows [B, L, dim] of the encoder -> logits in the order of `targets`; those of the words'
        own rows [B, L, values] under "at_NAME"."""
        padding = torch.arange(rows.shape[1], device=rows.device)[None] >= lengths[:, None]
        asked = self.questions.expand(len(rows), -1, -1)
        told, _ = self.attention(asked, rows, rows, key_padding_mask=padding, need_weights=False)
        said = {
            name: head(told[:, 0] if name in OF_THE_SCENE else told[:, 1:])
            for name, head in self.heads.items()
        }
        return said | {f"at_{name}": head(rows) for name, head in self.at_word.items()}


class EncoderWithProbe(nn.Module):
    def __init__(self, c: Umt5Config):
        super().__init__()
        self.text_encoder, self.probe = Umt5Encoder(c), Probe(c)

    def forward(self, ids: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        return self.probe(self.text_encoder(ids, lengths), lengths)


def loss(said: dict[str, Tensor], want: dict[str, Tensor]) -> Tensor:
    parts = [
        functional.cross_entropy(said[name].flatten(0, -2).float(), x.flatten(), reduction="sum")
        / (x != ABSENT).sum().clamp(min=1)
        for name, x in want.items()
    ]
    return torch.stack(parts).sum()


def share_right(said: dict[str, Tensor], want: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of each attribute, the share of right answers."""
    return {
        name: (said[name].argmax(-1) == x)[x != ABSENT].float().mean() for name, x in want.items()
    }


def captions(
    tokenizer: Tokenizer, text_len: int, split: str, seeds: range, counts: Sequence[int] = ()
) -> dict[str, Tensor]:
    """Captions of these scenes and what they say: ids [n, text_len], lengths [n], `targets` and
    `word_targets`.

    counts: numbers of things, in turn; empty: as the world has them.
    """

    told = [caption(sample_scene(seed, split, in_turn(counts, seed)), seed) for seed in seeds]
    ids, lengths = tokenizer.batch([x.text for x in told], text_len)
    ids = functional.pad(ids, (0, text_len - ids.shape[1]))
    mentions = [x.mentions for x in told]
    own = word_targets(owners(tokenizer, ids, told), mentions)
    return {"ids": ids, "lengths": lengths, **targets(mentions), **own}


def _captions(task: tuple[bytes, int, str, range, Sequence[int]]) -> dict[str, np.ndarray]:
    model, *rest = task
    rows = captions(Tokenizer(model), *rest)
    return {name: x.numpy() for name, x in rows.items()}


def many_captions(
    tokenizer: Tokenizer, text_len: int, split: str, seeds: range, counts: Sequence[int] = ()
) -> dict[str, Tensor]:
    """The same, on all cores."""
    parts = [seeds[at : at + SEEDS_AT_ONCE] for at in range(0, len(seeds), SEEDS_AT_ONCE)]
    tasks = [(tokenizer.model, text_len, split, part, counts) for part in parts]
    if len(tasks) == 1:
        return captions(tokenizer, text_len, split, seeds, counts)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        made = list(pool.map(_captions, tasks))
    return {name: torch.from_numpy(np.concatenate([x[name] for x in made])) for name in made[0]}


def ask(model: EncoderWithProbe, rows: dict[str, Tensor]) -> tuple[dict[str, Tensor], ...]:
    """What the probe says, and what it should."""
    asked = ("ids", "lengths")
    want = {name: x.long() for name, x in rows.items() if name not in asked}
    return model(*(rows[name] for name in asked)), want


def main(argv: list[str] | None = None) -> None:
    run = Run("text", __doc__.splitlines()[0], argv)
    stage: TextStage = run.config.text
    tokenizer = load_tokenizer(run)
    model = EncoderWithProbe(run.config.model.text)
    earlier = text_encoder_of(run, "flow")
    if earlier:
        model.text_encoder.load_state_dict(earlier)
    if stage.look_around:
        model.text_encoder.look_around()
    model.to(run.device)
    learner = Learner(model, stage.optimizer, stage.ema_decay, run.spent)
    saved = run.checkpoint()
    done = saved.step if saved else 0
    if saved:
        learner.restore(saved)
    if run.compile:
        model.compile(dynamic=False)
    text_len = run.config.model.transformer.text_len
    first = share(stage.captions) * rank()
    seeds = range(first, first + share(stage.captions))
    own = many_captions(tokenizer, text_len, "train", seeds, stage.counts)
    pool = Pool(share(stage.captions))
    pool.put({name: x.to(run.device) for name, x in own.items()})
    for step in run.steps(done, stage.steps):
        said, want = ask(model, pool.draw(share(stage.batch), run.generator(step)))
        value = loss(said, want)
        norm = learner.update(value, step)
        run.log(step, {"loss": value.detach(), "gradient": norm})
        done = step + 1
        if run.time_to_save():
            run.save(done, learner.parts())
    run.save(done, learner.parts())
    with torch.no_grad():
        rows = captions(tokenizer, text_len, "held_out", range(HELD_OUT_CAPTIONS))
        right = share_right(*ask(learner.ema, {name: x.to(run.device) for name, x in rows.items()}))
    run.report(done, {f"right_{name}": x for name, x in right.items()})


if __name__ == "__main__":
    main()
