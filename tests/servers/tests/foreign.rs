//! Pages of other sites, in the browser of a person who can reach the server.
#![allow(missing_docs)]

use overspill_servers::running::{Running, config};

/// A form needs no leave of the server that it is sent to. So any page could fill the disk of a server that
/// listens on 127.0.0.1 alone, and persist a file of its own choice there.
#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let server = Running::start(config()).await;
    server.request("PUT", "/files/a", &[], b"first").await;
    let form = "content-type: multipart/form-data; boundary=X";
    let body = b"--X\r\ncontent-disposition: form-data; name=\"b\"\r\n\r\nx\r\n--X--\r\n";
    for headers in [
        &["sec-fetch-site: cross-site"][..],
        &["sec-fetch-site: same-site"], // another port of this machine
        &["sec-fetch-site: cross-site", "origin: http://test"],
        &["origin: http://elsewhere"],
        &["origin: http://test:8080"],
        &["origin: null"],
        &["origin: \u{fc}"],
    ] {
        for (method, path) in [
            ("POST", "/files"),
            ("POST", "/files/a/persist"),
            ("PUT", "/files/a"),
            ("DELETE", "/files/a"),
            ("PATCH", "/files/b?offset=0"),
        ] {
            let headers = [&[form], headers].concat();
            let refused = server.request(method, path, &headers, body).await;
            assert_eq!(refused.status, 403, "{method} {path} with {headers:?}");
        }
        assert_eq!(server.request("GET", "/files/a", headers, b"").await.text(), "first");
    }
    assert_eq!(server.files.list("").len(), 1);
}

#[tokio::test]
async fn the_server_s_own_page_and_what_is_no_browser_go_on() {
    let server = Running::start(config()).await;
    for headers in [
        &[][..],
        &["sec-fetch-site: same-origin", "origin: http://test"],
        &["sec-fetch-site: none"],
        &["sec-fetch-site: same-origin", "origin: https://outside"], // a proxy has put another host in
        &["origin: http://Test"],
        &["origin: https://test"],
    ] {
        let stored = server.request("PUT", "/files/a", headers, b"x").await;
        assert!([200, 201].contains(&stored.status), "{} with {headers:?}", stored.status);
    }
}
