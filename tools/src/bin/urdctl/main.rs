//! `urdctl`: one command-line client for both APIs, with the grammar, the outputs and the exit codes of etcdctl.
//!
//! | API | how it is chosen | modules |
//! |---|---|---|
//! | v3, gRPC | by default, as in etcdctl 3.7 | [`v3`] |
//! | v2, HTTP | `ETCDCTL_API=2` or `--api 2`, as in etcdctl 3.4 | [`v2`] |
//!
//! The two share nothing but manners: [`options`] (flags and environment), [`failure`] (exit codes), [`go`] (texts in the
//! forms that Go gives them), [`process`] (programs run for an event or under a lock), [`prompt`] (passwords).
//!
//! Where etcdctl 3.4 and 3.7 differ, v3 follows 3.7, but for tables: they keep the ASCII rules that etcd's documentation
//! shows and scripts know.
//!
//! Not here: TLS, because the server has none yet; flags that ask for it are refused. What works on a member's files is
//! `urdutl`'s.

mod failure;
mod go;
mod options;
mod process;
mod prompt;
mod v2;
mod v3;

use std::ffi::OsString;
use std::process::ExitCode;

use failure::Failure;

fn main() -> ExitCode {
    let arguments = std::env::args_os().collect();
    let ran = which_api(arguments).and_then(|(api, arguments)| match api {
        Api::V2 => v2::run(arguments),
        Api::V3 => v3::run(arguments),
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                eprintln!("Error: {text}");
            }
            failure.exit_code()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    V2,
    V3,
}

/// Which API is meant, and the arguments without the flag that says so.
fn which_api(arguments: Vec<OsString>) -> Result<(Api, Vec<OsString>), Failure> {
    let mut named = std::env::var("ETCDCTL_API").ok().filter(|value| !value.is_empty());
    let mut rest = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        if text == "--" {
            rest.push(argument);
            rest.extend(arguments.by_ref());
        } else if text == "--api" {
            let value = arguments.next();
            named =
                Some(value.map(|value| value.to_string_lossy().into_owned()).unwrap_or_default());
        } else if let Some(value) = text.strip_prefix("--api=") {
            named = Some(value.to_owned());
        } else {
            rest.push(argument);
        }
    }
    match named.as_deref() {
        None | Some("3") => Ok((Api::V3, rest)),
        Some("2") => Ok((Api::V2, rest)),
        Some(other) => Err(Failure::error(format!(
            "unknown API version {}; --api and ETCDCTL_API take 2 or 3",
            go::quote(other.as_bytes())
        ))),
    }
}
