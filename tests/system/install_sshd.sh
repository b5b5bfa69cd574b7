#!/usr/bin/env bash
# Install what tests of a delivery over SSH start: the OpenSSH server and client, and rsync; from Debian, as root. Quick
# when all is there.
set -euo pipefail

for tool in sshd ssh ssh-keygen rsync; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$tool" >/dev/null || missing=yes
done
[[ ${missing:-} ]] || exit 0

apt-get update -qq
# The tests start a server of their own; Debian's package must not start its own beside it.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssh-server openssh-client rsync
