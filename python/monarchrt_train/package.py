"""Models on disk, as the engine loads them (docs/formats.md).

python -m monarchrt_train.package --config FILE --work DIR --stage monarch --out PACKAGE
python -m monarchrt_train.package --config FILE --random --out PACKAGE
The second has random weights: to measure speed before anything is trained.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from monarchrt_train import checkpoint
from monarchrt_train.config import Config, Generation, ModelConfig, from_dict, load
from monarchrt_train.model import TextToVideo
from monarchrt_train.prompts import Tokenizer, train
from monarchrt_train.shards import load_tensors, save_tensors
from monarchrt_train.taehv import Taehv, TaehvConfig
from monarchrt_train.umt5 import Umt5Config
from monarchrt_train.wan import WanConfig

FORMAT = "monarchrt model 1"
MODEL_FILE = "model.json"
TOKENIZER_FILE = "spiece.model"


@dataclass
class Model:
    """Everything a package holds."""

    config: ModelConfig
    generation: Generation
    video: TextToVideo
    autoencoder: Taehv
    tokenizer: Tokenizer
    attention: str = "monarch"  # self-attention that the weights are made for


def _parts(model: Model) -> dict[str, nn.Module]:
    return {
        "transformer": model.video.transformer,
        "text_encoder": model.video.text_encoder,
        "autoencoder": model.autoencoder,
    }


def export_package(folder: Path, model: Model, dtype: torch.dtype = torch.bfloat16) -> None:
    """Writes `model` into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        name: save_tensors(folder, name, part.state_dict(), dtype)
        for name, part in _parts(model).items()
    }
    (folder / TOKENIZER_FILE).write_bytes(model.tokenizer.model)
    content: dict[str, Any] = {
        "format": FORMAT,
        "model_type": "t2v",
        **dataclasses.asdict(model.config.transformer),
        "autoencoder": "taehv",
        "files": {**files, "tokenizer": TOKENIZER_FILE},
        "generation": {**dataclasses.asdict(model.generation), "attention": model.attention},
    }
    (folder / MODEL_FILE).write_text(json.dumps(content, indent=1) + "\n")


def _text_config(tensors: dict[str, Tensor]) -> Umt5Config:
    vocabulary, dim = tensors["token_embedding.weight"].shape
    buckets, heads = tensors["blocks.0.pos_embedding.embedding.weight"].shape
    return Umt5Config(
        vocabulary=vocabulary,
        dim=dim,
        dim_attn=tensors["blocks.0.attn.q.weight"].shape[0],
        dim_ffn=tensors["blocks.0.ffn.fc1.weight"].shape[0],
        heads=heads,
        layers=sum(name.endswith(".norm1.weight") for name in tensors),
        buckets=buckets,
    )


def _autoencoder_config(tensors: dict[str, Tensor]) -> TaehvConfig:
    def outputs(half: str, layers: tuple[int, ...]) -> Any:
        return tuple(tensors[f"{half}.{layer}.weight"].shape[0] for layer in layers)

    pools = (tensors[f"encoder.{layer}.conv.weight"].shape for layer in (2, 7, 12))
    return TaehvConfig(
        channels=tensors["decoder.1.weight"].shape[1],
        decoder_widths=outputs("decoder", (1, 8, 14, 20)),
        encoder_widths=outputs("encoder", (0, 3, 8, 13)),
        pooling=tuple(shape[1] // shape[0] for shape in pools),
    )


def import_package(folder: Path) -> Model:
    """Reads what export_package wrote; the weights become float32."""
    content = json.loads((folder / MODEL_FILE).read_text())
    if content.get("format") != FORMAT or content.get("autoencoder") != "taehv":
        raise ValueError(f"{folder / MODEL_FILE} is no package of this version")
    weights = {
        name: {key: x.float() for key, x in load_tensors(folder / file).items()}
        for name, file in content["files"].items()
        if name != "tokenizer"
    }
    sizes = {key: content[key] for key in WanConfig.__dataclass_fields__}
    settings = dict(content["generation"])
    attention = settings.pop("attention", "monarch")
    config = ModelConfig(
        text=_text_config(weights["text_encoder"]),
        transformer=from_dict(WanConfig, sizes),
        autoencoder=_autoencoder_config(weights["autoencoder"]),
    )
    model = Model(
        config=config,
        generation=from_dict(Generation, settings),
        video=TextToVideo(config),
        autoencoder=Taehv(config.autoencoder),
        tokenizer=Tokenizer((folder / content["files"]["tokenizer"]).read_bytes()),
        attention=attention,
    )
    for name, part in _parts(model).items():
        part.load_state_dict(weights[name])
    return model


def random_model(
    config: ModelConfig, generation: Generation, captions: list[str], seed: int
) -> Model:
    """A model that computes something in all its parts: what starts as 0 is random, too."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer(train(captions, config.text.vocabulary))
    text = dataclasses.replace(config.text, vocabulary=len(tokenizer))
    config = dataclasses.replace(config, text=text)
    model = Model(config, generation, TextToVideo(config), Taehv(config.autoencoder), tokenizer)
    for part in _parts(model).values():
        for name, x in part.named_parameters():
            if name.endswith("bias") or x.abs().max() == 0:
                nn.init.normal_(x, std=0.1)
    return model


def trained_model(config: Config, work: Path, stage: str) -> Model:
    """The averaged weights of a stage: flow, distill or monarch."""
    tokenizer = Tokenizer((work / TOKENIZER_FILE).read_bytes())
    model = Model(
        config.model,
        config.generation,
        TextToVideo(config.model),
        Taehv(config.model.autoencoder),
        tokenizer,
        config.monarch.attention.mode if stage == "monarch" else "dense",
    )
    weights = checkpoint.load(work / stage / "checkpoint", ["ema"]).weights("ema", "ema")
    model.video.load_state_dict(weights)
    model.autoencoder.load_state_dict(load_file(work / "autoencoder.safetensors"))
    return model


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--work", type=Path, help="folder of all stages")
    parser.add_argument("--stage", choices=("flow", "distill", "monarch"), default="monarch")
    parser.add_argument("--random", action="store_true", help="random weights, without --work")
    args = parser.parse_args(argv)
    if args.random == (args.work is not None):
        parser.error("need either --work or --random")
    config = load(args.config)
    if args.random:
        captions = [f"a {a} {b} moves {c}" for a in COLOURS for b in SHAPES for c in WAYS]
        model = random_model(config.model, config.generation, captions, config.seed)
    else:
        model = trained_model(config, args.work, args.stage)
    export_package(args.out, model)


# Enough words to train a tokenizer on, for a model without training.
COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("ball", "cube", "star", "ring")
WAYS = ("left", "right", "up", "down", "around")

if __name__ == "__main__":
    main()
