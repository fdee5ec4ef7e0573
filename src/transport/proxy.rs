//! The PROXY protocol: a balancer tells whom a connection comes from, before anything else.

use super::arrive::Refused;
use super::socket::Raw;
use ppp::{HeaderResult, v1, v2};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// The bytes that a header of version 2 begins with; no header of version 1 is as short.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, line end included.
const MOST_V1: usize = 107;
/// The most bytes of a header of version 2: addresses, and what balancers add to them.
const MOST_V2: usize = 536;

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proxied {
    /// The client's address, and the common name of a certificate that the balancer has verified.
    Client { address: SocketAddr, common_name: Option<Arc<str>> },
    /// The balancer speaks for itself: it looks whether we are there.
    Local,
}

/// Reads the header, and not a byte more.
pub(super) async fn read(raw: &Raw) -> Result<Proxied, Refused> {
    let mut header = vec![0; SIGNATURE.len()];
    fill(raw, &mut header, 0).await?;
    if header == SIGNATURE {
        let start = header.len();
        header.resize(start + 4, 0);
        fill(raw, &mut header, start).await?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if header.len() + length > MOST_V2 {
            return Err(Refused::Proxy("its header is too long"));
        }
        let start = header.len();
        header.resize(start + length, 0);
        fill(raw, &mut header, start).await?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() >= MOST_V1 {
                return Err(Refused::Proxy("its header is too long"));
            }
            let start = header.len();
            header.push(0);
            fill(raw, &mut header, start).await?;
        }
    } else {
        return Err(Refused::Proxy("its header is missing"));
    }
    parse(&header)
}

/// Reads until `buffer` is full from `from` on.
async fn fill(raw: &Raw, buffer: &mut [u8], mut from: usize) -> Result<(), Refused> {
    while from < buffer.len() {
        match raw.receive(&mut buffer[from..]) {
            Ok(0) => return Err(Refused::Closed),
            Ok(count) => from += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => raw.readable().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn parse(header: &[u8]) -> Result<Proxied, Refused> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Tcp4(ip) => Ok(client((ip.source_address, ip.source_port).into(), None)),
            v1::Addresses::Tcp6(ip) => Ok(client((ip.source_address, ip.source_port).into(), None)),
            v1::Addresses::Unknown => Ok(Proxied::Local),
        },
        HeaderResult::V2(Ok(header)) => match (header.command, header.addresses) {
            (v2::Command::Local, _) => Ok(Proxied::Local),
            (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
                Ok(client((ip.source_address, ip.source_port).into(), common_name(&header)))
            }
            (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
                Ok(client((ip.source_address, ip.source_port).into(), common_name(&header)))
            }
            (v2::Command::Proxy, _) => Ok(Proxied::Local),
        },
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(Refused::Proxy("its header is malformed")),
    }
}

fn client(address: SocketAddr, common_name: Option<Arc<str>>) -> Proxied {
    Proxied::Client { address, common_name }
}

/// The common name of a verified client certificate: within PP2_TYPE_SSL, which is a byte of flags, four bytes that are
/// zero if the certificate was verified, and values of its own.
fn common_name(header: &v2::Header<'_>) -> Option<Arc<str>> {
    const SSL: u8 = 0x20;
    const COMMON_NAME: u8 = 0x22;
    /// The client came by TLS, and showed a certificate on this connection or in this session.
    const SHOWN: [u8; 2] = [0x02, 0x04];
    let ssl = header.tlvs().filter_map(Result::ok).find(|tlv| tlv.kind == SSL)?;
    let (flags, rest) = ssl.value.split_first()?;
    let (verify, mut rest) = rest.split_at_checked(4)?;
    if verify != [0; 4] || SHOWN.iter().all(|bit| flags & bit == 0) {
        return None;
    }
    while let [kind, high, low, values @ ..] = rest {
        let (value, later) = values.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        if *kind == COMMON_NAME {
            return std::str::from_utf8(value).ok().map(Into::into);
        }
        rest = later;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::env::net::UnixStream;

    async fn of(bytes: &[u8]) -> (Result<Proxied, Refused>, Vec<u8>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.writable().await.unwrap();
        assert_eq!(theirs.try_write(bytes).unwrap(), bytes.len());
        drop(theirs);
        let raw = Raw::Unix(ours);
        let result = read(&raw).await;
        let mut rest = [0; 64];
        let count = raw.receive(&mut rest).unwrap();
        (result, rest[..count].to_vec())
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn headers_are_read_to_their_last_byte() {
        let four = [&[10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 7, 91][..]].concat();
        let six = [&[0; 15][..], &[1], &[0; 15], &[2], &[0x12, 0x34, 7, 91]].concat();
        let ssl = [&four[..], &[0x20, 0, 12, 0x07, 0, 0, 0, 0, 0x22, 0, 4, b'd', b'e', b'v', b'1']].concat();
        let unverified = [&four[..], &[0x20, 0, 12, 0x07, 0, 0, 0, 1, 0x22, 0, 4, b'd', b'e', b'v', b'1']].concat();
        let client = |address: &str, name: Option<&str>| Proxied::Client {
            address: address.parse().unwrap(),
            common_name: name.map(Into::into),
        };
        for (bytes, expected) in [
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 4660 1883\r\n".to_vec(), client("10.0.0.1:4660", None)),
            (b"PROXY TCP6 ::1 ::2 4660 1883\r\n".to_vec(), client("[::1]:4660", None)),
            (b"PROXY UNKNOWN\r\n".to_vec(), Proxied::Local),
            (v2(0x21, 0x11, &four), client("10.0.0.1:4660", None)),
            (v2(0x21, 0x21, &six), client("[::1]:4660", None)),
            (v2(0x20, 0x00, &[]), Proxied::Local),
            (v2(0x20, 0x11, &four), Proxied::Local),
            (v2(0x21, 0x11, &ssl), client("10.0.0.1:4660", Some("dev1"))),
            (v2(0x21, 0x11, &unverified), client("10.0.0.1:4660", None)),
        ] {
            let (result, rest) = of(&[&bytes[..], b"\x10rest"].concat()).await;
            assert_eq!(result.unwrap(), expected);
            assert_eq!(rest, b"\x10rest");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let long = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff], &[0; 900]].concat();
        for bytes in [
            &b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02t1"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 10.0.0.1",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 99999 1883\r\n",
            b"PROXY TCP4 ::1 ::2 1 2\r\n",
            &[b"PROXY TCP4 ".to_vec(), vec![b' '; 200]].concat(),
            &long,
            &v2(0x21, 0x11, &[1, 2, 3]),
            &v2(0x31, 0x11, &[0; 12]),
        ] {
            assert!(of(bytes).await.0.is_err(), "{bytes:?}");
        }
    }
}
