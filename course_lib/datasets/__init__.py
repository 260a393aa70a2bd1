"""What the models learn from.

`toy` (points in the plane), `digits` (real, offline), `scenes` with `captions` (the course's main
data), `phantoms` (random heads made of ellipses), `torchvision_sets` (MNIST, FashionMNIST,
CIFAR-10), `folder` (your own pictures) and `shards` (your own, more than memory holds).
Images are float32 in [-1, 1], (B, C, H, W).
"""
