//! What a start does with the folder that it finds.
//!
//! ```text
//! check the whole journal ──► lay each shard's unfinished checkpoint over the tables ──► load ──► replay the ops behind
//! ```
//! A torn tail is wiped; all other damage is refused, with its place.

use super::StoreError;
use super::codec::decode_ops;
use super::engine::{Engine, EngineError, Identity, checkpoint_change, checkpoint_index, chunks};
use super::files::Files;
use super::journal::{Resume, Segment, Shelf};
use super::record::{Entry, Kind, Part};
use super::segment::{self, Header, scan};
use nightjar_base::ShardId;
use nightjar_shard::{Shard, TablesError};
use std::io;
use std::path::{Path, PathBuf};

/// The state as it was last durable.
pub(crate) struct Recovered {
    pub(crate) identity: Identity,
    pub(crate) shards: Vec<Shard>,
    /// By shard: what the tables stand at.
    pub(crate) checkpointed: Vec<u64>,
    pub(crate) resume: Resume,
}

/// Reads journal and tables. `fresh` is the identity that a folder gets which has none yet.
pub(crate) fn recover(
    files: &dyn Files,
    engine: &dyn Engine,
    shelf: &Shelf,
    fresh: Identity,
) -> Result<Recovered, StoreError> {
    let known = Identity::read(engine).map_err(|error| tables_error(files, error))?;
    let names = segments(files)?;
    if names.is_empty() && known.is_some() {
        let file = files.folder().join(segment::name(1));
        let what = "the tables are there, but the whole journal is missing".to_owned();
        return Err(StoreError::Corrupt { file, offset: 0, what });
    }
    let mut survey = Survey::new(files, known);
    for (at, &first) in names.iter().enumerate() {
        survey.segment(first, at + 1 == names.len())?;
    }
    let identity = survey.identity.or(known).unwrap_or(fresh);
    let (mut shards, mut checkpointed) = (Vec::new(), Vec::new());
    for number in 0..identity.shards {
        let id = ShardId(number);
        let floor = survey.floors.get(usize::from(number)).copied().unwrap_or_default();
        let (shard, index) = load(files, engine, (id, floor), survey.marks.get_mut(usize::from(number)))?;
        shards.push(shard);
        checkpointed.push(index);
    }
    replay(files, &survey.segments, &mut shards)?;
    let resume = Resume { next: survey.next.unwrap_or(1), last: survey.last };
    survey.segments.into_iter().for_each(|segment| shelf.push(segment));
    Ok(Recovered { identity, shards, checkpointed, resume })
}

/// The first records' numbers of the segments that are there, in order.
pub(crate) fn segments(files: &dyn Files) -> Result<Vec<u64>, StoreError> {
    let list = files.list().map_err(|source| StoreError::io("cannot list", files.folder(), source))?;
    Ok(list.iter().filter_map(|(name, _)| segment::first_of(name)).collect())
}

fn read(files: &dyn Files, first: u64) -> Result<(PathBuf, Vec<u8>), StoreError> {
    let name = segment::name(first);
    let path = files.folder().join(&name);
    let content = files.open(&name).and_then(|file| file.read_all());
    match content {
        Ok(content) => Ok((path, content)),
        Err(source) => Err(StoreError::io("cannot read", path, source)),
    }
}

/// The first pass over the journal: everything is checked, nothing is applied.
struct Survey<'a> {
    files: &'a dyn Files,
    identity: Option<Identity>,
    segments: Vec<Segment>,
    marks: Vec<Mark>,
    /// By shard: at which index the journal stood where it begins.
    floors: Vec<u64>,
    next: Option<u64>,
    last: Option<(u64, u64, u64)>,
    /// Where the segment before ended, for the message when the next does not follow it.
    ended: Option<(PathBuf, usize)>,
}

/// What the journal says of one shard.
#[derive(Default)]
struct Mark {
    newest: Option<u64>,
    gathering: Option<Checkpoint>,
    complete: Option<Checkpoint>,
}

struct Checkpoint {
    base: u64,
    index: u64,
    parts: u32,
    payloads: Vec<Vec<u8>>,
}

impl<'a> Survey<'a> {
    fn new(files: &'a dyn Files, identity: Option<Identity>) -> Self {
        let (segments, marks) = (Vec::new(), Vec::new());
        Self { files, identity, segments, marks, floors: Vec::new(), next: None, last: None, ended: None }
    }

    fn segment(&mut self, first: u64, is_last: bool) -> Result<(), StoreError> {
        let (path, content) = read(self.files, first)?;
        let header = Header::parse(&content, &path)?;
        self.check_place(first, &header, &path)?;
        let floors = header.floors(&content, &path)?;
        if self.segments.is_empty() {
            self.floors = floors;
        }
        let mut newest = vec![0; usize::from(header.shards)];
        let marks = &mut self.marks;
        marks.resize_with(newest.len(), Mark::default);
        let end = scan(&content, &header, &path, |offset, record| {
            let noted = record.entries(|entry| {
                let at = usize::from(entry.shard.0);
                let mark = marks.get_mut(at).ok_or_else(|| format!("there is no shard {}", entry.shard))?;
                newest[at] = entry.index.max(newest[at]);
                mark.note(&entry)
            });
            noted.map_err(|what| corrupt(&path, offset, what))
        })?;
        if is_last {
            self.seal_end(first, &header, &path, &content, end)?;
        }
        self.next = Some(end.next);
        self.last = Some((first, header.length, end.offset as u64));
        self.ended = Some((path, end.offset));
        self.segments.push(Segment { first, length: header.length, used: end.offset as u64, newest });
        Ok(())
    }

    fn check_place(&mut self, first: u64, header: &Header, path: &Path) -> Result<(), StoreError> {
        if header.seal.first != first {
            return Err(corrupt(
                path,
                24,
                format!("the header is that of the segment of record {}", header.seal.first),
            ));
        }
        if let (Some(next), Some((before, offset))) = (self.next, &self.ended)
            && next != first
        {
            let what = format!("record {next} is damaged or missing: the next segment begins with record {first}");
            return Err(corrupt(before, *offset, what));
        }
        let found = Identity { node: header.seal.node, shards: header.shards };
        if found.shards == 0 || *self.identity.get_or_insert(found) != found {
            return Err(corrupt(path, 12, "the segment belongs to another data folder".to_owned()));
        }
        Ok(())
    }

    /// Wipes a torn tail, so that nothing of it can ever follow what is written next; and syncs what a killed process
    /// may have written without syncing, since it is relied on from now on.
    fn seal_end(
        &self,
        first: u64,
        header: &Header,
        path: &Path,
        content: &[u8],
        end: segment::End,
    ) -> Result<(), StoreError> {
        let wipe = || -> io::Result<()> {
            let file = self.files.open(&segment::name(first))?;
            if end.torn {
                tracing::warn!(
                    file = %path.display(), offset = end.offset, record = end.next,
                    "cutting off a record that a crash left half written; it was never acknowledged"
                );
                let rest = content.get(end.offset..).unwrap_or_default();
                let used = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                let used = used.min(usize::try_from(header.length).unwrap_or(usize::MAX));
                file.write_at(end.offset as u64, &vec![0; used])?;
            }
            file.sync()
        };
        wipe().map_err(|source| StoreError::io("cannot repair", path, source))
    }
}

impl Mark {
    fn note(&mut self, entry: &Entry<'_>) -> Result<(), String> {
        match entry.kind {
            Kind::Membership => Ok(()),
            Kind::Ops => {
                if let Some(newest) = self.newest
                    && entry.index != newest + 1
                {
                    return Err(format!(
                        "shard {}: entry {} follows entry {newest}, entries are missing",
                        entry.shard, entry.index
                    ));
                }
                self.newest = Some(entry.index);
                Ok(())
            }
            Kind::Checkpoint => self.gather(entry),
        }
    }

    /// Joins the parts of a checkpoint. What a crash left incomplete is dropped when the next one begins; the first
    /// parts of the oldest may lie in a segment that is gone.
    fn gather(&mut self, entry: &Entry<'_>) -> Result<(), String> {
        let part = Part::parse(entry.payload).ok_or("a checkpoint's part has no known shape")?;
        if part.part == 0 {
            let (base, index, parts) = (part.base, entry.index, part.parts);
            self.gathering = Some(Checkpoint { base, index, parts, payloads: Vec::new() });
        }
        let Some(gathering) = &mut self.gathering else { return Ok(()) };
        let next = u32::try_from(gathering.payloads.len()).unwrap_or(u32::MAX);
        if (part.base, entry.index, part.parts, part.part) != (gathering.base, gathering.index, gathering.parts, next) {
            return Err(format!("shard {}: a part of checkpoint {} is missing", entry.shard, entry.index));
        }
        gathering.payloads.push(entry.payload.to_vec());
        if next + 1 == gathering.parts {
            self.complete = self.gathering.take();
        }
        Ok(())
    }
}

/// A shard as its last checkpoint left it, and that checkpoint's index.
fn load(
    files: &dyn Files,
    engine: &dyn Engine,
    (id, floor): (ShardId, u64),
    mark: Option<&mut Mark>,
) -> Result<(Shard, u64), StoreError> {
    let failed = |error| tables_error(files, error);
    let damaged = |what: String| StoreError::Tables { folder: files.folder().join("sled"), key: None, what };
    let mut index = checkpoint_index(engine, id).map_err(failed)?;
    if let Some(mark) = mark {
        // A checkpoint is a difference: over tables that stand elsewhere it would make what never was.
        if let Some(checkpoint) = mark.complete.take().filter(|found| found.base == index && found.index > index) {
            lay(engine, id, &checkpoint).map_err(&damaged)?;
            index = checkpoint.index;
        }
        if let Some(newest) = mark.newest.filter(|&newest| newest < index) {
            return Err(damaged(format!("shard {id} stands at {index}, but the journal ends with {newest}")));
        }
    }
    if index < floor {
        return Err(damaged(format!(
            "shard {id} stands at {index}, but the journal goes on from {floor}: rows are lost"
        )));
    }
    let shard = Shard::load(id, engine).map_err(failed)?;
    if shard.applied() != index {
        return Err(damaged(format!("shard {id} holds the state of {}, its checkpoint was {index}", shard.applied())));
    }
    Ok((shard, index))
}

/// Finishes a checkpoint that a crash cut.
fn lay(engine: &dyn Engine, id: ShardId, checkpoint: &Checkpoint) -> Result<(), String> {
    let mut changes = Vec::new();
    for payload in &checkpoint.payloads {
        let part = Part::parse(payload).and_then(|part| part.changes(&mut changes));
        part.ok_or_else(|| format!("checkpoint {} of shard {id} has no known shape", checkpoint.index))?;
    }
    let last = [checkpoint_change(id, checkpoint.index)];
    let mut written = chunks(&changes).chain([last.as_slice()]);
    written.try_for_each(|chunk| engine.write(chunk)).map_err(|error: EngineError| error.to_string())
}

/// The second pass: the ops behind each shard's checkpoint, which meet exactly the state they were made for.
fn replay(files: &dyn Files, segments: &[Segment], shards: &mut [Shard]) -> Result<(), StoreError> {
    let mut effects = Vec::new();
    for segment in segments {
        if segment.newest.iter().zip(&*shards).all(|(&newest, shard)| newest <= shard.applied()) {
            continue;
        }
        let (path, content) = read(files, segment.first)?;
        let header = Header::parse(&content, &path)?;
        scan(&content, &header, &path, |offset, record| {
            let applied = record.entries(|entry| {
                let shard = &mut shards[usize::from(entry.shard.0)];
                if entry.kind != Kind::Ops || entry.index <= shard.applied() {
                    return Ok(());
                }
                replay_entry(shard, &entry, &mut effects)
            });
            applied.map_err(|what: String| corrupt(&path, offset, what))
        })?;
    }
    Ok(())
}

fn replay_entry(shard: &mut Shard, entry: &Entry<'_>, effects: &mut Vec<nightjar_shard::Effect>) -> Result<(), String> {
    let (id, at) = (entry.shard, shard.applied());
    if entry.index != at + 1 {
        return Err(format!("shard {id}: the tables stand at {at}, but the journal goes on with {}", entry.index));
    }
    let ops = decode_ops(entry.payload).map_err(|error| format!("shard {id}, entry {}: {error}", entry.index))?;
    for op in ops {
        shard.apply(entry.index, op, effects);
        // Whoever they were for is gone.
        effects.clear();
    }
    Ok(())
}

fn corrupt(path: &Path, offset: usize, what: String) -> StoreError {
    StoreError::Corrupt { file: path.to_owned(), offset: offset as u64, what }
}

/// An error of the tables, as an operator needs it.
pub(crate) fn tables_error(files: &dyn Files, error: TablesError) -> StoreError {
    let folder = files.folder().join("sled");
    match error {
        TablesError::Newer { found, known, .. } => {
            StoreError::NewerFormat { file: folder, found: found.into(), known: known.into() }
        }
        TablesError::Corrupt { key, what } => StoreError::Tables { folder, key: Some(key), what },
        TablesError::Unavailable(what) => StoreError::Tables { folder, key: None, what },
    }
}
