//! Target `v2`: what clients send to the v2 API over HTTP/1.1, down to what is applied to a store.
//!
//! An input begins with a byte that says in what state the member is ([`state`]). Steps follow: a byte says who acts
//! ([`who`]), two how many bytes it sends, and then there are the bytes. So requests may come in pieces, one behind another,
//! and one connection may wait for what happens on another. Time passes only where a step says so.
//!
//! Every answer is read as a client would: it must be HTTP, and JSON where it says that it is.

mod answers;
mod request;
mod seeds;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use fastrand::Rng;
use http::Method;
use serde_json::Value;
use urd::api::node::Node;
use urd::api::{Body, Call, Service};
use urd::net::http1_probe::{self, Client};
use urd::store::command::Command;

use self::answers::{Head, Heard, Reader};
use self::request::Request;
use super::node::Member;
use super::{Outcome, Target, mutate};

/// The longest body: less than inputs may measure.
const BODY_BYTES_MAX: usize = 8192;
/// Who and how many bytes.
const STEP_HEAD_BYTES: usize = 3;
/// Steps of an input that count.
const STEPS_MAX: usize = 24;
const CONNECTIONS: usize = 4;
/// Words of a text that tell which one it is; names of the client's come later.
const WORDS: usize = 2;

/// Bits of an input's first byte.
mod state {
    /// There are users and roles, and requests are judged by them.
    pub(super) const AUTH: u8 = 1;
    pub(super) const NO_SPACE: u8 = 2;
    pub(super) const CORRUPT: u8 = 4;
    /// How many states there are.
    pub(super) const ALL: u8 = 8;
}

/// Bits of a step's first byte. The lowest ones are the connection's number.
mod who {
    /// Nobody: so many seconds pass.
    pub(super) const TIME: u8 = 0x80;
    /// The client sends nothing behind these bytes.
    pub(super) const LEAVES: u8 = 0x40;
}

/// See the module's page.
pub struct V2 {
    /// What has been applied before, by [`state`].
    states: Vec<Vec<Command>>,
}

impl Default for V2 {
    fn default() -> Self {
        Self::new()
    }
}

impl V2 {
    /// Prepares the states.
    pub fn new() -> Self {
        Self { states: (0..state::ALL).map(seeds::commands).collect() }
    }
}

impl Target for V2 {
    fn name(&self) -> &'static str {
        "v2"
    }

    fn about(&self) -> &'static str {
        "a state, then steps: who (0x80: time), the length (u16) of what it sends, HTTP/1.1"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        seeds::all()
    }

    fn mutate(&self, input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
        let Some((&first, rest)) = input.split_first() else {
            return mutate::bytes(input, other, random);
        };
        if random.u8(..16) == 0 {
            return mutate::bytes(input, other, random);
        }
        let first = if random.u8(..16) == 0 { random.u8(..state::ALL) } else { first };
        let mut steps = steps(rest);
        let others = self::steps(other.get(1..).unwrap_or_default());
        if steps.is_empty() || random.u8(..4) == 0 {
            mutate::list(&mut steps, &others, random);
        } else {
            let at = random.usize(..steps.len());
            change(&mut steps[at], &others, random);
        }
        *input = encode(first, &steps);
    }

    fn run(&self, input: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        let (&first, rest) = input.split_first().unwrap_or((&0, &[]));
        let member = Member::with(&self.states[usize::from(first % state::ALL)]);
        let mut connections: [Option<Connection>; CONNECTIONS] = Default::default();
        for step in steps(rest).into_iter().take(STEPS_MAX) {
            if step.who & who::TIME != 0 {
                member.pass(step.seconds());
            } else {
                let place = &mut connections[usize::from(step.who) % CONNECTIONS];
                let connection = match place {
                    Some(connection) if !connection.has_ended.get() => connection,
                    place => place.insert(Connection::open(&member)),
                };
                connection.client.send(&step.bytes);
                if step.who & who::LEAVES != 0 {
                    connection.client.leave();
                }
            }
            member.work();
            for connection in connections.iter_mut().flatten() {
                connection.read(&member, &mut outcome);
            }
        }
        outcome.count("waiting", member.v2_waiters());
        member.forget_tasks();
        assert_eq!(member.v2_waiters(), 0, "whose connection has ended waits for nothing");
        let faults = member.faults();
        assert!(faults.is_empty(), "the store is not sound: {faults:?}");
        outcome
    }
}

/// What somebody does.
#[derive(Clone, Debug)]
struct Step {
    who: u8,
    bytes: Vec<u8>,
}

impl Step {
    /// Those that pass.
    fn seconds(&self) -> u16 {
        self.bytes.first_chunk().map_or(1, |seconds| u16::from_le_bytes(*seconds))
    }
}

fn steps(mut bytes: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((&[who, low, high], rest)) = bytes.split_first_chunk::<STEP_HEAD_BYTES>() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (sent, rest) = rest.split_at(length);
        steps.push(Step { who, bytes: sent.to_vec() });
        bytes = rest;
    }
    steps
}

fn encode(state: u8, steps: &[Step]) -> Vec<u8> {
    let mut bytes = vec![state];
    for Step { who, bytes: sent } in steps {
        let length = u16::try_from(sent.len()).unwrap_or(u16::MAX);
        bytes.push(*who);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&sent[..usize::from(length)]);
    }
    bytes
}

fn change(step: &mut Step, others: &[Step], random: &mut Rng) {
    let other = others.get(random.usize(..others.len().max(1))).map_or(&[][..], |it| &it.bytes);
    match (random.u8(..12), Request::parse(&step.bytes)) {
        (0, _) => {
            let connection = random.u8(..4);
            step.who = connection | [0, 0, 0, who::LEAVES, who::TIME][random.usize(..5)];
        }
        (1, _) | (_, None) => mutate::bytes(&mut step.bytes, other, random),
        (2, _) => {
            let request = seeds::request(random);
            // Behind what was there, or in its place.
            if random.bool() {
                step.bytes.clear();
            }
            step.bytes.extend(request);
        }
        (_, Some(mut request)) => {
            request.change(&Request::parse(other).unwrap_or_default(), random);
            step.bytes = request.encode();
        }
    }
}

/// A client's.
struct Connection {
    client: Client,
    has_ended: Rc<Cell<bool>>,
    asked: Rc<RefCell<VecDeque<Method>>>,
    reader: Reader,
    /// The answer that is being read.
    answer: Option<Answer>,
}

/// Serves one connection, and remembers what was asked.
struct Front {
    member: Rc<Member>,
    asked: Rc<RefCell<VecDeque<Method>>>,
}

impl Service for Front {
    fn call(self: &Rc<Self>, _: Call) {
        unreachable!("HTTP/1.1 has no calls");
    }

    async fn http(self: &Rc<Self>, request: http::Request<Bytes>) -> http::Response<Body> {
        self.asked.borrow_mut().push_back(request.method().clone());
        urd::api::http::serve(&self.member, request).await
    }
}

impl Connection {
    fn open(member: &Rc<Member>) -> Self {
        let (client, asked) = (Client::default(), Rc::default());
        let front = Rc::new(Front { member: Rc::clone(member), asked: Rc::clone(&asked) });
        let served = http1_probe::serve(&client, front, BODY_BYTES_MAX);
        let has_ended = Rc::new(Cell::new(false));
        let ended = Rc::clone(&has_ended);
        member.spawn(async move {
            served.await;
            ended.set(true);
        });
        Self { client, has_ended, asked, reader: Reader::default(), answer: None }
    }

    fn read(&mut self, member: &Member, outcome: &mut Outcome) {
        let asked = &self.asked;
        let heard = self.reader.read(&self.client.take(), || asked.borrow_mut().pop_front());
        for heard in heard {
            match heard {
                Heard::Head(head) => {
                    head.check(member.published().view.v2_index());
                    self.answer = Some(Answer::new(head));
                }
                Heard::Piece(piece) => {
                    let answer = self.answer.as_mut().expect("a piece of an answer");
                    answer.read(&piece);
                }
                Heard::End => {
                    let answer = self.answer.take().expect("the end of an answer");
                    outcome.part(&answer.part);
                }
            }
        }
        if let Some(Answer { part, .. }) = &self.answer {
            outcome.part(part);
        }
    }
}

/// What has come of an answer.
struct Answer {
    head: Head,
    /// The index of the event that was read last.
    index: u64,
    part: Outcome,
}

impl Answer {
    fn new(head: Head) -> Self {
        let mut part = Outcome::default();
        part.note(head.method.as_ref().map_or("?", |method| method.as_str()));
        part.note(&head.status.to_string());
        Self { head, index: 0, part }
    }

    fn read(&mut self, piece: &[u8]) {
        if self.head.content_type.as_deref() != Some("application/json") {
            let text = String::from_utf8_lossy(piece);
            return self.part.note(&words(&text));
        }
        for value in answers::json(piece) {
            self.describe(&value);
            if self.head.is_endless() {
                let index = value["node"]["modifiedIndex"].as_u64();
                let index = index.expect("an event has an index");
                assert!(index > self.index, "event {index} comes behind {}", self.index);
                self.index = index;
            }
        }
    }

    fn describe(&mut self, value: &Value) {
        let Value::Object(fields) = value else { return self.part.note("no object") };
        for (name, value) in fields {
            match value {
                Value::String(text) if name == "action" => self.part.once(text),
                Value::String(text) => self.part.once(&format!("{name}:{}", words(text))),
                Value::Number(number) if name == "errorCode" => self.part.note(&number.to_string()),
                Value::Object(below) => {
                    let below: Vec<&str> = below.keys().map(String::as_str).collect();
                    self.part.once(&format!("{name}:{}", below.join(",")));
                }
                _ => self.part.once(name),
            }
        }
    }
}

/// What a text begins with, as far as it is words.
fn words(text: &str) -> String {
    let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b':');
    let words: Vec<&str> = text.split(' ').take(WORDS).take_while(is_word).collect();
    words.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: u8, steps: &[(u8, &str)]) -> String {
        let steps: Vec<Step> = steps
            .iter()
            .map(|(who, text)| Step { who: *who, bytes: text.as_bytes().to_vec() })
            .collect();
        V2::new().run(&encode(state, &steps)).to_string()
    }

    #[test]
    fn inputs_are_steps() {
        let steps = [
            Step { who: 1, bytes: b"GET".to_vec() },
            Step { who: who::TIME, bytes: vec![2, 1] },
            Step { who: 0, bytes: Vec::new() },
        ];
        let bytes = encode(5, &steps);
        let read = self::steps(&bytes[1..]);
        assert_eq!((read.len(), bytes[0]), (3, 5));
        assert_eq!((read[0].who, &read[0].bytes[..], read[1].seconds()), (1, &b"GET"[..], 258));
    }

    #[test]
    fn who_waits_hears_what_another_one_does() {
        let waits = "GET /v2/keys/x?wait=true&stream=true HTTP/1.1\r\nHost: a\r\n\r\n";
        let sets = "PUT /v2/keys/x?value=1&ttl=5 HTTP/1.1\r\nHost: a\r\n\r\n";
        let outcome = run(0, &[(0, waits), (1, sets), (who::TIME, "\u{9}\0")]);
        for expected in ["set", "expire", "waiting=1", "GET_200", "PUT_201"] {
            assert!(outcome.contains(expected), "{outcome}");
        }
        let outcome = run(0, &[(0, waits), (who::LEAVES, "")]);
        assert!(outcome.contains("waiting=0"), "{outcome}");
    }

    #[test]
    fn requests_are_judged_where_there_are_users() {
        let sets = "PUT /v2/keys/x?value=1 HTTP/1.1\r\nHost: a\r\n";
        let guest = format!("{sets}\r\n");
        let root = format!("{sets}Authorization: Basic cm9vdDpwdw==\r\n\r\n");
        let outcome = run(state::AUTH, &[(0, &guest)]);
        assert!(outcome.contains("PUT_401_cause:Insufficient_credentials"), "{outcome}");
        let outcome = run(state::AUTH, &[(0, &root)]);
        assert!(outcome.contains("PUT_201"), "{outcome}");
        let outcome = run(state::NO_SPACE, &[(0, &guest)]);
        assert!(outcome.contains("PUT_500"), "{outcome}");
    }
}
