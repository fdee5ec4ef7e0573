//! What must be true of a history of publishers and subscribers, however often the broker was killed meanwhile.
//!
//! Pure: it is fed with what the clients saw and counts what contradicts the promise. Its tests feed it histories with
//! one fault each, and it must find that one.

use std::collections::{BTreeMap, BTreeSet};

/// What one publisher did on its one topic.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) qos: u8,
    /// The highest sequence number ever sent; they begin at 1 and have no gaps.
    pub(crate) attempted: u64,
    /// What was acknowledged.
    pub(crate) acked: Vec<u64>,
}

/// One delivery to an application.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) publisher: String,
    pub(crate) seq: u64,
    pub(crate) qos: u8,
}

/// What one subscriber of every stream was given, in order, until its queue was empty.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) qos: u8,
    pub(crate) delivered: Vec<Delivery>,
}

/// A retained message as a new subscriber saw it.
#[derive(Clone, Debug)]
pub(crate) struct RetainedRead {
    pub(crate) publisher: String,
    /// The sequence number in it, if there was a message.
    pub(crate) value: Option<u64>,
    /// The highest that was acknowledged before the subscription was made.
    pub(crate) acked_before: u64,
    /// The highest that was sent until the message was read.
    pub(crate) attempted_after: u64,
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) streams: BTreeMap<String, Stream>,
    pub(crate) readers: BTreeMap<String, Reader>,
    pub(crate) retained: Vec<RetainedRead>,
    /// For each client: connections to a session that existed, and how many of them were told that it did not.
    pub(crate) sessions: BTreeMap<String, (u64, u64)>,
}

/// The faults, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Acknowledged and not delivered to a subscriber.
    pub(crate) lost: u64,
    /// Delivered twice at QoS 2.
    pub(crate) duplicated: u64,
    /// Delivered for the first time after a later one.
    pub(crate) reordered: u64,
    /// Delivered, but never sent by anyone, or at a QoS that it cannot have.
    pub(crate) forged: u64,
    /// Retained messages older than the last acknowledged, or never sent.
    pub(crate) retained: u64,
    /// Session present = 0 for a session that existed.
    pub(crate) sessions: u64,
}

/// Counts all faults of a history; a line for the first of each kind and reader goes to `explain`.
pub(crate) fn check(history: &History, explain: &mut dyn FnMut(String)) -> Verdict {
    let mut verdict = Verdict::default();
    for (name, reader) in &history.readers {
        check_reader(history, name, reader, &mut verdict, explain);
    }
    for read in &history.retained {
        let right = match read.value {
            None => read.acked_before == 0,
            Some(seq) => (read.acked_before.max(1)..=read.attempted_after).contains(&seq),
        };
        if !right {
            verdict.retained += 1;
            explain(format!(
                "retained of {}: {:?}, not within {}..={}",
                read.publisher, read.value, read.acked_before, read.attempted_after
            ));
        }
    }
    for (client, (connects, denied)) in &history.sessions {
        if *denied > 0 {
            verdict.sessions += denied;
            explain(format!("session of {client}: denied {denied} times of {connects}"));
        }
    }
    verdict
}

fn check_reader(
    history: &History,
    name: &str,
    reader: &Reader,
    verdict: &mut Verdict,
    explain: &mut dyn FnMut(String),
) {
    let mut seen: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let before = verdict.clone();
    for d in &reader.delivered {
        let Some(stream) = history.streams.get(&d.publisher).filter(|s| (1..=s.attempted).contains(&d.seq)) else {
            verdict.forged += 1;
            explain(format!("{name}: {}:{} was never sent", d.publisher, d.seq));
            continue;
        };
        let qos = stream.qos.min(reader.qos);
        if d.qos != qos {
            verdict.forged += 1;
            explain(format!("{name}: {}:{} came at QoS {}", d.publisher, d.seq, d.qos));
        }
        let seen = seen.entry(&d.publisher).or_default();
        let highest = seen.last().copied().unwrap_or(0);
        if !seen.insert(d.seq) {
            if qos == 2 {
                verdict.duplicated += 1;
                if verdict.duplicated == before.duplicated + 1 {
                    explain(format!("{name}: {}:{} twice at QoS 2", d.publisher, d.seq));
                }
            }
        } else if d.seq < highest {
            verdict.reordered += 1;
            if verdict.reordered == before.reordered + 1 {
                explain(format!("{name}: {}:{} after {highest}", d.publisher, d.seq));
            }
        }
    }
    for (publisher, stream) in &history.streams {
        let seen = seen.get(publisher.as_str());
        let lost: Vec<u64> = stream.acked.iter().copied().filter(|n| !seen.is_some_and(|s| s.contains(n))).collect();
        if let Some(first) = lost.first() {
            verdict.lost += lost.len() as u64;
            explain(format!("{name}: {} acknowledged of {publisher} lost, first {first}", lost.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history without a fault: two publishers, a QoS 1 and a QoS 2 subscriber, one retained topic.
    fn sound() -> History {
        let mut history = History::default();
        for (name, qos) in [("one", 1), ("two", 2)] {
            // 9 and 10 were sent and not acknowledged: they may or may not arrive.
            let stream = Stream { qos, attempted: 10, acked: (1..=8).collect() };
            history.streams.insert(name.into(), stream);
        }
        for qos in [1, 2] {
            let of = |publisher: &str, own: u8, seqs: &[u64]| {
                let deliver = |&seq| Delivery { publisher: publisher.into(), seq, qos: qos.min(own) };
                seqs.iter().map(deliver).collect::<Vec<_>>()
            };
            // At QoS 1 a stretch may come again after a resume.
            let mut delivered = of("one", 1, &[1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 8, 9]);
            delivered.extend(of("two", 2, &[1, 2, 3, 4, 5, 6, 7, 8]));
            history.readers.insert(format!("reader{qos}"), Reader { qos, delivered });
        }
        let read = |value, acked_before, attempted_after| RetainedRead {
            publisher: "one".into(),
            value,
            acked_before,
            attempted_after,
        };
        history.retained = vec![read(None, 0, 0), read(Some(1), 0, 1), read(Some(8), 8, 10), read(Some(10), 8, 10)];
        history.sessions.insert("reader1".into(), (5, 0));
        history
    }

    fn verdict_of(change: impl FnOnce(&mut History)) -> (Verdict, usize) {
        let mut history = sound();
        change(&mut history);
        let mut lines = 0;
        let verdict = check(&history, &mut |_| lines += 1);
        (verdict, lines)
    }

    fn reader2(history: &mut History) -> &mut Vec<Delivery> {
        &mut history.readers.get_mut("reader2").unwrap().delivered
    }

    #[test]
    fn a_sound_history_has_no_fault() {
        assert_eq!(verdict_of(|_| {}), (Verdict::default(), 0));
    }

    #[test]
    fn a_lost_message_is_found() {
        let (verdict, lines) = verdict_of(|h| reader2(h).retain(|d| d.publisher != "two" || d.seq != 5));
        assert_eq!((verdict, lines), (Verdict { lost: 1, ..Verdict::default() }, 1));
        let (verdict, _) = verdict_of(|h| reader2(h).truncate(18));
        assert_eq!(verdict, Verdict { lost: 2, ..Verdict::default() }, "the last two of a queue");
        let (verdict, _) = verdict_of(|h| reader2(h).clear());
        assert_eq!(verdict, Verdict { lost: 16, ..Verdict::default() }, "a reader that got nothing");
    }

    #[test]
    fn a_duplicate_at_qos2_is_found_and_at_qos1_allowed() {
        let again = |h: &mut History, at: usize| {
            let copy = reader2(h)[at].clone();
            reader2(h).push(copy);
        };
        let (verdict, lines) = verdict_of(|h| again(h, 14));
        assert_eq!((verdict, lines), (Verdict { duplicated: 1, ..Verdict::default() }, 1));
        assert_eq!(verdict_of(|h| again(h, 3)).0, Verdict::default());
    }

    #[test]
    fn a_message_out_of_order_is_found() {
        let (verdict, lines) = verdict_of(|h| reader2(h).swap(14, 15));
        assert_eq!((verdict, lines), (Verdict { reordered: 1, ..Verdict::default() }, 1));
    }

    #[test]
    fn a_forged_message_is_found() {
        let forge = |publisher: &str, seq, qos| Delivery { publisher: publisher.into(), seq, qos };
        for forged in [forge("two", 11, 2), forge("two", 0, 2), forge("nobody", 1, 1)] {
            let (verdict, _) = verdict_of(|h| reader2(h).push(forged));
            assert_eq!(verdict, Verdict { forged: 1, ..Verdict::default() });
        }
        let (verdict, _) = verdict_of(|h| reader2(h)[0].qos = 2);
        assert_eq!(verdict, Verdict { forged: 1, ..Verdict::default() }, "at a QoS that it cannot have");
    }

    #[test]
    fn a_wrong_retained_message_is_found() {
        for value in [None, Some(7), Some(11)] {
            let (verdict, _) = verdict_of(|h| h.retained[2].value = value);
            assert_eq!(verdict, Verdict { retained: 1, ..Verdict::default() }, "{value:?}");
        }
    }

    #[test]
    fn a_wrong_session_present_is_found() {
        let (verdict, _) = verdict_of(|h| h.sessions.get_mut("reader1").unwrap().1 = 2);
        assert_eq!(verdict, Verdict { sessions: 2, ..Verdict::default() });
    }
}
