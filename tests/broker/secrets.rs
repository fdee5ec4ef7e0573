//! A secret is in no log line, no answer and no output, whatever goes wrong around it.

use crate::support::secrets::{Authority, in_seconds, password_line, token};
use crate::support::{Broker, Client, Connect, Stream, V5, V311};
use std::process::Command;

/// What is looked for: each secret has this in it.
const CANARY: &str = "canary-0451";

const CONFIG: &str = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\n\
    [listeners.tls]\naddress = \"unix:{folder}/tls\"\ncertificate = \"{folder}/server.crt\"\nkey = \"{folder}/server.key\"\n\
    [auth]\npassword_file = \"{folder}/passwords\"\njwt_secret = \"jwt-canary-0451-jwt\"\n\
    http_url = \"http://127.0.0.1:9/auth\"\nhttp_token = \"http-canary-0451\"\nhttp_timeout = \"200ms\"\n\
    [admin]\ntoken = \"admin-canary-0451\"\nread_token = \"read-canary-0451\"\n[log]\nlevel = \"trace\"\n";

/// Everything that the command says.
fn output(broker: &Broker, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_nightjar"))
        .args(arguments)
        .arg("--config")
        .arg(broker.config_path())
        .output()
        .unwrap();
    [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
}

#[test]
fn a_secret_is_told_to_nobody() {
    let authority = Authority::new();
    let server = authority.sign("localhost", 1);
    let key: String = server.key.lines().nth(1).unwrap().into();
    let right = format!("right-{CANARY}");
    let users = password_line("ann", &right);
    let hash: String = users.rsplit('$').next().unwrap().trim().into();
    let files = [
        ("passwords", users.as_str()),
        ("server.crt", server.certificate.as_str()),
        ("server.key", server.key.as_str()),
    ];
    let broker = Broker::configured(CONFIG, &files);
    let mut seen = String::new();

    // In, and refused, by each way.
    let good = token("jwt-canary-0451-jwt", &format!(r#"{{"sub":"dev","exp":{}}}"#, in_seconds(3_600)));
    let bad = token("another-canary-0451", &format!(r#"{{"sub":"dev","exp":{}}}"#, in_seconds(3_600)));
    let wrong = format!("wrong-{CANARY}");
    for version in [V5, V311] {
        let with = |password: &str| Connect::of(version, "c").user("ann", Some(password.as_bytes()));
        with(&right).open(&broker).disconnect();
        with(&good).open_any(&broker);
        for refused in [&wrong, &bad] {
            let (mut client, code) = with(refused).open_any(&broker);
            assert_ne!(code, 0);
            let rest = client.expect_closed();
            seen += &format!("{:?}{rest:?}", client.connack);
        }
        // A user that is known nowhere is asked for at the service, which is not there.
        Connect::of(version, "c").user("eve", Some(wrong.as_bytes())).open_any(&broker);
        // CONNECT that breaks off within the password, or is malformed behind it.
        let bytes = with(&right).encode();
        let mut half = Client::raw(broker.port(), version);
        half.send(&bytes[..bytes.len() - 3]);
        half.fin();
        let mut longer = Client::raw(broker.port(), version);
        longer.send(&[&[0x10, bytes[1] + 2], &bytes[2..], b"xx"].concat());
        longer.expect_closed();
        // A token in the address of a WebSocket, and a password in front of a host.
        let path = format!("/mqtt?token={CANARY}");
        drop(Stream::tcp(broker.port()).upgrade(&path, &format!("Authorization: Basic {CANARY}\r\n")));
        drop(Stream::tcp(broker.port()).upgrade(&path, "Sec-WebSocket-Version: 8\r\nUpgrade: no\r\n"));
    }

    // A configuration, good and with mistakes, looked at and reloaded.
    seen += &output(&broker, &["check-config", "--effective"]);
    assert!(seen.contains("jwt_secret"), "{seen}");
    for (key, value) in [
        ("jwt_secret", "jwt_secret = [\"canary-0451\"]"),
        ("jwt_secret", "jwt_secret = \"canary-0451\""),
        ("http_token", "http_token = { x = \"canary-0451\" }"),
        ("token", "token = \"canary-0451\"\nunknown = \"x\""),
        ("http_url", "http_url = \"ftp://user:canary-0451@localhost/\""),
        ("http_url", "http_url = \"http://user:canary-0451@localhost/\""),
    ] {
        let line = CONFIG.lines().find(|line| line.starts_with(&format!("{key} ="))).unwrap();
        broker.configure(&CONFIG.replace(line, value));
        let said = output(&broker, &["check-config"]);
        assert!(said.contains(key), "{said}");
        seen += &said;
        broker.reload();
    }
    broker.configure(CONFIG);
    broker.write("passwords", &format!("ann:{CANARY}\n"));
    seen += &output(&broker, &["check-config"]);
    broker.reload();
    broker.write("passwords", &format!("ann:$7$1$salt${CANARY}\n"));
    broker.reload();
    broker.write("server.key", &server.certificate);
    broker.reload();

    // The environment has secrets too.
    let said = Command::new(env!("CARGO_BIN_EXE_nightjar"))
        .args(["check-config", "--effective"])
        .env("NIGHTJAR_AUTH__JWT_SECRET", "short-0451")
        .env("NIGHTJAR_AUTH__HTTP_TOKEN", format!("environment-{CANARY}"))
        .output()
        .unwrap();
    seen += &[said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();

    let all = seen + &broker.log();
    for secret in [CANARY, "short-0451", &hash, &key, &good, &bad, good.rsplit('.').next().unwrap()] {
        let line = all.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} was told");
    }
}
