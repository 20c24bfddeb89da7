"""Models: the attention CNN, pretrained backbones with a frozen prefix, and models of tables.

Image models take float32[B, 3, H, W] in [0, 1], normalise by themselves, and return logits [B, C]. Models
of tables take float32[B, F] and return logits [B, C] or, for survival, a log-risk [B, 1].
"""

from hemafl_lib.models.attention_cnn import AttentionCNN
from hemafl_lib.models.backbones import BACKBONES, Backbone, backbone
from hemafl_lib.models.deepsurv import DeepSurv
from hemafl_lib.models.export import to_onnx
from hemafl_lib.models.logistic import LogisticRegression
from hemafl_lib.models.norms import with_norm
from hemafl_lib.models.penalised import LogisticFit, firth_logistic, ridge_cox, ridge_logistic
from hemafl_lib.models.prefix import SplitModel, activations, trained_part
from hemafl_lib.models.weights import RandomWeightsWarning

__all__ = [
    "BACKBONES",
    "AttentionCNN",
    "Backbone",
    "DeepSurv",
    "LogisticFit",
    "LogisticRegression",
    "RandomWeightsWarning",
    "SplitModel",
    "activations",
    "backbone",
    "firth_logistic",
    "ridge_cox",
    "ridge_logistic",
    "to_onnx",
    "trained_part",
    "with_norm",
]
