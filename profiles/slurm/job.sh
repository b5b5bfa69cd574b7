# Sourced first in each job's script, before Snakemake starts. Slurm warns a training's script by USR1 before the time
# limit: the job then goes back into the queue. Slurm ends it with TERM, at which training writes a checkpoint, and starts
# it again later, as the same job for Snakemake, with the same resources and without a retry; training goes on from there.
#
# A shell sees to a signal only when the program that it runs has ended. So this one runs its own script once more, as a
# child, and waits for it, which a signal does interrupt.
if [ -n "$SLURM_JOB_ID" ] && [ "$SNAKETUNE_JOB" != "$SLURM_JOB_ID" ]; then
    export SNAKETUNE_JOB="$SLURM_JOB_ID"
    # A training that never comes further is not put back for ever: then the limit holds.
    if [ "${SLURM_RESTART_COUNT:-0}" -lt 50 ]; then
        trap 'echo "The time limit is near: the job goes back into the queue."; scontrol requeue "$SLURM_JOB_ID"' USR1
    fi
    # Every process of the job gets TERM, and only training has something to do first: the shells wait for it.
    trap '' TERM
    sh "$0" &
    while :; do
        wait $!
        status=$?
        kill -0 $! 2>/dev/null || exit "$status"
    done
fi
