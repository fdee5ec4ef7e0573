//! Password files, ACL files and plugins: mosquitto may have others at each listener, Nightjar has the same for all.
//!
//! A listener at which more would be let in or allowed than was is left out. Where a plugin may have decided, everything
//! is denied until somebody writes rules.

use super::{Writer, absolute};
use crate::import::conf::{Group, Opt};
use crate::import::report::Fate;
use std::path::{Path, PathBuf};

/// What is asked at one listener: option numbers of its files, and whether a plugin may have a say.
#[derive(Default)]
struct Asked {
    passwords: Vec<usize>,
    acls: Vec<usize>,
    plugin: bool,
}

/// What becomes of them.
pub(super) struct Files {
    /// Whether there is a password file.
    pub(super) passwords: bool,
    /// Whether everything is denied, since a plugin may have decided.
    pub(super) closed: bool,
}

const PASSWORDS: (&str, &str, &str) = ("password_file", "plugin_opt_password_file", "mosquitto_password_file");
const ACLS: (&str, &str, &str) = ("acl_file", "plugin_opt_acl_file", "mosquitto_acl_file");

impl Writer<'_> {
    pub(super) fn files(&mut self, out: &Path) -> Files {
        let mut asked: Vec<Asked> = (0..self.kept.len()).map(|place| self.asked(place)).collect();
        let closed = self.is_plugin_everywhere() || (!asked.is_empty() && asked.iter().all(|one| one.plugin));
        if closed {
            self.close(out, &asked);
            asked.iter_mut().for_each(|one| one.acls.clear());
        }
        if self.conf.per_listener {
            self.of_their_own(&mut asked, closed);
        }
        let passwords = asked.iter().flat_map(|one| one.passwords.iter().copied()).collect();
        let acls = asked.iter().flat_map(|one| one.acls.iter().copied()).collect();
        if self.kept.is_empty() && !self.conf.per_listener {
            self.without_listeners(closed);
        }
        let passwords = self.file(passwords, "auth", "password_file");
        let acl = self.file(acls, "access", "mosquitto_acl");
        if self.conf.per_listener && (passwords || acl) {
            self.draft.note(
                "users and rules hold for every listener that is kept, those that had none of their own included; what \
                 differs from one to another can be told by `authentication` of a listener and by rules",
            );
        }
        self.plugin_notes();
        Files { passwords, closed }
    }

    /// Where no listener is kept, nobody comes in who came in by one that protected what it had; rules hold for whoever
    /// is let in later.
    fn without_listeners(&mut self, closed: bool) {
        let conf = self.conf;
        for at in self.files_of(&conf.global, PASSWORDS) {
            let path = self.file_path(at);
            let text = format!(
                "the listeners that its users came in by are left out: set auth.password_file = {:?} when you add one",
                path.display().to_string()
            );
            self.unsupported(at, text);
        }
        if !closed {
            self.file(self.files_of(&conf.global, ACLS), "access", "mosquitto_acl");
        }
    }

    fn asked(&self, place: usize) -> Asked {
        let listener = self.kept[place].at.filter(|_| self.conf.per_listener);
        let group = listener.map_or(&self.conf.global, |at| &self.conf.listeners[at]);
        let (passwords, acls) = (self.files_of(group, PASSWORDS), self.files_of(group, ACLS));
        let mut paths = acls.iter().map(|&at| self.file_path(at));
        let first = paths.next();
        // Which of several rules' files decides is not to be known.
        let several = paths.any(|path| Some(&path) != first.as_ref());
        let plugin = several || self.conf.each(group).any(|at| may_decide(&self.conf.options[at]));
        Asked { passwords, acls, plugin }
    }

    /// The files of a group: its own option's, and those of mosquitto's plugin that reads such a file.
    fn files_of(&self, group: &Group, (own, option, plugin): (&str, &str, &str)) -> Vec<usize> {
        let conf = self.conf;
        let foreign =
            conf.options.iter().any(may_decide) && !conf.options.iter().any(|option| is_plugin(option, plugin));
        let of_plugin = conf.options.iter().enumerate().filter(|(_, found)| !foreign && found.name == option);
        let here = |&at: &usize| {
            let above =
                conf.options[..at].iter().rposition(|option| matches!(option.known.means, "plugin" | "plugin_load"));
            !conf.per_listener || conf.each(group).any(|one| Some(one) == above)
        };
        let mut files: Vec<usize> = conf.last(group, own).into_iter().collect();
        files.extend(of_plugin.map(|(at, _)| at).filter(here));
        files.sort_unstable();
        files
    }

    fn file_path(&self, at: usize) -> PathBuf {
        absolute(self.option(at).text())
    }

    /// Whether a plugin for all listeners may decide.
    fn is_plugin_everywhere(&self) -> bool {
        let conf = self.conf;
        let files = |option: &Opt| is_plugin(option, PASSWORDS.2) || is_plugin(option, ACLS.2);
        conf.each(&conf.global).map(|at| &conf.options[at]).any(|option| {
            // With files of their own at listeners, those for all of them come on top.
            may_decide(option) || (conf.per_listener && files(option))
        })
    }

    /// Denies everything.
    fn close(&mut self, out: &Path, asked: &[Asked]) {
        let rules = out.join("rules");
        self.path("access", "rules", &rules);
        self.kept.iter_mut().for_each(|kept| kept.anonymous = false);
        for at in self.named(&["allow_anonymous", "listener_allow_anonymous"]) {
            self.changed(at, "listeners.*.anonymous = false: a plugin may have refused clients without a name");
        }
        for at in asked.iter().flat_map(|one| &one.acls) {
            let path = self.file_path(*at);
            let text = format!(
                "a plugin or another file may have decided before it: access.rules denies everything; if this file alone \
                 is to decide, put access.mosquitto_acl = {:?} in its place",
                path.display().to_string()
            );
            self.draft.overrule(*at, Fate::Unsupported, text);
        }
        let rules = rules.display();
        self.draft.note(format!(
            "plugins may have decided who may do what, and nightjar has none: EVERYTHING IS DENIED by {rules}, and nobody \
             comes in without a name. Write rules there as docs/access-rules.md tells (`allow user ann to all on ann/#`), \
             and try them by `nightjar ctl acl test`; listeners.*.anonymous = true lets in who has no name"
        ));
    }

    /// Leaves out listeners that would let in or allow more with the files of others.
    fn of_their_own(&mut self, asked: &mut Vec<Asked>, closed: bool) {
        for at in self.conf.each(&self.conf.global) {
            let name = self.option(at).name.as_str();
            if matches!(name, "password_file" | "acl_file" | "allow_anonymous") && !self.conf.listeners.is_empty() {
                self.unsupported(at, "`per_listener_settings true` stands below it: mosquitto uses it at no listener");
            }
        }
        if !closed {
            let plugin = "a plugin may have decided there, and nightjar has none: write access rules for its clients \
                (docs/access-rules.md), and add it";
            self.leave_out(asked, plugin, |_, (_, one)| one.plugin);
        }
        // Where certificates name users, mosquitto looks into no password file.
        for (place, one) in asked.iter_mut().enumerate() {
            if self.kept[place].identity {
                for at in std::mem::take(&mut one.passwords) {
                    self.changed(at, "not needed: certificates alone say who a client is at this listener");
                }
            }
        }
        let path = |writer: &Self, list: &[usize]| list.first().map(|&at| writer.file_path(at));
        if let Some(used) = asked.iter().find_map(|one| path(self, &one.passwords)) {
            let why = format!(
                "auth.password_file = {:?} would let its users in there, whom mosquitto did not let in: join the files if \
                 all users may come in by every listener, and add it",
                used.display().to_string()
            );
            self.leave_out(asked, &why, |writer, (place, one)| {
                let kept = &writer.kept[place];
                match path(writer, &one.passwords) {
                    Some(own) => own != used,
                    None => !kept.anonymous && !kept.identity,
                }
            });
            let certified = self.kept.iter().filter(|kept| kept.identity).flat_map(|kept| kept.tables.clone());
            for table in certified.collect::<Vec<_>>() {
                self.toml.set(&format!("listeners.{table}"), "authentication", "[\"certificate\"]");
            }
        }
        if let Some(used) = asked.iter().find_map(|one| path(self, &one.acls)) {
            let why = format!(
                "access.mosquitto_acl = {:?} would hold there in place of its own rules: write rules that are right for \
                 all listeners, and add it",
                used.display().to_string()
            );
            // One that had no rules is narrowed by them.
            self.leave_out(asked, &why, |writer, (_, one)| path(writer, &one.acls).is_some_and(|own| own != used));
        }
    }

    fn leave_out(&mut self, asked: &mut Vec<Asked>, why: &str, out: impl Fn(&Self, (usize, &Asked)) -> bool) {
        for place in (0..asked.len()).rev() {
            if !out(self, (place, &asked[place])) {
                continue;
            }
            asked.remove(place);
            let kept = self.kept.remove(place);
            kept.tables.iter().for_each(|table| self.toml.remove(&format!("listeners.{table}")));
            let group = kept.at.map(|at| &self.conf.listeners[at]);
            for at in group.into_iter().flat_map(|group| self.conf.each(group)) {
                self.draft.overrule(at, Fate::Unsupported, format!("the listener is left out: {why}"));
            }
        }
    }

    /// A file of mosquitto's that is used as it is; Nightjar has one for all listeners. Whether there is any.
    fn file(&mut self, options: Vec<usize>, table: &str, key: &str) -> bool {
        let mut used: Option<PathBuf> = None;
        for at in options {
            let path = self.file_path(at);
            if used.is_none() {
                self.path(table, key, &path);
                used = Some(path.clone());
            }
            if used.as_ref() == Some(&path) {
                let text = format!("{table}.{key} = {:?}: the file is read as it is", path.display().to_string());
                self.draft.overrule(at, Fate::Honoured, text);
            } else {
                self.unsupported(at, format!("there is one {table}.{key} for all listeners: join the files"));
            }
        }
        used.is_some()
    }

    fn plugin_notes(&mut self) {
        let is = |name: &str| self.conf.options.iter().any(|option| is_plugin(option, name));
        let (dynamic, persist) = (is("dynamic_security"), is("persist"));
        if dynamic {
            self.draft.note(
                "users, groups and roles of mosquitto's dynamic security are in its own file and are not carried over: \
                 make users by `nightjar passwd` and rules as docs/access-rules.md tells",
            );
        }
        if persist {
            self.draft.note("sessions and messages that a persistence plugin keeps are not read: only mosquitto.db is");
        }
    }
}

/// Whether the option loads a plugin with `name` in its own.
fn is_plugin(option: &Opt, name: &str) -> bool {
    matches!(option.known.means, "plugin" | "plugin_load")
        && option.text().rsplit('/').next().is_some_and(|file| file.contains(name))
}

/// Whether the option loads a plugin that may decide about access: all may but three of mosquitto's own, two of which
/// read files that Nightjar reads as well.
fn may_decide(option: &Opt) -> bool {
    let harmless = ["mosquitto_password_file.so", "mosquitto_acl_file.so", "mosquitto_persist_sqlite.so"];
    let file = option.text().rsplit('/').next().unwrap_or_default();
    matches!(option.known.means, "plugin" | "plugin_load") && !harmless.contains(&file)
}
