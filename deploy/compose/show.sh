#!/bin/sh
# Shows what docker-compose.yml has brought up at work: a message through node 2 to mosquitto, and one back.
#
#   sh deploy/compose/show.sh
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"

secret() {
    cat "deploy/compose/secrets/$1"
}

compose() {
    if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}

# Mosquitto's container has clients, and reaches both brokers.
client() {
    compose exec -T mosquitto "$@"
}
at_node2() {
    program=$1
    shift
    client "$program" -h node2 -u client -P "$(secret nightjar_client_password)" "$@"
}
at_mosquitto() {
    program=$1
    shift
    client "$program" -u client -P "$(secret mosquitto_client_password)" "$@"
}

# wait_for AT: until it lets clients in. It may only have been started.
wait_for() {
    tries=120
    until "$1" mosquitto_pub -q 1 -t show -m here >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { echo "show.sh: nobody lets us in (${1#at_})" >&2; exit 1; }
        sleep 1
    done
}

# carry FROM TOPIC TO TOPIC MESSAGE: the receiver has a session first, in which the message then waits for it.
carry() {
    "$3" mosquitto_sub -i show -c -q 1 -t "$4" -E
    echo "published at ${1#at_}: $2 $5"
    "$1" mosquitto_pub -q 1 -t "$2" -m "$5"
    got=$("$3" mosquitto_sub -i show -c -q 1 -t "$4" -v -W 60 -C 1)
    echo "received at ${3#at_}: $got"
    "$3" mosquitto_sub -i show -t "$4" -E
}

wait_for at_node2
wait_for at_mosquitto
carry at_node2 site/temperature at_mosquitto plant7/site/temperature 21.5
carry at_mosquitto plant7/orders/pump at_node2 orders/pump on
