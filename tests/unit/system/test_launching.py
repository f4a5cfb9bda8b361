"""Where a process finds itself among those that train together."""

import pytest

from frozenalign.system import launching
from frozenalign.system.errors import UserError
from frozenalign.system.launching import Place, joined, start_processes
from frozenalign.system.processes import Processes

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_STEP_NODELIST": "gpu[03-04],gpu7",
    "SLURM_JOB_ID": "1234567",
}


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_torchrun_and_srun_say_which_process_this_is(environment):
    assert Place.found(environment) == Place(number=5, count=8)


@pytest.mark.parametrize("environment", [{}, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}], ids=["none", "one"])
def test_a_process_of_its_own_has_no_place(environment):
    assert Place.found(environment) is None


@pytest.mark.parametrize(
    ("nodes", "first"), [("gpu[03-04],gpu7", "gpu03"), ("a1,b[2-3]", "a1"), ("n[7,9]", "n7"), ("host", "host")]
)
def test_processes_of_srun_meet_on_the_first_node_of_their_step(nodes, first):
    point = launching._meeting_point(SRUN | {"SLURM_STEP_NODELIST": nodes})
    assert point == {"MASTER_ADDR": first, "MASTER_PORT": "24567"}
    assert launching._meeting_point(TORCHRUN) == {}


def test_as_many_processes_as_devices_are_needed(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(UserError, match=r"training\.devices is 2 but 8 processes were started: start 2"),
        joined(2, "cpu"),
    ):
        pass


def test_more_devices_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(launching.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(launching.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"training\.devices is 2 but this machine has 1 GPU: take fewer"):
        start_processes(2, "cuda", ["true"])


@pytest.mark.parametrize("total", [0, 1, 2, 7, 32])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shares_cover_all_rows_in_order_and_differ_by_one_at_most(total, count):
    shares = [list(range(total)[Processes(number, count).rows(total)]) for number in range(count)]
    assert [row for share in shares for row in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
