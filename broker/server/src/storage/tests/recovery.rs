use super::*;
use broker_env::{Env, OpenMode};
use std::collections::BTreeMap;

fn some() -> Vec<RecordBatch> {
    (0..20).map(|number| batch(2 * number, 2, number as i32 / 8, 1000 + number, 120)).collect()
}

fn crashed(recovery_point: i64) -> OpenLog {
    OpenLog { recovery_point: Offset(recovery_point), ..OpenLog::default() }
}

fn files(env: &MemEnv) -> BTreeMap<String, Bytes> {
    names(env, DIR).into_iter().map(|name| (name.clone(), content(env, &format!("{DIR}/{name}")))).collect()
}

fn write(env: &MemEnv, name: &str, position: u64, bytes: &[u8]) {
    let file = now(env.disk().open(&Path::new(DIR).join(name), OpenMode::Write)).unwrap();
    now(file.write_at(position, Bytes::copy_from_slice(bytes))).unwrap();
}

fn cut(env: &MemEnv, name: &str, len: u64) {
    let file = now(env.disk().open(&Path::new(DIR).join(name), OpenMode::Write)).unwrap();
    now(file.truncate(len)).unwrap();
}

fn log_name(base: Offset) -> String {
    format!("{:020}.log", base.0)
}

#[test]
fn after_a_crash_of_the_process_everything_is_there_and_read_again() {
    let env = MemEnv::new();
    let (mut log, _) = open(&env, small(), OpenLog::default());
    let batches = some();
    append(&mut log, &batches);
    let segments = log.segments();
    let before = files(&env);
    drop(log);
    let (log, loaded) = open(&env, small(), crashed(0));
    assert_eq!((loaded.log_end, loaded.truncated_bytes, loaded.recovered_from), (Offset(40), 0, Some(Offset(0))));
    assert_eq!(loaded.batches, summaries(&batches));
    assert_eq!(log.recovery_point(), Offset(0), "nothing was synced yet");
    assert_eq!(files(&env), before, "indexes built again are those that were");
    assert_eq!(log.segments(), segments);
    drop(log);

    let third = segments[2].base;
    let (log, loaded) = open(&env, small(), crashed(third.0 + 1));
    assert_eq!(loaded.recovered_from, Some(third), "segments below the recovery point are left alone");
    assert_eq!(loaded.batches[0].base_offset, third);
    assert_eq!(read(&log, 0, 40), bytes_of(&batches));
}

#[test]
fn a_clean_start_reads_no_batch_again() {
    let env = MemEnv::new();
    let (mut log, _) = open(&env, small(), OpenLog::default());
    let batches = some();
    append(&mut log, &batches);
    let segments = log.segments();
    let recovery_point = now(log.close()).unwrap();
    assert_eq!(recovery_point, Offset(40));
    env.power_loss(|_| 0);
    let opening = OpenLog { recovery_point, log_start: Offset(3), clean_shutdown: true };
    let (log, loaded) = open(&env, small(), opening);
    assert_eq!((loaded.recovered_from, loaded.batches.len()), (None, 0));
    assert_eq!((loaded.log_start, loaded.log_end, log.recovery_point()), (Offset(3), Offset(40), Offset(40)));
    assert_eq!(log.segments(), segments);
    assert_eq!(read(&log, 4, 40), bytes_of(&batches[2..]));
}

#[test]
fn a_torn_tail_is_cut_wherever_it_tore() {
    let batches: Vec<RecordBatch> = (0..4).map(|number| batch(number, 1, 0, 0, 30)).collect();
    let whole = bytes_of(&batches);
    for len in 0..whole.len() {
        let env = MemEnv::new();
        let (mut log, _) = open(&env, LogConfig::default(), OpenLog::default());
        append(&mut log, &batches);
        drop(log);
        cut(&env, &log_name(Offset(0)), len as u64);
        let (mut log, loaded) = open(&env, LogConfig::default(), crashed(0));
        let kept = len / batches[0].size();
        assert_eq!(loaded.log_end, Offset(kept as i64));
        assert_eq!(loaded.truncated_bytes as usize, len % batches[0].size());
        append(&mut log, &batches[kept..]);
        assert_eq!(read(&log, 0, 4), whole);
    }
}

#[test]
fn bytes_that_rotted_are_cut_with_all_that_follows() {
    let batches: Vec<RecordBatch> = (0..4).map(|number| batch(number, 1, 0, 0, 30)).collect();
    let size = batches[0].size();
    // No CRC covers base offset and leader epoch.
    for position in (0..4 * size).filter(|position| !matches!(position % size, 0..8 | 12..16)) {
        let env = MemEnv::new();
        let (mut log, _) = open(&env, LogConfig::default(), OpenLog::default());
        append(&mut log, &batches);
        drop(log);
        let byte = content(&env, &format!("{DIR}/{}", log_name(Offset(0))))[position];
        write(&env, &log_name(Offset(0)), position as u64, &[byte ^ 0x80]);
        let (_, loaded) = open(&env, LogConfig::default(), crashed(0));
        assert_eq!(loaded.log_end, Offset((position / size) as i64), "at {position}");
    }
}

#[test]
fn offsets_and_epochs_that_go_back_are_cut() {
    for (next, kept) in [(batch(3, 1, 5, 0, 10), 4), (batch(4, 1, 4, 0, 10), 4), (batch(4, 1, 5, 0, 10), 5)] {
        let env = MemEnv::new();
        let (mut log, _) = open(&env, LogConfig::default(), OpenLog::default());
        append(&mut log, &[batch(0, 4, 5, 0, 10)]);
        let size = log.size();
        drop(log);
        write(&env, &log_name(Offset(0)), size, next.bytes());
        let (_, loaded) = open(&env, LogConfig::default(), crashed(0));
        assert_eq!(loaded.log_end, Offset(kept));
    }
}

#[test]
fn a_hole_between_segments_ends_the_log() {
    let env = MemEnv::new();
    let (mut log, _) = open(&env, small(), OpenLog::default());
    let batches = some();
    append(&mut log, &batches);
    let segments = log.segments();
    drop(log);
    // The end of the second segment never reached the disk; those after it did.
    cut(&env, &log_name(segments[1].base), batches[0].size() as u64);
    let (log, loaded) = open(&env, small(), crashed(0));
    assert_eq!(loaded.log_end, segments[1].base + 2);
    assert_eq!(log.segments().len(), 2);
    let gone: u64 = segments[2..].iter().map(|segment| segment.size).sum();
    assert_eq!(loaded.truncated_bytes, gone);
    drop(log);
    let (_, loaded) = open(&env, small(), crashed(0));
    assert_eq!((loaded.log_end, loaded.truncated_bytes), (segments[1].base + 2, 0));
}

#[test]
fn broken_bytes_that_were_synced_fail_the_start_where_cutting_would_lose_more() {
    let env = MemEnv::new();
    let (mut log, _) = open(&env, small(), OpenLog::default());
    append(&mut log, &some());
    let segments = log.segments();
    now(log.close()).unwrap();
    write(&env, &log_name(segments[1].base), 70, &[0xff; 8]);
    // The index is gone too, so that the segment has to be read.
    cut(&env, &format!("{:020}.index", segments[1].base.0), 3);
    for clean_shutdown in [true, false] {
        let opening = OpenLog { recovery_point: Offset(40), clean_shutdown, ..OpenLog::default() };
        let opened = now(Log::open(env.clone(), Path::new(DIR), small(), opening));
        assert!(matches!(opened, Err(StorageError::Corrupt { .. })), "clean {clean_shutdown}");
    }
}

#[test]
fn an_index_that_makes_no_sense_is_built_again() {
    let env = MemEnv::new();
    let (mut log, _) = open(&env, small(), OpenLog::default());
    let batches = some();
    append(&mut log, &batches);
    let segments = log.segments();
    let recovery_point = now(log.close()).unwrap();
    let before = files(&env);
    for (number, segment) in segments.iter().enumerate() {
        for (suffix, len) in [("index", 5), ("timeindex", 0), ("timeindex", 7)] {
            let name = format!("{:020}.{suffix}", segment.base.0);
            if before[&name].len() > len {
                cut(&env, &name, len as u64);
            }
            let opening = OpenLog { recovery_point, clean_shutdown: true, ..OpenLog::default() };
            let (log, loaded) = open(&env, small(), opening);
            assert_eq!((loaded.log_end, loaded.truncated_bytes), (Offset(40), 0), "{number} {suffix}");
            assert_eq!(log.segments(), segments);
            now(log.close()).unwrap();
            assert_eq!(files(&env), before);
        }
    }
}

#[test]
fn a_flush_survives_the_power_also_in_segments_that_are_new() {
    let env = MemEnv::new();
    let (mut log, _) = open(&env, small(), OpenLog::default());
    let batches = some();
    append(&mut log, &batches[..15]);
    assert!(log.segments().len() > 2);
    now(log.flush_now()).unwrap();
    let synced = log.recovery_point();
    assert_eq!(synced, Offset(30));
    append(&mut log, &batches[15..]);
    drop(log);
    env.power_loss(|_| 0);
    let (log, loaded) = open(&env, small(), crashed(synced.0));
    assert_eq!(loaded.log_end, Offset(30));
    assert_eq!(read(&log, 0, 30), bytes_of(&batches[..15]));
}

#[test]
fn a_roll_just_after_a_flush_does_not_lose_the_largest_timestamp() {
    let env = MemEnv::new();
    let (mut log, _) = open(&env, small(), OpenLog::default());
    append(&mut log, &[batch(0, 1, 0, 1000, 200), batch(1, 1, 0, 1001, 20), batch(2, 1, 0, 2000, 20)]);
    now(log.flush_now()).unwrap();
    let synced = log.recovery_point();
    append(&mut log, &[batch(3, 1, 0, 1500, 900)]);
    assert_eq!(log.segments().len(), 2, "rolled: the first segment's last time index entry is not synced");
    now(log.segments.last().unwrap().files()[0].0.sync_data()).unwrap();
    now(env.disk().sync_dir(Path::new(DIR))).unwrap();
    drop(log);
    env.power_loss(|_| 0);
    let (log, _) = open(&env, small(), crashed(synced.0));
    let found = now(log.offset_for_timestamp(1800, 1 << 20).run()).unwrap();
    assert_eq!(found.map(|found| found.offset), Some(Offset(2)));
}

#[test]
fn leftovers_are_swept_and_other_files_left_alone() {
    let env = MemEnv::new();
    let (mut log, _) = open(&env, small(), OpenLog::default());
    append(&mut log, &[batch(0, 1, 0, 0, 10)]);
    drop(log);
    let left = ["00000000000000000009.index", "00000000000000000000.log.deleted", "leader-epoch-checkpoint.tmp"];
    let kept = ["00000000000000000001.snapshot", "leader-epoch-checkpoint", "partition.metadata"];
    for name in left.iter().chain(&kept) {
        now(env.disk().open(&Path::new(DIR).join(name), OpenMode::CreateNew)).unwrap();
    }
    let _ = open(&env, small(), crashed(0));
    let names = names(&env, DIR);
    assert!(left.iter().all(|name| !names.iter().any(|there| there == name)), "{names:?}");
    assert!(kept.iter().all(|name| names.iter().any(|there| there == name)), "{names:?}");
}

#[test]
fn a_log_shorter_than_its_start_begins_there() {
    let env = MemEnv::new();
    let (mut log, _) = open(&env, small(), OpenLog::default());
    append(&mut log, &[batch(0, 4, 0, 0, 10)]);
    drop(log);
    let opening = OpenLog { log_start: Offset(9), recovery_point: Offset(9), clean_shutdown: false };
    let (log, loaded) = open(&env, small(), opening);
    assert_eq!((loaded.log_start, loaded.log_end, log.recovery_point()), (Offset(9), Offset(9), Offset(9)));
    assert_eq!((log.size(), log.segments().len()), (0, 1));
}
