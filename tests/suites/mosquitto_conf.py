#!/usr/bin/env python3
"""Start `nightjar serve` as a mosquitto.conf of mosquitto's own broker tests says.

    mosquitto_conf.py NIGHTJAR CONF DATA

The few options that those tests use become settings (docs/configuration.md),
and this process becomes the broker, so that whoever started it can stop it.
An option without a counterpart ends it with status 3 and its name: a broker
that ignored it would fail the test for a reason that no one could see.
"""
import os
import socket
import sys
import tempfile

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
DEFAULTS = ["mqtt.receive_maximum=20", "mqtt.topic_alias_maximum=10", "mqtt.max_packet_size=unlimited",
            # The suite is wrong on purpose and does not wait.
            "auth.backoff_after=1000000", "admin.address=off"]
# Ours hold for the node, mosquitto's too unless per_listener_settings is on, and these tests then have one listener.
NODE = {
    "password_file": ["auth.password_file={}"],
    "acl_file": ["access.mosquitto_acl={}"],
}
LISTENER = {
    "max_connections": "max_connections",
    "certfile": "certificate",
    "keyfile": "key",
    "cafile": "client_ca",
    "crlfile": "crl",
    "require_certificate": "client_certificate_required",
}
BRIDGE = {
    "remote_clientid": "client_id", "clientid": "client_id", "cleansession": "clean_start",
    "local_cleansession": "clean_local", "notifications": "notifications",
    "notifications_local_only": "notifications_local_only", "notification_topic": "notification_topic",
    "try_private": "bridge_flag", "round_robin": "round_robin", "start_type": "start", "remote_username": "username",
    "username": "username", "remote_password": "password", "password": "password", "bridge_cafile": "ca",
    "bridge_certfile": "certificate", "bridge_keyfile": "key", "bridge_insecure": "insecure",
    "bridge_outgoing_retain": "outgoing_retain", "bridge_max_packet_size": "max_packet_size",
    "bridge_receive_maximum": "receive_maximum", "threshold": "lazy_threshold", "bridge_alpn": "alpn",
    "local_username": "local_user",
}
SECONDS = {"keepalive_interval": "keep_alive", "idle_timeout": "idle_timeout",
           "bridge_session_expiry_interval": "session_expiry"}
VERSIONS = {"mqttv31": "3.1", "mqttv311": "3.1.1", "mqttv50": "5"}
# A bridge's identifier here is its name; aliases are not used; what only goes out any more is unsubscribed when the
# remote sends by it.
BRIDGE_NEEDLESS = {"local_clientid", "bridge_max_topic_alias", "bridge_attempt_unsubscribe", "local_password"}
# Files of its own, kept in the data folder here; what it logs; and what is the only way here.
NEEDLESS = {
    "persistence", "persistence_file", "persistence_location", "autosave_interval", "autosave_on_changes",
    "log_type", "log_dest", "per_listener_settings",
}


def chain(conf, certificate, authorities):
    """mosquitto sends the authorities of cafile along with its certificate; here the chain is one file."""
    path = os.path.join(tempfile.mkdtemp(), "chain.pem")
    with open(path, "w", encoding="utf-8") as out:
        out.write(open(certificate, encoding="utf-8").read() + open(authorities, encoding="utf-8").read())
    return path


def settings(conf):
    found, listeners, bridges, anonymous, each = list(DEFAULTS), [], [], None, False
    for line in open(conf, encoding="utf-8"):
        option, _, value = line.strip().partition(" ")
        value = value.strip()
        each |= (option, value) == ("per_listener_settings", "true")
        if not option or option.startswith("#") or option in NEEDLESS:
            continue
        if option in ("listener", "port"):
            listeners.append({"address": "127.0.0.1:%s" % value.split()[0], "option": option})
        elif option == "connection":
            client_id = "%s.%s" % (socket.gethostname(), value)
            bridges.append({"version": "3.1.1", "topics": [], "loop_window": "off", "client_id": client_id})
        elif bridges and bridge(bridges[-1], option, value):
            pass
        elif option == "allow_anonymous":
            anonymous = value
        elif option in ("use_identity_as_username", "use_subject_as_username"):
            # The subject as a whole is no user name here: its common name stands for it.
            listeners[-1]["identity"] = "cn" if value == "true" else "none"
        elif option in LISTENER:
            (listeners or [{}])[-1][LISTENER[option]] = value
        elif option in SETTINGS or option in NODE:
            found += [setting.format(value) for setting in SETTINGS.get(option) or NODE[option]]
        else:
            print("no counterpart for mosquitto's option '%s'" % option, file=sys.stderr)
            sys.exit(3)
    for number, listener in enumerate(listeners):
        if "certificate" in listener and "client_ca" in listener:
            listener["certificate"] = chain(conf, listener["certificate"], listener["client_ca"])
        # Without a word of it a certificate is neither asked for nor taken for a name there.
        if listener.get("client_certificate_required") != "true" and "identity" not in listener:
            for option in ("client_ca", "crl", "client_certificate_required"):
                listener.pop(option, None)
        elif listener.get("client_certificate_required") != "true":
            listener["client_certificate_required"] = "false"
        # mosquitto lets nobody in unless told to, except where no listener is configured at all; and, by an oversight
        # that a test relies on, by `port` where each listener has settings of its own.
        by_port = listener.pop("option") == "port"
        listener["anonymous"] = anonymous or ("true" if by_port and each else "false")
        found += ["listeners.l%d.%s=%s" % (number, option, value) for option, value in listener.items()]
    for number, one in enumerate(bridges):
        scheme = "mqtts" if "ca" in one else "mqtt"
        # What mosquitto forgets of the bridge there it forgets here, unless told otherwise.
        one.setdefault("clean_local", one.get("clean_start", "false"))
        one["address"] = ["%s://%s" % (scheme, address) for address in one["address"].split()]
        # Lists are parted by commas here, which these rules do not hold.
        values = {key: ",".join(value) if isinstance(value, list) else value for key, value in one.items()}
        found += ["bridges.b%d.%s=%s" % (number, option, value) for option, value in values.items()]
    return found


def bridge(one, option, value):
    """Takes an option of a bridge; whether it is one."""
    if option in ("address", "addresses"):
        one["address"] = value
    elif option == "topic":
        one["topics"].append(value)
    elif option == "bridge_protocol_version":
        one["version"] = VERSIONS[value]
    elif option == "restart_timeout":
        times = value.split()
        one["retry_base"], one["retry_cap"] = times[0] + "s", times[-1] + "s"
    elif option in SECONDS:
        one[SECONDS[option]] = value + "s"
    elif option in BRIDGE:
        one[BRIDGE[option]] = value
    else:
        return option in BRIDGE_NEEDLESS
    return True


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
