"""A federation of real hospitals: its keys, its programs, and apps that read each hospital's own data.

`create` makes a federation's folder with a bundle for each hospital; `serve` and `join` start Flower's
programs at the server and at a hospital. The apps, `server.app` and `node.app`, train a network on
images or tables, or compute statistics, and leave a model, its card and a report in a new folder.

Budget: 1,400 lines.
"""

from hemafl_lib.hospitals.folder import Bundle, Federation, create, open_bundle, open_federation
from hemafl_lib.hospitals.joining import join
from hemafl_lib.hospitals.serving import serve
from hemafl_lib.hospitals.settings import APPS, read_run_file, run_config

__all__ = [
    "APPS",
    "Bundle",
    "Federation",
    "create",
    "join",
    "open_bundle",
    "open_federation",
    "read_run_file",
    "run_config",
    "serve",
]
