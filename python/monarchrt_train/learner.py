"""A module with its optimizers, a learning rate schedule, and an average of its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from monarchrt_train import parallel
from monarchrt_train.checkpoint import Checkpoint, Parts
from monarchrt_train.config import Optimizer
from monarchrt_train.muon import Muon

LAYERS = "blocks."  # in the names of weights between a model's first and last layer


class Learner:
    """AdamW; with `settings.muon` the matrices of the layers go by Muon instead.

    Its steps are as large as those of AdamW at the same learning rate; with
    `settings.muon_learning_rate` it has one of its own.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: Optimizer,
        ema_decay: float | None = None,
        spent: Callable[[], float | None] = lambda: None,
        helper: nn.Module | None = None,
    ):
        """spent: how much of the training is over, 0 to 1; None: step / decay_steps.

        A parameter may have an attribute `rate`: its share of the learning rate. helper learns
        along, and is neither averaged nor saved. What needs no gradient stays as it is.
        """
        self.module, self.settings, self._decay = module, settings, ema_decay
        self._spent = spent
        self.ema = copy.deepcopy(module).requires_grad_(False) if ema_decay is not None else None
        self._parameters = {n: x for n, x in module.named_parameters() if x.requires_grad}
        help_with = {} if helper is None else dict(helper.named_parameters(prefix="helper"))
        self._all = self._parameters | help_with
        self.optimizers = self._optimizers()
        self._updates = 0  # that the moments know of

    @staticmethod
    def _is_matrix(name: str, x: Tensor) -> bool:
        return LAYERS in name and "embedding" not in name and x.dim() == 2

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        s = self.settings
        turned = [x for n, x in self._all.items() if s.muon and self._is_matrix(n, x)]
        others = [x for x in self._all.values() if not any(x is y for y in turned)]
        out: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [
                    *self._groups([x for x in others if x.dim() > 1], s.weight_decay),
                    *self._groups([x for x in others if x.dim() <= 1], 0.0),
                ],
                lr=s.learning_rate,
                betas=s.betas,
                fused=True,
            )
        ]
        if turned:
            out.append(Muon(self._groups(turned, s.weight_decay), lr=s.learning_rate))
        return out

    @staticmethod
    def _groups(parameters: list[Tensor], weight_decay: float) -> list[dict]:
        """Those of one `rate` together."""
        groups: dict[float, list[Tensor]] = {}
        for x in parameters:
            groups.setdefault(getattr(x, "rate", 1.0), []).append(x)
        return [
            {"params": x, "rate": rate, "weight_decay": weight_decay} for rate, x in groups.items()
        ]

    def _muons(self) -> list[Tensor]:
        return [x for o in self.optimizers[1:] for g in o.param_groups for x in g["params"]]

    def update(self, loss: Tensor, step: int) -> Tensor:
        """One step of the optimizers. -> the norm of the gradient.

        One that is not finite has no effect (Muon goes on by its momentum).
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parallel.average_gradients(self._all.values())
        norm = nn.utils.clip_grad_norm_(self._all.values(), self.settings.clip_norm)
        finite = torch.isfinite(norm)
        # The fused step looks at this on the device, so nobody waits for a GPU; Muon does not.
        self.optimizers[0].found_inf = (~finite).float()
        for x in self._muons():
            x.grad = torch.where(finite, x.grad, 0)
        s, schedule = self.settings, self.schedule(step)
        rates = (s.learning_rate, s.muon_learning_rate or s.learning_rate)
        for optimizer, rate in zip(self.optimizers, rates, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule * group["rate"]
            optimizer.step()
        self._updates += 1
        if self.ema is not None:
            self._average(step)
        return norm

    def schedule(self, step: int) -> float:
        """The share of the learning rates: a warm-up, then half a cosine."""
        s = self.settings
        warm = min(1.0, (self._updates + 1) / s.warmup_steps)
        spent = self._spent()
        done = min(1.0, step / s.decay_steps) if spent is None else spent
        return warm * (0.55 + 0.45 * math.cos(math.pi * done))

    @torch.no_grad()
    def _average(self, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        averages = list(self.ema.parameters())
        torch._foreach_lerp_(averages, list(self.module.parameters()), 1 - decay)

    def _state(self, x: Tensor) -> dict[str, Tensor]:
        """What an optimizer remembers of a parameter."""
        return next((o.state[x] for o in self.optimizers if x in o.state), {})

    def parts(self, name: str = "weights", ema: str = "ema") -> Parts:
        """What a checkpoint keeps, the part of the weights under `name`."""
        out: Parts = {name: self.module.state_dict()}
        if self.ema is not None:
            out[ema] = self.ema.state_dict()
        out[f"{name}_optimizer"] = {
            f"{key}.{field}": value
            for key, x in self._parameters.items()
            for field, value in self._state(x).items()
        }
        return out

    def restore(self, saved: Checkpoint, name: str = "weights", ema: str = "ema") -> None:
        """Takes what `saved` has; it must have weights or their average.

        The warm-up goes on where it was; if moments of some weights are missing, it begins anew.
        """
        self.module.load_state_dict(saved.weights(name, ema))
        if self.ema is not None:
            self.ema.load_state_dict(saved.weights(ema, name))
        moments = saved.parts.get(f"{name}_optimizer", {})
        muons = set(self._muons())
        updates = []
        for key, x in self._parameters.items():
            fields = ("momentum_buffer",) if x in muons else ("exp_avg", "exp_avg_sq")
            if not all(f"{key}.{field}" in moments for field in fields):
                updates.append(0)
                continue
            state: dict[str, Tensor] = {
                # In the memory format of the parameter, which the fused optimizer relies on.
                field: torch.empty_like(x.detach()).copy_(moments[f"{key}.{field}"])
                for field in fields
            }
            if x not in muons:
                step = moments[f"{key}.step"]
                state["step"] = step.float().to(x.device if x.is_cuda else "cpu")
                updates.append(int(step))
            self.optimizers[1 if x in muons else 0].state[x] = state
        self._updates = min(updates, default=0)
