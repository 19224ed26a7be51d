//! `localcluster status`: what the kernel and the members say.

use crate::ask::Answer;
use crate::cluster::{Cluster, Member};
use crate::failure::Failure;
use crate::process::State;
use clap::ValueEnum;
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use urd_tools::members::says_it_leads;

const HEADING: [&str; 8] =
    ["NAME", "PID", "STATE", "CLIENT URL", "LEADER", "TERM", "INDEX", "DB SIZE"];

/// Print how each member is: its process, and what it says of itself
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How it is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    write_out: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// What is printed of a member. What only it knows is missing if it does not answer.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    pid: Option<i32>,
    state: &'static str,
    client_url: String,
    leads: Option<bool>,
    term: Option<u64>,
    index: Option<u64>,
    database_bytes: Option<i64>,
    error: Option<String>,
}

pub(crate) fn run(dir: &Path, args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let cluster = Cluster::open(dir)?;
    let answers = cluster.ask()?;
    let rows: Vec<Row> = cluster.settings.members.iter().zip(answers).map(row).collect();
    match args.write_out {
        Format::Json => writeln!(out, "{}", serde_json::to_value(&rows).map_err(json_failure)?)?,
        Format::Table => print_table(&rows, out)?,
    }
    Ok(())
}

fn json_failure(error: serde_json::Error) -> Failure {
    Failure::Failed(error.to_string())
}

fn row((member, answer): (&Member, Option<Answer>)) -> Row {
    let state = member.state();
    let process = member.process.as_ref().filter(|_| state != State::Stopped);
    let (status, error) = match answer {
        Some(Ok(status)) => (Some(status), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let status = status.as_ref();
    Row {
        name: member.name.clone(),
        pid: process.map(|process| process.pid),
        state: match state {
            State::Running => "running",
            State::Paused => "paused",
            State::Stopped => "stopped",
        },
        client_url: member.client_url(),
        leads: status.map(says_it_leads),
        term: status.map(|status| status.raft_term),
        index: status.map(|status| status.raft_index),
        database_bytes: status.map(|status| status.db_size),
        error,
    }
}

fn print_table(rows: &[Row], out: &mut impl Write) -> Result<(), Failure> {
    fn text<T: ToString>(value: &Option<T>) -> String {
        value.as_ref().map_or_else(|| "-".into(), T::to_string)
    }
    let cells = |row: &Row| -> [String; 8] {
        let leads = row.leads.map(|leads| if leads { "yes" } else { "no" });
        [
            row.name.clone(),
            text(&row.pid),
            row.state.into(),
            row.client_url.clone(),
            text(&leads),
            text(&row.term),
            text(&row.index),
            text(&row.database_bytes.map(size)),
        ]
    };
    let mut lines = vec![HEADING.map(String::from)];
    lines.extend(rows.iter().map(cells));
    for line in &lines {
        let mut printed = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
            printed += &format!("{cell:width$}  ");
        }
        writeln!(out, "{}", printed.trim_end())?;
    }
    for row in rows {
        if let Some(error) = &row.error {
            writeln!(out, "{}: {error}", row.name)?;
        }
    }
    Ok(())
}

/// Bytes for people.
fn size(bytes: i64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let (mut number, mut unit) = (bytes as f64, 0);
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{number:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use urd_proto::etcdserverpb::{ResponseHeader, StatusResponse};

    #[test]
    fn columns_align_and_errors_follow() {
        let member = |name: &str, client_port| Member {
            name: name.into(),
            client_port,
            peer_port: 1,
            process: None,
        };
        let header = Some(ResponseHeader { member_id: 7, ..ResponseHeader::default() });
        let status = StatusResponse {
            header,
            leader: 7,
            raft_term: 3,
            raft_index: 42,
            db_size: 20_480,
            ..StatusResponse::default()
        };
        let (one, two) = (member("infra1", 2379), member("infra2", 22379));
        let rows = [row((&one, Some(Ok(status)))), row((&two, Some(Err("no answer".into()))))];
        let mut out = Vec::new();
        print_table(&rows, &mut out).unwrap();
        let expected = "\
NAME    PID  STATE    CLIENT URL              LEADER  TERM  INDEX  DB SIZE
infra1  -    stopped  http://127.0.0.1:2379   yes     3     42     20.0 KiB
infra2  -    stopped  http://127.0.0.1:22379  -       -     -      -
infra2: no answer
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!([size(0), size(1023), size(1 << 30)], ["0 B", "1023 B", "1.0 GiB"]);
    }
}
