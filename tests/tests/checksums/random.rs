//! Any operations in any order, with the store changed in between.

use super::*;

/// Bytes that differ from those at any place near; quicker than random ones.
fn made_up(random: &mut Random, len: usize) -> Vec<u8> {
    let first = random.index(1 << 16);
    (first..first + len).map(|i| (i ^ (i >> 8)) as u8).collect()
}

/// Writes and cuts anywhere, with a byte of the store changed during each read. Whatever is read must be
/// right.
#[test]
fn no_changed_byte_is_read_after_any_operations() {
    for seed in 1..40 {
        let mut random = Random::new(seed);
        let store = OpenStore::default();
        let page = [8, BLOCK, PAGE][random.index(3)];
        // A quarter of a page: frames have parts of pages.
        let memory = [0, page / 4, page, 3 * page][random.index(4)];
        let mut buffer = pool(memory, page, &store).buffer();
        let mut content = Vec::new();
        for _ in 0..120 {
            let at = random.index(4 * page);
            let most = [20, page / 3, 3 * page][random.index(3)];
            let len = 1 + random.index(most);
            match random.index(9) {
                0..4 => {
                    buffer.seek(SeekFrom::Start(at as u64)).unwrap();
                    let data = made_up(&mut random, len);
                    buffer.write_all(&data).unwrap();
                    content.resize(content.len().max(at + len), 0);
                    content[at..at + len].copy_from_slice(&data);
                }
                4 => {
                    buffer.set_len(at as u64).unwrap();
                    content.resize(at, 0);
                }
                5 => buffer.spill().unwrap(),
                6 => {
                    // The store stops somewhere. What is written goes on where the content ends.
                    store.state().room = Some(random.index(page));
                    buffer.seek(SeekFrom::End(0)).unwrap();
                    for piece in made_up(&mut random, len).chunks(1 + page / 10) {
                        let Ok(taken) = buffer.write(piece) else { break };
                        content.extend_from_slice(&piece[..taken]);
                        if taken < piece.len() {
                            break;
                        }
                    }
                    drop(buffer.spill());
                    store.state().room = None;
                }
                _ => {
                    let held = store.state().bytes.len();
                    let flipped = (held > 0).then(|| random.index(held));
                    flipped.inspect(|&at| store.flip(at, 5));
                    store.state().changed = flipped;
                    let start = at.min(content.len());
                    buffer.seek(SeekFrom::Start(start as u64)).unwrap();
                    let (read, result) = READ_PATHS[random.index(READ_PATHS.len())].1(&mut buffer, len);
                    assert!(content[start..].starts_with(&read), "seed {seed}: wrong bytes");
                    match result {
                        Ok(()) => assert_eq!(start + read.len(), content.len(), "seed {seed}"),
                        Err(error) => drop(corrupted_place(error)),
                    }
                    // The read may have moved another page there, and then the byte is no longer changed.
                    let left = store.state().changed.take();
                    left.inspect(|&at| store.flip(at, 5));
                }
            }
            buffer.check_invariants();
        }
        assert_well(&mut buffer, &content);
    }
}
