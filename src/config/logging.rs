//! The log: lines in the shape of etcd's, so that what reads etcd's log reads this one.
//!
//! ```text
//! {"level":"info","ts":"2026-01-02T03:04:05.678901Z","caller":"net/mod.rs:7","msg":"..","key":1}
//! ```
//!
//! Events come through `tracing`; fields stand flat behind the message. Urd's own modules log at
//! the configured level, libraries only warnings and errors: at `debug` an HTTP/2 library logs
//! every frame, which would bury everything else. Lines leave through a queue (`log_queue`), so
//! that a reader that has stopped never stops a shard.
//!
//! Not here: spans (their fields are not printed), rotation (files are opened for appending, so an
//! outside tool can truncate them), syslog.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::panic;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::Config;
use super::log_queue::LogQueue;

/// How long the end of the process waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// What of the log goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The least severe level that is logged.
    pub level: Level,
    /// The shape of a line.
    pub format: Format,
    /// Every line goes to each. Not empty.
    pub outputs: Vec<Output>,
}

/// etcd's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Everything but traces.
    Debug,
    /// The course of things.
    Info,
    /// Something that may need care.
    Warn,
    /// Something that went wrong. etcd's `panic` and `fatal` mean this too: they would hide the
    /// reason why a process ended.
    Error,
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Level, String> {
        match text {
            "debug" => Ok(Level::Debug),
            "info" => Ok(Level::Info),
            "warn" => Ok(Level::Warn),
            "error" | "panic" | "fatal" => Ok(Level::Error),
            _ => Err(format!(
                "unrecognized level: {text:?}; known are debug, info, warn, error, panic, fatal"
            )),
        }
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> LevelFilter {
        match level {
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error => LevelFilter::ERROR,
        }
    }
}

/// The shape of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One object a line.
    Json,
    /// Columns separated by tabs, the fields as one object at the end.
    Console,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "json" => Ok(Format::Json),
            "console" => Ok(Format::Console),
            _ => Err(format!("unknown log format: {text}, supported values json, console")),
        }
    }
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The standard error stream.
    Stderr,
    /// The standard output stream.
    Stdout,
    /// The end of this file.
    File(PathBuf),
}

impl From<&str> for Output {
    fn from(text: &str) -> Output {
        match text {
            "default" | "stderr" | "systemd/journal" => Output::Stderr,
            "stdout" => Output::Stdout,
            path => Output::File(path.into()),
        }
    }
}

impl Output {
    fn open(&self) -> Result<Box<dyn io::Write + Send>, LogError> {
        Ok(match self {
            Output::Stderr => Box::new(io::stderr()),
            Output::Stdout => Box::new(io::stdout()),
            Output::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                Box::new(file.map_err(|error| LogError::Open { path: path.clone(), error })?)
            }
        })
    }
}

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// A file of `--log-outputs` cannot be opened.
    #[error("open the log file {}: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The thread that writes the log cannot be started.
    #[error("start the log's thread: {0}")]
    Thread(io::Error),
    /// A log was set up before in this process.
    #[error("the log is set up already")]
    Twice,
}

/// Keeps the log; dropping it writes out what is waiting. Hold it until the process ends.
#[must_use = "the last lines are written when this is dropped"]
pub struct Guard {
    queue: LogQueue,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.queue.flush(FLUSH_TIMEOUT);
    }
}

/// Sets up the log of the process. A panic is logged as well, before its usual report.
pub fn init(config: &Config) -> Result<Guard, LogError> {
    let Options { level, format, outputs } = &config.log;
    let (level, format) = (LevelFilter::from(*level), *format);
    let outputs = outputs.iter().map(Output::open).collect::<Result<Vec<_>, _>>()?;
    let queue = LogQueue::start(outputs, move |lost| {
        let message = "log lines were lost, because the outputs are too slow".to_owned();
        let mut fields = Fields { message, ..Fields::default() };
        fields.add("lost", &lost.to_string());
        fields.line(format, "warn", None)
    })
    .map_err(LogError::Thread)?;

    let filter = Targets::new()
        .with_target("urd", level)
        // It calls the log's refusal to be polled (`urd_wal`'s disk) an error at every start. What matters it
        // returns.
        .with_target("glommio", LevelFilter::OFF)
        .with_default(level.min(LevelFilter::WARN));
    let lines = Lines { queue: queue.clone(), format };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_| LogError::Twice)?;
    log_panics(queue.clone(), format);
    Ok(Guard { queue })
}

/// A panic ends the process without unwinding, so nothing else would write out the last lines.
fn log_panics(queue: LogQueue, format: Format) {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let message = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| payload.downcast_ref::<String>().cloned());
        let message = message.unwrap_or_else(|| "panic".to_owned());
        let fields = Fields { message, ..Fields::default() };
        let place = info.location().map(|place| caller(place.file(), place.line()));
        queue.push(&fields.line(format, "panic", place.as_deref()));
        queue.flush(FLUSH_TIMEOUT);
        report(info);
    }));
}

/// Makes each event a line.
pub(super) struct Lines {
    pub(super) queue: LogQueue,
    pub(super) format: Format,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = match *metadata.level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG | tracing::Level::TRACE => "debug",
        };
        let place = match (metadata.file(), metadata.line()) {
            (Some(file), Some(line)) => Some(caller(file, line)),
            _ => fields.log_target.take(),
        };
        self.queue.push(&fields.line(self.format, level, place.as_deref()));
    }
}

/// The file with its directory, as etcd's log has it.
fn caller(file: &str, line: u32) -> String {
    let path = Path::new(file);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match path.parent().and_then(Path::file_name) {
        Some(directory) => format!("{}/{name}:{line}", directory.to_string_lossy()),
        None => format!("{name}:{line}"),
    }
}

/// An event's message, and its other fields as the inside of a JSON object.
#[derive(Default)]
struct Fields {
    message: String,
    json: String,
    /// Who logged, where the event comes from a library that uses the `log` crate.
    log_target: Option<String>,
}

impl Fields {
    /// Puts a field behind the others; the value is JSON.
    fn add(&mut self, name: &str, json: &str) {
        if !self.json.is_empty() {
            self.json.push(',');
        }
        self.json.push_str(&quoted(name.strip_prefix("r#").unwrap_or(name)));
        self.json.push(':');
        self.json.push_str(json);
    }

    fn add_text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            "log.target" => self.log_target = Some(text),
            name if name.starts_with("log.") => {}
            name => self.add(name, &quoted(&text)),
        }
    }

    fn line(&self, format: Format, level: &str, caller: Option<&str>) -> String {
        let mut time = String::new();
        let written = SystemTime.format_time(&mut Writer::new(&mut time));
        written.expect("invariant: writing to a string does not fail");
        let mut line = String::with_capacity(128 + self.message.len() + self.json.len());
        match format {
            Format::Json => {
                line.push_str(&format!("{{\"level\":\"{level}\",\"ts\":\"{time}\""));
                if let Some(caller) = caller {
                    line.push_str(&format!(",\"caller\":{}", quoted(caller)));
                }
                line.push_str(&format!(",\"msg\":{}", quoted(&self.message)));
                if !self.json.is_empty() {
                    line.push(',');
                    line.push_str(&self.json);
                }
                line.push_str("}\n");
            }
            Format::Console => {
                line.push_str(&format!("{time}\t{level}"));
                if let Some(caller) = caller {
                    line.push_str(&format!("\t{caller}"));
                }
                line.push_str(&format!("\t{}", one_line(&self.message)));
                if !self.json.is_empty() {
                    line.push_str(&format!("\t{{{}}}", self.json));
                }
                line.push('\n');
            }
        }
        line
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.record_number(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record_number(field, &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinities.
        if value.is_finite() {
            self.record_number(field, &value.to_string());
        } else {
            self.add_text(field, value.to_string());
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.record_number(field, &value.to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        self.add_text(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add_text(field, format!("{value:?}"));
    }
}

impl Fields {
    /// Also for booleans: what JSON writes without quotes.
    fn record_number(&mut self, field: &Field, json: &str) {
        if !field.name().starts_with("log.") {
            self.add(field.name(), json);
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Console lines are for people, but a key with a line break must not forge a second line.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r")
}
