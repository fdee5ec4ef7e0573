//! What the files in `deploy/` say of each other and of the program.

use crate::{at, files, keys, read, texts, yaml};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use yaml_rust2::Yaml;

const STATEFUL_SET: &str = "deploy/kubernetes/statefulset.yaml";

#[test]
fn every_yaml_and_json_file_can_be_read() {
    let found = files("deploy", &[".yml", ".yaml"]);
    assert!(found.len() > 8, "{found:?}");
    found.iter().for_each(|path| assert!(!yaml(path).is_badvalue(), "{path}"));
    for path in files("deploy", &[".json"]) {
        serde_json::from_str::<serde_json::Value>(&read(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

/// Lets the program check a configuration whose secrets are where the deployment puts them.
#[track_caller]
fn check_config(what: &str, config: &str) {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    fs::create_dir_all(secrets.join("nightjar")).unwrap();
    let passwords = Path::new("nightjar_passwords");
    let hash = "client:$7$101$jN5jXf/Vn7UkGqzz$zr1zSrSgH3jUEYxoBHCySLP/mVt91nLUDMPgTgSU/gW4V3mUn3QiCWbgrLgqjQ3GJHj3ZV0RYQVXbZRJsX2lqQ==";
    for path in [passwords, Path::new("nightjar/passwords")] {
        fs::write(secrets.join(path), format!("{hash}\n")).unwrap();
    }
    for path in ["nightjar_admin_token", "nightjar/admin-token", "mosquitto_bridge_password"] {
        fs::write(secrets.join(path), "not a secret, but long enough\n").unwrap();
    }
    let here = config.replace("/run/secrets", secrets.to_str().unwrap());
    assert!(!here.contains("/run/"), "{what}");
    let path = folder.path().join("nightjar.toml");
    fs::write(&path, here.replace("/var/lib/nightjar", folder.path().join("data").to_str().unwrap())).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_nightjar"));
    let checked = program.args(["check-config", "--config"]).arg(&path).env("FRONT_SUBNET", "10.0.0.0/24").output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{what}: {}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn every_configuration_is_taken_by_the_program() {
    check_config("the image", &read("deploy/docker/nightjar.toml"));
    check_config("compose", &read("deploy/compose/single/nightjar.toml"));
    let map = yaml("deploy/kubernetes/configmap.yaml");
    check_config("Kubernetes", map["data"]["nightjar.toml"].as_str().unwrap());
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

/// What a service of a compose file says, what `<<` brings in included.
fn of<'a>(service: &'a Yaml, key: &str) -> &'a Yaml {
    if service[key].is_badvalue() { &service["<<"][key] } else { &service[key] }
}

#[test]
fn compose_names_what_it_has() {
    for path in files("deploy/compose", &["docker-compose.yml"]) {
        let compose = yaml(&path);
        let folder = Path::new(&path).parent().unwrap();
        let defined = |what: &str| keys(&compose[what]).into_iter().collect::<BTreeSet<_>>();
        let (volumes, networks, secrets) = (defined("volumes"), defined("networks"), defined("secrets"));
        let mut used = BTreeSet::new();
        for (name, service) in compose["services"].as_hash().unwrap() {
            let name = name.as_str().unwrap();
            assert_eq!(of(service, "restart").as_str(), Some("unless-stopped"), "{path}: {name}");
            assert_eq!(of(service, "read_only").as_bool(), Some(true), "{path}: {name}");
            assert_eq!(texts(of(service, "cap_drop")), ["ALL"], "{path}: {name}");
            assert!(
                name == "nightjar" || !service["healthcheck"]["test"].is_badvalue(),
                "{path}: {name} has no health"
            );
            texts(&service["networks"]).iter().for_each(|n| assert!(networks.contains(n), "{path}: {name}: {n}"));
            for secret in texts(&service["secrets"]) {
                assert!(secrets.contains(secret), "{path}: {name}: {secret}");
                used.insert(secret);
            }
            for mount in texts(&service["volumes"]) {
                let source = mount.split(':').next().unwrap();
                if source.starts_with('.') {
                    assert!(at(folder.join(source).to_str().unwrap()).exists(), "{path}: {name}: {source}");
                    assert!(mount.ends_with(":ro"), "{path}: {name}: {mount}");
                } else {
                    assert!(volumes.contains(source), "{path}: {name}: {source}");
                }
            }
        }
        assert_eq!(used, secrets, "{path}");
        let script = read("deploy/compose/secrets.sh");
        secrets.iter().for_each(|secret| assert!(script.contains(secret), "secrets.sh does not make {secret}"));
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
    let headless = yaml("deploy/kubernetes/service-headless.yaml");
    assert_eq!(set["spec"]["serviceName"], headless["metadata"]["name"]);
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
