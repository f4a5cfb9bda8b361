"""Requirements, pinned with hashes, and conda environment name the same packages, from the usual indexes only."""

import ast
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "envs"
CONDA_NAMES = {"torch": "pytorch", "snakemake": "snakemake-minimal", "matplotlib": "matplotlib-base"}
REQUIREMENTS = [
    *("requirements-pip.txt", "requirements.txt", "requirements-formats.txt", "requirements-export.txt"),
    *("requirements-explore.txt", "requirements-dev.txt", "requirements-search.txt", "requirements-cluster.txt"),
    *("requirements-encode.txt", "requirements-benchmarks.txt", "constraints.txt"),
]
OWN = {"workflow", "frozenalign", "snakemake_logger_plugin_frozenalign"}
IMPORT_NAMES = {
    "snakemake_interface_logger_plugins": "snakemake-interface-logger-plugins",
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
}


@dataclass(frozen=True)
class Pin:
    """One entry of a requirement file."""

    name: str
    version: Version
    marker: str
    hashes: tuple[str, ...]


def text_of(name: str) -> str:
    return (ENVS / name).read_text().replace("\\\n", "")


def pins(name: str) -> dict[str, Pin]:
    """Return the entries of a requirement file by package, included files left out."""
    found = {}
    for line in text_of(name).splitlines():
        if line and not line.startswith(("#", "-r ", "-c ")):
            entry = re.fullmatch(
                r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)(?: ; (.+?))?((?:\s+--hash=sha256:[0-9a-f]{64})+)", line
            )
            assert entry, f"{name}: neither a comment nor a pin with hashes: {line}"
            package, version, marker, hashes = entry.groups()
            package = canonicalize_name(package)
            assert package not in found, f"{name} pins {package} twice"
            found[package] = Pin(package, Version(version), marker or "", tuple(hashes.split()))
    return found


def direct() -> dict[str, Requirement]:
    """Return the packages of environment.yaml by their names in the Python index, python itself left out."""
    python_names = {conda: name for name, conda in CONDA_NAMES.items()}
    listed = map(Requirement, yaml.safe_load((ENVS / "environment.yaml").read_text())["dependencies"])
    return {python_names.get(each.name, each.name): each for each in listed if each.name != "python"}


@pytest.mark.parametrize("name", direct())
def test_a_direct_package_is_pinned_within_its_open_range(name):
    allowed = direct()[name].specifier
    assert [each.operator for each in allowed] == [">="]
    assert allowed.contains(pins("requirements.txt")[canonicalize_name(name)].version)


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_entry_pins_one_version_with_the_hashes_of_its_files(name):
    assert pins(name)


def test_the_development_requirements_include_those_of_a_run_and_pin_nothing_again():
    assert "-r requirements.txt" in text_of("requirements-dev.txt").splitlines()
    assert "-c constraints.txt" in text_of("requirements.txt").splitlines()
    files = [pins(name).keys() for name in REQUIREMENTS]
    assert len(set().union(*files)) == sum(map(len, files))


def test_what_one_platform_alone_needs_is_a_constraint_that_no_other_build_installs():
    assert not [pin.name for name in REQUIREMENTS[:-1] for pin in pins(name).values() if pin.marker]
    assert all(pin.marker for pin in pins("constraints.txt").values())
    assert pins("constraints.txt")["nvidia-cublas"].marker == "sys_platform == 'linux'"


def test_torch_is_the_version_that_results_were_measured_with():
    assert pins("requirements.txt")["torch"].version == Version("2.13.0")


def test_the_cpu_build_of_torch_is_the_pinned_version_and_its_hash_is_among_the_allowed_ones():
    build, torch = pins("constraints-cpu.txt")["torch"], pins("requirements.txt")["torch"]
    assert build.version == Version(f"{torch.version}+cpu")
    assert set(build.hashes) < set(torch.hashes)


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
    foreign = {IMPORT_NAMES.get(name, name) for name in imported - sys.stdlib_module_names - OWN}
    assert "torch" in foreign
    assert foreign <= set(direct())


def test_the_installed_package_asks_for_the_same_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["workflow"]]
    ranges = {each.name: each.specifier for each in map(Requirement, asked)}
    assert ranges == {canonicalize_name(name): each.specifier for name, each in direct().items()}


@pytest.mark.parametrize("extra", ["encode", "export"])
def test_an_extra_is_pinned_within_its_open_ranges_and_conda_has_the_same(extra):
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    conda = yaml.safe_load((ENVS / f"{extra}.yaml").read_text())["dependencies"]
    assert set(asked) <= {str(each).replace(" ", "") for each in conda}
    pinned = pins("requirements-export.txt") | pins(f"requirements-{extra}.txt")
    for each in map(Requirement, asked):
        assert each.specifier.contains(pinned[each.name].version)


@pytest.mark.parametrize("extra", ["encode", "export"])
def test_the_conda_environment_of_an_extra_has_all_that_a_run_needs(extra):
    of_a_run, of_the_extra = (
        yaml.safe_load((ENVS / name).read_text())["dependencies"] for name in ("environment.yaml", f"{extra}.yaml")
    )
    assert [each for each in of_a_run if each not in of_the_extra] == []


def test_the_pinned_encoders_pull_no_second_pytorch_and_no_torchvision():
    assert not {"torch", "torchvision", "timm", "open-clip-torch"} & set(pins("requirements-encode.txt"))
