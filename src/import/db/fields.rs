//! The fields of one chunk. Every length is checked against what is there before anything is made of it.

use nightjar_mqtt::{Frame, PacketType, PublishProperties, Version, decode_publish_from_server, topic};

/// What is wrong, and how far into the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) offset: u64,
    pub(crate) what: String,
}

/// A chunk's bytes, taken from the front.
pub(super) struct Fields<'b> {
    bytes: &'b [u8],
    offset: u64,
}

impl<'b> Fields<'b> {
    /// The fields in `bytes`, which begin at `offset` of the file.
    pub(super) fn new(bytes: &'b [u8], offset: u64) -> Self {
        Self { bytes, offset }
    }

    /// Damage at the place where the next field begins.
    pub(super) fn damage(&self, what: impl Into<String>) -> Damage {
        Damage { offset: self.offset, what: what.into() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&mut self, length: usize, what: &str) -> Result<&'b [u8], Damage> {
        let Some((taken, rest)) = self.bytes.split_at_checked(length) else {
            return Err(
                self.damage(format!("{what}: expected {length} bytes, found {} in its chunk", self.bytes.len()))
            );
        };
        self.bytes = rest;
        self.offset += length as u64;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Damage> {
        let taken = self.bytes(N, what)?;
        Ok(std::array::from_fn(|at| taken[at]))
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8, Damage> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, what: &str) -> Result<u16, Damage> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Damage> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// A number of the machine that wrote the file.
    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Damage> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self, length: u16, what: &str) -> Result<&'b str, Damage> {
        let place = self.offset;
        let bytes = self.bytes(length.into(), what)?;
        let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        text.ok_or(Damage { offset: place, what: format!("{what}: expected text in UTF-8") })
    }

    pub(super) fn topic(&mut self, length: u16) -> Result<&'b str, Damage> {
        let place = self.offset;
        let name = self.bytes(length.into(), "topic")?;
        topic::validate_name(name).map_err(|error| Damage { offset: place, what: format!("topic: {error}") })
    }

    pub(super) fn filter(&mut self, length: u16) -> Result<&'b str, Damage> {
        let place = self.offset;
        let filter = self.text(length, "topic filter")?;
        let parsed = topic::parse_filter(filter);
        parsed.map_err(|error| Damage { offset: place, what: format!("topic filter: {error}") }).map(|_| filter)
    }

    /// All that is left, as the properties of a PUBLISH: a length and as many bytes.
    ///
    /// They are as they were on the wire, so the codec reads them, in a PUBLISH around them that is kept in `scratch`.
    pub(super) fn properties<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<PublishProperties<'s>, Damage> {
        let place = self.offset;
        let block = self.bytes(self.bytes.len(), "properties")?;
        if block.is_empty() {
            return Ok(PublishProperties::default());
        }
        scratch.clear();
        scratch.extend_from_slice(b"\0\x01t");
        scratch.extend_from_slice(block);
        let frame = Frame { kind: PacketType::Publish, flags: 0, body: scratch, size: scratch.len() };
        let publish = decode_publish_from_server(&frame, Version::V5);
        let publish = publish.map_err(|error| Damage { offset: place, what: format!("properties: {error}") })?;
        if !publish.payload.is_empty() {
            return Err(Damage { offset: place, what: "properties: expected nothing behind them".to_owned() });
        }
        Ok(publish.properties)
    }

    /// Nothing is left.
    pub(super) fn end(&self, what: &str) -> Result<(), Damage> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        Err(self.damage(format!("{what}: expected its chunk to end, found {} more bytes", self.bytes.len())))
    }
}
