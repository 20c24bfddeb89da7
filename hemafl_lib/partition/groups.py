"""What should stay together when the data name no patients.

Images of one patient, or of one field of view, resemble each other. If they are on two sides of a
split, a model is tested on what it has learned by heart. Where nobody noted the patients, two signs
of them remain: near duplicates, and the order of the file names. Either gives group numbers, and
`grouped` makes groups count as patients, so that the splits keep them whole.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional

from hemafl_lib.data.cohort import Cohort, CohortKind
from hemafl_lib.errors import PartitionError
from hemafl_lib.partition.dealing import labels_of
from hemafl_lib.partition.stain import BLOCK

HASH_SIDE = 16
GREY = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
COMPARED = 1024
"""Images that are compared with all others at once, which bounds the memory."""


def average_hash(images: Tensor) -> np.ndarray:
    """Return 256 bits of each image: where a 16 x 16 grey miniature is brighter than its mean.

    ``images`` is uint8[N, 3, H, W]; the result bool[N, 256].
    """
    miniatures = [
        functional.adaptive_avg_pool2d((GREY * block.float()).sum(dim=1), HASH_SIDE).flatten(1)
        for block in images.split(BLOCK)
    ]
    grey = torch.cat(miniatures)
    return (grey > grey.mean(dim=1, keepdim=True)).numpy()


def near_duplicates(images: Tensor, *, distance: int = 4) -> np.ndarray:
    """Number the groups of images that look the same: int64[N], from 0 in the order of the images.

    Two images are near duplicates if at most ``distance`` of the 256 bits of their `average_hash`
    differ. Groups are the connected components: near duplicates of near duplicates belong together.
    An image without any is a group of its own. Mirrored and turned copies are not found.

    Parameters
    ----------
    images
        uint8[N, 3, H, W].
    distance
        0 to 255 bits. With 4, 3.7 % of the Taleqani images have a near duplicate.

    Raises
    ------
    PartitionError
        If ``distance`` is out of range or there are no images.
    """
    if not 0 <= distance < HASH_SIDE**2:
        raise PartitionError(f"'distance' is {distance}; give 0 to {HASH_SIDE**2 - 1} bits.")
    if len(images) == 0:
        raise PartitionError("there are no images to compare; give at least one.")
    hashes, of_image = np.unique(average_hash(images), axis=0, return_inverse=True)
    first, second = _close(hashes, distance)
    links = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(len(hashes), len(hashes)))
    component = connected_components(links, directed=False)[1]
    return pd.factorize(component[of_image])[0].astype(np.int64)


def _close(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two ends of every pair of hashes bool[M, B] that differ in at most ``distance`` bits."""
    signs = torch.from_numpy(hashes).float() * 2 - 1
    pairs = []
    for start in range(0, len(signs), COMPARED):
        # The product of two rows of signs is the number of equal bits less the number of different ones.
        agreement = signs[start : start + COMPARED] @ signs.T
        near = torch.nonzero(agreement >= signs.shape[1] - 2 * distance)
        pairs.append(near + torch.tensor([start, 0]))
    first, second = torch.cat(pairs).T.numpy()
    return first, second


def contiguous_blocks(cohort: Cohort, *, block: int = 37) -> np.ndarray:
    """Number blocks of neighbouring rows within each class of each site: int64[N], from 0.

    Images of one patient were mostly photographed and numbered one after the other, so blocks of
    neighbours stand for patients as well as the file names allow. The rows must be in the order of the
    files, as the readers return them.

    Parameters
    ----------
    block
        Rows in a block, about: a class is cut into the number of equal blocks that comes nearest. The
        default mimics the 89 patients of the 3,256 Taleqani images, and gives 89 blocks there.

    Raises
    ------
    PartitionError
        If ``block`` is below 1.
    """
    if block < 1:
        raise PartitionError(f"'block' is {block}; give the number of rows in a block, at least 1.")
    groups = np.empty(len(cohort), dtype=np.int64)
    blocks_so_far = 0
    kinds = pd.DataFrame({"site": cohort.site, "label": labels_of(cohort)})
    for rows in kinds.groupby(["site", "label"]).indices.values():
        blocks = max(1, round(len(rows) / block))
        groups[rows] = blocks_so_far + np.arange(len(rows)) * blocks // len(rows)
        blocks_so_far += blocks
    return groups


def grouped(cohort: CohortKind, groups: ArrayLike) -> CohortKind:
    """Return a cohort whose groups count as patients, so that ``split_by="patient"`` keeps them whole.

    The patients that the cohort named before are forgotten.

    Parameters
    ----------
    groups
        int[N]: the group of every row (see `near_duplicates` and `contiguous_blocks`).

    Raises
    ------
    PartitionError
        If there is not one whole number a row.
    """
    numbers = np.asarray(groups)
    if numbers.shape != (len(cohort),) or not np.issubdtype(numbers.dtype, np.integer):
        raise PartitionError(
            f"'groups' holds {numbers.dtype} of shape {numbers.shape}; give one whole number for each of "
            f"the {len(cohort)} rows."
        )
    return replace(cohort, patient=np.array([f"group-{number}" for number in numbers.tolist()], dtype=str))
