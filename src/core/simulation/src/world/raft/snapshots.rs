//! What a leader knows to be agreed on, and states that stand for logs: checkpoints of one's own, snapshots of others'.

use super::super::Process;
use super::super::disk::{Point, Record, Rows, place};
use super::{Role, Word};
use crate::bugs::Bug;
use std::rc::Rc;

impl Process {
    /// Up to where the group has agreed on something, as a leader that still is one knows.
    pub(crate) async fn read_index(self: &Rc<Self>, group: usize) -> Option<u64> {
        let (round, term, index) = {
            let of = &mut self.groups.borrow_mut()[group];
            let (commit, term) = (of.commit, of.term);
            let Role::Leader(leading) = &mut of.role else { return None };
            if commit < leading.first && !self.has(Bug::StaleLeader) {
                return None;
            }
            leading.round += 1;
            (leading.round, term, commit)
        };
        if self.has(Bug::StaleLeader) {
            return Some(index);
        }
        self.broadcast(group);
        let mut still = true;
        self.answers
            .until(|| {
                let of = &self.groups.borrow()[group];
                let Role::Leader(leading) = &of.role else {
                    still = false;
                    return true;
                };
                still = of.term == term;
                let answered = leading.rounds.iter().filter(|&&answered| answered >= round).count();
                !still || (answered + 1) * 2 > self.node_count()
            })
            .await;
        still.then_some(index)
    }

    pub(super) fn take_snapshot(self: &Rc<Self>, from: usize, group: usize, rows: Rc<Rows>, standing: Point) {
        {
            let of = &mut self.groups.borrow_mut()[group];
            if of.is_installing {
                return;
            }
            if standing.0 <= of.commit {
                let word = Word::Appended { term: of.term, matched: Some(of.commit.min(of.synced)), last: 0, round: 0 };
                return self.last_words(group, from, word);
            }
            of.is_installing = true;
        }
        let written = self.disk().write(Record::Snapshot { group, rows, standing });
        let process = Rc::clone(self);
        self.spawn(async move {
            process.disk().signal.until(|| process.disk().synced() >= written).await;
            let term = {
                let of = &mut process.groups.borrow_mut()[group];
                (of.base, of.synced, of.commit, of.applied) = (standing, standing.0, standing.0, standing.0);
                of.entries.clear();
                of.is_installing = false;
                of.term
            };
            process.replaced(group);
            let word = Word::Appended { term, matched: Some(standing.0), last: standing.0, round: 0 };
            process.last_words(group, from, word);
        });
    }

    /// Has the disk take up what a shard's state is now, and lets go of the log that led to it, as far as it is not kept
    /// for others.
    pub(crate) async fn checkpoint(self: &Rc<Self>, group: usize, keep: u64) {
        let (standing, base) = {
            let of = &self.groups.borrow()[group];
            if of.is_installing {
                return;
            }
            let base = of.applied.saturating_sub(keep).max(of.base.0);
            let (Some(standing), Some(base)) = (of.point(of.applied), of.point(base)) else { return };
            (standing, base)
        };
        let Some(changes) = self.freeze(group) else { return };
        let written = self.disk().write(Record::Checkpoint { group, changes, standing, base });
        self.disk().signal.until(|| self.disk().synced() >= written).await;
        {
            let of = &mut self.groups.borrow_mut()[group];
            if of.base.0 < base.0 {
                of.entries.drain(..place(of.base.0, base.0 + 1));
                of.base = base;
            }
        }
        self.thaw(group);
    }
}
