//! What the hardware asks for a put, whoever serves it: one durable write and one round trip.
//!
//! The write is what a log does at best: 4 KiB, `O_DIRECT | O_DSYNC`, into a file whose blocks are
//! allocated and zeroed. The round trip is a small request and a small answer over loopback TCP
//! between two threads that sleep meanwhile.

use crate::statistics::median;
use rustix::fs::OFlags;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const PAGE_BYTES: usize = 4096;
const WRITES: usize = 500;
const ROUND_TRIPS: usize = 2000;
/// Sizes of a put of 8 and 256 bytes and of its answer, about.
const REQUEST_BYTES: usize = 300;
const ANSWER_BYTES: usize = 60;
/// The partner of the round trips gives up after this.
const PARTNER_TIMEOUT: Duration = Duration::from_secs(10);

/// Medians, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Floor {
    pub write_us: f64,
    pub round_trip_us: f64,
}

impl Floor {
    /// Measures in `directory`, where the servers' data are too.
    pub fn measure(directory: &Path) -> io::Result<Floor> {
        let write_us = durable_write_us(directory).map_err(|error| {
            let of = directory.display();
            io::Error::new(error.kind(), format!("O_DIRECT | O_DSYNC writes in {of}: {error}"))
        })?;
        Ok(Floor { write_us, round_trip_us: round_trip_us()? })
    }

    pub fn total_us(self) -> f64 {
        self.write_us + self.round_trip_us
    }
}

/// Direct I/O asks for memory aligned as the device's blocks.
#[repr(align(4096))]
struct Page([u8; PAGE_BYTES]);

fn durable_write_us(directory: &Path) -> io::Result<f64> {
    let path = directory.join("floor");
    {
        let mut zeroed = File::create(&path)?;
        zeroed.write_all(&vec![0; WRITES * PAGE_BYTES])?;
        zeroed.sync_all()?;
    }
    let flags = (OFlags::DIRECT | OFlags::DSYNC).bits().cast_signed();
    let file = OpenOptions::new().write(true).custom_flags(flags).open(&path)?;
    let page = Box::new(Page([0x5a; PAGE_BYTES]));
    let mut times = Vec::with_capacity(WRITES);
    for nth in 0..WRITES {
        let begin = Instant::now();
        file.write_all_at(&page.0, (nth * PAGE_BYTES) as u64)?;
        times.push(microseconds(begin.elapsed()));
    }
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(median(&times).unwrap_or_default())
}

fn round_trip_us() -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    let partner = thread::spawn(move || answer(&listener));
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PARTNER_TIMEOUT))?;
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let begin = Instant::now();
        stream.write_all(&[1; REQUEST_BYTES])?;
        stream.read_exact(&mut [0; ANSWER_BYTES])?;
        times.push(microseconds(begin.elapsed()));
    }
    drop(stream);
    partner.join().map_err(|_| io::Error::other("the partner panicked"))??;
    Ok(median(&times).unwrap_or_default())
}

fn answer(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PARTNER_TIMEOUT))?;
    for _ in 0..ROUND_TRIPS {
        stream.read_exact(&mut [0; REQUEST_BYTES])?;
        stream.write_all(&[2; ANSWER_BYTES])?;
    }
    Ok(())
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_take_time() {
        assert!(round_trip_us().unwrap() > 0.0);
    }

    #[test]
    fn writes_leave_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        // A file system without direct I/O (tmpfs) says so.
        if let Ok(floor) = Floor::measure(directory.path()) {
            assert!(floor.write_us > 0.0 && floor.total_us() > floor.write_us);
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }
}
