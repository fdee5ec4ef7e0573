#!/usr/bin/env bash
# Builds the Debian package, installs it, runs what its unit would run, removes and purges it, and looks whether
# anything is left. Needs root, and a machine that it may install on; takes some minutes for the release build.
set -euo pipefail
cd "$(dirname "$0")/../.."

command -v cargo-deb >/dev/null || cargo install --quiet cargo-deb
# The package is built from this folder's own target, whatever else is configured.
unset CARGO_TARGET_DIR
make -s deb
package=$(ls -t target/debian/nightjar_*.deb | head -1)
echo "built $package ($(stat -c %s "$package") bytes)"

policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made_policy=1
fi
broker=
clean_up() {
    [ -z "$broker" ] || kill "$broker" 2>/dev/null || true
    apt-get purge -y -qq nightjar >/dev/null 2>&1 || true
    [ -z "$made_policy" ] || rm -f "$policy"
}
trap clean_up EXIT

apt-get install -y -qq "./$package" >/dev/null
nightjar check-config --config /etc/nightjar/nightjar.toml
[ "$(stat -c '%U %a' /var/lib/nightjar)" = "nightjar 700" ]
man -w nightjar >/dev/null 2>&1 || test -e /usr/share/man/man1/nightjar.1.gz
if command -v systemd-analyze >/dev/null; then
    systemd-analyze verify /lib/systemd/system/nightjar.service 2>&1 | grep -i 'nightjar.service' && exit 1
fi

# What the unit starts, as the user that it starts it as.
runuser -u nightjar -- nightjar serve --config /etc/nightjar/nightjar.toml --set admin.address=off \
    --set listeners.main.address=127.0.0.1:21883 >/dev/null 2>&1 &
broker=$!
for _ in $(seq 100); do
    runuser -u nightjar -- nightjar health --config /etc/nightjar/nightjar.toml >/dev/null 2>&1 && break
    sleep 0.1
done
runuser -u nightjar -- nightjar health --config /etc/nightjar/nightjar.toml
kill "$broker"
wait "$broker" || true
broker=

apt-get remove -y -qq nightjar >/dev/null
test -e /etc/nightjar/nightjar.toml
test -d /var/lib/nightjar
test ! -e /usr/bin/nightjar
apt-get purge -y -qq nightjar >/dev/null
left=$(find / -xdev -path /proc -prune -o -path "$PWD" -prune -o \( -path '*/etc/nightjar*' -o -path '*/var/lib/nightjar*' \
    -o -path '/usr/bin/nightjar' -o -path '/usr/share/doc/nightjar*' -o -path '*/system/nightjar.service' \) -print 2>/dev/null \
    | grep -v '^/tmp\|^/work\|^/home\|^/root' || true)
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
! getent passwd nightjar
echo "installed, ran, removed and purged: nothing is left"
