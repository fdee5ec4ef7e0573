//! What a start does with the folder that it finds.
//!
//! ```text
//! check the whole journal ──► lay each shard's unfinished checkpoint over the tables ──► load ──► replay the ops behind
//! ```
//! A torn tail is wiped; all other damage is refused, with its place.

use super::StoreError;
use super::codec::decode_ops;
use super::engine::{Engine, EngineError, Identity, Stand, chunks};
use super::files::Files;
use super::journal::{Resume, Segment, Shelf};
use super::log::{Content, Log, LogEntry, Place, Point};
use super::record::{Entry, Kind, Part, u64_at};
use super::segment::{self, Header, scan};
use super::snapshot::{self, Install};
use super::writer::TERM;
use bytes::Bytes;
use nightjar_base::ShardId;
use nightjar_shard::{Shard, TablesError};
use std::io;
use std::path::{Path, PathBuf};

/// The state as it was last durable.
pub(crate) struct Recovered {
    pub(crate) identity: Identity,
    pub(crate) shards: Vec<Shard>,
    /// By group: what the tables stand at.
    pub(crate) stands: Vec<Stand>,
    /// By group: the logs, if the journal holds those of a cluster.
    pub(crate) logs: Option<Vec<Log>>,
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
    let (mut shards, mut stands) = (Vec::new(), Vec::new());
    for number in 0..identity.shards + u16::from(survey.replicated) {
        let id = ShardId(number);
        let floor = survey.floors.get(usize::from(number)).copied().unwrap_or_default();
        let stand = settle(files, engine, (id, floor), survey.marks.get_mut(usize::from(number)))?;
        if number < identity.shards {
            shards.push(load(files, engine, id, stand.point.index)?);
        }
        stands.push(stand);
    }
    replay(files, &survey.segments, &mut shards)?;
    let logs = if survey.replicated { Some(survey.logs(files, &stands)?) } else { None };
    let resume = Resume { next: survey.next.unwrap_or(1), last: survey.last };
    survey.segments.into_iter().for_each(|segment| shelf.push(segment));
    Ok(Recovered { identity, shards, stands, logs, resume })
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
    /// Whether a segment holds the logs of a cluster's groups.
    replicated: bool,
    segments: Vec<Segment>,
    marks: Vec<Mark>,
    /// By shard: at which index the journal stood where it begins.
    floors: Vec<u64>,
    next: Option<u64>,
    last: Option<(u64, u64, u64)>,
    /// Where the segment before ended, for the message when the next does not follow it.
    ended: Option<(PathBuf, usize)>,
}

/// What the journal says of one group.
#[derive(Default)]
struct Mark {
    /// The newest entry of a node alone.
    newest: Option<u64>,
    gathering: Option<Checkpoint>,
    complete: Option<Checkpoint>,
    log: Log,
    /// The entry at this index, and those before it, were not found, and no purge has accounted for them so far.
    gap: u64,
    install: Option<Install>,
}

struct Checkpoint {
    base: u64,
    index: u64,
    parts: u32,
    payloads: Vec<Vec<u8>>,
}

impl<'a> Survey<'a> {
    fn new(files: &'a dyn Files, identity: Option<Identity>) -> Self {
        let (segments, marks, floors) = (Vec::new(), Vec::new(), Vec::new());
        let (next, last, ended) = (None, None, None);
        Self { files, identity, replicated: false, segments, marks, floors, next, last, ended }
    }

    fn segment(&mut self, first: u64, is_last: bool) -> Result<(), StoreError> {
        let (path, content) = read(self.files, first)?;
        let header = Header::parse(&content, &path)?;
        self.check_place(first, &header, &path)?;
        let floors = header.floors(&content, &path)?;
        if self.segments.is_empty() {
            self.floors = floors;
        }
        self.replicated |= header.replicated;
        let mut newest = vec![0; header.groups()];
        let marks = &mut self.marks;
        marks.resize_with(newest.len(), Mark::default);
        let end = scan(&content, &header, &path, |offset, record| {
            let noted = record.entries(|entry| {
                let at = usize::from(entry.shard.0);
                let mark = marks.get_mut(at).ok_or_else(|| format!("there is no shard {}", entry.shard))?;
                newest[at] = entry.index.max(newest[at]);
                mark.note(&entry, Place { segment: first, offset: (offset + entry.offset) as u64 })
            });
            noted.map_err(|what| corrupt(&path, offset, what))
        })?;
        if is_last {
            self.seal_end(first, &header, &path, &content, end)?;
        }
        self.next = Some(end.next);
        self.last = Some((first, header.length, end.offset as u64));
        self.ended = Some((path, end.offset));
        let (used, begun) = (end.offset as u64, end.offset > segment::HEADER_BLOCK);
        self.segments.push(Segment { first, length: header.length, used, begun, newest });
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

/// Bytes of each group's log that are held in memory while the journal is read.
const HELD: usize = 1 << 20;

impl Survey<'_> {
    /// The logs of the groups, whose states stand at `stands`.
    fn logs(&mut self, files: &dyn Files, stands: &[Stand]) -> Result<Vec<Log>, StoreError> {
        self.marks.resize_with(stands.len(), Mark::default);
        let mut logs = Vec::new();
        for (number, (mark, stand)) in self.marks.iter_mut().zip(stands).enumerate() {
            let mut log = std::mem::take(&mut mark.log);
            let (purged, last, at) = (log.purged().index, log.last().index, stand.point.index);
            if mark.gap > 0 || purged > at {
                let what = format!("group {number}: entries up to {purged} are missing, its state stands at {at}");
                return Err(corrupt(files.folder(), 0, what));
            }
            if last < at {
                // A checkpoint is never ahead of the log that led to it, but the entries may be older than all segments.
                log.purge(stand.point);
            }
            log.note_purged(log.purged().index);
            logs.push(log);
        }
        Ok(logs)
    }
}

impl Mark {
    fn note(&mut self, entry: &Entry<'_>, place: Place) -> Result<(), String> {
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
                self.log.purge(Point { term: TERM, index: entry.index });
                Ok(())
            }
            Kind::Checkpoint => self.gather(entry),
            Kind::Blank | Kind::Members | Kind::Batches => self.append(entry, place),
            Kind::Vote => {
                self.log.set_vote(Bytes::copy_from_slice(entry.payload));
                Ok(())
            }
            Kind::Truncate => {
                self.log.truncate(u64_at(entry.payload, 0).ok_or("a truncation has no known shape")?);
                Ok(())
            }
            Kind::Purged => {
                self.purge(Point::decode(entry.payload).ok_or("a purge has no known shape")?);
                Ok(())
            }
            Kind::Install => {
                let install = Install::decode(entry.payload).ok_or("an installation has no known shape")?;
                self.purge(install.point());
                self.log.truncate(install.point().index);
                self.install = Some(install);
                Ok(())
            }
        }
    }

    fn purge(&mut self, point: Point) {
        if point.index >= self.gap {
            self.gap = 0;
        }
        self.log.purge(point);
    }

    /// Takes up an entry of a group's log.
    fn append(&mut self, entry: &Entry<'_>, place: Place) -> Result<(), String> {
        let content = Content::of(entry.kind).ok_or("it is no entry of a log")?;
        let point = Point { term: entry.term, index: entry.index };
        let last = self.log.last().index;
        if entry.index <= self.log.purged().index {
            // Checkpointed while it waited to be written: others had made it durable.
            return Ok(());
        }
        if entry.index <= last {
            return Err(format!("group {}: entry {} comes again after {last}", entry.shard, entry.index));
        }
        if entry.index > last + 1 {
            // What a purge of later on has removed with its segment.
            self.gap = entry.index - 1;
            self.log.purge(Point { term: 0, index: self.gap });
        }
        self.log.push(&LogEntry { point, content, payload: Bytes::copy_from_slice(entry.payload) }, Some(place));
        self.log.give_up(HELD);
        Ok(())
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

/// Finishes what a crash cut of a group's last checkpoint or snapshot; where its rows stand then.
fn settle(
    files: &dyn Files,
    engine: &dyn Engine,
    (id, floor): (ShardId, u64),
    mark: Option<&mut Mark>,
) -> Result<Stand, StoreError> {
    let damaged = |what: String| StoreError::Tables { folder: files.folder().join("sled"), key: None, what };
    let stand = || Stand::read(engine, id).map_err(|error| tables_error(files, error));
    let mut at = stand()?;
    if let Some(mark) = mark {
        if let Some(install) = mark.install.take().filter(|found| found.point().index > at.point.index) {
            snapshot::finish(files, engine, id, &install).map_err(&damaged)?;
            at = stand()?;
        }
        // A checkpoint is a difference: over tables that stand elsewhere it would make what never was.
        let fits = |found: &Checkpoint| found.base == at.point.index && found.index > at.point.index;
        if let Some(checkpoint) = mark.complete.take().filter(fits) {
            lay(engine, id, &checkpoint).map_err(&damaged)?;
            at = stand()?;
        }
        let (newest, index) = (mark.newest.unwrap_or(at.point.index).max(mark.log.last().index), at.point.index);
        if newest < index {
            return Err(damaged(format!("shard {id} stands at {index}, but the journal ends with {newest}")));
        }
    }
    let index = at.point.index;
    if index < floor {
        return Err(damaged(format!(
            "shard {id} stands at {index}, but the journal goes on from {floor}: rows are lost"
        )));
    }
    Ok(at)
}

/// A shard as its last checkpoint, of `index`, left it.
fn load(files: &dyn Files, engine: &dyn Engine, id: ShardId, index: u64) -> Result<Shard, StoreError> {
    let shard = Shard::load(id, engine).map_err(|error| tables_error(files, error))?;
    if shard.applied() != index {
        let what = format!("shard {id} holds the state of {}, its checkpoint was {index}", shard.applied());
        return Err(StoreError::Tables { folder: files.folder().join("sled"), key: None, what });
    }
    Ok(shard)
}

/// Finishes a checkpoint that a crash cut.
fn lay(engine: &dyn Engine, id: ShardId, checkpoint: &Checkpoint) -> Result<(), String> {
    let mut changes = Vec::new();
    for payload in &checkpoint.payloads {
        let part = Part::parse(payload).and_then(|part| part.changes(&mut changes));
        part.ok_or_else(|| format!("checkpoint {} of shard {id} has no known shape", checkpoint.index))?;
    }
    // Those of a replicated group end with the row that says where they stand.
    let stand = changes.pop_if(|last| Stand::is_row(last, id));
    let last = [stand.unwrap_or_else(|| Stand::alone(checkpoint.index).change(id))];
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
                let Some(shard) = shards.get_mut(usize::from(entry.shard.0)) else { return Ok(()) };
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
