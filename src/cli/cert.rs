//! `nightjar cert`: certificates for trying out TLS, with clients and between nodes, and what is in one.

use super::Failure;
use crate::config::is_host;
use crate::env::clock::Clock;
use crate::telemetry::escape;
use crate::transport::certificate::{self, Summary};
use crate::transport::dev::Authority;
use clap::Subcommand;
use nightjar_base::Wall;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an authority, a server's and a client's certificate, for trying out TLS
    Dev {
        /// The folder to put them in; it is made if it is not there
        dir: PathBuf,
        /// A host name or address that the server is reached by; can be repeated [default: localhost, 127.0.0.1, ::1]
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
        /// The client's name
        #[arg(long, value_name = "NAME", default_value = "client")]
        client: String,
        /// Make what a cluster needs instead: an authority of its own, if there is none yet, and a certificate for the
        /// node on this host; can be repeated
        #[arg(long, value_name = "HOST", value_parser = host, conflicts_with_all = ["name", "client"])]
        node: Vec<String>,
        /// With --node: the name that finds all nodes, as in cluster.dns without the port; it goes into each certificate
        #[arg(long, value_name = "NAME", value_parser = host, requires = "node")]
        dns: Option<String>,
        /// With --node: make another authority, though one is there, whose nodes do not know those of that one
        #[arg(long, requires = "node")]
        new_authority: bool,
        /// Replace what is there
        #[arg(long)]
        force: bool,
    },
    /// Tell what is in a certificate file
    Show {
        /// A file of certificates in PEM
        file: PathBuf,
    },
}

/// Does it.
pub(super) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Dev { dir, name, client, node, force, .. } if node.is_empty() => dev(dir, name, client, *force),
        Command::Dev { dir, node, dns, force, new_authority, .. } => {
            dev_cluster(dir, node, dns.as_deref(), *new_authority, *force)
        }
        Command::Show { file } => show(file),
    }
}

/// By what this machine reaches itself.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// What the files of a cluster's authority are called.
const CLUSTER_CA: &str = "cluster-ca";

/// A node's host, which is a part of its files' names as well.
fn host(text: &str) -> Result<String, String> {
    match text {
        CLUSTER_CA => Err("this is what the authority's files are called".to_owned()),
        text if is_host(text) => Ok(text.to_owned()),
        _ => Err("expected a host name or an IP address".to_owned()),
    }
}

/// A file to be written: its name, what is in it, and its mode.
type Made = (String, String, u32);

fn dev(dir: &Path, names: &[String], client: &str, force: bool) -> Result<(), Failure> {
    let names = match names {
        [] => LOCAL.map(str::to_owned).to_vec(),
        names => names.to_vec(),
    };
    let authority = Authority::new("Nightjar development CA", Clock::machine().now()).map_err(failed)?;
    let server = authority.server(&names).map_err(failed)?;
    let client = authority.client(client, &[]).map_err(failed)?;
    let mut files = pair("ca", "crt", authority.certificate(), authority.key()).to_vec();
    files.extend(pair("server", "crt", server.certificate, server.key));
    files.extend(pair("client", "crt", client.certificate, client.key));
    write(dir, &files, force)?;
    let dir = dir.display();
    super::print(&format!(
        "{dir} has ca, server and client (.crt and .key) for {}\n\nTry it:\n  \
         nightjar serve --set listeners.tls.address=127.0.0.1:8883 \\\n    \
         --set listeners.tls.certificate={dir}/server.crt --set listeners.tls.key={dir}/server.key\n  \
         mosquitto_pub -p 8883 --cafile {dir}/ca.crt -t hello -m world\n  \
         openssl s_client -connect 127.0.0.1:8883 -CAfile {dir}/ca.crt\n",
        names.join(", ")
    ))
}

/// The authority is another than that of servers and clients: nodes believe whoever has a certificate of theirs.
fn dev_cluster(
    dir: &Path,
    nodes: &[String],
    dns: Option<&str>,
    new_authority: bool,
    force: bool,
) -> Result<(), Failure> {
    const NAME: &str = "Nightjar development cluster CA";
    let nodes: BTreeSet<&str> = nodes.iter().map(String::as_str).collect();
    let (now, mut files) = (Clock::machine().now(), Vec::new());
    let there = if new_authority { None } else { there(dir)? };
    let authority = match there {
        Some((certificate, key)) => Authority::again(NAME, certificate, &key, now).map_err(failed)?,
        None => {
            let authority = Authority::new(NAME, now).map_err(failed)?;
            files.extend(pair(CLUSTER_CA, "pem", authority.certificate(), authority.key()));
            authority
        }
    };
    for node in &nodes {
        // The local ones are there so that a whole cluster can be tried on one machine.
        let local = LOCAL.iter().filter(|local| *local != node);
        let names = [node].into_iter().chain(local).chain(&dns).map(|name| (*name).to_owned()).collect::<Vec<String>>();
        let signed = authority.node(node, &names).map_err(failed)?;
        files.extend(pair(node, "pem", signed.certificate, signed.key));
    }
    write(dir, &files, force)?;
    let dir = dir.display();
    let first = nodes.first().copied().unwrap_or_default();
    let all = nodes.iter().copied().collect::<Vec<_>>().join(", ");
    super::print(&format!(
        "{dir} has {CLUSTER_CA}, {all} (.pem and .key), those of nodes for {} as well\n\n\
         Each node needs {CLUSTER_CA}.pem and its own two files. In the config of {first}:\n  \
         [cluster]\n  ca = \"{dir}/{CLUSTER_CA}.pem\"\n  certificate = \"{dir}/{first}.pem\"\n  \
         key = \"{dir}/{first}.key\"\n\n\
         No node needs {CLUSTER_CA}.key: whoever has it can make a node.\n",
        LOCAL.join(", ")
    ))
}

/// The certificate and the key of a cluster's authority that is there.
fn there(dir: &Path) -> Result<Option<(String, String)>, Failure> {
    let path = |extension: &str| dir.join(format!("{CLUSTER_CA}.{extension}"));
    if !path("pem").exists() && !path("key").exists() {
        return Ok(None);
    }
    let read = |extension| {
        let path = path(extension);
        crate::config::access::read_text(&path)
            .map_err(|why| Failure::Other(format!("{}: {why}", path.display()).into()))
    };
    Ok(Some((read("pem")?, read("key")?)))
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::Other(error.into())
}

/// The file of a certificate, and that of its key, which is for our own user alone.
fn pair(name: &str, extension: &str, certificate: String, key: String) -> [Made; 2] {
    [(format!("{name}.{extension}"), certificate, 0o644), (format!("{name}.key"), key, 0o600)]
}

/// Writes all of the files, or none if one of them is there and may not be replaced.
fn write(dir: &Path, files: &[Made], force: bool) -> Result<(), Failure> {
    let at = |path: &Path, error: std::io::Error| Failure::Other(format!("{}: {error}", path.display()).into());
    fs::create_dir_all(dir).map_err(|error| at(dir, error))?;
    if let Some((name, ..)) = files.iter().find(|(name, ..)| !force && dir.join(name).exists()) {
        let path = dir.join(name);
        return Err(Failure::Other(format!("{} is there already; --force replaces it", path.display()).into()));
    }
    for (name, text, mode) in files {
        let path = dir.join(name);
        // A file that is there would keep its mode.
        let _ = fs::remove_file(&path);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(*mode).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| at(&path, error))?;
    }
    Ok(())
}

fn show(file: &Path) -> Result<(), Failure> {
    let text = crate::config::access::read_text(file)
        .map_err(|why| Failure::Other(format!("{}: {why}", file.display()).into()))?;
    let now = Clock::machine().now();
    let mut told = String::new();
    for der in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let der = der.map_err(|error| Failure::Other(format!("{}: {error}", file.display()).into()))?;
        let summary =
            certificate::summary(&der).map_err(|why| Failure::Other(format!("{}: {why}", file.display()).into()))?;
        tell(&mut told, &summary, now);
    }
    if told.is_empty() {
        return Err(Failure::Other(format!("{}: no certificate in PEM", file.display()).into()));
    }
    super::print(&told)
}

fn tell(told: &mut String, summary: &Summary, now: Wall) {
    let days = summary.until.0.saturating_sub(now.0) / 86_400_000;
    let validity = if summary.until <= now {
        "has expired".to_owned()
    } else if summary.from > now {
        "is not valid yet".to_owned()
    } else {
        format!("expires in {days} days")
    };
    let _ = writeln!(told, "subject: {}", escape(&summary.subject));
    let _ = writeln!(told, "issuer:  {}", escape(&summary.issuer));
    if !summary.names.is_empty() {
        let _ = writeln!(told, "names:   {}", escape(&summary.names.join(", ")));
    }
    let _ = writeln!(told, "{}{validity}\n", if summary.authority { "signs others; " } else { "" });
}
