"""One cohort becomes sites, and how different those sites are.

``sites`` cuts a cohort, in each of the ways that ``SCHEMES`` names, ``groups`` finds what
should stay together in a cut, ``stain`` gives sites colours of their own and ``normalisation`` takes them
away, ``divergence`` measures label skew.

Budget: 1200 lines.
"""

from hemafl_lib.partition.dealing import Unit
from hemafl_lib.partition.divergence import (
    divergence_table,
    earth_movers,
    jensen_shannon,
    kl,
    label_distribution,
    total_variation,
)
from hemafl_lib.partition.groups import average_hash, contiguous_blocks, grouped, near_duplicates
from hemafl_lib.partition.normalisation import (
    dye_densities,
    federated_reference,
    lab_statistics,
    macenko,
    macenko_images,
    reinhard,
    reinhard_images,
)
from hemafl_lib.partition.sites import (
    ATTEMPTS,
    PARTS,
    SCHEMES,
    Scheme,
    Site,
    Within,
    dirichlet,
    iid,
    natural,
    pathological,
    power_law,
    quantity,
    split,
)
from hemafl_lib.partition.stain import DYES, Stain, draw_stain, restain, restain_images, stained

__all__ = [
    "ATTEMPTS",
    "DYES",
    "PARTS",
    "SCHEMES",
    "Scheme",
    "Site",
    "Stain",
    "Unit",
    "Within",
    "average_hash",
    "contiguous_blocks",
    "dirichlet",
    "divergence_table",
    "draw_stain",
    "dye_densities",
    "earth_movers",
    "federated_reference",
    "grouped",
    "iid",
    "jensen_shannon",
    "kl",
    "lab_statistics",
    "label_distribution",
    "macenko",
    "macenko_images",
    "natural",
    "near_duplicates",
    "pathological",
    "power_law",
    "quantity",
    "reinhard",
    "reinhard_images",
    "restain",
    "restain_images",
    "split",
    "stained",
    "total_variation",
]
