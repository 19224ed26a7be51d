//! The flags that every v3 command takes.

use std::time::Duration;

use clap::{ArgAction, Args};

use super::print::{Format, Printer};
use crate::failure::Failure;
use crate::{go, prompt};

/// etcdctl's global flags; each may also be given as `ETCDCTL_` and its name in capitals.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options (each also as ETCDCTL_NAME in the environment)")]
pub(crate) struct Global {
    /// gRPC endpoints, separated by commas; the first that can be reached is used
    #[arg(long, global = true, value_delimiter = ',', default_value = "127.0.0.1:2379")]
    pub endpoints: Vec<String>,
    /// Tell on standard error what is done
    #[arg(long, global = true)]
    pub debug: bool,
    /// Output format: fields, json, protobuf, simple, table
    #[arg(short, long, global = true, default_value = "simple", value_name = "FORMAT")]
    pub write_out: String,
    /// Print byte strings as hex encoded strings
    #[arg(long, global = true)]
    pub hex: bool,
    /// How long to try to reach an endpoint
    #[arg(long, global = true, default_value = "2s", value_parser = go::duration, value_name = "TIME")]
    pub dial_timeout: Duration,
    /// How long a short command may take, without the time to connect
    #[arg(long, global = true, default_value = "5s", value_parser = go::duration, value_name = "TIME")]
    pub command_timeout: Duration,
    /// How often a quiet connection is asked whether it lives; 10s at least
    #[arg(long, global = true, default_value = "2s", value_parser = go::duration, value_name = "TIME")]
    pub keepalive_time: Duration,
    /// How long that question may be unanswered
    #[arg(long, global = true, default_value = "6s", value_parser = go::duration, value_name = "TIME")]
    pub keepalive_timeout: Duration,
    /// The largest request that is sent, in bytes; 0 means 2 MiB
    #[arg(long, global = true, default_value = "0", value_name = "BYTES")]
    pub max_request_bytes: usize,
    /// The largest answer that is taken, in bytes; 0 means 2 GiB
    #[arg(long, global = true, default_value = "0", value_name = "BYTES")]
    pub max_recv_bytes: usize,
    /// Connect without TLS, the only way there is yet; false is refused
    #[arg(long, global = true, action = ArgAction::Set, default_value = "true", value_parser = go::flag_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub insecure_transport: bool,
    /// Refused: it is about TLS, which is not there yet
    #[arg(long, global = true)]
    pub insecure_skip_tls_verify: bool,
    /// Refused: it is about TLS, which is not there yet
    #[arg(long, global = true, value_name = "FILE")]
    pub cert: Option<String>,
    /// Refused: it is about TLS, which is not there yet
    #[arg(long, global = true, value_name = "FILE")]
    pub key: Option<String>,
    /// Refused: it is about TLS, which is not there yet
    #[arg(long, global = true, value_name = "FILE")]
    pub cacert: Option<String>,
    /// A token that was made elsewhere, instead of --user and --password
    #[arg(long, global = true, value_name = "TOKEN")]
    pub auth_jwt_token: Option<String>,
    /// `NAME[:PASSWORD]` to authenticate with; the password is asked for if it is given nowhere
    #[arg(long, global = true, value_name = "NAME")]
    pub user: Option<String>,
    /// The password of --user, which then holds only the name
    #[arg(long, global = true)]
    pub password: Option<String>,
    /// Refused: there is no discovery through DNS yet
    #[arg(short, long, global = true, value_name = "DOMAIN")]
    pub discovery_srv: Option<String>,
    /// Refused: there is no discovery through DNS yet
    #[arg(long, global = true, value_name = "NAME")]
    pub discovery_srv_name: Option<String>,
    /// Of discovery through DNS; without effect as long as there is none
    #[arg(long, global = true, action = ArgAction::Set, default_value = "true", value_parser = go::flag_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub insecure_discovery: bool,
    /// Which API to speak: 3 (gRPC) or 2 (HTTP); also as ETCDCTL_API
    #[arg(long = "api", global = true, default_value = "3", value_name = "VERSION")]
    pub _api: String,
}

/// Who a client says it is.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    None,
    Token(String),
    Password { user: String, password: String },
}

impl Global {
    /// Refuses what cannot be honoured: silently going on without TLS would give data away.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let refused = |flag: &str, why: &str| {
            Err(Failure::bad_arguments(format!("--{flag} cannot be honoured: {why}")))
        };
        let tls = "urdctl speaks no TLS yet; leave it out to connect without";
        for (flag, value) in [("cacert", &self.cacert), ("cert", &self.cert), ("key", &self.key)] {
            match value.as_deref() {
                Some("") => {
                    return Err(Failure::bad_arguments(format!(
                        "empty string is passed to --{flag} option"
                    )));
                }
                Some(_) => return refused(flag, tls),
                None => {}
            }
        }
        if !self.insecure_transport {
            return refused("insecure-transport=false", tls);
        }
        if self.insecure_skip_tls_verify {
            return refused("insecure-skip-tls-verify", tls);
        }
        let discovery = [
            ("discovery-srv", &self.discovery_srv),
            ("discovery-srv-name", &self.discovery_srv_name),
        ];
        if let Some((flag, _)) = discovery.iter().find(|(_, value)| value.is_some()) {
            return refused(
                flag,
                "urdctl looks nothing up in DNS yet; name the members with --endpoints",
            );
        }
        Ok(())
    }

    pub(crate) fn credentials(&self) -> Result<Credentials, Failure> {
        credentials(
            self.auth_jwt_token.as_deref(),
            self.user.as_deref(),
            self.password.as_deref(),
            "Password: ",
        )
    }

    pub(crate) fn printer(&self) -> Result<Printer, Failure> {
        let format = match &self.write_out[..] {
            "simple" => Format::Simple,
            "fields" => Format::Fields,
            "json" => Format::Json,
            "protobuf" => Format::Protobuf,
            "table" => Format::Table,
            other => {
                return Err(Failure::bad_feature(format!(
                    "unsupported output format {}; there are fields, json, protobuf, simple and table",
                    go::quote(other.as_bytes())
                )));
            }
        };
        Ok(Printer { format, hex: self.hex, value_only: false })
    }
}

/// `user` may hold the password too, behind a colon.
pub(crate) fn credentials(
    token: Option<&str>,
    user: Option<&str>,
    password: Option<&str>,
    question: &str,
) -> Result<Credentials, Failure> {
    let given = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
    let (token, user, password) = (given(token), given(user), given(password));
    if let Some(token) = token {
        return Ok(Credentials::Token(token));
    }
    let Some(user) = user else { return Ok(Credentials::None) };
    if let Some(password) = password {
        return Ok(Credentials::Password { user, password });
    }
    match user.split_once(':') {
        Some((user, password)) => {
            Ok(Credentials::Password { user: user.to_owned(), password: password.to_owned() })
        }
        None => {
            let password = prompt::password(question)?;
            Ok(Credentials::Password { user, password })
        }
    }
}
