//! Faults that are put into the world on purpose: what the checker must find.

/// One of them. Each is a line or two in the world's own glue, at the place where the program does it right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A node says that it has an entry before its journal has synced it.
    AcknowledgeBeforeSync,
    /// A connection that is over detaches the session whoever has it by then.
    SkipEpochCheck,
    /// SUBACK goes without waiting until the other nodes route to the subscription.
    RouteAfterSuback,
    /// A node acknowledges without a lease.
    ForgetLease,
    /// A QoS 2 publication is not known again by the shards that have it.
    ForgetOrigin,
    /// A message that is sent again to a client gets another packet identifier.
    NewPacketId,
    /// What the connection that is taken over had been sent counts as received.
    DropAtTakeover,
    /// A batch that comes again is applied again.
    ApplyBatchTwice,
    /// CONNACK says what this node knows, before the attachment is applied.
    PresentBeforeDurable,
    /// PUBREL goes before it is durable that the client has the message.
    PubrelBeforeDurable,
    /// PUBACK and PUBREC go before the message is in the queues.
    PubackBeforeDurable,
    /// The connection that a client has at another node is not ended before CONNACK.
    ForgetEviction,
    /// A leader answers without asking a majority whether it still leads.
    StaleLeader,
    /// A will that is published again, by whoever leads its shard next, is not known again.
    ForgetWillOrigin,
    /// A new node's run does not end what was attached to the one before.
    ForgetDeadHomes,
    /// A connection that ends detaches its session before all that it did is applied.
    DetachTooSoon,
    /// A client that comes back to its node at once finds its session before the end of the old connection is applied.
    ForgetOldConnection,
    /// Whether a will without a delay is due is asked of the clock of another node than the one that has set it.
    AskClockForWill,
    /// The origins of a session that has ended are forgotten while others may be publishing its will.
    ForgetOriginsAtOnce,
    /// When a node takes over the state of a shard, routes to what was being subscribed just then stay behind.
    LeaveRoutesBehind,
    /// A process that goes on as another takes routes for known that it told before the cluster knew of it.
    TellRoutesOfUnknownHome,
}

impl Bug {
    /// Those that the checker is shown to find.
    pub const ALL: [Self; 17] = [
        Self::AcknowledgeBeforeSync,
        Self::SkipEpochCheck,
        Self::RouteAfterSuback,
        Self::ForgetLease,
        Self::ForgetOrigin,
        Self::NewPacketId,
        Self::DropAtTakeover,
        Self::ApplyBatchTwice,
        Self::PresentBeforeDurable,
        Self::PubrelBeforeDurable,
        Self::PubackBeforeDurable,
        Self::ForgetEviction,
        Self::StaleLeader,
        Self::ForgetWillOrigin,
        Self::ForgetDeadHomes,
        Self::DetachTooSoon,
        Self::ForgetOriginsAtOnce,
    ];

    /// Those that the checker does not find in a thousand worlds: what they break is excused, or too rare.
    pub const RARE: [Self; 4] =
        [Self::ForgetOldConnection, Self::AskClockForWill, Self::LeaveRoutesBehind, Self::TellRoutesOfUnknownHome];
}
