//! stub
pub(crate) mod http;
use crate::failure::Failure;
use std::ffi::OsString;
pub(crate) fn run(_arguments: Vec<OsString>) -> Result<(), Failure> {
    Ok(())
}
