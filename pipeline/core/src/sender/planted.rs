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
