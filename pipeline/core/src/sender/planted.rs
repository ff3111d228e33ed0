//! Faults the simulation plants: each switches one rule of the sender off, so that a law that does not notice is
//! seen to be no law. Without the feature `planted-faults` no rule can be switched off, and the checks cost nothing.

use super::Sender;

macro_rules! faults {
    ($($fault:ident, $name:literal, $what:literal;)*) => {
        /// A rule that is not kept.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Planted {
            $(#[doc = $what] $fault,)*
        }

        impl Planted {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$fault),*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$fault => $name,)* }
            }

            /// What is done wrong.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$fault => $what,)* }
            }
        }
    };
}

faults! {
    SkipReadBack, "skip-read-back", "a call starts before its claim is read back";
    CallBeforeClaim, "call-before-claim", "a call starts before its claim is written";
    IgnoreFence, "ignore-fence", "an owner goes on though it has read a fence above its own";
    SharedStateKey, "shared-state-key", "all epochs write a message's state under one key; the last record counts";
    TatNotRestored, "tat-not-restored", "what the ledger says of used limits is not taken over";
    PairNotRestored, "pair-not-restored", "what the ledger says of a recipient's used limits is not taken over";
    ThrottleNotRestored, "throttle-not-restored", "what the ledger says of a throttled session is not taken over";
    OpenClaimUncounted, "open-claim-uncounted", "a former owner's open claim is not counted against the limits";
    OpenClaimForgotten, "open-claim-forgotten", "a former owner's open claim is taken for unused";
    TombstoneTooEarly, "tombstone-too-early", "what Done makes superfluous is tombstoned before Done is read back";
    ResumeStaleStore, "resume-stale-store", "a store is resumed though tombstones may have gone that it has not met (shell)";
    CommitBeforeReadBack, "commit-before-read-back", "a request is settled when it is appended, not when it is read back";
    EvidenceUsedTwice, "evidence-used-twice", "an echo that has found its message is not remembered as used";
    EvidenceOfAnyClaim, "evidence-of-any-claim", "a status settles a doubt whichever claim of the message it is about";
    ReuseClaimSeq, "reuse-claim-seq", "claims of one epoch all have the same number";
    DecideWhileUnread, "decide-while-unread", "a message is decided on while a record of ours about it is unread";
    DoneBeforeAck, "done-before-ack", "the ledger follows an outcome before the status that tells it is acked";
    DedupeForgotten, "dedupe-forgotten", "finished messages are not remembered in a restore";
    ResendWithoutWait, "resend-without-wait", "a doubt is decided at once, without waiting for evidence";
    UnknownTakenForUnsent, "unknown-taken-for-unsent", "an attempt whose outcome is unknown is made again like one that failed";
    ChatBusyIgnored, "chat-busy-ignored", "a chat's next message does not wait for the one in flight";
    ChatHoldSkipped, "chat-hold-skipped", "a message that waits for its retry does not keep its chat waiting";
    ChatHoldForever, "chat-hold-forever", "a message that waits keeps its chat waiting beyond order_hold_max";
    PositionIgnored, "position-ignored", "after an offset reset requests are taken from the committed offset, not from the ledger's position";
    CancelNotRestored, "cancel-not-restored", "cancels are not taken over in a restore";
    ExpiredClaimUsed, "expired-claim-used", "a call starts under a claim older than claim_ttl";
    RefusalToldEarly, "refusal-told-early", "a refusal is told before its Done stands in the log";
    RetryForever, "retry-forever", "the retry budget never ends";
    HeldBlocksOthers, "held-blocks-others", "a held session makes all of its base URL wait";
    SlotLeaked, "slot-leaked", "a throttled call never gives its slot back";
    GiveBackUnderWay, "give-back-under-way", "a partition is given back while calls are under way";
    RestTooEarly, "rest-too-early", "a session without messages forgets what it has used of its limits and whose echoes may come";
    IntakeUnbounded, "intake-unbounded", "intake is never told to stop";
    LowLaneStarves, "low-lane-starves", "the less urgent lanes have no share of the turns";
    CircuitStuck, "circuit-stuck", "a circuit that has opened is never tried again";
    BrokenKeepsShut, "broken-keeps-shut", "a broken session keeps the circuit of its base URL open";
    SlowingForever, "slowing-forever", "a session that was throttled stays slow";
    BacklogUnbounded, "backlog-unbounded", "a full session refuses nothing";
}

impl Sender {
    /// Switches one rule off.
    #[cfg(feature = "planted-faults")]
    #[must_use]
    pub fn with_planted(mut self, fault: Option<Planted>) -> Self {
        self.planted = fault;
        self
    }

    /// Whether a rule is switched off.
    #[cfg(feature = "planted-faults")]
    pub(super) fn planted(&self, fault: Planted) -> bool {
        self.planted == Some(fault)
    }

    /// Whether a rule is switched off: never.
    #[cfg(not(feature = "planted-faults"))]
    #[allow(clippy::unused_self)]
    pub(super) const fn planted(&self, _: Planted) -> bool {
        false
    }
}
