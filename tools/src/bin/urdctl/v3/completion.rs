//! `completion`: scripts that let a shell complete urdctl's command lines.

use clap::{Args, Command};
use clap_complete::Shell;

use super::print;
use crate::failure::Failure;

/// Print a script that completes urdctl's command lines in a shell
///
/// For the running shell: `source <(urdctl completion bash)`; for good, write it to where the shell looks for such scripts.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    shell: Shell,
}

pub(crate) fn run(args: &CompletionArgs, mut command: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "urdctl", &mut script);
    print::put_bytes(&script)
}
