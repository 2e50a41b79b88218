//! Requests that are for a file as it was: `If-Match` and `If-None-Match`, RFC 9110, section 13.
#![allow(missing_docs)]

use overspill_servers::files::Config;
use overspill_servers::running::{Running, config, until};

/// Answers had an `ETag`, and requests that named it were carried out whatever they said: two clients that
/// each changed the file that they had read lost the change of one.
#[tokio::test]
async fn a_request_for_the_file_as_it_was_is_refused_once_it_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(Config { dir: Some(dir.path().to_owned()), ..config() }).await;
    server.request("PUT", "/files/a", &[], b"first").await;
    let tag = async || {
        let head = server.request("HEAD", "/files/a", &[], b"").await;
        head.header("etag").unwrap().to_owned()
    };
    let old = tag().await;
    assert_eq!(
        server.request("PUT", "/files/a", &[&format!("if-match: {old}")], b"second").await.status,
        200
    );
    let new = tag().await;
    for (method, path) in
        [("PUT", "/files/a"), ("DELETE", "/files/a"), ("POST", "/files/a/persist"), ("GET", "/files/a")]
    {
        for header in [
            format!("if-match: {old}"),
            format!("if-match: W/{new}"), // a weak tag matches nothing here
            format!("if-match: {}", new.trim_matches('"')),
            "if-match: \"\u{fc}\"".to_owned(),
        ] {
            let refused = server.request(method, path, &[&header], b"third").await;
            assert_eq!(refused.status, 412, "{method} with {header}");
            assert!(refused.text().contains("another"), "{}", refused.text());
        }
        let absent = server.request(method, &path.replace("/a", "/absent"), &["if-match: *"], b"").await;
        assert_eq!(absent.status, if method == "PUT" { 412 } else { 404 }, "{method}");
    }
    for header in [format!("if-none-match: \"x\" ,W/{new}"), "if-none-match: *".to_owned()] {
        for (method, path) in [("PUT", "/files/a"), ("DELETE", "/files/a"), ("POST", "/files/a/persist")] {
            assert_eq!(server.request(method, path, &[&header], b"third").await.status, 412, "{header}");
        }
        for method in ["GET", "HEAD"] {
            let known = server.request(method, "/files/a", &[&header, "range: bytes=99-"], b"").await;
            assert_eq!((known.status, known.header("etag"), &*known.body), (304, Some(&*new), &b""[..]));
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was persisted");
    let got = server.request("GET", "/files/a", &[&format!("if-none-match: {old}")], b"").await;
    assert_eq!((got.status, &*got.body), (200, &b"second"[..]));

    let both = [format!("if-match: {old}"), format!("if-match: \"a,b\", {new}")];
    let both = both.each_ref().map(|header| &**header);
    assert_eq!(server.request("POST", "/files/a/persist", &both, b"").await.status, 200, "two lines");
    // A star within a tag, which may have commas, was taken for the one that stands for any file.
    for (header, status) in
        [("if-match: \"a,*,b\"", 412), ("if-match: *, \"x\"", 412), ("if-none-match: \"a,*,b\"", 200)]
    {
        let got = server.request("GET", "/files/a", &[header], b"").await;
        assert_eq!(got.status, status, "{header}");
    }
    assert_eq!(server.request("DELETE", "/files/a", &["if-match: *"], b"").await.status, 204);
}

/// What is not whole yet has no tag.
#[tokio::test]
async fn a_part_of_a_file_is_no_file_yet() {
    let server = Running::start(config()).await;
    let more = ["upload-offset: 0", "upload-complete: ?0"];
    let refused = server.request("PATCH", "/files/a", &[more[0], more[1], "if-match: *"], b"part").await;
    assert_eq!(refused.status, 412);
    assert_eq!(server.request("HEAD", "/files/a", &[], b"").await.status, 404, "no name was taken");
    let begun = server.request("PATCH", "/files/a", &[more[0], more[1], "if-none-match: *"], b"part").await;
    assert_eq!(begun.status, 204);
    assert_eq!(server.request("DELETE", "/files/a", &["if-match: \"x\""], b"").await.status, 412);
    let last = ["upload-offset: 4", "if-none-match: *"];
    assert_eq!(server.request("PATCH", "/files/a", &last, b"rest").await.status, 201);
    assert_eq!(server.request("GET", "/files/a", &[], b"").await.text(), "partrest");
    let whole = server.request("PATCH", "/files/a", &["upload-offset: 0", "if-none-match: *"], b"x").await;
    assert_eq!(whole.status, 409, "which it is without the condition too");
}

/// Each had looked before its body came, when there was no such file.
#[tokio::test]
async fn of_those_that_make_one_file_at_once_one_does() {
    const RIVALS: usize = 8;
    let server = Running::start(config()).await;
    let mut rivals = Vec::new();
    for _ in 0..RIVALS {
        let mut rival = server.client().await;
        rival.begin("PUT", "/files/a", &["if-none-match: *", "content-length: 10000"]).await.unwrap();
        rival.send(&[7; 9999]).await.unwrap();
        rivals.push(rival);
    }
    until("all have begun", || server.files.pool.stats().buffers == RIVALS).await;
    let mut made = 0;
    for mut rival in rivals {
        rival.send(b"7").await.unwrap();
        let status = rival.reply("PUT").await.unwrap().status;
        assert!([201, 412].contains(&status), "{status}");
        made += usize::from(status == 201);
    }
    assert_eq!(made, 1);
    server.request("DELETE", "/files/a", &[], b"").await;
    server.until_empty().await;
}
