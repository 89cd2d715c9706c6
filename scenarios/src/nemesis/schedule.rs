//! A run's faults and operations, decided before it starts.

use crate::file::{Action, Scenario, Step, Trigger};
use serde::Serialize;

/// What happens in a run, and when: data, so that it can be stored, shrunk and replayed.
///
/// No target in it is drawn any more ([`crate::file::Target::is_drawn`]); roles are still roles.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Schedule {
    /// Those at a time first, by time; then those that wait for a predicate, in the order of the file.
    pub steps: Vec<ScheduledStep>,
}

/// One thing that will happen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScheduledStep {
    /// When.
    #[serde(flatten)]
    pub trigger: Trigger,
    /// What.
    #[serde(flatten)]
    pub action: Action,
    /// Whether a run in which it never fired, or had no effect, is inconclusive.
    pub required: bool,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a scheduled step comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The `[[step]]` of this number, from 0.
    Step {
        /// Its place in the file.
        index: usize,
    },
    /// A draw of the `[[nemesis]]` of this number.
    Nemesis {
        /// The rule's place in the file, from 0.
        index: usize,
        /// Which of its draws, from 0.
        draw: usize,
    },
}

impl Schedule {
    /// The scenario in which everything drawn is written down: no nemesis, the steps of this schedule. It runs the same,
    /// whatever the seed draws for a nemesis.
    #[must_use]
    pub fn written_into(&self, scenario: &Scenario) -> Scenario {
        let steps = self.steps.iter().map(|step| Step {
            trigger: step.trigger.clone(),
            action: step.action.clone(),
            required: step.required,
        });
        Scenario { steps: steps.collect(), nemesis: Vec::new(), ..scenario.clone() }
    }
}
