"""What every site runs, as a value that any engine can bring to it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from flwr.clientapp import ClientApp
from torch import nn

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.description import describe, restore
from hemafl_lib.files import read_json, write_json
from hemafl_lib.models import own_layers
from hemafl_lib.partition import Site

FILE = "site-app.json"


class SiteApp(ABC):
    """A frozen dataclass of plain values, models and such values, from which a site makes its client app.

    The local engine hands it to threads, Ray pickles it, and the deployment engine leaves it in a folder
    (`store_app`) where each node finds it (`load_app`).
    """

    @abstractmethod
    def make_app(
        self, load_site: Callable[[int], Site], stop: Callable[[], bool] = lambda: False
    ) -> ClientApp:
        """Return the Flower app of a site.

        ``load_site`` maps its "partition-id" to its data, and ``stop`` says whether to end early.
        """

    def own_layers(self) -> list[str]:
        """Return the classes in its models that are no library's, which `load_app` has to be allowed."""
        models = [value for value in vars(self).values() if isinstance(value, nn.Module)]
        return sorted({name for model in models for name in own_layers(model)})


def store_app(app: SiteApp, folder: Path) -> None:
    """Write into ``folder`` what `load_app` needs; raise `FederationError` or `ModelError` if it cannot."""
    write_json(folder / FILE, describe(app, folder, "site-app"))


def load_app(folder: Path, allow: Sequence[type[nn.Module]] = ()) -> SiteApp:
    """Read what `store_app` wrote; ``allow`` holds the layers of your own that its model may have.

    Raises `FederationError` if it is no app of the library, and `ModelError` if its model cannot be read.
    """
    app = restore(read_json(folder / FILE), folder, allow)
    if not isinstance(app, SiteApp):
        raise FederationError(f"{folder / FILE} describes no site app; store it again.")
    return app
