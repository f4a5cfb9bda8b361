"""What a cluster says of a job that it refused or ended, in one sentence that names the key to set."""

import re

REFUSED = re.compile(
    r"(?:sbatch failed\. The error message was '|Error submitting jobscript)(.*?)(?:'\.?\n|$)", re.DOTALL
)
ENDED = re.compile(r"SLURM-job '(\w+)' failed.*?SLURM status is:\s*'(\w+)'", re.DOTALL)
POINTER = re.compile(r"\s*For further error details see the cluster/cloud log.*", re.DOTALL)
SBATCH = re.compile(r"\s*sbatch: (?:error|fatal): |^\s*\(exit code \d+\):\s*")
MARKS = re.compile(r"^\s*Batch job submission failed: ")
# Slurm's own words, and what helps; RULE is the refused one.
REMEDIES = {
    "account": "set `account` at the top of the profile's profile.yaml",
    "partition": "set `partition` at the top of the profile's profile.yaml",
    "qos": "set `--default-resources qos=NAME` to a QoS that your account has",
    "memory": "lower it with --set-resources RULE:mem_mb=N, or set `partition` in the profile to one with larger nodes",
    "cpu count": "lower it with --set-threads RULE=N, or set `partition` in the profile to one with larger nodes",
    "time limit": "lower it with --set-resources RULE:runtime=MINUTES, or set `partition` in the profile",
    "gres": "set `partition` in the profile to one with GPUs, or `--set-resources RULE:gpu=0`",
    "node configuration": "lower --set-threads RULE=N or --set-resources RULE:mem_mb=N, or set another `partition`",
    "limit": "lower --set-resources RULE:mem_mb=N or --jobs N, or set `account` in the profile",
}
STATES = {
    "TIMEOUT": "at its time limit; --set-resources RULE:runtime=MINUTES raises it",
    "OUT_OF_MEMORY": "for its memory; --set-resources RULE:mem_mb=N raises it",
    "CANCELLED": "because somebody cancelled it",
    "NODE_FAIL": "because its node was lost",
    "PREEMPTED": "to make room for another job",
}


def plain(text: str, rule: str) -> list[str]:
    """Return what an executor says of a failed job in plain words, nothing where the job's own log says it."""
    text = POINTER.sub("", text).strip()
    if refused := REFUSED.search(text):
        return [_refusal(refused[1], rule)]
    if ended := ENDED.search(text):
        job, state = ended.groups()
        return [f"Slurm ended job {job} {STATES[state].replace('RULE', rule)}"] if state in STATES else []
    return [text] if text else []


def explained(reasons: list[str]) -> bool:
    """Return whether the cluster, not the step, ended a job, so that the end of its log explains nothing."""
    return any(reason.startswith("Slurm ") for reason in reasons)


def _refusal(said: str, rule: str) -> str:
    """Return Slurm's reason for refusing a job, and what to do."""
    reasons = [MARKS.sub("", part).strip() for part in SBATCH.split(said)]
    reason = "; ".join(dict.fromkeys(part.rstrip(".") for part in reasons if part)) or "sbatch gives no reason"
    known = (remedy for words, remedy in REMEDIES.items() if words in reason.lower())
    remedy = next(known, "`sbatch --test-only` with the same options says more")
    return f"Slurm refuses the job: {reason}: {remedy.replace('RULE', rule)}"
