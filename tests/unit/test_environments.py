"""The pinned requirements and the conda environment name the same packages, from the usual indexes only."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "envs"
CONDA_NAMES = {"torch": "pytorch", "snakemake": "snakemake-minimal", "matplotlib": "matplotlib-base"}
IMPORT_NAMES = {"yaml": "pyyaml", "sklearn": "scikit-learn", "PIL": "pillow"}


def requirements(name: str) -> list[str]:
    lines = (line.strip() for line in (ENVS / name).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def pins(name: str) -> dict[str, Version]:
    """Return the pinned version of every package of a requirements file, included files left out."""
    pinned = (line.split("==") for line in requirements(name) if not line.startswith("-r "))
    return {canonicalize_name(package): Version(version) for package, version in pinned}


def direct() -> dict[str, Requirement]:
    """Return the packages of environment.yaml by their names in the Python index, python itself left out."""
    python_names = {conda: name for name, conda in CONDA_NAMES.items()}
    listed = map(Requirement, yaml.safe_load((ENVS / "environment.yaml").read_text())["dependencies"])
    return {python_names.get(each.name, each.name): each for each in listed if each.name != "python"}


@pytest.mark.parametrize("name", direct())
def test_a_direct_package_is_pinned_within_its_open_range(name):
    allowed = direct()[name].specifier
    assert [each.operator for each in allowed] == [">="]
    assert allowed.contains(pins("requirements.txt")[canonicalize_name(name)])


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_line_pins_one_version(name):
    for line in requirements(name):
        assert line == "-r requirements.txt" or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line
    assert len(pins(name)) == sum("==" in line for line in requirements(name))


def test_the_development_requirements_include_those_of_a_run_and_pin_nothing_again():
    assert requirements("requirements-dev.txt")[0] == "-r requirements.txt"
    assert not pins("requirements.txt").keys() & pins("requirements-dev.txt").keys()


def test_torch_is_the_version_that_results_were_measured_with():
    assert pins("requirements.txt")["torch"] == Version("2.13.0")


@pytest.mark.parametrize("path", sorted(ENVS.iterdir()), ids=lambda path: path.name)
def test_no_file_names_an_index_or_an_address(path):
    text = path.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--\S*(index|find-links|host)\S*)\b", text, re.MULTILINE)


def test_every_package_that_the_code_imports_is_a_direct_one():
    imported = set()
    for path in (ROOT / "workflow").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
    foreign = {IMPORT_NAMES.get(name, name) for name in imported - sys.stdlib_module_names - {"workflow"}}
    assert "torch" in foreign
    assert foreign <= set(direct())
