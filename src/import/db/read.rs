//! Reading a database from its first byte to its last, a chunk at a time. Nothing is believed: a length is never more
//! than what is left of the file, so memory is bounded by the file's size.

use super::fields::{Damage, Fields};
use super::{Client, ClientMessage, Database, State};
use nightjar_base::Wall;
use nightjar_mqtt::{Message, QoS, RetainHandling, SubscriptionOptions};
use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::sync::Arc;

const MAGIC: &[u8; 15] = b"\0\xb5\0mosquitto db";
const CONFIGURATION: u32 = 1;
const MESSAGE: u32 = 2;
const CLIENT_MESSAGE: u32 = 3;
const RETAINED: u32 = 4;
const SUBSCRIPTION: u32 = 5;
const CLIENT: u32 = 6;
/// What mosquitto takes for a payload at most.
const LARGEST_PAYLOAD: usize = 268_435_455;

/// Why a database is not read.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is not as it should be.
    Damaged(Damage),
    /// The system does not give it.
    Io(std::io::Error),
}

impl From<Damage> for Failure {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// Reads the database in `source`, which has `size` bytes.
pub(crate) fn read(source: &mut dyn Read, size: u64) -> Result<Database, Failure> {
    let mut reader = Reader { source, size, offset: 0, buffer: Vec::new() };
    let version = reader.header()?;
    let database = Database { version, ..Database::default() };
    let mut building = Building { database, numbers: HashMap::new(), configured: false };
    while let Some((kind, offset)) = reader.chunk()? {
        let mut fields = Fields::new(&reader.buffer, offset);
        building.take(kind, &mut fields)?;
    }
    if !building.configured {
        let what = "expected a configuration chunk, found the end of the file".to_owned();
        return Err(Damage { offset: size, what }.into());
    }
    Ok(building.database)
}

struct Reader<'s> {
    source: &'s mut dyn Read,
    size: u64,
    offset: u64,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    /// Reads `length` bytes into the buffer.
    fn fill(&mut self, length: usize, what: &str) -> Result<(), Failure> {
        let left = self.size.saturating_sub(self.offset);
        let damage = |found: u64| {
            let what = format!("{what}: expected {length} bytes, found {found} up to the end of the file");
            Failure::Damaged(Damage { offset: self.offset, what })
        };
        if length as u64 > left {
            return Err(damage(left));
        }
        self.buffer.clear();
        self.buffer.resize(length, 0);
        self.source.read_exact(&mut self.buffer).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => damage(0),
            _ => Failure::Io(error),
        })?;
        self.offset += length as u64;
        Ok(())
    }

    /// The format version.
    fn header(&mut self) -> Result<u32, Failure> {
        self.fill(23, "header")?;
        let mut fields = Fields::new(&self.buffer, 0);
        if fields.bytes(15, "header")? != MAGIC {
            let what = "expected mosquitto's database, which begins with its name".to_owned();
            return Err(Damage { offset: 0, what }.into());
        }
        // A checksum that mosquitto never wrote.
        fields.u32("checksum")?;
        let place = fields.damage("");
        match fields.u32("format")? {
            version @ (5 | 6) => Ok(version),
            older @ 2..=4 => {
                let what = format!(
                    "expected format 5 or 6, found {older}: start and stop mosquitto 2 on it, which writes format 6"
                );
                Err(Damage { what, ..place }.into())
            }
            other => Err(Damage { what: format!("expected format 5 or 6, found {other}"), ..place }.into()),
        }
    }

    /// Reads the next chunk into the buffer; its kind, and where its content begins.
    fn chunk(&mut self) -> Result<Option<(u32, u64)>, Failure> {
        if self.offset >= self.size {
            return Ok(None);
        }
        self.fill(8, "a chunk's head")?;
        let mut fields = Fields::new(&self.buffer, self.offset - 8);
        let (kind, length) = (fields.u32("kind")?, fields.u32("length")?);
        let start = self.offset;
        self.fill(usize::try_from(length).unwrap_or(usize::MAX), name(kind))?;
        Ok(Some((kind, start)))
    }
}

fn name(kind: u32) -> &'static str {
    match kind {
        CONFIGURATION => "configuration",
        MESSAGE => "message",
        CLIENT_MESSAGE => "client message",
        RETAINED => "retained message",
        SUBSCRIPTION => "subscription",
        CLIENT => "client",
        _ => "chunk of unknown kind",
    }
}

struct Building {
    database: Database,
    /// Where in the list each client is.
    numbers: HashMap<String, usize>,
    /// Whether the configuration chunk was there, which mosquitto always writes.
    configured: bool,
}

impl Building {
    fn take(&mut self, kind: u32, fields: &mut Fields<'_>) -> Result<(), Damage> {
        match kind {
            CONFIGURATION => self.configuration(fields),
            MESSAGE => self.message(fields),
            CLIENT_MESSAGE => self.client_message(fields),
            RETAINED => {
                self.database.retained.push(fields.u64("message number")?);
                fields.end(name(kind))
            }
            SUBSCRIPTION => self.subscription(fields),
            CLIENT => self.client(fields),
            // mosquitto passes over it; a kind that no version writes is damage, and what follows would be too.
            other => Err(fields.damage(format!("expected a chunk of kind 1 to 6, found {other}"))),
        }
    }

    fn configuration(&mut self, fields: &mut Fields<'_>) -> Result<(), Damage> {
        self.configured = true;
        fields.u64("last message number")?;
        self.database.complete = fields.u8("shutdown")? != 0;
        let size = fields.u8("size of numbers")?;
        if size != 8 {
            return Err(fields.damage(format!("expected numbers of 8 bytes, found {size}")));
        }
        padding(fields, &[6, 2], CONFIGURATION)
    }

    fn message(&mut self, fields: &mut Fields<'_>) -> Result<(), Damage> {
        let number = fields.u64("message number")?;
        let expires = fields.u64("expiry time")?.cast_signed();
        let payload = fields.u32("payload length")? as usize;
        fields.u16("packet identifier")?;
        let (source, user, topic) =
            (fields.u16("source length")?, fields.u16("user length")?, fields.u16("topic length")?);
        fields.u16("port")?;
        let qos = qos(fields)?;
        let retain = fields.u8("retain")? != 0;
        fields.text(source, "source")?;
        fields.text(user, "user name")?;
        let topic = fields.topic(topic)?;
        if payload > LARGEST_PAYLOAD {
            return Err(
                fields.damage(format!("expected a payload of at most {LARGEST_PAYLOAD} bytes, found {payload}"))
            );
        }
        let payload = fields.bytes(payload, "payload")?;
        let place = fields.damage("");
        let (mut whole, mut scratch) = (Vec::new(), Vec::new());
        let properties = fields.properties(&mut whole)?;
        let mut message = Message::new(topic, properties.forwarded(&mut scratch), payload);
        message.qos = qos;
        message.retain = retain;
        message.expires = u64::try_from(expires).ok().filter(|&at| at > 0).map(|at| Wall(at.saturating_mul(1000)));
        match self.database.messages.insert(number, Arc::new(message)) {
            None => Ok(()),
            Some(_) => Err(Damage { what: format!("message number {number} is there twice"), ..place }),
        }
    }

    fn client(&mut self, fields: &mut Fields<'_>) -> Result<(), Damage> {
        let expiry_time = fields.u64("expiry time")?.cast_signed();
        let expiry = fields.u32("expiry interval")?;
        fields.u16("last packet identifier")?;
        let id = fields.u16("client identifier length")?;
        let mut client = Client { expiry_time, expiry, ..Client::default() };
        let mut user = 0;
        if self.database.version == 6 {
            client.port = fields.u16("port")?;
            user = fields.u16("user name length")?;
            // The compiler's padding: 4 bytes, or none where numbers of 8 bytes may stand anywhere.
            let tail = fields.len().saturating_sub(usize::from(id) + usize::from(user));
            if tail != 0 && tail != 4 {
                return Err(
                    fields.damage(format!("client: expected its chunk to end with its names, found {tail} more bytes"))
                );
            }
            fields.bytes(tail, "padding")?;
        }
        let place = fields.damage("");
        client.id = fields.text(id, "client identifier")?.to_owned();
        client.user = Some(fields.text(user, "user name")?.to_owned()).filter(|user| !user.is_empty());
        fields.end(name(CLIENT))?;
        if client.id.is_empty() {
            self.database.orphans += 1;
            return Ok(());
        }
        if self.numbers.insert(client.id.clone(), self.database.clients.len()).is_some() {
            return Err(Damage { what: format!("client {:?} is there twice", client.id), ..place });
        }
        self.database.clients.push(client);
        Ok(())
    }

    fn client_message(&mut self, fields: &mut Fields<'_>) -> Result<(), Damage> {
        let message = fields.u64("message number")?;
        let packet_id = fields.u16("packet identifier")?;
        let id = fields.u16("client identifier length")?;
        let qos = qos(fields)?;
        let place = fields.damage("");
        let state = fields.u8("state")?;
        let flags = fields.u8("flags")?;
        let outgoing = match fields.u8("direction")? {
            0 => false,
            1 => true,
            other => return Err(Damage { what: format!("expected direction 0 or 1, found {other}"), ..place }),
        };
        let Some(state) = self::state(state, outgoing) else {
            return Err(Damage { what: format!("expected a state from 1 to 11, found {state}"), ..place });
        };
        let client = fields.text(id, "client identifier")?;
        let mut scratch = Vec::new();
        let identifier = fields.properties(&mut scratch)?.identifiers().last();
        let Some(&at) = self.numbers.get(client) else {
            self.database.orphans += 1;
            return Ok(());
        };
        let (retain, dup) = (flags >> 4 != 0, flags & 0x0f != 0);
        let found = ClientMessage { message, packet_id, qos, state, retain, dup, identifier };
        let client = &mut self.database.clients[at];
        if outgoing {
            client.outgoing.push(found)
        } else {
            client.incoming.push(found)
        }
        Ok(())
    }

    fn subscription(&mut self, fields: &mut Fields<'_>) -> Result<(), Damage> {
        let identifier = fields.u32("subscription identifier")?;
        let (id, filter) = (fields.u16("client identifier length")?, fields.u16("topic filter length")?);
        let qos = qos(fields)?;
        let bits = fields.u8("options")?;
        let place = fields.damage("");
        let fixed = fields.len().saturating_sub(usize::from(id) + usize::from(filter));
        padding_of(fields, fixed, &[2])?;
        let client = fields.text(id, "client identifier")?;
        let filter = fields.filter(filter)?.to_owned();
        fields.end(name(SUBSCRIPTION))?;
        if identifier > 268_435_455 {
            return Err(Damage {
                what: format!("expected a subscription identifier up to 268435455, found {identifier}"),
                ..place
            });
        }
        let options = SubscriptionOptions {
            qos,
            no_local: bits & 0x04 != 0,
            retain_as_published: bits & 0x08 != 0,
            retain_handling: match bits & 0x30 {
                0x10 => RetainHandling::IfNew,
                0x20 => RetainHandling::Never,
                _ => RetainHandling::Always,
            },
            identifier: Some(identifier).filter(|&identifier| identifier != 0),
        };
        match self.numbers.get(client) {
            Some(&at) => self.database.clients[at].subscriptions.push((filter, options)),
            None => self.database.orphans += 1,
        }
        Ok(())
    }
}

fn qos(fields: &mut Fields<'_>) -> Result<QoS, Damage> {
    let place = fields.damage("");
    match fields.u8("QoS")? {
        bits @ 0..=2 => Ok(QoS::from_bits(bits).unwrap_or_default()),
        other => Err(Damage { what: format!("expected QoS 0, 1 or 2, found {other}"), ..place }),
    }
}

fn state(number: u8, outgoing: bool) -> Option<State> {
    Some(match (number, outgoing) {
        (1 | 2 | 4, true) => State::Publish,
        (3 | 5, true) => State::Sent,
        (6 | 9, true) => State::Released,
        (10 | 11, true) => State::Queued,
        (7 | 8, false) => State::AwaitsRelease,
        (1..=11, false) => State::Queued,
        _ => return None,
    })
}

/// Bytes that the compiler left between the fields and the end of a chunk.
fn padding(fields: &mut Fields<'_>, sizes: &[usize], kind: u32) -> Result<(), Damage> {
    let left = fields.len();
    padding_of(fields, left, sizes)?;
    fields.end(name(kind))
}

fn padding_of(fields: &mut Fields<'_>, left: usize, sizes: &[usize]) -> Result<(), Damage> {
    if sizes.contains(&left) {
        return fields.bytes(left, "padding").map(drop);
    }
    Err(fields.damage(format!("expected the chunk to end with its texts, found {left} bytes between")))
}
