#!/bin/sh
# Makes the secrets that the compose files name: random ones, in files, in a folder of their own. What is there already
# is kept.
#
#   sh deploy/compose/secrets.sh deploy/compose/single/secrets
#
# The folder lets in its owner alone. The files in it can be read by all, for each is mounted into containers whose users
# have other numbers than yours.
set -eu
folder=${1:-secrets}
image=${MOSQUITTO_IMAGE:-eclipse-mosquitto:2.0}
mkdir -p "$folder"
chmod 700 "$folder"
umask 022

# make NAME: what comes in becomes the file, whole or not at all.
make() {
    cat >"$folder/.new"
    [ -s "$folder/.new" ] || { echo "secrets.sh: $1 would be empty" >&2; exit 1; }
    chmod 444 "$folder/.new"
    mv "$folder/.new" "$folder/$1"
}

random() {
    head -c 24 /dev/urandom | base64 | tr '+/' '-_'
}

# hashed USER=FILE …: a password file for these users, as mosquitto writes it. Nightjar reads it as it is. The few
# rounds of its hash are no weakness where passwords are random.
hashed() {
    for pair in "$@"; do
        printf '%s %s\n' "${pair%%=*}" "$(cat "$folder/${pair#*=}")"
    done | if command -v mosquitto_passwd >/dev/null; then
        sh -c "$hash"
    else
        docker run --rm -i --entrypoint sh "$image" -c "$hash"
    fi
}
hash='file=$(mktemp); while read -r user password; do mosquitto_passwd -b "$file" "$user" "$password" || exit 1; done; cat "$file"; rm -f "$file"'

for name in nightjar_admin_token nightjar_client_password mosquitto_bridge_password mosquitto_client_password \
    grafana_password; do
    [ -e "$folder/$name" ] || random | make "$name"
done
# Clients of Nightjar: `client`. Clients of mosquitto: `client`, and Nightjar's bridge.
[ -e "$folder/nightjar_passwords" ] || hashed client=nightjar_client_password | make nightjar_passwords
[ -e "$folder/mosquitto_passwords" ] ||
    hashed client=mosquitto_client_password nightjar=mosquitto_bridge_password | make mosquitto_passwords
