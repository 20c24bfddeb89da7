"""DeepSurv: a multilayer perceptron in the place of the Cox model's weighted sum.

Katzman et al., "DeepSurv: personalized treatment recommender system using a Cox proportional hazards deep
neural network", BMC Medical Research Methodology 18:24, 2018. The network says by how much the logarithm
of a patient's hazard differs from that of others, at all times alike. It is trained with the loss "cox"
of a `Recipe`. The paper's dropout is left out, because it would draw from torch's global generator; weight
decay restrains the network instead.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from hemafl_lib.errors import ModelError
from hemafl_lib.seeds import initialised

Activation = Literal["relu", "selu", "tanh"]
ACTIVATIONS = {"relu": nn.ReLU, "selu": nn.SELU, "tanh": nn.Tanh}


class DeepSurv(nn.Module):
    """Hidden layers, and one weighted sum of the last one's values.

    Parameters
    ----------
    features
        Number of features F; they should have mean 0 and standard deviation 1, and no value missing.
    hidden
        Values in each hidden layer. With none, ``()``, this is the Cox model itself.
    activation
        What follows each hidden layer: "relu", "selu" or "tanh".
    seed
        Of the initial parameters.

    Raises
    ------
    ModelError
        If a number of features or values is below 1, or the activation is unknown.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int] = (32, 32),
        *,
        activation: Activation = "relu",
        seed: int = 0,
    ) -> None:
        super().__init__()
        widths = [features, *hidden]
        if min(widths) < 1:
            raise ModelError(f"DeepSurv: features={features} and hidden={tuple(hidden)} must be at least 1.")
        if activation not in ACTIVATIONS:
            raise ModelError(
                f"activation '{activation}' is unknown; choose one of: {', '.join(ACTIVATIONS)}."
            )
        self.hidden = nn.Sequential()
        with initialised(seed, "deepsurv"):
            for number in range(len(hidden)):
                linear = nn.Linear(widths[number], widths[number + 1])
                layer = OrderedDict(linear=linear, activation=ACTIVATIONS[activation]())
                self.hidden.append(nn.Sequential(layer))
            # The partial likelihood does not see a constant, so there is none to learn.
            self.head = nn.Linear(widths[-1], 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the log-risk float32[B, 1] of ``features`` float32[B, F]; higher means earlier."""
        return self.head(self.hidden(features))
