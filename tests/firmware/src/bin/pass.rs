//! An interrupt produces, the main loop consumes, and every byte is verified; the cursor keeps transcripts
//! of it.
//!
//! On a board it takes 6 KiB of RAM, and a debugger that takes what is printed by semihosting: without one,
//! the first line that is printed is a fault.
//!
//! The system timer interrupts every few hundred instructions, at any point of the main loop, a read
//! included. The stream comes from a generator, so that a byte lost, doubled or swapped is noticed at once.
#![no_std]
#![no_main]

use core::cell::RefCell;

use cortex_m::interrupt::Mutex;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::{entry, exception};
use cortex_m_semihosting::hprintln;
use overspill_core::ring::{HighWater, LogConsumer, LogProducer, LogRing, PopError, Producer, Ring};
use overspill_core::{Cursor, Fixed, SeekFrom};
use overspill_firmware::exit;

type Queue = Ring<37, HighWater>;

/// What the interrupt handler owns. Handed to it in a critical section, once, and used there only.
struct Source {
    producer: Producer<'static, Queue>,
    log: LogProducer<'static, 64>,
    stream: Stream,
    ticks: u32,
}

static SOURCE: Mutex<RefCell<Option<Source>>> = Mutex::new(RefCell::new(None));
static QUEUE: Queue = Ring::new();
static LOG: LogRing<64> = LogRing::new();

const BYTES: usize = 20_000;

/// The length of a transcript, in bytes. There are several in turn, each in the place of the last one, so
/// that all of this fits a board with little memory.
const KEPT: usize = 4_000;
const _: () = assert!(BYTES % KEPT == 0);

/// A linear congruential generator (the constants are Knuth's), as a stream of bytes.
#[derive(Clone)]
struct Stream(u32);

impl Stream {
    fn peek(&self) -> u8 {
        self.0.to_le_bytes()[3]
    }

    fn step(&mut self) {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    }
}

#[exception]
fn SysTick() {
    cortex_m::interrupt::free(|section| {
        if let Some(source) = SOURCE.borrow(section).borrow_mut().as_mut() {
            source.tick();
        }
    });
}

impl Source {
    /// One burst: a single byte, a slice, or a grant, of changing length.
    fn tick(&mut self) {
        self.ticks += 1;
        let want = (self.ticks % 23) as usize;
        match self.ticks % 3 {
            0 => {
                if self.producer.push(self.stream.peek()).is_ok() {
                    self.stream.step();
                }
            }
            1 => {
                let mut burst = [0; 23];
                let mut ahead = self.stream.clone();
                for byte in &mut burst[..want] {
                    *byte = ahead.peek();
                    ahead.step();
                }
                for _ in 0..self.producer.push_slice(&burst[..want]) {
                    self.stream.step();
                }
            }
            _ => {
                let mut grant = self.producer.grant();
                let len = grant.len().min(want);
                let (first, second) = grant.as_mut_slices();
                for byte in first.iter_mut().chain(second).take(len) {
                    *byte = self.stream.peek();
                    self.stream.step();
                }
                grant.commit(len);
            }
        }
        let _ = self.log.push(&self.ticks.to_le_bytes());
    }
}

#[entry]
fn main() -> ! {
    let passed = run();
    if passed {
        hprintln!("PASS");
    }
    exit(passed)
}

/// Prints what went wrong, and fails.
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            hprintln!($($message)+);
            return false;
        }
    };
}

fn run() -> bool {
    let Some(mut system) = cortex_m::Peripherals::take() else { return false };
    let Some((producer, mut consumer)) = QUEUE.try_split() else { return false };
    let Some((log_producer, log)) = LOG.try_split() else { return false };
    check!(QUEUE.try_split().is_none(), "a ring was split twice");

    let seed = Stream(2026);
    let source = Source { producer, log: log_producer, stream: seed.clone(), ticks: 0 };
    cortex_m::interrupt::free(|section| SOURCE.borrow(section).replace(Some(source)));
    system.SYST.set_clock_source(SystClkSource::Core);
    system.SYST.set_reload(1_500);
    system.SYST.clear_current();
    system.SYST.enable_interrupt();
    system.SYST.enable_counter();

    let mut transcript = Cursor::new(Fixed::new([0_u8; KEPT]));
    let mut expected = seed.clone();
    let mut kept_from = seed;
    let mut log = Log { consumer: log, next: 1, read: 0, lost: 0 };
    let mut buf = [0; 29];
    let mut received = 0;
    while received < BYTES {
        let want = received % buf.len() + 1;
        let count = consumer.pop_slice(&mut buf[..want.min(KEPT - received % KEPT)]);
        for byte in &buf[..count] {
            check!(*byte == expected.peek(), "byte {} is wrong", received);
            expected.step();
            received += 1;
        }
        check!(transcript.write(&buf[..count]) == Ok(count) || count == 0, "the transcript is full");
        if count > 0 && received % KEPT == 0 {
            check!(check_transcript(&mut transcript, &mut kept_from), "the transcript differs");
        }
        // In turn for long enough to overrun, and not at all: some records are read as they
        // come, others are lost.
        check!(received / 512 % 2 == 0 || log.pop().is_some(), "the log lied");
    }
    let high_water = consumer.high_water();
    check!(high_water > 0 && high_water <= 37, "a high-water mark of {}", high_water);

    check!(log.ends_right(), "the log lied: {} read, {} lost", log.read, log.lost);
    hprintln!("{} bytes through {:?}, high water {}", received, QUEUE, high_water);
    true
}

/// The reading end of the log, whose records count the ticks.
struct Log {
    consumer: LogConsumer<'static, 64>,
    /// The tick that the next record has to be of.
    next: u32,
    read: usize,
    lost: usize,
}

impl Log {
    /// Takes the next record, and says whether there was anything to take; `None` if it is not the right one.
    fn pop(&mut self) -> Option<bool> {
        let mut record = [0; 4];
        match self.consumer.pop(&mut record) {
            Ok(None) => return Some(false),
            Ok(Some(4)) if u32::from_le_bytes(record) == self.next => {
                self.next += 1;
                self.read += 1;
            }
            Err(PopError::Lost(lost)) if lost.records > 0 && lost.bytes == 4 * lost.records => {
                self.next += lost.records as u32;
                self.lost += lost.records;
            }
            _ => return None,
        }
        Some(true)
    }

    /// Reads the rest, without interrupts: every tick was read or lost, some of both, and more than
    /// fit at once were read.
    fn ends_right(&mut self) -> bool {
        cortex_m::interrupt::disable();
        while self.pop() == Some(true) {}
        let ticks =
            cortex_m::interrupt::free(|section| SOURCE.borrow(section).borrow().as_ref().map(|s| s.ticks));
        ticks == Some(self.next - 1) && self.read > 32 && self.lost > 0
    }
}

/// The same bytes again, from the cursor, in another step. The next transcript begins where this one ends.
fn check_transcript(transcript: &mut Cursor<Fixed<[u8; KEPT]>>, expected: &mut Stream) -> bool {
    if transcript.seek(SeekFrom::Start(0)) != Ok(0) {
        return false;
    }
    let mut buf = [0; 64];
    let mut seen = 0;
    while let Ok(count @ 1..) = transcript.read(&mut buf) {
        for byte in &buf[..count] {
            if *byte != expected.peek() {
                return false;
            }
            expected.step();
            seen += 1;
        }
    }
    transcript.rewind();
    seen == KEPT && transcript.set_len(0).is_ok()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    exit(false)
}
