"""Which node is which hospital.

A message goes to a node, so its reply belongs to that node, whatever it says of itself. An engine that has
started the nodes itself knows which is which. Otherwise a node's first reply says it, unless another node
says the same, and it holds for the rest of the run.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from flwr.serverapp import Grid

from hemafl_lib.errors import FederationError, one_line
from hemafl_lib.federation.flower_private import RunGrid

MOST = 1_000_000
"""More sites than a run can have."""

LONGEST = 100
"""Characters that a hospital's name may have."""


@dataclass(frozen=True)
class Seat:
    """Which of the sites a node is: its "partition-id" and the site's name, each None as long as unknown."""

    number: int | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        """Raise `FederationError` for a number or a name that no site can have."""
        number, name = self.number, self.name
        if number is not None and (type(number) is not int or not 0 <= number < MOST):
            raise FederationError(f"its partition-id is {shown(number)}, not a whole number from 0 on")
        if name is not None and (type(name) is not str or not name.isprintable() or not name.strip()):
            raise FederationError(f"its site's name {shown(name)} is no line of text")
        if name is not None and len(name) > LONGEST:
            raise FederationError(f"its site's name has more than {LONGEST} characters")


NOTHING = Seat()

PARTS = {
    "number": "its partition-id {} is also that of {}; start each node with its own",
    "name": "its site's name '{}' is also that of {}; give each node its own",
}
"""What no two nodes may share, and what is said where they do."""


class Roster:
    """The nodes of a run and which site each of them is.

    Parameters
    ----------
    names
        Names of the sites by their number, where they are known; otherwise the nodes tell them.

    Attributes
    ----------
    seats
        Which site a node is, as far as it is known.
    asked
        Nodes that were asked once and may be missed.
    present
        Nodes that were asked last.
    awaited
        Those of them whose replies were not read yet.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self.seats: dict[int, Seat] = {}
        self.asked: set[int] = set()
        self.present: set[int] = set()
        self.awaited: set[int] = set()

    def name(self, node: int) -> str:
        """Return the name of the site that a node is, else its node's number."""
        return self.seats.get(node, NOTHING).name or f"node {node}"

    def order(self, node: int) -> tuple[int, int]:
        """Order nodes by site, so that sums do not depend on who answers first or on the nodes' numbers."""
        number = self.seats.get(node, NOTHING).number
        return (1, node) if number is None else (0, number)

    def call(self, nodes: Collection[int], grid: Grid) -> list[int]:
        """Note the nodes that are asked now; return those asked before that are gone, in their order.

        A node that has never said which site it is, is missed once and then forgotten.
        """
        if isinstance(grid, RunGrid) and not self.seats:
            self.seats = {node: self._whole(Seat(number)) for node, number in grid.site_numbers().items()}
        self.present = self.awaited = set(nodes)
        gone = sorted(self.asked - self.present, key=self.order)
        self.asked = {node for node in self.asked if node in self.seats} | self.present
        return gone

    def admit(self, claims: Mapping[int, Seat], places: int) -> dict[int, str]:
        """Learn what nodes say of themselves; return why a node's reply is refused, by node.

        ``places`` is how many sites there can be. Of two nodes that say the same both are refused, unless one
        of them is known to be right. A site whose node has left may come back on another.
        """
        new = {node: claim for node, claim in claims.items() if self._is_new(node, claim)}
        if not new:
            return {}
        wrong = {node: reason for node, claim in new.items() if (reason := self._lie(node, claim, places))}
        seats = {node: self._merged(node, claim) for node, claim in new.items() if node not in wrong}
        for part, what in PARTS.items():
            known = {getattr(self.seats[node], part): node for node in self.present & self.seats.keys()}
            for value, nodes in group(seats, part).items():
                holder = known.get(value)
                for node in nodes:
                    others = [other for other in dict.fromkeys([holder, *nodes]) if other not in (None, node)]
                    if others and node != holder:
                        wrong.setdefault(node, what.format(value, ", ".join(f"node {n}" for n in others)))
        self._seat({node: seat for node, seat in seats.items() if node not in wrong})
        return wrong

    def _is_new(self, node: int, claim: Seat) -> bool:
        """Return whether a node says something that is not yet known of it."""
        return node not in self.seats or claim not in (NOTHING, self.seats[node])

    def _whole(self, seat: Seat) -> Seat:
        """Return the seat with the name that belongs to its number, where that is known."""
        number = seat.number
        return Seat(number, self.names[number]) if self.names and number is not None else seat

    def _merged(self, node: int, claim: Seat) -> Seat:
        """Return what is known of a node, completed by what it says."""
        known = self.seats.get(node, NOTHING)
        number = claim.number if known.number is None else known.number
        return self._whole(Seat(number, known.name or claim.name))

    def _lie(self, node: int, claim: Seat, places: int) -> str | None:
        """Return what a node says of itself that cannot be, or None."""
        known, number = self.seats.get(node, NOTHING), claim.number
        if number is not None and known.number not in (None, number):
            return f"it says that its partition-id is {number}, and it is {known.number}"
        if number is not None and number >= places:
            return f"its partition-id is {number}; with {places} sites it can be 0 to {places - 1}"
        right = self._merged(node, claim).name
        if claim.name not in (None, right):
            return f"it says that it is site '{claim.name}', and it is '{right}'"
        return None

    def _seat(self, seats: Mapping[int, Seat]) -> None:
        """Note which sites nodes are, and forget the nodes on which these sites were before."""
        taken = {value for part in PARTS for value in group(seats, part)}
        for node in self.seats.keys() - self.present:
            if taken & {self.seats[node].number, self.seats[node].name}:
                del self.seats[node]
                self.asked.discard(node)
        self.seats |= seats


def shown(value: object) -> str:
    """Return a value of somebody else's as a sentence quotes it."""
    try:
        return one_line(repr(value))
    except ValueError:  # Python writes no number of thousands of digits
        return "a number of thousands of digits"


def group(seats: Mapping[int, Seat], part: str) -> dict[object, list[int]]:
    """Return the nodes by what they say as their "number" or "name"; who says nothing is left out."""
    found: dict[object, list[int]] = {}
    for node, seat in seats.items():
        if (value := getattr(seat, part)) is not None:
            found.setdefault(value, []).append(node)
    return found
