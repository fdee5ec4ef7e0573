//! Who is not spoken to.

use super::super::dial::{self, DialError};
use super::super::hello::{Introduction, Mismatch};
use super::super::proto;
use super::super::tls::{Tls, TlsFiles};
use super::*;
use crate::env::clock::wall;
use crate::transport::dev::Authority;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::fs;
use tempfile::TempDir;

#[test]
fn a_hello_is_looked_at_from_all_sides() {
    let (me, other, cluster) = (peer(1), peer(2), "flock".into());
    let (ours, theirs) = (
        Introduction { me: &me, cluster: &cluster },
        Introduction { me: &other, cluster: &cluster }.hello(NodeId(1), Lane::Beat),
    );
    let check = |hello: &proto::Hello| ours.check(Some(hello.clone()), Some((NodeId(2), Lane::Beat)));
    assert_eq!(check(&theirs), Ok((other.clone(), Lane::Beat)));
    let changed = |change: fn(&mut proto::Hello)| {
        let mut hello = theirs.clone();
        change(&mut hello);
        check(&hello).unwrap_err()
    };
    assert_eq!(changed(|hello| hello.protocol = 2), Mismatch::Protocol(2));
    assert_eq!(
        changed(|hello| hello.cluster = "herd".to_owned()),
        Mismatch::Cluster("\"herd\"".to_owned(), "flock".into())
    );
    assert_eq!(changed(|hello| hello.node = 1), Mismatch::Myself(NodeId(1)));
    assert_eq!(changed(|hello| hello.node = 3), Mismatch::Another(NodeId(3), NodeId(2)));
    assert_eq!(changed(|hello| hello.to = 3), Mismatch::NotMe(NodeId(3), NodeId(1)));
    assert_eq!(changed(|hello| hello.lane = 2), Mismatch::Lane);
    assert_eq!(changed(|hello| hello.lane = 0), Mismatch::Lane);
    assert_eq!(changed(|hello| hello.name = "x".repeat(257)), Mismatch::Name);
    assert_eq!(ours.check(None, None), Err(Mismatch::Silent));
}

type Change = fn(&mut proto::Hello);

/// What a node answers to a hello.
async fn greet(node: &Node, hello: proto::Hello) -> Result<(), DialError> {
    let channel = dial::dial(&node.address.to_string(), Lane::Bulk, &Security::Plain).await?;
    let first = proto::Requests { hello: Some(hello), requests: Vec::new() };
    dial::client(channel).link(tokio_stream::once(first)).await?;
    Ok(())
}

#[tokio::test]
async fn a_node_that_does_not_belong_is_refused_with_the_reason() {
    let b = Start::node(2).go().await;
    let (me, cluster) = (peer(1), "flock".into());
    let hello = Introduction { me: &me, cluster: &cluster }.hello(b.id, Lane::Bulk);
    greet(&b, hello.clone()).await.unwrap();
    let changes: [(Change, &str); 4] = [
        (|hello| hello.cluster = "herd".to_owned(), "\"herd\""),
        (|hello| hello.protocol = 9, "version 9"),
        (|hello| hello.node = 2, "own id"),
        (|hello| hello.to = 3, "another node's"),
    ];
    for (change, reason) in changes {
        let mut hello = hello.clone();
        change(&mut hello);
        let refused = greet(&b, hello).await.unwrap_err();
        assert!(refused.lasts() && refused.to_string().contains(reason), "{refused}");
    }
}

#[tokio::test]
async fn a_link_to_the_wrong_node_or_cluster_stays_down() {
    let (a, b) = (Start::node(1).go().await, Start::node(2).go().await);
    let stranger = Start { cluster: "herd", ..Start::node(3) }.go().await;
    // Node 4 was there once.
    a.knows(&[(NodeId(4), b.address), (stranger.id, stranger.address), (NodeId(5), a.address)]);
    for id in [NodeId(4), stranger.id, NodeId(5)] {
        assert_eq!(a.ask(id, ECHO, "").await, Err(CallError::Unreachable));
    }
    for node in [&a, &b, &stranger] {
        assert!(node.clerk.received.lock().is_empty() && node.clerk.events.lock().is_empty());
    }
}

/// Certificates on the disk.
struct Office {
    folder: TempDir,
    authority: Authority,
}

impl Office {
    fn new() -> Self {
        let office = Self { folder: TempDir::new().unwrap(), authority: Authority::new("test", wall()).unwrap() };
        fs::write(office.folder.path().join("ca.pem"), office.authority.certificate()).unwrap();
        office
    }

    fn files(&self, name: &str, hosts: &[&str]) -> TlsFiles {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let signed = self.authority.node(name, &hosts).unwrap();
        let path = |file: &str| self.folder.path().join(file);
        let files = TlsFiles {
            ca: path("ca.pem"),
            certificate: path(&format!("{name}.pem")),
            key: path(&format!("{name}.key")),
            found_by: None,
        };
        fs::write(&files.certificate, signed.certificate).unwrap();
        fs::write(&files.key, signed.key).unwrap();
        files
    }
}

fn secured(id: u64, files: &TlsFiles) -> Start {
    Start { security: Security::Tls(Tls::read(files).unwrap()), ..Start::node(id) }
}

#[tokio::test]
async fn nodes_of_one_authority_speak_within_tls() {
    let office = Office::new();
    let a = secured(1, &office.files("a", &["127.0.0.1"])).go().await;
    let b = secured(2, &office.files("b", &["localhost", "127.0.0.1"])).go().await;
    a.knows(&[(b.id, b.address)]);
    assert_eq!(a.ask(b.id, ECHO, "secret").await, Ok("secret".into()));
    let by_name = format!("localhost:{}", b.address.port());
    assert_eq!(a.wire.probe(&by_name, ECHO, "by name".into(), LONG).await, Ok("by name".into()));
    // From now on with another certificate; what is there stays.
    b.wire.secure(Security::Tls(Tls::read(&Office::new().files("b", &["127.0.0.1"])).unwrap()));
    assert_eq!(a.ask(b.id, ECHO, "still").await, Ok("still".into()));
    assert_eq!(a.wire.probe(&by_name, ECHO, "new".into(), LONG).await, Err(CallError::Unreachable));
}

#[tokio::test]
async fn a_node_that_was_found_by_a_name_may_have_a_certificate_for_that() {
    let office = Office::new();
    let b = secured(2, &office.files("b", &["nodes.example"])).go().await;
    let address = b.address.to_string();
    let files = office.files("a", &["a.example"]);
    for (found_by, answer) in [
        (Some("nodes.example"), Ok("found".into())),
        (Some("others.example"), Err(CallError::Unreachable)),
        (None, Err(CallError::Unreachable)),
    ] {
        let a = secured(1, &TlsFiles { found_by: found_by.map(str::to_owned), ..files.clone() }).go().await;
        assert_eq!(a.wire.probe(&address, ECHO, "found".into(), LONG).await, answer, "{found_by:?}");
        // A host that was dialled by its name is that one.
        let by_name = format!("localhost:{}", b.address.port());
        assert_eq!(a.wire.probe(&by_name, ECHO, "".into(), LONG).await, Err(CallError::Unreachable));
    }
}

#[tokio::test]
async fn whoever_has_no_certificate_of_the_authority_is_refused() {
    let office = Office::new();
    let b = secured(2, &office.files("b", &["127.0.0.1"])).go().await;
    // Believes our authority, and has a certificate of another.
    let foreign = TlsFiles { ca: office.files("c", &["c"]).ca, ..Office::new().files("foreign", &["127.0.0.1"]) };
    let other = Office::new();
    let foreign_kept = other.files("foreign", &["127.0.0.1"]);
    let foreign = TlsFiles { certificate: foreign_kept.certificate, key: foreign_kept.key, ..foreign };
    // Shows none at all.
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(office.authority.certificate().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let nobody = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let nobody = Arc::new(nobody.with_root_certificates(roots).with_no_client_auth());
    let bare = Tls { client: nobody, ..Tls::read(&foreign).unwrap() };
    for security in [Security::Tls(Tls::read(&foreign).unwrap()), Security::Tls(bare), Security::Plain] {
        let a = Start { security, ..Start::node(1) }.go().await;
        a.knows(&[(b.id, b.address)]);
        assert_eq!(a.ask(b.id, ECHO, "").await, Err(CallError::Unreachable));
        let probe = a.wire.probe(&b.address.to_string(), ECHO, "".into(), LONG);
        assert_eq!(probe.await, Err(CallError::Unreachable));
    }
    assert!(b.clerk.received.lock().is_empty());
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let office = Office::new();
    let a = secured(1, &office.files("a", &["127.0.0.1"])).go().await;
    let b = secured(2, &office.files("b", &["b.example"])).go().await;
    a.knows(&[(b.id, b.address)]);
    assert_eq!(a.ask(b.id, ECHO, "").await, Err(CallError::Unreachable));
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let office = Office::new();
    let files = office.files("a", &["127.0.0.1"]);
    let missing = TlsFiles { key: office.folder.path().join("missing.key"), ..files.clone() };
    assert!(Tls::read(&missing).unwrap_err().to_string().contains("missing.key"));
    let swapped = TlsFiles { ca: files.key.clone(), ..files.clone() };
    assert!(Tls::read(&swapped).unwrap_err().to_string().contains("a.key"));
    let stray = TlsFiles { key: office.files("b", &["127.0.0.1"]).key, ..files };
    assert!(Tls::read(&stray).unwrap_err().to_string().contains("b.key"), "a key of another certificate");
}
