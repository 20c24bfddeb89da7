"""The explorer of saliency in JupyterLab: any cell, any model, any method, side by side.

`explorer` is what a notebook shows. `desk` holds what lies on the reader's desk, `looking` and `trust`
compute, `screen` says it in HTML, and `panel` alone knows widgets. Not a medical device.
"""

from hemafl_book.clinic.explorer.faces import explorer

__all__ = ["explorer"]
