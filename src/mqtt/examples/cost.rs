//! Prints what the publish path of the codec costs, in nanoseconds per packet.
//!
//! `cargo run --release -p nightjar-mqtt --example cost`
#![allow(clippy::unwrap_used)]

use nightjar_mqtt::property::Forwarded;
use nightjar_mqtt::{
    Delivery, MAX_PACKET_SIZE, PacketType, PublishParts, QoS, ReasonCode, Version, decode_publish, encode_ack,
    encode_publish, frame, topic,
};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u32 = 4_000_000;

fn measure(name: &str, mut round: impl FnMut()) {
    let best = (0..5)
        .map(|_| {
            #[allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
            let start = Instant::now();
            (0..ROUNDS).for_each(|_| round());
            start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:<44} {best:6.1} ns");
}

fn properties() -> Vec<u8> {
    let mut block = Vec::new();
    Forwarded::PayloadFormat(true).encode(&mut block);
    Forwarded::ContentType("application/json").encode(&mut block);
    Forwarded::ResponseTopic("answers/1").encode(&mut block);
    Forwarded::User("unit", "celsius").encode(&mut block);
    block
}

fn main() {
    let payload = [7; 16];
    let block = properties();
    for (name, version, properties) in [
        ("3.1.1", Version::V311, &[][..]),
        ("5, no properties", Version::V5, &[]),
        ("5, four properties", Version::V5, &block[..]),
    ] {
        let parts = PublishParts { topic: b"bench/pair/17", properties, payload: &payload, expiry: None };
        let delivery = Delivery { qos: QoS::AtLeastOnce, packet_id: 7, ..Delivery::default() };
        let mut packet = Vec::new();
        encode_publish(version, &parts, &delivery, &mut packet);
        measure(&format!("peek + decode_publish, {name}"), || {
            let frame = frame::peek(black_box(&packet), MAX_PACKET_SIZE, version).unwrap().unwrap();
            black_box(decode_publish(&frame, version).unwrap());
        });
        let mut out = Vec::with_capacity(1 << 16);
        measure(&format!("encode_publish, {name}"), || {
            if out.len() > 60_000 {
                out.clear();
            }
            encode_publish(black_box(version), black_box(&parts), black_box(&delivery), &mut out);
        });
    }
    let mut out = Vec::with_capacity(1 << 16);
    measure("encode_ack", || {
        if out.len() > 60_000 {
            out.clear();
        }
        encode_ack(PacketType::PubAck, black_box(Version::V5), black_box(7), ReasonCode::Success, &mut out);
    });
    measure("topic::validate_name, 13 bytes", || {
        black_box(topic::validate_name(black_box(b"bench/pair/17")).unwrap());
    });
    measure("topic::matches, 3 levels", || {
        black_box(topic::matches(black_box("bench/+/17"), black_box("bench/pair/17")));
    });
}
