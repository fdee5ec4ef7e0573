//! Answers for people: aligned tables, and names with their values.

use crate::telemetry::escape;
use serde_json::Value;

/// The widest a cell gets.
const WIDEST: usize = 60;

/// A value as one line that is harmless to a terminal.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => {
            // Quotes show where a text ends that is not plain.
            let escaped = escape(text).to_string();
            if escaped.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) == Some(text) {
                text.clone()
            } else {
                escaped
            }
        }
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
        Value::Number(number) => number.to_string(),
    }
}

fn short(text: String) -> String {
    if text.chars().count() <= WIDEST {
        return text;
    }
    text.chars().take(WIDEST - 1).chain(['…']).collect()
}

/// A table of `items` with these columns: a heading, and the key of the value.
pub(super) fn table(columns: &[(&str, &str)], items: &[Value]) -> String {
    let get = |item: &Value, key: &str| short(cell(item.pointer(key).unwrap_or(&Value::Null)));
    let heading = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heading)
        .chain(items.iter().map(|item| columns.iter().map(|(_, key)| get(item, key)).collect()))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Every value of an object, one a line, those within it by `outer.inner`.
pub(super) fn lines(value: &Value) -> String {
    let mut flat = Vec::new();
    flatten("", value, &mut flat);
    let width = flat.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    flat.iter().map(|(name, value)| format!("{name}{}  {value}\n", " ".repeat(width - name.chars().count()))).collect()
}

fn flatten(prefix: &str, value: &Value, flat: &mut Vec<(String, String)>) {
    let name = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&name(key), value, flat)),
        Value::Array(list) if list.iter().any(Value::is_object) => {
            list.iter().enumerate().for_each(|(place, value)| flatten(&name(&(place + 1).to_string()), value, flat));
        }
        other => flat.push((prefix.to_owned(), cell(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_aligned_and_harmless() {
        let items = [json!({"id": "a", "n": 1}), json!({"id": "long\u{1b}[31m", "n": null, "x": {"y": true}})];
        let text = table(&[("CLIENT", "/id"), ("N", "/n"), ("Y", "/x/y")], &items);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(!text.contains('\u{1b}') && lines[2].ends_with("-  yes"), "{text}");
        let column = lines[0].find(" N ").expect("a column") + 1;
        assert_eq!(&lines[1][column..=column], "1");
    }

    #[test]
    fn objects_are_flattened() {
        let text = lines(&json!({"a": {"b": 1, "c": ["x", "y"]}, "d": [{"e": ""}]}));
        assert_eq!(text, "a.b    1\na.c    x, y\nd.1.e  -\n");
    }
}
