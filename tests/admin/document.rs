//! The description of the API: complete, and true.

use crate::http::{Door, cluster_of_one};
use crate::support::{Connect, Will, prop, secs, wait_until};
use serde_json::{Value, json};

/// The schema that `schema` refers to.
fn resolve<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(path) => document.pointer(path.trim_start_matches('#')).unwrap_or_else(|| panic!("{path} leads nowhere")),
        None => schema,
    }
}

/// What is wrong with `value` by `schema`; nothing that is not documented may be there, and nothing that is may miss.
fn check(document: &Value, schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    let schema = resolve(document, schema);
    if let Some(ways) = schema["oneOf"].as_array() {
        let fits = |way: &&Value| {
            let mut found = Vec::new();
            check(document, way, value, place, &mut found);
            found.is_empty()
        };
        if !ways.iter().any(|way| fits(&way)) {
            wrong.push(format!("{place}: {value} fits none of {schema}"));
        }
        return;
    }
    let parts: Vec<&Value> = schema["allOf"].as_array().map_or_else(|| vec![schema], |all| all.iter().collect());
    let parts: Vec<&Value> = parts.into_iter().map(|part| resolve(document, part)).collect();
    let nested: Vec<&Value> = parts
        .iter()
        .flat_map(|part| part["allOf"].as_array().into_iter().flatten())
        .map(|p| resolve(document, p))
        .collect();
    let parts: Vec<&Value> = parts.into_iter().chain(nested).collect();
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.is_empty() && !types.contains(&kind) {
        wrong.push(format!("{place}: {value} is no {types:?}"));
    }
    match value {
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                check(document, &schema["items"], item, &format!("{place}[{number}]"), wrong);
            }
        }
        Value::Object(fields) => {
            let known = |name: &str| {
                let own = parts.iter().rev().map(|part| &part["properties"][name]).find(|found| !found.is_null());
                own.or_else(|| parts.iter().map(|part| &part["additionalProperties"]).find(|more| more.is_object()))
            };
            for (name, field) in fields {
                match known(name) {
                    Some(of) => check(document, of, field, &format!("{place}.{name}"), wrong),
                    None => wrong.push(format!("{place}.{name} is not documented")),
                }
            }
            for part in &parts {
                for name in part["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if !fields.contains_key(name) {
                        wrong.push(format!("{place}.{name} is missing"));
                    }
                }
            }
        }
        _ => {}
    }
}

#[test]
fn answers_are_what_the_document_says() {
    let cluster = cluster_of_one();
    let door = Door::open(&cluster.each_ref().map(String::as_str));
    let bridge = json!({"address": "mqtt://127.0.0.1:1", "topics": ["out/# out 1", "in/# in 1"]});
    assert_eq!(door.send("PUT", "/api/v1/bridges/hub", &bridge).status, 200);
    wait_until("the bridge fails", secs(10), || door.get("/api/v1/bridges/hub").json()["last_error"].is_string());
    let will = Will::new("w", "x").delay(5);
    let connect = Connect::v5("a").clean(false).expiry(300).prop(prop::maximum_packet_size(100)).will(will);
    let mut client = connect.open(&door.broker);
    client.subscribe("t/#", 1);
    let mut publisher = door.broker.v5("p");
    publisher.publish("t/large", "x".repeat(200), 0);
    publisher.retain("t/r", "kept", 1);
    client.expect_publish();
    let answer = door.ask("GET", "/api/openapi.json", &[], None);
    assert_eq!(answer.status, 200);
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let mut asked = 0;
    for (path, methods) in paths {
        assert!(methods.as_object().unwrap().values().all(|of| of["responses"].is_object()), "{path}");
        let Some(responses) = methods["get"]["responses"].as_object() else { continue };
        let real = path.replace("{client_id}", "a").replace("{topic}", "t%2Fr").replace("{bridge}", "hub");
        let real = match path.rsplit('/').next() {
            Some("test") => format!("{real}?action=receive&topic=t"),
            Some("explain") => format!("{real}?client=a&topic=t/x"),
            Some("map") => format!("{real}?topic=out/x"),
            Some("trace") => format!("{real}?client=a&seconds=1"),
            _ => real,
        };
        let answer = door.get(&real);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        asked += 1;
        let content = &responses["200"]["content"]["application/json"]["schema"];
        if content.is_null() {
            assert!(["/metrics", "/api/v1/trace"].contains(&path.as_str()), "{path}");
            continue;
        }
        let mut wrong = Vec::new();
        check(&document, content, &answer.json(), path, &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}\n{}", answer.text());
    }
    assert!(asked > 15, "{asked}");
    let published = door.send("POST", "/api/v1/publish", &json!({"topic": "t"})).json();
    let schema =
        &document["paths"]["/api/v1/publish"]["post"]["responses"]["200"]["content"]["application/json"]["schema"];
    let mut wrong = Vec::new();
    check(&document, schema, &published, "publish", &mut wrong);
    check(&document, schema, &json!({"reason": 1, "more": 2}), "made up", &mut wrong);
    assert_eq!(wrong.len(), 3, "{wrong:#?}");
}

/// What `routes.rs` names is in the document; what it adds by hand is listed here.
#[test]
fn every_route_is_in_the_document() {
    let source = include_str!("../../src/admin/routes.rs");
    let by_hand: Vec<&str> =
        source.match_indices(".route(\"").map(|(at, _)| source[at + 8..].split('"').next().unwrap()).collect();
    assert_eq!(by_hand, ["/api/openapi.json", "/mqtt", "/", "/page/{file}"]);
    let document = serde_json::to_value(nightjar::admin::document()).unwrap();
    for path in ["/livez", "/metrics", "/api/v1/status", "/api/v1/clients/{client_id}", "/api/v1/rules/test"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, of) in methods.as_object().unwrap() {
            assert!(of["summary"].is_string() || of["description"].is_string(), "{method} {path} says nothing");
        }
    }
}
