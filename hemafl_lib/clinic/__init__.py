"""The clinic: a trained model that a person can have, question, and be warned by.

`save` and `load` keep a model with its card, which says how good it is where. `answer` gives calibrated
probabilities, the classes that cannot be ruled out, and a warning for what is no image of the kind that the
model knows. `measured` measures all this for a trained network. Not a medical device.

Budget: 1,700 lines.
"""

from hemafl_lib.clinic.answers import Answers, answer
from hemafl_lib.clinic.card import Attentive, Card, Kind, Layered, Refused, Scope, Score, Sets
from hemafl_lib.clinic.measuring import Place, Views, measured
from hemafl_lib.clinic.page import TARGETS, export, page_model
from hemafl_lib.clinic.report import explain, warnings_of
from hemafl_lib.clinic.rounding import quantise, restore, rounded
from hemafl_lib.clinic.saved import SavedModel, as_saved, load, save
from hemafl_lib.clinic.scope import colour_statistics, distances, feature_means, fit_scope
from hemafl_lib.clinic.tables import DISCLAIMER, Predictions, as_csv, predict

__all__ = [
    "DISCLAIMER",
    "TARGETS",
    "Answers",
    "Attentive",
    "Card",
    "Kind",
    "Layered",
    "Place",
    "Predictions",
    "Refused",
    "SavedModel",
    "Scope",
    "Score",
    "Sets",
    "Views",
    "answer",
    "as_csv",
    "as_saved",
    "colour_statistics",
    "distances",
    "explain",
    "export",
    "feature_means",
    "fit_scope",
    "load",
    "measured",
    "page_model",
    "predict",
    "quantise",
    "restore",
    "rounded",
    "save",
    "warnings_of",
]
