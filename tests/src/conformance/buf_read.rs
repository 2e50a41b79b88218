//! What `std::io::BufRead` promises.

use super::{Broken, Outcome, Rule, SIZES, ensure, samples, try_all};
use std::io::{BufRead, ErrorKind};

/// Checks the readers that `make` makes, each with the content it is given.
///
/// # Errors
/// With the first rule that is broken.
pub fn check<B: BufRead, F: FnMut(&[u8]) -> B>(mut make: F) -> Result<(), Broken> {
    try_all(&rules(), &mut make)
}

/// The rules.
pub fn rules<B: BufRead, F: FnMut(&[u8]) -> B>() -> Vec<Rule<F>> {
    vec![
        ("what fill_buf lends stays there until it is consumed", stable),
        ("consume goes on exactly behind what it was told", walk),
        ("fill_buf is empty at the end only, and stays so", end),
        ("read gives what fill_buf has lent", read_between),
        ("read_until and skip_until stop behind the byte, or at the end", until),
        ("read_line and lines split at line ends, or say InvalidData", lines),
    ]
}

fn stable<B: BufRead, F: FnMut(&[u8]) -> B>(make: &mut F) -> Outcome {
    for content in samples() {
        let (mut reader, mut place) = (make(&content), 0);
        loop {
            let first = reader.fill_buf()?.to_vec();
            ensure!(content[place..].starts_with(&first), "lends wrong bytes at {place}");
            reader.consume(0);
            let second = reader.fill_buf()?;
            let stays = if first.is_empty() { second.is_empty() } else { second.starts_with(&first) };
            ensure!(stays, "lends {} bytes at {place}, then {}", first.len(), second.len());
            if first.is_empty() {
                break;
            }
            let used = first.len().div_ceil(2);
            reader.consume(used);
            place += used;
        }
    }
    Ok(())
}

fn walk<B: BufRead, F: FnMut(&[u8]) -> B>(make: &mut F) -> Outcome {
    for content in samples() {
        for size in SIZES {
            let (mut reader, mut got) = (make(&content), Vec::new());
            loop {
                let lent = reader.fill_buf()?;
                let used = lent.len().min(size);
                if used == 0 {
                    break;
                }
                got.extend_from_slice(&lent[..used]);
                reader.consume(used);
                ensure!(got.len() <= content.len(), "steps of {size} give more than there is");
            }
            ensure!(got == content, "steps of {size} gave {} of {} bytes", got.len(), content.len());
        }
    }
    Ok(())
}

fn end<B: BufRead, F: FnMut(&[u8]) -> B>(make: &mut F) -> Outcome {
    for content in samples() {
        let (mut reader, mut left) = (make(&content), content.len());
        while left > 0 {
            let lent = reader.fill_buf()?.len();
            ensure!(lent > 0, "nothing lent, {left} bytes before the end");
            ensure!(lent <= left, "{lent} bytes lent, {left} before the end");
            reader.consume(lent);
            left -= lent;
        }
        for attempt in 0..3 {
            let lent = reader.fill_buf()?.len();
            ensure!(lent == 0, "{lent} bytes lent at the end, at attempt {attempt}");
            reader.consume(0);
        }
    }
    Ok(())
}

fn read_between<B: BufRead, F: FnMut(&[u8]) -> B>(make: &mut F) -> Outcome {
    for content in samples() {
        let (mut reader, mut got) = (make(&content), Vec::new());
        loop {
            let lent = reader.fill_buf()?;
            if lent.is_empty() {
                break;
            }
            got.push(lent[0]);
            reader.consume(1);
            let _ = reader.fill_buf()?;
            let mut buf = [0; 5];
            let n = reader.read(&mut buf)?;
            got.extend_from_slice(&buf[..n]);
            ensure!(got.len() <= content.len(), "gives more than there is");
        }
        ensure!(got == content, "taking turns gave {} of {} bytes, or wrong ones", got.len(), content.len());
    }
    Ok(())
}

fn until<B: BufRead, F: FnMut(&[u8]) -> B>(make: &mut F) -> Outcome {
    for content in samples() {
        for byte in [b'\n', 0, b'x'] {
            let (mut reader, mut skipping) = (make(&content), make(&content));
            for piece in content.split_inclusive(|&other| other == byte) {
                let mut got = b"kept:".to_vec();
                let n = reader.read_until(byte, &mut got)?;
                ensure!(got.strip_prefix(b"kept:") == Some(piece), "read_until({byte}) gave another piece");
                ensure!(n == piece.len(), "read_until({byte}) counts {n} of {} bytes", piece.len());
                let n = skipping.skip_until(byte)?;
                ensure!(n == piece.len(), "skip_until({byte}) counts {n} of {} bytes", piece.len());
            }
            let n = reader.read_until(byte, &mut Vec::new())? + skipping.skip_until(byte)?;
            ensure!(n == 0, "{n} bytes until {byte} at the end");
        }
    }
    Ok(())
}

fn lines<B: BufRead, F: FnMut(&[u8]) -> B>(make: &mut F) -> Outcome {
    let lines: Vec<String> = make(b"one\ntwo\r\n\nlast").lines().collect::<Result<_, _>>()?;
    ensure!(lines == ["one", "two", "", "last"], "lines gave {lines:?}");

    let mut reader = make(b"line\nno \xFF text\n");
    let mut line = String::from("kept:");
    ensure!(reader.read_line(&mut line)? == 5, "read_line counts wrong");
    ensure!(line == "kept:line\n", "read_line gave {line:?}");
    match reader.read_line(&mut line) {
        Ok(n) => ensure!(false, "{n} bytes were taken for text"),
        Err(error) => ensure!(error.kind() == ErrorKind::InvalidData, "no text: {error:?}"),
    }
    ensure!(line == "kept:line\n", "read_line failed and left {line:?}");
    Ok(())
}
