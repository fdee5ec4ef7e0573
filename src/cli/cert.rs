//! `nightjar cert`: certificates for trying out TLS, and what is in one.

use super::Failure;
use crate::env::clock::Clock;
use crate::telemetry::escape;
use crate::transport::certificate::{self, Summary};
use crate::transport::dev::Authority;
use clap::Subcommand;
use nightjar_base::Wall;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
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
        Command::Dev { dir, name, client, force } => dev(dir, name, client, *force),
        Command::Show { file } => show(file),
    }
}

fn dev(dir: &Path, names: &[String], client: &str, force: bool) -> Result<(), Failure> {
    let names = match names {
        [] => ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(),
        names => names.to_vec(),
    };
    let failed = |error: rcgen::Error| Failure::Other(error.into());
    let authority = Authority::new("Nightjar development CA", Clock::machine().now()).map_err(failed)?;
    let server = authority.server(&names).map_err(failed)?;
    let client = authority.client(client, &[]).map_err(failed)?;
    let files = [
        ("ca.crt", authority.certificate(), 0o644),
        ("ca.key", authority.key(), 0o600),
        ("server.crt", server.certificate, 0o644),
        ("server.key", server.key, 0o600),
        ("client.crt", client.certificate, 0o644),
        ("client.key", client.key, 0o600),
    ];
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
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| at(&path, error))?;
    }
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
