//! Forms: which of their fields are files, and that a form is stored whole or not at all.
#![allow(missing_docs)]

use overspill_servers::client::Reply;
use overspill_servers::files::{FILES_MAX, Stored};
use overspill_servers::precondition::Precondition;
use overspill_servers::running::{Running, config};

/// Sends a form of fields, each with what stands in its head and its content.
async fn post(server: &Running, fields: &[(&str, &str)]) -> Reply {
    let mut form = String::new();
    for (head, content) in fields {
        form += &format!("--X\r\ncontent-disposition: form-data; {head}\r\n\r\n{content}\r\n");
    }
    form += "--X--\r\n";
    let kind = ["content-type: multipart/form-data; boundary=X"];
    server.request("POST", "/files", &kind, form.as_bytes()).await
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
