"""The shape of the code, asserted: imports go one way, torch stays out of where it must not be."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"
PACKAGE = SRC / "layerwise"

# Lowest first. A module may import from its own layer and from those before it.
LAYERS = (
    "layerwise.errors",
    "layerwise.config",
    "layerwise.data.pictures",
    "layerwise.data.manifest",
    "layerwise.data.storage",
    "layerwise.data.sources",
    "layerwise.data.splits",
    "layerwise.data.audit",
    "layerwise.data",
    "layerwise.models.graph",
    "layerwise.models.solved",
    "layerwise.models",
    "layerwise.evaluation",
    "layerwise.training",
    "layerwise.evaluation.explain",
    "layerwise.studies",
    "layerwise.reporting",
    "layerwise.serving",
    "layerwise.estimator",
    "layerwise.cli",
    "layerwise.__main__",
)

# `layerwise predict` runs these where torch is not installed.
TORCH_FREE = (
    "layerwise.errors",
    "layerwise.config",
    "layerwise.data.pictures.images",
    "layerwise.data.load",
    "layerwise.data.manifest",
    "layerwise.data.sources",
    "layerwise.models.onnx_session",
    "layerwise.models.presets",
    "layerwise.evaluation",
    "layerwise.serving.bundle",
    "layerwise.serving.card",
    "layerwise.reporting.drift",
    "layerwise.serving.drift",
    "layerwise.serving.hourly",
    "layerwise.serving.http",
    "layerwise.serving.measures",
    "layerwise.serving.model_card",
    "layerwise.serving.operators",
    "layerwise.serving.quantise",
    "layerwise.serving.rounding",
    "layerwise.serving.sizes",
    "layerwise.serving.pipeline",
    "layerwise.serving.statistics",
    "layerwise.serving.verify",
    "layerwise.cli.drift",
    "layerwise.cli.explain",
    "layerwise.cli.main",
    "layerwise.cli.output",
    "layerwise.cli.predict",
    "layerwise.cli.serve",
    "layerwise.serving.registry",
    "layerwise.serving.labelled",
    "layerwise.reporting.evaluated",
    "layerwise.cli.evaluate",
    "layerwise.cli.promote",
    "layerwise.cli.quantise",
    "layerwise.cli.rollback",
    "layerwise.cli.verify",
)
TORCH_ALLOWED_BELOW = ("layerwise.evaluation.explain",)
TORCH = {"torch", "torchvision", "timm"}

BANNED = {"utils", "common", "helpers", "base", "manager"}

# Optional: each is imported by one file only, which names the extra when it is missing.
EXTRAS = {
    "optuna",
    "ray",
    "mlflow",
    "pydicom",
    "fastapi",
    "uvicorn",
    "prometheus_client",
    "python_multipart",
    "starlette",
    "kagglehub",
    "medmnist",
    "fsspec",
}

LIGHT_START = {
    "torch",
    "torchvision",
    "timm",
    "sklearn",
    "scipy",
    "pandas",
    "matplotlib",
    "onnxruntime",
    "onnx",
    "numpy",
    "PIL",
    "rich",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(module: str) -> tuple[tuple[str, int], ...]:
    """Every module that a module imports, at any depth in the file, with the line.

    `from a import b` counts as a.b where that is a module of ours. Imports for type checkers
    only (`if TYPE_CHECKING:`) are imports for the layers, but run no code: see `runs`.
    """
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    return tuple(sorted(_found(module, tree)))


@cache
def runs(module: str) -> tuple[tuple[str, int], ...]:
    """As `imports`, without those for type checkers only."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    return tuple(sorted(_found(module, tree)))


def _found(module: str, tree: ast.AST) -> set[tuple[str, int]]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: import by the full name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add((inner if inner in MODULES else str(node.module), node.lineno))
    return found


def rank(module: str) -> int:
    """The number of a module's layer, by the longest prefix; −1 for the package itself."""
    fitting = [layer for layer in LAYERS if below(module, (layer,))]
    return LAYERS.index(max(fitting, key=len)) if fitting else -1


def below(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == p or module.startswith(p + ".") for p in prefixes)


def test_every_module_has_a_layer():
    assert [m for m in MODULES if m != "layerwise" and rank(m) < 0] == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    upward = [
        f"{MODULES[module]}:{line}: {module} imports {other}, which stands above it"
        for other, line in imports(module)
        if other in MODULES and other != "layerwise" and rank(other) > rank(module)
    ]
    assert upward == []


@pytest.mark.parametrize("module", [m for m in MODULES if below(m, TORCH_FREE)])
def test_torch_is_never_imported_directly_or_indirectly(module):
    if below(module, TORCH_ALLOWED_BELOW):
        pytest.skip("needs a network, so it needs torch")
    waiting, seen = [(module,)], set()
    while waiting:
        path = waiting.pop()
        for other, line in runs(path[-1]):
            assert other.partition(".")[0] not in TORCH, (
                f"{' → '.join(path)} → {other} (line {line})"
            )
            # Importing a.b.c runs a and a.b first.
            for parent in (other, *_parents(other)):
                if parent in MODULES and parent not in seen:
                    seen.add(parent)
                    # A command imports its own work when it runs; `main` only holds them all.
                    if path[-1] != "layerwise.cli.main" or not parent.startswith("layerwise.cli."):
                        waiting.append((*path, parent))


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def test_the_check_for_torch_sees_what_it_should():
    """The closure itself: files that do use torch are found, in one step and in several."""
    assert any(name.partition(".")[0] == "torch" for name, _ in runs("layerwise.serving.export"))
    assert ("layerwise.models.onnx_graph", "layerwise.models.onnx_session") in {
        ("layerwise.models.onnx_graph", name) for name, _ in runs("layerwise.models.onnx_graph")
    }


def test_file_names_say_what_is_inside():
    assert [str(p) for p in MODULES.values() if p.stem in BANNED or p.parent.name in BANNED] == []


def test_each_extra_is_imported_in_one_file_only():
    users: dict[str, set[str]] = {extra: set() for extra in EXTRAS}
    for module in MODULES:
        for other, _ in imports(module):
            if other.partition(".")[0] in EXTRAS:
                users[other.partition(".")[0]].add(module)
    assert {extra: sorted(files) for extra, files in users.items() if len(files) > 1} == {}


def test_files_stay_short():
    lengths = {str(p): len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES.values()}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_help_starts_without_anything_heavy():
    code = (
        "import sys\n"
        "from layerwise.cli.main import main\n"
        "code = main(['--help'])\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout
    assert LIGHT_START & set(done.stderr.split()) == set()
