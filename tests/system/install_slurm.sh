#!/usr/bin/env bash
# Install what tests of Slurm start: Slurm, munge, and for accounts slurmdbd and MariaDB; from Debian, as root. Quick
# when all is there.
set -euo pipefail

for tool in munged slurmctld slurmd sbatch scontrol slurmdbd sacctmgr mariadbd mariadb-install-db my_print_defaults; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$tool" >/dev/null || missing=yes
done
[[ ${missing:-} ]] || exit 0

apt-get update -qq
# The tests start daemons of their own; Debian's packages must not start theirs beside them.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    slurm-wlm munge slurmdbd mariadb-server-core mariadb-client-core
