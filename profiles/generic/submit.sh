#!/bin/sh
# submit.sh RULE THREADS MEM_MB RUNTIME GPUS account=NAME partition=NAME JOBSCRIPT: submit a job and print its id.
# What sbatch says of a job that it refuses goes to the standard output, where Snakemake shows it.
rule=$1 threads=$2 memory=$3 runtime=$4 gpus=$5 account=${6#account=} partition=${7#partition=} script=$8
logs=.snakemake/slurm_logs/rule_$rule
mkdir -p "$logs"
set -- --job-name "$rule" --cpus-per-task "$threads" --mem "$memory" --time "$runtime" --requeue --output "$logs/%j.log"
[ "$gpus" -gt 0 ] && set -- "$@" --gpus "$gpus"
[ -n "$account" ] && set -- "$@" --account "$account"
[ -n "$partition" ] && set -- "$@" --partition "$partition"
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
sbatch --parsable "$@" "$script" 2> "$errors" || { status=$?; cat "$errors"; exit "$status"; }
