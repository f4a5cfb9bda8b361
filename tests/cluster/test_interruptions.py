"""What interrupts the jobs of a run, or the run itself: trainings go on bit by bit, and nothing is computed twice."""

import signal
from collections import Counter

import pytest

from tests.cluster.asking import wait_for
from tests.cluster.project import EPOCHS, ONE_CPU, assert_gone_on_bit_by_bit, assert_trained, attempts

pytestmark = pytest.mark.cluster
PROFILES = pytest.mark.parametrize("profile", ["slurm", "generic"])


def model(seed: int) -> str:
    return f"results/tiny/slow/seed{seed}/best_model.pt"


def test_trainings_go_on_bit_by_bit_after_scancel_a_time_limit_and_a_lost_node(fragile, project, undisturbed):
    run = project.snakemake(fragile, "slurm", "trained", *ONE_CPU)
    jobs = {seed: fragile.job_of(seed) for seed in range(3)}
    processes = {seed: project.hold(seed) for seed in jobs}
    load = Counter(node for _, node in jobs.values())
    lost, cancelled, timed_out = sorted(jobs, key=lambda seed: load[jobs[seed][1]])
    # No second job of the others goes there.
    fragile.close(jobs[lost][1])
    fragile.ask("scancel", jobs[cancelled][0])
    fragile.ask("scontrol", "update", f"JobId={jobs[timed_out][0]}", "EndTime=now+1")
    # Slurm looks at time limits every 30 seconds; the training is held until it is told to end.
    project.release(processes[timed_out], after=signal.SIGTERM)
    fragile.lose(jobs[lost][1])
    fragile.hurry(jobs[lost][0])
    status, said = project.finished(run)
    assert status == 0, said
    assert [attempts(said, f"train slow, seed {seed}") for seed in (cancelled, timed_out, lost)] == [2, 2, 1]
    assert "because somebody cancelled it" in said and "at its time limit" in said
    # The lost one has had no time to save its state, and begins anew.
    assert_gone_on_bit_by_bit(project, undisturbed, cancelled, timed_out, among=range(3))


@PROFILES
def test_slurm_starts_a_training_again_that_made_room_and_it_goes_on_bit_by_bit(profile, plain, project, undisturbed):
    run = project.snakemake(plain, profile, model(2), *ONE_CPU)
    job, node = plain.job_of(2)
    project.hold(2)
    urgent = plain.make_room(node)
    wait_for("room for the urgent job", lambda: plain.state(urgent) == "RUNNING")
    plain.hurry(job)
    status, said = project.finished(run)
    assert (plain.restarts(job), plain.state(urgent)) == (1, "RUNNING")
    plain.ask("scancel", urgent)
    assert status == 0, said
    assert attempts(said, "train slow, seed 2") == 1
    assert_gone_on_bit_by_bit(project, undisturbed, 2)


def test_the_generic_profile_submits_a_training_again_that_was_ended_to_make_room(plain, project, undisturbed):
    project.use_partition("generic", "cheap")
    run = project.snakemake(plain, "generic", model(0), *ONE_CPU)
    job, node = plain.job_of(0)
    project.hold(0)
    urgent = plain.make_room(node)
    wait_for("end of the job", lambda: plain.state(job) == "PREEMPTED")
    status, said = project.finished(run)
    plain.ask("scancel", urgent)
    assert status == 0, said
    assert attempts(said, "train slow, seed 0") == 2
    assert_gone_on_bit_by_bit(project, undisturbed, 0)


@PROFILES
def test_jobs_that_outlive_snakemake_are_not_computed_twice(profile, fragile, project, undisturbed):
    """Both are submitted again. One has ended when its second job starts; the other is waited for on another node."""
    run = project.snakemake(fragile, profile, model(0), model(1), *ONE_CPU)
    processes = [project.hold(seed) for seed in range(2)]
    run.kill()
    run.wait()
    status, said = project.finished(project.snakemake(fragile, profile, "--unlock"))
    assert status == 0, said

    fragile.close("n1", "n2")
    run = project.snakemake(fragile, profile, model(0), model(1), *ONE_CPU)
    wait_for("second jobs", lambda: len(fragile.jobs("%i", "--states=PD")) == 2)
    project.release(processes[0])
    wait_for("end of the first job", lambda: len(fragile.jobs("%i", "--states=R,CG")) == 1)
    assert f"epoch {EPOCHS}/{EPOCHS}" in project.log(0)
    made = project.inodes(0)
    ((node_of_the_other,),) = fragile.jobs("%N", "--states=R")
    fragile.open({"n1": "n2", "n2": "n1"}[node_of_the_other])
    wait_for("job that waits", lambda: any(f"waiting for process {processes[1]} on " in s for s in project.job_logs()))
    project.release(processes[1])
    status, said = project.finished(run)
    assert status == 0, said
    assert project.inodes(0) == made
    # The first had ended: its log is that of the second job alone. The log of the other was kept, and added to.
    for seed in range(2):
        assert project.log(seed).count("nothing to compute: ") == 1
    assert project.log(0).count("epoch ") == 1
    assert project.log(1).count(f"epoch {EPOCHS}/{EPOCHS}") == 1
    assert_trained(project, undisturbed, 0, 1)
