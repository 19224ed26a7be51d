//! The member's program: arguments to a [`urd::config::Config`], and that to [`urd::server::run`].

use std::process::ExitCode;

use urd::config::{Config, Loaded, logging};
use urd::server;
// Linked for what it puts before glommio's making of rings.
use urd_rings as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (config, warnings) = match Config::load(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Loaded::Run { config, warnings }) => (config, warnings),
        Ok(Loaded::Help(text) | Loaded::Version(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(failure) => {
            eprintln!("urd: {failure}");
            return ExitCode::from(2);
        }
    };
    // Held to the end: dropping it writes out what is still queued.
    let _log = match logging::init(&config) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("urd: {error}");
            return ExitCode::FAILURE;
        }
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    end_on_panic();
    match server::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A panic is a broken invariant: the process must not go on with the other threads, whatever the build's profile.
fn end_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        std::process::abort();
    }));
}
