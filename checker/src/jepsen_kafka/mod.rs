//! Jepsen's Kafka workload, judged by what clients saw.
//!
//! Rows of the research notes are held against sends and polls that carry offsets where they are known. What Kafka never
//! promised is counted: transactions' writes interleave, so a transaction's sends are not next to each other, and cycles that
//! need the order of writes prove nothing; a consumer that subscribes may lose its partitions between two polls. Polls
//! are taken to be read_committed.
//!
//! After a transaction that did not commit, a consumer may go on where that one ended or where the one before it
//! ended: Kafka's consumer does not go back by itself.

mod checks;
mod logs;
mod operations;
mod order;

use crate::readers::Operations;
use crate::verdict::CheckResult;
use checks::Judge;

#[cfg(test)]
mod tests;

/// Judges a history of `:send`, `:poll`, `:txn`, `:assign` and `:subscribe`. `budget` bounds the search for cycles.
///
/// # Errors
/// The line of the first operation that is none of these, or sends what was sent before.
pub(crate) fn judge(operations: &Operations<'_>, budget: u64) -> Result<Vec<CheckResult>, String> {
    let operations = operations::read(operations)?;
    let logs = logs::Logs::new(&operations);
    let judge = Judge { operations: &operations, logs: &logs };
    let mut results = vec![judge.lost_write(), judge.unseen()];
    results.extend(judge.offsets());
    results.extend(judge.reads());
    results.extend(judge.polls());
    results.extend(judge.sends());
    results.extend(order::check(&judge, budget));
    Ok(results)
}
