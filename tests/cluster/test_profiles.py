"""What happens to jobs on a cluster: the profiles bring a run to its end, or say in one sentence what to set."""

import re
import signal
import subprocess

import pytest
import torch

from tests.cluster.conftest import attempts, wait_for

pytestmark = pytest.mark.cluster
# All trainings at the same time, and again on the one node that is left.
ONE_CPU = ("--set-threads", "train=1", "--set-resources", "train:mem_mb=1000")


def assert_equal(models, others) -> None:
    assert models.keys() == others.keys()
    for seed, tensors in models.items():
        assert tensors and tensors.keys() == others[seed].keys()
        assert all(torch.equal(tensor, others[seed][name]) for name, tensor in tensors.items()), seed


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


def test_trainings_go_on_bit_by_bit_after_scancel_a_time_limit_and_a_lost_node(plain, project, undisturbed):
    run = project.snakemake(plain, "slurm", "trained", *ONE_CPU)
    jobs = [plain.job_of(f"tiny_slow_{seed}") for seed in range(3)]
    for seed in range(3):
        wait_for(f"epochs of seed {seed}", lambda seed=seed: project.trains(seed))
    (cancelled, _), (timed_out, _), (lost, lost_node) = jobs
    plain.ask("scancel", cancelled)
    plain.ask("scontrol", "update", f"JobId={timed_out}", "EndTime=now+1")
    plain.lose(lost_node)
    plain.hurry(lost)
    status, said = project.finished(run)
    assert status == 0, said
    assert attempts(said, "train slow, seed 0") == 2
    assert "because somebody cancelled it" in said and "ended job" in said
    assert_equal(project.models(), undisturbed)


def test_a_cancelled_training_goes_on_with_accounting_and_has_the_gpu_to_itself(accounting, project, undisturbed):
    target = "results/tiny/slow/seed0/evaluation_results/metrics.json"
    run = project.snakemake(accounting, "slurm", target, *ONE_CPU)
    job, _ = accounting.job_of("tiny_slow_0")
    wait_for("epochs", lambda: project.trains(0))
    accounting.ask("scancel", job)
    status, said = project.finished(run)
    assert status == 0, said
    rows = accounting.ask("sacct", "-X", "-n", "-P", "--format=Comment,State,ReqTRES").splitlines()
    gpus = {"gres/gpu=1" in row for row in rows if "rule_train" in row}
    assert gpus == {True} and not any("gres/gpu" in row for row in rows if "rule_evaluate" in row)
    assert_equal(project.models(), {"seed0": undisturbed["seed0"]})


def test_the_generic_profile_resumes_a_cancelled_training_as_well(accounting, project, undisturbed):
    target = "results/tiny/slow/seed1/best_model.pt"
    run = project.snakemake(accounting, "generic", target, *ONE_CPU)
    wait_for("epochs", lambda: project.trains(1))
    (job,) = [job for job, name in accounting.jobs("%i|%j", "--states=R") if name == "train"]
    accounting.ask("scancel", job)
    status, said = project.finished(run)
    assert status == 0, said
    assert attempts(said, "train slow, seed 1") == 2
    assert_equal(project.models(), {"seed1": undisturbed["seed1"]})


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
    profile = project.folder / "profiles/slurm/profile.yaml"
    profile.write_text(profile.read_text().replace('partition: ""', 'partition: "gpus"'))
    status, said = project.finished(project.snakemake(plain, "slurm", "trained"))
    assert status == 1
    assert said.splitlines()[-1] == "error: partition: gpus is not one of this cluster's, which are main"


def test_interrupted_snakemake_cancels_its_jobs(plain, project):
    run = project.snakemake(plain, "slurm", "results/tiny/slow/seed0/best_model.pt")
    job, _ = plain.job_of("tiny_slow_0")
    run.send_signal(signal.SIGINT)
    project.finished(run)
    wait_for("end of the job", lambda: not plain.jobs("%i", f"--jobs={job}", "--states=R,PD,CG"))


def test_the_cluster_ends_with_whoever_started_it(tmp_path_factory):
    """Even if that is killed: its standard input ends then."""
    from tests.cluster.conftest import started

    with started() as cluster:
        pids = [int(path.read_text()) for path in cluster.folder.glob("slurm*.pid")]
        assert len(pids) == 3
    for pid in pids:
        assert subprocess.run(["kill", "-0", str(pid)], capture_output=True).returncode
