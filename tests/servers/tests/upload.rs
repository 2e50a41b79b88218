//! The server over real sockets: what it stores, what it answers, and that all is given back.
#![allow(missing_docs)]

use overspill::MemoryStore;
use overspill::SpillPool;
use overspill::testing::{Call, Failure, Fault, FaultStore};
use overspill_servers::client::Reply;
use overspill_servers::files::{Config, Files};
use overspill_servers::hashed::digits;
use overspill_servers::running::{Running, config, until};
use overspill_servers::time_limit::within;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Bytes that no two places of share.
fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn sum(bytes: &[u8]) -> String {
    digits(Sha256::new_with_prefix(bytes))
}

fn assert_stored(reply: &Reply, status: u16, name: &str, content: &[u8]) {
    assert_eq!(reply.status, status, "{}", reply.text());
    let expected = serde_json::json!({ "name": name, "len": content.len(), "sha256": sum(content) });
    assert_eq!(reply.json().unwrap(), expected);
}

#[tokio::test]
async fn what_is_put_is_got_in_memory_and_spilled() {
    let server = Running::start(Config { memory: 256 << 10, ..config() }).await;
    for (number, len) in [0, 1, 65_535, 65_536, 3_000_001].into_iter().enumerate() {
        let (name, content) = (format!("file {number}"), content(len, 1 + number as u64));
        let path = format!("/files/file%20{number}");
        assert_stored(&server.request("PUT", &path, &[], &content).await, 201, &name, &content);
        let got = server.request("GET", &path, &[], b"").await;
        assert_eq!((got.status, got.header("content-disposition")), (200, Some("attachment")));
        assert!(got.body == content, "{len} bytes");
        let head = server.request("HEAD", &path, &[], b"").await;
        assert_eq!((head.status, head.header("content-length")), (200, Some(&*len.to_string())));
        assert_eq!(head.header("etag"), Some(&*format!("\"{}\"", sum(&content))));
    }
    assert!(server.files.pool.stats().disk_used > 0);
    let replaced = server.request("PUT", "/files/file%204", &[], b"shorter").await;
    assert_stored(&replaced, 200, "file 4", b"shorter");
    let names = server.request("GET", "/files", &[], b"").await.json().unwrap();
    assert_eq!(names.as_array().map(Vec::len), Some(5));
    for number in 0..5 {
        let path = format!("/files/file%20{number}");
        assert_eq!(server.request("DELETE", &path, &[], b"").await.status, 204);
        assert_eq!(server.request("GET", &path, &[], b"").await.status, 404);
        assert_eq!(server.request("DELETE", &path, &[], b"").await.status, 404);
    }
    server.until_empty().await;
    assert!(server.stop().await);
}

#[tokio::test]
async fn ranges_are_sent_as_rfc_9110_says() {
    let (server, content) = (Running::start(config()).await, content(200_000, 2));
    server.request("PUT", "/files/a", &[], &content).await;
    let tag = format!("if-range: \"{}\"", sum(&content));
    for (headers, start, end) in [
        (vec!["range: bytes=0-0"], 0, 1),
        (vec!["range: bytes=65530-65545"], 65_530, 65_546),
        (vec!["range: bytes=199990-"], 199_990, 200_000),
        (vec!["range: bytes=-7"], 199_993, 200_000),
        (vec!["range: bytes=-7", &*tag], 199_993, 200_000),
    ] {
        let got = server.request("GET", "/files/a", &headers, b"").await;
        let range = format!("bytes {start}-{}/200000", end - 1);
        assert_eq!((got.status, got.header("content-range")), (206, Some(&*range)));
        assert!(got.body == content[start..end], "{headers:?}");
    }
    let changed = server.request("GET", "/files/a", &["range: bytes=-7", "if-range: \"old\""], b"").await;
    assert_eq!((changed.status, changed.body.len()), (200, 200_000));
    let past = server.request("GET", "/files/a", &["range: bytes=200000-"], b"").await;
    assert_eq!((past.status, past.header("content-range")), (416, Some("bytes */200000")));
}

#[tokio::test]
async fn each_field_of_a_form_is_a_file() {
    let server = Running::start(Config { limit: 3_500_000, ..config() }).await;
    let fields = [("a.txt", content(3_000_000, 3)), ("b", content(0, 4)), ("c d", content(100_000, 5))];
    let form = |fields: &[(&str, Vec<u8>)]| {
        let mut body = Vec::new();
        for (name, content) in fields {
            let head =
                format!("--X\r\ncontent-disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n");
            body.extend([head.as_bytes(), content, b"\r\n"].concat());
        }
        [&body[..], b"--X--\r\n"].concat()
    };
    let kind = ["content-type: multipart/form-data; boundary=X"];
    let stored = server.request("POST", "/files", &kind, &form(&fields)).await;
    assert_eq!(stored.status, 201, "{}", stored.text());
    for ((name, content), told) in fields.iter().zip(stored.json().unwrap().as_array().unwrap()) {
        assert_eq!(told["sha256"], sum(content));
        let got = server.request("GET", &format!("/files/{}", name.replace(' ', "%20")), &[], b"").await;
        assert!(got.body == *content, "{name}");
    }
    // The limit is on the form as a whole: the second field is over it, and the first is not kept either.
    let long = form(&[("x", content(3_000_000, 6)), ("y", content(600_000, 7))]);
    assert_eq!(server.request("POST", "/files", &kind, &long).await.status, 413);
    assert_eq!(server.request("POST", "/files", &kind, &form(&[("../x", vec![1])])).await.status, 400);
    assert_eq!(server.request("POST", "/files", &kind, b"--X\r\nno form").await.status, 400);
    assert_eq!(server.request("POST", "/files", &[], b"no form").await.status, 415);
    assert_eq!(server.request("GET", "/files/x", &[], b"").await.status, 404);
    for name in ["a.txt", "b", "c%20d"] {
        server.request("DELETE", &format!("/files/{name}"), &[], b"").await;
    }
    server.until_empty().await;
}

/// Forms of many small fields once took a gigabyte in another framework, since each field had a limit and
/// their number had none.
#[tokio::test]
async fn a_form_of_too_many_fields_is_refused() {
    let server = Running::start(config()).await;
    let mut form = Vec::new();
    for number in 0..=overspill_servers::multipart::FIELDS_MAX {
        form.extend(format!("--X\r\ncontent-disposition: form-data; name=\"{number}\"\r\n\r\n\r\n").bytes());
    }
    form.extend(b"--X--\r\n");
    let refused =
        server.request("POST", "/files", &["content-type: multipart/form-data; boundary=X"], &form).await;
    assert_eq!(refused.status, 413, "{}", refused.text());
    server.until_empty().await;
}

#[tokio::test]
async fn a_file_over_its_limit_is_refused_before_it_is_sent_or_as_soon_as_it_is() {
    let server = Running::start(Config { limit: 100_000, ..config() }).await;
    let mut declared = server.client().await;
    declared.begin("PUT", "/files/a", &["content-length: 100001", "expect: 100-continue"]).await.unwrap();
    let refused = declared.reply("PUT").await.unwrap();
    assert_eq!(refused.status, 413, "no byte was sent, and none asked for: {}", refused.head);
    assert_eq!(refused.header("connection"), Some("close"), "the body would be taken for a request");
    let mut chunked = server.client().await;
    chunked.begin("PUT", "/files/a", &["transfer-encoding: chunked"]).await.unwrap();
    chunked.send_chunk(&[1; 60_000]).await.unwrap();
    chunked.send_chunk(&[1; 40_001]).await.unwrap();
    assert_eq!(chunked.reply("PUT").await.unwrap().status, 413);
    assert_eq!(server.request("PUT", "/files/a", &[], &[1; 100_000]).await.status, 201);
    server.request("DELETE", "/files/a", &[], b"").await;
    server.until_empty().await;
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_and_disturbs_nobody() {
    let server = Running::start(Config { memory: 128 << 10, ..config() }).await;
    let content = content(400_000, 8);
    for chunked in [false, true] {
        let mut gone = server.client().await;
        let header = if chunked { "transfer-encoding: chunked" } else { "content-length: 1000000" };
        gone.begin("PUT", "/files/gone", &[header]).await.unwrap();
        if chunked {
            gone.send_chunk(&content).await.unwrap();
        } else {
            gone.send(&content).await.unwrap();
        }
        let pool = &server.files.pool;
        until("it has arrived", || pool.stats().memory_used + pool.stats().disk_used > 100_000).await;
        assert_stored(&server.request("PUT", "/files/b", &[], &content).await, 201, "b", &content);
        drop(gone);
        server.request("DELETE", "/files/b", &[], b"").await;
        server.until_empty().await;
        assert_eq!(server.request("GET", "/files/gone", &[], b"").await.status, 404);
    }
}

#[tokio::test]
async fn a_client_that_pauses_for_too_long_is_told_so() {
    let server = Running::start(Config { idle: Duration::from_millis(30), ..config() }).await;
    for method in ["PUT", "PATCH"] {
        let mut slow = server.client().await;
        slow.begin(method, "/files/a", &["content-length: 10", "upload-offset: 0"]).await.unwrap();
        slow.send(b"half").await.unwrap();
        let told = slow.reply(method).await.unwrap();
        assert_eq!((told.status, told.header("connection")), (408, Some("close")), "{method}");
    }
    server.request("DELETE", "/files/a", &[], b"").await; // what was accepted of the PATCH
    server.until_empty().await;
}

#[tokio::test]
async fn a_full_pool_is_busy_and_a_full_disk_is_full() {
    let server = Running::start(Config { memory: 0, disk: 256 << 10, ..config() }).await;
    let held = content(128 << 10, 9);
    assert_eq!(server.request("PUT", "/files/held", &[], &held).await.status, 201);
    let busy = server.request("PUT", "/files/b", &[], &[1; 200_000]).await;
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("1")), "{}", busy.text());
    assert!(server.request("GET", "/files/held", &[], b"").await.body == held, "others are undisturbed");
    server.request("DELETE", "/files/held", &[], b"").await;
    assert_eq!(server.request("PUT", "/files/b", &[], &[1; 200_000]).await.status, 201);
    server.request("DELETE", "/files/b", &[], b"").await;
    server.until_empty().await;

    let plan = Fault::lasting(2, Failure::full()).on(Call::Write);
    let (store, faults) = FaultStore::new(MemoryStore::new(), plan);
    let pool = SpillPool::builder().memory(0).store(store).build().unwrap();
    let server = Running::in_pool(pool, config()).await;
    let full = server.request("PUT", "/files/a", &[], &[1; 500_000]).await;
    assert_eq!((full.status, full.header("retry-after")), (507, None), "{}", full.text());
    server.until_empty().await;
    faults.lift();
    assert_eq!(server.request("PUT", "/files/a", &[], &[1; 500_000]).await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_read_slowly_hold_no_more_than_a_share() {
    let server = Running::start(Config { memory: 1 << 20, ..config() }).await;
    let content = content(2 << 20, 10);
    assert_stored(&server.request("PUT", "/files/a", &[], &content).await, 201, "a", &content);
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut client = server.client().await;
        client.begin("GET", "/files/a", &[]).await.unwrap();
        assert_eq!(client.head().await.unwrap().status, 200);
        slow.push(client);
    }
    assert_stored(&server.request("PUT", "/files/b", &[], &content).await, 201, "b", &content);
    assert!(server.request("GET", "/files/b", &[], b"").await.body == content);
    let stats = server.files.pool.stats();
    assert!(stats.memory_lent > 0, "they are under way: {stats:?}");
    assert!(stats.memory_used <= 1 << 20 && stats.memory_lent <= 1 << 18, "{stats:?}");
    for mut client in slow.drain(..40) {
        assert!(client.receive(content.len()).await.unwrap() == content);
    }
    drop(slow); // and ten of them go
    server.request("DELETE", "/files/a", &[], b"").await;
    server.request("DELETE", "/files/b", &[], b"").await;
    server.until_empty().await;
}

#[tokio::test]
async fn an_upload_that_broke_off_is_resumed() {
    let server = Running::start(Config { memory: 128 << 10, limit: 1 << 20, ..config() }).await;
    let content = content(900_000, 11);
    let mut first = server.client().await;
    first.begin("PATCH", "/files/a", &["upload-offset: 0", "content-length: 900000"]).await.unwrap();
    first.send(&content[..500_000]).await.unwrap();
    drop(first);

    // What had been sent arrives all the same.
    let arrived = async {
        loop {
            let head = server.request("HEAD", "/files/a", &[], b"").await;
            match head.header("upload-offset").map(|offset| offset.parse::<usize>().unwrap()) {
                Some(500_000) => break 500_000,
                Some(offset) => assert!(offset < 500_000 && head.header("upload-complete") == Some("?0")),
                None => assert_eq!(head.status, 404, "it has not begun"),
            }
        }
    };
    let offset = within(arrived).await;
    assert_eq!(server.request("GET", "/files/a", &[], b"").await.status, 409);
    let wrong = server.request("PATCH", "/files/a", &["upload-offset: 7"], b"x").await;
    assert_eq!((wrong.status, wrong.header("upload-offset")), (409, Some(&*offset.to_string())));

    let more = [&*format!("upload-offset: {offset}"), "upload-complete: ?0"];
    let middle = server.request("PATCH", "/files/a", &more, &content[offset..600_000]).await;
    assert_eq!((middle.status, middle.header("upload-offset")), (204, Some("600000")));
    let last = server.request("PATCH", "/files/a?offset=600000", &[], &content[600_000..]).await;
    assert_stored(&last, 201, "a", &content);
    assert!(server.request("GET", "/files/a", &[], b"").await.body == content);
    let whole = server.request("PATCH", "/files/a?offset=900000", &[], b"x").await;
    assert_eq!((whole.status, whole.header("upload-offset")), (409, Some("900000")));
    let head = server.request("HEAD", "/files/a", &[], b"").await;
    // A client that only looks at the offset was not told that nothing is left to send.
    assert_eq!((head.status, head.header("upload-complete")), (200, Some("?1")));
    assert_eq!(head.header("upload-offset"), Some("900000"));
    assert_eq!(server.request("PATCH", "/files/b?offset=1", &[], b"x").await.status, 404);
    assert_eq!(server.request("PATCH", "/files/b", &[], b"x").await.status, 400);
    let long = server.request("PATCH", "/files/b?offset=0", &[], &[1; (1 << 20) + 1]).await;
    assert_eq!(long.status, 413);
    server.request("DELETE", "/files/a", &[], b"").await;
    server.request("DELETE", "/files/b", &[], b"").await;
    server.until_empty().await;
}

#[tokio::test]
async fn a_file_is_persisted_under_its_name_and_under_no_other() {
    let (dir, content) = (tempfile::tempdir().unwrap(), content(300_000, 12));
    let server =
        Running::start(Config { dir: Some(dir.path().to_owned()), memory: 64 << 10, ..config() }).await;
    server.request("PUT", "/files/a.bin", &[], &content).await;
    let saved = server.request("POST", "/files/a.bin/persist", &[], b"").await;
    assert_eq!((saved.status, saved.json().unwrap()["persisted"].as_bool()), (200, Some(true)));
    assert!(std::fs::read(dir.path().join("a.bin")).unwrap() == content);
    assert_eq!(server.request("POST", "/files/other/persist", &[], b"").await.status, 404);
    let long = "n".repeat(256);
    for name in ["..", ".hidden", "..%2Fa", "%2Fetc%2Fpasswd", "a%5Cb", "c%3Ad", "a%00b", "a%0Ab", &long] {
        let refused = server.request("PUT", &format!("/files/{name}"), &[], b"x").await;
        assert_eq!(refused.status, 400, "{name}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    // A folder of that name was a failure of the server, of which the client was told nothing.
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    server.request("PUT", "/files/folder", &[], &content).await;
    let refused = server.request("POST", "/files/folder/persist", &[], b"").await;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("folder"), "{}", refused.text());

    let server = Running::start(config()).await;
    server.request("PUT", "/files/a", &[], b"x").await;
    assert_eq!(server.request("POST", "/files/a/persist", &[], b"").await.status, 409, "no directory");
}

/// A directory that is none was found out by the first client that had a file saved, or by the first
/// page that was spilled.
#[test]
fn a_directory_that_nothing_can_be_written_to_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    for path in [file, dir.path().join("absent")] {
        let error = Files::new(Config { dir: Some(path.clone()), ..config() }).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of the try");
}

#[tokio::test]
async fn a_shutdown_carries_out_what_has_begun() {
    let server = Running::start(config()).await;
    let (content, files) = (content(100_000, 13), server.files.clone());
    let mut client = server.client().await;
    client.begin("PUT", "/files/a", &["content-length: 100000"]).await.unwrap();
    client.send(&content[..50_000]).await.unwrap();
    until("it has arrived", || files.pool.stats().memory_used >= 50_000).await;
    let address = server.address;
    let stopped = tokio::spawn(server.stop());
    until("it listens no more", || std::net::TcpStream::connect(address).is_err()).await;
    client.send(&content[50_000..]).await.unwrap();
    assert_stored(&client.reply("PUT").await.unwrap(), 201, "a", &content);
    assert!(stopped.await.unwrap());
}

#[tokio::test]
async fn metrics_tell_of_the_pool_and_the_page_loads_nothing_from_elsewhere() {
    let server = Running::start(config()).await;
    server.request("PUT", "/files/a", &[], &[1; 100_000]).await;
    let metrics = server.request("GET", "/metrics", &[], b"").await.text();
    let used =
        metrics.lines().find(|line| line.starts_with("overspill_memory_bytes") && line.contains("\"used\""));
    let used: f64 = used.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap();
    assert!(used >= 100_000.0, "{metrics}");
    let page = server.request("GET", "/", &[], b"").await;
    assert!(page.status == 200 && page.header("content-type").unwrap().starts_with("text/html"));
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    assert!(!page.text().replace("http://www.w3.org/2000/svg", "").contains("://"), "a foreign address");
    assert_eq!(server.request("GET", "/nowhere", &[], b"").await.status, 404);
}

/// A 204 to a `HEAD` said that its content has 0 bytes, which it must not, and a 304 that the file has none.
#[tokio::test]
async fn an_answer_without_content_has_no_length_but_that_of_the_file() {
    let server = Running::start(config()).await;
    let part = ["upload-offset: 0", "upload-complete: ?0"];
    let begun = server.request("PATCH", "/files/a", &part, b"part").await;
    let head = server.request("HEAD", "/files/a", &[], b"").await;
    let gone = server.request("DELETE", "/files/a", &[], b"").await;
    for answer in [begun, head, gone] {
        assert_eq!((answer.status, answer.header("content-length")), (204, None), "{}", answer.head);
        assert_eq!(answer.header("transfer-encoding"), None);
    }
    server.request("PUT", "/files/a", &[], b"whole").await;
    for method in ["GET", "HEAD"] {
        let known = server.request(method, "/files/a", &["if-none-match: *"], b"").await;
        assert_eq!(known.status, 304);
        assert!(known.header("content-length").is_none_or(|length| length == "5"), "{}", known.head);
    }
}
