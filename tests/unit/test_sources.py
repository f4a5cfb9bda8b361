"""The import closure that makes code an input of the rules."""

from pathlib import Path

import pytest

from workflow.lib.sources import import_closure

ROOT = Path(__file__).parents[2]


def closure(script: str) -> set[str]:
    path = ROOT / "workflow" / "scripts" / f"{script}.py"
    return {found.relative_to(ROOT / "workflow").as_posix() for found in import_closure(path, ROOT)}


def test_a_closure_holds_the_script_and_what_it_imports_through_others(tmp_path):
    package = tmp_path / "workflow" / "lib"
    package.mkdir(parents=True)
    (package / "first.py").write_text("def f():\n    from workflow.lib.second import g\n")
    (package / "second.py").write_text("import json\nfrom workflow.lib import first\n")
    (package / "third.py").write_text("")
    script = tmp_path / "script.py"
    script.write_text("import workflow.lib.first\n")
    assert import_closure(script, tmp_path) == sorted([script, package / "first.py", package / "second.py"])


@pytest.mark.parametrize(
    "block",
    [
        "if x:\n    pass\nelse:\n    {}",
        "try:\n    pass\nexcept OSError:\n    {}",
        "try:\n    pass\nfinally:\n    {}",
        "match x:\n    case 1:\n        {}",
        "class C:\n    def f(self):\n        with x:\n            {}",
    ],
)
def test_an_import_is_found_in_whatever_block_it_stands(tmp_path, block):
    (tmp_path / "workflow").mkdir()
    target = tmp_path / "workflow" / "first.py"
    target.touch()
    script = tmp_path / "script.py"
    script.write_text(block.format("import workflow.first"))
    assert target in import_closure(script, tmp_path)


def test_training_depends_on_heads_and_losses_but_not_on_tuning_or_the_report():
    found = closure("train")
    assert {"lib/heads.py", "lib/losses.py", "lib/training.py", "scripts/train.py"} <= found
    assert not found & {"lib/tuning.py", "lib/report.py", "lib/evaluation.py", "lib/scenes.py"}


def test_evaluation_does_not_depend_on_training_nor_the_split_on_models():
    assert not closure("evaluate") & {"lib/training.py", "lib/losses.py", "lib/settings.py"}
    assert not closure("split") & {"lib/heads.py", "lib/retrieval.py"}


def test_the_library_knows_nothing_of_snakemake():
    for path in (ROOT / "workflow" / "lib").glob("*.py"):
        assert "import snakemake" not in path.read_text()
