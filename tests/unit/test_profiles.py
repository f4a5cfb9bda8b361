"""The profiles repeat keys, because `--workflow-profile` replaces the default one: what they repeat is the same."""

from pathlib import Path

import pytest
import yaml

PROFILES = Path(__file__).parents[2] / "profiles"
# What differs on purpose: how Slurm is asked, and the resources that name an account or a GPU.
OF_EACH = {"__definitions__", "executor", "max-status-checks-per-second", "default-resources"}


def profile(name: str) -> dict:
    # The keys and values that begin with ? are expressions, compared as they stand.
    return yaml.safe_load((PROFILES / name / "profile.yaml").read_text(encoding="utf-8"))


def test_the_profiles_of_clusters_differ_only_in_what_concerns_their_plugin():
    slurm, generic = profile("slurm"), profile("generic")
    assert {key for key in slurm.keys() - generic.keys() if not key.startswith("slurm-")} == set()
    assert {key for key in generic.keys() - slurm.keys() if not key.startswith("cluster-generic-")} == set()
    shared = (slurm.keys() & generic.keys()) - OF_EACH
    assert {key: slurm[key] for key in shared} == {key: generic[key] for key in shared}


def test_the_profiles_of_clusters_ask_for_the_same_of_each_rule():
    slurm, generic = profile("slurm"), profile("generic")
    assert slurm["set-threads"].keys() >= {"train", "evaluate"}
    for key in ("mem_mb", "runtime"):
        assert slurm["default-resources"][key] == generic["default-resources"][key]


@pytest.mark.parametrize("name", ["slurm", "generic"])
def test_a_cluster_runs_as_one_machine_does(name):
    default, cluster = profile("default"), profile(name)
    shared = (default.keys() & cluster.keys()) - {"__definitions__", "resources"}
    assert "rerun-incomplete" in shared
    assert {key: default[key] for key in shared} == {key: cluster[key] for key in shared}
