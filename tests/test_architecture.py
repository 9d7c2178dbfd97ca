"""The floors of the house: imports go down only, and what is heavy is imported where it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "multimodal"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    **dict.fromkeys(("results", "files", "config"), 0),
    **dict.fromkeys(("layers", "preprocess", "distributed", "metrics", "generation"), 1),
    **dict.fromkeys(("encoders", "decoders", "losses", "datasets", "retrieval"), 2),
    "models": 3,
    "tasks": 4,
    **dict.fromkeys(("model", "zoo", "training", "evaluation"), 5),
    **dict.fromkeys(("cli", "web", "__init__", "__main__"), 6),
}
# Rooms of one floor that may import each other, in this direction only.
LEVEL = {
    ("results", "files"),
    ("zoo", "model"),
    ("training", "model"),
    ("training", "zoo"),
    ("training", "evaluation"),
    ("evaluation", "model"),
    ("web", "__init__"),
    ("cli", "__init__"),  # `import multimodal as mm`: the root loads a room when it is first used
    ("__main__", "cli"),
}
HEAVY = {"torchvision", "open_clip", "timm", "transformers", "matplotlib", "tokenizers", "PIL", "pandas", "scipy"}
TOP_LEVEL = {
    *("pyproject.toml", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"),
    *("multimodal", "data", "tests", "notebooks"),
}
MAX_LINES = 300


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every module that `path` imports, and whether it does so when it is itself imported."""
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, at_top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                assert child.module is not None
                full = [f"{child.module}.{alias.name}" for alias in child.names]
                found.extend((name if is_module(name) else child.module, at_top) for name in full)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            visit(child, at_top and not inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_keeps_the_rules(path):
    here = room(path)
    assert here in FLOORS, f"{here} is no room of the house"
    for name, at_top in imports(path):
        top, _, rest = name.partition(".")
        if top == "multimodal":
            assert at_top, f"{path}: imports {name} inside a function"
            there = rest.partition(".")[0] or "__init__"
            if there == here or there not in FLOORS:  # a name of the package, checked by its own file
                continue
            down = FLOORS[there] < FLOORS[here]
            assert down or (here, there) in LEVEL or here == "__init__", f"{path}: {here} imports {name}"
        elif at_top:
            assert top not in HEAVY, f"{path}: imports {name} when it is imported"
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path}: {lines} lines"


def test_no_circles():
    modules = {module_of(path): path for path in FILES}
    graph = {
        name: {target for target, _ in imports(path) if target in modules and target != name}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def walk(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle: {' -> '.join([*above, name])}"
        if name in done:
            return
        for target in sorted(graph[name]):
            walk(target, (*above, name))
        done.add(name)

    for name in graph:
        walk(name, ())


def test_the_rules_see_what_they_should(tmp_path):
    path = tmp_path / "x.py"
    path.write_text(
        "import a.b\ndef f():\n    from c import d\n    from multimodal import model\nif True:\n    import e\n"
    )
    assert imports(path) == [("a.b", True), ("c", False), ("multimodal.model", False), ("e", True)]


def test_rooms_have_telling_names():
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "core", "base"}
    for path in FILES:
        assert not vague & {part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts}, path


def test_the_top_level_holds_nothing_else():
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("not a git checkout")
    names = {line.split("/")[0].strip('"') for line in found.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, multimodal; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "multimodal" in done.stdout.split()
    assert not HEAVY & set(done.stdout.split())
