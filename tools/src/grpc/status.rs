//! How a call can fail, and what a response's header blocks say about that.

use std::fmt;
use urd_http2::frame::ErrorCode;
use urd_http2::hpack::Fields;

/// Why a call has no response. Equal failures have equal texts, so that they can be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The server's answer is this status.
    #[error("rpc error: code = {code} desc = {message}")]
    Status { code: Code, message: String },
    #[error("HTTP status {0} instead of a gRPC response")]
    Http(String),
    #[error("stream reset by the server: {0}")]
    Reset(ErrorCode),
    /// The server says that it did not begin with it: trying again is safe.
    #[error("not processed by the server (connection going away, or stream refused)")]
    Unprocessed,
    /// The connection ended before the call did.
    #[error("{0}")]
    Lost(String),
    #[error("malformed response: {0}")]
    Malformed(&'static str),
    /// Not an end: informational headers, which precede the response's own.
    #[error("informational response")]
    Interim,
}

/// A gRPC status code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 17] = [
            "OK",
            "Canceled",
            "Unknown",
            "InvalidArgument",
            "DeadlineExceeded",
            "NotFound",
            "AlreadyExists",
            "PermissionDenied",
            "ResourceExhausted",
            "FailedPrecondition",
            "Aborted",
            "OutOfRange",
            "Unimplemented",
            "Internal",
            "Unavailable",
            "DataLoss",
            "Unauthenticated",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "Code({})", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Judges a header block: the response's beginning, or (`ends`) its trailers, or both in one when
/// nothing had `begun`.
pub(super) fn check_block(fields: &Fields, ends: bool, begun: bool) -> Result<(), CallError> {
    let value = |wanted: &str| {
        fields.iter().find(|(name, _)| *name == wanted.as_bytes()).map(|(_, value)| value)
    };
    if !begun {
        let http = value(":status").ok_or(CallError::Malformed("it has no HTTP status"))?;
        if http.starts_with(b"1") && !ends {
            return Err(CallError::Interim);
        }
        if http != b"200" {
            return Err(CallError::Http(String::from_utf8_lossy(http).into_owned()));
        }
        let content_type = value("content-type").unwrap_or_default();
        if !content_type.starts_with(b"application/grpc") {
            return Err(CallError::Malformed("its content type is not gRPC's"));
        }
    }
    if !ends {
        return if begun { Err(CallError::Malformed("headers within it")) } else { Ok(()) };
    }
    let status = value("grpc-status").ok_or(CallError::Malformed("it ended without a status"))?;
    if status == b"0" {
        return Ok(());
    }
    let code = std::str::from_utf8(status).ok().and_then(|digits| digits.parse().ok());
    let code = Code(code.ok_or(CallError::Malformed("its status is not a number"))?);
    let message = percent_decoded(value("grpc-message").unwrap_or_default());
    Err(CallError::Status { code, message })
}

/// gRPC messages are percent-encoded; what is not valid so is taken as it stands.
fn percent_decoded(encoded: &[u8]) -> String {
    let digit = |nth: usize| encoded.get(nth).and_then(|&byte| (byte as char).to_digit(16));
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut nth = 0;
    while let Some(&byte) = encoded.get(nth) {
        match (byte, digit(nth + 1), digit(nth + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                nth += 3;
            }
            _ => {
                decoded.push(byte);
                nth += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
