"""No source of the project calls what could run what it reads."""

import ast
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.parser import parse

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    "pickle": {"load", "loads", "Unpickler"},
    "cloudpickle": {"load", "loads"},
    "joblib": {"load"},
    "pd": {"read_pickle", "eval", "read_hdf"},
    "os": {"system", "popen"},
    "yaml": {"load", "load_all", "unsafe_load", "full_load", "UnsafeLoader", "FullLoader", "Loader"},
    "jit": {"load"},
    "shelve": {"open"},
    "marshal": {"load", "loads"},
}
NEEDED = {("torch", "load"): ("weights_only", True), ("np", "load"): ("allow_pickle", False)}


def sources() -> list[Path]:
    found = [*(ROOT / "workflow").rglob("*.py"), *(ROOT / "workflow" / "rules").glob("*.smk"), ROOT / "Snakefile"]
    assert len(found) > 60
    return sorted(found)


def python_of(path: Path) -> ast.Module:
    """Return the syntax tree of a module; of a Snakemake file that of the Python that Snakemake makes of it."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return ast.parse(text)
    source = SimpleNamespace(get_path_or_uri=lambda **_: str(path))
    workflow = SimpleNamespace(sourcecache=SimpleNamespace(open=lambda _: io.StringIO(text)))
    return ast.parse(parse(source, workflow, {})[0])


def dangers(tree: ast.AST) -> list[str]:
    """Return what stands in a module that could run what it reads."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            if isinstance(called, ast.Name) and called.id in FORBIDDEN:
                found.append(called.id)
            if given.get("shell"):
                found.append("shell=True")
            if isinstance(called, ast.Attribute):
                owner = called.value.id if isinstance(called.value, ast.Name) else getattr(called.value, "attr", "")
                name, value = NEEDED.get((owner, called.attr), ("", None))
                if name and given.get(name) is not value:
                    found.append(f"{owner}.{called.attr} without {name}={value}")
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
            if node.attr in FORBIDDEN_ATTRIBUTES.get(owner, ()):
                found.append(f"{owner}.{node.attr}")
        if isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN_ATTRIBUTES:
            found += [alias.name for alias in node.names if alias.name in FORBIDDEN_ATTRIBUTES[node.module]]
    return found


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, yaml.Loader)",
        "pickle.loads(text)",
        "from pickle import loads",
        "eval(text)",
        "exec(text)",
        "pd.read_pickle(path)",
        "joblib.load(path)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "torch.jit.load(path)",
    ],
)
def test_the_search_finds_what_it_looks_for(text):
    assert dangers(ast.parse(text))


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path):
    assert dangers(python_of(path)) == []
