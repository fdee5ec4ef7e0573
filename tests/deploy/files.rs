//! What the files in `deploy/` say of each other and of the program.

use crate::{at, files, keys, read, texts, yaml};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use yaml_rust2::Yaml;

const COMPOSE: &str = "docker-compose.yml";
const STATEFUL_SET: &str = "deploy/kubernetes/statefulset.yaml";

#[test]
fn every_yaml_and_json_file_can_be_read() {
    let mut found = files("deploy", &[".yml", ".yaml"]);
    found.push(COMPOSE.to_owned());
    assert!(found.len() > 8, "{found:?}");
    found.iter().for_each(|path| assert!(!yaml(path).is_badvalue(), "{path}"));
    for path in files("deploy", &[".json"]) {
        serde_json::from_str::<serde_json::Value>(&read(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

/// What a deployment puts into a container beside its configuration.
struct Deployed {
    folder: tempfile::TempDir,
}

impl Deployed {
    /// Certificates for these nodes are made as the manual says: by the program.
    #[track_caller]
    fn with(hosts: &[&str]) -> Self {
        let deployed = Self { folder: tempfile::tempdir().unwrap() };
        let mut program = Command::new(env!("CARGO_BIN_EXE_nightjar"));
        program.args(["cert", "dev"]).arg(deployed.folder.path().join("tls"));
        program.args(hosts.iter().flat_map(|host| ["--node", host]));
        let made = program.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        deployed
    }

    /// Puts a secret where it is mounted.
    fn secret(&self, path: &str) {
        let name = path.rsplit('/').next().unwrap();
        let of_tls = match name {
            "cluster_ca" => Some("cluster-ca.pem".to_owned()),
            _ if name.ends_with("_certificate") => Some(name.replace("_certificate", ".pem")),
            _ if name.ends_with("_key") => Some(name.replace("_key", ".key")),
            _ if name.ends_with(".pem") || name.ends_with(".key") => Some(name.to_owned()),
            _ => None,
        };
        let text = match of_tls {
            Some(file) => {
                fs::read_to_string(self.folder.path().join("tls").join(&file)).unwrap_or_else(|_| panic!("{path}"))
            }
            None if name.ends_with("passwords") => format!("{PASSWORD}\n"),
            None => "not a secret, but long enough\n".to_owned(),
        };
        let path = self.here(path);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A path of the container, where it is in this test.
    fn here(&self, text: &str) -> String {
        let folder = self.folder.path().to_str().unwrap();
        text.replace("/run/secrets", &format!("{folder}/secrets"))
            .replace("/var/lib/nightjar", &format!("{folder}/data"))
    }

    /// Lets the program check a configuration. It opens all files that are named there.
    #[track_caller]
    fn check(&self, what: &str, config: &str, environment: &[(String, String)]) {
        let here = self.here(config);
        assert!(!here.contains("/run/"), "{what}");
        let path = self.folder.path().join("nightjar.toml");
        fs::write(&path, here).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_nightjar"));
        program.args(["check-config", "--config"]).arg(&path).envs(environment.iter().cloned());
        let checked = program.output().unwrap();
        assert!(checked.status.success(), "{what}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}

/// Of a client whose name and password are nobody's.
pub(crate) const PASSWORD: &str = "client:$7$101$jN5jXf/Vn7UkGqzz$zr1zSrSgH3jUEYxoBHCySLP/mVt91nLUDMPgTgSU/gW4V3mUn3QiCWbgrLgqjQ3GJHj3ZV0RYQVXbZRJsX2lqQ==";

#[test]
fn the_configuration_of_the_image_is_taken_by_the_program() {
    let image = Deployed::with(&["alone"]);
    image.secret("/run/secrets/nightjar_passwords");
    image.check("the image", &read("deploy/docker/nightjar.toml"), &[]);
}

/// Each node of the compose file with the secrets and the variables that it is given there, and no others.
#[test]
fn the_configuration_of_each_node_of_compose_is_taken_by_the_program() {
    let compose = yaml(COMPOSE);
    let config = read("deploy/compose/nightjar.toml");
    let nodes = nodes(&compose);
    assert!(read("deploy/compose/secrets.sh").contains(&format!("--node {}", nodes.join(" --node "))));
    for node in &nodes {
        let service = &compose["services"][*node];
        let deployed = Deployed::with(&nodes);
        let environment = of_map(&service["environment"]);
        assert!(environment.contains(&("NODE".to_owned(), (*node).to_owned())), "{environment:?}");
        texts(&service["secrets"]).iter().for_each(|secret| deployed.secret(&format!("/run/secrets/{secret}")));
        deployed.check(node, &config, &environment);
    }
}

/// Each pod with the keys that the examples of the Secrets have, and no others.
#[test]
fn the_configuration_of_each_pod_is_taken_by_the_program() {
    let set = yaml(STATEFUL_SET);
    let config = yaml("deploy/kubernetes/configmap.yaml");
    let pods: Vec<_> = (0..set["spec"]["replicas"].as_i64().unwrap()).map(|n| format!("nightjar-{n}")).collect();
    let hosts: Vec<_> =
        pods.iter().map(|pod| format!("{pod}.{}", set["spec"]["serviceName"].as_str().unwrap())).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    assert_eq!(hosts.len(), 3);
    assert!(read("docs/deployment.md").contains(&format!("--node {}", hosts.join(" --node "))), "no certificates");
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["fieldPath"].as_str(), Some("metadata.name"));
    let variable = pod["containers"][0]["env"][0]["name"].as_str().unwrap();
    for name in &pods {
        let deployed = Deployed::with(&hosts);
        let mut mounted = 0;
        for path in files("deploy/kubernetes", &[".example.yaml"]) {
            let secret = yaml(&path);
            let mut volumes = pod["volumes"].as_vec().unwrap().iter();
            let volume = volumes.find(|volume| volume["secret"]["secretName"] == secret["metadata"]["name"]);
            let volume = volume.unwrap_or_else(|| panic!("{path} is no volume"))["name"].as_str();
            let mounts = pod["containers"][0]["volumeMounts"].as_vec().unwrap().iter();
            for mount in mounts.filter(|mount| mount["name"].as_str() == volume) {
                mounted += 1;
                let folder = mount["mountPath"].as_str().unwrap();
                keys(&secret["stringData"]).iter().for_each(|key| deployed.secret(&format!("{folder}/{key}")));
            }
        }
        assert_eq!(mounted, 2);
        let environment = [(variable.to_owned(), name.clone())];
        deployed.check(name, config["data"]["nightjar.toml"].as_str().unwrap(), &environment);
    }
}

#[test]
fn the_image_is_made_from_what_is_there_and_let_through() {
    let docker = read("deploy/docker/Dockerfile");
    let ignore = read(".dockerignore");
    let let_through: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignore.lines().any(|line| line == "*"));
    let mut copied = 0;
    for line in docker.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let (_, sources) = words.split_last().unwrap();
        for source in sources.iter().filter(|_| !line.starts_with("--from")) {
            let source = if *source == "${BINARY}" { "target/release/nightjar" } else { source };
            copied += 1;
            assert!(source.starts_with("target/") || at(source).exists(), "{source} is not there");
            let through =
                |pattern: &&str| pattern.split_once('*').map_or(**pattern == *source, |(p, _)| source.starts_with(p));
            assert!(let_through.iter().any(through), "{source} is kept out by .dockerignore");
        }
    }
    assert!(copied >= 6, "{copied}");
    // Docker's first version of builds makes every stage before the one that is asked for.
    let place = |stage: &str| docker.find(stage).unwrap_or_else(|| panic!("there is no stage {stage}"));
    assert!(place(" AS prebuilt") < place(" AS build\n"), "who has a binary should not have to build one");
    for part in ["USER 1883:1883", "VOLUME /var/lib/nightjar", "STOPSIGNAL", "HEALTHCHECK", "--locked"] {
        place(part);
    }
    assert!(docker.contains(&format!("rust:{}-", env!("CARGO_PKG_RUST_VERSION"))), "another Rust than Cargo.toml has");
}

/// What a part of a compose file says, what `<<` brings in included.
fn of<'a>(part: &'a Yaml, key: &str) -> &'a Yaml {
    if part[key].is_badvalue() && !part["<<"].is_badvalue() { of(&part["<<"], key) } else { &part[key] }
}

/// The variables of a service as compose fills them in where nothing else is said.
fn of_map(environment: &Yaml) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (name, value) in environment.as_hash().into_iter().flatten() {
        match (name.as_str().unwrap(), value.as_str()) {
            ("<<", _) => all.extend(of_map(value)),
            (name, value) => all.push((name.to_owned(), default(value.unwrap()))),
        }
    }
    all
}

/// What `${NAME:-DEFAULT}` is without the variable, whatever stands around it.
fn default(text: &str) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (variable, behind) = rest.split_once('}').unwrap();
    let (_, value) = variable.split_once(":-").unwrap_or_else(|| panic!("{text} has no default"));
    format!("{before}{value}{}", default(behind))
}

/// The services that are nodes: those with the image that is built here.
fn nodes(compose: &Yaml) -> Vec<&str> {
    let built = |name: &&str| !of(&compose["services"][*name], "build").is_badvalue();
    let nodes: Vec<_> = keys(&compose["services"]).into_iter().filter(built).collect();
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    nodes
}

#[test]
fn compose_names_what_it_has() {
    let compose = yaml(COMPOSE);
    let defined = |what: &str| keys(&compose[what]).into_iter().collect::<BTreeSet<_>>();
    let (volumes, networks, secrets) = (defined("volumes"), defined("networks"), defined("secrets"));
    let (mut used, mut mounted, mut joined) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let nodes = nodes(&compose);
    for (name, service) in compose["services"].as_hash().unwrap() {
        let name = name.as_str().unwrap();
        assert_eq!(of(service, "restart").as_str(), Some("unless-stopped"), "{name}");
        assert_eq!(of(service, "read_only").as_bool(), Some(true), "{name}");
        assert_eq!(texts(of(service, "cap_drop")), ["ALL"], "{name}");
        // The nodes have that of their image.
        assert_eq!(service["healthcheck"]["test"].is_badvalue(), nodes.contains(&name), "{name}: its health");
        joined.extend(texts(of(service, "networks")));
        used.extend(texts(&service["secrets"]));
        for mount in texts(&service["volumes"]) {
            let source = mount.split(':').next().unwrap();
            if source.starts_with('.') {
                assert!(at(source).exists(), "{name}: {source}");
                assert!(mount.ends_with(":ro"), "{name}: {mount}");
            } else {
                assert!(mounted.insert(source), "{name}: another has {source} as well");
            }
        }
    }
    assert_eq!((used, mounted, joined), (secrets.clone(), volumes, networks));
    let script = read("deploy/compose/secrets.sh");
    let ignored = read(".gitignore");
    for secret in secrets {
        let file = compose["secrets"][secret]["file"].as_str().unwrap();
        let folder = file.strip_prefix('.').and_then(|file| file.strip_suffix(&format!("/{secret}"))).unwrap();
        assert!(ignored.lines().any(|line| line == folder), "{file} could be committed");
        let of_node = nodes.iter().find_map(|node| secret.strip_prefix(node));
        let made = of_node.map_or_else(|| secret.to_owned(), |rest| format!("${{node}}{rest}"));
        assert!(script.contains(&made), "secrets.sh does not make {secret}");
    }
}

/// Only HAProxy's port is for the network; all others are for the machine. No two are the same.
#[test]
fn compose_publishes_what_it_should() {
    let compose = yaml(COMPOSE);
    let (mut seen, mut open) = (BTreeSet::new(), Vec::new());
    for (name, service) in compose["services"].as_hash().unwrap() {
        for port in texts(&service["ports"]).into_iter().map(default) {
            let outside = port.rsplit_once(':').unwrap().0;
            let (address, number) = outside.rsplit_once(':').unwrap_or(("", outside));
            assert!(seen.insert(number.to_owned()), "{number} is there twice");
            if address != "127.0.0.1" {
                open.push((name.as_str().unwrap(), port));
            }
        }
    }
    assert!(seen.len() > 8, "{seen:?}");
    assert_eq!(open, [("haproxy", "1883:1883".to_owned())]);
}

/// HAProxy, Prometheus and the bridge ask for what there is, by the ports that it has.
#[test]
fn the_services_of_compose_find_each_other() {
    let compose = yaml(COMPOSE);
    let nodes = nodes(&compose);
    let config = read("deploy/compose/nightjar.toml");
    let of_nodes = |port: u16| nodes.iter().map(|node| format!("{node}:{port}")).collect::<Vec<_>>();
    let members: Vec<_> = of_nodes(7883).iter().map(|node| format!("\"{node}\"")).collect();
    for line in [
        "[listeners.balanced]\naddress = \"0.0.0.0:1884\"\nproxy_protocol = true\ntrusted_proxies = [\"${FRONT_SUBNET}\"]",
        "[listeners.direct]\naddress = \"0.0.0.0:1883\"\n",
        "[admin]\naddress = \"0.0.0.0:9883\"",
        "address = \"mqtt://mosquitto:1883\"",
        &format!("nodes = [{}]", members.join(", ")),
    ] {
        assert!(config.contains(line), "{line}");
    }
    let balancer = read("deploy/compose/haproxy.cfg");
    let servers: Vec<_> = balancer.lines().filter_map(|line| line.trim().strip_prefix("server ")).collect();
    let wanted = nodes.iter().map(|node| format!("{node} {node}:1884 send-proxy-v2 check port 9883"));
    assert_eq!(servers, wanted.collect::<Vec<_>>());
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let targets = |job: usize| texts(&prometheus["scrape_configs"][job]["static_configs"][0]["targets"]);
    assert_eq!(targets(0), of_nodes(9883));
    assert_eq!(targets(1), ["haproxy:8404"]);
    // Who is in the network of HAProxy and the nodes is believed about addresses; and HAProxy has no other way to them.
    let services = compose["services"].as_hash().unwrap().iter();
    let networks = |name: &str| texts(of(&compose["services"][name], "networks"));
    let in_front: Vec<_> =
        services.map(|(name, _)| name.as_str().unwrap()).filter(|name| networks(name).contains(&"front")).collect();
    assert_eq!(in_front, [&nodes[..], &["haproxy"]].concat());
    let shared: Vec<_> = networks("haproxy").into_iter().filter(|name| networks(nodes[0]).contains(name)).collect();
    assert_eq!(shared, ["front"]);
    let meet = |a: &str, b: &str| networks(a).iter().any(|network| networks(b).contains(network));
    for (a, b) in
        [(nodes[0], "mosquitto"), (nodes[0], "prometheus"), ("haproxy", "prometheus"), ("prometheus", "grafana")]
    {
        assert!(meet(a, b), "{a} cannot reach {b}");
    }
}

fn there(object: &Yaml) -> &Yaml {
    assert!(!object.is_badvalue());
    object
}

#[test]
fn kubernetes_objects_find_each_other() {
    let set = yaml(STATEFUL_SET);
    let pod = &set["spec"]["template"];
    let name = there(&pod["metadata"]["labels"]);
    assert_eq!(there(&set["spec"]["selector"]["matchLabels"]), name);
    let budget = yaml("deploy/kubernetes/poddisruptionbudget.yaml");
    assert_eq!(there(&budget["spec"]["selector"]["matchLabels"]), name);
    let container = &pod["spec"]["containers"][0];
    let ports: Vec<_> =
        container["ports"].as_vec().unwrap().iter().map(|port| port["name"].as_str().unwrap()).collect();
    for path in ["deploy/kubernetes/service.yaml", "deploy/kubernetes/service-headless.yaml"] {
        let service = yaml(path);
        assert_eq!(there(&service["spec"]["selector"]), name, "{path}");
        for port in service["spec"]["ports"].as_vec().unwrap() {
            assert!(ports.contains(&port["targetPort"].as_str().unwrap()), "{path}");
        }
    }
    // None is ready before it has found the others: they need names, and must not wait for each other.
    let headless = yaml("deploy/kubernetes/service-headless.yaml");
    assert_eq!(set["spec"]["serviceName"], headless["metadata"]["name"]);
    assert_eq!(headless["spec"]["clusterIP"].as_str(), Some("None"));
    assert_eq!(headless["spec"]["publishNotReadyAddresses"].as_bool(), Some(true));
    assert_eq!(set["spec"]["podManagementPolicy"].as_str(), Some("Parallel"));
    // A majority stays.
    assert_eq!(budget["spec"]["maxUnavailable"].as_i64(), Some(1));
    assert_eq!(set["spec"]["replicas"].as_i64(), Some(3));
    for spread in pod["spec"]["topologySpreadConstraints"].as_vec().unwrap() {
        assert_eq!(there(&spread["labelSelector"]["matchLabels"]), name);
    }
    let config = yaml("deploy/kubernetes/configmap.yaml");
    let config = config["data"]["nightjar.toml"].as_str().unwrap();
    for port in container["ports"].as_vec().unwrap() {
        let port = port["containerPort"].as_i64().unwrap();
        assert!(config.contains(&format!("\"0.0.0.0:{port}\"")), "nothing listens on {port}");
    }
    let api = read("docs/api.md");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let asked = &container[probe]["httpGet"];
        assert!(ports.contains(&asked["port"].as_str().unwrap()), "{probe}");
        assert!(api.contains(&format!("`{}`", asked["path"].as_str().unwrap())), "{probe}");
    }
    let volumes: BTreeSet<_> = pod["spec"]["volumes"].as_vec().unwrap().iter().map(|v| v["name"].as_str()).collect();
    let claims: BTreeSet<_> =
        set["spec"]["volumeClaimTemplates"].as_vec().unwrap().iter().map(|v| v["metadata"]["name"].as_str()).collect();
    for mount in container["volumeMounts"].as_vec().unwrap() {
        let name = mount["name"].as_str();
        assert!(volumes.contains(&name) || claims.contains(&name), "{name:?}");
    }
    let resources = texts(&yaml("deploy/kubernetes/kustomization.yaml")["resources"]).join(" ");
    for path in files("deploy/kubernetes", &[".yaml"]) {
        let file = path.rsplit('/').next().unwrap();
        let apart = file.contains("example") || file == "kustomization.yaml";
        assert_eq!(resources.contains(file), !apart, "{file}");
    }
}

/// What the standard "restricted" of Kubernetes asks for, and a root that cannot be written.
#[test]
fn the_pod_has_no_more_rights_than_it_needs() {
    let set = yaml(STATEFUL_SET);
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    assert_eq!(pod["securityContext"]["runAsUser"].as_i64(), Some(1883));
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"].as_str(), Some("RuntimeDefault"));
    assert_eq!(pod["automountServiceAccountToken"].as_bool(), Some(false));
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(container["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(texts(&container["capabilities"]["drop"]), ["ALL"]);
}
