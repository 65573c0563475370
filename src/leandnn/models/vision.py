"""Image classifiers by the names they are known by; each lives in a file of its own."""

from __future__ import annotations

from torch import nn

from leandnn.models import mobilenet, resnet_bottleneck
from leandnn.models.alexnet import SmallAlexNet
from leandnn.models.resnet_bottleneck import BottleneckResNet
from leandnn.models.resnet_small import BasicBlock, SmallResNet
from leandnn.models.vgg import VGG19
from leandnn.models.vgg_small import SmallVGG
from leandnn.models.wide_resnet import WideResNet

__all__ = [
    "VGG19",
    "BasicBlock",
    "BottleneckResNet",
    "SmallAlexNet",
    "SmallResNet",
    "SmallVGG",
    "WideResNet",
    "mobilenet_v1",
    "resnet50",
    "vgg19",
    "wide_resnet40_4",
]


def resnet50(num_classes: int = 1000) -> nn.Module:
    """Torchvision's ResNet50, random weights: (N, 3, 224, 224) float32 → logits (N, num_classes).

    4.09 G multiply-adds and 25.6 M parameters with 1000 classes (He et al. 2016, arXiv 1512.03385).
    """
    return resnet_bottleneck.resnet50(num_classes)


def mobilenet_v1(num_classes: int = 1000, *, width: float = 1.0) -> nn.Module:
    """MobileNetV1: (N, 3, 224, 224) float32 → logits (N, num_classes).

    569 M multiply-adds and 4.2 M parameters at width 1 with 1000 classes (Howard et al. 2017, arXiv 1704.04861).

    - width: multiplies all channels.
    """
    return mobilenet.mobilenet_v1(num_classes, width=width)


def vgg19(num_classes: int = 10) -> nn.Module:
    """RBGP's VGG19 for CIFAR: (N, 3, 32, 32) float32 → logits (N, num_classes); 20.0 M parameters with 10 classes."""
    return VGG19(classes=num_classes)


def wide_resnet40_4(num_classes: int = 10) -> nn.Module:
    """RBGP's WRN-40-4 for CIFAR: (N, 3, 32, 32) float32 → logits (N, num_classes); 8.9 M parameters with 10 classes."""
    return WideResNet(40, 4, classes=num_classes)
