//! `docs/overspill.1` is what `overspill --help` says, as a man page. The test fails when the page is stale,
//! and
//!
//! ```text
//! OVERSPILL_RENEW=1 cargo test -p overspill-tests --test man_page
//! ```
//!
//! writes it anew. Nothing installs it: a package for a distribution copies it to its `man1`.

#[allow(dead_code)]
#[path = "../../std-adapter/src/bin/overspill/args.rs"]
mod args;
#[allow(dead_code)]
#[path = "../../std-adapter/src/bin/overspill/quote.rs"]
mod quote;
#[allow(dead_code)]
#[path = "../../std-adapter/src/bin/overspill/size.rs"]
mod size;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::path::Path;

/// The page of the command as it is.
fn page() -> String {
    let command = args::Args::command();
    let manual = command.get_after_long_help().expect("the command has a manual").to_string();
    let man = Man::new(command);
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    sections(&manual).to_writer(&mut page).unwrap();
    String::from_utf8(page).unwrap()
}

/// The manual's own sections. `clap_mangen` would put all of them into one, as a single paragraph.
///
/// A line that is not indented is the heading of a section. Below it, a blank line ends a paragraph, and what
/// has more than two blanks within a line, or a deeper line below it, is a term and its description.
fn sections(manual: &str) -> Roff {
    let mut roff = Roff::new();
    let mut begins = true; // a paragraph
    let mut lines = manual.lines().peekable();
    while let Some(line) = lines.next() {
        let text = line.trim_start();
        if text.is_empty() {
            begins = true;
        } else if text.len() == line.len() {
            roff.control("SH", [line]);
            begins = false; // the heading has begun it
        } else if let Some((term, description)) = text.split_once("  ") {
            roff.control("TP", []).text([bold(term)]).text([roman(description.trim_start())]);
            begins = false;
        } else if indent(line) == 2 && lines.peek().is_some_and(|next| indent(next) == 6) {
            roff.control("TP", []).text([bold(text)]);
            begins = false;
        } else {
            if begins {
                roff.control("PP", []);
            }
            roff.text([roman(text)]);
            begins = false;
        }
    }
    roff
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[test]
fn the_man_page_is_what_the_help_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/overspill.1");
    let page = page();
    if std::env::var_os("OVERSPILL_RENEW").is_some() {
        std::fs::write(&path, page).unwrap();
        return;
    }
    // As git checks it out on Windows.
    let committed = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    let differs = committed.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(
        committed == page,
        "docs/overspill.1 is stale, first at {differs:?}; renew it: \
         OVERSPILL_RENEW=1 cargo test -p overspill-tests --test man_page"
    );
}

#[test]
fn sections_paragraphs_and_terms_are_told_apart() {
    let manual = "ONE\n  A paragraph\n  of two lines.\n\n  Another.\n\n  a command\n      What it does.\n\nTWO\n  TERM  Its\n        text.";
    let expected = ".SH ONE\nA paragraph\nof two lines.\n.PP\nAnother.\n.TP\n\\fBa command\\fR\nWhat it does.\n\
                    .SH TWO\n.TP\n\\fBTERM\\fR\nIts\ntext.\n";
    let roff = sections(manual).render();
    assert!(roff.ends_with(expected), "{roff}");
}
