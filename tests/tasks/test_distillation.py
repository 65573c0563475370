"""Distillation: the loss by hand, its gradients, the teacher left alone, training through the loop."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leandnn.data import cifar
from leandnn.tasks.classification import Classification
from leandnn.tasks.distillation import Distillation, divergence
from leandnn.train import loop
from leandnn.train.task import Settings


def net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))


def task(seed: int = 0) -> Classification:
    train, test = cifar.synthetic("train", 320), cifar.synthetic("test", 200)
    return Classification(net, train, test, batch_size=32, seed=seed, device="cpu", label_smoothing=0.1)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 32, 32, generator=generator), torch.randint(10, (8,), generator=generator)


def test_the_loss_weighs_the_tasks_and_the_scaled_divergence():
    images, labels = batch()
    student, teacher = net(), net()
    taught = Distillation(task(), teacher, temperature=3.0, weight=0.7)
    found = taught.loss(student, (images, labels))
    with torch.no_grad():
        p = (teacher(images).double() / 3).softmax(1)
        q = (student(images).double() / 3).softmax(1)
        kl = (p * (p.log() - q.log())).sum(1).mean()
        own = F.cross_entropy(student(images), labels, label_smoothing=0.1)
    torch.testing.assert_close(found.double(), 0.3 * own.double() + 0.7 * 9 * kl, rtol=1e-5, atol=1e-6)


def test_gradients_reach_the_student_alone():
    images, labels = batch()
    student = net()
    teacher = copy.deepcopy(student)
    taught = Distillation(task(), teacher, temperature=2.0, weight=1.0)
    gradients = torch.autograd.grad(taught.loss(student, (images, labels)), list(student.parameters()))
    assert max(float(g.abs().max()) for g in gradients) < 1e-5
    other = Distillation(task(), net(), temperature=2.0, weight=1.0)
    gradients = torch.autograd.grad(other.loss(student, (images, labels)), list(student.parameters()))
    assert min(float(g.abs().max()) for g in gradients) > 1e-3
    assert all(p.grad is None and not p.requires_grad for p in other.teacher.parameters())


def test_the_scale_keeps_the_gradients_size():
    """Hinton et al., section 2.1: at a high T the gradient of the logits is (z − v)/N, whatever T is."""
    student = torch.zeros(1, 4, requires_grad=True)
    teacher = torch.tensor([[0.8, 0.2, -0.3, -0.7]])
    found = [torch.autograd.grad(divergence(student, teacher, t), student)[0] for t in (1e2, 1e3)]
    torch.testing.assert_close(found[0], -teacher / 4, rtol=0.02, atol=0)
    torch.testing.assert_close(found[1], found[0], rtol=0.02, atol=0)


def test_no_weight_is_the_task_itself_and_needs_no_teacher_pass():
    images, labels = batch()
    student = net()

    class Refuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("asked")

    own = task()
    taught = Distillation(own, Refuses(), weight=0.0)
    assert torch.equal(taught.loss(student, (images, labels)), own.loss(student, (images, labels)))


def test_a_student_trains_and_leaves_a_teacher_with_norms_as_is():
    teacher = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3072, 10))
    before = copy.deepcopy(teacher.state_dict())
    taught = Distillation(task(), teacher, temperature=4.0, weight=0.5)
    result = loop.train(taught, Settings(epochs=1, lr=0.01))
    assert set(result.metrics) >= {"test_accuracy", "test_loss", "train_loss"}
    assert result.steps == taught.steps_per_epoch() == 10
    for kept in (teacher, taught.teacher):
        assert all(torch.equal(value, before[name]) for name, value in kept.state_dict().items())
    assert taught.worst() == task().worst()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperature": 0.0}, "the temperature is 0.0, expected more than 0"),
        ({"weight": 1.5}, r"the weight is 1.5, expected a value in \[0, 1\]"),
        ({"temperature": float("nan")}, "the temperature is nan"),
    ],
)
def test_bad_values_are_refused(values: dict[str, float], words: str):
    with pytest.raises(ValueError, match=words):
        Distillation(task(), net(), **values)


def test_other_classes_and_other_inputs_are_refused():
    with pytest.raises(ValueError, match=r"student's logits have shape \(8, 10\), the teacher's \(8, 7\)"):
        Distillation(task(), nn.Sequential(nn.Flatten(), nn.Linear(3072, 7))).loss(net(), batch())

    class Doubles(Classification):
        def loss(self, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return super().loss(model, (2 * batch[0], batch[1]))

    images = cifar.synthetic("train", 320), cifar.synthetic("test", 200)
    other = Doubles(net, *images, batch_size=32, seed=0, device="cpu")
    with pytest.raises(ValueError, match="other inputs"):
        Distillation(other, net()).loss(net(), batch())
