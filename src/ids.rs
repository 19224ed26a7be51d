//! Newtypes for numbers that must not be mixed: a revision is not an index, a term is not a member.
//!
//! Arithmetic goes through named methods, so that each place says which boundary it moves.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A position in the raft log. The first entry has index 1; 0 means "before the log".
    Index(u64)
}
number! {
    /// A raft term. 0 means that no election was ever held.
    Term(u64)
}
number! {
    /// The main number of a revision: one for each applied request that changed a key. A fresh store stands at 1,
    /// as etcd's does, so its first put gets 2.
    Revision(i64)
}
number! {
    /// A page of the tree: its slot in the page directory, and later its place in the checkpoint file. 0 is no page.
    PageId(u64)
}

/// A member of the cluster, printed as etcd prints it: hexadecimal, without leading zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// The cluster, printed as etcd prints it: hexadecimal, without leading zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

/// A lease, printed as etcd prints it: hexadecimal. Any number but 0, which means "no lease"; clients may choose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}
