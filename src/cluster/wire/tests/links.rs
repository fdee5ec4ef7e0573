//! Requests and answers; links that are lost and come back.

use super::super::dial;
use super::super::hello::Introduction;
use super::super::proto;
use super::*;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;

#[tokio::test]
async fn every_lane_carries_requests_and_answers() {
    let (a, b) = pair().await;
    for lane in Lane::ALL {
        let answer = a.wire.call(b.id, lane, request(ECHO, "hello"), LONG).await;
        assert_eq!(answer, Ok("hello".into()));
    }
    assert_eq!(a.ask(b.id, ECHO, "").await, Ok(Bytes::new()), "an empty answer is one");
    assert_eq!(a.ask(b.id, REFUSE, "").await, Err(CallError::Refused(Refusal::new(42, "not today"))));
    assert_eq!(a.ask(NodeId(9), ECHO, "").await, Err(CallError::Unreachable), "nobody has told us of it");
    assert!(b.clerk.received.lock().iter().all(|(from, _, request)| *from == a.id && request.group == 7));
}

#[tokio::test]
async fn a_call_has_its_patience() {
    let (a, b) = pair().await;
    let call = a.wire.call(b.id, Lane::Bulk, request(WAIT, "late"), Duration::from_millis(20));
    assert_eq!(call.await, Err(CallError::TimedOut));
    b.clerk.gate.add_permits(1);
    assert_eq!(a.ask(b.id, ECHO, "next").await, Ok("next".into()), "the late answer disturbs nobody");
}

#[tokio::test]
async fn requests_arrive_in_the_order_in_which_they_were_sent() {
    let (a, b) = pair().await;
    let mut calls = Vec::new();
    for number in 0_u32..1000 {
        let payload = number.to_be_bytes().to_vec();
        if number % 3 == 0 {
            a.wire.tell(b.id, Lane::Bulk, request(ECHO, payload)).unwrap();
        } else {
            // Sent here, whenever it is polled.
            calls.push((number, a.wire.call(b.id, Lane::Bulk, request(ECHO, payload), LONG)));
        }
    }
    for (number, call) in calls.into_iter().rev() {
        assert_eq!(call.await.unwrap(), number.to_be_bytes().as_slice());
    }
    until("all came", || b.clerk.received.lock().len() == 1000).await;
    let received = b.clerk.received.lock();
    let numbers = received.iter().map(|(_, _, request)| u32::from_be_bytes(request.payload[..].try_into().unwrap()));
    assert!(numbers.eq(0..1000));
}

#[tokio::test]
async fn answers_overtake_each_other() {
    let (a, b) = pair().await;
    let slow = a.wire.call(b.id, Lane::Bulk, request(WAIT, "slow"), LONG);
    assert_eq!(a.ask(b.id, ECHO, "fast").await, Ok("fast".into()));
    b.clerk.gate.add_permits(1);
    assert_eq!(slow.await, Ok("slow".into()));
}

#[tokio::test]
async fn what_is_under_way_fails_at_once_when_the_link_is_lost() {
    let (a, b) = pair().await;
    let call = a.wire.call(b.id, Lane::Bulk, request(WAIT, ""), LONG);
    until("it came", || !b.clerk.received.lock().is_empty()).await;
    b.wire.stop();
    assert_eq!(call.await, Err(CallError::Unreachable));
    until("told", || a.clerk.count(b.id, Lane::Bulk, false) == 1).await;
    // Nobody listens there any more: after an attempt this is known, and then nothing waits.
    until("down", || a.wire.tell(b.id, Lane::Bulk, request(ECHO, "")) == Err(CallError::Unreachable)).await;
    assert_eq!(a.ask(b.id, ECHO, "").await, Err(CallError::Unreachable));
}

#[tokio::test]
async fn a_link_comes_back_by_itself_when_the_other_node_does() {
    let (a, b) = pair().await;
    let (id, address) = (b.id, b.address);
    drop(b);
    until("lost", || a.clerk.count(id, Lane::Bulk, false) == 1).await;
    let b = Start { address, ..Start::node(2) }.go().await;
    a.linked(id, Lane::Bulk, 2).await;
    assert_eq!(a.ask(id, ECHO, "again").await, Ok("again".into()));
    assert_eq!(b.clerk.received.lock().len(), 1);
}

#[tokio::test]
async fn a_node_that_moves_is_found_at_its_new_address() {
    let (a, b) = pair().await;
    let moved = Start::node(2).go().await;
    a.knows(&[(moved.id, moved.address)]);
    assert_eq!(a.ask(moved.id, ECHO, "there").await, Ok("there".into()));
    assert_eq!((b.clerk.received.lock().len(), moved.clerk.received.lock().len()), (0, 1));
    a.knows(&[]);
    assert_eq!(a.ask(moved.id, ECHO, "").await, Err(CallError::Unreachable));
}

#[tokio::test]
async fn a_newer_connection_of_a_node_takes_the_place_of_the_older() {
    let (b, me, cluster) = (Start::node(2).go().await, peer(1), "flock".into());
    let introduction = Introduction { me: &me, cluster: &cluster };
    let hello = introduction.hello(b.id, Lane::Bulk);
    let mut links = Vec::new();
    for _ in 0..2 {
        let channel = dial::dial(&b.address.to_string(), Lane::Bulk, &Security::Plain).await.unwrap();
        let first = proto::Requests { hello: Some(hello.clone()), requests: Vec::new() };
        // A side that stays open.
        let requests = tokio_stream::once(first).chain(tokio_stream::pending());
        let mut answers = dial::client(channel).link(requests).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().hello.unwrap().node, b.id.0);
        links.push(answers);
    }
    let (newer, older) = (links.pop().unwrap(), links.pop().unwrap());
    let ended = tokio::time::timeout(LONG, {
        let mut older = older;
        async move { older.message().await }
    })
    .await
    .unwrap();
    assert!(!matches!(ended, Ok(Some(_))));
    let mut newer = newer;
    let stays = tokio::time::timeout(Duration::from_millis(100), newer.message()).await;
    assert!(stays.is_err(), "the newer one stays");
}

/// What a proxy does with the connections through it.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Open,
    /// Keeps them, without a word.
    Silent,
    /// Closes those that there are.
    Cutting,
}

async fn proxy(to: SocketAddr) -> (SocketAddr, watch::Sender<Mood>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mood = watch::Sender::new(Mood::Open);
    let moods = mood.subscribe();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut moods = moods.clone();
            moods.mark_unchanged();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = moods.changed() => if *moods.borrow() == Mood::Silent { std::future::pending().await },
                }
            });
        }
    });
    (address, mood)
}

#[tokio::test]
async fn what_is_asked_right_after_a_loss_waits_for_the_next_connection() {
    let (a, b) = (Start::node(1).go().await, Start::node(2).go().await);
    let (address, mood) = proxy(b.address).await;
    a.knows(&[(b.id, address)]);
    a.linked(b.id, Lane::Bulk, 1).await;
    let begun = std::time::Instant::now();
    until("grown", || begun.elapsed() > Duration::from_millis(1100)).await;
    mood.send_replace(Mood::Cutting);
    until("lost", || a.clerk.count(b.id, Lane::Bulk, false) == 1).await;
    assert_eq!(a.ask(b.id, ECHO, "there?").await, Ok("there?".into()));
}

#[tokio::test]
async fn a_node_that_falls_silent_is_found_out() {
    let (a, b) = (Start::node(1).go().await, Start::node(2).go().await);
    let (address, mood) = proxy(b.address).await;
    a.knows(&[(b.id, address)]);
    a.linked(b.id, Lane::Beat, 1).await;
    let call = a.wire.call(b.id, Lane::Beat, request(WAIT, ""), LONG);
    until("it came", || !b.clerk.received.lock().is_empty()).await;
    mood.send_replace(Mood::Silent);
    let begun = std::time::Instant::now();
    assert_eq!(call.await, Err(CallError::Unreachable));
    // About a second on an idle machine; a busy one is given more.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_node_without_a_cluster_can_be_probed_and_no_more() {
    let listener = net::bind(([127, 0, 0, 1], 0).into(), false, 16).unwrap();
    let address = listener.local_addr().unwrap();
    let clerk = Clerk::new();
    let service = Arc::<Clerk>::clone(&clerk);
    let b = Wire::start(listener, peer(2), Security::Plain, Settings::default(), service);
    let a = Start::node(1).go().await;
    let probe = |kind| a.wire.probe(&address.to_string(), kind, "who?".into(), LONG);
    assert_eq!(probe(ECHO).await, Ok("who?".into()));
    assert_eq!(probe(REFUSE).await, Err(CallError::Refused(Refusal::new(42, "not today"))));
    a.knows(&[(NodeId(2), address)]);
    assert_eq!(a.ask(NodeId(2), ECHO, "").await, Err(CallError::Unreachable));
    b.join("flock".into());
    a.linked(NodeId(2), Lane::Bulk, 1).await;
    assert_eq!(a.ask(NodeId(2), ECHO, "now").await, Ok("now".into()));
}
