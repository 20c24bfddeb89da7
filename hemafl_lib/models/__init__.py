"""Models: the attention CNN, pretrained backbones with a frozen prefix, and what becomes of their norms.

Image models take float32[B, 3, H, W] in [0, 1], normalise by themselves, and return logits [B, C].
"""

from hemafl_lib.models.attention_cnn import AttentionCNN
from hemafl_lib.models.backbones import BACKBONES, Backbone, backbone
from hemafl_lib.models.export import to_onnx
from hemafl_lib.models.norms import with_norm
from hemafl_lib.models.prefix import SplitModel, activations, trained_part
from hemafl_lib.models.weights import RandomWeightsWarning

__all__ = [
    "BACKBONES",
    "AttentionCNN",
    "Backbone",
    "RandomWeightsWarning",
    "SplitModel",
    "activations",
    "backbone",
    "to_onnx",
    "trained_part",
    "with_norm",
]
