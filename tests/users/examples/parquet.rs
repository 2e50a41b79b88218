//! A parquet file is written and read by eight threads, in memory far smaller than it or any row group of it.
//!
//! Three things come together under one memory limit. The pages of a row group, which the writer has to keep
//! until all of its columns are complete: a `PageStore` with a small buffer for each page. The file itself:
//! one more buffer. And the readers: `ChunkReader` over frozen content, whose `get_bytes` lends what is in
//! memory instead of copying it.
//!
//! ```sh
//! cargo run --manifest-path tests/users/Cargo.toml --example parquet -- /tmp/rows.parquet
//! ```

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use overspill::{Frozen, FrozenReader, SpillBuffer, SpillPool};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::column::page_store::{PageKey, PageStore, PageStoreArgs, PageStoreFactory};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, Length};
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::thread;

pub const ROWS: i64 = 400_000;

/// One for each reading thread.
const ROW_GROUPS: i64 = 8;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let Some(target) = std::env::args_os().nth(1) else {
        return Err("usage: parquet TARGET".into());
    };
    let pool = SpillPool::builder().memory(256 << 10).build()?;
    let file = write(&pool)?;
    println!("the numbers of all rows sum up to {}", sum_of_numbers(&file)?);
    println!("{} bytes of parquet in {} of memory", file.len(), pool.stats().memory_high_water);
    file.persist(&target)?.durable()?;
    Ok(())
}

/// The pages of one column chunk, each in a buffer of its own: a page that is taken leaves
/// memory and disk at once.
struct PooledPages {
    pool: SpillPool,
    pages: Vec<SpillBuffer>,
}

impl PageStore for PooledPages {
    fn put(&mut self, value: Bytes) -> Result<PageKey> {
        let mut page = self.pool.buffer();
        page.write_all(&value)?;
        self.pages.push(page);
        Ok(PageKey::new(self.pages.len() as u64 - 1))
    }

    fn take(&mut self, key: PageKey) -> Result<Bytes> {
        let page = usize::try_from(key.get()).ok().and_then(|index| self.pages.get_mut(index));
        let page = page.ok_or_else(|| ParquetError::General(format!("no page {key:?}")))?;
        let page = std::mem::take(page).freeze();
        Ok(page.bytes_at(0, usize::MAX)?)
    }
}

#[derive(Debug)]
struct PoolOfPages(SpillPool);

impl PageStoreFactory for PoolOfPages {
    fn create(&self, _: &PageStoreArgs<'_>) -> Result<Box<dyn PageStore>> {
        Ok(Box::new(PooledPages { pool: self.0.clone(), pages: Vec::new() }))
    }
}

/// Frozen content as parquet reads it.
#[derive(Clone)]
struct Chunks(Frozen);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Chunks {
    type T = FrozenReader;

    fn get_read(&self, start: u64) -> Result<FrozenReader> {
        let mut reader = self.0.reader();
        reader.seek(SeekFrom::Start(start))?;
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.0.bytes_at(start, length)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{} of {length} bytes at {start}", bytes.len())));
        }
        Ok(bytes)
    }
}

/// Some rows, as `number`, its `square`, and a `name`.
fn rows(from: i64, to: i64) -> Result<RecordBatch> {
    let number: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
    let square: ArrayRef = Arc::new(Int64Array::from_iter_values((from..to).map(|number| number * number)));
    let name: ArrayRef =
        Arc::new(StringArray::from_iter_values((from..to).map(|number| format!("row {number}"))));
    Ok(RecordBatch::try_from_iter([("number", number), ("square", square), ("name", name)])?)
}

/// A file of as many row groups as there will be readers.
pub fn write(pool: &SpillPool) -> Result<Frozen> {
    let in_group = ROWS / ROW_GROUPS;
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(usize::try_from(in_group).ok())
        .set_dictionary_enabled(false)
        .build();
    let options = ArrowWriterOptions::new()
        .with_properties(properties)
        .with_page_store_factory(Arc::new(PoolOfPages(pool.clone())));
    let schema = rows(0, 1)?.schema();
    let mut writer = ArrowWriter::try_new_with_options(pool.buffer(), schema, options)?;
    for from in (0..ROWS).step_by(10_000) {
        writer.write(&rows(from, from + 10_000)?)?;
    }
    Ok(writer.into_inner()?.freeze())
}

/// Reads all row groups at once, a thread for each, and adds their numbers up. Each row is compared
/// with what was written.
pub fn sum_of_numbers(file: &Frozen) -> Result<i64> {
    let read = |group: i64| -> Result<i64> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Chunks(file.clone()))?
            .with_row_groups(usize::try_from(group).into_iter().collect())
            .with_batch_size(10_000)
            .build()?;
        let (mut sum, mut next) = (0, group * (ROWS / ROW_GROUPS));
        for batch in reader {
            let batch = batch?;
            let end = next + batch.num_rows() as i64;
            assert_eq!(batch.columns(), rows(next, end)?.columns());
            sum += (next..end).sum::<i64>();
            next = end;
        }
        Ok(sum)
    };
    thread::scope(|scope| {
        let groups: Vec<_> = (0..ROW_GROUPS).map(|group| scope.spawn(move || read(group))).collect();
        groups.into_iter().map(|group| group.join().expect("no panic")).sum()
    })
}
