"""Models: the attention CNN, pretrained backbones with a frozen prefix, and models of tables.

Image models take float32[B, 3, H, W] in [0, 1], normalise by themselves, and return logits [B, C]. Models
of tables take float32[B, F] and return logits [B, C] or, for survival, a log-risk [B, 1]. The registry
``MODELS`` ties each network to its name; ``image_model`` and ``table_model`` make one by it.

timm, and torchvision with it, are imported inside the functions that use them: to load them takes longer than
PyTorch itself, and a command or a node that makes no network of theirs does without.

Budget: 2,050 lines.
"""

from hemafl_lib.models.attention_cnn import AttentionCNN, SqueezeExcitation, block
from hemafl_lib.models.backbones import BACKBONES, Backbone, backbone, build, require_weights
from hemafl_lib.models.deepsurv import DeepSurv
from hemafl_lib.models.export import to_onnx
from hemafl_lib.models.logistic import LogisticRegression
from hemafl_lib.models.model_file import load_model, own_layers, save_model
from hemafl_lib.models.norms import Norm, with_norm
from hemafl_lib.models.penalised import PenalisedLogistic, firth_logistic, ridge_cox, ridge_logistic
from hemafl_lib.models.prefix import SplitModel, activations, trained_part
from hemafl_lib.models.registry import MODELS, Model, image_model, table_model
from hemafl_lib.models.weights import RandomWeightsWarning

__all__ = [
    "BACKBONES",
    "MODELS",
    "AttentionCNN",
    "Backbone",
    "DeepSurv",
    "LogisticRegression",
    "Model",
    "Norm",
    "PenalisedLogistic",
    "RandomWeightsWarning",
    "SplitModel",
    "SqueezeExcitation",
    "activations",
    "backbone",
    "block",
    "build",
    "firth_logistic",
    "image_model",
    "load_model",
    "own_layers",
    "require_weights",
    "ridge_cox",
    "ridge_logistic",
    "save_model",
    "table_model",
    "to_onnx",
    "trained_part",
    "with_norm",
]
