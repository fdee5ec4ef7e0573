#!/usr/bin/env python3
"""Start `nightjar serve` as a mosquitto.conf of mosquitto's own broker tests says.

    mosquitto_conf.py NIGHTJAR CONF DATA

The few options that those tests use become settings (docs/configuration.md),
and this process becomes the broker, so that whoever started it can stop it.
An option without a counterpart ends it with status 3 and its name: a broker
that ignored it would fail the test for a reason that no one could see.
"""
import os
import sys

# mosquitto's option -> what it becomes. Limits hold for sessions of both kinds, as mosquitto makes no difference.
SETTINGS = {
    "max_keepalive": ["mqtt.max_keep_alive={}s"],
    "allow_zero_length_clientid": ["mqtt.allow_empty_client_id={}"],
    "max_inflight_messages": ["session.max_inflight={}", "mqtt.receive_maximum={}"],
    "max_queued_messages": ["session.queue_messages={}", "session.transient_queue_messages={}"],
    "max_queued_bytes": ["session.queue_bytes={}", "session.transient_queue_bytes={}"],
    "max_packet_size": ["mqtt.max_packet_size={}", "mqtt.max_connect_size=128KiB"],
    "maximum_qos": ["mqtt.max_qos={}"],
    "retain_available": ["mqtt.retain_available={}"],
}
# What mosquitto announces without being asked to; the suite compares CONNACK with it.
DEFAULTS = ["mqtt.receive_maximum=20", "mqtt.topic_alias_maximum=10", "mqtt.max_packet_size=unlimited"]
PER_LISTENER = {"allow_anonymous": "anonymous", "max_connections": "max_connections"}
# Files of its own, kept in the data folder here; what it logs; and what is the only way here.
NEEDLESS = {
    "persistence", "persistence_file", "persistence_location", "autosave_interval", "autosave_on_changes",
    "log_type", "log_dest", "per_listener_settings",
}


def settings(conf):
    found, listeners = list(DEFAULTS), 0
    for line in open(conf, encoding="utf-8"):
        option, _, value = line.strip().partition(" ")
        value = value.strip()
        if not option or option.startswith("#") or option in NEEDLESS:
            continue
        if option in ("listener", "port"):
            listeners += 1
            found.append("listeners.l%d.address=127.0.0.1:%s" % (listeners, value.split()[0]))
        elif option in PER_LISTENER:
            found.append("listeners.l%d.%s=%s" % (max(listeners, 1), PER_LISTENER[option], value))
        elif option in SETTINGS:
            found += [setting.format(value) for setting in SETTINGS[option]]
        else:
            print("no counterpart for mosquitto's option '%s'" % option, file=sys.stderr)
            sys.exit(3)
    return found


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    nightjar, conf, data = sys.argv[1:]
    command = [nightjar, "serve", "--data", data]
    for setting in settings(conf):
        command += ["--set", setting]
    os.execvp(nightjar, command)


if __name__ == "__main__":
    main()
