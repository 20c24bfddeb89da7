"""What stands in for a place that is taken away from an image.

Images are float32[N, 3, S, S] in [0, 1]. None of these says "nothing was here": black would be the
strongest stain there is, white an empty slide, and the mean colour keeps what colour gives away.
"""

from torch import Tensor
from torchvision.transforms.functional import gaussian_blur


def mean_colour(images: Tensor) -> Tensor:
    """Return images of one colour each, the mean of the image."""
    return images.mean(dim=(2, 3), keepdim=True).expand_as(images).contiguous()


def blurred(images: Tensor) -> Tensor:
    """Return images without edges: a Gaussian blur with a standard deviation of an eighth of the side."""
    side = images.shape[-1]
    return gaussian_blur(images, kernel_size=2 * (side // 4) + 1, sigma=side / 8)


REFERENCES = {"mean": mean_colour, "blur": blurred}
"""The references by name."""
