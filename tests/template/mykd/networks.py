"""A network, made by name: `model: {name: mynet, args: {width: 16}}`."""

from torch import nn


class MyNet(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, num_classes, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, stride=2), nn.ReLU()
        )
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, images):
        """Logits."""
        return self.fc(self.body(images).mean((2, 3)))


def make(num_classes, image_size, width=8):
    """The network for this many classes; image_size is for those that need it."""
    return MyNet(num_classes, width)
