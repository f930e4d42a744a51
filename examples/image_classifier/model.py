"""A small ResNet-like classifier with weights from a seed: nothing is downloaded."""

from __future__ import annotations

import torch
from torch import nn

IMAGE_PIXELS = 192
USER_FEATURES = 16
CLASSES = 1000

# Chosen so that one forward takes 6 to 8 ms on one core of a present-day server.
_WIDTH = 40


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut.

    ``passes`` is how many times the block computes its result. More than once changes nothing but
    the cost, which is how the demo makes one layer hot.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.passes = 1
        self.convolution1 = nn.Conv2d(
            channels_in, channels_out, 3, stride=stride, padding=1, bias=False
        )
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.convolution2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = (
            nn.Identity()
            if stride == 1 and channels_in == channels_out
            else nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the block's features for those of the block before it."""
        for _ in range(self.passes):
            hidden = torch.relu(self.norm1(self.convolution1(features)))
            result = torch.relu(self.norm2(self.convolution2(hidden)) + self.shortcut(features))
        return result


class ImageClassifier(nn.Module):
    """Class probabilities of one image, given the features of the user who sent it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, _WIDTH, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(_WIDTH),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.block1 = ResidualBlock(_WIDTH, _WIDTH, stride=1)
        self.block2 = ResidualBlock(_WIDTH, 2 * _WIDTH, stride=2)
        self.block3 = ResidualBlock(2 * _WIDTH, 4 * _WIDTH, stride=2)
        self.block4 = ResidualBlock(4 * _WIDTH, 8 * _WIDTH, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8 * _WIDTH + USER_FEATURES, CLASSES)

    def forward(self, image: torch.Tensor, user_features: torch.Tensor) -> torch.Tensor:
        """Return probabilities [batch, classes] for images [batch, 3, height, width]."""
        features = self.block4(self.block3(self.block2(self.block1(self.stem(image)))))
        pooled = torch.flatten(self.pool(features), 1)
        return torch.softmax(self.head(torch.cat((pooled, user_features), dim=1)), dim=1)


def build_model(seed: int) -> ImageClassifier:
    """Return the model of that seed, ready for inference and already run a few times."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = ImageClassifier().eval()
    # The first forwards choose kernels and allocate; no client should pay for that.
    with torch.inference_mode():
        for _ in range(3):
            model(torch.zeros(1, 3, IMAGE_PIXELS, IMAGE_PIXELS), torch.zeros(1, USER_FEATURES))
    return model
