//! Text from the network, made harmless for logs and terminals.

use std::fmt::{self, Write as _};

/// More of a name than this is no help to a reader; a client identifier can be 65535 bytes of anything.
const LONGEST: usize = 200;

/// Text that shows on one line, in quotes, with nothing in it that a terminal or a log reader would act on.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a str);

/// Makes `text` safe to log: control characters, quotes, backslashes and characters that turn the direction of writing or
/// are invisible are written as escapes, and what is very long is cut, with its length.
#[must_use]
pub fn escape(text: &str) -> Escaped<'_> {
    Escaped(text)
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars().take(LONGEST) {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                hidden if is_hidden(hidden) => write!(f, "\\u{{{:x}}}", u32::from(hidden))?,
                plain => f.write_char(plain)?,
            }
        }
        f.write_char('"')?;
        if self.0.chars().nth(LONGEST).is_some() {
            write!(f, "... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

/// Control characters, line and paragraph separators, zero-width characters, marks of writing direction, tags.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_would_act_on_is_spelt_out() {
        for (text, shown) in [
            ("sensor-1", r#""sensor-1""#),
            ("", r#""""#),
            ("Wärme 温度", r#""Wärme 温度""#),
            ("\u{1b}[2J\u{1b}]0;owned\u{7}", r#""\u{1b}[2J\u{1b}]0;owned\u{7}""#),
            ("\u{9b}31m", r#""\u{9b}31m""#),
            ("a\r\n2026-01-01 INFO forged", r#""a\u{d}\u{a}2026-01-01 INFO forged""#),
            ("a\" user=\"root", r#""a\" user=\"root""#),
            ("a\\", r#""a\\""#),
            ("\u{202e}gnp.exe", r#""\u{202e}gnp.exe""#),
            ("a\u{200b}b\u{2028}c", r#""a\u{200b}b\u{2028}c""#),
        ] {
            assert_eq!(escape(text).to_string(), shown);
        }
    }

    #[test]
    fn what_is_long_is_cut_and_says_so() {
        let shown = escape(&"x".repeat(65_535)).to_string();
        assert!(shown.len() < 300);
        assert!(shown.ends_with("... (65535 bytes)"));
        assert!(!escape(&"ä".repeat(LONGEST)).to_string().contains("..."));
    }

    proptest! {
        #[test]
        fn one_line_without_control_characters_in_one_pair_of_quotes(text in any::<String>()) {
            let shown = escape(&text).to_string();
            prop_assert!(!shown.chars().any(char::is_control));
            let unescaped = shown.replace("\\\\", "").replace("\\\"", "");
            prop_assert_eq!(unescaped.matches('"').count(), 2);
        }
    }
}
