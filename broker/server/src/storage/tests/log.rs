use super::*;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn fresh(config: LogConfig) -> (Arc<MemEnv>, Log) {
    let env = MemEnv::new();
    let (log, loaded) = open(&env, config, OpenLog::default());
    assert_eq!((loaded.log_start, loaded.log_end, loaded.recovered_from), (Offset(0), Offset(0), None));
    (env, log)
}

/// Thirty batches of one to three records, in segments of some five batches.
fn thirty() -> Vec<RecordBatch> {
    let mut base = 0;
    let mut batches = Vec::new();
    for number in 0..30 {
        let records = 1 + number % 3;
        batches.push(batch(base, records, number / 10, 1000 + base, 100));
        base += i64::from(records);
    }
    batches
}

#[test]
fn futures_can_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let env = MemEnv::new();
    is_send(&Log::open(env.clone(), Path::new(DIR), small(), OpenLog::default()));
    let (mut log, _) = open(&env, small(), OpenLog::default());
    is_send(&log.scan(Offset(0)).next());
    is_send(&log.flush().run());
    is_send(&log.offset_for_timestamp(0, 0).run());
    is_send(&log.read(Offset(0), 0, Offset(0), false).unwrap().found());
    is_send(&log.append(Vec::new()));
    is_send(&log.truncate_to(Offset(0)));
}

#[test]
fn what_was_appended_is_read_back_from_the_tail_and_from_the_cold_end() {
    let (_, mut log) = fresh(small());
    let batches = thirty();
    append(&mut log, &batches);
    assert!(log.segments().len() > 3);
    let whole = bytes_of(&batches);
    assert_eq!(read(&log, 0, 1000), whole);
    for (number, batch) in batches.iter().enumerate() {
        for offset in batch.header().base_offset..batch.header().end_offset().0 {
            assert_eq!(read(&log, offset, 1000), bytes_of(&batches[number..]));
            assert_eq!(read(&log, 0, offset), bytes_of(&batches[..number]), "only whole batches below {offset}");
        }
    }
    // The same with nothing remembered.
    let end = now(log.close()).unwrap();
    let env = MemEnv::new();
    let (mut again, _) = open(&env, small(), OpenLog::default());
    append(&mut again, &batches);
    now(again.flush_now()).unwrap();
    drop(again);
    let opening = OpenLog { recovery_point: end, clean_shutdown: true, ..OpenLog::default() };
    let (again, _) = open(&env, small(), opening);
    for (number, batch) in batches.iter().enumerate() {
        assert_eq!(read(&again, batch.header().base_offset, 1000), bytes_of(&batches[number..]));
        assert_eq!(read(&again, 0, batch.header().base_offset), bytes_of(&batches[..number]));
    }
}

#[test]
fn the_tail_is_found_without_asking_the_disk() {
    let (env, mut log) = fresh(small());
    append(&mut log, &thirty());
    let before = env.faults.reads.load(Ordering::Relaxed);
    for (from, up_to) in [(50, 60), (50, 55), (60, 60), (10, 20)] {
        assert!(matches!(log.read(Offset(from), 500, Offset(up_to), true), Ok(Read::Ready(_))));
    }
    assert_eq!(env.faults.reads.load(Ordering::Relaxed), before);
}

#[test]
fn a_read_keeps_to_its_limits() {
    let (_, mut log) = fresh(small());
    let batches = thirty();
    append(&mut log, &batches);
    let first = batches[0].size();
    assert_eq!(read_at_most(&log, 0, 60, first - 1, false), Bytes::new(), "not even one batch");
    assert_eq!(read_at_most(&log, 0, 60, 1, true), batches[0].bytes(), "one batch in any case");
    assert_eq!(read_at_most(&log, 0, 60, first, false), batches[0].bytes());
    let whole = bytes_of(&batches);
    for max_bytes in (first..whole.len()).step_by(97) {
        assert_eq!(read_at_most(&log, 0, 60, max_bytes, false), whole[..max_bytes]);
    }
    assert_eq!(
        log.read(Offset(61), 1, Offset(61), true).err().map(|error| error.code()),
        Some(broker_types::ErrorCode::OffsetOutOfRange)
    );
    assert!(log.advance_log_start(Offset(7)));
    assert!(log.read(Offset(6), 1, Offset(60), true).is_err());
    assert!(log.read(Offset(7), 1, Offset(60), true).is_ok());
    assert_eq!(read(&log, 60, 60), Bytes::new());
}

#[test]
fn a_segment_rolls_by_size_by_time_by_index_and_by_offset() {
    let (_, mut log) = fresh(LogConfig { segment_bytes: 500, ..LogConfig::default() });
    append(&mut log, &[batch(0, 1, 0, 0, 300), batch(1, 1, 0, 0, 300), batch(2, 1, 0, 0, 3000), batch(3, 1, 0, 0, 1)]);
    let sizes: Vec<(i64, u64)> = log.segments().iter().map(|segment| (segment.base.0, segment.size)).collect();
    assert_eq!(sizes.iter().map(|size| size.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(sizes[2].1 > 3000, "one batch may be larger than a segment");

    let (env, mut log) = fresh(LogConfig { segment_ms: Duration::from_millis(100), ..LogConfig::default() });
    append(&mut log, &[batch(0, 1, 0, 5000, 10)]);
    append(&mut log, &[batch(1, 1, 0, 5100, 10)]);
    env.wall_ms.store(1_000_000, Ordering::Relaxed);
    append(&mut log, &[batch(2, 1, 0, 5100, 10)]);
    assert_eq!(log.segments().len(), 1, "timestamps count, not the clock");
    append(&mut log, &[batch(3, 1, 0, 5101, 10)]);
    append(&mut log, &[batch(4, 1, 0, -1, 10)]);
    assert_eq!(log.segments().len(), 2);
    env.wall_ms.store(1_000_101, Ordering::Relaxed);
    append(&mut log, &[batch(5, 1, 0, -1, 10)]);
    assert_eq!(log.segments().len(), 3, "without a timestamp the clock counts");

    let indexed = LogConfig { segment_index_bytes: 40, index_interval_bytes: 0, ..LogConfig::default() };
    let (_, mut log) = fresh(indexed);
    for offset in 0..12 {
        append(&mut log, &[batch(offset, 1, 0, offset, 10)]);
    }
    assert!(log.segments().len() > 2);

    let (env, mut log) = fresh(LogConfig::default());
    let far = 3 * i64::from(i32::MAX);
    append(&mut log, &[batch(0, 1, 0, 0, 10), batch(far, 1, 0, 0, 10)]);
    assert_eq!(log.segments()[1].base, Offset(far - i64::from(i32::MAX)));
    let (_, mut log) = (env, open(&MemEnv::new(), LogConfig::default(), OpenLog::default()).0);
    append(&mut log, &[batch(far, 1, 0, 0, 10)]);
    assert_eq!(log.segments().len(), 1, "the empty segment does not stay behind");
    assert_eq!(read(&log, 5, far + 1).len() as u64, log.size());
}

#[test]
fn a_failed_append_leaves_the_log_as_it_was() {
    let (env, mut log) = fresh(LogConfig::default());
    append(&mut log, &[batch(0, 2, 0, 0, 100)]);
    for torn in [0, 1, 60, 150] {
        *env.faults.torn_append.lock().unwrap() = Some(torn);
        let failed = now(log.append(vec![split(&batch(2, 2, 0, 0, 100))]));
        assert!(matches!(failed, Err(StorageError::Io { .. })));
        assert_eq!(log.log_end(), Offset(2));
    }
    let next = batch(2, 1, 0, 0, 10);
    append(&mut log, std::slice::from_ref(&next));
    assert_eq!(read(&log, 2, 3), next.bytes());
    assert_eq!(log.size(), content(&env, "/data/orders-0/00000000000000000000.log").len() as u64);
}

#[test]
fn a_log_is_cut_at_a_batch_and_goes_on_from_there() {
    let batches = thirty();
    for cut in 0..60 {
        let (env, mut log) = fresh(small());
        append(&mut log, &batches);
        let kept = batches.iter().filter(|batch| batch.header().end_offset().0 <= cut).count();
        let to = batches[kept].header().base();
        let truncation = now(log.truncate_to(Offset(cut))).unwrap().unwrap();
        assert_eq!(truncation, Truncation { from: Offset(60), to }, "a batch across the cut goes as a whole");
        assert_eq!((log.log_end(), read(&log, 0, 60)), (to, Bytes::from(bytes_of(&batches[..kept]))));
        let other = batch(to.0, 3, 9, 5000, 100);
        append(&mut log, std::slice::from_ref(&other));
        let after = [&batches[..kept], &[other]].concat();
        assert_eq!(read(&log, 0, 100), bytes_of(&after));
        let end = now(log.close()).unwrap();
        let opening = OpenLog { recovery_point: end, clean_shutdown: true, ..OpenLog::default() };
        let (log, loaded) = open(&env, small(), opening);
        assert_eq!((loaded.log_end, loaded.truncated_bytes, loaded.recovered_from), (end, 0, None));
        assert_eq!(read(&log, 0, 100), bytes_of(&after), "cut at {cut}");
    }
    let (_, mut log) = fresh(small());
    append(&mut log, &batches);
    assert_eq!(now(log.truncate_to(Offset(60))).unwrap(), None);
}

#[test]
fn a_log_that_starts_anew_forgets_everything() {
    let (env, mut log) = fresh(small());
    append(&mut log, &thirty());
    now(log.flush_now()).unwrap();
    now(log.truncate_fully_and_start_at(Offset(1000))).unwrap();
    assert_eq!((log.log_start(), log.log_end(), log.recovery_point()), (Offset(1000), Offset(1000), Offset(60)));
    assert_eq!(names(&env, DIR).len(), 3);
    let next = batch(1000, 1, 5, 0, 10);
    append(&mut log, std::slice::from_ref(&next));
    assert_eq!(read(&log, 1000, 1001), next.bytes());

    let truncation = now(log.truncate_to(Offset(400))).unwrap().unwrap();
    assert_eq!(truncation.to, Offset(400), "below the first segment there is nothing to keep");
    assert_eq!((log.log_start(), log.log_end(), log.recovery_point()), (Offset(400), Offset(400), Offset(60)));
}

#[test]
fn segments_below_the_start_go_but_who_reads_them_reads_on() {
    let (env, mut log) = fresh(small());
    let batches = thirty();
    append(&mut log, &batches);
    let slices = now(log.read(Offset(0), usize::MAX, Offset(60), true).unwrap().found()).unwrap();
    let second = log.segments()[1].base;
    assert!(log.advance_log_start(second + -1));
    assert_eq!(now(log.delete_segments_below_start()).unwrap(), 0);
    assert!(log.advance_log_start(Offset(60)));
    assert!(!log.advance_log_start(Offset(3)));
    assert!(now(log.delete_segments_below_start()).unwrap() > 2);
    assert_eq!((log.segments().len(), names(&env, DIR).len()), (1, 3), "the active segment stays");
    assert_eq!(now(read_slices(&slices)).unwrap().concat(), bytes_of(&batches));
}

#[test]
fn the_recovery_point_is_what_a_flush_saw_and_never_beyond_a_cut() {
    let (_, mut log) = fresh(small());
    append(&mut log, &[batch(0, 10, 0, 0, 100)]);
    let flush = log.flush();
    append(&mut log, &[batch(10, 10, 0, 0, 100)]);
    let flushed = now(flush.run()).unwrap();
    log.flushed(flushed);
    assert_eq!(log.recovery_point(), Offset(10));
    now(log.flush_now()).unwrap();
    assert_eq!(log.recovery_point(), Offset(20));

    let flush = log.flush();
    now(log.truncate_to(Offset(10))).unwrap();
    assert_eq!(log.recovery_point(), Offset(10));
    append(&mut log, &[batch(10, 5, 1, 0, 100)]);
    let flushed = now(flush.run()).unwrap();
    log.flushed(flushed);
    assert_eq!(log.recovery_point(), Offset(10), "that flush knew nothing of what came after the cut");
}

#[test]
fn a_search_by_time_finds_the_first_record_that_is_late_enough() {
    let (_, mut log) = fresh(small());
    // Timestamps that go back now and then.
    let stamps: Vec<i64> = (0..60).map(|offset| 1000 + 10 * offset - if offset % 7 == 0 { 45 } else { 0 }).collect();
    let mut batches = Vec::new();
    for (number, stamps) in stamps.chunks(2).enumerate() {
        let codec = if number % 2 == 0 { Compression::None } else { Compression::Lz4 };
        let mut builder = RecordBatchBuilder::new(codec).at(Offset(2 * number as i64), LeaderEpoch(number as i32 / 4));
        for stamp in stamps {
            builder.push(*stamp, None, Some(&[0; 50]), &[]).unwrap();
        }
        batches.push(builder.build().unwrap());
    }
    append(&mut log, &batches);
    assert!(log.segments().len() > 2);
    for target in (900..1700).step_by(3) {
        let found = now(log.offset_for_timestamp(target, 1 << 20).run()).unwrap();
        let naive = stamps.iter().position(|stamp| *stamp >= target);
        assert_eq!(found.map(|found| found.offset.0 as usize), naive, "{target}");
        assert_eq!(found.map(|found| found.timestamp), naive.map(|at| stamps[at]));
        assert_eq!(found.and_then(|found| found.leader_epoch), naive.map(|at| LeaderEpoch(at as i32 / 8)));
    }
    let max = now(log.offset_of_max_timestamp(1 << 20).run()).unwrap().unwrap();
    assert_eq!((max.timestamp, max.offset), (1590, Offset(59)));
    log.advance_log_start(Offset(31));
    let found = now(log.offset_for_timestamp(0, 1 << 20).run()).unwrap().unwrap();
    assert_eq!(found.offset, Offset(31));
}

#[test]
fn a_scan_tells_of_every_batch_from_the_one_that_holds_the_offset() {
    let (_, mut log) = fresh(small());
    let batches = thirty();
    append(&mut log, &batches);
    for from in [0, 1, 17, 33, 59] {
        let mut scan = log.scan(Offset(from));
        let mut seen = Vec::new();
        while let Some(summary) = now(scan.next()).unwrap() {
            seen.push(summary);
        }
        let expected: Vec<RecordBatch> =
            batches.iter().filter(|batch| batch.header().end_offset().0 > from).cloned().collect();
        assert_eq!(seen, summaries(&expected));
    }
}
