//! An example: how to fuzz code of your own over a `SpillBuffer` whose store fails.
//!
//! The code under test is a small file format, [`encode`] and [`decode`]. It writes a table of records, and
//! seeks back to fill in its header. Replace it by your own; [`drive_example`] stays.

use arbitrary::{Arbitrary, Unstructured};
use overspill::testing::PoolPlan;
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom, Write};

/// Writes a header with the offset of the index and the number of records; then the records; then the index,
/// with offset and length of each record.
fn encode(records: &[Vec<u8>], to: &mut (impl Write + Seek)) -> io::Result<()> {
    to.write_all(&[0; 16])?;
    let mut index = Vec::new();
    for record in records {
        index.push((to.stream_position()?, record.len() as u64));
        to.write_all(record)?;
    }
    let index_at = to.stream_position()?;
    for (offset, len) in index {
        to.write_all(&offset.to_le_bytes())?;
        to.write_all(&len.to_le_bytes())?;
    }
    to.seek(SeekFrom::Start(0))?;
    to.write_all(&index_at.to_le_bytes())?;
    to.write_all(&(records.len() as u64).to_le_bytes())
}

fn number(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn decode(from: &mut (impl Read + Seek)) -> io::Result<Vec<Vec<u8>>> {
    let end = from.seek(SeekFrom::End(0))?;
    from.seek(SeekFrom::Start(0))?;
    let (index_at, count) = (number(from)?, number(from)?);
    let mut records = Vec::new();
    for n in 0..count {
        let entry = n.checked_mul(16).and_then(|at| index_at.checked_add(at));
        from.seek(SeekFrom::Start(entry.ok_or(ErrorKind::InvalidData)?))?;
        let (offset, len) = (number(from)?, number(from)?);
        // Check the length before allocating for it.
        if offset.checked_add(len).is_none_or(|record_end| record_end > end) {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut record = vec![0; usize::try_from(len).map_err(|_| ErrorKind::InvalidData)?];
        from.seek(SeekFrom::Start(offset))?;
        from.read_exact(&mut record)?;
        records.push(record);
    }
    Ok(records)
}

/// What the fuzzer chooses.
#[derive(Arbitrary, Debug)]
struct Input {
    /// The pool, with its faults.
    plan: PoolPlan,
    records: Vec<Vec<u8>>,
    /// Bytes that were never encoded.
    junk: Vec<u8>,
}

/// Any bytes are an input.
///
/// # Panics
/// If the format loses records or reads wrong ones when the store fails.
pub fn drive_example(input: &[u8]) {
    let Ok(Input { mut plan, records, junk }) = Input::arbitrary_take_rest(Unstructured::new(input)) else {
        return;
    };
    plan.disk = u64::MAX; // so that only a fault can refuse
    let mut truth = Cursor::new(Vec::new());
    encode(&records, &mut truth).expect("a vector takes everything");
    let (pool, faults) = plan.pool();

    // Encoding fails only if the store has failed, and succeeds once the store works again.
    let mut buffer = pool.buffer();
    if encode(&records, &mut buffer).is_err() {
        assert!(faults.failed() > 0, "refused, though nothing has failed");
        faults.paused(|| {
            buffer.clear();
            encode(&records, &mut buffer).expect("nothing fails now");
        });
    }
    let written = faults.paused(|| {
        let mut written = Vec::new();
        buffer.rewind().and_then(|()| buffer.read_to_end(&mut written)).map(|_| written)
    });
    assert_eq!(written.expect("nothing fails now"), truth.into_inner(), "the same bytes as in memory");

    // Decoding returns the records or an error, never wrong records.
    let failed = faults.failed();
    match decode(&mut buffer) {
        Ok(read) => assert_eq!(read, records),
        Err(error) => assert!(faults.failed() > failed, "{error}, though nothing has failed"),
    }

    // Junk decodes to the same, or to the same error, over memory and over pages.
    let in_memory = decode(&mut Cursor::new(&junk)).map_err(|error| error.kind());
    let over_pages = faults.paused(|| {
        buffer.clear();
        buffer.write_all(&junk).expect("nothing fails now");
        decode(&mut buffer).map_err(|error| error.kind())
    });
    assert_eq!(over_pages, in_memory);
}
