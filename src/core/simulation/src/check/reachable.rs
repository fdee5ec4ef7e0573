//! Peace: some time after the last fault every client is let in, and everything is done that has to be.

use super::tale::Tale;
use crate::history::Event;

/// How long it may take until all nodes serve again, and until a client that came in before is heard, in milliseconds.
const RECOVERING: u64 = 12_000;

/// Clients that were not let in, and what was never done.
pub(crate) fn check(tale: &Tale<'_>) -> Vec<String> {
    let (mut calm, mut broken) = (u64::MAX, Vec::new());
    for (at, event) in &tale.history.events {
        match event {
            Event::Calm => calm = *at,
            Event::Refused { client, link } if calm.saturating_add(RECOVERING) < *at => {
                broken.push(format!("client {client} was not let in on connection {link}"));
            }
            Event::Stuck(what) => broken.push(what.clone()),
            _ => {}
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::made_up::judge;
    use super::check;
    use crate::history::Event;

    #[test]
    fn who_comes_in_peace_is_let_in() {
        let refused = Event::Refused { client: 1, link: 1 };
        assert_eq!(judge(check, vec![Event::Calm, refused.clone()]).len(), 0);
        let mut late = vec![Event::Calm; 1];
        late.extend(vec![Event::Answered { client: 1, link: 1 }; 20]);
        late.push(refused);
        assert_eq!(judge(check, late).len(), 1);
        assert_eq!(judge(check, vec![Event::Stuck("a".into())]).len(), 1);
    }
}
