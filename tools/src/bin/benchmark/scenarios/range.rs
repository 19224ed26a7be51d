//! `range --paginate` and `range --stream`: all of a range as one request.

use super::site::{Client, Failure, Method, Site, failure};
use super::{Running, Scenario};
use crate::args::RangeArgs;
use crate::arrivals::Request;
use crate::workload::range_request;
use bytes::Bytes;
use prost::Message;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use urd_proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};
use urd_tools::grpc::channel::Channel;
use urd_tools::grpc::status::{CallError, Code};
use urd_tools::grpc::unary::framed;

const UNIMPLEMENTED: Code = Code(12);

pub(crate) struct Range {
    request: RangeRequest,
    stream: bool,
}

/// A range that was read whole.
pub(super) struct Read {
    pub(super) keys: u64,
    /// Answers, or chunks of one, that it took.
    pub(super) parts: u64,
    pub(super) at: Instant,
}

impl Range {
    pub(crate) fn new(args: &RangeArgs) -> Range {
        Range { request: range_request(args), stream: args.stream }
    }

    async fn read(&self, site: &Site, client: &Client, request: Request) -> Result<(), Failure> {
        let (kind, counter) = match self.stream {
            true => ("range-stream", "chunks"),
            false => ("range-pages", "pages"),
        };
        let read = match self.stream {
            true => stream(site, &client.channel, &self.request).await,
            false => pages(site, &client.channel, &self.request).await,
        };
        let read = read.map_err(failure(kind))?;
        site.answered(kind, &request, read.at);
        site.count("keys", read.keys);
        site.count(counter, read.parts);
        Ok(())
    }
}

impl Scenario for Range {
    fn run(self: Arc<Self>, site: Rc<Site>) -> Running {
        Box::pin(async move {
            site.begin()?;
            let there = site.clone();
            site.drive(async move |client: &Client, request| {
                self.read(&there, client, request).await
            })
            .await;
            Ok(())
        })
    }
}

/// Reads pages of the request's limit until there are no more, at the first one's revision.
pub(super) async fn pages(
    site: &Site,
    channel: &Channel,
    request: &RangeRequest,
) -> Result<Read, String> {
    let mut request = request.clone();
    let (mut keys, mut parts) = (0, 0);
    loop {
        let (page, at): (RangeResponse, _) = site.call(channel, Method::Range, &request).await?;
        parts += 1;
        keys += page.kvs.len() as u64;
        match page.kvs.last() {
            Some(last) if page.more => request.key = after(&last.key),
            _ => return Ok(Read { keys, parts, at }),
        }
        if request.revision == 0 {
            request.revision = page.header.map_or(0, |header| header.revision);
        }
    }
}

/// The first key behind `key`.
fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// Reads all chunks of a RangeStream.
pub(super) async fn stream(
    site: &Site,
    channel: &Channel,
    request: &RangeRequest,
) -> Result<Read, String> {
    let stream = channel.stream(Method::RangeStream.path(), framed(request));
    let mut read = Read { keys: 0, parts: 0, at: Instant::now() };
    while let Some(message) = stream.next().await.map_err(explained)? {
        site.record.borrow_mut().message_bytes += message.bytes.len() as u64;
        let chunk = RangeStreamResponse::decode(Bytes::from(message.bytes));
        let chunk = chunk.map_err(|error| format!("malformed response: {error}"))?;
        read.keys += chunk.range_response.map_or(0, |part| part.kvs.len() as u64);
        read.parts += 1;
        read.at = message.at;
    }
    Ok(read)
}

fn explained(error: CallError) -> String {
    match &error {
        CallError::Status { code, .. } if *code == UNIMPLEMENTED => {
            format!("the server has no RangeStream (etcd has it since 3.7): {error}")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;

    #[test]
    fn next_page_begins_right_behind_the_last_key() {
        assert_eq!(after(b"a"), &b"a\0"[..]);
        assert_eq!(after(b"a\xff"), &b"a\xff\0"[..]);
    }

    #[test]
    fn flags_that_contradict_are_refused() {
        for line in
            ["benchmark range a --paginate", "benchmark range a --paginate --limit=3 --stream"]
        {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
        assert!(
            Cli::try_parse_from(["benchmark", "range", "a", "--paginate", "--limit=3"]).is_ok()
        );
    }
}
