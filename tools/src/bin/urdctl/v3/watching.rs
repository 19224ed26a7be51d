//! A watch that goes on elsewhere when its connection breaks, without a gap and without telling anything twice.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::watch_request::RequestUnion;

use super::client::{Broken, Client};
use super::methods::WATCH;
use crate::failure::Failure;

/// Between two tries to go on.
const PAUSE: Duration = Duration::from_millis(200);
/// A request to create the watch, and some for its progress.
const REQUESTS_QUEUED_MAX: usize = 16;

/// One watch.
#[derive(Debug)]
pub(crate) struct Watching {
    client: Rc<Client>,
    /// What is asked for; its revision is the first that has not been told.
    request: pb::WatchCreateRequest,
    answers: Option<Streaming<pb::WatchResponse>>,
    requests: Requests,
    has_been_open: bool,
}

/// Where requests about a running watch go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests(Rc<RefCell<Option<mpsc::Sender<pb::WatchRequest>>>>);

impl Requests {
    /// Asks how far the watch is, if it runs.
    pub(crate) fn progress(&self) {
        let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        if let Some(sender) = self.0.borrow().as_ref() {
            // Full means that enough such questions are under way.
            sender.try_send(pb::WatchRequest { request_union: Some(request) }).ok();
        }
    }
}

impl Watching {
    pub(crate) fn new(client: Rc<Client>, request: pb::WatchCreateRequest) -> Watching {
        Watching {
            client,
            request,
            answers: None,
            requests: Requests::default(),
            has_been_open: false,
        }
    }

    pub(crate) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// The next events, progress, or end of the watch.
    pub(crate) async fn next(&mut self) -> Result<pb::WatchResponse, Failure> {
        loop {
            let Some(answers) = &mut self.answers else {
                self.open().await?;
                continue;
            };
            match answers.message().await {
                Ok(Some(answer)) => {
                    self.note(&answer);
                    if !answer.created || answer.canceled {
                        return Ok(answer);
                    }
                }
                Ok(None) => self.lost("the stream ended".to_owned()),
                Err(status) => {
                    let broken = Broken::Status(self.client.endpoint(), status);
                    if !broken.is_worth_another_try() {
                        return Err(broken.into());
                    }
                    self.lost(broken.text());
                }
            }
        }
    }

    async fn open(&mut self) -> Result<(), Failure> {
        let (sender, receiver) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let request = RequestUnion::CreateRequest(self.request.clone());
        // The channel is new, there is room.
        sender.try_send(pb::WatchRequest { request_union: Some(request) }).ok();
        match self.client.stream(&WATCH, ReceiverStream::new(receiver), true).await {
            Ok(answers) => {
                self.answers = Some(answers);
                self.has_been_open = true;
                *self.requests.0.borrow_mut() = Some(sender);
                Ok(())
            }
            // A cluster that was there may come back.
            Err(Broken::Unreachable(_)) if self.has_been_open => {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            Err(broken) if broken.is_worth_another_try() => {
                self.client.disconnect();
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            Err(broken) => Err(broken.into()),
        }
    }

    /// Remembers what has been told.
    fn note(&mut self, answer: &pb::WatchResponse) {
        let revision = answer.header.unwrap_or_default().revision;
        let last_event = answer.events.last().and_then(|event| event.kv.as_ref());
        if let Some(kv) = last_event {
            self.request.start_revision = kv.mod_revision + 1;
        } else if answer.created && self.request.start_revision == 0 {
            self.request.start_revision = revision + 1;
        }
    }

    fn lost(&mut self, why: String) {
        eprintln!("warning: watch: {why}; going on as soon as an endpoint answers");
        self.answers = None;
        *self.requests.0.borrow_mut() = None;
        self.client.disconnect();
    }
}

/// Whether an answer is only about how far the watch is.
pub(crate) fn is_progress(answer: &pb::WatchResponse) -> bool {
    answer.events.is_empty()
        && !answer.canceled
        && !answer.created
        && answer.compact_revision == 0
        && answer.header.unwrap_or_default().revision != 0
}

/// The reason of a watch's end, in the words of etcd's client.
pub(crate) fn why_canceled(answer: &pb::WatchResponse) -> String {
    if answer.compact_revision != 0 {
        "etcdserver: mvcc: required revision has been compacted".to_owned()
    } else if answer.cancel_reason.is_empty() {
        "etcdserver: mvcc: required revision is a future revision".to_owned()
    } else {
        answer.cancel_reason.clone()
    }
}
