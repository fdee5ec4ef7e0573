//! `nightjar cert dev --node`: what the nodes of a cluster need to believe each other.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

fn dev(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightjar"));
    command.args(["cert", "dev"]).arg(dir).args(arguments).env_clear().output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn chain(dir: &Path, name: &str) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_file_iter(dir.join(format!("{name}.pem"))).unwrap();
    certificates.map(Result::unwrap).collect()
}

fn key(dir: &Path, name: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap()
}

/// Two nodes shake hands: `from` dials `to` by the name `host`, and each believes the authority in its own folder.
fn meet((from, dialler): (&Path, &str), (to, host_of): (&Path, &str), host: &str) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = |dir| {
        let mut roots = RootCertStore::empty();
        chain(dir, "cluster-ca").into_iter().for_each(|root| roots.add(root).unwrap());
        Arc::new(roots)
    };
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(from))
        .with_client_auth_cert(chain(from, dialler), key(from, dialler))?;
    let nodes = WebPkiClientVerifier::builder_with_provider(roots(to), Arc::clone(&provider)).build().unwrap();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(nodes)
        .with_single_cert(chain(to, host_of), key(to, host_of))?;
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from(host.to_owned()).unwrap())?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut &*bytes).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut &*bytes).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn every_node_is_a_server_and_a_client_to_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("tls");
    let made = dev(&dir, &["--node", "node1", "--node", "node2.example.org", "--node", "10.0.0.3", "--node", "node1"]);
    assert!(made.status.success(), "{}", told(&made));
    assert!(told(&made).contains("cluster-ca, 10.0.0.3, node1, node2.example.org (.pem and .key)"), "{}", told(&made));
    let nodes = ["10.0.0.3", "node1", "node2.example.org"];
    let mut files = vec!["10.0.0.3.key", "10.0.0.3.pem", "cluster-ca.key", "cluster-ca.pem", "node1.key", "node1.pem"];
    files.extend(["node2.example.org.key", "node2.example.org.pem"]);
    assert_eq!(super::names_in(&dir), files);
    for file in files {
        let mode = fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if file.ends_with(".key") { 0o600 } else { 0o644 }, "{file}");
    }
    for from in nodes {
        for to in nodes {
            for host in [to, "localhost", "127.0.0.1", "::1"] {
                assert_eq!(meet((&dir, from), (&dir, to), host), Ok(()), "{from} dials {to} by {host}");
            }
        }
    }
    assert!(meet((&dir, "node1"), (&dir, "node2.example.org"), "node1").is_err(), "each has its own name");

    // Neither end believes the authority of another run.
    let other = folder.path().join("other");
    assert!(dev(&other, &["--node", "node1"]).status.success());
    assert!(meet((&dir, "node1"), (&other, "node1"), "node1").is_err(), "the dialling end");
    for file in ["node1.pem", "node1.key"] {
        fs::copy(dir.join(file), other.join(file)).unwrap();
    }
    assert!(meet((&dir, "node1"), (&other, "node1"), "node1").is_err(), "the accepting end");
}

#[test]
fn nothing_is_replaced_unless_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    assert!(dev(dir, &["--node", "node1"]).status.success());
    let before = fs::read(dir.join("cluster-ca.pem")).unwrap();
    for (options, file) in [
        (&["--node", "node1", "--node", "node2"][..], "node1.pem"),
        (&["--node", "node2", "--new-authority"], "cluster-ca.pem"),
    ] {
        let again = dev(dir, options);
        assert_eq!(again.status.code(), Some(1));
        assert!(told(&again).contains(&format!("{file} is there already; --force replaces it")), "{}", told(&again));
        assert_eq!(super::names_in(dir), ["cluster-ca.key", "cluster-ca.pem", "node1.key", "node1.pem"]);
    }
    assert!(dev(dir, &["--node", "node1", "--force"]).status.success());
    assert_eq!(fs::read(dir.join("cluster-ca.pem")).unwrap(), before);
    assert!(dev(dir, &["--node", "node1", "--new-authority", "--force"]).status.success());
    assert_ne!(fs::read(dir.join("cluster-ca.pem")).unwrap(), before);
    for of_clusters in [&["--new-authority"][..], &["--dns", "nodes.example"]] {
        assert_eq!(dev(dir, of_clusters).status.code(), Some(2), "{of_clusters:?}");
    }
}

#[test]
fn one_more_node_is_of_the_same_authority() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    assert!(dev(dir, &["--node", "node1"]).status.success());
    assert!(dev(dir, &["--node", "node2"]).status.success());
    meet((dir, "node1"), (dir, "node2"), "node2").unwrap();
    assert!(dev(dir, &["--node", "node3", "--dns", "nodes.example"]).status.success());
    meet((dir, "node1"), (dir, "node3"), "nodes.example").unwrap();
    assert!(meet((dir, "node1"), (dir, "node2"), "nodes.example").is_err());
    fs::remove_file(dir.join("cluster-ca.key")).unwrap();
    let without = dev(dir, &["--node", "node4"]);
    assert_eq!(without.status.code(), Some(1), "nobody can sign without the key");
    assert!(told(&without).contains("cluster-ca.key"), "{}", told(&without));
}

#[test]
fn a_node_is_named_by_its_host_and_by_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for host in ["../node1", "a/b", "..", "", "cluster-ca", "*.example.org", "node1:7883"] {
        let refused = dev(dir, &["--node", host]);
        assert_eq!(refused.status.code(), Some(2), "{host}: {}", told(&refused));
    }
    assert_eq!(dev(dir, &["--node", "node1", "--name", "broker"]).status.code(), Some(2));
    assert_eq!(dev(dir, &["--node", "node1", "--client", "ann"]).status.code(), Some(2));
    assert!(super::names_in(dir).is_empty());
}
