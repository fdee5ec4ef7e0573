//! Trouble: what is done to the world while it lasts.

use super::World;
use super::network::Link;
use crate::agenda::WORLD;
use crate::history::Event;
use std::rc::Rc;

/// Kinds of faults.
#[derive(Clone, Copy)]
enum Fault {
    Crash,
    Power,
    Partition,
    OneWay,
    Slow,
    Cut,
}

impl World {
    /// Does harm until peace comes, and heals everything then.
    pub(crate) async fn trouble(self: Rc<Self>) {
        let mood = &self.mood;
        self.agenda.sleep(mood.trouble).await;
        self.ways.loss.set(mood.loss);
        self.ways.twice.set(mood.twice);
        while self.agenda.now() + 50 < mood.peace {
            let pause = self.agenda.between(20, mood.pause).min(mood.peace - 50 - self.agenda.now());
            self.agenda.sleep(pause).await;
            self.harm(self.any_fault());
        }
        self.ways.heal();
        (0..self.disks.len()).for_each(|node| self.start(node));
    }

    fn any_fault(&self) -> Fault {
        let mood = &self.mood;
        let kinds = [
            (mood.crashes, Fault::Crash),
            (mood.power, Fault::Power),
            (mood.partitions, Fault::Partition),
            (mood.one_way, Fault::OneWay),
            (mood.slow, Fault::Slow),
            (mood.cuts, Fault::Cut),
        ];
        let mut left = self.agenda.between(1, kinds.iter().map(|(share, _)| share).sum());
        for (share, fault) in kinds {
            if left <= share {
                return fault;
            }
            left -= share;
        }
        Fault::Cut
    }

    fn harm(self: &Rc<Self>, fault: Fault) {
        let node = self.victim();
        match fault {
            Fault::Crash => self.crash_and_restart(node),
            Fault::Power => (0..self.disks.len()).for_each(|node| self.crash_and_restart(node)),
            Fault::Partition => self.isolate(node, true, true),
            Fault::OneWay => {
                let is_deaf = self.agenda.chance(500);
                self.isolate(node, is_deaf, !is_deaf);
            }
            Fault::Slow => self.slow_down(node),
            Fault::Cut => self.cut_clients(),
        }
    }

    /// Often one that leads something.
    fn victim(&self) -> usize {
        let leads = |node: &usize| {
            let group = self.agenda.place(usize::from(self.shards) + 1);
            self.process(*node).is_some_and(|process| process.leads(group))
        };
        let any = self.agenda.place(self.disks.len());
        let leader = (0..self.disks.len()).find(leads);
        leader.filter(|_| self.agenda.chance(500)).unwrap_or(any)
    }

    fn crash_and_restart(self: &Rc<Self>, node: usize) {
        let left = self.agenda.between(0, 1_000);
        // Most of the time a crash leaves nothing of what was not synced.
        let left = if self.agenda.chance(600) { 0 } else { left };
        self.crash(node, left);
        let (world, away) = (Rc::clone(self), self.agenda.between(20, 3_000));
        self.agenda.after(away, move || world.start(node));
    }

    /// Nothing comes to a node, or from it, or both; from all the others or from one.
    fn isolate(self: &Rc<Self>, node: usize, to: bool, from: bool) {
        let only = self.agenda.chance(300).then(|| self.agenda.place(self.disks.len()));
        let others: Vec<usize> =
            (0..self.disks.len()).filter(|&other| other != node && only.is_none_or(|only| only == other)).collect();
        self.note(Event::Fault(format!("node {node} from {others:?} (to it {to}, from it {from})")));
        let set = move |world: &Self, is_blocked| {
            for &other in &others {
                if to {
                    world.ways.block(other, node, is_blocked);
                }
                if from {
                    world.ways.block(node, other, is_blocked);
                }
            }
        };
        set(self, true);
        let (world, time) = (Rc::clone(self), self.agenda.between(200, 5_000));
        self.agenda.after(time, move || set(&world, false));
    }

    fn slow_down(self: &Rc<Self>, node: usize) {
        let by = self.agenda.between(50, 900);
        self.note(Event::Fault(format!("node {node} is slow by {by}")));
        let set = move |world: &Self, by| {
            for other in (0..world.disks.len()).filter(|&other| other != node) {
                world.ways.slow(node, other, by);
                world.ways.slow(other, node, by / 2);
            }
        };
        set(self, by);
        let (world, time) = (Rc::clone(self), self.agenda.between(200, 3_000));
        self.agenda.after(time, move || set(&world, 0));
    }

    /// Some connections of clients break; either end may not notice.
    fn cut_clients(self: &Rc<Self>) {
        let links: Vec<Rc<Link>> = {
            let mut open = self.open_links.borrow_mut();
            open.retain(|_, link| link.is_open() || link.is_open_for_node());
            open.values().cloned().collect()
        };
        for link in links {
            if self.agenda.chance(400) {
                let (client, node) = (self.agenda.chance(600), self.agenda.chance(600));
                let (world, delay) = (Rc::clone(self), self.agenda.between(0, 10));
                self.agenda.spawn(WORLD, async move {
                    world.agenda.sleep(delay).await;
                    world.cut(&link, client, node);
                });
            }
        }
    }
}
