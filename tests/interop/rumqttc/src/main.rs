//! rumqttc against a broker: `rumqttc-flow SCHEME PORT LEVEL CA`. One client publishes to itself at every QoS, retains,
//! carries 200 KB, and finds what came while it was away.

use rumqttc::{TlsConfiguration, Transport};
use std::time::Duration;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The flow at one protocol level: the two halves of the crate have the same names for different types.
macro_rules! flow {
    ($level:ident, $($path:ident)::+, $keep:ident) => {
        mod $level {
            use super::{PATIENCE, connection};
            use $($path)::+::mqttbytes::QoS;
            use $($path)::+::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};

            struct Peer {
                client: AsyncClient,
                events: EventLoop,
            }

            impl Peer {
                async fn connect(scheme: &str, port: u16, ca: &[u8], id: &str, fresh: bool) -> (Self, bool) {
                    let (host, transport) = connection(scheme, port, ca);
                    let mut options = MqttOptions::new(id, host, port);
                    options.set_transport(transport);
                    super::$keep(&mut options, fresh);
                    let (client, events) = AsyncClient::new(options, 100);
                    let mut peer = Self { client, events };
                    let Incoming::ConnAck(answer) = peer.wait("CONNACK", |p| matches!(p, Incoming::ConnAck(_))).await
                    else {
                        unreachable!("only a CONNACK was let through")
                    };
                    (peer, answer.session_present)
                }

                async fn wait(&mut self, what: &str, wanted: impl Fn(&Incoming) -> bool) -> Incoming {
                    tokio::time::timeout(PATIENCE, async {
                        loop {
                            match self.events.poll().await {
                                Ok(Event::Incoming(packet)) if wanted(&packet) => return packet,
                                Ok(_) => {}
                                Err(error) => panic!("no {what}: {error}"),
                            }
                        }
                    })
                    .await
                    .unwrap_or_else(|_| panic!("no {what} in time"))
                }

                async fn subscribe(&mut self, filter: &str) {
                    self.client.subscribe(filter, QoS::ExactlyOnce).await.unwrap();
                    self.wait("SUBACK", |packet| matches!(packet, Incoming::SubAck(_))).await;
                }

                async fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &[u8]) {
                    self.client.publish(topic, qos, retain, payload.to_vec()).await.unwrap();
                }

                async fn expect(&mut self, qos: QoS, retain: bool, payload: &[u8]) {
                    let packet = self.wait("PUBLISH", |packet| matches!(packet, Incoming::Publish(_))).await;
                    let Incoming::Publish(publish) = packet else { unreachable!("only a PUBLISH was let through") };
                    assert_eq!((publish.qos, publish.retain), (qos, retain));
                    assert!(publish.payload == payload, "{} bytes came", publish.payload.len());
                }
            }

            pub async fn run(scheme: &str, port: u16, ca: &[u8]) {
                let (mut peer, present) = Peer::connect(scheme, port, ca, "rumqttc", true).await;
                assert!(!present);
                peer.subscribe("rumqttc/flow").await;
                for (qos, answer) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 2)] {
                    peer.publish("rumqttc/flow", qos, false, &[answer]).await;
                    peer.expect(qos, false, &[answer]).await;
                }
                let large = vec![7; 200_000];
                peer.publish("rumqttc/flow", QoS::ExactlyOnce, false, &large).await;
                peer.expect(QoS::ExactlyOnce, false, &large).await;

                peer.publish("rumqttc/kept", QoS::AtLeastOnce, true, b"value").await;
                peer.wait("PUBACK", |packet| matches!(packet, Incoming::PubAck(_))).await;
                peer.subscribe("rumqttc/kept").await;
                peer.expect(QoS::AtLeastOnce, true, b"value").await;
                peer.publish("rumqttc/kept", QoS::AtLeastOnce, true, b"").await;
                peer.expect(QoS::AtLeastOnce, false, b"").await;

                // The keeper's own client publishes nothing, so that nothing of its own is outstanding when it leaves.
                let (mut keeper, _) = Peer::connect(scheme, port, ca, "rumqttc-keeper", false).await;
                keeper.subscribe("rumqttc/away").await;
                drop(keeper);
                for number in 0..50 {
                    peer.publish("rumqttc/away", QoS::AtLeastOnce, false, &[number]).await;
                    peer.wait("PUBACK", |packet| matches!(packet, Incoming::PubAck(_))).await;
                }
                let (mut keeper, present) = Peer::connect(scheme, port, ca, "rumqttc-keeper", false).await;
                assert!(present, "the session is gone");
                for number in 0..50 {
                    keeper.expect(QoS::AtLeastOnce, false, &[number]).await;
                }
                drop(keeper);
                Peer::connect(scheme, port, ca, "rumqttc-keeper", true).await;
            }
        }
    };
}

flow!(level4, rumqttc, keep4);
flow!(level5, rumqttc::v5, keep5);

fn keep4(options: &mut rumqttc::MqttOptions, fresh: bool) {
    options.set_clean_session(fresh).set_max_packet_size(1_000_000, 1_000_000);
}

fn keep5(options: &mut rumqttc::v5::MqttOptions, fresh: bool) {
    options.set_clean_start(fresh).set_session_expiry_interval((!fresh).then_some(300));
    options.set_max_packet_size(Some(1_000_000));
}

/// The host as rumqttc wants it for a scheme, and its transport.
fn connection(scheme: &str, port: u16, ca: &[u8]) -> (String, Transport) {
    let tls = || TlsConfiguration::Simple { ca: ca.to_vec(), alpn: None, client_auth: None };
    match scheme {
        "mqtt" => ("127.0.0.1".to_owned(), Transport::Tcp),
        "mqtts" => ("localhost".to_owned(), Transport::tls_with_config(tls())),
        "ws" => (format!("ws://127.0.0.1:{port}/mqtt"), Transport::Ws),
        "wss" => (format!("wss://localhost:{port}/mqtt"), Transport::wss_with_config(tls())),
        other => panic!("no scheme {other}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, scheme, port, level, ca] = arguments.as_slice() else { panic!("rumqttc-flow SCHEME PORT LEVEL CA") };
    let (port, ca) = (port.parse().expect("a port"), std::fs::read(ca).expect("a certificate"));
    match level.as_str() {
        "4" => level4::run(scheme, port, &ca).await,
        "5" => level5::run(scheme, port, &ca).await,
        other => panic!("no level {other}"),
    }
}
