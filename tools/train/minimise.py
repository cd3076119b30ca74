"""The training loop shared by the test models."""

import math

import torch


def learning_rate(step, steps):
    """Factor of the peak rate: linear warm-up over 5 %, then a cosine to zero."""
    warmup = steps // 20
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def minimise(weights, recipe, label, loss_of_step, betas=(0.9, 0.999)):
    """Minimise with AdamW the loss that `loss_of_step()` returns for a fresh batch."""
    weights = list(weights)
    optimizer = torch.optim.AdamW(weights, lr=recipe["lr"], betas=betas, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, recipe["steps"]))
    for step in range(recipe["steps"]):
        loss = loss_of_step()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == recipe["steps"] - 1:
            print(f"{label}: step {step} loss {loss.item():.4f}", flush=True)
