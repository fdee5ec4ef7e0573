//! Which topics a bridge carries, and what each is called on the other side.
//!
//! A rule is a line, as mosquitto has it: `PATTERN [out|in|both [QOS [LOCAL [REMOTE]]]]`. The local topic is `LOCAL`
//! and the pattern, the remote one `REMOTE` and the pattern, glued without a slash. Of the rules that match a topic the
//! first one names it. `retain=drop` at the end has messages carried without their retain flag.

use crate::algebra::overlaps;
use crate::words;
use nightjar_mqtt::{QoS, topic};
use std::fmt;
use std::str::FromStr;

/// Which way a rule carries messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From here to the remote.
    Out,
    /// From the remote to here.
    In,
    /// Both.
    Both,
}

/// One of the two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From here to the remote.
    Out,
    /// From the remote to here.
    In,
}

impl Way {
    /// The other way.
    #[must_use]
    pub fn back(self) -> Self {
        match self {
            Self::Out => Self::In,
            Self::In => Self::Out,
        }
    }
}

/// One rule of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRule {
    pattern: String,
    direction: Direction,
    qos: QoS,
    local: String,
    remote: String,
    drops_retain: bool,
    /// `local` and the pattern, and `remote` and the pattern: asked for with every message.
    local_filter: String,
    remote_filter: String,
}

impl FromStr for TopicRule {
    type Err = String;

    /// # Errors
    /// When the line is no rule, with what was expected.
    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = words::split(line)?;
        let drops_retain = match words.last().and_then(|word| word.text.strip_prefix("retain=")) {
            None => false,
            Some("keep") => words.pop().is_none(),
            Some("drop") => words.pop().is_some(),
            Some(other) => return Err(format!("expected retain=keep or retain=drop, found {other:?}")),
        };
        if words.len() > 5 {
            return Err("expected PATTERN [out|in|both [QOS [LOCAL [REMOTE]]]] [retain=keep|drop]".to_owned());
        }
        let text = |at: usize| words.get(at).map_or("", |word| word.text.as_str());
        let direction = match text(1).to_ascii_lowercase().as_str() {
            "" | "out" => Direction::Out,
            "in" => Direction::In,
            "both" => Direction::Both,
            other => return Err(format!("expected out, in or both, found {other:?}")),
        };
        let qos = match text(2) {
            "" | "0" => QoS::AtMostOnce,
            "1" => QoS::AtLeastOnce,
            "2" => QoS::ExactlyOnce,
            other => return Err(format!("expected QoS 0, 1 or 2, found {other:?}")),
        };
        let rule = Self {
            pattern: text(0).to_owned(),
            direction,
            qos,
            local: text(3).to_owned(),
            remote: text(4).to_owned(),
            drops_retain,
            local_filter: format!("{}{}", text(3), text(0)),
            remote_filter: format!("{}{}", text(4), text(0)),
        };
        rule.check().map(|()| rule)
    }
}

impl fmt::Display for TopicRule {
    /// The line that gives the rule again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Out => "out",
            Direction::In => "in",
            Direction::Both => "both",
        };
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let (pattern, local, remote) = (quoted(&self.pattern), quoted(&self.local), quoted(&self.remote));
        write!(f, "{pattern} {direction} {} {local} {remote}", self.qos as u8)?;
        if self.drops_retain { f.write_str(" retain=drop") } else { Ok(()) }
    }
}

impl TopicRule {
    fn check(&self) -> Result<(), String> {
        for prefix in [&self.local, &self.remote] {
            if prefix.contains(['+', '#']) {
                return Err(format!("expected a prefix without wildcards, found {prefix:?}"));
            }
        }
        if self.pattern.is_empty() && (self.local.is_empty() || self.remote.is_empty()) {
            return Err("expected a local and a remote topic where the pattern is empty".to_owned());
        }
        for filter in [self.local_filter(), self.remote_filter()] {
            topic::validate_filter(filter).map_err(|error| format!("{filter:?}: {error}"))?;
            if filter.starts_with("$share/") {
                return Err(format!("{filter:?}: a bridge is no member of a group"));
            }
        }
        Ok(())
    }

    /// Whether it carries messages that way.
    #[must_use]
    pub fn goes(&self, way: Way) -> bool {
        match way {
            Way::Out => self.direction != Direction::In,
            Way::In => self.direction != Direction::Out,
        }
    }

    /// The highest QoS at which it carries messages.
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// Whether it carries messages without their retain flag.
    #[must_use]
    pub fn drops_retain(&self) -> bool {
        self.drops_retain
    }

    /// What it matches here.
    #[must_use]
    pub fn local_filter(&self) -> &str {
        &self.local_filter
    }

    /// What it matches at the remote.
    #[must_use]
    pub fn remote_filter(&self) -> &str {
        &self.remote_filter
    }

    /// What `name` is called on the other side, if the rule carries it that way.
    #[must_use]
    pub fn map(&self, way: Way, name: &str) -> Option<String> {
        self.goes(way).then(|| self.rename(way, name))?
    }

    /// What would have to be published on the other side to come here as `name`, if the rule carries it that way: where
    /// an answer is expected.
    #[must_use]
    pub fn origin(&self, way: Way, name: &str) -> Option<String> {
        self.goes(way).then(|| self.rename(way.back(), name))?
    }

    /// What `name` is called on the side that `way` leads to.
    fn rename(&self, way: Way, name: &str) -> Option<String> {
        let (filter, from, to) = match way {
            Way::Out => (&self.local_filter, &self.local, &self.remote),
            Way::In => (&self.remote_filter, &self.remote, &self.local),
        };
        if !topic::matches(filter, name) {
            return None;
        }
        // `a/#` matches `a` as well, which is shorter than the prefix `a/`.
        match name.strip_prefix(from.as_str()) {
            Some(rest) => Some(format!("{to}{rest}")).filter(|name| !name.is_empty()),
            None => to.strip_suffix('/').filter(|name| !name.is_empty()).map(str::to_owned),
        }
    }

    /// Whether what `self` sends out comes back by `back`, goes out again, and is called otherwise each time: such a
    /// circle never ends, and no mark or flag of the remote's is known to break it.
    fn circles(&self, back: &Self) -> bool {
        let meets =
            overlaps(&self.remote_filter, &back.remote_filter) && overlaps(&back.local_filter, &self.local_filter);
        self.goes(Way::Out) && back.goes(Way::In) && meets && !self.undone_by(back)
    }

    /// Whether `back` gives what `self` sent out its own name again.
    fn undone_by(&self, back: &Self) -> bool {
        let longer_by_the_same = |one: &Self, other: &Self| {
            let rest = one.local.strip_prefix(other.local.as_str());
            rest.is_some() && rest == one.remote.strip_prefix(other.remote.as_str())
        };
        longer_by_the_same(self, back) || longer_by_the_same(back, self)
    }
}

/// The rules of a bridge, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRules(Vec<TopicRule>);

impl TopicRules {
    /// Rules that can stand together. A rule that is there twice counts once.
    ///
    /// # Errors
    /// When two of them make a circle.
    pub fn new(rules: Vec<TopicRule>) -> Result<Self, String> {
        let mut kept: Vec<TopicRule> = Vec::with_capacity(rules.len());
        for rule in rules {
            if !kept.contains(&rule) {
                kept.push(rule);
            }
        }
        for out in &kept {
            if let Some(back) = kept.iter().find(|back| out.circles(back)) {
                return Err(format!("what {out} sends comes back by {back} under another name, and goes out again"));
            }
        }
        Ok(Self(kept))
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[TopicRule] {
        &self.0
    }

    /// What `name` is called on the other side, and the number of the rule that says so.
    #[must_use]
    pub fn map(&self, way: Way, name: &str) -> Option<(usize, String)> {
        self.0.iter().enumerate().find_map(|(number, rule)| Some((number, rule.map(way, name)?)))
    }

    /// What would have to be published on the other side to come here as `name`.
    #[must_use]
    pub fn origin(&self, way: Way, name: &str) -> Option<String> {
        self.0.iter().find_map(|rule| rule.origin(way, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(lines: &[&str]) -> Result<TopicRules, String> {
        TopicRules::new(lines.iter().map(|line| line.parse().expect("a rule")).collect())
    }

    fn map(line: &str, way: Way, name: &str) -> Option<String> {
        line.parse::<TopicRule>().expect("a rule").map(way, name)
    }

    #[test]
    fn prefixes_are_glued_and_taken_off_again() {
        let line = "sensors/# both 1 site/ plant7/";
        assert_eq!(map(line, Way::Out, "site/sensors/a").as_deref(), Some("plant7/sensors/a"));
        assert_eq!(map(line, Way::In, "plant7/sensors/a").as_deref(), Some("site/sensors/a"));
        assert_eq!(map(line, Way::Out, "sensors/a"), None);
        assert_eq!(map("s/# in 1 site/ \"\"", Way::In, "s/1").as_deref(), Some("site/s/1"));
        assert_eq!(map("s/# in 1 site/ \"\"", Way::Out, "site/s/1"), None);
        assert_eq!(map("/# OUT 2 a \"\"", Way::Out, "a/b").as_deref(), Some("/b"));
    }

    #[test]
    fn an_empty_pattern_renames_one_topic() {
        let line = "\"\" both 0 here/it there/it";
        assert_eq!(map(line, Way::Out, "here/it").as_deref(), Some("there/it"));
        assert_eq!(map(line, Way::In, "there/it").as_deref(), Some("here/it"));
        assert_eq!(map(line, Way::Out, "here/it/s"), None);
    }

    #[test]
    fn the_level_above_a_wildcard_is_carried_too() {
        assert_eq!(map("# out 0 here/ there/", Way::Out, "here").as_deref(), Some("there"));
        assert_eq!(map("# out 0 here/ \"\"", Way::Out, "here"), None);
    }

    #[test]
    fn the_first_rule_that_matches_names_it() {
        let rules = rules(&["a/# out 1 \"\" x/", "a/b out 2 \"\" y/"]).expect("they can stand together");
        assert_eq!(rules.map(Way::Out, "a/b"), Some((0, "x/a/b".to_owned())));
        assert_eq!(rules.map(Way::In, "a/b"), None);
    }

    #[test]
    fn lines_that_are_no_rules_are_told_why() {
        for (line, told) in [
            ("a sideways", "out, in or both"),
            ("a out 3", "QoS 0, 1 or 2"),
            ("\"\" out 0 x", "a local and a remote topic"),
            ("a out 0 +/ \"\"", "without wildcards"),
            ("a/#/b", "a/#/b"),
            ("$share/g/a in", "no member of a group"),
            ("a out 0 b c d", "PATTERN"),
            ("a out 0 b c retain=later", "retain=keep"),
        ] {
            let error = line.parse::<TopicRule>().expect_err(line);
            assert!(error.contains(told), "{line}: {error}");
        }
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        for line in ["# both 2", "\"a b/#\" in 1 \"\" \"x\\\"y/\"", "a", "a out 1 b/ retain=drop", "a retain=keep"] {
            let rule: TopicRule = line.parse().expect("a rule");
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }

    #[test]
    fn an_answer_is_expected_where_it_comes_in_from() {
        let rules = rules(&["ask/# out 1 \"\" hub/", "answer/# in 1 here/ hub/"]).expect("they can stand together");
        assert_eq!(rules.origin(Way::In, "here/answer/7").as_deref(), Some("hub/answer/7"));
        assert_eq!(rules.origin(Way::In, "ask/7"), None);
        assert_eq!(rules.origin(Way::Out, "hub/ask/7").as_deref(), Some("ask/7"));
    }

    #[test]
    fn circles_under_other_names_are_refused() {
        assert!(rules(&["# both 1"]).is_ok());
        assert!(rules(&["# both 1", "# both 1"]).is_ok_and(|rules| rules.rules().len() == 1));
        assert!(rules(&["# out 1", "cmd/# in 1"]).is_ok());
        assert!(rules(&["s/# out 1 \"\" site/", "# in 1 hub/ \"\""]).is_ok());
        assert!(rules(&["b/# out 1 a/ x/", "# in 1 a/b/ x/b/"]).is_ok());
        let error = rules(&["# out 1 \"\" a/", "# in 1 b/ \"\""]).expect_err("a circle");
        assert!(error.contains("under another name"), "{error}");
    }
}
