"""The workflow on a real Slurm: two nodes on this machine, started by tests/support/slurm.py."""


def test_the_cluster_runs_a_job_on_two_nodes_each_with_its_gpu(slurm):
    shown = slurm.run("srun", "-N2", "--gres=gpu:1", "bash", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES")
    assert sorted(shown.split("\n")) == ["", "n1 0", "n2 0"]
