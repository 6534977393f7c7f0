"""The training models compute what the golden tensors of the reference implementations say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from monarchrt_train.attention import Attention, Tiling, dense, monarch
from monarchrt_train.rollout import KvCache, generate
from monarchrt_train.schedule import sampler_sigmas
from monarchrt_train.taehv import Taehv, TaehvConfig, run_frames
from monarchrt_train.umt5 import Umt5Config, Umt5Encoder
from monarchrt_train.wan import Bidirectional, WanConfig, WanTransformer

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 1e-4  # relative L2 in float32, as for the engine (CONTRIBUTING.md)
ROLLOUT_LIMIT = 1e-3


@pytest.fixture(scope="session")
def golden() -> Path:
    return Path(os.environ.get("MRT_GOLDEN_DIR", REPOSITORY / "tests" / "golden"))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        names = file.keys()
        tensors = {name: file.get_tensor(name) for name in names}
        return tensors, file.metadata() or {}


def relative(got: Tensor, want: Tensor) -> float:
    got = got.detach()
    return float((got.double() - want.double()).norm() / want.double().norm().clamp(min=1e-12))


ATTENTION = (
    "all_tiles",
    "batch2",
    "causal3",
    "frame_tile",
    "h_reduce2",
    "iterations2",
    "iterations4",
    "sharp",
    "tied_frames3",
    "w_reduce4",
    "wan_frame",
)


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(golden: Path, name: str) -> None:
    tensors, meta = read(golden / "attention" / f"{name}.safetensors")
    rows, cols = int(meta["height"]), int(meta["width"])
    tiling = Tiling(*(int(meta[key]) for key in ("f_tied", "h_reduce", "w_reduce")))
    q, k, v = (
        tensors[key].float().unflatten(1, (-1, rows, cols)).requires_grad_() for key in "qkv"
    )
    block = int(meta["causal_block_frames"]) or q.shape[1]
    iterations = int(meta["num_iters"])
    blocks = range(0, q.shape[1], block)
    causal = len(blocks) > 1
    out = torch.cat(
        [
            monarch(
                q[:, at : at + block],
                k[:, : at + block] if causal else k,
                v[:, : at + block] if causal else v,
                tiling,
                iterations,
            )
            for at in blocks
        ],
        1,
    )
    assert relative(out, tensors["out"].view(out.shape)) < LIMIT
    if "grad_out" in tensors:
        out.backward(tensors["grad_out"].float().view(out.shape))
        for key, x in zip("qkv", (q, k, v), strict=True):
            want = tensors[f"grad_{key}"].view(x.shape)
            assert (x.grad - want).norm() <= LIMIT * want.norm() + 1e-8 * want.numel() ** 0.5, key
    if "dense_out" in tensors and not causal:
        want = tensors["dense_out"].view(q.shape)
        assert relative(dense(q, k, v).detach(), want) < LIMIT


def load_wan(golden: Path) -> WanTransformer:
    config = json.loads((golden / "wan_dit" / "config.json").read_text())
    weights, _ = read(golden / "wan_dit" / "diffusion_pytorch_model.safetensors")
    sizes = {key: config[key] for key in WanConfig.__dataclass_fields__ if key in config}
    sizes["text_dim"] = weights["text_embedding.0.weight"].shape[1]
    sizes["patch_size"] = tuple(weights["patch_embedding.weight"].shape[2:])
    model = WanTransformer(WanConfig(**sizes))
    model.load_state_dict({name: x.float() for name, x in weights.items()})
    return model


def attention_of(meta: dict[str, str]) -> Attention:
    tiling = json.loads(meta.get("monarch", "null"))
    if tiling is None:
        return Attention("dense")
    tiles = tuple(tiling.get(key, 1) for key in ("f_tied", "h_reduce", "w_reduce"))
    return Attention("monarch", tiles, tiling.get("num_iters", 1))


@pytest.mark.parametrize(
    "name",
    ["dense", "dense_window", "monarch", "monarch_tiles", "monarch_iters2", "monarch_window"],
)
def test_rollout(golden: Path, name: str) -> None:
    model = load_wan(golden)
    tensors, meta = read(golden / "wan_dit" / f"rollout_{name}.safetensors")
    steps = json.loads(meta["denoising_step_list"])
    shift, chunk = float(meta["timestep_shift"]), int(meta["num_frame_per_block"])
    assert relative(1000 * sampler_sigmas(steps, shift), tensors["timesteps"]) < 1e-6
    noise = tensors["noise"].float().split(chunk)
    fresh = tensors["renoise"].float().reshape(len(noise), len(steps) - 1, *noise[0].shape)
    cache = KvCache(
        attention_of(meta),
        model.config.num_layers,
        int(meta["local_attn_size"]),
        int(meta["sink_size"]),
    )
    with torch.no_grad():
        text = model.encode_text(tensors["context"].float()[None])
    rollout = generate(
        model,
        text,
        [x[None] for x in noise],
        [[x[None] for x in chunk_noise] for chunk_noise in fresh],
        cache,
        steps=steps,
        shift=shift,
    )
    assert relative(rollout.first_velocity[0], tensors["first_flow"]) < LIMIT
    assert relative(torch.cat(rollout.latents, 1)[0], tensors["latents"]) < ROLLOUT_LIMIT


def test_bidirectional(golden: Path) -> None:
    model = load_wan(golden)
    tensors, meta = read(golden / "wan_dit" / "bidirectional_monarch.safetensors")
    latents = tensors["latents"].float()[None]
    times = torch.full(latents.shape[:2], float(meta["timestep"]))
    with torch.no_grad():
        text = model.encode_text(tensors["context"].float()[None])
        frames = torch.arange(latents.shape[1])
        flow = model(latents, times, text, frames, Bidirectional(attention_of(meta)))
    assert relative(flow[0], tensors["flow"]) < LIMIT


def test_text_encoder(golden: Path) -> None:
    config = json.loads((golden / "umt5" / "t5_config.json").read_text())
    weights = torch.load(golden / "umt5" / "models_t5_umt5-xxl-enc-bf16.pth", weights_only=True)
    model = Umt5Encoder(
        Umt5Config(
            vocabulary=weights["token_embedding.weight"].shape[0],
            dim=weights["token_embedding.weight"].shape[1],
            dim_attn=weights["blocks.0.attn.q.weight"].shape[0],
            dim_ffn=weights["blocks.0.ffn.fc1.weight"].shape[0],
            heads=config["num_heads"],
            layers=config["num_layers"],
            buckets=config["num_buckets"],
        )
    )
    model.load_state_dict({name: x.float() for name, x in weights.items()})
    tensors, _ = read(golden / "umt5" / "t5_cases.safetensors")
    cases = [name for name in tensors if name.startswith("ids_")]
    assert cases
    for name in cases:
        ids = tensors[name].long()
        length = int((ids == 1).nonzero()[0]) + 1
        with torch.no_grad():
            got = model(ids[None], torch.tensor([length]))
        assert relative(got[0], tensors[name.replace("ids", "embedding")]) < LIMIT


def test_autoencoder(golden: Path) -> None:
    weights = torch.load(golden / "taehv" / "taew2_1.pth", weights_only=True)
    weights = {name: x.float() for name, x in weights.items()}

    def widths(half: str, layers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(weights[f"{half}.{layer}.weight"].shape[0] for layer in layers)

    model = Taehv(
        TaehvConfig(
            channels=weights["decoder.1.weight"].shape[1],
            decoder_widths=widths("decoder", (1, 8, 14, 20)),
            encoder_widths=widths("encoder", (0, 3, 8, 13)),
            pooling=tuple(
                weights[f"encoder.{at}.conv.weight"].shape[1]
                // weights[f"encoder.{at}.conv.weight"].shape[0]
                for at in (2, 7, 12)
            ),
        )
    )
    for at, layer in ((7, model.decoder[7]), (13, model.decoder[13]), (19, model.decoder[19])):
        name = f"decoder.{at}.conv.weight"  # of more channels than needed, the last ones count
        weights[name] = weights[name][-layer.conv.out_channels :]
    model.load_state_dict(weights)
    tensors, _ = read(golden / "taehv" / "taehv_case.safetensors")
    with torch.no_grad():
        decoded = model.decode(tensors["latents"].float()[None])[0].clamp(0, 1)
        assert relative(decoded, tensors["decoded"]) < LIMIT
        video = tensors["video"].float()
        video = torch.cat([video, video[-1:].expand((-len(video)) % 4, -1, -1, -1)])
        # The case starts with a whole group of frames; encode() would repeat the first one.
        encoded = run_frames(model.encoder, video[None])[0]
        assert relative(encoded, tensors["encoded"]) < LIMIT
