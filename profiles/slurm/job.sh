# Each job's script sources this file first, before Snakemake starts. Before a training's time limit Slurm sends SIGUSR1
# to this script. The script sends SIGURG to training, which writes a checkpoint and ends, and puts the job back into the
# queue. For Snakemake it stays the same job, with the same resources and without a retry; training continues from the
# checkpoint. All other processes of the job ignore SIGURG; SIGTERM would end the program that mounts the image of
# training's container.
#
# A shell handles a signal only when the program that it runs has ended. This one therefore runs its own script again, as
# a child, and waits for it, because a signal interrupts `wait`.
if [ -n "$SLURM_JOB_ID" ] && [ "$SNAKETUNE_JOB" != "$SLURM_JOB_ID" ]; then
    export SNAKETUNE_JOB="$SLURM_JOB_ID"
    warned=
    stop_training() {
        warned=yes
        echo "The time limit is near: training stops with a checkpoint, and the job goes back into the queue."
        # Snakemake's plugin runs the first task of an array directly, everything else as a step of the job.
        if [ -n "$SLURM_ARRAY_TASK_ID" ] && [ "$SLURM_ARRAY_TASK_ID" = "$SLURM_ARRAY_TASK_MIN" ]; then
            kill -URG 0
        else
            scancel --signal=URG "$SLURM_JOB_ID"
        fi
    }
    trap stop_training USR1
    # At scancel training writes a checkpoint, and the shells wait for it.
    trap '' TERM
    sh "$0" &
    while :; do
        wait $!
        status=$?
        kill -0 $! 2>/dev/null || break
    done
    # A job that makes no progress is not requeued forever: at most 50 times.
    if [ "$warned" ] && [ "$status" -ne 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 50 ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$status"
fi
