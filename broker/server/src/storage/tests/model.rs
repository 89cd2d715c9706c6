//! A log against a list of batches, with crashes.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// Batches of so many records and bytes, some after a gap, as compaction leaves them.
    Append(Vec<(i32, usize, i64)>),
    /// Cut at this part of the log, in thousandths.
    Truncate(i64),
    /// Start anew beyond the end.
    StartAnew(i64),
    Flush,
    /// Move the start and delete what lies below.
    Delete(i64),
    Read {
        from: i64,
        up_to: i64,
        max_bytes: usize,
        min_one: bool,
    },
    CleanRestart,
    Crash,
    /// Each file keeps this part of what it grew by, in thousandths.
    PowerLoss(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let batch = (1..4i32, 1..400usize, prop::sample::select(&[0i64, 0, 0, 0, 0, 3][..]));
    prop_oneof![
        8 => prop::collection::vec(batch, 1..8).prop_map(Step::Append),
        3 => (0..1100i64).prop_map(Step::Truncate),
        1 => (0..50i64).prop_map(Step::StartAnew),
        2 => Just(Step::Flush),
        1 => (0..1000i64).prop_map(Step::Delete),
        6 => (0..1000i64, 0..1100i64, 0..3000usize, any::<bool>())
            .prop_map(|(from, up_to, max_bytes, min_one)| Step::Read { from, up_to, max_bytes, min_one }),
        1 => Just(Step::CleanRestart),
        2 => Just(Step::Crash),
        2 => (0..1001usize).prop_map(Step::PowerLoss),
    ]
}

struct Model {
    env: Arc<MemEnv>,
    log: Log,
    /// What the log holds, from its first segment on.
    batches: Vec<RecordBatch>,
    start: i64,
    end: i64,
    epoch: i32,
    /// As checkpointed at every flush and every cut.
    recovery_point: Offset,
}

impl Model {
    fn new() -> Self {
        let env = MemEnv::new();
        let (log, _) = open(&env, small(), OpenLog::default());
        Model { env, log, batches: Vec::new(), start: 0, end: 0, epoch: 0, recovery_point: Offset(0) }
    }

    /// An offset of the log, from thousandths.
    fn at(&self, part: i64) -> i64 {
        self.start + (self.end - self.start) * part / 1000
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(specs) => self.append(specs),
            Step::Truncate(part) => self.truncate(self.at(part)),
            Step::StartAnew(beyond) => {
                let at = self.end + beyond;
                now(self.log.truncate_fully_and_start_at(Offset(at))).unwrap();
                (self.start, self.end) = (at, at);
                self.batches.clear();
                self.recovery_point = self.log.recovery_point();
                self.epoch += 1;
            }
            Step::Flush => {
                now(self.log.flush_now()).unwrap();
                self.recovery_point = self.log.recovery_point();
                assert_eq!(self.recovery_point, Offset(self.end));
            }
            Step::Delete(part) => {
                self.start = self.at(part);
                self.log.advance_log_start(Offset(self.start));
                now(self.log.delete_segments_below_start()).unwrap();
                let first = self.log.segments()[0].base;
                self.batches.retain(|batch| batch.header().base() >= first);
            }
            Step::Read { from, up_to, max_bytes, min_one } => {
                self.read(self.at(from), self.at(up_to), max_bytes, min_one);
            }
            Step::CleanRestart => self.restart_clean(),
            Step::Crash => self.restart(|_| usize::MAX, false),
            Step::PowerLoss(part) => self.restart(|unsynced| unsynced * part / 1000, true),
        }
        self.check();
    }

    fn append(&mut self, specs: Vec<(i32, usize, i64)>) {
        let mut batches = Vec::new();
        for (records, bytes, gap) in specs {
            let base = self.end + gap;
            batches.push(batch(base, records, self.epoch, 1000 + base, bytes));
            self.end = base + i64::from(records);
        }
        append(&mut self.log, &batches);
        self.batches.extend(batches);
    }

    fn truncate(&mut self, to: i64) {
        let cut = now(self.log.truncate_to(Offset(to))).unwrap();
        assert_eq!(cut.is_some(), to < self.end);
        if let Some(cut) = cut {
            assert_eq!(cut.from, Offset(self.end));
            self.batches.retain(|batch| batch.header().end_offset().0 <= to);
            assert!(cut.to <= Offset(to));
            assert!(cut.to.0 >= self.batches.last().map_or(0, |batch| batch.header().end_offset().0));
            self.end = cut.to.0;
            self.start = self.start.min(self.end);
            self.recovery_point = self.log.recovery_point();
            assert!(self.recovery_point <= cut.to);
            self.epoch += 1;
        }
    }

    fn read(&self, from: i64, up_to: i64, max_bytes: usize, min_one: bool) {
        let all: Vec<&RecordBatch> = self
            .batches
            .iter()
            .filter(|batch| batch.header().end_offset().0 > from && batch.header().end_offset().0 <= up_to)
            .collect();
        let mut expected: Vec<u8> = all.iter().flat_map(|batch| batch.bytes().to_vec()).collect();
        let first = all.first().map_or(0, |batch| batch.size());
        match (first > max_bytes, min_one) {
            (true, true) => expected.truncate(first),
            (true, false) => expected.clear(),
            (false, _) => expected.truncate(max_bytes),
        }
        assert_eq!(read_at_most(&self.log, from, up_to, max_bytes, min_one), expected, "{from} to {up_to}");
    }

    fn opening(&self, clean_shutdown: bool) -> OpenLog {
        OpenLog { recovery_point: self.recovery_point, log_start: Offset(self.start), clean_shutdown }
    }

    fn restart_clean(&mut self) {
        // Closing takes the log; a fresh one on another disk stands in for a moment.
        let (other, _) = open(&MemEnv::new(), small(), OpenLog::default());
        let end = self.log.log_end();
        self.recovery_point = now(std::mem::replace(&mut self.log, other).close()).unwrap();
        assert_eq!(self.recovery_point, end);
        self.env.power_loss(|_| 0);
        let (log, loaded) = open(&self.env, small(), self.opening(true));
        assert_eq!((loaded.truncated_bytes, loaded.recovered_from), (0, None));
        self.log = log;
        assert_eq!(loaded.log_end, end);
    }

    fn restart(&mut self, torn: impl FnMut(usize) -> usize, power: bool) {
        if power {
            self.env.power_loss(torn);
        }
        let synced = self.recovery_point.0;
        let (log, loaded) = open(&self.env, small(), self.opening(false));
        self.log = log;
        let last = self.batches.last().map_or(0, |batch| batch.header().end_offset().0);
        if !power {
            assert!(loaded.log_end.0 >= last, "a crash of the process loses nothing");
        }
        self.batches.retain(|batch| batch.header().end_offset() <= loaded.log_end);
        assert!(loaded.log_end.0 >= synced, "all that was synced is there");
        self.end = loaded.log_end.0;
        self.epoch += 1;
    }

    /// The log is the list.
    fn check(&self) {
        assert_eq!(self.log.log_end(), Offset(self.end));
        assert_eq!(self.log.log_start(), Offset(self.start));
        assert!(self.log.recovery_point() <= Offset(self.end));
        let kept: Vec<RecordBatch> =
            self.batches.iter().filter(|batch| batch.header().end_offset().0 > self.start).cloned().collect();
        assert_eq!(read(&self.log, self.start, self.end), bytes_of(&kept));
        let segments = self.log.segments();
        assert!(segments.windows(2).all(|pair| pair[0].base < pair[1].base && pair[0].size > 0), "{segments:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_the_list_of_its_batches(steps in prop::collection::vec(step(), 1..40)) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
    }
}
