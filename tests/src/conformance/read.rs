//! What `std::io::Read` promises.

use super::{Broken, Outcome, Rule, SIZES, ensure, samples, try_all};
use std::io::{ErrorKind, IoSliceMut, Read};

/// Checks the readers that `make` makes, each with the content it is given.
///
/// # Errors
/// With the first rule that is broken.
pub fn check<R: Read, F: FnMut(&[u8]) -> R>(mut make: F) -> Result<(), Broken> {
    try_all(&rules(), &mut make)
}

/// The rules.
pub fn rules<R: Read, F: FnMut(&[u8]) -> R>() -> Vec<Rule<F>> {
    vec![
        ("reads of any size give the content in order", sizes),
        ("an empty read gives 0 and moves nothing", empty),
        ("the end stays the end", end),
        ("read_exact fills the buffer or says UnexpectedEof", exact),
        ("read_to_end appends what is left and counts it", to_end),
        ("read_to_string appends text, or says InvalidData and appends nothing", to_string),
        ("read_vectored fills its buffers in order", vectored),
    ]
}

fn sizes<R: Read, F: FnMut(&[u8]) -> R>(make: &mut F) -> Outcome {
    for content in samples() {
        for size in SIZES {
            let (mut reader, mut got) = (make(&content), Vec::new());
            loop {
                let mut buf = vec![0; size];
                let n = reader.read(&mut buf)?;
                ensure!(n <= size, "a read of {size} bytes gave {n}");
                if n == 0 {
                    break;
                }
                got.extend_from_slice(&buf[..n]);
                ensure!(got.len() <= content.len(), "reads of {size} bytes give more than there is");
            }
            ensure!(got == content, "reads of {size} bytes gave {} of {} bytes", got.len(), content.len());
        }
    }
    Ok(())
}

fn empty<R: Read, F: FnMut(&[u8]) -> R>(make: &mut F) -> Outcome {
    let mut reader = make(b"abc");
    for byte in *b"abc" {
        let n = reader.read(&mut [])?;
        ensure!(n == 0, "an empty read gave {n}");
        let mut one = [0];
        reader.read_exact(&mut one)?;
        ensure!(one == [byte], "after an empty read came {one:?}, not {byte}");
    }
    let n = reader.read(&mut [])?;
    ensure!(n == 0, "an empty read at the end gave {n}");
    Ok(())
}

fn end<R: Read, F: FnMut(&[u8]) -> R>(make: &mut F) -> Outcome {
    for content in samples() {
        let mut reader = make(&content);
        reader.read_exact(&mut vec![0; content.len()])?;
        for attempt in 0..3 {
            let n = reader.read(&mut [0; 16])?;
            ensure!(n == 0, "read number {attempt} at the end gave {n}");
        }
    }
    Ok(())
}

fn exact<R: Read, F: FnMut(&[u8]) -> R>(make: &mut F) -> Outcome {
    for content in samples() {
        for size in SIZES {
            let mut reader = make(&content);
            let mut buf = vec![0; size];
            let mut pieces = content.chunks_exact(size);
            for piece in &mut pieces {
                reader.read_exact(&mut buf)?;
                ensure!(buf == piece, "a piece of {size} bytes is wrong");
            }
            let left = pieces.remainder().len();
            match reader.read_exact(&mut buf) {
                Ok(()) => ensure!(false, "{size} bytes were read of {left}"),
                Err(error) => ensure!(error.kind() == ErrorKind::UnexpectedEof, "past the end: {error:?}"),
            }
            reader.read_exact(&mut [])?;
        }
    }
    Ok(())
}

fn to_end<R: Read, F: FnMut(&[u8]) -> R>(make: &mut F) -> Outcome {
    for content in samples() {
        for start in [0, 1, content.len() / 2, content.len()] {
            let (head, tail) = content.split_at(start.min(content.len()));
            let mut reader = make(&content);
            reader.read_exact(&mut vec![0; head.len()])?;

            // Room to the byte, so that a reader that probes for the end has to be careful.
            let mut all = Vec::with_capacity(5 + tail.len());
            all.extend_from_slice(b"kept:");
            let n = reader.read_to_end(&mut all)?;
            ensure!(n == tail.len(), "read_to_end counts {n} of {} bytes", tail.len());
            ensure!(all.strip_prefix(b"kept:") == Some(tail), "read_to_end does not append what is left");
            ensure!(reader.read_to_end(&mut all)? == 0, "read_to_end finds something at the end");
            ensure!(all.len() == 5 + tail.len(), "read_to_end appends something at the end");
        }
    }
    Ok(())
}

fn to_string<R: Read, F: FnMut(&[u8]) -> R>(make: &mut F) -> Outcome {
    let text = "text of several \u{1F30A} and one byte each";
    let mut string = String::from("kept:");
    let n = make(text.as_bytes()).read_to_string(&mut string)?;
    ensure!(n == text.len(), "read_to_string counts {n} of {} bytes", text.len());
    ensure!(string.strip_prefix("kept:") == Some(text), "read_to_string gave {string:?}");

    let cut_short = &text.as_bytes()[..18]; // inside the wave
    for bytes in [&b"\xFF"[..], b"valid, then \xC3\x28", cut_short] {
        let mut string = String::from("kept:");
        match make(bytes).read_to_string(&mut string) {
            Ok(n) => ensure!(false, "{n} bytes of {bytes:?} were taken for text"),
            Err(error) => ensure!(error.kind() == ErrorKind::InvalidData, "no text: {error:?}"),
        }
        ensure!(string == "kept:", "read_to_string failed and left {string:?}");
    }
    Ok(())
}

fn vectored<R: Read, F: FnMut(&[u8]) -> R>(make: &mut F) -> Outcome {
    for content in samples() {
        let mut reader = make(&content);
        ensure!(reader.read_vectored(&mut [])? == 0, "no buffers at all were filled");
        let mut got = Vec::new();
        while got.len() < content.len() {
            let mut buf = [0; 60];
            let (first, rest) = buf.split_at_mut(3);
            let (second, third) = rest.split_at_mut(7);
            let mut slices = [&mut [][..], first, second, &mut [], third].map(IoSliceMut::new);
            let n = reader.read_vectored(&mut slices)?;
            ensure!((1..=60).contains(&n), "{n} bytes of at most 60, {} left", content.len() - got.len());
            got.extend_from_slice(&buf[..n]);
        }
        ensure!(got == content, "read_vectored gave other bytes than there are");
        let n = reader.read_vectored(&mut [IoSliceMut::new(&mut [0; 4])])?;
        ensure!(n == 0, "read_vectored gave {n} bytes at the end");
    }
    Ok(())
}
