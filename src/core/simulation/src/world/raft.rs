//! Agreement between nodes: a small model of Raft, one group for each shard and the control group.
//!
//! It stands for `cluster/raft/`, which is openraft behind a wall: terms, votes that are durable, elections, logs that
//! are cut off where a new leader says otherwise, commits by majority, leaders that ask a majority before they say what
//! they know, snapshots for who is too far behind. All nodes vote in all groups.

mod snapshots;

use super::Process;
use super::disk::{Point, Record, Rows, place};
use bytes::Bytes;
use nightjar_control::ControlOp;
use std::collections::BTreeSet;
use std::rc::Rc;

/// How often a leader is heard of, in milliseconds.
const BEAT: u64 = 100;
/// Without a word of it for so long a node stands for election.
const SILENCE: (u64, u64) = (400, 900);
/// Entries in one message.
const MOST: usize = 64;

/// What an entry holds.
#[derive(Clone)]
pub(crate) enum Payload {
    /// Nothing: the first one of a term.
    Nothing,
    Batch(Bytes),
    Control(Rc<ControlOp>),
}

/// One entry of a log.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    pub(crate) payload: Payload,
}

/// What the members of a group say to each other.
#[derive(Clone)]
pub(crate) enum Word {
    Ask {
        term: u64,
        last: Point,
    },
    Vote {
        term: u64,
        granted: bool,
    },
    Append {
        term: u64,
        before: Point,
        entries: Vec<Entry>,
        commit: u64,
        round: u64,
    },
    /// The log is the leader's up to `matched`, if it is known up to where.
    Appended {
        term: u64,
        matched: Option<u64>,
        last: u64,
        round: u64,
    },
    Snapshot {
        term: u64,
        rows: Rc<Rows>,
        standing: Point,
    },
}

pub(crate) enum Role {
    Follower,
    Candidate(BTreeSet<usize>),
    Leader(Leading),
}

pub(crate) struct Leading {
    /// The next entry for each node, and up to where its log is known to be the same.
    next: Vec<u64>,
    matched: Vec<u64>,
    /// Whether it is still looked for where a node's log begins to differ.
    seeks: Vec<bool>,
    /// The last round of questions, and which one each node has answered.
    round: u64,
    rounds: Vec<u64>,
    /// The first entry of its term.
    first: u64,
}

/// One node's part in a group.
pub(crate) struct Group {
    term: u64,
    voted: Option<usize>,
    pub(crate) role: Role,
    pub(crate) leader: Option<usize>,
    base: Point,
    entries: Vec<Entry>,
    synced: u64,
    commit: u64,
    pub(crate) applied: u64,
    /// When to stand for election.
    deadline: u64,
    /// When the leader was last heard of by all.
    beat: u64,
    /// A snapshot is being taken in.
    is_installing: bool,
}

impl Group {
    /// As the disk has it. `applied` is where the state stands that was loaded.
    pub(crate) fn load(process: &Process, group: usize, applied: u64) -> Self {
        let deadline = process.tick() + process.agenda.between(SILENCE.0, SILENCE.1);
        process.disk().look(group, |kept| {
            let entries = kept.entries.clone();
            let synced = kept.base.0 + entries.len() as u64;
            let (role, leader) = (Role::Follower, None);
            let (term, voted, base, commit) = (kept.term, kept.voted, kept.base, applied);
            let (beat, is_installing) = (0, false);
            Self { term, voted, role, leader, base, entries, synced, commit, applied, deadline, beat, is_installing }
        })
    }

    fn last(&self) -> Point {
        (self.base.0 + self.entries.len() as u64, self.entries.last().map_or(self.base.1, |entry| entry.term))
    }

    /// The term of the entry at `index`, if that is known.
    fn term_at(&self, index: u64) -> Option<u64> {
        match index.checked_sub(self.base.0)? {
            0 => Some(self.base.1),
            _ => self.entries.get(place(self.base.0, index)).map(|entry| entry.term),
        }
    }

    pub(crate) fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Where it stands, for people.
    pub(crate) fn describe(&self) -> String {
        let role = match &self.role {
            Role::Follower => "follows",
            Role::Candidate(_) => "stands",
            Role::Leader(_) => "leads",
        };
        let (term, leader, base, last) = (self.term, self.leader, self.base, self.last());
        let (synced, commit, applied) = (self.synced, self.commit, self.applied);
        format!(
            "{role} {leader:?} in {term}, log {base:?} to {last:?}, {synced} synced, {commit} agreed, {applied} applied"
        )
    }

    pub(crate) fn reign(&self) -> (u64, bool) {
        (self.term, self.leads())
    }

    pub(crate) fn point(&self, index: u64) -> Option<Point> {
        Some((index, self.term_at(index)?))
    }
}

impl Process {
    fn last_words(self: &Rc<Self>, group: usize, to: usize, word: Word) {
        self.say(to, group, word);
    }

    /// Looks at the clock: who leads says so, who hears nothing stands for election.
    pub(crate) fn look_at_groups(self: &Rc<Self>) {
        let now = self.tick();
        for group in 0..self.group_count() {
            let (leads, beats, is_late) = {
                let of = &mut self.groups.borrow_mut()[group];
                let beats = of.leads() && now >= of.beat + BEAT;
                (of.leads(), beats, now >= of.deadline)
            };
            if beats {
                self.broadcast(group);
            } else if !leads && is_late {
                self.stand(group);
            }
        }
    }

    fn stand(self: &Rc<Self>, group: usize) {
        let (term, last) = {
            let of = &mut self.groups.borrow_mut()[group];
            of.term += 1;
            of.voted = Some(self.node);
            (of.role, of.leader) = (Role::Candidate(BTreeSet::new()), None);
            of.deadline = self.tick() + self.agenda.between(SILENCE.0, SILENCE.1);
            (of.term, of.last())
        };
        let written = self.disk().write(Record::Vote { group, term, voted: Some(self.node) });
        let process = Rc::clone(self);
        self.spawn(async move {
            process.synced(written).await;
            process.count_vote(group, process.node, term);
            for node in process.others() {
                process.last_words(group, node, Word::Ask { term, last });
            }
        });
    }

    fn count_vote(self: &Rc<Self>, group: usize, from: usize, term: u64) {
        {
            let of = &mut self.groups.borrow_mut()[group];
            let Role::Candidate(votes) = &mut of.role else { return };
            if of.term != term {
                return;
            }
            votes.insert(from);
            if votes.len() * 2 <= self.node_count() {
                return;
            }
            let (count, last) = (self.node_count(), of.last().0);
            of.leader = Some(self.node);
            of.role = Role::Leader(Leading {
                next: vec![last + 1; count],
                matched: vec![0; count],
                seeks: vec![false; count],
                round: 0,
                rounds: vec![0; count],
                first: last + 1,
            });
        }
        self.see_leader(group);
        self.append_own(group, vec![Payload::Nothing]);
    }

    /// Appends to the log of a leader; its index, if this node leads.
    pub(crate) fn append_own(self: &Rc<Self>, group: usize, payloads: Vec<Payload>) -> Option<u64> {
        let mut index = 0;
        for payload in payloads {
            let (entry, term) = {
                let of = &mut self.groups.borrow_mut()[group];
                if !of.leads() {
                    return None;
                }
                let entry = Entry { term: of.term, payload };
                of.entries.push(entry.clone());
                index = of.last().0;
                (entry, of.term)
            };
            let written = self.disk().write(Record::Append { group, index, entry });
            let process = Rc::clone(self);
            self.spawn(async move {
                process.synced(written).await;
                process.stored(group, (index, term));
            });
        }
        self.broadcast(group);
        Some(index)
    }

    /// An own entry is synced.
    fn stored(self: &Rc<Self>, group: usize, point: Point) {
        {
            let of = &mut self.groups.borrow_mut()[group];
            if of.term_at(point.0) == Some(point.1) {
                of.synced = of.synced.max(point.0);
            }
        }
        self.commit(group);
        self.apply_ready(group);
    }

    /// Sends every other node what it may lack.
    pub(crate) fn broadcast(self: &Rc<Self>, group: usize) {
        for node in self.others() {
            let word = {
                let of = &mut self.groups.borrow_mut()[group];
                of.beat = self.tick();
                let Group { term, base, entries, commit, role: Role::Leader(leading), .. } = of else { return };
                let next = leading.next[node];
                if next <= base.0 {
                    let (rows, standing) = self.disk().look(group, |kept| (Rc::new(kept.rows.clone()), kept.standing));
                    Word::Snapshot { term: *term, rows, standing }
                } else {
                    let from = place(base.0, next);
                    let sent: Vec<Entry> = entries[from..].iter().take(MOST).cloned().collect();
                    let before = if from == 0 { *base } else { (next - 1, entries[from - 1].term) };
                    if !leading.seeks[node] {
                        leading.next[node] += sent.len() as u64;
                    }
                    Word::Append { term: *term, before, entries: sent, commit: *commit, round: leading.round }
                }
            };
            self.last_words(group, node, word);
        }
    }

    /// What another member says.
    pub(crate) fn hear(self: &Rc<Self>, from: usize, group: usize, word: Word) {
        let term = match &word {
            Word::Ask { term, .. } | Word::Vote { term, .. } | Word::Append { term, .. } => *term,
            Word::Appended { term, .. } | Word::Snapshot { term, .. } => *term,
        };
        if term > self.groups.borrow()[group].term {
            self.step_down(group, term);
        }
        match word {
            Word::Ask { last, .. } => self.asked(from, group, term, last),
            Word::Vote { granted, .. } => {
                if granted {
                    self.count_vote(group, from, term);
                }
            }
            Word::Append { before, entries, commit, round, .. } => {
                if self.follows(from, group, term) {
                    self.take_entries(from, group, before, entries, commit, round);
                }
            }
            Word::Appended { matched, last, round, .. } => self.appended(from, group, term, matched, last, round),
            Word::Snapshot { rows, standing, .. } => {
                if self.follows(from, group, term) {
                    self.take_snapshot(from, group, rows, standing);
                }
            }
        }
    }

    fn step_down(self: &Rc<Self>, group: usize, term: u64) {
        {
            let of = &mut self.groups.borrow_mut()[group];
            (of.term, of.voted, of.role, of.leader) = (term, None, Role::Follower, None);
        }
        self.disk().write(Record::Vote { group, term, voted: None });
        self.see_leader(group);
    }

    fn asked(self: &Rc<Self>, from: usize, group: usize, term: u64, last: Point) {
        let granted = {
            let of = &mut self.groups.borrow_mut()[group];
            let is_free = of.voted.is_none_or(|voted| voted == from) && of.leader.is_none();
            let own = of.last();
            let granted = term == of.term && is_free && (last.1, last.0) >= (own.1, own.0);
            if granted {
                of.voted = Some(from);
                of.deadline = self.tick() + self.agenda.between(SILENCE.0, SILENCE.1);
            }
            granted
        };
        if !granted {
            return self.last_words(group, from, Word::Vote { term: self.groups.borrow()[group].term, granted });
        }
        let written = self.disk().write(Record::Vote { group, term, voted: Some(from) });
        let process = Rc::clone(self);
        self.spawn(async move {
            process.synced(written).await;
            process.last_words(group, from, Word::Vote { term, granted });
        });
    }

    /// Whether `from` is the leader of the present term; it is followed then.
    fn follows(self: &Rc<Self>, from: usize, group: usize, term: u64) -> bool {
        let is_new = {
            let of = &mut self.groups.borrow_mut()[group];
            if term < of.term {
                let answer = Word::Appended { term: of.term, matched: None, last: 0, round: 0 };
                self.last_words(group, from, answer);
                return false;
            }
            of.deadline = self.tick() + self.agenda.between(SILENCE.0, SILENCE.1);
            of.role = Role::Follower;
            of.leader.replace(from) != Some(from)
        };
        if is_new {
            self.see_leader(group);
        }
        true
    }

    fn take_entries(
        self: &Rc<Self>,
        from: usize,
        group: usize,
        before: Point,
        entries: Vec<Entry>,
        commit: u64,
        round: u64,
    ) {
        let (term, mut matched, last, point);
        {
            let mut groups = self.groups.borrow_mut();
            let of = &mut groups[group];
            if of.is_installing {
                return;
            }
            (term, matched) = (of.term, None);
            let is_known = before.0 <= of.applied || of.term_at(before.0) == Some(before.1);
            if is_known {
                for (index, entry) in (before.0 + 1..).zip(entries) {
                    matched = Some(index);
                    // What was agreed on is the same everywhere.
                    if index <= of.commit || of.term_at(index) == Some(entry.term) {
                        continue;
                    }
                    of.entries.truncate(place(of.base.0, index));
                    of.synced = of.synced.min(index - 1);
                    of.entries.push(entry.clone());
                    self.disk().write(Record::Append { group, index, entry });
                }
                matched = Some(matched.unwrap_or(before.0));
                of.commit = of.commit.max(commit.min(matched.unwrap_or(0)));
            }
            point = matched.and_then(|index| of.point(index));
            // If they do not meet there, they may before.
            last = if matched.is_some() { of.last().0 } else { of.last().0.min(before.0.saturating_sub(1)) };
        }
        // What came before may be in the log and not synced yet.
        let (written, process) = (self.disk().written(), Rc::clone(self));
        let then = move || {
            match point {
                Some(point) if process.groups.borrow()[group].term == term => process.stored(group, point),
                _ => process.apply_ready(group),
            }
            process.last_words(group, from, Word::Appended { term, matched, last, round });
        };
        if self.disk().synced() >= written {
            return then();
        }
        let process = Rc::clone(self);
        self.spawn(async move {
            process.synced(written).await;
            then();
        });
    }

    fn appended(self: &Rc<Self>, from: usize, group: usize, term: u64, matched: Option<u64>, last: u64, round: u64) {
        {
            let of = &mut self.groups.borrow_mut()[group];
            if of.term != term {
                return;
            }
            let Role::Leader(leading) = &mut of.role else { return };
            leading.rounds[from] = leading.rounds[from].max(round);
            match matched {
                Some(index) => {
                    leading.matched[from] = leading.matched[from].max(index);
                    leading.next[from] = leading.next[from].max(index + 1);
                    leading.seeks[from] = false;
                }
                None => {
                    leading.seeks[from] = true;
                    leading.next[from] = (leading.matched[from] + 1).max(leading.next[from].min(last + 1));
                }
            }
        }
        self.commit(group);
        self.apply_ready(group);
        self.answers.notify();
    }

    /// As a leader: what a majority has is agreed on.
    fn commit(self: &Rc<Self>, group: usize) {
        let is_more = {
            let of = &mut self.groups.borrow_mut()[group];
            let (synced, commit, term) = (of.synced, of.commit, of.term);
            let Role::Leader(leading) = &mut of.role else { return };
            leading.matched[self.node] = synced;
            let mut matched = leading.matched.clone();
            matched.sort_unstable();
            let agreed = matched[(matched.len() - 1) / 2];
            let is_more = agreed > commit && of.term_at(agreed) == Some(term);
            if is_more {
                of.commit = agreed;
            }
            is_more
        };
        if is_more {
            self.broadcast(group);
        }
    }

    /// Applies what was agreed on and is synced here.
    fn apply_ready(self: &Rc<Self>, group: usize) {
        let mut any = false;
        loop {
            let next = {
                let of = &mut self.groups.borrow_mut()[group];
                if of.is_installing || of.applied >= of.commit.min(of.synced) {
                    break;
                }
                of.applied += 1;
                (of.applied, of.entries[place(of.base.0, of.applied)].payload.clone())
            };
            self.apply(group, next.0, next.1);
            any = true;
        }
        if any {
            self.end_turn();
        }
    }
}
