"""Rules that a reader relies on: which way imports run, what a module may be called, how long it is."""

from __future__ import annotations

import ast
import importlib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import steadygaze
from steadygaze.perturbation.chain import AbstractPerturbation

PACKAGE = Path(steadygaze.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in PACKAGE.rglob("*.py")
}
# From the ground up: a part imports from the lines above its own, or from its own folder.
LEVELS = [
    ["deadline", "errors", "placing", "tolerance"],
    ["answer", "geometry", "terminal"],
    ["enclosing"],
    ["network", "perturbation", "report"],
    ["question"],
    ["search"],
    ["certificate"],
    ["verdict"],
    ["campaign", "digits", "export"],
    ["aggregate"],
    ["overview"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
# Within `network/bounding`, likewise; what stands outside its folders is above them.
BOUNDING = ["curves", "forms", "rows", "anchors", "taylor"]
LEVEL = {part: height for height, parts in enumerate(LEVELS) for part in parts}
REPORT_MAY_IMPORT = {"answer", "errors", "geometry", "placing", "report"}
ATTICS = {"utils", "util", "helpers", "helper", "misc", "common", "tools", "shared"}
LONGEST_FILE, LONGEST_FUNCTION = 450, 80
# The modules that import from the package later than at their top, and why.
LATE = {
    "": "the public list: nothing slow is imported before it is asked for",
    "__main__": "all: Ctrl-C is heeded while it is read in",
    "campaign": "its public list, as above",
    "campaign.content": "torch, where a model keeps its weights in other files",
    "campaign.pool": "torch, in the worker processes alone",
    "cli": "--help answers at once",
    "commands.campaign": "--help answers at once",
    "commands.campaign_words": "--help answers at once",
    "commands.compare": "--help answers at once",
    "commands.crews": "--help answers at once; Ray is optional",
    "commands.gate": "--help answers at once",
    "commands.layers": "--help answers at once",
    "enclosing.curves": "numba, where angles are known to lie in ranges",
    "enclosing.enclosures": "numba, where two of them are added up or multiplied",
    "perturbation.resampling": "numba, where images are read over boxes",
    "report": "matplotlib and jinja2, where something is drawn or written",
    "report.still": "matplotlib, where a picture is asked for or nobody can point into the map",
}


def imported(path: Path) -> set[str]:
    """The parts of the package that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "steadygaze":
            names |= {f"steadygaze.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return {name.split(".")[1] for name in names if name.startswith("steadygaze.")}


def module_of(name: str) -> str | None:
    """The module that ``steadygaze.a.b`` names, or that holds b; None outside the package."""
    own = name.removeprefix("steadygaze.") if name != "steadygaze" else ""
    if name != "steadygaze" and own == name:
        return None
    return own if own in MODULES else own.rpartition(".")[0]


def modules_in(tree: ast.AST) -> set[str]:
    """The modules of the package that a piece of code imports, wherever in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module for module in map(module_of, names) if module is not None}


def late_imports(path: Path) -> set[str]:
    """The modules that a file imports inside functions, or for type checkers alone."""
    late = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        or (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
    ]
    return set().union(*map(modules_in, late))


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: modules_in(ast.parse(path.read_text())) for module, path in MODULES.items()}
    order = TopologicalSorter({module: others - {module} for module, others in graph.items() if module})
    order.prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_stand_at_the_top(module):
    late = late_imports(MODULES[module])
    assert module in LATE or not late, f"{module} imports {sorted(late)} late: say why in LATE, or do not"
    assert module not in LATE or late, f"{module} imports nothing late any more"


@pytest.mark.parametrize("module", sorted(set(MODULES) - {""}))
def test_imports_run_one_way(module):
    part = module.split(".")[0]
    assert part in LEVEL, f"{part} is new: give it its place in LEVELS"
    upward = {other for other in imported(MODULES[module]) if other != part and LEVEL[other] >= LEVEL[part]}
    assert not upward, f"{module} imports {sorted(upward)}, which do not stand below it"
    if part == "report":
        assert imported(MODULES[module]) <= REPORT_MAY_IMPORT


@pytest.mark.parametrize("part", BOUNDING)
def test_bounds_are_built_one_way(part):
    above = {other for other in PACKAGE.joinpath("network", "bounding").iterdir() if other.is_dir()}
    assert {other.name for other in above} - {"__pycache__"} == set(BOUNDING), "a new folder has no place"
    allowed = BOUNDING[: BOUNDING.index(part) + 1]
    for module in (name for name in MODULES if name.startswith(f"network.bounding.{part}.")):
        read = modules_in(ast.parse(MODULES[module].read_text()))
        own = {name.split(".")[2] for name in read if name.startswith("network.bounding.")}
        assert own <= set(allowed), f"{module} imports {sorted(own - set(allowed))}"


def test_what_both_readers_share_knows_of_neither():
    shared = {name for name in MODULES if name.startswith("network.reading.assembling")}
    read = set().union(*(modules_in(ast.parse(MODULES[name].read_text())) for name in shared))
    assert {name for name in read if name.startswith("network.reading")} <= shared


def test_gradients_of_onnx_files_know_nothing_of_the_reader():
    """Which asks them: they are what it is held against."""
    own = {name for name in MODULES if name.startswith("network.reading.onnx_gradients")}
    read = set().union(*(modules_in(ast.parse(MODULES[name].read_text())) for name in own))
    assert {name for name in read if name.startswith("network.reading")} <= own


def test_no_module_is_an_attic():
    assert not [module for module in MODULES if ATTICS & set(module.split("."))]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_files_and_functions_are_short(module):
    source = MODULES[module].read_text()
    assert source.count("\n") <= LONGEST_FILE
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    assert not [node.name for node in functions if lines_of_code(node) > LONGEST_FUNCTION]


def lines_of_code(node: ast.FunctionDef) -> int:
    """Lines from ``def`` to the end; not those of the docstring, so that it can say all."""
    documented = ast.get_docstring(node) is not None
    told = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
    return node.end_lineno - node.lineno + 1 - told


@pytest.mark.parametrize("module", sorted(MODULES))
def test_constants_are_named_once(module):
    """One of two by the same name would be the other's."""
    named = [
        target.id
        for node in ast.parse(MODULES[module].read_text()).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    assert sorted(named) == sorted(set(named))


def test_the_public_list_is_sorted_and_complete():
    public = steadygaze.__all__
    assert list(public) == sorted(public)
    assert not [name for name in public if not hasattr(steadygaze, name)]
    assert set(public) <= set(dir(steadygaze))
    families = [name for name in MODULES if name == "errors" or name.startswith("perturbation.")]
    members = [
        value.__name__
        for module in map(importlib.import_module, (f"steadygaze.{name}" for name in families))
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, (Exception, AbstractPerturbation))
    ]
    final = {name for name in members if not name.startswith(("Abstract", "_"))}
    assert final <= set(public), "errors and perturbations are for users: they belong in the public list"


_COMPILERS = ("kernel", "summing_kernel", "part", "spliced")


def is_kernel(node: ast.FunctionDef) -> bool:
    """Whether numba compiles it, and finds the types out for itself."""
    return any(ast.unparse(decorator) in _COMPILERS for decorator in node.decorator_list)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_public_function_is_annotated(module):
    tree = ast.parse(MODULES[module].read_text())
    assert ast.get_docstring(tree) or not tree.body, "a module starts with what it is for"
    bodies = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in (node for body in bodies for node in body.body):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not is_kernel(node):
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            assert not bare, f"{node.name} leaves {bare} without a type"
            assert node.returns is not None, f"{node.name} does not say what it returns"
