"""The optimizer of a run: which parameters train, at which share of the learning rate, and which of them decay."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import nn

from leandnn.errors import LeandnnError
from leandnn.train.task import Settings


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """The optimizer of a run; see Settings. LeandnnError for a name in lr_factors that no parameter has."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for pattern in settings.lr_factors:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise LeandnnError(
                f"lr_factors names {pattern!r}, but the trained parameters are {', '.join(parameters)}"
            )
    # The first two are always there, the first with the peak rate itself, which the history shows.
    members: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, parameter in parameters.items():
        fitting = (f for pattern, f in settings.lr_factors.items() if fnmatchcase(name, pattern))
        decays = parameter.dim() > 1 or settings.decay_vectors
        members.setdefault((next(fitting, 1.0), decays), []).append(parameter)
    groups = [
        {"params": found, "lr_factor": f, "weight_decay": settings.weight_decay / f if decays else 0.0}
        for (f, decays), found in members.items()
    ]
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=settings.lr, betas=settings.betas)
    nesterov = settings.nesterov and settings.momentum > 0
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov)
