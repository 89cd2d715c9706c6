//! Files and directories.

use super::harness::Stage;
use broker_env::{Completion, Disk, File, OpenMode};
use bytes::Bytes;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

async fn open(disk: &dyn Disk, path: &Path) -> Arc<dyn File> {
    disk.open(path, OpenMode::Create).await.unwrap()
}

/// Everything in the file.
async fn all(file: &Arc<dyn File>) -> Vec<u8> {
    let len = usize::try_from(file.len()).unwrap();
    file.read_at(0, len + 1).await.unwrap().to_vec()
}

/// The outcome, which must not need waiting for.
fn at_once<T>(completion: Completion<T>) -> io::Result<T> {
    completion.now().unwrap_or_else(|_| panic!("the completion had to be waited for"))
}

async fn refused<T>(completion: Completion<T>) -> ErrorKind
where
    T: Unpin,
{
    match completion.await {
        Ok(_) => panic!("it was allowed"),
        Err(error) => error.kind(),
    }
}

pub async fn an_append_says_where_it_went_and_is_ready_at_once(stage: Stage) {
    let file = open(stage.client.disk(), &stage.client.dir.join("log")).await;
    assert!(file.is_empty());
    assert_eq!(at_once(file.append(vec!["abc".into(), "de".into()])).unwrap(), 0);
    assert_eq!(at_once(file.append(vec!["f".into()])).unwrap(), 5);
    assert_eq!(at_once(file.append(vec![])).unwrap(), 6);
    assert_eq!(at_once(file.append(vec![Bytes::new()])).unwrap(), 6);
    assert_eq!(file.len(), 6);
    assert_eq!(at_once(file.read_at(0, 6)).unwrap(), "abcdef", "what was just written lies in the page cache");
}

pub async fn an_append_keeps_the_order_of_many_buffers(stage: Stage) {
    let file = open(stage.client.disk(), &stage.client.dir.join("log")).await;
    let buffers: Vec<Bytes> = (0..3000_u32).map(|n| format!("{n};").into()).collect();
    let expected = buffers.concat();
    file.append(buffers).await.unwrap();
    assert_eq!(all(&file).await, expected);
}

pub async fn a_read_is_short_only_at_the_end_of_the_file(stage: Stage) {
    let file = open(stage.client.disk(), &stage.client.dir.join("log")).await;
    file.append(vec!["0123456789".into()]).await.unwrap();
    assert_eq!(file.read_at(3, 4).await.unwrap(), "3456");
    assert_eq!(file.read_at(8, 100).await.unwrap(), "89");
    assert_eq!(file.read_at(10, 1).await.unwrap(), "");
    assert_eq!(file.read_at(1_000, 1).await.unwrap(), "");
    assert_eq!(file.read_at(2, 0).await.unwrap(), "");
    assert_eq!(file.read_at(9, usize::MAX).await.unwrap(), "9", "a wild length costs nothing");
}

pub async fn a_long_read_returns_every_byte(stage: Stage) {
    let file = open(stage.client.disk(), &stage.client.dir.join("log")).await;
    let bytes: Bytes = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    file.append(vec![bytes.clone()]).await.unwrap();
    assert_eq!(file.read_at(0, bytes.len()).await.unwrap(), bytes);
    assert_eq!(file.read_at(1_000_001, 1_500_000).await.unwrap(), bytes[1_000_001..2_500_001]);
}

pub async fn a_write_inside_the_file_moves_no_end(stage: Stage) {
    let file = open(stage.client.disk(), &stage.client.dir.join("log")).await;
    file.append(vec!["0123456789".into()]).await.unwrap();
    file.write_at(2, "ab".into()).await.unwrap();
    assert_eq!(all(&file).await, b"01ab456789");
    assert_eq!(file.append(vec!["x".into()]).await.unwrap(), 10);
}

pub async fn a_write_at_the_end_moves_it(stage: Stage) {
    let file = open(stage.client.disk(), &stage.client.dir.join("log")).await;
    file.write_at(0, "abc".into()).await.unwrap();
    file.write_at(2, "Cde".into()).await.unwrap();
    assert_eq!(all(&file).await, b"abCde");
    assert_eq!(file.append(vec!["f".into()]).await.unwrap(), 5);
}

pub async fn truncation_forgets_the_tail_and_growth_fills_with_zeros(stage: Stage) {
    let file = open(stage.client.disk(), &stage.client.dir.join("log")).await;
    file.append(vec!["0123456789".into()]).await.unwrap();
    file.truncate(4).await.unwrap();
    assert_eq!(file.len(), 4);
    file.truncate(7).await.unwrap();
    assert_eq!(all(&file).await, b"0123\0\0\0");
    assert_eq!(file.append(vec!["x".into()]).await.unwrap(), 7);
    file.truncate(0).await.unwrap();
    assert!(file.is_empty());
}

pub async fn opening_keeps_its_four_promises(stage: Stage) {
    let (disk, path) = (stage.client.disk(), stage.client.dir.join("log"));
    assert_eq!(refused(disk.open(&path, OpenMode::Read)).await, ErrorKind::NotFound);
    assert_eq!(refused(disk.open(&path, OpenMode::Write)).await, ErrorKind::NotFound);
    let file = disk.open(&path, OpenMode::CreateNew).await.unwrap();
    file.append(vec!["abc".into()]).await.unwrap();
    assert_eq!(refused(disk.open(&path, OpenMode::CreateNew)).await, ErrorKind::AlreadyExists);
    for mode in [OpenMode::Read, OpenMode::Write, OpenMode::Create] {
        assert_eq!(disk.open(&path, mode).await.unwrap().len(), 3, "{mode:?} keeps what is there");
    }
    let nowhere = stage.client.dir.join("missing").join("log");
    assert_eq!(refused(disk.open(&nowhere, OpenMode::Create)).await, ErrorKind::NotFound);
}

pub async fn a_file_opened_for_reading_takes_no_write(stage: Stage) {
    let (disk, path) = (stage.client.disk(), stage.client.dir.join("log"));
    open(disk, &path).await.append(vec!["abc".into()]).await.unwrap();
    let reader = disk.open(&path, OpenMode::Read).await.unwrap();
    reader.append(vec!["x".into()]).await.unwrap_err();
    reader.write_at(0, "x".into()).await.unwrap_err();
    reader.truncate(0).await.unwrap_err();
    assert_eq!(all(&reader).await, b"abc");
}

pub async fn two_handles_see_one_file(stage: Stage) {
    let (disk, path) = (stage.client.disk(), stage.client.dir.join("log"));
    let (one, other) = (open(disk, &path).await, open(disk, &path).await);
    one.append(vec!["abc".into()]).await.unwrap();
    assert_eq!(other.append(vec!["de".into()]).await.unwrap(), 3);
    assert_eq!(one.len(), 5);
    one.truncate(1).await.unwrap();
    assert_eq!(all(&other).await, b"a");
}

pub async fn a_rename_replaces_in_one_step(stage: Stage) {
    let (disk, dir) = (stage.client.disk(), &stage.client.dir);
    let (new, old) = (dir.join("state.tmp"), dir.join("state"));
    open(disk, &old).await.append(vec!["old".into()]).await.unwrap();
    open(disk, &new).await.append(vec!["newer".into()]).await.unwrap();
    disk.rename(&new, &old).await.unwrap();
    assert_eq!(refused(disk.open(&new, OpenMode::Read)).await, ErrorKind::NotFound);
    assert_eq!(all(&disk.open(&old, OpenMode::Read).await.unwrap()).await, b"newer");
    assert_eq!(disk.list(dir).await.unwrap().len(), 1);
}

pub async fn a_directory_is_renamed_with_all_in_it(stage: Stage) {
    let (disk, dir) = (stage.client.disk(), &stage.client.dir);
    let (from, to) = (dir.join("orders-0"), dir.join("orders-0.delete"));
    disk.create_dir_all(&from.join("deep")).await.unwrap();
    open(disk, &from.join("deep").join("log")).await.append(vec!["abc".into()]).await.unwrap();
    disk.rename(&from, &to).await.unwrap();
    assert_eq!(refused(disk.list(&from)).await, ErrorKind::NotFound);
    assert_eq!(all(&open(disk, &to.join("deep").join("log")).await).await, b"abc");
}

pub async fn an_open_file_follows_its_new_name(stage: Stage) {
    let (disk, dir) = (stage.client.disk(), &stage.client.dir);
    let file = open(disk, &dir.join("before")).await;
    disk.rename(&dir.join("before"), &dir.join("after")).await.unwrap();
    file.append(vec!["abc".into()]).await.unwrap();
    assert_eq!(all(&disk.open(&dir.join("after"), OpenMode::Read).await.unwrap()).await, b"abc");
}

pub async fn a_removed_file_lives_until_it_is_dropped(stage: Stage) {
    let (disk, path) = (stage.client.disk(), stage.client.dir.join("log"));
    let file = open(disk, &path).await;
    file.append(vec!["abc".into()]).await.unwrap();
    disk.remove_file(&path).await.unwrap();
    file.append(vec!["de".into()]).await.unwrap();
    assert_eq!(all(&file).await, b"abcde");
    assert!(open(disk, &path).await.is_empty(), "the name now belongs to another file");
    assert_eq!(file.len(), 5);
}

pub async fn a_listing_is_sorted_and_knows_directories(stage: Stage) {
    let (disk, dir) = (stage.client.disk(), &stage.client.dir);
    for name in ["b", "a10", "a2"] {
        open(disk, &dir.join(name)).await.append(vec![name.to_owned().into()]).await.unwrap();
    }
    disk.create_dir_all(&dir.join("aa")).await.unwrap();
    let seen: Vec<(String, bool, u64)> =
        disk.list(dir).await.unwrap().into_iter().map(|entry| (entry.name, entry.is_dir, entry.len)).collect();
    let expected = [("a10", false, 3), ("a2", false, 2), ("aa", true, 0), ("b", false, 1)];
    assert_eq!(seen, expected.map(|(name, is_dir, len)| (name.to_owned(), is_dir, len)));
    assert!(disk.list(&dir.join("aa")).await.unwrap().is_empty());
}

pub async fn what_is_missing_is_not_found(stage: Stage) {
    let (disk, dir) = (stage.client.disk(), &stage.client.dir);
    let missing = dir.join("missing");
    assert_eq!(refused(disk.list(&missing)).await, ErrorKind::NotFound);
    assert_eq!(refused(disk.remove_file(&missing)).await, ErrorKind::NotFound);
    assert_eq!(refused(disk.remove_dir_all(&missing)).await, ErrorKind::NotFound);
    assert_eq!(refused(disk.rename(&missing, &dir.join("other"))).await, ErrorKind::NotFound);
    assert_eq!(refused(disk.sync_dir(&missing)).await, ErrorKind::NotFound);
}

pub async fn a_directory_goes_with_all_in_it(stage: Stage) {
    let (disk, dir) = (stage.client.disk(), &stage.client.dir);
    let deep = dir.join("a").join("b").join("c");
    disk.create_dir_all(&deep).await.unwrap();
    disk.create_dir_all(&deep).await.unwrap();
    open(disk, &deep.join("log")).await.append(vec!["abc".into()]).await.unwrap();
    disk.remove_dir_all(&dir.join("a")).await.unwrap();
    assert!(disk.list(dir).await.unwrap().is_empty());
    assert_eq!(refused(disk.open(&deep.join("log"), OpenMode::Read)).await, ErrorKind::NotFound);
}

pub async fn sync_succeeds_on_what_is_there(stage: Stage) {
    let (disk, dir) = (stage.client.disk(), &stage.client.dir);
    let file = open(disk, &dir.join("log")).await;
    file.sync_data().await.unwrap();
    file.append(vec!["abc".into()]).await.unwrap();
    file.sync_data().await.unwrap();
    disk.sync_dir(dir).await.unwrap();
    assert_eq!(all(&file).await, b"abc");
}

pub async fn there_is_free_space(stage: Stage) {
    assert!(stage.client.disk().free_space(&stage.client.dir).await.unwrap() > 1024 * 1024);
}

pub async fn an_operation_nobody_waits_for_is_done_all_the_same(stage: Stage) {
    let (disk, dir) = (stage.client.disk(), &stage.client.dir);
    let file = open(disk, &dir.join("log")).await;
    drop(file.append(vec!["0123456789".into()]));
    drop(file.sync_data());
    drop(file.write_at(0, "x".into()));
    drop(file.truncate(5));
    drop(file.append(vec!["y".into()]));
    drop(disk.create_dir_all(&dir.join("sub")));
    drop(disk.rename(&dir.join("log"), &dir.join("sub").join("log")));
    drop(disk.open(&dir.join("other"), OpenMode::Create));
    drop(disk.open(&dir.join("third"), OpenMode::Create));
    drop(disk.remove_file(&dir.join("third")));
    stage.client.env.sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(all(&file).await, b"x1234y");
    assert_eq!(all(&disk.open(&dir.join("sub").join("log"), OpenMode::Read).await.unwrap()).await, b"x1234y");
    let names: Vec<String> = disk.list(dir).await.unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["other", "sub"]);
}
