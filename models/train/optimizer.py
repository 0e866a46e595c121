"""Optimisers and the learning-rate schedule.

Muon (orthogonalised momentum) updates the matrices inside the blocks, AdamW everything else. Muon's
update is scaled to the size of an AdamW update, so one learning rate serves both. The rate is a
function of the tokens read and the settings alone: a run that is resumed or extended follows it.
"""
import math

import torch


def fast_bf16(device):
    """Whether products in bf16 are made by the hardware; emulated ones are ten times slower."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()


def orthogonalise(matrices, steps=5):
    """Newton-Schulz iteration on a stack [n, rows, columns]: singular values go to about 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if fast_bf16(x.device) else x.float()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(tuple(sorted(parameter.shape)), []).append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group)

    def _update(self, parameters, group):
        """One Nesterov step for matrices of one shape (or its transpose), stacked."""
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
            direction = parameter.grad.lerp(momentum, group["momentum"])
            wide = parameter.shape[0] <= parameter.shape[1]
            directions.append(direction if wide else direction.mT)
        stack = orthogonalise(torch.stack(directions))
        scale = 0.2 * math.sqrt(max(parameters[0].shape))
        for parameter, update in zip(parameters, stack):
            wide = parameter.shape[0] <= parameter.shape[1]
            update = (update if wide else update.mT).to(parameter.dtype)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update, alpha=-group["lr"] * scale)


def make_optimizers(model, training):
    """[AdamW] or [Muon, AdamW] over the parameters of `model`; norms and biases do not decay."""
    matrices, rows, vectors = [], [], []
    for name, parameter in model.named_parameters():
        inside = name.startswith("blocks.") and parameter.dim() == 2
        (matrices if inside else rows if parameter.dim() == 2 else vectors).append(parameter)
    decay, rate = training.weight_decay, training.rate
    if training.optimizer == "adamw":
        rows, matrices = matrices + rows, []
    adam = torch.optim.AdamW(
        [{"params": rows, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=rate, betas=(0.9, training.beta2), fused=True)
    return ([Muon(matrices, rate, weight_decay=decay)] if matrices else []) + [adam]


def rate_at(tokens, training):
    """Learning rate after `tokens`: linear warm-up, then wsd (constant, linear decay) or cosine."""
    if tokens < training.warmup_tokens:
        return training.rate * (tokens + 1) / training.warmup_tokens
    low = training.final_rate_share
    if training.schedule == "cosine":
        span = max(1, training.tokens - training.warmup_tokens)
        part = min(1.0, (tokens - training.warmup_tokens) / span)
        return training.rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * part)))
    left = (training.tokens - tokens) / max(1, training.decay_tokens)
    return training.rate * max(low, min(1.0, low + (1 - low) * left))
