"""Image classifiers, by the names they are known by; each lives in a file of its own."""

from leandnn.models.resnet_small import BasicBlock, SmallResNet
from leandnn.models.vgg import VGG19

__all__ = ["VGG19", "BasicBlock", "SmallResNet"]
