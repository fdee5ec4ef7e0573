use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn f09_an_identifier_of_the_other_direction_changes_nothing() {
    let mut out = Outbound::new(1, 1, 0);
    assert_eq!(out.offer(1, QoS::AtLeastOnce, false), Offer::Publish { packet_id: 1, dup: false });
    // The client's own QoS 2 exchange with the same number ends in PUBREL, which is no business of this half; nor does
    // an acknowledgement of another QoS touch the message.
    assert_eq!(out.pubrec(1), Acked::Misplaced);
    assert_eq!(out.pubrec_refused(1), Acked::Misplaced);
    assert_eq!(out.pubcomp(1), Acked::Misplaced);
    assert!(!out.has_room());
    assert_eq!(out.puback(1), Acked::Complete(1));
    assert!(out.has_room());
}

#[test]
fn f33_f35_the_window_is_the_connections_own() {
    let mut out = Outbound::new(3, 1, 10);
    let offers: Vec<Offer> = (1..5).map(|sequence| out.offer(sequence, QoS::ExactlyOnce, false)).collect();
    assert_eq!(
        offers,
        [
            Offer::Publish { packet_id: 1, dup: true },
            Offer::Publish { packet_id: 2, dup: true },
            Offer::Publish { packet_id: 3, dup: true },
            Offer::Later,
        ]
    );
    assert_eq!(out.pubrec(1), Acked::Received(1));
    assert_eq!(out.offer(4, QoS::ExactlyOnce, false), Offer::Later);
    assert_eq!(out.released(1), Some(1));
    assert_eq!(out.pubrec(1), Acked::Again(1));
    assert_eq!(out.pubcomp(1), Acked::Complete(1));
    assert_eq!(out.offer(4, QoS::ExactlyOnce, false), Offer::Publish { packet_id: 4, dup: true });
}

#[test]
fn a_release_is_sent_only_after_the_mark_is_durable() {
    let mut out = Outbound::new(5, 8, 0);
    out.offer(8, QoS::ExactlyOnce, false);
    assert_eq!(out.puback(8), Acked::Misplaced);
    assert_eq!(out.pubcomp(8), Acked::Misplaced);
    assert_eq!(out.pubrec(8), Acked::Received(8));
    assert_eq!(out.pubrec(8), Acked::Awaited);
    assert_eq!(out.pubcomp(8), Acked::Unknown);
    assert_eq!(out.released(8), Some(8));
    assert_eq!(out.released(8), None);
    assert_eq!(out.pubcomp(8), Acked::Complete(8));
}

#[test]
fn gaps_and_skips_move_the_queue_on() {
    let mut out = Outbound::new(2, 1, 0);
    assert_eq!(out.offer(6, QoS::AtLeastOnce, false), Offer::Publish { packet_id: 6, dup: false });
    assert_eq!(out.offer(6, QoS::AtLeastOnce, false), Offer::Known);
    out.skip_to(8);
    assert_eq!(out.next(), 8);
    assert_eq!(out.offer(8, QoS::ExactlyOnce, true), Offer::Release { packet_id: 8 });
    assert_eq!(out.puback(6), Acked::Complete(6));
    assert_eq!(out.pubcomp(8), Acked::Complete(8));
    assert_eq!(out.under_way(), 0);
}

#[test]
fn identifiers_wrap_without_meeting_one_under_way() {
    let mut out = Outbound::new(10, 1, 0);
    assert_eq!(out.offer(1, QoS::AtLeastOnce, false), Offer::Publish { packet_id: 1, dup: false });
    for sequence in 2..=MAX_SPAN {
        assert!(matches!(out.offer(sequence, QoS::AtLeastOnce, false), Offer::Publish { .. }));
        assert_eq!(out.puback(packet_id(sequence)), Acked::Complete(sequence));
    }
    assert_eq!(out.offer(MAX_SPAN + 1, QoS::AtLeastOnce, false), Offer::Later);
    assert_eq!(out.puback(1), Acked::Complete(1));
    assert!(matches!(out.offer(MAX_SPAN + 1, QoS::AtLeastOnce, false), Offer::Publish { .. }));
}

#[test]
fn a_gap_wider_than_the_identifiers_waits_for_the_oldest_message() {
    let mut out = Outbound::new(10, 1, 0);
    out.offer(1, QoS::AtLeastOnce, false);
    out.offer(2, QoS::AtLeastOnce, false);
    // Overflow took everything between: the next one is farther away than identifiers reach.
    assert_eq!(out.offer(100_000, QoS::AtLeastOnce, false), Offer::Later);
    assert_eq!(out.puback(2), Acked::Complete(2));
    assert!(!out.has_room());
    assert_eq!(out.puback(1), Acked::Complete(1));
    assert!(out.has_room());
    assert!(matches!(out.offer(100_000, QoS::AtLeastOnce, false), Offer::Publish { .. }));
}

#[derive(Clone, Debug)]
enum Step {
    Offer { gap: u8, qos2: bool, received: bool },
    Ack(u8),
    Rec(u8),
    Durable(u8),
    Comp(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3u8, any::<bool>(), any::<bool>())
            .prop_map(|(gap, qos2, received)| Step::Offer { gap, qos2, received: received && qos2 }),
        2 => any::<u8>().prop_map(Step::Ack),
        2 => any::<u8>().prop_map(Step::Rec),
        2 => any::<u8>().prop_map(Step::Durable),
        2 => any::<u8>().prop_map(Step::Comp),
    ]
}

/// The model: sequence to state, in a plain map.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Model {
    One,
    Two,
    Received,
    Released,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn behaves_as_a_plain_map(window in 1..12u16, start in 0..200_000u64, steps in prop::collection::vec(step(), 1..300)) {
        let mut out = Outbound::new(window, start, 0);
        let mut model: BTreeMap<u64, Model> = BTreeMap::new();
        let mut next = start;
        for step in steps {
            let pick = |n: u8| {
                let low = model.keys().next().copied().unwrap_or(next);
                low + u64::from(n) % 16
            };
            match step {
                Step::Offer { gap, qos2, received } => {
                    let sequence = next + u64::from(gap);
                    let qos = if qos2 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                    let offer = out.offer(sequence, qos, received);
                    if model.len() >= usize::from(window) {
                        prop_assert_eq!(offer, Offer::Later);
                    } else {
                        let id = packet_id(sequence);
                        let wanted = if received {
                            Offer::Release { packet_id: id }
                        } else {
                            Offer::Publish { packet_id: id, dup: false }
                        };
                        prop_assert_eq!(offer, wanted);
                        let state = if received { Model::Released } else if qos2 { Model::Two } else { Model::One };
                        model.insert(sequence, state);
                        next = sequence + 1;
                    }
                }
                Step::Ack(n) => {
                    let sequence = pick(n);
                    let right = model.get(&sequence) == Some(&Model::One);
                    let wanted = match model.get(&sequence) {
                        Some(Model::One) => Acked::Complete(sequence),
                        Some(_) => Acked::Misplaced,
                        None => Acked::Unknown,
                    };
                    prop_assert_eq!(out.puback(packet_id(sequence)), wanted);
                    if right { model.remove(&sequence); }
                }
                Step::Rec(n) => {
                    let sequence = pick(n);
                    let wanted = match model.get(&sequence) {
                        Some(Model::Two) => Acked::Received(sequence),
                        Some(Model::Released) => Acked::Again(sequence),
                        Some(Model::Received) => Acked::Awaited,
                        Some(Model::One) => Acked::Misplaced,
                        None => Acked::Unknown,
                    };
                    prop_assert_eq!(out.pubrec(packet_id(sequence)), wanted);
                    if matches!(wanted, Acked::Received(_)) { model.insert(sequence, Model::Received); }
                }
                Step::Durable(n) => {
                    let sequence = pick(n);
                    let right = model.get(&sequence) == Some(&Model::Received);
                    prop_assert_eq!(out.released(sequence), right.then(|| packet_id(sequence)));
                    if right { model.insert(sequence, Model::Released); }
                }
                Step::Comp(n) => {
                    let sequence = pick(n);
                    let right = model.get(&sequence) == Some(&Model::Released);
                    let wanted = match model.get(&sequence) {
                        Some(Model::Released) => Acked::Complete(sequence),
                        Some(Model::One | Model::Two) => Acked::Misplaced,
                        Some(Model::Received) | None => Acked::Unknown,
                    };
                    prop_assert_eq!(out.pubcomp(packet_id(sequence)), wanted);
                    if right { model.remove(&sequence); }
                }
            }
            prop_assert_eq!(out.under_way(), model.len());
            prop_assert_eq!(out.next(), next);
            prop_assert_eq!(out.has_room(), model.len() < usize::from(window));
        }
    }
}
