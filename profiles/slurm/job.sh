# Sourced first in each job's script, before Snakemake starts. Before a training's time limit Slurm warns this script by
# USR1: training gets URG, at which it writes a checkpoint and ends, and the job goes back into the queue. For Snakemake
# it stays the same job, with the same resources and without a retry; training goes on from the checkpoint. Everything
# else in the job ignores URG; TERM would end the program that holds the image of training's container in place.
#
# A shell sees to a signal only when the program that it runs has ended. So this one runs its own script once more, as a
# child, and waits for it, which a signal does interrupt.
if [ -n "$SLURM_JOB_ID" ] && [ "$SNAKETUNE_JOB" != "$SLURM_JOB_ID" ]; then
    export SNAKETUNE_JOB="$SLURM_JOB_ID"
    warned=
    stop_training() {
        warned=yes
        echo "The time limit is near: training stops with a checkpoint, and the job goes back into the queue."
        # Snakemake's plugin runs the first task of an array beside this shell, everything else as a step of the job.
        if [ -n "$SLURM_ARRAY_TASK_ID" ] && [ "$SLURM_ARRAY_TASK_ID" = "$SLURM_ARRAY_TASK_MIN" ]; then
            kill -URG 0
        else
            scancel --signal=URG "$SLURM_JOB_ID"
        fi
    }
    trap stop_training USR1
    # At scancel training still writes a checkpoint; the shells wait for it.
    trap '' TERM
    sh "$0" &
    while :; do
        wait $!
        status=$?
        kill -0 $! 2>/dev/null || break
    done
    # What never comes further is not put back for ever: after 50 times the limit holds.
    if [ "$warned" ] && [ "$status" -ne 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 50 ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$status"
fi
