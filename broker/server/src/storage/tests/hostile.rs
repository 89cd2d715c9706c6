//! A bounded, deterministic run of the fuzz targets. 30,000 inputs; `HOSTILE_ROUNDS` asks for more.

use super::*;
use crate::storage::fuzz;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

#[expect(clippy::disallowed_methods, reason = "a test is told how long to go on")]
fn rounds() -> u64 {
    std::env::var("HOSTILE_ROUNDS").map_or(30_000, |rounds| rounds.parse().expect("a count"))
}

fn mutate(bytes: &mut Vec<u8>, below: &mut impl FnMut(usize) -> usize) {
    if bytes.is_empty() {
        return;
    }
    let at = below(bytes.len());
    let end = (at + 1 + below(16)).min(bytes.len());
    match below(5) {
        0 => bytes[at] ^= 1 << below(8),
        1 => bytes[at] = below(256) as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let stretch = bytes[at..end].to_vec();
            bytes.splice(at..at, stretch);
        }
        _ => {
            let value = [0x00, 0x01, 0x7f, 0x80, 0xff][below(5)];
            bytes[at..end].fill(value);
        }
    }
}

fn chance(seed: u64) -> impl FnMut(usize) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    move |limit| (rng.next_u64() % limit as u64) as usize
}

/// The files of a good log of several segments, as the target takes them: the first and the last segment's.
fn good_log() -> Vec<Vec<u8>> {
    let env = MemEnv::new();
    let (mut log, _) = open(&env, small(), OpenLog::default());
    append(&mut log, &(0..8).map(|n| batch(2 * n, 2, n as i32 / 4, 1000 + n, 120)).collect::<Vec<_>>());
    let bases: Vec<_> = log.segments().iter().map(|segment| segment.base).collect();
    assert!(bases.len() > 1);
    now(log.close()).unwrap();
    let suffixes = ["log", "index", "timeindex"];
    let names = bases[..2].iter().flat_map(|base| suffixes.map(|suffix| format!("{DIR}/{:020}.{suffix}", base.0)));
    let mut files: Vec<_> = names.map(|name| content(&env, &name).to_vec()).collect();
    files.push(vec![u8::try_from(bases[1].0).unwrap()]);
    files
}

fn input(how: [u8; 3], files: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = how.to_vec();
    for file in files {
        bytes.extend_from_slice(&u16::try_from(file.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(file);
    }
    bytes
}

#[test]
fn a_log_of_any_bytes_opens_and_works_or_is_corrupt() {
    let mut files = good_log();
    let second = files.pop().unwrap()[0];
    for clean in [0, 4] {
        fuzz::fuzz_log(&input([1 | clean, second, second], &files));
    }
    let mut below = chance(0x6c6f_6721);
    for round in 0..rounds() {
        let how = if round % 2 == 0 { 1 | (below(2) as u8) << 2 } else { below(32) as u8 };
        let point = [second, below(256) as u8, 0][below(3)];
        let base = if below(8) == 0 { below(256) as u8 } else { second };
        let mut damaged = files.clone();
        for _ in 0..=below(4) {
            let which = below(damaged.len());
            mutate(&mut damaged[which], &mut below);
        }
        fuzz::fuzz_log(&input([how, point, base], &damaged));
    }
    println!("inputs: {{\"log\": {}}}", rounds());
}

#[test]
fn small_files_of_any_bytes_are_read_or_corrupt() {
    let seeds: [&[u8]; 8] = [
        b"0\n2\norders 0 12\norders 1 34\n",
        b"0\n2\n1 0\n3 50\n",
        b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAg",
        b"#\nversion=1\nnode.id=1\ncluster.id=abcdefghijklmnopqrstuv\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAg\n",
        br#"{"version":0,"brokerEpoch":12}"#,
        br#"{"clusterId":"","leaderId":1,"leaderEpoch":4,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1}],"data_version":0}"#,
        b"\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01",
        b"",
    ];
    let snapshot = {
        use crate::storage::producer_snapshot::{ProducerSnapshotEntry, encode};
        let entry = ProducerSnapshotEntry {
            producer_id: broker_types::ProducerId(3),
            producer_epoch: broker_types::ProducerEpoch(1),
            last_sequence: Some(9),
            last_offset: Some(Offset(77)),
            offset_delta: 1,
            timestamp: 1000,
            coordinator_epoch: -1,
            current_txn_first_offset: None,
        };
        encode(&[entry, entry]).to_vec()
    };
    let mut seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    seeds.push(snapshot);
    let mut below = chance(0x736d_616c_6c21);
    for seed in &seeds {
        fuzz::fuzz_small_files(seed);
    }
    for _ in 0..rounds() {
        let mut bytes = seeds[below(seeds.len())].clone();
        for _ in 0..=below(4) {
            if below(3) == 0 {
                // Letters and signs that these files are made of, at any place.
                let at = below(bytes.len() + 1);
                bytes.insert(at, b"0123456789-= \n:{}[],\"\\"[below(21)]);
            } else {
                mutate(&mut bytes, &mut below);
            }
        }
        fuzz::fuzz_small_files(&bytes);
    }
    println!("inputs: {{\"small_files\": {}}}", rounds());
}
