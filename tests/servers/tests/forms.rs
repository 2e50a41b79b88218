//! Forms: which of their fields are files, and that a form is stored whole or not at all.
#![allow(missing_docs)]

use overspill_servers::client::Reply;
use overspill_servers::files::{Config, FILES_MAX, Stored};
use overspill_servers::multipart::BESIDE_MAX;
use overspill_servers::precondition::Precondition;
use overspill_servers::running::{Running, config};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const FORM: &str = "content-type: multipart/form-data; boundary=X";

/// A form with one file.
const WHOLE: &str = "--X\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nbytes\r\n--X--\r\n";

/// Sends a form of fields, each with what stands in its head and its content.
async fn post(server: &Running, fields: &[(&str, &str)]) -> Reply {
    let mut form = String::new();
    for (head, content) in fields {
        form += &format!("--X\r\ncontent-disposition: form-data; {head}\r\n\r\n{content}\r\n");
    }
    form += "--X--\r\n";
    server.request("POST", "/files", &[FORM], form.as_bytes()).await
}

/// The second of two replaced the first, and the answer said that both were stored.
#[tokio::test]
async fn two_fields_of_one_name_are_refused() {
    let server = Running::start(config()).await;
    for second in ["name=\"f\"; filename=\"a\"", "name=\"a\""] {
        let fields = [("name=\"f\"; filename=\"a\"", "first"), ("name=\"b\"", "other"), (second, "second")];
        let refused = post(&server, &fields).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains("\"a\""), "{}", refused.text());
    }
    assert_eq!(server.files.list("").len(), 0);
    server.until_empty().await;
}

/// A browser sends an input in which no file was chosen as a file without a name and without a byte. That was
/// a bad name, and the form was refused for it.
#[tokio::test]
async fn an_input_without_a_file_is_no_field() {
    let server = Running::start(config()).await;
    let empty = "name=\"second\"; filename=\"\"";
    let stored =
        post(&server, &[(empty, ""), ("name=\"first\"; filename=\"a\"", "bytes"), (empty, "")]).await;
    assert_eq!(
        (stored.status, stored.json().unwrap().as_array().unwrap().len()),
        (201, 1),
        "{}",
        stored.text()
    );
    assert_eq!(server.files.list("").len(), 1);
    assert_eq!(post(&server, &[(empty, "bytes that would be lost")]).await.status, 400);
    let many = vec![(empty, ""); overspill_servers::multipart::FIELDS_MAX + 1];
    assert_eq!(post(&server, &many).await.status, 413, "they count all the same");
}

/// The files of a form were stored one after another until one was refused: the client was told
/// that nothing was stored.
#[tokio::test]
async fn a_form_with_too_many_files_leaves_none() {
    let server = Running::start(config()).await;
    let stored = Stored { body: server.files.pool.buffer().freeze().into(), sha256: "0".into() };
    for number in 1..FILES_MAX {
        server.files.put(&number.to_string(), stored.clone(), &Precondition::default()).unwrap();
    }
    let refused = post(&server, &[("name=\"a\"", "x"), ("name=\"1\"", "changed"), ("name=\"b\"", "x")]).await;
    assert_eq!(refused.status, 507, "{}", refused.text());
    for name in ["a", "b"] {
        assert_eq!(server.request("GET", &format!("/files/{name}"), &[], b"").await.status, 404, "{name}");
    }
    assert_eq!(server.request("GET", "/files/1", &[], b"").await.text(), "");
    assert_eq!(
        post(&server, &[("name=\"1\"", "changed"), ("name=\"b\"", "x")]).await.status,
        201,
        "one is new"
    );
}

/// A form was answered at its last boundary. If what ends its body came later, hyper closed the connection
/// without a word, and a client that keeps its connections lost its next request there.
#[tokio::test]
async fn a_form_is_answered_once_its_body_has_ended() {
    let server = Running::start(config()).await;
    let mut client = server.client().await;
    client.begin("POST", "/files", &[FORM, "transfer-encoding: chunked"]).await.unwrap();
    client.send_chunk(WHOLE.as_bytes()).await.unwrap();
    assert!(timeout(Duration::from_millis(100), client.head()).await.is_err(), "more may come");
    client.send_chunk(b"what follows the last boundary is not looked at").await.unwrap();
    client.send_chunk(b"").await.unwrap();
    let stored = client.reply("POST").await.unwrap();
    assert_eq!((stored.status, stored.header("connection")), (201, None), "{}", stored.text());
    assert_eq!(client.request("DELETE", "/files/a", &[], b"").await.unwrap().status, 204);

    let (mut long, beside) = (server.client().await, vec![b'x'; 160 << 10]);
    long.begin("POST", "/files", &[FORM, "content-length: 1000000"]).await.unwrap();
    let _ = long.send(&[WHOLE.as_bytes(), &beside].concat()).await; // it may be refused before its end
    let refused = long.reply("POST").await.unwrap();
    assert_eq!((refused.status, refused.header("connection")), (413, Some("close")), "{}", refused.text());
    assert_eq!(server.files.list("").len(), 0);
    server.until_empty().await;
}

/// A name that is not in UTF-8, as a terminal of another encoding makes it, or that was sent as `filename*`
/// alone, was passed over, and the file was stored under the name of its field: the second of two files
/// replaced the first.
#[tokio::test]
async fn a_file_whose_name_cannot_be_read_is_refused() {
    let server = Running::start(config()).await;
    for name in [&b"filename=\"\xe9\""[..], b"filename*=UTF-8''%C3%A9", b"x=y;FileName = a"] {
        let head = b"--X\r\ncontent-disposition: form-data; name=\"f\"; ";
        let form = [head, name, b"\r\n\r\nbytes\r\n--X--\r\n"].concat();
        let refused = server.request("POST", "/files", &[FORM], &form).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains("UTF-8"), "{}", refused.text());
    }
    assert_eq!(post(&server, &[("name=\"filename\"", "text")]).await.status, 201, "that is a field");
    assert_eq!(server.files.list("").len(), 1);
}

/// A head that filled the parser's memory with its last piece left no room for the content behind it: the
/// parser had nothing to give away, asked again at once, over and over, and the form was 408.
#[tokio::test]
async fn a_head_that_fills_the_parser_is_followed_by_its_content() {
    let server = Running::start(Config { idle: Duration::from_secs(5), ..config() }).await;
    // Of content the parser keeps what may be the beginning of a boundary.
    for (with_the_head, rest) in [("", "bytes"), ("\r\n-", "bytes")] {
        let mut client = server.client().await;
        client.begin("POST", "/files", &[FORM, "transfer-encoding: chunked"]).await.unwrap();
        let mut head = b"--X\r\ncontent-disposition: form-data; name=\"a\"\r\nx: ".to_vec();
        head.resize(BESIDE_MAX - 10, b'x');
        client.send_chunk(&head).await.unwrap();
        client.send_chunk(format!("{:x<16}\r\n\r\n{with_the_head}", "").as_bytes()).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        client.send_chunk(format!("{rest}\r\n--X--\r\n").as_bytes()).await.unwrap();
        client.send_chunk(b"").await.unwrap();
        let stored = client.reply("POST").await.unwrap();
        assert_eq!(stored.status, 201, "{}", stored.text());
        let got = server.request("GET", "/files/a", &[], b"").await;
        assert_eq!(got.text(), format!("{with_the_head}{rest}"));
    }
}
