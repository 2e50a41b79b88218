//! Clients that mean harm, or stop in the middle: what they can hold, and what they can change.
#![allow(missing_docs)]

use overspill_servers::client::Client;
use overspill_servers::files::{Config, FILES_MAX, Files, Stored};
use overspill_servers::precondition::Precondition;
use overspill_servers::running::{Running, config, until};
use overspill_servers::server::{listen, serve};
use overspill_servers::time_limit::within;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

/// Longer than any answer takes.
const LONG: Duration = Duration::from_secs(30);

const FORM: &str = "content-type: multipart/form-data; boundary=X";

/// A resumed upload that ended after its file had been deleted put it there again; after another had taken
/// its name, it took the place of that one, which its client had been told was stored.
#[tokio::test]
async fn what_was_deleted_or_replaced_is_not_brought_back_by_its_upload() {
    for put in [false, true] {
        let server = Running::start(config()).await;
        let mut resumed = server.client().await;
        resumed.begin("PATCH", "/files/a", &["upload-offset: 0", "content-length: 10"]).await.unwrap();
        resumed.send(b"older").await.unwrap();
        let pool = &server.files.pool;
        until("it has begun", || pool.stats().memory_used > 0).await;
        if put {
            assert_eq!(server.request("PUT", "/files/a", &[], b"newer").await.status, 201);
        } else {
            assert_eq!(server.request("DELETE", "/files/a", &[], b"").await.status, 204);
        }
        resumed.send(b"older").await.unwrap();
        let refused = timeout(LONG, resumed.reply("PATCH")).await.unwrap().unwrap();
        assert_eq!(refused.status, 409, "{}", refused.text());
        let got = server.request("GET", "/files/a", &[], b"").await;
        assert_eq!(
            (got.status, got.text().starts_with("newer")),
            if put { (200, true) } else { (404, false) }
        );
        server.request("DELETE", "/files/a", &[], b"").await;
        server.until_empty().await;
    }
}

/// Only a frame was a reason to look whether the file was there still: a part that ended after its file had
/// been deleted or replaced was told that it was kept, and its client was to go on with it.
#[tokio::test]
async fn the_end_of_a_part_is_refused_if_its_file_was_deleted_or_replaced() {
    for put in [false, true] {
        let server = Running::start(config()).await;
        let mut part = server.client().await;
        let headers = ["upload-offset: 0", "upload-complete: ?0", "transfer-encoding: chunked"];
        part.begin("PATCH", "/files/a", &headers).await.unwrap();
        part.send_chunk(b"older").await.unwrap();
        let has_come = async {
            let head = async || server.request("HEAD", "/files/a", &[], b"").await;
            while head().await.header("upload-offset") != Some("5") {}
        };
        within(has_come).await;
        let changed = if put { ("PUT", 201) } else { ("DELETE", 204) };
        assert_eq!(server.request(changed.0, "/files/a", &[], b"").await.status, changed.1);
        part.send_chunk(b"").await.unwrap();
        let refused = part.reply("PATCH").await.unwrap();
        assert_eq!(
            (refused.status, refused.header("upload-offset")),
            (409, None),
            "{}: {}",
            changed.0,
            refused.text()
        );
        server.request("DELETE", "/files/a", &[], b"").await;
        server.until_empty().await;
    }
}

/// A pause within a field was found, and one between two fields was not: such a client held what it had sent
/// for as long as it liked.
#[tokio::test]
async fn a_form_that_stops_between_its_fields_is_told_so() {
    let server = Running::start(Config { idle: Duration::from_millis(30), ..config() }).await;
    let field = "--X\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nfirst\r\n--X";
    for sent in ["", "--X", &format!("{field}\r\ncontent-disp"), &format!("{field}--\r\n")] {
        let mut slow = server.client().await;
        slow.begin("POST", "/files", &[FORM, "content-length: 1000"]).await.unwrap();
        slow.send(sent.as_bytes()).await.unwrap();
        let told = timeout(LONG, slow.reply("POST")).await.expect("it waited for ever").unwrap();
        assert_eq!(told.status, 408, "{}", told.text());
    }
    server.until_empty().await;
}

/// What lies before, between and after the fields of a form was kept in memory by its parser, whatever its
/// length: beside the pool, and without a limit.
#[tokio::test]
async fn a_form_has_little_beside_its_fields() {
    let server = Running::start(config()).await;
    let head = "--X\r\ncontent-disposition: form-data; name=\"a\"\r\n";
    for beginning in ["", head, &format!("{head}\r\nfirst\r\n--X\r\n")] {
        let mut client = server.client().await;
        client.begin("POST", "/files", &[FORM, "transfer-encoding: chunked"]).await.unwrap();
        client.send_chunk(beginning.as_bytes()).await.unwrap();
        let mut sent = 0;
        let broken = loop {
            if client.send_chunk(&[b'x'; 16 << 10]).await.is_err() {
                break true; // it was refused, and the connection closed
            }
            sent += 16 << 10;
            if sent > 8 << 20 {
                break false;
            }
        };
        assert!(broken, "{sent} bytes were taken after {beginning:?}");
    }
    server.until_empty().await;
    // Neither do long fields have a limit there, nor do many short ones.
    let mut form = format!("{head}\r\n").into_bytes();
    form.extend(vec![b'x'; 5 << 20]);
    for number in 0..900 {
        form.extend(format!("\r\n--X\r\nx-padding: {number:0>1000}\r\ncontent-disposition: form-data; name=\"{number}\"\r\n\r\n").bytes());
    }
    form.extend(b"\r\n--X--\r\n");
    assert_eq!(server.request("POST", "/files", &[FORM], &form).await.status, 201);
}

/// RFC 9110 defines ranges for `GET` alone. An `If-Range` that is no tag was taken for none, and of two lines
/// of ranges the first for all.
#[tokio::test]
async fn a_range_is_for_the_same_file_and_for_get() {
    let server = Running::start(config()).await;
    server.request("PUT", "/files/a", &[], b"0123456789").await;
    let head = server.request("HEAD", "/files/a", &["range: bytes=0-1"], b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    let head = server.request("HEAD", "/files/a", &["range: bytes=10-"], b"").await;
    assert_eq!(head.status, 200);
    let other = server.request("GET", "/files/a", &["range: bytes=0-1", "if-range: \"\u{fc}\""], b"").await;
    assert_eq!((other.status, other.body.len()), (200, 10));
    for ranges in ["bytes=0-1,3-4", "bytes=0-1\r\nrange: bytes=3-4"] {
        let several = server.request("GET", "/files/a", &[&format!("range: {ranges}")], b"").await;
        assert_eq!((several.status, several.body.len()), (200, 10), "{ranges}");
    }
}

/// A client that goes on with a `PUT` sends the rest with the place of it. That was taken for the whole
/// file, and replaced it; so was a part with the headers of a resumable upload.
#[tokio::test]
async fn a_part_of_a_file_does_not_replace_it() {
    let server = Running::start(config()).await;
    server.request("PUT", "/files/a", &[], b"0123456789").await;
    for header in [
        "content-range: bytes 5-9/10",
        "upload-complete: ?0",
        "upload-complete: ?false",
        "upload-complete: ?1\r\nupload-complete: ?0",
        "upload-offset: 5",
        "upload-offset: +0",
        "upload-offset:",
    ] {
        let part = server.request("PUT", "/files/a", &[header], b"56789").await;
        assert_eq!(part.status, 400, "{header}: {}", part.text());
        assert!(part.text().contains("PATCH"), "{}", part.text());
    }
    assert_eq!(server.request("GET", "/files/a", &[], b"").await.text(), "0123456789");
    let whole = ["upload-offset: 0", "upload-complete: ?1"];
    assert_eq!(server.request("PUT", "/files/a", &whole, b"56789").await.status, 200, "that is all of it");
}

/// A client that stopped reading kept its body, and the room of that on the disk, for as long as its
/// connection was open, though the file was deleted meanwhile.
#[tokio::test]
async fn a_client_that_stops_reading_holds_nothing_for_long() {
    let server = Running::start(Config { idle: Duration::from_millis(300), ..config() }).await;
    let content = vec![7; 32 << 20];
    assert_eq!(server.request("PUT", "/files/a", &[], &content).await.status, 201);
    let mut client = Client::connect_narrow(server.address, 4096).await.unwrap();
    client.begin("GET", "/files/a", &[]).await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 200);
    server.request("DELETE", "/files/a", &[], b"").await;
    server.until_empty().await;
}

/// The list of all files was an answer of any length, in memory that no pool is charged for, for each client
/// that did not read it.
#[tokio::test]
async fn a_list_has_a_thousand_names_at_a_time() {
    let server = Running::start(config()).await;
    let name = |number: usize| format!("{number:04}");
    for number in 0..2300 {
        let stored =
            Stored { body: server.files.pool.buffer().freeze().into(), sha256: String::new().into() };
        assert!(server.files.put(&name(number), stored, &Precondition::default()).unwrap());
    }
    let (mut names, mut after) = (Vec::new(), String::new());
    for expected in [1000, 1000, 300, 0] {
        let listed = server.request("GET", &format!("/files?after={after}"), &[], b"").await.json().unwrap();
        let listed = listed.as_array().unwrap();
        assert_eq!(listed.len(), expected);
        names.extend(listed.iter().map(|file| file["name"].as_str().unwrap().to_owned()));
        after = names.last().unwrap().clone();
    }
    assert!(names.into_iter().eq((0..2300).map(name)));
}

/// Uploads that broke off were kept for as long as the process lived: a client that began many and completed
/// none filled the disk.
#[tokio::test(start_paused = true)]
async fn an_upload_that_nobody_resumes_is_gone_in_time() {
    let files = Files::new(Config { resume: LONG, ..config() }).unwrap();
    let removing = async { match files.keep_removing_stale().await {} };
    let checked = async {
        let write = async |name, offset, bytes: &[u8]| {
            let partial = files.find_partial(name, offset, &Precondition::default()).unwrap();
            let mut locked = partial.lock().await;
            locked.buffer.as_mut().unwrap().write_all(bytes).await.unwrap();
            locked.grown = Instant::now();
            drop(locked);
            partial
        };
        write("stale", 0, b"bytes").await;
        write("resumed", 0, b"bytes").await;
        let busy = write("busy", 0, b"bytes").await;
        sleep(LONG * 2 / 3).await;
        write("resumed", 5, b"more").await;
        assert_eq!(files.list("").len(), 3);
        sleep(LONG * 2 / 3).await;
        assert!(files.find("stale").is_err() && files.find("resumed").is_ok());
        assert!(files.check_current("busy", &busy).is_ok(), "a request goes on with it");
        drop(busy);
        sleep(LONG * 2 / 3).await;
        assert_eq!(files.list("").len(), 0);
        let stats = files.pool.stats();
        assert_eq!((stats.buffers, stats.memory_used), (0, 0));
    };
    tokio::select! { () = removing => {}, () = checked => {} }
}

#[tokio::test]
async fn a_server_removes_uploads_that_nobody_resumes() {
    let server = Running::start(Config { resume: Duration::from_millis(30), ..config() }).await;
    let part =
        server.request("PATCH", "/files/a", &["upload-offset: 0", "upload-complete: ?0"], b"bytes").await;
    assert_eq!(part.status, 204);
    server.until_empty().await;
    assert_eq!(server.request("HEAD", "/files/a", &[], b"").await.status, 404);
}

/// A `PATCH` that said beforehand that it was too long was received until it was, and then refused: what had
/// come of it was kept, under a name that could not be completed.
#[tokio::test]
async fn a_part_that_says_that_it_is_too_long_takes_no_name() {
    let server = Running::start(Config { limit: 10, ..config() }).await;
    for (offset, length) in [("0", "11"), ("3", "8"), ("18446744073709551615", "1")] {
        let mut long = server.client().await;
        let headers = [&*format!("upload-offset: {offset}"), &*format!("content-length: {length}")];
        long.begin("PATCH", "/files/a", &headers).await.unwrap();
        let refused = long.reply("PATCH").await.unwrap();
        assert_eq!(refused.status, 413, "{length} bytes at {offset}, of which none was sent");
    }
    assert_eq!(server.request("HEAD", "/files/a", &[], b"").await.status, 404);
    server.until_empty().await;
}

/// All but `?0` was taken for the last part: `?false` made half of a file whole.
#[tokio::test]
async fn whether_a_part_is_the_last_is_one_of_two_words() {
    let server = Running::start(config()).await;
    for word in ["?false", "0", "?2", "", "\u{fc}", "?0, ?1", "?1\r\nupload-complete: ?0"] {
        let complete = format!("upload-complete: {word}");
        let refused = server.request("PATCH", "/files/a", &["upload-offset: 0", &complete], b"half").await;
        assert_eq!(refused.status, 400, "{word}: {}", refused.text());
    }
    let complete = ["upload-offset: 0", "upload-complete: ?1"];
    assert_eq!(server.request("PATCH", "/files/a", &complete, b"all").await.status, 201);
}

/// A number may have no sign (RFC 9651, section 3.3.1). `+0` was taken for 0, and of two lines the first was
/// believed; of two in the query the last was, and in place of a header that cannot be read the query.
#[tokio::test]
async fn an_offset_is_digits() {
    let server = Running::start(config()).await;
    for offset in ["+0", "-0", "0x0", "", "0, 0", "\u{fc}", "0\r\nupload-offset: 3"] {
        let refused =
            server.request("PATCH", "/files/a", &[&format!("upload-offset: {offset}")], b"all").await;
        assert_eq!(refused.status, 400, "{offset}: {}", refused.text());
    }
    for query in ["%2B0", "0&offset=0", "3&other&offset=0", ""] {
        let path = format!("/files/a?offset={query}");
        assert_eq!(server.request("PATCH", &path, &[], b"all").await.status, 400, "{query}");
    }
    for offset in ["\u{fc}", "", "3,"] {
        let header = format!("upload-offset: {offset}");
        let refused = server.request("PATCH", "/files/a?offset=0", &[&header], b"all").await;
        assert_eq!(refused.status, 400, "{offset}: {}", refused.text());
    }
    assert_eq!(server.request("PATCH", "/files/a?offset=0", &[], b"all").await.status, 201);
}

/// Where there were as many files as there may be, a `PUT` of another was received to its end, and then
/// refused.
#[tokio::test]
async fn one_file_too_many_is_refused_before_it_is_sent() {
    let server = Running::start(config()).await;
    let stored = Stored { body: server.files.pool.buffer().freeze().into(), sha256: "0".into() };
    for number in 0..FILES_MAX {
        server.files.put(&number.to_string(), stored.clone(), &Precondition::default()).unwrap();
    }
    let mut client = server.client().await;
    client.begin("PUT", "/files/a", &["content-length: 1000"]).await.unwrap();
    let refused = client.reply("PUT").await.unwrap();
    assert_eq!(refused.status, 507, "no byte was sent: {}", refused.text());
    assert_eq!(server.request("PUT", "/files/1", &[], b"changed").await.status, 200);
}

/// Half a head held a shutdown for 30 seconds, as long as the server waits by default, and it ended as if a
/// request had been broken off.
#[tokio::test]
async fn half_a_head_is_no_request_that_a_shutdown_waits_for() {
    let files = Arc::new(Files::new(config()).unwrap());
    let listener = listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (mut half, mut other) =
        (Client::connect(address).await.unwrap(), Client::connect(address).await.unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving =
        tokio::spawn(serve(listener, files, async { drop(stopped.await) }, Duration::from_secs(20)));
    half.send(b"GET /fil").await.unwrap();
    for _ in 0..2 {
        let answer = other.request("GET", "/files", &[], b"").await.unwrap(); // so it has read what came before
        assert_eq!(answer.status, 200);
    }
    tokio::time::pause(); // which goes on at once when all wait
    drop(stop);
    assert!(serving.await.unwrap(), "all that had begun was carried out");
}

/// Only 408 and 413 said that the connection closes. After each other refusal that left a body unread hyper
/// closed it without a word, and a client that keeps its connections sent its next request into it.
#[tokio::test]
async fn a_refusal_of_a_body_says_that_the_connection_closes() {
    let server = Running::start(config()).await;
    for (request, header, status) in [
        ("PUT /files/.hidden", "kept: yes", 400),
        ("PUT /files/a", "upload-complete: ?0", 400),
        ("PUT /files/a", "if-match: \"other\"", 412),
        ("PUT /files/a", "origin: http://elsewhere", 403),
        ("PATCH /files/a", "kept: yes", 400),
        ("PATCH /files/a", "upload-offset: 1", 404),
        ("POST /files", "kept: yes", 415),
        ("POST /files/a/persist", "kept: yes", 404),
        ("DELETE /files/a", "kept: yes", 404),
        ("POST /", "kept: yes", 405),
        ("PUT /nowhere", "kept: yes", 404),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let mut client = server.client().await;
        client.begin(method, path, &[header, "content-length: 1000000"]).await.unwrap();
        let refused = client.reply(method).await.unwrap();
        assert_eq!((refused.status, refused.header("connection")), (status, Some("close")), "{request}");
    }
    let mut client = server.client().await;
    for _ in 0..2 {
        let unknown = client.request("GET", "/files/a", &[], b"").await.unwrap();
        assert_eq!(
            (unknown.status, unknown.header("connection")),
            (404, None),
            "there is no body to receive"
        );
    }
}

/// A file that was deleted by a request whose body nobody reads was gone, and the connection closed without a
/// word: only a refusal said so. One of a body that had come whole said so too, for nothing.
#[tokio::test]
async fn an_answer_before_the_end_of_a_body_says_that_the_connection_closes() {
    let server = Running::start(config()).await;
    for (method, status) in [("PUT", 201), ("GET", 200), ("DELETE", 204)] {
        let mut client = server.client().await;
        let len = if method == "PUT" { 1000 } else { 300_000 };
        client.begin(method, "/files/a", &[&format!("content-length: {len}")]).await.unwrap();
        client.send(&[7; 1000]).await.unwrap();
        let answer = client.reply(method).await.unwrap();
        let close = (method != "PUT").then_some("close");
        assert_eq!((answer.status, answer.header("connection")), (status, close), "{method}");
    }
    let mut client = server.client().await;
    for form in ["no form", "--X\r\n"] {
        let refused = client.request("POST", "/files", &[FORM], form.as_bytes()).await.unwrap();
        assert_eq!((refused.status, refused.header("connection")), (400, None), "all of it was received");
    }
}

/// RFC 9112, section 3.2: a request that names no host, or two, is refused. It was carried out, and the check
/// against pages of other sites looked at the first.
#[tokio::test]
async fn a_request_names_one_host() {
    let server = Running::start(config()).await;
    for (head, status) in [
        ("GET /files HTTP/1.1\r\n", 400),
        ("GET /files HTTP/1.1\r\nhost: a\r\nhost: b\r\n", 400),
        ("GET /files HTTP/1.1\r\nhost: a\r\n", 200),
        ("GET /files HTTP/1.0\r\nhost: a\r\nhost: a\r\n", 400),
        ("GET /files HTTP/1.0\r\n", 200),
    ] {
        let mut client = server.client().await;
        client.send(format!("{head}\r\n").as_bytes()).await.unwrap();
        assert_eq!(client.reply("GET").await.unwrap().status, status, "{head}");
    }
}
