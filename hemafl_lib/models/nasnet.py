"""NASNetMobile, which neither timm nor torchvision has: NASNet-A (4 @ 1056) of Zoph et al. (CVPR 2018).

The search found two cells, one that keeps the size of a picture and one that halves it; the network
repeats them. timm has the cells, for the large network (6 @ 4032); here they are put together to the
small one: four cells a stage instead of six, 44 channels instead of 168, and a stem of 32 instead of 96.
"""

from collections.abc import Iterable
from functools import partial

from torch import Tensor, nn

CHANNELS = 44
"""Channels of the first stage's branches; each stage has twice those of the one before."""

REPEATS = 4
STEM = 32
SAME = "same"
"""Paddings as in TensorFlow, where the network was trained."""


def stage(previous: int, current: int, width: int) -> nn.ModuleList:
    """Return the cells of one stage, each from two pictures to [B, 6 * width, H, W].

    ``previous`` and ``current`` are the channels of the two pictures that the first cell reads; the older
    one is twice as high and wide.
    """
    from timm.models.nasnet import FirstCell, NormalCell

    cells = [
        FirstCell(previous, width // 2, current, width, SAME),
        NormalCell(current, width, 6 * width, width, SAME),
    ]
    while len(cells) < REPEATS:
        cells.append(NormalCell(6 * width, width, 6 * width, width, SAME))
    return nn.ModuleList(cells)


def reduction(width: int) -> nn.Module:
    """Return the cell after a stage of ``width``: to [B, 8 * width, H / 2, W / 2]."""
    from timm.models.nasnet import ReductionCell0

    return ReductionCell0(6 * width, 2 * width, 6 * width, 2 * width, SAME)


class Cells(nn.Module):
    """All layers before the activation and the mean: [B, 3, S, S] to [B, 1056, S / 32, S / 32]."""

    def __init__(self) -> None:
        from timm.layers import ConvNormAct
        from timm.models.nasnet import CellStem0, CellStem1

        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=1e-3)
        self.stem = ConvNormAct(3, STEM, 3, stride=2, padding=0, norm_layer=norm, apply_act=False)
        self.stem_0 = CellStem0(STEM, CHANNELS // 4, SAME)
        self.stem_1 = CellStem1(STEM, CHANNELS // 2, SAME)
        widths = [CHANNELS, 2 * CHANNELS, 4 * CHANNELS]
        self.stage_0 = stage(CHANNELS, 2 * CHANNELS, widths[0])
        self.reduction_0 = reduction(widths[0])
        self.stage_1 = stage(6 * widths[0], 8 * widths[0], widths[1])
        self.reduction_1 = reduction(widths[1])
        self.stage_2 = stage(6 * widths[1], 8 * widths[1], widths[2])

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of ``images``; every cell reads what the two cells before it wrote."""
        stem = self.stem(images)
        previous = self.stem_0(stem)
        current = self.stem_1(stem, previous)
        previous, current = through(self.stage_0, previous, current)
        previous, current = current, self.reduction_0(current, previous)
        previous, current = through(self.stage_1, previous, current)
        previous, current = current, self.reduction_1(current, previous)
        return through(self.stage_2, previous, current)[1]


def through(cells: Iterable[nn.Module], previous: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the last two of the cells wrote."""
    for cell in cells:
        previous, current = current, cell(current, previous)
    return previous, current


class NASNetMobile(nn.Module):
    """The network for ``num_classes`` classes: cells, activation, mean over all places, one linear layer."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.cells = Cells()
        self.act = nn.ReLU()
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(24 * CHANNELS, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, C] of normalised ``images``, float32[B, 3, S, S]."""
        return self.classifier(self.global_pool(self.act(self.cells(images))))
