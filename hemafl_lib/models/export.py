"""The attention CNN as one ONNX file, which runs without Python: in a browser, on a phone."""

import copy
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from hemafl_lib.errors import ModelError
from hemafl_lib.files import replace_file
from hemafl_lib.models.attention_cnn import AttentionCNN


class WithActivations(nn.Module):
    """An attention CNN that returns, beside its logits, the feature maps they come from."""

    def __init__(self, model: AttentionCNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits [B, C] and the feature maps [B, D, h, w] of ``images``."""
        maps = self.model.features(images)
        return self.model.head(maps.mean(dim=(2, 3))), maps


def to_onnx(model: AttentionCNN, path: Path | str, *, size: int) -> None:
    """Write ``model`` as one ONNX file, weights included.

    For whom: who shows a model on a page that runs in the browser of the clinic, where no image leaves it.
    Its input ``images`` is float32[B, 3, size, size] in [0, 1], for any B. Its outputs are ``logits``
    float32[B, C] and ``activations`` float32[B, D, size // 8, size // 8]; the activations weighted with
    a row of the head's weights are the class activation map. The file names no path of this machine.

    Parameters
    ----------
    model
        In any mode and on any device; it is written as it predicts, and stays as it is.
    path
        Of the file, which is replaced if it exists.
    size
        Side of the images in pixels, at least 8.

    Raises
    ------
    ModelError
        If the model is another one, the size is too small, or the packages of the extra ``explain`` are
        not installed.
    DataError
        If the file cannot be written; it names where the model is instead.
    """
    if not isinstance(model, AttentionCNN):
        raise ModelError(f"{type(model).__name__} has no 'features' to export; give an AttentionCNN.")
    if size < 8:
        raise ModelError(f"size is {size}; give the side of the images in pixels, at least 8.")
    try:
        from onnxscript import ir
    except ImportError:
        raise ModelError("to_onnx needs onnxscript; run pip install 'hemafl_lib[explain]'.") from None
    exported = torch.onnx.export(
        WithActivations(copy.deepcopy(model).cpu()).eval(),
        (torch.zeros(2, 3, size, size),),
        dynamo=True,
        input_names=["images"],
        output_names=["logits", "activations"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        verbose=False,
    )
    program = cast(torch.onnx.ONNXProgram, exported)  # what ``dynamo`` returns
    # The exporter notes for each operation in which file and line it was written.
    ir.passes.common.ClearMetadataAndDocStringPass()(program.model)
    replace_file(Path(path), lambda temporary: program.save(temporary, external_data=False), rescue=True)
