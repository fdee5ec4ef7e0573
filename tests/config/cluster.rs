//! The section `[cluster]`: what goes together, and what is told when it does not.

use super::Setup;
use nightjar::config::{Changes, Config};
use std::path::Path;
use std::time::Duration;

/// Everything that a node needs, in the clear.
const PLAIN: &str = "[cluster]\nlisten = \"10.0.0.1:7883\"\ninsecure = true\n";

/// The lines of a file that begins with `PLAIN`, where line 4 is the first of `more`.
fn with(more: &str) -> Setup {
    Setup::file(&format!("{PLAIN}{more}"))
}

#[test]
fn every_key_is_read() {
    let setup = Setup::file(
        "[cluster]\nlisten = \"0.0.0.0:7883\"\nadvertise = \"Node1.example.org:7883\"\nname = \"north\"\n\
         nodes = [\"node1.example.org:7883\", \"10.0.0.2:7883\", \"[::1]:7883\"]\nreplicas = 5\nca = \"ca.pem\"\n\
         certificate = \"node1.pem\"\nkey = \"node1.key\"\nclients = \"mqtt1.example.org:8883\"\n\
         heartbeat = \"100ms\"\nelection = \"250ms\"\n",
    );
    let loaded = setup.load().unwrap();
    let cluster = &loaded.config.cluster;
    assert_eq!(cluster.listen, Some("0.0.0.0:7883".parse().unwrap()));
    assert_eq!(cluster.advertised().as_deref(), Some("node1.example.org:7883"));
    assert_eq!(cluster.name(), "north");
    assert_eq!(cluster.nodes, ["node1.example.org:7883", "10.0.0.2:7883", "[::1]:7883"]);
    assert_eq!((cluster.replicas, cluster.insecure), (5, false));
    assert_eq!(cluster.ca.as_deref(), Some(Path::new("ca.pem")));
    assert_eq!(cluster.certificate.as_deref(), Some(Path::new("node1.pem")));
    assert_eq!(cluster.key.as_deref(), Some(Path::new("node1.key")));
    assert_eq!(cluster.clients.as_deref(), Some("mqtt1.example.org:8883"));
    assert_eq!([cluster.heartbeat, cluster.election], [100, 250].map(Duration::from_millis));
    // And it is shown so that it can be read again.
    let effective = loaded.effective();
    assert!(effective.contains(&format!("replicas = 5 # {}:6", setup.path().display())), "{effective}");
    assert_eq!(Setup::file(&effective).config(), loaded.config);
}

#[test]
fn a_node_is_alone_unless_it_has_a_door_for_others() {
    let config = Setup::nothing().config();
    assert_eq!((config.cluster.listen, config.cluster.advertised(), &*config.cluster.name()), (None, None, ""));
    // Defaults may be written out.
    Setup::file("[cluster]\nlisten = \"off\"\nreplicas = 3\nnodes = []\ninsecure = false\n").config();
    let mistakes = Setup::file(
        "[cluster]\nadvertise = \"a:1\"\nname = \"a\"\nnodes = [\"a:1\"]\ndns = \"a:1\"\nmembers = 2\nreplicas = 1\n\
         ca = \"a\"\ncertificate = \"a\"\nkey = \"a\"\ninsecure = true\nclients = \"a:1\"\nheartbeat = \"1s\"\n\
         election = \"3s\"\n",
    )
    .mistakes();
    assert_eq!(mistakes.len(), 13, "{mistakes:?}");
    for (line, mistake) in (2..).zip(mistakes) {
        assert!(mistake.starts_with(&format!("FILE:{line}: cluster.")), "{mistake}");
        assert!(mistake.ends_with(": expected cluster.listen to be set as well"), "{mistake}");
    }
}

#[test]
fn a_node_goes_by_the_address_of_its_door_unless_it_has_another() {
    let cluster = with("").config().cluster;
    assert_eq!((cluster.advertised().as_deref(), &*cluster.name()), (Some("10.0.0.1:7883"), "10.0.0.1:7883"));
    let cluster = with("advertise = \"node1:7883\"").config().cluster;
    assert_eq!((cluster.advertised().as_deref(), &*cluster.name()), (Some("node1:7883"), "node1:7883"));
}

#[test]
fn the_environment_and_set_reach_it() {
    let cluster = Setup::nothing()
        .variable("NIGHTJAR_CLUSTER__LISTEN", "[::]:7883")
        .variable("NIGHTJAR_CLUSTER__ADVERTISE", "a:7883")
        .variable("NIGHTJAR_CLUSTER__NODES", "a:7883, b:7883")
        .set("cluster.insecure=true")
        .set("cluster.replicas=1")
        .config()
        .cluster;
    assert_eq!((cluster.nodes, cluster.replicas), (vec!["a:7883".to_owned(), "b:7883".to_owned()], 1));
    let cluster = with("dns = \"nodes.example.org:7883\"").set("cluster.members=5").config().cluster;
    assert_eq!((cluster.dns.as_deref(), cluster.members), (Some("nodes.example.org:7883"), 5));
    let typo = Setup::nothing().variable("NIGHTJAR_CLUSTER__REPLICSA", "5").mistakes();
    assert!(typo[0].ends_with("no such setting; did you mean cluster.replicas?"), "{typo:?}");
}

#[test]
fn values_have_bounds() {
    for (more, told) in [
        ("replicas = 0", "cluster.replicas: expected a whole number from 1 to 7, found 0"),
        ("replicas = 8", "cluster.replicas: expected a whole number from 1 to 7, found 8"),
        ("dns = \"a:1\"\nmembers = 65", "cluster.members: expected a whole number from 1 to 64, found 65"),
        ("advertise = \"node1\"", "cluster.advertise: expected a host and a port, as"),
        ("clients = \"mqtt://a:1883\"", "cluster.clients: expected a host and a port, as"),
        ("dns = \"nodes\"", "cluster.dns: expected a host and a port, as"),
        ("nodes = [\"10.0.0.1:7883\", \"b\"]", "cluster.nodes: expected a list of hosts and ports, as"),
        ("name = \"\"", "cluster.name: expected a text"),
        ("heartbeat = \"49ms\"", "cluster.heartbeat: expected a duration from 50ms to 10s"),
        ("election = \"2m\"", "cluster.election: expected a duration from 100ms to 1m"),
        ("ca = 5", "cluster.ca: expected a path, or \"none\", found 5"),
    ] {
        let mistakes = with(more).mistakes();
        let key = told.split_once(' ').unwrap().0;
        let of_key: Vec<&String> = mistakes.iter().filter(|line| line.contains(&format!(": {key} "))).collect();
        assert!(of_key.len() == 1 && of_key[0].contains(told), "{more}: {mistakes:?}");
    }
    // What follows from a door that was misspelt is not told.
    let mistakes = Setup::file("[cluster]\nlisten = \"node1:7883\"\nnodes = [\"node1:7883\"]").mistakes();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].starts_with("FILE:2: cluster.listen: expected an IP address and a port"), "{mistakes:?}");
}

#[test]
fn settings_that_cannot_stand_together_are_refused() {
    let among = "expected this node, \"10.0.0.1:7883\", among them, as cluster.advertise says it";
    for (more, told) in [
        ("nodes = [\"a:1\", \"b:1\"]", format!("FILE:4: cluster.nodes: {among}")),
        ("nodes = [\"10.0.0.1:7884\"]", format!("FILE:4: cluster.nodes: {among}")),
        (
            "nodes = [\"10.0.0.1:7883\", \"A:1\", \"a:1\"]",
            "FILE:4: cluster.nodes: expected each node once, found \"a:1\" twice".to_owned(),
        ),
        (
            "nodes = [\"10.0.0.1:7883\"]\ndns = \"a:1\"",
            "FILE:5: cluster.dns: expected one of cluster.nodes and cluster.dns".to_owned(),
        ),
        ("members = 5", "FILE:4: cluster.members: expected cluster.dns to be set as well".to_owned()),
        (
            "heartbeat = \"401ms\"",
            "cluster.election: expected at least 2.5 times the value of cluster.heartbeat".to_owned(),
        ),
        (
            "[store]\ndurability = \"memory\"",
            "FILE:5: store.durability: expected \"sync\" or \"interval\" where cluster.listen is set".to_owned(),
        ),
        (
            "[listeners.a]\naddress = \"10.0.0.1:7883\"\nanonymous = true",
            "FILE:2: cluster.listen: 10.0.0.1:7883 is taken by listeners.a".to_owned(),
        ),
        (
            "[admin]\naddress = \"10.0.0.1:7883\"",
            "FILE:2: cluster.listen: 10.0.0.1:7883 is taken by admin.address".to_owned(),
        ),
    ] {
        let mistakes = with(more).mistakes();
        assert_eq!(mistakes.len(), 1, "{more}: {mistakes:?}");
        assert!(mistakes[0].contains(&told), "{more}: {mistakes:?}");
    }
    with("heartbeat = \"400ms\"").config();
    let many: Vec<String> = (1..=64).map(|node| format!("\"n{node}:1\"")).collect();
    let many = format!("nodes = [\"10.0.0.1:7883\", {}]", many.join(", "));
    assert_eq!(with(&many).mistakes(), ["FILE:4: cluster.nodes: expected at most 64 nodes, found 65"]);
}

#[test]
fn an_address_that_others_cannot_reach_needs_another() {
    for listen in ["0.0.0.0:7883", "[::]:7883", "[::ffff:0.0.0.0]:7883", "10.0.0.1:0"] {
        let file = format!("[cluster]\nlisten = \"{listen}\"\ninsecure = true\nnodes = [\"a:1\"]\n");
        let mistakes = Setup::file(&file).mistakes();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains(": cluster.advertise: missing: others cannot reach "), "{mistakes:?}");
        Setup::file(&file).set("cluster.advertise=a:1").config();
    }
}

#[test]
fn a_door_is_secured_unless_it_is_opened_by_name() {
    let bare = Setup::file("[cluster]\nlisten = \"127.0.0.1:7883\"").mistakes();
    assert_eq!(bare.len(), 1, "{bare:?}");
    assert!(bare[0].starts_with("FILE:2: cluster.insecure: without TLS whoever reaches cluster.listen"), "{bare:?}");
    let tls = "[cluster]\nlisten = \"10.0.0.1:7883\"\nca = \"a\"\ncertificate = \"b\"\nkey = \"c\"\n";
    Setup::file(tls).config();
    let both = Setup::file(&format!("{tls}insecure = true\n")).mistakes();
    assert_eq!(both.len(), 1, "{both:?}");
    assert!(both[0].starts_with("FILE:6: cluster.insecure: expected false where cluster.ca"), "{both:?}");
    for key in ["ca", "certificate", "key"] {
        let without: String =
            tls.lines().filter(|line| !line.starts_with(&format!("{key} ="))).collect::<Vec<_>>().join("\n");
        let mistakes = Setup::file(&without).mistakes();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains(&format!(": cluster.{key}: missing: expected a path")), "{mistakes:?}");
    }
}

#[test]
fn every_change_waits_for_a_restart() {
    let changed =
        with("ca = \"a\"\ncertificate = \"b\"\nkey = \"c\"\nreplicas = 5").set("cluster.insecure=false").config();
    let keys = ["ca", "certificate", "key", "listen", "replicas"].map(|key| format!("cluster.{key}"));
    let changes = Changes { applied: Vec::new(), needs_restart: keys.to_vec() };
    assert_eq!(Config::default().changes(&changed), changes);
}
