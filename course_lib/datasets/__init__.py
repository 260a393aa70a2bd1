"""What the models learn from.

`toy` (points in the plane), `digits` (real, offline), `scenes` with `captions` (the course's main
data), `torchvision_sets` (MNIST, FashionMNIST, CIFAR-10) and `folder` (the reader's own pictures).
Images are float32 in [-1, 1], (B, C, H, W).
"""
