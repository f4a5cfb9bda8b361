#!/bin/sh
# status.sh JOB: print running, success or failed, as Slurm or its accounting knows the job.
# A controller that does not answer knows nothing of the job's end, so the job counts as running.
job=${1%%;*}
said=$(scontrol --oneliner show job "$job" 2>&1)
state=$(printf '%s\n' "$said" | sed -n 's/.* JobState=\([A-Z_]*\).*/\1/p' | head -n 1)
if [ -z "$state" ]; then
  case $said in
    *"Invalid job id"*) state=$(sacct --noheader --allocations --parsable2 --format=State --jobs "$job" 2> /dev/null | head -n 1) ;;
    *) state=RUNNING ;;
  esac
fi
case $state in
  COMPLETED) echo success ;;
  # A job that Slurm starts again after it has lost its node or made room is PENDING, never NODE_FAIL or PREEMPTED.
  BOOT_FAIL | CANCELLED* | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED | TIMEOUT | "") echo failed ;;
  *) echo running ;;
esac
