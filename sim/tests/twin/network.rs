//! Byte streams.

use super::harness::Stage;
use broker_env::{Connection, Listener, OpenMode, ReadHalf, WriteHalf};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

const SOON: Duration = Duration::from_millis(150);

async fn listen(stage: &Stage) -> Box<dyn Listener> {
    stage.server.env.network().listen(&stage.server.bind, 0).await.unwrap()
}

async fn connect(stage: &Stage, port: u16) -> Connection {
    stage.client.env.network().connect(&stage.server.host, port).await.unwrap()
}

/// A connection: the client's end, the server's end.
async fn pair(stage: &Stage) -> (Connection, Connection) {
    let mut listener = listen(stage).await;
    let port = listener.local_addr().port();
    let client = connect(stage, port).await;
    let server = listener.accept().await.unwrap();
    (client, server)
}

/// Reads exactly `len` bytes.
async fn read(reader: &mut ReadHalf, len: usize) -> Vec<u8> {
    let mut into = BytesMut::new();
    while into.len() < len {
        assert_ne!(reader.read(&mut into).await.unwrap(), 0, "the stream ended after {} of {len} bytes", into.len());
    }
    assert_eq!(into.len(), len, "more arrived than was sent");
    into.to_vec()
}

/// Reads to the end of the stream.
async fn read_to_end(reader: &mut ReadHalf) -> io::Result<Vec<u8>> {
    let mut into = BytesMut::new();
    while reader.read(&mut into).await? > 0 {}
    Ok(into.to_vec())
}

async fn write(writer: &mut WriteHalf, bytes: &'static [u8]) {
    writer.write(Bytes::from_static(bytes)).await.unwrap();
}

/// `mib` MiB in which no two neighbouring pages are alike.
fn payload(mib: usize) -> Vec<Bytes> {
    (0..mib).map(|n| (0..1024 * 1024_usize).map(|at| ((at / 4096) ^ (n * 7) ^ at) as u8).collect()).collect()
}

pub async fn bytes_arrive_in_order_in_both_directions(stage: Stage) {
    let (mut client, mut server) = pair(&stage).await;
    let mut expected = Vec::new();
    for round in 0..200_u32 {
        let mut buffers: VecDeque<Bytes> = (0..100).map(|n| Bytes::from(format!("{round}/{n} "))).collect();
        expected.extend(buffers.iter().flat_map(|bytes| bytes.to_vec()));
        client.writer.write_all(&mut buffers).await.unwrap();
        assert!(buffers.is_empty());
        write(&mut server.writer, b"got it").await;
        assert_eq!(read(&mut client.reader, 6).await, b"got it");
    }
    assert_eq!(read(&mut server.reader, expected.len()).await, expected);
}

pub async fn both_ends_agree_on_their_addresses(stage: Stage) {
    let mut listener = listen(&stage).await;
    let port = listener.local_addr().port();
    assert_ne!(port, 0);
    let client = connect(&stage, port).await;
    let server = listener.accept().await.unwrap();
    assert_eq!(client.peer.port(), port);
    assert_eq!((client.peer, client.local), (server.local, server.peer));
}

pub async fn a_half_closed_stream_still_carries_the_other_direction(stage: Stage) {
    let (mut client, mut server) = pair(&stage).await;
    write(&mut client.writer, b"question").await;
    client.writer.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut server.reader).await.unwrap(), b"question");
    stage.server.env.sleep(SOON).await;
    write(&mut server.writer, b"answer").await;
    server.writer.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut client.reader).await.unwrap(), b"answer");
    let error = client.writer.write("more".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "its own direction was ended");
}

pub async fn bytes_written_before_the_end_arrive_before_it(stage: Stage) {
    let (mut client, mut server) = pair(&stage).await;
    let chunks = payload(3);
    let expected = chunks.concat();
    stage.client.env.go("writer", async move {
        client.writer.write_all(&mut chunks.into()).await.unwrap();
        drop(client);
    });
    assert!(read_to_end(&mut server.reader).await.unwrap() == expected);
}

pub async fn the_end_of_a_stream_is_told_again(stage: Stage) {
    let (mut client, mut server) = pair(&stage).await;
    client.writer.shutdown().await.unwrap();
    for _ in 0..3 {
        assert_eq!(server.reader.read(&mut BytesMut::new()).await.unwrap(), 0);
    }
}

pub async fn a_writer_waits_while_its_reader_does_not_read(stage: Stage) {
    let (mut client, mut server) = pair(&stage).await;
    let chunks = payload(64);
    let expected: usize = chunks.iter().map(Bytes::len).sum();
    let mut left: VecDeque<Bytes> = chunks.clone().into();
    let env = &stage.client.env;
    let waited = env.until(env.mono() + SOON * 4, client.writer.write_all(&mut left)).await;
    assert!(waited.is_none(), "64 MiB went into the void");
    assert!(!left.is_empty());
    stage.client.env.go("writer", async move {
        client.writer.write_all(&mut left).await.unwrap();
        drop(client);
    });
    let (mut seen, mut into) = (0, BytesMut::new());
    while server.reader.read(&mut into).await.unwrap() > 0 {
        for byte in into.split() {
            if byte != chunks[seen >> 20][seen & 0xf_ffff] {
                panic!("byte {seen} is wrong");
            }
            seen += 1;
        }
    }
    assert_eq!(seen, expected);
}

pub async fn a_connection_to_a_closed_port_is_refused(stage: Stage) {
    let listener = listen(&stage).await;
    let port = listener.local_addr().port();
    drop(listener);
    let refused = stage.client.env.network().connect(&stage.server.host, port).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));
}

pub async fn a_connection_to_an_unknown_host_finds_nobody(stage: Stage) {
    // A label longer than any name may have: no resolver looks for it.
    let refused = stage.client.env.network().connect(&"x".repeat(80), 9092).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
}

pub async fn a_connection_dropped_with_unread_bytes_is_reset(stage: Stage) {
    let (mut client, server) = pair(&stage).await;
    write(&mut client.writer, b"nobody reads this").await;
    stage.server.env.sleep(SOON).await;
    drop(server);
    let error = read_to_end(&mut client.reader).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

pub async fn a_connection_dropped_with_everything_read_ends(stage: Stage) {
    let (mut client, mut server) = pair(&stage).await;
    write(&mut client.writer, b"question").await;
    assert_eq!(read(&mut server.reader, 8).await, b"question");
    write(&mut server.writer, b"answer").await;
    drop(server);
    assert_eq!(read_to_end(&mut client.reader).await.unwrap(), b"answer");
}

pub async fn writing_to_a_peer_that_is_gone_fails(stage: Stage) {
    let (mut client, server) = pair(&stage).await;
    drop(server);
    let mut outcome = Ok(());
    for _ in 0..50 {
        outcome = client.writer.write("anyone?".into()).await;
        if outcome.is_err() {
            break;
        }
        stage.client.env.sleep(Duration::from_millis(10)).await;
    }
    let kind = outcome.unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind:?}");
}

pub async fn a_writer_outlives_its_reader(stage: Stage) {
    let (client, mut server) = pair(&stage).await;
    let Connection { reader, mut writer, .. } = client;
    drop(reader);
    write(&mut writer, b"still here").await;
    assert_eq!(read(&mut server.reader, 10).await, b"still here");
    drop(writer);
    assert_eq!(read_to_end(&mut server.reader).await.unwrap(), b"");
}

pub async fn an_accepted_connection_outlives_its_listener(stage: Stage) {
    let mut listener = listen(&stage).await;
    let port = listener.local_addr().port();
    let mut client = connect(&stage, port).await;
    let mut server = listener.accept().await.unwrap();
    drop(listener);
    write(&mut client.writer, b"hello").await;
    assert_eq!(read(&mut server.reader, 5).await, b"hello");
}

pub async fn a_port_is_listened_on_once(stage: Stage) {
    let listener = listen(&stage).await;
    let port = listener.local_addr().port();
    let network = stage.server.env.network();
    let refused = network.listen(&stage.server.bind, port).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
    drop(listener);
    let again = network.listen(&stage.server.bind, port).await.unwrap();
    assert_eq!(again.local_addr().port(), port, "a dropped listener gives its port back");
}

pub async fn a_read_given_up_loses_no_byte(stage: Stage) {
    let (mut client, mut server) = pair(&stage).await;
    let env = &stage.server.env;
    let mut into = BytesMut::new();
    for _ in 0..3 {
        let deadline = env.mono() + Duration::from_millis(5);
        assert!(env.until(deadline, server.reader.read(&mut into)).await.is_none());
    }
    assert!(into.is_empty());
    write(&mut client.writer, b"patience").await;
    assert_eq!(read(&mut server.reader, 8).await, b"patience");
}

pub async fn a_write_given_up_loses_no_byte(stage: Stage) {
    let (mut client, mut server) = pair(&stage).await;
    let chunks = payload(48);
    let expected = chunks.concat();
    let mut left: VecDeque<Bytes> = chunks.into();
    let env = stage.client.env.clone();
    stage.server.env.go("writer", async move {
        // Gives up again and again; what is left is exactly what was not taken.
        while !left.is_empty() {
            let deadline = env.mono() + Duration::from_millis(20);
            if let Some(outcome) = env.until(deadline, client.writer.write_all(&mut left)).await {
                outcome.unwrap();
            }
        }
        drop(client);
    });
    stage.server.env.sleep(SOON).await;
    assert!(read_to_end(&mut server.reader).await.unwrap() == expected);
}

pub async fn a_connect_given_up_still_reaches_the_listener(stage: Stage) {
    let mut listener = listen(&stage).await;
    let port = listener.local_addr().port();
    drop(stage.client.env.network().connect(&stage.server.host, port));
    let mut server = listener.accept().await.unwrap();
    assert_eq!(read_to_end(&mut server.reader).await.unwrap(), b"", "nobody wanted it: it was closed");
}

pub async fn a_file_goes_out_between_the_bytes_around_it(stage: Stage) {
    let (mut client, mut server) = pair(&stage).await;
    let file = stage.server.disk().open(&stage.server.dir.join("log"), OpenMode::Create).await.unwrap();
    file.append(vec!["0123456789".into()]).await.unwrap();
    write(&mut server.writer, b"<").await;
    server.writer.send_file(&file, 2, 5).await.unwrap();
    write(&mut server.writer, b"|").await;
    server.writer.send_file(&file, 9, 1).await.unwrap();
    server.writer.send_file(&file, 0, 0).await.unwrap();
    write(&mut server.writer, b">").await;
    assert_eq!(read(&mut client.reader, 9).await, b"<23456|9>");
    assert_eq!(file.append(vec!["a".into()]).await.unwrap(), 10, "sending moves no end");
}

pub async fn a_file_shorter_than_promised_is_an_error(stage: Stage) {
    let (mut client, mut server) = pair(&stage).await;
    let file = stage.server.disk().open(&stage.server.dir.join("log"), OpenMode::Create).await.unwrap();
    file.append(vec!["0123456789".into()]).await.unwrap();
    let error = server.writer.send_file(&file, 6, 100).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(read(&mut client.reader, 4).await, b"6789", "what was there went out");
}

pub async fn a_large_file_waits_for_its_reader(stage: Stage) {
    let (mut client, mut server) = pair(&stage).await;
    let file = stage.server.disk().open(&stage.server.dir.join("log"), OpenMode::Create).await.unwrap();
    let chunks = payload(48);
    let expected = chunks.concat();
    file.append(chunks).await.unwrap();
    let env = stage.server.env.clone();
    let sending = async move {
        let len = usize::try_from(file.len()).unwrap();
        server.writer.send_file(&file, 0, len).await.unwrap();
        drop(server);
    };
    let mut sending = Box::pin(sending);
    assert!(env.until(env.mono() + SOON * 2, &mut sending).await.is_none(), "48 MiB went into the void");
    env.go("sender", sending);
    assert!(read_to_end(&mut client.reader).await.unwrap() == expected);
}
