"""The TAEHV autoencoder, in the names and the arithmetic of the engine (src/model/taehv).

Layers that hold no tensors have numbers too, as in the released checkpoint. Pixels are in 0..1. A
latent frame covers 4 frames; a stream begins with the last frame of its first four, so n latent
frames are 4 n - 3 frames of video, and the encoder gets the first frame four times.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

FRAMES_PER_LATENT = 4
PIXELS_PER_LATENT = 8
LEVELS = 3
GROWTH = (1, 2, 2)  # frames out for one in, of the decoder's levels


@dataclass(frozen=True)
class TaehvConfig:
    channels: int = 16  # of a latent
    decoder_widths: tuple[int, int, int, int] = (128, 64, 32, 16)  # levels, then the output's
    encoder_widths: tuple[int, int, int, int] = (32, 64, 64, 96)  # the input's, then levels
    pooling: tuple[int, int, int] = (2, 2, 1)  # frames in for one out, of the encoder's levels


def _conv(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


class MemoryBlock(nn.Module):
    """2D convolutions over a frame and the one before it (zeros before the first)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Sequential(
            _conv(2 * inputs, outputs),
            nn.ReLU(),
            _conv(outputs, outputs),
            nn.ReLU(),
            _conv(outputs, outputs),
        )
        self.skip = (
            nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        )

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x [B * frames, C, H, W] -> [B * frames, C', H, W]."""
        past = functional.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))[:-1]  # in the memory format of x
        past[::frames] = 0
        return functional.relu(self.conv(torch.cat([x, past], 1)) + self.skip(x))


class TimeGrowth(nn.Module):
    """One frame becomes `stride` frames."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width, stride * width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> [n * stride, C, H, W]."""
        return self.conv(x).unflatten(1, (self.stride, -1)).flatten(0, 1)


class TimePool(nn.Module):
    """`stride` frames become one."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(stride * width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n * stride, C, H, W] -> [n, C, H, W]."""
        return self.conv(x.unflatten(0, (-1, self.stride)).flatten(1, 2))


class Upsample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class SoftClamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * torch.tanh(x / 3)


def run_frames(layers: nn.Sequential, x: Tensor) -> Tensor:
    """A clip [B, T, C, H, W] through layers that work on frames."""
    batch = x.shape[0]
    x = x.flatten(0, 1)
    for layer in layers:
        x = layer(x, x.shape[0] // batch) if isinstance(layer, MemoryBlock) else layer(x)
    return x.unflatten(0, (batch, -1))


def _decoder(c: TaehvConfig) -> nn.Sequential:
    layers: list[nn.Module] = [SoftClamp(), _conv(c.channels, c.decoder_widths[0]), nn.ReLU()]
    for level in range(LEVELS):
        width = c.decoder_widths[level]
        layers += [MemoryBlock(width, width) for _ in range(3)]
        layers += [Upsample(), TimeGrowth(width, GROWTH[level])]
        layers += [_conv(width, c.decoder_widths[level + 1], bias=False)]
    return nn.Sequential(*layers, nn.ReLU(), _conv(c.decoder_widths[-1], 3))


def _encoder(c: TaehvConfig) -> nn.Sequential:
    layers: list[nn.Module] = [_conv(3, c.encoder_widths[0]), nn.ReLU()]
    for level in range(LEVELS):
        width, out = c.encoder_widths[level : level + 2]
        layers += [TimePool(width, c.pooling[level]), _conv(width, out, stride=2, bias=False)]
        layers += [MemoryBlock(out, out) for _ in range(3)]
    return nn.Sequential(*layers, _conv(c.encoder_widths[-1], c.channels))


class Taehv(nn.Module):
    """Both halves, and the statistics of the latents while they are being learnt."""

    def __init__(self, config: TaehvConfig):
        super().__init__()
        self.config = config
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Signals keep their size through all layers, and the first picture is grey.

        With larger pictures at the start the decoder would learn grey by silencing its layers, and
        take long to come back.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, MemoryBlock):
                module.conv[-1].weight.mul_(0.2)
            elif isinstance(module, TimeGrowth | TimePool):
                nn.init.kaiming_normal_(module.conv.weight, nonlinearity="linear")
        self.decoder[-1].weight.mul_(0.01)
        nn.init.constant_(self.decoder[-1].bias, 0.5)

    def encode(self, video: Tensor) -> Tensor:
        """Frames in 0..1, [B, 4 n - 3, 3, 8 h, 8 w] -> latents [B, n, channels, h, w]."""
        first = video[:, :1].expand(-1, FRAMES_PER_LATENT - 1, -1, -1, -1)
        return run_frames(self.encoder, torch.cat([first, video], 1))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, n, channels, h, w] -> frames [B, 4 n - 3, 3, 8 h, 8 w], not clamped."""
        return run_frames(self.decoder, latents)[:, FRAMES_PER_LATENT - 1 :]


def fold_statistics(encoder: nn.Sequential, mean: Tensor, std: Tensor) -> None:
    """Makes the encoder give (latent - mean) / std by changing its last convolution.

    mean and std are [channels], of what the encoder gives before.
    """
    conv = encoder[-1]
    with torch.no_grad():
        conv.weight.div_(std[:, None, None, None])
        conv.bias.sub_(mean).div_(std)
