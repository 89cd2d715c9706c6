//! Historic bugs of Kafka, planted on purpose: the executable form of the comments that tell their races.
//!
//! A planted bug is the two- or three-line wrong branch beside the right one, behind `if planted(Bug::...)`. Outside
//! feature `planted-bugs` the question is a constant `false` and the branch is not compiled in. With the feature, a run
//! chooses one bug, on the thread that the run has to itself. Nothing but the command line may turn the feature on, and
//! the `broker` binary refuses to be built with it.

/// A bug that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Bug {
    /// A follower of a new leader epoch cuts its log to its own high watermark (KIP-101).
    R01,
    /// Metadata records count as committed before they are on disk (KAFKA-10533).
    K02,
    /// The leader acknowledges acks=all when it has appended, before anybody else has the record.
    Z01,
    /// Consumers are served up to the log's end, past the high watermark.
    Z02,
    /// A follower appends whatever answer comes, without asking whether it continues its log.
    Z08,
}

impl Bug {
    /// Every bug, in the order of their names.
    pub const ALL: [Bug; 5] = [Bug::K02, Bug::R01, Bug::Z01, Bug::Z02, Bug::Z08];

    /// Its name: `R01`.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Bug::R01 => "R01",
            Bug::K02 => "K02",
            Bug::Z01 => "Z01",
            Bug::Z02 => "Z02",
            Bug::Z08 => "Z08",
        }
    }

    /// The bug of that name, in upper or lower case.
    #[must_use]
    pub fn named(id: &str) -> Option<Bug> {
        Bug::ALL.into_iter().find(|bug| bug.id().eq_ignore_ascii_case(id))
    }
}

/// Whether this build has bugs in it.
pub const BUILT_IN: bool = cfg!(feature = "planted-bugs");

/// Whether this run goes wrong here. Never, in a build that ships.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
std::thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether this run goes wrong here: its thread was told so by [`plant`].
#[cfg(feature = "planted-bugs")]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Plants `bug`, and no other, for all that runs on this thread from now on.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_is_found_by_its_name() {
        for bug in Bug::ALL {
            assert_eq!(Bug::named(&bug.id().to_lowercase()), Some(bug));
        }
        assert_eq!(Bug::named("R1"), None);
    }

    #[test]
    #[cfg(feature = "planted-bugs")]
    fn a_thread_has_the_bug_that_was_planted_on_it_and_no_other() {
        assert!(!planted(Bug::R01));
        plant(Some(Bug::R01));
        assert!(planted(Bug::R01) && !planted(Bug::K02));
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(!planted(Bug::R01)));
        });
    }
}
