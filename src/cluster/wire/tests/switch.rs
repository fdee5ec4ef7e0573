//! The switch, in time that stands still unless somebody waits.

use super::super::{Port, Switch, Weather};
use super::*;

fn plug(switch: &Arc<Switch>, id: u64) -> (Port, Arc<Clerk>) {
    let clerk = Clerk::new();
    (switch.join(peer(id), Arc::<Clerk>::clone(&clerk)), clerk)
}

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

#[tokio::test(start_paused = true)]
async fn the_switch_carries_requests_in_order() {
    let switch = Switch::new(1);
    let ((a, a_clerk), (_b, b_clerk)) = (plug(&switch, 1), plug(&switch, 2));
    assert_eq!((a_clerk.events.lock().len(), b_clerk.events.lock().len()), (3, 3));
    let delay = (Duration::from_millis(1), Duration::from_millis(50));
    switch.set_weather(A, B, Weather { delay, ..Weather::default() });
    let begun = tokio::time::Instant::now();
    for number in 0..100_u8 {
        a.tell(B, Lane::Bulk, request(ECHO, vec![number])).unwrap();
    }
    assert_eq!(a.call(B, Lane::Bulk, request(ECHO, "last"), LONG).await, Ok("last".into()));
    // Delays do not add up.
    assert!((Duration::from_millis(1)..Duration::from_millis(60)).contains(&begun.elapsed()));
    assert!(b_clerk.received.lock()[..100].iter().map(|(_, _, request)| request.payload[0]).eq(0..100));
    assert_eq!(a.call(NodeId(3), Lane::Beat, request(ECHO, ""), LONG).await, Err(CallError::Unreachable));
}

#[tokio::test(start_paused = true)]
async fn a_direction_is_cut_and_mended_by_itself() {
    let switch = Switch::new(1);
    let ((a, a_clerk), (b, b_clerk)) = (plug(&switch, 1), plug(&switch, 2));
    let call = a.call(B, Lane::Beat, request(WAIT, ""), LONG);
    until("it came", || b_clerk.received.lock().len() == 1).await;
    switch.cut(A, B);
    assert_eq!(call.await, Err(CallError::Unreachable), "it was under way");
    assert_eq!(a.tell(B, Lane::Bulk, request(ECHO, "")), Err(CallError::Unreachable));
    assert_eq!(a.probe("node-2", ECHO, "".into(), LONG).await, Err(CallError::Unreachable));
    assert_eq!(b.call(A, Lane::Bulk, request(ECHO, "x"), LONG).await, Ok("x".into()));
    assert_eq!((a_clerk.count(B, Lane::Beat, false), b_clerk.count(A, Lane::Beat, false)), (1, 0));
    switch.mend(A, B);
    assert_eq!(a.call(B, Lane::Bulk, request(ECHO, "y"), LONG).await, Ok("y".into()));
    assert_eq!(a.probe("node-2", ECHO, "z".into(), LONG).await, Ok("z".into()));
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_or_doubled_follows_from_the_seed() {
    async fn run(seed: u64) -> Vec<u8> {
        let switch = Switch::new(seed);
        let ((a, _), (_b, clerk)) = (plug(&switch, 1), plug(&switch, 2));
        switch.set_weather(A, B, Weather { loss: 0.3, twice: 0.3, ..Weather::default() });
        for number in 0..100 {
            a.tell(B, Lane::Bulk, request(ECHO, vec![number])).unwrap();
        }
        switch.set_weather(A, B, Weather::default());
        a.call(B, Lane::Bulk, request(ECHO, vec![255]), LONG).await.unwrap();
        let received = clerk.received.lock();
        received.iter().map(|(_, _, request)| request.payload[0]).collect()
    }
    let first = run(5).await;
    assert!(first.windows(2).any(|pair| pair[0] == pair[1]) && first.is_sorted());
    assert!((0..100).any(|number| !first.contains(&number)));
    assert_eq!(run(5).await, first);
    assert_ne!(run(6).await, first);
}

#[tokio::test(start_paused = true)]
async fn silence_costs_a_call_its_patience() {
    let switch = Switch::new(1);
    let ((a, _), (_b, clerk)) = (plug(&switch, 1), plug(&switch, 2));
    switch.set_weather(B, A, Weather { loss: 1.0, ..Weather::default() });
    let begun = tokio::time::Instant::now();
    let call = a.call(B, Lane::Bulk, request(ECHO, "lost"), Duration::from_secs(3));
    assert_eq!(call.await, Err(CallError::TimedOut), "the answer was lost");
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert_eq!(clerk.received.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_unplugged_is_missed_until_it_comes_back() {
    let switch = Switch::new(1);
    let ((a, a_clerk), (_b, b_clerk)) = (plug(&switch, 1), plug(&switch, 2));
    let call = a.call(B, Lane::Bulk, request(WAIT, ""), LONG);
    until("it came", || b_clerk.received.lock().len() == 1).await;
    switch.leave(B);
    assert_eq!(call.await, Err(CallError::Unreachable));
    let (_b, _) = plug(&switch, 2);
    assert_eq!((a_clerk.count(B, Lane::Bulk, true), a_clerk.count(B, Lane::Bulk, false)), (2, 1));
    assert_eq!(a.call(B, Lane::Bulk, request(ECHO, "x"), LONG).await, Ok("x".into()));
}
