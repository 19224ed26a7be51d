//! Puts of random keys by many clients, each over a connection of its own, and the times they took.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;
use urd_proto::etcdserverpb as pb;

use super::client::Client;
use super::global::Global;
use super::methods::PUT;
use super::print::put_text;
use crate::failure::Failure;

/// How often a terminal is told how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// What to put. It ends with its time or with its number.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub clients: usize,
    pub prefix: String,
    pub key_bytes: usize,
    pub value_bytes: usize,
    /// Puts in a second, of all clients together; nothing means as many as there can be.
    pub rate: Option<u32>,
    pub duration: Option<Duration>,
    pub count: u64,
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    seconds: Vec<f64>,
    errors: BTreeMap<String, u64>,
    took: Duration,
    /// Puts begun.
    begun: u64,
}

impl Load {
    pub(crate) async fn run(&self, global: &Global) -> Result<Outcome, Failure> {
        let begin = Instant::now();
        let outcome = Rc::new(RefCell::new(Outcome::default()));
        // Dropped with all its tasks when the check is interrupted.
        let mut tasks = JoinSet::new();
        for _ in 0..self.clients {
            let (load, client) = (self.clone(), Client::new(global)?);
            let outcome = Rc::clone(&outcome);
            tasks.spawn_local(async move {
                load.put_until_the_end(&client, begin, &outcome).await;
            });
        }
        let mut progress = JoinSet::new();
        progress.spawn_local(show_progress(self.clone(), begin, Rc::clone(&outcome)));
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| Failure::error(format!("a client ended: {error}")))?;
        }
        if std::io::stderr().is_terminal() {
            eprint!("\r      \r");
        }
        let mut outcome = outcome.take();
        outcome.took = begin.elapsed();
        Ok(outcome)
    }

    async fn put_until_the_end(&self, client: &Client, begin: Instant, outcome: &RefCell<Outcome>) {
        let value: Bytes = vec![0; self.value_bytes].into();
        loop {
            let number = outcome.borrow().begun;
            let due = self.rate.map_or(Duration::ZERO, |rate| {
                Duration::from_secs(1).mul_f64(number as f64 / f64::from(rate))
            });
            let over = self.duration.is_some_and(|end| due.max(begin.elapsed()) >= end);
            if number >= self.count || over {
                return;
            }
            outcome.borrow_mut().begun += 1;
            tokio::time::sleep_until((begin + due).into()).await;
            let request = pb::PutRequest {
                key: self.random_key(),
                value: value.clone(),
                ..Default::default()
            };
            let asked = Instant::now();
            let put = client.call_within(None, &PUT, &request).await;
            let mut outcome = outcome.borrow_mut();
            match put {
                Ok(_) => outcome.seconds.push(asked.elapsed().as_secs_f64()),
                Err(failure) => {
                    let text = failure.text().unwrap_or_default().to_owned();
                    *outcome.errors.entry(text).or_default() += 1;
                }
            }
        }
    }

    fn random_key(&self) -> Bytes {
        let random = format!("{:020}", fastrand::u64(..));
        let key = format!("{}{random:0>width$}", self.prefix, width = self.key_bytes);
        key.into()
    }
}

async fn show_progress(load: Load, begin: Instant, outcome: Rc<RefCell<Outcome>>) {
    while std::io::stderr().is_terminal() {
        tokio::time::sleep(PROGRESS_INTERVAL).await;
        let done = match load.duration {
            Some(duration) => begin.elapsed().as_secs_f64() / duration.as_secs_f64(),
            None => outcome.borrow().begun as f64 / load.count as f64,
        };
        eprint!("\r{:3.0}% ", done.min(1.0) * 100.0);
    }
}

impl Outcome {
    /// Answered puts in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.seconds.len() as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    pub(crate) fn slowest(&self) -> f64 {
        self.seconds.iter().copied().fold(0.0, f64::max)
    }

    pub(crate) fn standard_deviation(&self) -> f64 {
        let count = self.seconds.len().max(1) as f64;
        let mean = self.seconds.iter().sum::<f64>() / count;
        (self.seconds.iter().map(|seconds| (seconds - mean).powi(2)).sum::<f64>() / count).sqrt()
    }

    /// Prints what failed. The answer is whether nothing did.
    pub(crate) fn print_errors(&self) -> Result<bool, Failure> {
        if self.errors.is_empty() {
            return Ok(true);
        }
        put_text("FAIL: too many errors\n")?;
        for (error, count) in &self.errors {
            put_text(&format!("FAIL: ERROR({error}) -> {count}\n"))?;
        }
        Ok(false)
    }
}
