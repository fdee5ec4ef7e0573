//! What kind of world a seed makes: most faults happen in some worlds only, so that each can go far where it does.

use crate::agenda::Agenda;

/// The kind of a world.
pub(crate) struct Mood {
    pub(crate) nodes: usize,
    pub(crate) shards: u16,
    pub(crate) clients: usize,
    /// When trouble begins, and when it ends.
    pub(crate) trouble: u64,
    pub(crate) peace: u64,
    /// The longest time between two faults.
    pub(crate) pause: u64,
    /// Of a thousand messages between nodes so many are lost, and come twice.
    pub(crate) loss: u64,
    pub(crate) twice: u64,
    /// Milliseconds that they take at most.
    pub(crate) delay: u64,
    /// Milliseconds that a sync is late now and then.
    pub(crate) stall: u64,
    /// How often each kind of fault comes, as shares of their sum.
    pub(crate) crashes: u64,
    pub(crate) power: u64,
    pub(crate) partitions: u64,
    pub(crate) one_way: u64,
    pub(crate) slow: u64,
    pub(crate) cuts: u64,
    /// Of a thousand things that a client does so many are moves.
    pub(crate) moves: u64,
    /// Of a thousand moves so many leave the old connection behind, alive.
    pub(crate) ghosts: u64,
    /// Milliseconds between two things that a client does, at most.
    pub(crate) haste: u64,
}

impl Mood {
    /// One by chance.
    pub(crate) fn by(agenda: &Agenda) -> Self {
        let pick = |of: &[u64]| of[agenda.place(of.len())];
        let trouble = 2_000;
        Self {
            nodes: if agenda.chance(100) { 5 } else { 3 },
            shards: u16::try_from(agenda.between(1, 3)).unwrap_or(1),
            clients: usize::try_from(agenda.between(3, 6)).unwrap_or(3),
            trouble,
            peace: trouble + agenda.between(4_000, 9_000),
            pause: pick(&[300, 1_000, 2_500]),
            loss: pick(&[0, 0, 5, 40]),
            twice: pick(&[0, 10, 100]),
            delay: pick(&[1, 3, 10, 30]),
            stall: pick(&[0, 50, 300]),
            crashes: pick(&[0, 1, 4]),
            power: pick(&[0, 0, 1, 3]),
            partitions: pick(&[0, 1, 4]),
            one_way: pick(&[0, 1, 3]),
            slow: pick(&[0, 1, 3]),
            cuts: pick(&[1, 4, 8]),
            moves: pick(&[10, 60, 150]),
            ghosts: pick(&[0, 200, 600]),
            haste: pick(&[30, 80, 200]),
        }
    }
}
