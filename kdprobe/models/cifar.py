"""The residual networks for 32x32 images that the distillation literature uses and timm lacks.

Reference: He, Zhang, Ren, Sun (2016), Deep Residual Learning for Image Recognition, section 4.2. Parameter names
are those of the weights that the field exchanges (`conv1`, `layer1.0.conv1`, `layer2.0.downsample.0`, `fc`).
"""

from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

DEPTHS = (8, 14, 20, 32, 44, 56, 110)
CIFAR_NAMES = tuple(f"resnet{depth}" for depth in DEPTHS)
WIDTHS = (16, 32, 64)

Shortcut = Literal["A", "B"]


class PadShortcut(nn.Module):
    """Option A: subsample by two and pad the new channels with zeros; no parameters."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.extra = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, c, h, w] -> [B, c + extra, h/2, w/2]."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; `act2` is not in place, so its input can be captured."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 and shortcut == "A":
            self.downsample = PadShortcut(in_channels, out_channels)
        elif stride != 1:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(out_channels))
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, h, w] -> [B, c_out, h/stride, w/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        result: Tensor = self.act2(x + shortcut)
        return result


class CifarResNet(nn.Module):
    """ResNet-n with n = 6k + 2 layers: a 3x3 stem and three stages of k blocks, widths 16, 32, 64.

    Args:
        depth: number of layers, n.
        num_classes: width of the classifier; without one for 0, which gives pooled features.
        shortcut: `B` projects where a stage changes size (the benchmarks' choice), `A` pads with zeros.
        in_chans: number of channels of the image.
    """

    def __init__(self, depth: int, *, num_classes: int = 100, shortcut: Shortcut = "B", in_chans: int = 3) -> None:
        super().__init__()
        n_blocks = (depth - 2) // 6
        self.num_classes = num_classes
        self.conv1 = nn.Conv2d(in_chans, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.act1 = nn.ReLU()
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], n_blocks, stride=1, shortcut=shortcut)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], n_blocks, stride=2, shortcut=shortcut)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], n_blocks, stride=2, shortcut=shortcut)
        self.fc = nn.Linear(WIDTHS[2], num_classes) if num_classes else nn.Identity()
        modules = (("act1", 16, 1), ("layer1", 16, 1), ("layer2", 32, 2), ("layer3", 64, 4))
        self.feature_info = [{"module": m, "num_chs": c, "reduction": r} for m, c, r in modules]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        """The linear layer that gives the logits; an identity without classes."""
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        """[B, 3, s, s] -> [B, 64, s/4, s/4]."""
        x = self.act1(self.bn1(self.conv1(x)))
        maps: Tensor = self.layer3(self.layer2(self.layer1(x)))
        return maps

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, 64, h, w] -> logits [B, C], or pooled features [B, 64]."""
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, s, s] -> logits [B, C], or pooled features [B, 64]."""
        return self.forward_head(self.forward_features(x))


def _stage(in_channels: int, out_channels: int, n_blocks: int, *, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = Block(in_channels, out_channels, stride=stride, shortcut=shortcut)
    rest = (Block(out_channels, out_channels, stride=1, shortcut=shortcut) for _ in range(n_blocks - 1))
    return nn.Sequential(first, *rest)


def cifar_resnet(name: str, **arguments: object) -> CifarResNet:
    """A CIFAR ResNet by name, such as `resnet20`; arguments as `CifarResNet` takes them.

    Raises:
        ValueError: for a shortcut other than A and B.

    Example:
        >>> from kdprobe.models import cifar_resnet
        >>> sum(parameter.numel() for parameter in cifar_resnet("resnet20", num_classes=100).parameters())
        278324
    """
    if (shortcut := arguments.get("shortcut", "B")) not in get_args(Shortcut):
        raise ValueError(f"shortcut must be A or B, but is {shortcut!r}")
    return CifarResNet(int(name.removeprefix("resnet")), **arguments)  # type: ignore[arg-type]
