//! Passwords, asked for on the terminal without showing them, or read from standard input.

use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::failure::Failure;

/// Asks on the terminal.
pub(crate) fn password(question: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::bad_arguments(
            "failed to ask password: standard input is no terminal; give it as user:password, or with --password",
        ));
    }
    eprint!("{question}");
    io::stderr().flush().ok();
    let stdin = io::stdin();
    let shown =
        tcgetattr(&stdin).map_err(|error| Failure::error(format!("the terminal: {error}")))?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    let hide = tcsetattr(&stdin, OptionalActions::Now, &hidden);
    hide.map_err(|error| Failure::error(format!("the terminal: {error}")))?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    // The terminal is to show again what is typed, whatever became of the reading.
    tcsetattr(&stdin, OptionalActions::Now, &shown).ok();
    eprintln!();
    read.map_err(|error| Failure::error(format!("failed to ask password: {error}")))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Asks for a new password of `name`, twice.
pub(crate) fn new_password(name: &str) -> Result<String, Failure> {
    let first = password(&format!("Password of {name}: "))?;
    if first.is_empty() {
        return Err(Failure::bad_arguments("empty password"));
    }
    let second = password(&format!("Type password of {name} again for confirmation: "))?;
    if first == second {
        Ok(first)
    } else {
        Err(Failure::bad_arguments("given passwords are different"))
    }
}

/// The first word of standard input.
pub(crate) fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().read_to_string(&mut text);
    read.map_err(|error| Failure::error(format!("failed to read the password: {error}")))?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}
