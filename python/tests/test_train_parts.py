"""Parts of the training that need no training."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from monarchrt_train import (
    autoencoder,
    budget,
    checkpoint,
    config,
    metrics,
    package,
    prompts,
    shards,
    text,
)
from monarchrt_train import clips as clips_module
from monarchrt_train.attention import Attention, dense, monarch
from monarchrt_train.clips import LatentSource, Pool, Squares, video_frames
from monarchrt_train.config import AutoencoderStage, Optimizer, View
from monarchrt_train.distill import Generated, Scorer
from monarchrt_train.flow import flow_loss, velocities
from monarchrt_train.labels import ABSENT
from monarchrt_train.learner import Learner
from monarchrt_train.rollout import KvCache
from monarchrt_train.schedule import add_noise, sampler_sigmas, to_clean
from monarchrt_train.sources import training_source
from monarchrt_train.taehv import Taehv, TaehvConfig, fold_statistics
from monarchrt_train.umt5 import Umt5Encoder, relative_buckets
from monarchrt_train.views import view
from monarchrt_train.wan import Bidirectional, TeacherForced, WanConfig, WanTransformer
from monarchrt_train.world import caption, sample_scene
from monarchrt_train.world.captions import COLOR_WORDS
from monarchrt_train.world.scene import COLORS

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = Path(package.__file__).parent / "configs"
DEMO, SMOKE = config.load(CONFIGS / "demo.json"), config.load(CONFIGS / "smoke.json")


def small_wan(seed: int = 0, **sizes: int) -> WanTransformer:
    torch.manual_seed(seed)
    model = WanTransformer(WanConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=2, **sizes))
    torch.nn.init.normal_(model.head.head.weight)
    return model


def test_monarch_is_dense_with_one_row_or_column() -> None:
    torch.manual_seed(1)
    for rows, cols in ((1, 7), (6, 1)):
        q = torch.randn(1, 2, rows, cols, 2, 8, dtype=torch.float64)
        k, v = torch.randn(2, 1, 3, rows, cols, 2, 8, dtype=torch.float64)
        torch.testing.assert_close(monarch(q, k, v), dense(q, k, v))
    q, k = torch.randn(2, 1, 3, 4, 5, 2, 8)
    torch.testing.assert_close(monarch(q, k, torch.full_like(k, 0.3)), torch.full_like(q, 0.3))


def test_monarch_in_bfloat16_is_close() -> None:
    torch.manual_seed(2)
    q = torch.randn(2, 3, 30, 52, 1, 64)
    k, v = torch.randn(2, 2, 6, 30, 52, 1, 64)
    want = monarch(q, k, v)
    got = monarch(q.bfloat16(), k.bfloat16(), v.bfloat16()).float()
    assert (got - want).norm() < 0.01 * want.norm()


def numbered_clips(count: int, frames: int, rows: int, cols: int) -> dict[str, torch.Tensor]:
    """Every latent tells its clip, frame, row and column. Without things."""
    sizes = (count, frames, rows, cols)
    where = torch.meshgrid(*(torch.arange(n) for n in sizes), indexing="ij")
    labels = torch.zeros(count, frames, 3, rows, cols, dtype=torch.uint8)
    return {
        "latents": torch.stack(where, 2),
        "labels": labels,
        "ids": torch.full((count, 1), 9),
        "lengths": torch.full((count,), 9),
        "things": torch.zeros(count, 3, dtype=torch.uint8),
        "part_ids": torch.arange(8).view(1, 8, 1).expand(count, 8, 1),  # of what they tell
        "part_lengths": torch.arange(8).expand(count, 8),
    }


def test_a_view_is_a_box_of_frames_around_a_thing() -> None:
    clips = numbered_clips(64, 3, 10, 12)
    clips["labels"][:, :, :, 4:9, 1:6] = 1  # large: yet both are as likely
    clips["labels"][:, :, :, 2, 10] = 2
    generator = torch.Generator().manual_seed(1)
    got = view(clips, View(batch=64, frames=1, box=(4, 5)), generator)
    assert got["latents"].shape == (64, 1, 4, 4, 5)
    clip, frame, row, col = got["latents"].unbind(2)
    assert torch.equal(clip[:, 0, 0, 0], torch.arange(64))
    for x, axis in ((row, 2), (col, 3)):
        assert (x.diff(dim=axis) == 1).all()
    assert set(frame.unique().tolist()) == {0, 1, 2}
    assert torch.equal(got["labels"], clips["labels"][clip, frame, :, row, col].movedim(-1, 2))
    shown = [(got["labels"] == thing).flatten(1).any(1) for thing in (1, 2)]
    assert (shown[0] | shown[1]).all()
    assert 16 < int(shown[1].sum()) < 48


def test_a_view_has_the_prompt_of_the_things_it_shows() -> None:
    clips = numbered_clips(48, 3, 8, 24)
    clips["things"][:] = torch.tensor([5, 3, 0])
    clips["labels"][:, :, :, 2:6, 2:6] = 5
    clips["labels"][:, 1:, :, 2:6, 9:13] = 3  # not there in the first frame
    generator = torch.Generator().manual_seed(1)
    for wanted in (View(batch=48, frames=1), View(batch=48, box=(8, 9))):
        got = view(clips, wanted, generator)
        places = set()
        for labels, ids, length in zip(
            got["labels"][:, :, 1], got["ids"], got["lengths"], strict=True
        ):
            shares = [
                (labels == number).sum() / (16 * frames)
                for number, frames in ((5, labels.shape[0]), (3, min(2, labels.shape[0])))
            ]
            cut = any(0.05 < share < 0.5 for share in shares)
            want = 0 if cut else sum((share >= 0.5) << n for n, share in enumerate(shares))
            assert int(ids[0]) == int(length) == want
            places.add(int(want))
        assert places == ({1, 3} if wanted.frames else {0, 1, 2, 3})


def test_parts_of_a_caption_tell_of_these_things() -> None:
    seeds = [n for n in range(60) if len(sample_scene(n).things) == 3][:3]
    source = training_source()
    for told, whole, seed in zip(source.partly(seeds), source.captions(seeds), seeds, strict=True):
        assert len(told.captions) == 7
        assert told.captions[-1] == whole
        things = sample_scene(seed).things
        assert told.things == tuple(1 + COLORS.index(x.color) for x in things)
        for chosen, some in enumerate(told.captions, 1):
            said = {x for x in COLORS if any(word in some for word in COLOR_WORDS[x])}
            there = {x.color for n, x in enumerate(things) if chosen >> n & 1}
            assert said - {"green"} <= there  # green hills are no thing


def test_rows_have_the_captions_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = prompts.Tokenizer((REPOSITORY / "models" / "demo" / "spiece.model").read_bytes())
    torch.manual_seed(1)
    widths = TaehvConfig(decoder_widths=(8,) * 4, encoder_widths=(8,) * 4)
    latents = LatentSource(training_source(), Taehv(widths), tokenizer, 80, (16, 24))
    rows = latents.rows(range(12), 1, labels=True)
    monkeypatch.setitem(
        clips_module.ENCODED_AT_ONCE, "cpu", 5 * 16 * 24
    )  # clips are encoded in parts
    assert torch.equal(latents.rows(range(12), 1)["latents"], rows["latents"])
    assert rows["part_ids"].shape == (12, 8, 80)
    assert rows["part_ids"][:, 0, 0].eq(prompts.END).all()
    assert rows["part_lengths"][:, 0].eq(1).all()
    counts = (rows["things"] > 0).sum(1)
    assert len(counts.unique()) > 1
    for n, count in enumerate(counts.tolist()):
        last = 2**count - 1
        assert torch.equal(rows["part_ids"][n, last], rows["ids"][n])
        assert rows["part_lengths"][n, last] == rows["lengths"][n]
    shown = rows["labels"][:, :, 1].flatten(1)
    assert all(set(shown[n].tolist()) <= {0, *rows["things"][n].tolist()} for n in range(12))


def test_a_view_of_a_clip_without_things_is_anywhere() -> None:
    clips = numbered_clips(64, 9, 6, 8)
    generator = torch.Generator().manual_seed(1)
    got = view(clips, View(batch=64, frames=3, box=(6, 4)), generator)["latents"]
    assert got.shape == (64, 3, 4, 6, 4)
    assert (got[:, :, 1].diff(dim=1) == 1).all()
    assert not got[:, 0, 1].any()  # frames that follow a past would teach a false beginning
    assert set(got[:, 0, 3, 0, 0].tolist()) == set(range(5))
    whole = view(clips, View(batch=64), generator)
    assert torch.equal(whole["latents"], clips["latents"])
    assert whole["ids"].unique().tolist() == [9]
    for wrong in ({"box": (3,)}, {"frames": 2}):
        with pytest.raises(ValueError, match="need"):
            View(batch=1, **wrong)
    for large in ({"box": (7, 4)}, {"box": (6, 9)}, {"frames": 12}):
        with pytest.raises(ValueError, match="need at most"):
            view(clips, View(batch=64, **large), generator)


def test_a_noisy_chunk_sees_the_clean_past_and_itself() -> None:
    """And nothing else, nothing outside the window either."""
    model, channels = small_wan(), 16
    text = model.encode_text(torch.randn(1, 4, 256))
    history = torch.randn(1, 9, channels, 2, 3, requires_grad=True)
    noisy = torch.randn(1, 9, channels, 2, 3, requires_grad=True)
    sigma = torch.full((1, 9), 0.5)
    out = velocities(
        model, history, noisy, sigma, text, window=6, attention=Attention(), grid_scale=1
    )
    seen = torch.autograd.grad(out[:, 6:].sum(), (history, noisy))
    past, own = (x.abs().sum((0, 2, 3, 4)) > 0 for x in seen)
    # The chunk before is seen directly; through it, two layers deep, the one before that.
    assert past.tolist() == [True] * 6 + [False] * 3
    assert own.tolist() == [False] * 6 + [True] * 3


def test_a_window_forgets() -> None:
    q, k, v = torch.randn(3, 1, 15, 2, 3, 2, 12)
    out = TeacherForced(Attention(), 9, 3, 6)(0, q, k, v)
    k2, v2 = k.clone(), v.clone()
    k2[:, :3], v2[:, :3] = 0, 0
    changed = TeacherForced(Attention(), 9, 3, 6)(0, q, k2, v2)
    same = (out == changed).flatten(2).all(2)[0]
    assert same.tolist() == [False] * 6 + [True] * 3 + [False] * 3 + [True] * 3


def test_cache_keeps_the_sink() -> None:
    cache = KvCache(lambda q, k, v: k, layers=1, window=6, sink=1)
    for chunk in range(4):
        frames = torch.arange(3.0).view(1, 3, 1, 1, 1, 1) + 3 * chunk
        seen = cache(0, frames, frames, frames)
        cache.keep_chunk(3)
    assert seen.flatten().tolist() == [0, 7, 8, 9, 10, 11]


def test_a_small_picture_has_the_geometry_of_a_large_one() -> None:
    """Rows and columns that are `grid_scale` apart turn as far as every second one."""
    model = small_wan()
    with torch.no_grad():
        text = model.encode_text(torch.zeros(1, 1, 256))
        args = (torch.zeros(1, 1), text, torch.arange(1), Bidirectional(Attention()))
        x = torch.randn(1, 1, 16, 3, 4)
        small = model(x, *args, grid_scale=2)
        assert (small - model(x, *args)).abs().max() > 1e-3

        class Sparse:
            def __call__(self, layer: int, q, k, v):
                return Attention()(q, k[:, :, ::2, ::2], v[:, :, ::2, ::2])

        large = x.repeat_interleave(2, 3).repeat_interleave(2, 4)
        got = model(large, *args[:-1], Sparse())[..., ::2, ::2]
    torch.testing.assert_close(got, small, rtol=1e-4, atol=1e-5)


def test_schedule() -> None:
    sigmas = sampler_sigmas((1000, 750, 500, 250), 5.0)
    assert sigmas.tolist() == pytest.approx([1, 0.9375, 5 / 6, 0.625])
    clean, noise = torch.randn(2, 2, 3, 1, 4, 4)
    sigma = torch.rand(2, 3)
    noisy = add_noise(clean, noise, sigma)
    torch.testing.assert_close(to_clean(noisy, noise - clean, sigma), clean)
    with pytest.raises(ValueError, match="decreasing"):
        sampler_sigmas((500, 500), 5.0)


def test_flow_loss_of_the_truth_is_zero() -> None:
    """A model that knows the answer has no loss, so times, noise and target fit together."""

    class Knows(torch.nn.Module):
        def forward(self, both, times, text, positions, *_, **__):
            assert positions.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5]
            assert not times[:, :3].any()
            sigma = (times[:, 3:] / 1000).view(2, 6, 1, 1, 1)
            velocity = (both[:, 3:] - latents) / sigma
            return torch.cat([torch.zeros_like(velocity[:, :3]), velocity], 1)

    latents = torch.randn(2, 6, 16, 2, 3)
    generator = torch.Generator().manual_seed(1)
    loss = flow_loss(
        Knows(), latents, None, generator, config=SMOKE, attention=Attention(), grid_scale=1
    )
    assert loss.max() < 1e-6


def test_the_generator_moves_from_the_critic_to_the_guided_teacher() -> None:
    class Says(torch.nn.Module):
        """Takes any chunk for the clean value `prompt`, or `empty` without a prompt."""

        def __init__(self, prompt: float, empty: float):
            super().__init__()
            self.prompt, self.empty = prompt, empty

        def encode_text(self, rows):
            return rows

        def forward(self, both, times, text, *_, **__):
            clean = self.prompt if text.any() else self.empty
            sigma = (times[:, 3:] / 1000).view(2, 6, 1, 1, 1)
            velocity = (both[:, 3:] - clean) / sigma
            return torch.cat([velocity[:, :3], velocity], 1)

    rows = torch.ones(2, 3, 8)
    scorer = Scorer(SMOKE, SMOKE.distill, Attention(), torch.zeros(1, 3, 8))
    answer = torch.full((2, 6, 16, 2, 3), 0.5)
    made = Generated(prompts=rows, history=answer, inputs=[], answers=[], asked={})
    generator = torch.Generator().manual_seed(1)
    got = scorer.direction(Says(2.0, 1.0), Says(0.5, 9.0), made, answer, generator)
    real = 1.0 + SMOKE.distill.guidance * (2.0 - 1.0)
    want = torch.full_like(answer, (0.5 - real) / abs(0.5 - real))  # downhill leads to the teacher
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
    noisy = torch.randn(answer.shape, generator=generator)
    end = scorer.end_of_flow(Says(2.0, 1.0), made, noisy, 0.5)
    torch.testing.assert_close(end, torch.full_like(answer, real), rtol=1e-4, atol=1e-4)
    level = scorer.critic_loss(Says(0.5, 9.0), made, answer, generator)
    assert level < 1e-6  # a critic that knows the answers


def test_folded_statistics() -> None:
    torch.manual_seed(3)
    model = Taehv(TaehvConfig(decoder_widths=(8,) * 4, encoder_widths=(8,) * 4))
    video = torch.rand(2, 9, 3, 16, 24)
    with torch.no_grad():
        before = model.encode(video)
        mean, std = torch.randn(16), torch.rand(16) + 0.5
        fold_statistics(model.encoder, mean, std)
        shape = (1, 1, 16, 1, 1)
        want = (before - mean.view(shape)) / std.view(shape)
        torch.testing.assert_close(model.encode(video), want, rtol=1e-4, atol=1e-4)
        assert before.shape == (2, 3, 16, 2, 3)
        assert model.decode(before).shape == (2, video_frames(3), 3, 16, 24)


def test_tokenizer(tmp_path: Path) -> None:
    captions = Squares().captions(range(64))
    tokenizer = prompts.Tokenizer(prompts.train(captions, 320))
    assert len(tokenizer) <= 320
    assert tokenizer.ids("a &amp;amp;  b", 16) == tokenizer.ids("a & b", 16)
    ids, lengths = tokenizer.batch([captions[0], "", "é" * 50], 8)
    assert ids.shape == (3, 8)
    assert lengths.tolist()[1:] == [1, 8]
    assert [row[n - 1] for row, n in zip(ids.tolist(), lengths, strict=True)] == [prompts.END] * 3
    assert not (ids[0] == prompts.UNKNOWN).any()


def test_each_word_says_whose_it_is() -> None:
    tokenizer = prompts.Tokenizer((REPOSITORY / "models" / "demo" / "spiece.model").read_bytes())
    told = [caption(sample_scene(n, count=2 + n % 2), n) for n in range(60)]
    ids, lengths = tokenizer.batch([x.text for x in told], 96)
    for x, end, length in zip(told, tokenizer.ends(ids), lengths, strict=True):
        assert end[length - 2] == len(x.text)
    owner = text.owners(tokenizer, ids, told)
    want = text.word_targets(owner, [x.mentions for x in told])
    star, camera = (tokenizer.ids(word, 9)[0] for word in ("star", "camera"))
    seen = 0
    for n, x in enumerate(told):
        for at, piece in enumerate(ids[n].tolist()):
            things = x.mentions["objects"]
            stars = [k for k, thing in enumerate(things) if thing.get("shape") == "star"]
            if piece == star and owner[n, at] >= 0 and len(stars) == 1:
                color = things[stars[0]].get("color")
                number = COLORS.index(color) if color else len(COLORS)
                assert int(owner[n, at]) == stars[0]
                assert int(want["at_color"][n, at]) == number
                seen += 1
            if piece in (camera, prompts.END, prompts.PAD):
                assert int(want["at_shape"][n, at]) == ABSENT
        for thing, (start, stop) in enumerate(x.clauses):
            words = x.text[start:stop].lower()
            assert tokenizer.ids(words, 99)[1:-1] == ids[n][owner[n] == thing].tolist()[1:]
    assert seen > 5


def test_heads_look_around_at_first() -> None:
    encoder = Umt5Encoder(SMOKE.model.text)
    buckets = relative_buckets(7, SMOKE.model.text.buckets, torch.device("cpu"))
    before, after = encoder.blocks[0].pos_embedding(buckets)[0].softmax(-1)
    assert before[3].argmax() == 2
    assert before[3, :3].sum() > 0.6
    assert after[3].argmax() == 4
    assert after[3, 4:].sum() > 0.6


def test_an_encoder_that_reads_words_only_looks_around_again() -> None:
    """Large queries drown the biases of positions."""
    torch.manual_seed(1)
    encoder = Umt5Encoder(SMOKE.model.text)
    ids, lengths = torch.randint(4, 300, (1, 12)), torch.tensor([12])
    turned = ids.clone()
    turned[:, 3:5] = ids[:, [4, 3]]  # the words change places

    def seen() -> float:
        with torch.no_grad():
            before, after = encoder(ids, lengths), encoder(turned, lengths)
        return float((before - after)[:, 5:].norm() / before[:, 5:].norm())

    fresh = seen()
    for block in encoder.blocks:
        block.attn.q.weight.data *= 100
        block.pos_embedding.embedding.weight.data.zero_()
    assert seen() < 0.01 * fresh
    encoder.look_around()
    assert 0.5 * fresh < seen() < 2 * fresh


@pytest.mark.parametrize("muon", [False, True])
def test_queries_take_steps_of_their_size(muon: bool) -> None:
    torch.manual_seed(1)
    model = torch.nn.ModuleDict({"text_encoder": Umt5Encoder(SMOKE.model.text)})
    attention = model["text_encoder"].blocks[0].attn
    before = {n: x.detach().clone() for n, x in attention.named_parameters()}
    learner = Learner(model, Optimizer(warmup_steps=1, weight_decay=0, muon=muon))
    rows = model["text_encoder"](torch.randint(4, 300, (4, 12)), torch.full((4,), 12))
    learner.update((rows * torch.randn(rows.shape)).sum(), 0)
    q, k = (
        (attention.get_parameter(n).detach() - before[n]).square().mean().sqrt()
        for n in ("q.weight", "k.weight")
    )
    assert float(q / k) == pytest.approx((32 // 2) ** -0.5, rel=0.1)


def test_package_round_trip(tmp_path: Path) -> None:
    captions = Squares().captions(range(64))
    model = package.random_model(SMOKE.model, SMOKE.generation, captions, 4)
    for dtype in (torch.float32, torch.bfloat16):
        folder = tmp_path / str(dtype)
        package.export_package(folder, model, dtype)
        again = package.import_package(folder)
        assert (again.config, again.generation) == (model.config, model.generation)
        assert again.tokenizer.model == model.tokenizer.model
        for part in ("video", "autoencoder"):
            got, want = getattr(again, part).state_dict(), getattr(model, part).state_dict()
            assert got.keys() == want.keys()
            for name, x in want.items():
                assert torch.equal(got[name], x.to(dtype).float()), name


def test_files_stay_small(tmp_path: Path) -> None:
    tensors = {f"t{n}": torch.randn(1 << 20) for n in range(9)}  # 4 MiB each
    file = shards.save_tensors(tmp_path, "part", tensors, torch.float32)
    assert file == "part.safetensors.index.json"
    sizes = [x.stat().st_size for x in tmp_path.glob("*.safetensors")]
    assert len(sizes) == 3
    assert max(sizes) < 15 << 20
    got = shards.load_tensors(tmp_path / file)
    assert all(torch.equal(got[name], x) for name, x in tensors.items())


def test_checkpoint_falls_back_on_the_average(tmp_path: Path) -> None:
    saved = checkpoint.Checkpoint(7, {"ema": {"x": torch.ones(2)}, "weights": {"x": torch.ones(2)}})
    checkpoint.save(tmp_path / "c", saved)
    loaded = checkpoint.load(tmp_path / "c", ["ema"])
    assert (loaded.step, list(loaded.parts)) == (7, ["ema"])
    assert torch.equal(loaded.weights()["x"], torch.ones(2))
    with pytest.raises(KeyError, match="ema"):
        loaded.weights("critic", "critic_ema")


def test_a_checkpoint_is_there_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "c"
    for step in (1, 2):
        saved = checkpoint.Checkpoint(step, {"ema": {"x": torch.ones(2)}}, {"about": str(step)})
        checkpoint.save(folder, saved)
    assert [x.name for x in tmp_path.iterdir()] == ["c"]
    moves: list[Path] = []

    def stop(self: Path, target: Path) -> None:
        """Like a machine that goes away before the second move."""
        moves.append(self)
        if len(moves) == 2:
            raise KeyboardInterrupt
        os.rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(folder, checkpoint.Checkpoint(3, {"ema": {"x": torch.ones(2)}}))
    monkeypatch.undo()
    assert checkpoint.exists(folder)
    assert (checkpoint.load(folder).step, checkpoint.load(folder).notes) == (2, {"about": "2"})
    checkpoint.save(folder, checkpoint.Checkpoint(4, {"ema": {"x": torch.ones(2)}}))
    assert checkpoint.load(folder).step == 4
    assert [x.name for x in tmp_path.iterdir()] == ["c"]


def test_metrics() -> None:
    torch.manual_seed(5)
    video = torch.rand(2, 3, 3, 24, 32)
    assert metrics.psnr(video + 0.1, video).tolist() == pytest.approx([20, 20], abs=1e-3)
    assert metrics.ssim(video, video).tolist() == pytest.approx([1, 1], abs=1e-5)
    noisy = metrics.ssim(video, torch.rand_like(video))
    assert noisy.abs().max() < 0.1
    plain, shifted = 0.5 + 0.01 * video, 0.505 + 0.01 * video.flip(-1)  # variance 1e-5
    exact = metrics.ssim(plain, shifted)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(metrics.ssim(plain, shifted), exact)


def test_pool_keeps_the_newest() -> None:
    pool = Pool(4)
    generator = torch.Generator().manual_seed(1)
    pool.put({"x": torch.arange(3)})
    assert set(pool.draw(99, generator)["x"].tolist()) == {0, 1, 2}
    pool.put({"x": torch.arange(3, 6)})
    assert len(pool) == 4
    assert set(pool.draw(99, generator)["x"].tolist()) == {2, 3, 4, 5}


def test_a_pool_that_begins_later_draws_the_same() -> None:
    long, later = Pool(4), Pool(4, 6)
    for start in range(0, 10, 2):
        long.put({"x": torch.arange(start, start + 2)})
    for start in (6, 8):
        later.put({"x": torch.arange(start, start + 2)})
        drawn = later.draw(99, torch.Generator().manual_seed(1))["x"]
        assert set(drawn.tolist()) == set(range(6, start + 2))
    assert torch.equal(long.draw(99, torch.Generator().manual_seed(1))["x"], drawn)
    assert (long.made, long.drawn, later.made, later.drawn) == (10, 99, 4, 198)


def test_budget() -> None:
    assert budget.monarch_flop(3, 21, 30, 52, 12 * 128) == pytest.approx(65e9, rel=0.01)
    assert budget.dense_flop(3, 21, 30, 52, 12 * 128) == pytest.approx(942e9, rel=0.01)
    c = TaehvConfig(decoder_widths=(16, 8, 8, 8))
    model = Taehv(c)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.decode(torch.randn(1, 3, 16, 6, 8))
    # PyTorch grows after the upsampling, the engine before, and it drops 3 frames before the end.
    assert counter.get_total_flops() == pytest.approx(3 * budget.decoder_flop(c, 6, 8), rel=0.05)
    transformer = small_wan(text_len=8)
    transformer.config = WanConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=2, text_len=8)
    x = torch.randn(1, 3, 16, 4, 6)
    text = transformer.encode_text(torch.randn(1, 8, 256)).detach()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        pattern = Bidirectional(lambda q, k, v: q)
        transformer(x, torch.zeros(1, 3), text, torch.arange(3), pattern)
    layer = 2 * 72 * (6 * 24**2 + 2 * 24 * 32) + 4 * 72 * 8 * 24
    outside = 2 * 72 * 2 * 16 * 24  # in and out of the tokens
    assert counter.get_total_flops() == pytest.approx(2 * layer + outside, rel=0.15)


def test_the_demo_fits() -> None:
    x = budget.cost(DEMO)
    chunk_s = 12 / budget.VIDEO_FPS
    assert x.package_mb < 29  # and a tokenizer, of 30
    assert x.seconds(budget.MONARCH_TFLOPS[0]) < chunk_s
    assert x.dense > 10 * x.monarch


def test_config_names_what_is_wrong() -> None:
    content = json.loads((CONFIGS / "smoke.json").read_text())
    for change, message in (
        ({"flow": {"phases": [{"until_step": 1.5}]}}, "phases.until_step is 1.5, need int"),
        ({"flow": {"phases": 3}}, "phases is not a list"),
        ({"flow": {"phases": [], "speed": 1}}, "flow has no field speed"),
        ({"model": {**content["model"], "autoencoder": {"channels": 8}}}, "channels"),
    ):
        with pytest.raises(ValueError, match=message):
            config.from_dict(config.Config, content | change)
    assert math.isclose(DEMO.generation.shift, 5)


def test_crops_are_around_things() -> None:
    """As many as asked for, wherever the thing is; and the others are anywhere."""
    size, device = (64, 96), torch.device("cpu")
    rows = autoencoder.rows_of(Squares(), range(40), 5, size, device, 0)
    assert rows["clips"].shape == (40, 5, 3, 64, 96)
    assert rows["things"].shape == (40, 8, 12)
    shares = []
    for around in (0.0, 1.0):
        stage = AutoencoderStage(frames=1, crop=24, around_things=around)
        crops = autoencoder.cut(rows, stage, torch.Generator().manual_seed(1))
        assert crops.shape == (40, 1, 3, 24, 24)
        seen = crops[:, :, :, 6:18, 6:18].flatten(1)
        shares.append(float((seen.amax(1) - seen.amin(1) > 0.1).float().mean()))
    assert shares[0] < 0.7
    assert shares[1] > 0.95
    nothing = rows | {"things": torch.zeros_like(rows["things"])}
    assert autoencoder.cut(nothing, stage, torch.Generator().manual_seed(1)).shape == crops.shape
    whole = dataclasses.replace(stage, crop=0)
    first = autoencoder.cut(rows, whole, torch.Generator().manual_seed(1))
    assert first.shape == (40, 1, 3, *size)
