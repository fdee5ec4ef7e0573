#!/bin/sh
# Makes the secrets that docker-compose.yml names: random ones, and certificates for the nodes, in files, in a folder of
# their own. What is there already is kept.
#
#   sh deploy/compose/secrets.sh [FOLDER]
#
# The folder lets in its owner alone. The files in it can be read by all, for each is mounted into containers whose users
# have other numbers than yours.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$top/deploy/compose/secrets}
nightjar=${NIGHTJAR_IMAGE:-nightjar:latest}
mosquitto=${MOSQUITTO_IMAGE:-eclipse-mosquitto:2.0}
mkdir -p "$folder"
chmod 700 "$folder"
umask 022

# make NAME [MODE]: what comes in becomes the file, whole or not at all.
make() {
    rm -f "$folder/.new"
    cat >"$folder/.new"
    [ -s "$folder/.new" ] || { echo "secrets.sh: $1 would be empty" >&2; exit 1; }
    chmod "${2:-444}" "$folder/.new"
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
        docker run --rm -i --entrypoint sh "$mosquitto" -c "$hash"
    fi
}
hash='file=$(mktemp); while read -r user password; do mosquitto_passwd -b "$file" "$user" "$password" || exit 1; done; cat "$file"; rm -f "$file"'

# The authority of the nodes, and a certificate for each: by Nightjar's own image, which is built if it is not there.
certificates() {
    docker image inspect "$nightjar" >/dev/null 2>&1 ||
        docker build -f "$top/deploy/docker/Dockerfile" -t "$nightjar" "$top"
    made=$(mktemp -d)
    trap 'rm -rf "$made"' EXIT
    docker run --rm --entrypoint sh "$nightjar" -c "$certify" | tar -C "$made" -xf -
    for node in node1 node2 node3; do
        make "${node}_certificate" <"$made/$node.pem"
        make "${node}_key" <"$made/$node.key"
    done
    # For one more node, some day. No container has it: whoever does can make a node.
    make cluster_ca_key 400 <"$made/cluster-ca.key"
    make cluster_ca <"$made/cluster-ca.pem"
}
certify='nightjar cert dev /tmp/tls --node node1 --node node2 --node node3 >&2 && tar -C /tmp/tls -cf - .'

for name in nightjar_admin_token nightjar_client_password mosquitto_bridge_password mosquitto_client_password \
    grafana_password; do
    [ -e "$folder/$name" ] || random | make "$name"
done
# Clients of Nightjar: `client`. Clients of mosquitto: `client`, and Nightjar's bridge.
[ -e "$folder/nightjar_passwords" ] || hashed client=nightjar_client_password | make nightjar_passwords
[ -e "$folder/mosquitto_passwords" ] ||
    hashed client=mosquitto_client_password nightjar=mosquitto_bridge_password | make mosquitto_passwords
# The last one that is made says that all are there.
[ -e "$folder/cluster_ca" ] || certificates
