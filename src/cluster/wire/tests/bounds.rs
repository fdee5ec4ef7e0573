//! What is too large, and what is too much.

use super::super::outbox::{Closed, Outbox, Writer};
use super::super::proto;
use super::*;
use tokio_stream::StreamExt as _;

#[tokio::test]
async fn a_payload_that_is_too_large_is_refused_and_the_link_lives() {
    let (a, b) = pair().await;
    let big = vec![7; LARGEST_PAYLOAD];
    assert_eq!(a.ask(b.id, ECHO, big.clone()).await.map(|answer| answer.len()), Ok(LARGEST_PAYLOAD));
    assert_eq!(a.ask(b.id, ECHO, vec![0; LARGEST_PAYLOAD + 1]).await, Err(CallError::TooLarge));
    let told = a.wire.tell(b.id, Lane::Bulk, request(ECHO, vec![0; LARGEST_PAYLOAD + 1]));
    assert_eq!(told, Err(CallError::TooLarge));
    assert_eq!(a.ask(b.id, ANSWER_TOO_LARGE, "").await, Err(CallError::TooLarge));
    assert_eq!(a.ask(b.id, ECHO, "small").await, Ok("small".into()));
    assert_eq!(a.clerk.count(b.id, Lane::Bulk, false), 0);
}

#[tokio::test]
async fn calls_beyond_the_bound_fail_at_once() {
    let settings = Settings { in_flight: 3, ..Settings::default() };
    let (a, b) = (Start { settings, ..Start::node(1) }.go().await, Start::node(2).go().await);
    a.knows(&[(b.id, b.address)]);
    let mut calls: Vec<_> = (0..3).map(|_| a.wire.call(b.id, Lane::Bulk, request(WAIT, "x"), LONG)).collect();
    assert_eq!(a.ask(b.id, ECHO, "").await, Err(CallError::Full));
    // A call that is given up makes room.
    calls.pop();
    assert_eq!(a.ask(b.id, ECHO, "room").await, Ok("room".into()));
    b.clerk.gate.add_permits(3);
    for call in calls {
        assert_eq!(call.await, Ok("x".into()));
    }
}

#[tokio::test]
async fn a_node_handles_so_many_requests_at_a_time_and_the_others_wait() {
    let settings = Settings { in_flight: 2, ..Settings::default() };
    let (a, b) = (Start::node(1).go().await, Start { settings, ..Start::node(2) }.go().await);
    a.knows(&[(b.id, b.address)]);
    let calls: Vec<_> = (0..10).map(|_| a.wire.call(b.id, Lane::Bulk, request(WAIT, "x"), LONG)).collect();
    until("two came", || b.clerk.received.lock().len() == 2).await;
    assert_eq!(a.wire.call(b.id, Lane::Beat, request(ECHO, "beat"), LONG).await, Ok("beat".into()), "a lane by itself");
    assert_eq!(b.clerk.received.lock().iter().filter(|(_, lane, _)| *lane == Lane::Bulk).count(), 2);
    b.clerk.gate.add_permits(10);
    for call in calls {
        assert_eq!(call.await, Ok("x".into()));
    }
}

fn item(bytes: usize) -> proto::Request {
    proto::Request { id: 0, group: 0, kind: 0, payload: vec![0; bytes].into() }
}

#[test]
fn a_queue_takes_so_many_bytes_or_one_that_is_larger() {
    let outbox = Outbox::new();
    assert_eq!(outbox.push(item(5000), 1000), Ok(()), "alone");
    assert_eq!(outbox.push(item(1), 1000), Err(Closed::Full));
    outbox.close();
    assert_eq!(outbox.push(item(1), 1000), Err(Closed::Gone));
}

#[tokio::test]
async fn what_waits_is_written_together_and_nothing_before_the_hello_is_answered() {
    let outbox = Outbox::new();
    let hello = proto::Requests { hello: Some(proto::Hello::default()), requests: Vec::new() };
    let mut writer = Writer::new(hello, Arc::clone(&outbox));
    for bytes in [100, 100, 200_000, 100_000, 1_000_000, 10] {
        outbox.push(item(bytes), usize::MAX).unwrap();
    }
    assert!(writer.next().await.unwrap().hello.is_some());
    let early = tokio::time::timeout(Duration::from_millis(10), writer.next()).await;
    assert!(early.is_err());
    outbox.open();
    let mut sizes = Vec::new();
    for _ in 0..4 {
        let message = writer.next().await.unwrap();
        sizes.push(message.requests.iter().map(|request| request.payload.len()).collect::<Vec<_>>());
    }
    assert_eq!(sizes, [vec![100, 100, 200_000], vec![100_000], vec![1_000_000], vec![10]]);
    outbox.close();
    assert!(writer.next().await.is_none());
}
