"""Where does a model look, and can one believe it?

`saliency` gives a relevance map per image, `relevance` by any method of `ALL_METHODS`; the other modules
measure maps, always beside maps that know nothing of the model. A map says where the model looked, never that
it is right.

Budget: 1440 lines.
"""

from hemafl_lib.explain.baselines import centred_gaussian, edge_maps, random_maps
from hemafl_lib.explain.blended import BLENDED, blended_map
from hemafl_lib.explain.class_maps import CLASS_MAPS, class_map
from hemafl_lib.explain.faithfulness import REFERENCES, Curves, deletion, insertion
from hemafl_lib.explain.localisation import area_share, share_inside
from hemafl_lib.explain.maps import correlation, rank_correlation, sparsity, upsample
from hemafl_lib.explain.methods import ALL_METHODS, READ_FEATURE_MAPS, relevance
from hemafl_lib.explain.report import report_card
from hemafl_lib.explain.saliency import METHODS, cam, saliency
from hemafl_lib.explain.sanity import cascade, layer_groups, shuffle_weights
from hemafl_lib.explain.stability import shift_stability, stain_stability
from hemafl_lib.explain.tokens import with_grid

__all__ = [
    "ALL_METHODS",
    "BLENDED",
    "CLASS_MAPS",
    "METHODS",
    "READ_FEATURE_MAPS",
    "REFERENCES",
    "Curves",
    "area_share",
    "blended_map",
    "cam",
    "cascade",
    "centred_gaussian",
    "class_map",
    "correlation",
    "deletion",
    "edge_maps",
    "insertion",
    "layer_groups",
    "random_maps",
    "rank_correlation",
    "relevance",
    "report_card",
    "saliency",
    "share_inside",
    "shift_stability",
    "shuffle_weights",
    "sparsity",
    "stain_stability",
    "upsample",
    "with_grid",
]
