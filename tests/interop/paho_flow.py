"""The paho client against a broker on this machine: paho_flow.py PORT PROTOCOL_LEVEL [tcp|websockets [CA]]"""

import queue
import sys
import time

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT, LEVEL = int(sys.argv[1]), int(sys.argv[2])
TRANSPORT = sys.argv[3] if len(sys.argv) > 3 else "tcp"
CA = sys.argv[4] if len(sys.argv) > 4 else None
LIMIT = 10


def new_client(client_id, clean):
    arguments = {"client_id": client_id, "protocol": LEVEL, "transport": TRANSPORT}
    if LEVEL != paho.MQTTv5:
        arguments["clean_session"] = clean
    if hasattr(paho, "CallbackAPIVersion"):
        return paho.Client(paho.CallbackAPIVersion.VERSION1, **arguments)
    return paho.Client(**arguments)


class Peer:
    """A connected client with its messages in a queue."""

    def __init__(self, client_id, clean=True, will=None):
        self.inbox, self.granted, self.connected = queue.Queue(), queue.Queue(), queue.Queue()
        self.client = new_client(client_id, clean)
        self.client.on_message = lambda _c, _u, m: self.inbox.put((m.topic, m.payload, m.qos, m.retain))
        self.client.on_connect = lambda _c, _u, flags, code, *_: self.connected.put((flags["session present"], code))
        self.client.on_subscribe = lambda _c, _u, _mid, granted, *_: self.granted.put(granted)
        if CA:
            self.client.tls_set(CA)
        if will:
            self.client.will_set(*will)
        arguments = {}
        if LEVEL == paho.MQTTv5:
            arguments["clean_start"] = clean
            if not clean:
                arguments["properties"] = Properties(PacketTypes.CONNECT)
                arguments["properties"].SessionExpiryInterval = 300
        self.client.connect("localhost" if CA else "127.0.0.1", PORT, 60, **arguments)
        self.client.loop_start()
        self.present, code = self.connected.get(timeout=LIMIT)
        assert code == 0, code

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        granted = self.granted.get(timeout=LIMIT)
        value = getattr(granted[0], "value", granted[0])
        assert value == qos, granted

    def publish(self, topic, payload, qos=0, retain=False):
        info = self.client.publish(topic, payload, qos, retain)
        info.wait_for_publish()
        assert info.is_published()

    def expect(self, topic, payload, qos, retain):
        got = self.inbox.get(timeout=LIMIT)
        assert got == (topic, payload, qos, retain), got

    def quiet(self):
        time.sleep(0.2)
        assert self.inbox.empty(), self.inbox.get()

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()

    def cut(self):
        self.client.loop_stop()
        self.client._sock.close()


def every_qos():
    publisher = Peer("publisher")
    for subscribed in range(3):
        subscriber = Peer("subscriber")
        subscriber.subscribe("qos/#", subscribed)
        for published in range(3):
            publisher.publish(f"qos/{published}", b"m", published)
            subscriber.expect(f"qos/{published}", b"m", min(published, subscribed), False)
        subscriber.quiet()
        subscriber.end()
    publisher.end()


def retained():
    publisher = Peer("publisher")
    publisher.publish("kept", b"value", 1, True)
    later = Peer("later")
    later.subscribe("kept", 2)
    later.expect("kept", b"value", 1, True)
    publisher.publish("kept", b"", 1, True)
    later.expect("kept", b"", 1, False)
    latest = Peer("latest")
    latest.subscribe("kept", 2)
    latest.quiet()
    for peer in (publisher, later, latest):
        peer.end()


def while_away():
    keeper = Peer("keeper", clean=False)
    keeper.subscribe("away/#", 2)
    keeper.end()
    publisher = Peer("publisher")
    for n in range(100):
        publisher.publish("away/x", str(n).encode(), 1 + n % 2)
    keeper = Peer("keeper", clean=False)
    if LEVEL > paho.MQTTv31:
        assert keeper.present
    seen = {1: [], 2: []}
    for _ in range(100):
        _topic, payload, qos, _retain = keeper.inbox.get(timeout=LIMIT)
        seen[qos].append(int(payload))
    assert seen == {1: list(range(0, 100, 2)), 2: list(range(1, 100, 2))}, seen
    keeper.quiet()
    keeper.end()
    Peer("keeper").end()
    publisher.end()


def will():
    watcher = Peer("watcher")
    watcher.subscribe("will", 2)
    dying = Peer("dying", will=("will", b"gone", 1, False))
    dying.cut()
    watcher.expect("will", b"gone", 1, False)
    Peer("leaving", will=("will", b"gone", 1, False)).end()
    watcher.quiet()
    watcher.end()


def large():
    peer = Peer("large")
    peer.subscribe("large", 1)
    peer.publish("large", b"x" * 1_000_000, 1)
    peer.expect("large", b"x" * 1_000_000, 1, False)
    peer.end()


for step in (every_qos, retained, while_away, will, large):
    step()
    print(f"{step.__name__}: ok", flush=True)
