"""What happens to jobs on a cluster: the profiles bring a run to its end, or say in one sentence what to set."""

import re
import signal
import subprocess

import pytest

from tests.cluster.asking import wait_for
from tests.cluster.conftest import started
from tests.cluster.project import ONE_CPU, assert_gone_on_bit_by_bit, attempts

pytestmark = pytest.mark.cluster


def test_a_run_ends_without_accounting_on_nodes_smaller_than_the_profile_asks_for(plain, project):
    targets = [f"results/tiny/{name}/seed0" for name in ("quick", "ridge")]
    wanted = [f"{targets[0]}/evaluation_results/metrics.json", f"{targets[1]}/best_model.pt"]
    too_much = ["--set-resources", "train:mem_mb=100000"]
    status, said = project.finished(project.snakemake(plain, "slurm", *wanted, *too_much))
    assert status == 0, said
    asked = {comment.split("_")[1]: (cpus, memory) for comment, cpus, memory in plain.jobs("%k|%C|%m", "--states=all")}
    assert asked["train"] == ("2", "8000M")
    assert asked["baselines"][0] == asked["evaluate"][0] == "2"
    assert said.count("account") == 0


def test_a_cancelled_training_goes_on_with_accounting_and_has_the_gpu_to_itself(accounting, project, undisturbed):
    target = "results/tiny/slow/seed0/evaluation_results/metrics.json"
    run = project.snakemake(accounting, "slurm", target, *ONE_CPU)
    job, _ = accounting.job_of(0)
    project.hold(0)
    accounting.ask("scancel", job)
    status, said = project.finished(run)
    assert status == 0, said
    rows = accounting.ask("sacct", "-X", "-n", "-P", "--format=Comment,State,ReqTRES").splitlines()
    gpus = {"gres/gpu=1" in row for row in rows if "rule_train" in row}
    assert gpus == {True} and not any("gres/gpu" in row for row in rows if "rule_evaluate" in row)
    assert_gone_on_bit_by_bit(project, undisturbed, 0)


def test_the_generic_profile_resumes_a_cancelled_training_as_well(accounting, project, undisturbed):
    target = "results/tiny/slow/seed1/best_model.pt"
    run = project.snakemake(accounting, "generic", target, *ONE_CPU)
    job, _ = accounting.job_of(1)
    project.hold(1)
    accounting.ask("scancel", job)
    status, said = project.finished(run)
    assert status == 0, said
    assert attempts(said, "train slow, seed 1") == 2
    assert_gone_on_bit_by_bit(project, undisturbed, 1)


@pytest.mark.parametrize("profile", ["slurm", "generic"])
def test_a_refused_job_names_the_key_to_set_once(plain, project, profile):
    target = "results/tiny/slow/seed0/best_model.pt"
    run = project.snakemake(plain, profile, target, "--set-resources", "train:runtime=5000")
    status, said = project.finished(run)
    assert status == 1
    sentence = re.findall(r"Slurm refuses the job: .*", said)
    assert len(sentence) == 1 and "--set-resources train:runtime=MINUTES" in sentence[0], said
    assert said.count("failed as before") == 3
    assert "Traceback" not in said


def test_a_partition_that_is_not_there_ends_the_run_before_any_job(plain, project):
    project.use_partition("slurm", "gpus")
    status, said = project.finished(project.snakemake(plain, "slurm", "trained"))
    assert status == 1
    assert said.splitlines()[-1] == "error: partition: gpus is not one of this cluster's, which are cheap, main, urgent"


def test_a_partition_that_ends_jobs_for_good_to_make_room_is_refused_by_the_profile_that_would_hang(plain, project):
    project.use_partition("slurm", "cheap")
    status, said = project.finished(project.snakemake(plain, "slurm", "trained"))
    assert status == 1
    assert said.splitlines()[-1].startswith("error: partition cheap ends a job for good")


def test_interrupted_snakemake_cancels_its_jobs(plain, project):
    run = project.snakemake(plain, "slurm", "results/tiny/slow/seed0/best_model.pt")
    job, _ = plain.job_of(0)
    run.send_signal(signal.SIGINT)
    project.finished(run)
    wait_for("end of the job", lambda: not plain.jobs("%i", f"--jobs={job}", "--states=R,PD,CG"))


def test_the_cluster_ends_with_whoever_started_it(tmp_path_factory):
    """Even if that is killed: its standard input ends then."""
    with started() as cluster:
        pids = [int(path.read_text()) for path in cluster.folder.glob("slurm*.pid")]
        assert len(pids) == 3
    for pid in pids:
        assert subprocess.run(["kill", "-0", str(pid)], capture_output=True).returncode
