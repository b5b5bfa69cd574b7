#!/usr/bin/env bash
# Install Apptainer and what it builds images with, as root on Debian 12 (which has no package of it).
#
# The package comes from Debian's unstable suite, from the mirror that this machine's apt is configured with. It wants a
# newer C library than Debian 12's: that lies in a folder of its own, and only Apptainer's two programs are pointed at
# it. Nothing else of unstable is installed. Does nothing where `apptainer` runs already.
set -euo pipefail

PRIVATE=/usr/local/lib/apptainer
TOOLS=(ca-certificates containernetworking-plugins debootstrap fuse-overlayfs fuse2fs libseccomp2 libsqlite3-0 patchelf
    squashfs-tools squashfuse uidmap)

if command -v apptainer >/dev/null && command -v debootstrap >/dev/null && apptainer version >/dev/null 2>&1; then
    echo "apptainer $(apptainer version) is there already"
    exit 0
fi
if [[ $(id -u) -ne 0 ]]; then
    echo "$0: run this as root" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${TOOLS[@]}" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

# A package list of its own, so that the machine's apt never sees unstable.
mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }')
if [[ -z $mirror ]]; then
    echo "$0: no Debian mirror in this machine's apt configuration" >&2
    exit 1
fi
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$work"/{lists,cache/archives}/partial "$work/packages"
echo "deb [signed-by=$keys] $mirror unstable main" >"$work/sources.list"
cat >"$work/apt.conf" <<END
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$work/lists";
Dir::Cache "$work/cache";
APT::Sandbox::User "root";
END
(
    export APT_CONFIG=$work/apt.conf
    cd "$work/packages"
    apt-get update -qq
    apt-get download -qq apptainer libc6
)
for name in apptainer libc6; do
    dpkg-deb -x "$work/packages/${name}_"*.deb "$work/$name"
done

libraries=usr/lib/x86_64-linux-gnu
rm -rf "$PRIVATE" "/$libraries/apptainer"
mkdir -p "$PRIVATE"
cp -a "$work/libc6/$libraries/." "$PRIVATE/"
for program in usr/bin/apptainer "$libraries/apptainer/bin/starter"; do
    patchelf --set-interpreter "$PRIVATE/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$PRIVATE:/$libraries" \
        "$work/apptainer/$program"
done
cp -a "$work/apptainer/$libraries/apptainer" "/$libraries/"
mkdir -p /etc/apptainer /var/lib/apptainer/mnt/session
cp -a "$work/apptainer/etc/apptainer/." /etc/apptainer/
install -m 755 "$work/apptainer/usr/bin/apptainer" "$PRIVATE/program"

# Root without CAP_SYS_RESOURCE (bit 24), as in many a container, must enter a user namespace to start one; a build is
# left outside, where it may make device files, and comes here again for its %post.
cat >/usr/bin/apptainer <<END
#!/usr/bin/env bash
if [[ \$(id -u) -eq 0 && \${1-} != build ]] && ! (( 0x\$(awk '/^CapEff/ { print \$2 }' /proc/self/status) >> 24 & 1 )); then
    exec unshare --user --map-root-user $PRIVATE/program "\$@"
fi
exec $PRIVATE/program "\$@"
END
chmod 755 /usr/bin/apptainer
echo "apptainer $(apptainer version) is installed"
