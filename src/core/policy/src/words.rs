//! A line of a rules file as words.

/// One word; what was quoted is taken as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) quoted: bool,
}

impl Word {
    /// Whether it is this keyword.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }
}

/// The words of `line`: separated by white space, quoted with `"` (in which `\"` and `\\` stand for themselves). A comma
/// outside quotes is a word of its own.
pub(crate) fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let (text, end) = quoted(&rest[1..])?;
            words.push(Word { text, quoted: true });
            rest = &rest[1 + end..];
            if rest.chars().next().is_some_and(|next| !next.is_whitespace() && next != ',') {
                return Err("expected white space behind a closing quote".to_owned());
            }
        } else if first == ',' {
            words.push(Word { text: ",".to_owned(), quoted: false });
            rest = &rest[1..];
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || c == ',' || c == '"').unwrap_or(rest.len());
            if rest[end..].starts_with('"') {
                return Err("expected white space before a quote".to_owned());
            }
            words.push(Word { text: rest[..end].to_owned(), quoted: false });
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(words)
}

/// The text up to the closing quote, and where that ends.
fn quoted(rest: &str) -> Result<(String, usize), String> {
    let mut text = String::new();
    let mut characters = rest.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((text, at + 1)),
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                _ => return Err("expected \\\" or \\\\ behind a backslash in quotes".to_owned()),
            },
            plain => text.push(plain),
        }
    }
    Err("expected a closing quote".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_split() {
        let texts = |line: &str| split(line).unwrap().into_iter().map(|word| word.text).collect::<Vec<_>>();
        assert_eq!(texts("  a b,c ,d\t#"), ["a", "b", ",", "c", ",", "d", "#"]);
        assert_eq!(texts(r#"user "a b, \"c\" \\" x"#), ["user", r#"a b, "c" \"#, "x"]);
        assert_eq!(texts(""), [""; 0]);
        for wrong in ["\"a", "\"a\"b", "a\"b\"", r#""\x""#] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
