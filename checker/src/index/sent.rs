//! Operations by the value that they sent.

use crate::history::{Op, OpKind, ValueId};

/// Finds an operation by the value it sent: open addressing over the operations themselves.
///
/// Values are often consecutive, and are asked for in about the order in which they were sent. So sixteen that follow each
/// other share a line of the processor's cache, and only lines are spread.
pub(crate) struct SendTable {
    /// [`EMPTY`], or an operation.
    slots: Vec<u32>,
    /// How far the product of a line's hash is shifted, so that its highest bits are left: as many as there are lines.
    shift: u32,
}

/// No operation.
pub(super) const EMPTY: u32 = u32::MAX;

/// Slots of one line, as a power of two: 64 bytes.
const LINE_BITS: u32 = 4;

impl SendTable {
    /// Space for so many values.
    pub(super) fn new(values: usize) -> Self {
        let size = (values * 2).next_power_of_two().max(2 << LINE_BITS);
        SendTable { slots: vec![EMPTY; size], shift: u64::BITS - (size.trailing_zeros() - LINE_BITS) }
    }

    /// Where `value` is, or else the empty slot where it belongs.
    fn place(&self, ops: &[Op], value: ValueId) -> usize {
        // Fibonacci hashing.
        let line = (value.0 >> LINE_BITS).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift;
        let within = value.0 & ((1 << LINE_BITS) - 1);
        let mut place = (line << LINE_BITS | within) as usize;
        let is_of = |at: u32| matches!(&ops[at as usize].kind, OpKind::Send(send) if send.value == value);
        while self.slots[place] != EMPTY && !is_of(self.slots[place]) {
            place = (place + 1) & (self.slots.len() - 1);
        }
        place
    }

    /// The first operation that sent `value`.
    pub(super) fn find(&self, ops: &[Op], value: ValueId) -> Option<u32> {
        Some(self.slots[self.place(ops, value)]).filter(|at| *at != EMPTY)
    }

    /// One more of the operations that the table has space for.
    pub(super) fn insert(&mut self, ops: &[Op], value: ValueId, op: u32) {
        let place = self.place(ops, value);
        if self.slots[place] == EMPTY {
            self.slots[place] = op;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{OpId, Outcome, SessionId, SimTime};
    use crate::tests::reference::sent;

    fn send(value: u64) -> Op {
        let kind = OpKind::Send(sent(0, ValueId(value)));
        let (id, session, invoked) = (OpId(value), SessionId(0), SimTime(0));
        Op { id, session, invoked, returned: None, outcome: Outcome::Unknown, kind }
    }

    #[test]
    fn every_value_is_found_by_its_first_send_however_values_are_spaced() {
        for (count, step) in
            [(0, 1), (1, 1), (17, 1), (1000, 1), (1000, 16), (1000, 1 << 20), (1000, 1 << 54), (1000, 0)]
        {
            let value = |at: u64| at.wrapping_mul(step).wrapping_add(7);
            let ops: Vec<Op> = (0..count).map(|at| send(value(at))).collect();
            let mut table = SendTable::new(ops.len());
            for at in 0..count {
                table.insert(&ops, ValueId(value(at)), at as u32);
            }
            for at in 0..count {
                let first = if step == 0 { 0 } else { at as u32 };
                assert_eq!(table.find(&ops, ValueId(value(at))), Some(first), "{at} of {count} by {step}");
            }
            assert_eq!(table.find(&ops, ValueId(6)), None);
        }
    }
}
