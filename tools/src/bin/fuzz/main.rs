//! `fuzz`: feeds the server foreign bytes, and prints what must not happen. See [`urd_tools::fuzz`].
//!
//! Exit codes: 0, nothing was found; 1, something was; 2, the command line is wrong, or a file cannot be read.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use urd_tools::fuzz::run::{self, Bounds};
use urd_tools::fuzz::{self, Target};

/// Feeds one of the server's parts bytes that its encoders made and this program has changed, and prints what must not
/// happen: a panic, something that was read and never written, a run that does not end.
///
/// An input is kept, to be changed further, when something new came of it: an outcome, or in a build for coverage code
/// that was not reached before. What was found is printed with its input in hexadecimal, as short as it can be made; --file runs it
/// again, and a panic has its trace then. The same seed and number of executions do the same, except with coverage.
///
/// A release build ends with the first panic. To find more at once, and overflows of numbers too:
/// `cargo run --profile fuzz -p urd-tools --bin fuzz -- TARGET`.
///
/// With coverage: the same, with `--target host-tuple --target-dir target/coverage` behind `run`, and in the environment
/// `RUSTFLAGS="--cfg urd_coverage -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3
/// -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"`.
///
/// Exit codes: 0, nothing was found; 1, something was; 2, the command line is wrong, or a file cannot be read.
#[derive(Debug, Parser)]
#[command(name = "fuzz", version)]
struct Cli {
    /// What to feed (see --list); `all`: each of them for the time or number given
    #[arg(required_unless_present = "list")]
    target: Option<String>,
    /// Stop after so many seconds; 60 if neither this nor --executions is given
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Stop after so many runs
    #[arg(long, value_name = "N")]
    executions: Option<u64>,
    /// Where random numbers come from; a number of the clock's if not given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Print the targets
    #[arg(long)]
    list: bool,
    /// Run one input only: a file with its bytes, or with what was printed in hexadecimal
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Begin with what earlier runs have kept here, and keep what this one keeps: a folder a target, a file an input
    #[arg(long, value_name = "PATH")]
    corpus: Option<PathBuf>,
    /// Print every new outcome as it comes
    #[arg(long)]
    outcomes: bool,
    /// Print the outcome of every seed input, instead of changing them
    #[arg(long)]
    seeds: bool,
}

const SECONDS_DEFAULT: u64 = 60;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // If even this fails there is nobody to tell; the exit code still says it.
            writeln!(io::stderr(), "fuzz: {error}").ok();
            ExitCode::from(2)
        }
    }
}

/// Whether all was well.
fn run(cli: &Cli) -> Result<bool, Box<dyn std::error::Error>> {
    let mut out = io::stdout().lock();
    if cli.list {
        for target in fuzz::targets() {
            writeln!(out, "{:12} {}", target.name(), target.about())?;
        }
        return Ok(true);
    }
    let name = cli.target.as_deref().unwrap_or_default();
    let targets: Vec<Box<dyn Target>> = match name {
        "all" => fuzz::targets(),
        name => vec![fuzz::target(name).ok_or(format!("there is no target {name:?}, see --list"))?],
    };
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(1..1_000_000));
    let mut is_well = true;
    for target in targets {
        match &cli.file {
            Some(path) => replay(&*target, &fs::read(path)?, &mut out)?,
            None if cli.seeds => {
                for input in target.seeds() {
                    replay(&*target, &input, &mut out)?;
                }
            }
            None => {
                let seconds = match (cli.seconds, cli.executions) {
                    (None, None) => Some(SECONDS_DEFAULT),
                    (seconds, _) => seconds,
                };
                let time = seconds.map(Duration::from_secs);
                let bounds = Bounds { time, executions: cli.executions, tells: cli.outcomes };
                let folder = cli.corpus.as_ref().map(|path| path.join(target.name()));
                let earlier = folder.as_deref().map_or(Ok(Vec::new()), kept)?;
                let report = run::run(&*target, seed, bounds, earlier);
                writeln!(out, "{report}")?;
                folder.map_or(Ok(()), |folder| keep(&folder, &report.corpus))?;
                is_well &= report.findings.is_empty();
            }
        }
    }
    Ok(is_well)
}

/// The inputs in `folder`, in an order that is always the same.
fn kept(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    fs::create_dir_all(folder)?;
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable();
    paths.iter().map(fs::read).collect()
}

/// Writes what is not there yet. A file is named by what is in it.
fn keep(folder: &Path, corpus: &[Vec<u8>]) -> io::Result<()> {
    for input in corpus {
        let name = format!("{:08x}-{}", crc32fast::hash(input), input.len());
        let path = folder.join(name);
        if !path.exists() {
            fs::write(path, input)?;
        }
    }
    Ok(())
}

/// Runs one input, and says what came of it.
fn replay(target: &dyn Target, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    let decoded = str::from_utf8(bytes).ok().and_then(run::from_hex);
    let input = decoded.as_deref().filter(|input| !input.is_empty()).unwrap_or(bytes);
    // Without the loop's hook a panic has its trace, and ends the process.
    writeln!(out, "{}: {}", target.name(), target.run(input))?;
    out.flush()
}
