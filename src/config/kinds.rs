//! What a value may look like: whole numbers, sizes and durations with units, words, paths.
//!
//! A kind reads a value, says what it expects when it cannot, and writes a value as the config file would have it.
//! Zero never means "unlimited": that is a word of its own.

use nightjar_base::millis;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// A value as it was found: typed in a file, bare text in the environment and behind `--set`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    Flag(bool),
    Number(i128),
    Fraction(f64),
    Text(String),
    /// Text that stands for whatever type is wanted.
    Bare(String),
    /// The texts of a list; what is no text stands as it would be written.
    List(Vec<String>),
    Table,
}

impl Found {
    /// How the value is called in a message; at most a line, and harmless to a terminal.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Fraction(number) => number.to_string(),
            Self::Text(text) | Self::Bare(text) => quote(&text.chars().take(80).collect::<String>()),
            Self::List(_) => "a list".to_owned(),
            Self::Table => "a table".to_owned(),
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Bare(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self) -> Option<i128> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Bare(text) => text.replace('_', "").parse().ok(),
            _ => None,
        }
    }
}

/// One kind of value.
pub(super) trait Kind<T> {
    /// The value, if it is one of this kind.
    fn read(&self, found: &Found) -> Option<T>;
    /// The value as TOML.
    fn show(&self, value: &T) -> String;
    /// What is expected, in words that follow "expected".
    fn expected(&self) -> String;
}

/// `true` or `false`.
pub(super) struct Flag;

impl Kind<bool> for Flag {
    fn read(&self, found: &Found) -> Option<bool> {
        match found {
            Found::Flag(flag) => Some(*flag),
            Found::Bare(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }

    fn expected(&self) -> String {
        "true or false".to_owned()
    }
}

/// A whole number.
pub(super) struct Count<T>(pub(super) RangeInclusive<T>);

/// A bound that nobody would count up to is not worth naming.
const TOLD: i128 = 1_000_000_000_000;

impl<T> Kind<T> for Count<T>
where
    T: Copy + PartialOrd + Display + TryFrom<i128> + TryInto<i128>,
{
    fn read(&self, found: &Found) -> Option<T> {
        T::try_from(found.number()?).ok().filter(|number| self.0.contains(number))
    }

    fn show(&self, value: &T) -> String {
        value.to_string()
    }

    fn expected(&self) -> String {
        if (*self.0.end()).try_into().is_ok_and(|end: i128| end > TOLD) {
            return format!("a whole number from {} up", self.0.start());
        }
        format!("a whole number from {} to {}", self.0.start(), self.0.end())
    }
}

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// A number of bytes: `"64KiB"`, `"2MB"`, or a bare number.
pub(super) struct Size<T>(pub(super) RangeInclusive<T>);

impl<T> Kind<T> for Size<T>
where
    T: Copy + PartialOrd + TryFrom<u64> + TryInto<u64>,
{
    fn read(&self, found: &Found) -> Option<T> {
        let bytes = match found.number() {
            Some(number) => u64::try_from(number).ok()?,
            None => quantity(found.text()?, &SIZES)?,
        };
        T::try_from(bytes).ok().filter(|size| self.0.contains(size))
    }

    fn show(&self, value: &T) -> String {
        quote(&show_size((*value).try_into().unwrap_or(u64::MAX)))
    }

    fn expected(&self) -> String {
        let [from, to] = [self.0.start(), self.0.end()].map(|end| show_size((*end).try_into().unwrap_or(u64::MAX)));
        format!("a size from {from} to {to}, as \"64KiB\", \"2MB\" or a number of bytes")
    }
}

const DAY: u64 = 86_400_000;
const SPANS: [(&str, u64); 6] = [("w", 7 * DAY), ("d", DAY), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A duration: `"500ms"`, `"30s"`, `"7d"`. A unit must be there: a bare number would leave it to a guess.
pub(super) struct Span(pub(super) Duration, pub(super) Duration);

impl Kind<Duration> for Span {
    fn read(&self, found: &Found) -> Option<Duration> {
        let span = Duration::from_millis(quantity(found.text()?, &SPANS)?);
        (self.0 <= span && span <= self.1).then_some(span)
    }

    fn show(&self, value: &Duration) -> String {
        quote(&show_span(*value))
    }

    fn expected(&self) -> String {
        format!(
            "a duration from {} to {} with its unit, as \"500ms\", \"30s\" or \"7d\"",
            show_span(self.0),
            show_span(self.1)
        )
    }
}

/// A duration in whole seconds that fits the two bytes of a keep alive.
pub(super) struct KeepAlive;

const KEEP_ALIVE: Span = Span(Duration::from_secs(1), Duration::from_secs(u16::MAX as u64));

impl Kind<u16> for KeepAlive {
    fn read(&self, found: &Found) -> Option<u16> {
        let span = KEEP_ALIVE.read(found).filter(|span| span.subsec_nanos() == 0)?;
        u16::try_from(span.as_secs()).ok()
    }

    fn show(&self, value: &u16) -> String {
        KEEP_ALIVE.show(&Duration::from_secs(u64::from(*value)))
    }

    fn expected(&self) -> String {
        "a duration of whole seconds from 1s to 65535s, as \"60s\"".to_owned()
    }
}

/// A value, or a word for there being none.
pub(super) struct Or<K>(pub(super) &'static str, pub(super) K);

impl<T, K: Kind<T>> Kind<Option<T>> for Or<K> {
    fn read(&self, found: &Found) -> Option<Option<T>> {
        if found.text() == Some(self.0) { Some(None) } else { self.1.read(found).map(Some) }
    }

    fn show(&self, value: &Option<T>) -> String {
        value.as_ref().map_or_else(|| quote(self.0), |value| self.1.show(value))
    }

    fn expected(&self) -> String {
        format!("{}, or \"{}\"", self.1.expected(), self.0)
    }
}

/// A value, or "unlimited", which stands for the given one, so that a limit can be compared with unasked.
pub(super) struct OrUnlimited<T, K>(pub(super) T, pub(super) K);

impl<T: Copy + PartialEq, K: Kind<T>> Kind<T> for OrUnlimited<T, K> {
    fn read(&self, found: &Found) -> Option<T> {
        if found.text() == Some("unlimited") { Some(self.0) } else { self.1.read(found) }
    }

    fn show(&self, value: &T) -> String {
        if *value == self.0 { quote("unlimited") } else { self.1.show(value) }
    }

    fn expected(&self) -> String {
        format!("{}, or \"unlimited\"", self.1.expected())
    }
}

/// One of a few words.
pub(super) struct Word<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: PartialEq> Word<T> {
    /// The word for a value.
    pub(super) fn word(&self, value: &T) -> &'static str {
        self.0.iter().find(|(_, known)| known == value).map_or("", |(word, _)| *word)
    }
}

impl<T: Copy + PartialEq> Kind<T> for Word<T> {
    fn read(&self, found: &Found) -> Option<T> {
        let text = found.text()?;
        self.0.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    }

    fn show(&self, value: &T) -> String {
        quote(self.word(value))
    }

    fn expected(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(word, _)| quote(word)).collect();
        format!("one of {}", words.join(", "))
    }
}

/// A path of a file or folder.
pub(super) struct FilePath;

impl Kind<PathBuf> for FilePath {
    fn read(&self, found: &Found) -> Option<PathBuf> {
        found.text().filter(|text| !text.is_empty() && !text.contains('\0')).map(PathBuf::from)
    }

    fn show(&self, value: &PathBuf) -> String {
        quote(&value.to_string_lossy())
    }

    fn expected(&self) -> String {
        "a path".to_owned()
    }
}

/// Any text but the empty one.
pub(super) struct Plain;

impl Kind<String> for Plain {
    fn read(&self, found: &Found) -> Option<String> {
        found.text().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn show(&self, value: &String) -> String {
        quote(value)
    }

    fn expected(&self) -> String {
        "a text".to_owned()
    }
}

/// The beginning of topic names.
pub(super) struct TopicPrefix;

impl Kind<String> for TopicPrefix {
    fn read(&self, found: &Found) -> Option<String> {
        let is_prefix = |text: &&str| !text.is_empty() && text.len() <= 1024 && !text.contains(['+', '#', '\0']);
        found.text().filter(is_prefix).map(str::to_owned)
    }

    fn show(&self, value: &String) -> String {
        quote(value)
    }

    fn expected(&self) -> String {
        "the beginning of a topic, without wildcards".to_owned()
    }
}

/// A TOML string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

/// A whole number and its unit, as a number of the smallest.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '_')?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(known, _)| known.eq_ignore_ascii_case(unit.trim()))?;
    number.replace('_', "").parse::<u64>().ok()?.checked_mul(*factor)
}

fn show_size(bytes: u64) -> String {
    show_quantity(bytes, &SIZES[..4], "B")
}

fn show_span(span: Duration) -> String {
    show_quantity(millis(span), &SPANS[1..5], "ms")
}

fn show_quantity(value: u64, units: &[(&str, u64)], smallest: &str) -> String {
    match units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => format!("{value}{smallest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Found {
        Found::Text(text.to_owned())
    }

    #[test]
    fn sizes_have_units_of_both_families() {
        let size = Size(1..=1_u64 << 40);
        for (written, bytes) in [
            ("64KiB", Some(65_536)),
            ("64 KiB", Some(65_536)),
            ("2MB", Some(2_000_000)),
            ("2mb", Some(2_000_000)),
            ("1_000B", Some(1_000)),
            ("1GiB", Some(1 << 30)),
            ("0B", None),
            ("2TiB", None),
            ("MB", None),
            ("-1MB", None),
            ("1.5MB", None),
            ("2", None),
            ("99999999999999999999KiB", None),
            ("99999999999TiB", None),
            ("", None),
        ] {
            assert_eq!(size.read(&text(written)), bytes, "{written}");
        }
        assert_eq!(size.read(&Found::Number(512)), Some(512));
        assert_eq!(size.read(&Found::Bare("512".to_owned())), Some(512));
        assert_eq!(size.read(&Found::Number(-512)), None);
    }

    #[test]
    fn durations_need_their_unit() {
        let span = Span(Duration::ZERO, Duration::from_secs(1 << 32));
        for (written, millis) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("7d", Some(604_800_000)),
            ("2w", Some(1_209_600_000)),
            ("30", None),
            ("1.5s", None),
            ("s", None),
            ("99999999999999d", None),
        ] {
            assert_eq!(span.read(&text(written)), millis.map(Duration::from_millis), "{written}");
        }
        assert_eq!(span.read(&Found::Number(30)), None);
    }

    #[test]
    fn a_file_is_held_to_its_types_and_bare_text_is_not() {
        let count = Count(0..=10_u8);
        assert_eq!(count.read(&Found::Number(7)), Some(7));
        assert_eq!(count.read(&text("7")), None);
        assert_eq!(count.read(&Found::Bare("7".to_owned())), Some(7));
        assert_eq!(count.read(&Found::Number(11)), None);
        assert_eq!(count.read(&Found::Number(263)), None);
        assert_eq!(count.read(&Found::Fraction(7.0)), None);
        assert_eq!(Flag.read(&Found::Number(1)), None);
        assert_eq!(Flag.read(&text("true")), None);
        assert_eq!(Flag.read(&Found::Bare("yes".to_owned())), None);
        assert_eq!(Flag.read(&Found::Bare("true".to_owned())), Some(true));
    }

    #[test]
    fn unlimited_is_a_word_and_never_a_zero() {
        let limit = OrUnlimited(u64::MAX, Count(1..=u64::MAX - 1));
        assert_eq!(limit.read(&text("unlimited")), Some(u64::MAX));
        assert_eq!(limit.read(&Found::Number(0)), None);
        assert_eq!(limit.show(&u64::MAX), "\"unlimited\"");
        let keep_alive = Or("none", KeepAlive);
        assert_eq!(keep_alive.read(&text("none")), Some(None));
        assert_eq!(keep_alive.read(&text("60s")), Some(Some(60)));
        assert_eq!(keep_alive.read(&text("1500ms")), None);
        assert_eq!(keep_alive.read(&text("65536s")), None);
    }

    #[test]
    fn values_are_shown_in_the_largest_unit_that_is_exact() {
        for (bytes, shown) in
            [(0, "0B"), (1_000, "1000B"), (65_536, "64KiB"), (1 << 30, "1GiB"), ((1 << 30) + 1, "1073741825B")]
        {
            assert_eq!(show_size(bytes), shown);
        }
        for (millis, shown) in [(0, "0ms"), (1_500, "1500ms"), (90_000, "90s"), (604_800_000, "7d")] {
            assert_eq!(show_span(Duration::from_millis(millis)), shown);
        }
    }
}
