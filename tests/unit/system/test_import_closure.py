"""The import closure that makes code an input of the rules."""

import re
from pathlib import Path

import pytest

from frozenalign.system.fingerprints import import_closure

ROOT = Path(__file__).parents[3]
LIBRARY = ROOT / "workflow" / "lib" / "frozenalign"
SCRIPTS = ROOT / "workflow" / "scripts"


def closure(script: str) -> set[str]:
    path = SCRIPTS / f"{script}.py"
    found = import_closure(path, ROOT / "workflow" / "lib")
    return {path.relative_to(LIBRARY).with_suffix("").as_posix() for path in found[:-1]}


def test_a_closure_holds_the_script_and_what_it_imports_through_others(tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    (package / "first.py").write_text("def f():\n    from house.second import g\n")
    (package / "second.py").write_text("import json\nfrom house import first\n")
    (package / "third.py").write_text("")
    script = tmp_path / "script.py"
    script.write_text("import house.first\n")
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
    (tmp_path / "house").mkdir()
    target = tmp_path / "house" / "first.py"
    target.touch()
    script = tmp_path / "script.py"
    script.write_text(block.format("import house.first"))
    assert target in import_closure(script, tmp_path)


def test_training_depends_on_heads_and_losses_but_not_on_tuning_or_the_report():
    found = closure("train")
    assert {"models/heads", "losses/softmax", "training/fit"} <= found
    assert not found & {"tuning/study", "reporting/page", "evaluation/retrieval", "demo/scenes"}


def test_evaluation_does_not_depend_on_training_nor_the_split_on_models():
    assert not closure("evaluate") & {"training/fit", "losses/softmax", "configuration/experiments"}
    assert not closure("split") & {"models/heads", "evaluation/ranks"}


def test_further_evaluation_sets_decide_no_training_and_no_evaluation_of_the_board():
    assert {"evaluation/benchmarks/zero_shot", "data/benchmarks/eccv_caption"} <= closure("evaluate_sets")
    for script in ("train", "evaluate", "split", "encode_images"):
        assert not [name for name in closure(script) if "benchmarks/" in name], script


def test_a_gallery_does_not_depend_on_what_encodes():
    assert not [name for name in closure("gallery") if name.startswith("encoders/")]


def test_neither_the_library_nor_a_script_imports_snakemake():
    for path in [*LIBRARY.rglob("*.py"), *SCRIPTS.glob("*.py")]:
        assert not re.search(r"^\s*(import|from) snakemake", path.read_text(), re.MULTILINE), path


def test_a_registry_brings_the_modules_that_register(tmp_path):
    wing = tmp_path / "house" / "models"
    wing.mkdir(parents=True)
    (wing / "registry.py").touch()
    (wing / "heads.py").write_text(
        'from house.models.registry import f\n\n\n@register_head("one")\nclass One:\n    pass\n'
    )
    (wing / "other.py").touch()
    script = tmp_path / "script.py"
    script.write_text("import house.models.registry\n")
    assert import_closure(script, tmp_path) == sorted([script, wing / "registry.py", wing / "heads.py"])
