//! `txn`: a transaction read from standard input. What its lines mean stands in [`txn_text`].

use std::io::BufRead;

use clap::Args;
use urd_proto::etcdserverpb as pb;

use super::client::Client;
use super::global::Global;
use super::methods::TXN;
use super::{print, txn_text};
use crate::failure::Failure;

/// Read a transaction from standard input, and apply it as a whole
///
/// Three lists, each ended by an empty line: comparisons, requests if all of them hold, requests if not.
///
///     mod("key1") > "0"
///
///     put key1 "overwritten"
///
///     put key1 "created"
///     get key2
///
/// A comparison is TARGET("KEY") OP "VALUE", with the targets version (ver), create (c), mod (m), value (val) and lease, and
/// the operators =, !=, < and >. A request is a put, get or del with its flags.
#[derive(Debug, Args)]
#[command(override_usage = "urdctl txn [options]", verbatim_doc_comment)]
pub(crate) struct TxnArgs {
    #[arg(hide = true)]
    words: Vec<String>,
    /// Say on standard output what is to be typed next
    #[arg(short, long)]
    interactive: bool,
}

pub(crate) async fn run(global: &Global, args: TxnArgs) -> Result<(), Failure> {
    if !args.words.is_empty() {
        return Err(Failure::bad_arguments("txn command does not accept argument"));
    }
    let printer = global.printer()?;
    let client = Client::new(global)?;
    let prompt = |text: &str| if args.interactive { print::put_text(text) } else { Ok(()) };
    prompt("compares:\n")?;
    let mut compare = Vec::new();
    for line in section()? {
        compare.push(txn_text::compare(&line)?);
    }
    prompt("success requests (get, put, del):\n")?;
    let success = operations().await?;
    prompt("failure requests (get, put, del):\n")?;
    let failure = operations().await?;
    let request = pb::TxnRequest { compare, success, failure };
    // A transaction may be large: like etcdctl, it takes the time it takes.
    printer.txn(&client.call_within(None, &TXN, &request).await?)
}

async fn operations() -> Result<Vec<pb::RequestOp>, Failure> {
    let mut operations = Vec::new();
    for line in section()? {
        operations.push(txn_text::operation(&line).await?);
    }
    Ok(operations)
}

/// Lines up to an empty one.
fn section() -> Result<Vec<Vec<u8>>, Failure> {
    let mut lines = Vec::new();
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        input.read_until(b'\n', &mut line).map_err(Failure::invalid_input)?;
        if line.last() != Some(&b'\n') {
            return Err(Failure::invalid_input("EOF"));
        }
        match line.trim_ascii() {
            b"" => return Ok(lines),
            text => lines.push(text.to_vec()),
        }
    }
}
