//! The places a search has visited.

use super::{Budget, State};

/// Most words the memory of one search may take: 512 MB.
const MOST_WORDS: usize = 1 << 26;

const NONE: u32 = u32::MAX;

/// By position, state and the set of those that return; for each of them the sets of those that never return.
pub(super) struct Memo {
    closed_words: usize,
    endless_words: usize,
    /// Open addressing; each an index into `heads`.
    table: Vec<u32>,
    /// Position, state, set: `2 + closed_words` words each.
    keys: Vec<u64>,
    /// The first of a key's sets.
    heads: Vec<u32>,
    /// `endless_words` words each.
    sets: Vec<u64>,
    /// The next set of the same key.
    nexts: Vec<u32>,
}

impl Memo {
    pub(super) fn new(closed_words: usize, endless_words: usize) -> Self {
        Memo {
            closed_words,
            endless_words,
            table: vec![NONE; 64],
            keys: Vec::new(),
            heads: Vec::new(),
            sets: Vec::new(),
            nexts: Vec::new(),
        }
    }

    fn words(&self) -> usize {
        self.keys.len() + self.sets.len() + (self.heads.len() + self.nexts.len() + self.table.len()) / 2
    }

    /// Notes a place. `Some(false)` if it, or one that is as good, was noted before; `None` when there is no room, or the
    /// budget ran out.
    pub(super) fn insert(&mut self, position: usize, state: State, sets: &[u64], budget: &mut Budget) -> Option<bool> {
        let (closed, endless) = sets.split_at(self.closed_words);
        let stride = 2 + self.closed_words;
        let mut place = hash(position as u64, state, closed) as usize & (self.table.len() - 1);
        let key = loop {
            match self.table[place] {
                NONE => break None,
                found => {
                    let key = &self.keys[found as usize * stride..][..stride];
                    if key[0] == position as u64 && key[1] == state && key[2..] == *closed {
                        break Some(found as usize);
                    }
                }
            }
            place = (place + 1) & (self.table.len() - 1);
        };
        let Some(key) = key else {
            self.table[place] = u32::try_from(self.heads.len()).ok()?;
            self.keys.extend([position as u64, state]);
            self.keys.extend_from_slice(closed);
            self.heads.push(u32::try_from(self.nexts.len()).ok()?);
            self.push_set(endless, NONE);
            if self.heads.len() * 2 > self.table.len() {
                self.grow();
            }
            return (self.words() <= MOST_WORDS).then_some(true);
        };
        let mut at = self.heads[key];
        let head = at;
        while at != NONE {
            if !budget.spend(1) {
                return None;
            }
            let from = at as usize * self.endless_words;
            let noted = &mut self.sets[from..from + self.endless_words];
            if noted.iter().zip(endless).all(|(noted, new)| noted & !new == 0) {
                return Some(false);
            }
            if noted.iter().zip(endless).all(|(noted, new)| new & !noted == 0) {
                noted.copy_from_slice(endless);
                return Some(true);
            }
            at = self.nexts[at as usize];
        }
        self.heads[key] = u32::try_from(self.nexts.len()).ok()?;
        self.push_set(endless, head);
        (self.words() <= MOST_WORDS).then_some(true)
    }

    fn push_set(&mut self, set: &[u64], next: u32) {
        self.sets.extend_from_slice(set);
        self.nexts.push(next);
    }

    fn grow(&mut self) {
        let stride = 2 + self.closed_words;
        self.table = vec![NONE; self.table.len() * 4];
        for (at, key) in (0..).zip(self.keys.chunks_exact(stride)) {
            let mut place = hash(key[0], key[1], &key[2..]) as usize & (self.table.len() - 1);
            while self.table[place] != NONE {
                place = (place + 1) & (self.table.len() - 1);
            }
            self.table[place] = at;
        }
    }
}

fn hash(position: u64, state: State, set: &[u64]) -> u64 {
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * 0x9e37_79b9_7f4a_7c15;
        (product >> 64) as u64 ^ product as u64
    };
    set.iter().fold(mix(mix(0x243f_6a88_85a3_08d3, position), state), |hash, word| mix(hash, *word))
}
