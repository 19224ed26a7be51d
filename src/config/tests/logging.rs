//! The shape of log lines, and the queue they leave through.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tracing::{debug, error, info, warn};
use tracing_subscriber::layer::SubscriberExt;

use crate::config::log_queue::{LogQueue, WAITING_BYTES_MAX};
use crate::config::logging::{Format, Level, Lines, Output};

/// Longer than any of these tests takes; reaching it is a failure, not a pause.
const LONG: Duration = Duration::from_secs(60);

/// An output that keeps what it gets.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An output that says when a write has begun and goes on only when told to.
struct Gate {
    begun: Sender<()>,
    go: Receiver<()>,
    kept: Kept,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The test may have ended; then nobody waits.
        self.begun.send(()).ok();
        self.go.recv().ok();
        self.kept.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn queue(outputs: Vec<Box<dyn Write + Send>>) -> LogQueue {
    LogQueue::start(outputs, |lost| format!("lost {lost}\n")).expect("start the thread")
}

/// What is written of the events of `log`.
fn lines(format: Format, log: impl FnOnce()) -> String {
    let kept = Kept::default();
    let queue = queue(vec![Box::new(kept.clone())]);
    let subscriber = tracing_subscriber::registry().with(Lines { queue: queue.clone(), format });
    tracing::subscriber::with_default(subscriber, log);
    assert!(queue.flush(LONG));
    kept.text()
}

#[test]
fn json_lines_have_etcds_shape() {
    #[derive(Debug)]
    struct Cause;
    impl std::fmt::Display for Cause {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("cause")
        }
    }
    impl std::error::Error for Cause {}

    let written = lines(Format::Json, || {
        let error: &(dyn std::error::Error + 'static) = &Cause;
        info!(number = 7, negative = -7, yes = true, ratio = 0.5, "ready to serve");
        let infinite = f64::INFINITY;
        warn!(text = "a \"quoted\"\nline", debug = ?Some(1), error, r#type = %"t", infinite);
        error!("wrong: {}", 1);
        debug!("detail");
    });
    let mut lines = written.lines();
    let start = r#"{"level":"info","ts":""#;
    assert!(written.starts_with(start), "{written}");

    let first: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let ts = first["ts"].as_str().unwrap();
    assert_eq!(ts.len(), "2026-01-02T03:04:05.678901Z".len(), "{ts}");
    assert!(ts.ends_with('Z') && &ts[10..11] == "T", "{ts}");
    assert!(first["caller"].as_str().unwrap().starts_with("tests/logging.rs:"), "{first}");
    assert_eq!(first["msg"], "ready to serve");
    assert_eq!(
        (&first["number"], &first["negative"], &first["yes"], &first["ratio"]),
        (&json!(7), &json!(-7), &json!(true), &json!(0.5))
    );

    let second: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(second["level"], "warn");
    assert_eq!(second["msg"], "");
    assert_eq!(second["text"], "a \"quoted\"\nline");
    assert_eq!(second["debug"], "Some(1)");
    assert_eq!(second["error"], "cause");
    assert_eq!(second["type"], "t");
    assert_eq!(second["infinite"], "inf");

    let third: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!((&third["level"], &third["msg"]), (&json!("error"), &json!("wrong: 1")));
    let fourth: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!((&fourth["level"], &fourth["msg"]), (&json!("debug"), &json!("detail")));
    assert_eq!(lines.next(), None);
}

#[test]
fn console_lines_are_columns() {
    let written = lines(Format::Console, || {
        info!(number = 7, "first\nforged");
        error!("second");
    });
    let rows: Vec<Vec<&str>> = written.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 2, "{written}");
    assert_eq!(rows[0][1], "info");
    assert!(rows[0][2].starts_with("tests/logging.rs:"));
    assert_eq!(rows[0][3..], ["first\\nforged", "{\"number\":7}"]);
    assert_eq!((rows[1][1], rows[1][3]), ("error", "second"));
    assert_eq!(rows[1].len(), 4);
}

#[test]
fn every_output_gets_every_line_in_order() {
    let (one, other) = (Kept::default(), Kept::default());
    let queue = queue(vec![Box::new(one.clone()), Box::new(other.clone())]);
    let mut expected = String::new();
    for number in 0..10_000 {
        let line = format!("{number}\n");
        queue.push(&line);
        expected.push_str(&line);
    }
    assert!(queue.flush(LONG));
    assert_eq!(one.text(), expected);
    assert_eq!(other.text(), expected);
}

#[test]
fn a_stuck_output_loses_lines_but_stops_nobody() {
    let (begun, has_begun) = mpsc::channel();
    let (let_go, go) = mpsc::channel();
    let kept = Kept::default();
    let queue = queue(vec![Box::new(Gate { begun, go, kept: kept.clone() })]);

    queue.push("first\n");
    has_begun.recv().expect("the first write begins");
    // The thread is stuck now. What fits waits; what does not is counted.
    let big = "x".repeat(WAITING_BYTES_MAX - 1) + "\n";
    queue.push(&big);
    queue.push("too much\n");
    queue.push("as well\n");
    assert!(!queue.flush(Duration::ZERO), "nothing can be written yet");
    assert_eq!(kept.text(), "");

    drop(let_go);
    assert!(queue.flush(LONG));
    queue.push("last\n");
    assert!(queue.flush(LONG));
    assert_eq!(kept.text(), format!("first\n{big}lost 2\nlast\n"));
}

#[test]
fn an_output_that_fails_does_not_hinder_others() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        }
    }
    let kept = Kept::default();
    let queue = queue(vec![Box::new(Broken), Box::new(kept.clone())]);
    queue.push("one\n");
    queue.push("two\n");
    assert!(queue.flush(LONG));
    assert_eq!(kept.text(), "one\ntwo\n");
}

#[test]
fn names_of_levels_and_outputs_are_etcds() {
    for (text, level) in [
        ("debug", Level::Debug),
        ("info", Level::Info),
        ("warn", Level::Warn),
        ("error", Level::Error),
        ("panic", Level::Error),
        ("fatal", Level::Error),
    ] {
        assert_eq!(text.parse(), Ok(level), "{text}");
    }
    assert!("loud".parse::<Level>().unwrap_err().starts_with("unrecognized level: \"loud\""));
    assert_eq!(
        "xml".parse::<Format>().unwrap_err(),
        "unknown log format: xml, supported values json, console"
    );
    assert_eq!(Output::from("default"), Output::Stderr);
    assert_eq!(Output::from("systemd/journal"), Output::Stderr);
    assert_eq!(Output::from("stdout"), Output::Stdout);
    assert_eq!(Output::from("/var/log/urd"), Output::File("/var/log/urd".into()));
}
