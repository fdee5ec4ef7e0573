//! A publisher that goes on until its message is taken, over refusals and lost connections.

use crate::support::client::ack_bytes;
use crate::support::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL};
use crate::support::{Client, Connect, Packet, Publish, Read, ms, secs};
use std::time::{Duration, Instant};

/// A publisher with a persistent session of its own.
#[derive(Debug)]
pub(crate) struct Pen {
    connect: Connect,
    port: u16,
    client: Option<Client>,
    id: u16,
}

impl Pen {
    pub(crate) fn at(port: u16, name: &str) -> Self {
        Self { connect: Connect::v5(name).persistent().manual(), port, client: None, id: 0 }
    }

    /// Publishes one message; gives how long it took until it was acknowledged.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, payload: &str, qos: u8) -> Duration {
        self.write(&Publish::new(topic, payload).qos(qos))
    }

    /// The same with a message of any kind.
    #[track_caller]
    pub(crate) fn write(&mut self, message: &Publish) -> Duration {
        let begin = Instant::now();
        let mut message = self.fresh(message);
        let mut received = false;
        while begin.elapsed() < secs(60) {
            let Some(client) = self.client() else {
                std::thread::sleep(ms(20));
                continue;
            };
            if !received {
                let wanted = if message.qos == 1 { PUBACK } else { PUBREC };
                let answer = ask(client, &message.encode(5), wanted, message.id);
                message.dup = true;
                match answer {
                    None => {
                        self.client = None;
                        continue;
                    }
                    Some(code) if code >= 0x80 => {
                        message = self.fresh(&message);
                        std::thread::sleep(ms(50));
                        continue;
                    }
                    Some(_) => received = true,
                }
            }
            if message.qos == 2 {
                let Some(client) = self.client() else { continue };
                if ask(client, &ack_bytes(PUBREL, message.id), PUBCOMP, message.id).is_none() {
                    self.client = None;
                    continue;
                }
            }
            return begin.elapsed();
        }
        panic!("not taken: {message:?}");
    }

    fn fresh(&mut self, message: &Publish) -> Publish {
        self.id = self.id % 65_535 + 1;
        Publish { id: self.id, dup: false, ..message.clone() }
    }

    fn client(&mut self) -> Option<&mut Client> {
        if self.client.is_none() {
            self.client = self.connect.try_open(self.port, secs(5));
        }
        self.client.as_mut()
    }
}

/// Sends this; gives the code of its acknowledgement, if one comes.
fn ask(client: &mut Client, bytes: &[u8], kind: u8, id: u16) -> Option<u8> {
    if !client.try_send(bytes) {
        return None;
    }
    let begin = Instant::now();
    while begin.elapsed() < secs(10) {
        match client.read_packet(secs(1)) {
            Read::Packet(Packet::Ack { kind: of, id: by, code, .. }) if (of, by) == (kind, id) => return Some(code),
            Read::Packet(Packet::Disconnect { .. }) | Read::Closed => return None,
            Read::Packet(_) | Read::Timeout => {}
        }
    }
    None
}
