"""How close one video is to another."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# The constants of the SSIM paper (Wang et al. 2004) for pixels in 0..1.
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def psnr(got: Tensor, want: Tensor) -> Tensor:
    """Of each clip, in dB. [B, T, 3, H, W] in 0..1 -> [B]."""
    error = (got.float() - want.float()).square().flatten(1).mean(1)
    return -10 * error.clamp(min=1e-10).log10()


def ssim(got: Tensor, want: Tensor) -> Tensor:
    """Structural similarity of each clip. [B, T, 3, H, W] in 0..1 -> [B].

    In double precision: variances are small differences of large numbers, which the short
    fractions of bfloat16 and TF32 on a GPU would lose.
    """
    axis = torch.arange(WINDOW, device=got.device) - WINDOW // 2
    taps = torch.exp(-(axis.double() ** 2) / (2 * SIGMA**2))
    taps = taps / taps.sum()

    def blur(x: Tensor) -> Tensor:
        x = functional.conv2d(x, taps.view(1, 1, -1, 1))
        return functional.conv2d(x, taps.view(1, 1, 1, -1))

    x, y = (v.double().flatten(0, 2).unsqueeze(1) for v in (got, want))  # [B * T * 3, 1, H, W]
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    value = (2 * mean_x * mean_y + C1) * (2 * cov + C2)
    value = value / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))
    return value.view(got.shape[0], -1).mean(1)
