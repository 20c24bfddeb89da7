"""The fingerprint of the code that decides a result's numbers, by module.

A result is computed by definitions: functions, classes and constants of the two packages. The fingerprint
holds every definition that is reached by its name from where the computation begins (a paper's ``run`` and
``protocol``, an explorer's ``SWEEP``), through all imports. A class is taken whole, a module that is handed
on as a value too, and what a module does when it is imported. Of each definition its syntax tree counts: no
comments, docstrings, annotations or formatting, not the sentence of an error, and of an import what its names
mean, not where it stands. `SPARED` modules, which move no number, are not followed. What other packages do is
told by their versions, which a result also holds.

A definition that is chosen by text (``import_module``, ``getattr`` of a module) is not seen.

Budget: 270 lines.
"""

import ast
import hashlib
import symtable
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CODE = Path(__file__).resolve().parents[1]
"""The folder of both packages: a checkout, or where they were installed."""

SPARED = (
    # What a user asks for instead of the paper's own; a frozen result is of the paper's own.
    "hemafl_book.papers.changes",
    "hemafl_book.papers.offer",
    # Who watches, and how results, finished pieces and models are kept.
    "hemafl_book.fingerprint",
    "hemafl_book.papers.kept",
    "hemafl_book.papers.running",
    "hemafl_book.results",
    "hemafl_lib.errors",
    "hemafl_lib.files",
    "hemafl_lib.models.model_file",
    "hemafl_lib.progress",
    # What is said of data, and how they come here; what is read has a checksum of its own.
    "hemafl_lib.data.accounts",
    "hemafl_lib.data.cards",
    "hemafl_lib.data.checking",
    "hemafl_lib.data.fetching",
    "hemafl_lib.data.findings",
    # Engines with processes of their own; frozen results are computed on the local one.
    "hemafl_lib.federation.engines.deployment",
    "hemafl_lib.federation.engines.ray",
)
"""Modules, and what lies below them, that decide no frozen number."""

SILENT = ("annotation", "ctx", "kind", "returns", "type_comment", "type_ignores", "type_params")
"""Parts of a syntax tree that do not count, or that not every Python has."""

Fingerprint = dict[str, str]
"""The first 16 hexadecimal digits of a SHA-256 over the reached definitions of each module, by its name."""

Place = tuple[str, str]
"""A definition: its module and its name."""


@dataclass(frozen=True)
class Module:
    """A module's definitions by name, its imports as (module, name or "") by the name they get, and the rest.

    The rest is what runs when it is imported and binds no name, such as a call.
    """

    name: str
    definitions: Mapping[str, Sequence[ast.stmt]]
    imports: Mapping[str, Place]
    rest: Sequence[ast.stmt]


def fingerprint(module: str, names: Sequence[str] = (), root: Path = CODE) -> Fingerprint:
    """Return the fingerprint of what ``names`` of a module reach, or all of its names if none is given.

    ``root`` holds the packages. A module that does not lie there has no fingerprint.
    """
    begin = read(root, module)
    found: dict[Place, str] = {}
    waiting = [(module, name) for name in names or (begin.definitions if begin else ())]
    while waiting:
        place = waiting.pop()
        there = read(root, place[0])
        if there is None or place in found:
            continue
        statements = there.rest if place[1] == "" else there.definitions[place[1]]
        meant = [each for statement in statements for each in meanings(root, there, statement)]
        found[place] = "\n".join(
            [*map(dump, statements), *sorted({f"{name} is {is_}" for name, is_ in meant})]
        )
        waiting += [(place[0], ""), *(each for _, each in meant)]
    return summed(found)


def summed(found: Mapping[Place, str]) -> Fingerprint:
    """Return the digest of each module's definitions; a module of which nothing counts is left out."""
    by_module: dict[str, list[str]] = defaultdict(list)
    for (module, name), text in sorted(found.items()):
        if text:
            by_module[module].append(f"{name}\n{text}")
    return {
        name: hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] for name, texts in by_module.items()
    }


@cache
def read(root: Path, name: str) -> Module | None:
    """Return a module that lies under ``root``; None for any other, and for those that are spared."""
    if any(name == spared or name.startswith(f"{spared}.") for spared in SPARED):
        return None
    path = root.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return parse(name, file.read_text(encoding="utf-8")) if file.is_file() else None


def parse(name: str, source: str) -> Module:
    """Sort the statements of a module."""
    definitions: dict[str, list[ast.stmt]] = defaultdict(list)
    imports: dict[str, Place] = {}
    rest = []
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imports |= imported(statement)
        elif bound := names_bound(statement):
            for each in bound:
                definitions[each].append(statement)
        elif not is_text(statement) and not for_types_only(statement):
            rest.append(statement)
    return Module(name, definitions, imports, rest)


def imported(statement: ast.Import | ast.ImportFrom) -> dict[str, Place]:
    """Return what an import binds. The packages import by whole names only."""
    if isinstance(statement, ast.ImportFrom):
        return {alias.asname or alias.name: (statement.module or "", alias.name) for alias in statement.names}
    return {
        alias.asname or alias.name.partition(".")[0]: (
            alias.name if alias.asname else alias.name.partition(".")[0],
            "",
        )
        for alias in statement.names
    }


def names_bound(statement: ast.stmt) -> list[str]:
    """Return the names that a definition or an assignment binds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [
            node.id
            for target in targets
            for node in ast.walk(target)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ]
    return []


def is_text(statement: ast.stmt) -> bool:
    """Tell whether a statement is a docstring, of whatever."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def is_silent(statement: ast.stmt) -> bool:
    """Tell whether a statement moves no number: a text, or an import, whose names count by their meaning."""
    return is_text(statement) or isinstance(statement, ast.Import | ast.ImportFrom)


def for_types_only(statement: ast.stmt) -> bool:
    """Tell whether a statement is run for the type checker only."""
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"


# What a name means


def meanings(root: Path, module: Module, statement: ast.stmt) -> Iterator[tuple[str, Place]]:
    """Yield the dotted names of a statement that are not its own, each with what it means."""
    inner = (node for node in ast.walk(statement) if isinstance(node, ast.Import | ast.ImportFrom))
    imports = {**module.imports, **{name: place for node in inner for name, place in imported(node).items()}}
    free = free_names(statement)
    for chain in dotted_names(statement):
        if chain[0] in free:
            yield from ((".".join(chain), place) for place in resolve(root, module, imports, chain))


def resolve(
    root: Path, module: Module, imports: Mapping[str, Place], chain: Sequence[str]
) -> Iterator[Place]:
    """Yield what a dotted name means in a module: a definition, behind any number of imports."""
    name, *attributes = chain
    if name in module.definitions:
        yield module.name, name
    elif imports.get(name) == (module.name, name):  # a package imports a module of its own
        yield from within(root, f"{module.name}.{name}", attributes)
    elif name in imports:
        source, attribute = imports[name]
        yield from within(root, source, [attribute, *attributes] if attribute else attributes)


def within(root: Path, name: str, chain: Sequence[str]) -> Iterator[Place]:
    """Yield what a dotted name means in the module of a name; all definitions of it if there is no more.

    In a module that is not read, a name means itself.
    """
    module = read(root, name)
    if module is None:
        yield name, ".".join(chain)
    elif not chain:
        yield from ((name, each) for each in module.definitions)
    elif chain[0] in module.definitions or chain[0] in module.imports:
        yield from resolve(root, module, module.imports, chain)
    else:
        yield from within(root, f"{name}.{chain[0]}", chain[1:])


def free_names(statement: ast.stmt) -> set[str]:
    """Return the names that a statement takes from its module, or imports itself."""
    return set(free_in(symtable.symtable(ast.unparse(statement), "definition", "exec")))


def free_in(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the free names of a scope and of those inside it."""
    for symbol in table.get_symbols():
        outermost = table.get_type() == "module"
        if symbol.is_imported() or (symbol.is_referenced() and (outermost or symbol.is_global())):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from free_in(inner)


def dotted_names(node: ast.AST) -> Iterator[list[str]]:
    """Yield every name in a syntax tree with the attributes behind it, but none of an annotation."""
    chain, parts = node, []
    while isinstance(chain, ast.Attribute):
        parts.append(chain.attr)
        chain = chain.value
    if isinstance(chain, ast.Name):
        yield [chain.id, *reversed(parts)]
        return
    for name, value in ast.iter_fields(node):
        if name not in SILENT:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from dotted_names(child)


def dump(node: object) -> str:
    """Return what counts of a syntax tree as text, the same in every Python."""
    if isinstance(node, list):
        return (
            "["
            + ",".join(dump(each) for each in node if not (isinstance(each, ast.stmt) and is_silent(each)))
            + "]"
        )
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        return dump(ast.Raise(exc=node.exc.func, cause=node.cause))
    if isinstance(node, ast.AST):
        parts = (f"{name}={dump(value)}" for name, value in ast.iter_fields(node) if name not in SILENT)
        return f"{type(node).__name__}({','.join(parts)})"
    return repr(node)
