//! Transports on loopback, all on one executor.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::net::TcpListener;
use glommio::{LocalExecutor, Task};
use raft::eraftpb::{Entry, Message, MessageType};

use super::connection::{Broken, Reader, Writer, connect, halves};
use super::frame::{Hello, Kind, Purpose, VERSION};
use super::*;

/// Until then something has to have happened, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Notes what a transport reports.
#[derive(Default)]
struct Notes {
    messages: RefCell<Vec<Message>>,
    unreachable: RefCell<Vec<MemberId>>,
    refusals: RefCell<Vec<Refusal>>,
    removed: RefCell<Vec<MemberId>>,
    states: RefCell<Vec<State>>,
}

/// Who sent a state, what announced it, and what came.
type State = (MemberId, Bytes, Result<Vec<u8>, SnapshotError>);

struct Member {
    transport: Rc<Transport>,
    notes: Rc<Notes>,
    address: Address,
    _accepting: Task<()>,
}

/// What a question of this kind gets: its body back, an error, or no answer.
const ECHO: u8 = 1;
const FAIL: u8 = 2;
const NEVER: u8 = 3;

impl Events for Rc<Notes> {
    fn message(&self, message: Message) {
        self.messages.borrow_mut().push(message);
    }

    fn unreachable(&self, peer: MemberId) {
        self.unreachable.borrow_mut().push(peer);
    }

    fn asked(&self, from: Option<MemberId>, kind: u8, body: Bytes) -> Answering {
        Box::pin(async move {
            match kind {
                ECHO => Ok(body),
                NEVER => std::future::pending().await,
                _ => Err(format!("{from:?} may not ask")),
            }
        })
    }

    fn snapshot(&self, from: MemberId, header: Bytes, mut reader: SnapshotReader) {
        let notes = Rc::clone(self);
        glommio::spawn_local(async move {
            let mut all = Vec::new();
            let received = loop {
                // Whoever would not have it says so without reading on.
                if header == "refuse" && !all.is_empty() {
                    break Ok(all);
                }
                match reader.next().await {
                    Ok(Some(piece)) => all.extend_from_slice(&piece),
                    Ok(None) => break Ok(all),
                    Err(error) => break Err(error),
                }
            };
            let verdict = if header == "refuse" { Err("not wanted".to_owned()) } else { Ok(()) };
            notes.states.borrow_mut().push((from, header, received));
            reader.finish(verdict).await.ok();
        })
        .detach();
    }

    fn refused(&self, refusal: &Refusal) {
        self.refusals.borrow_mut().push(refusal.clone());
    }

    fn was_removed(&self, member: MemberId) -> bool {
        self.removed.borrow().contains(&member)
    }
}

fn options(cluster: u64, member: u64) -> Options {
    let election_timeout = Duration::from_secs(2);
    Options {
        queue_messages_max: 64,
        queue_bytes_max: 1 << 20,
        ..Options::new(ClusterId(cluster), MemberId(member), 7, election_timeout)
    }
}

impl Member {
    fn new(options: Options) -> Self {
        let notes: Rc<Notes> = Rc::default();
        let transport = Transport::start(options, Rc::new(Rc::clone(&notes)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Rc::clone(&transport);
        let _accepting = glommio::spawn_local(async move {
            while let Ok(accepted) = listener.shared_accept().await {
                serving.serve(accepted);
            }
        });
        let address = Address { host: "127.0.0.1".to_owned(), port };
        Self { transport, notes, address, _accepting }
    }

    fn peer(&self, id: u64) -> Peer {
        Peer { id: MemberId(id), addresses: vec![self.address.clone()] }
    }
}

/// Two members of one cluster that know each other.
fn pair() -> (Member, Member) {
    let (one, two) = (Member::new(options(9, 1)), Member::new(options(9, 2)));
    let peers = [one.peer(1), two.peer(2)];
    one.transport.set_peers(&peers);
    two.transport.set_peers(&peers);
    (one, two)
}

fn heartbeat(from: u64, to: u64, commit: u64) -> Message {
    let mut message = Message { from, to, commit, term: 1, ..Message::default() };
    message.set_msg_type(MessageType::MsgHeartbeat);
    message
}

fn append(from: u64, to: u64, index: u64, bytes: usize) -> Message {
    let mut message = Message { from, to, index, log_term: 1, term: 1, ..Message::default() };
    message.set_msg_type(MessageType::MsgAppend);
    let data = Bytes::from(vec![index.to_le_bytes()[0]; bytes]);
    message.set_entries(vec![Entry { index: index + 1, term: 1, data, ..Entry::default() }].into());
    message
}

async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !happened() {
        assert!(begin.elapsed() < PATIENCE, "in vain: {what}");
        glommio::timer::sleep(Duration::from_millis(5)).await;
    }
}

/// What the other side says to a hello, and the connection.
async fn say(address: &Address, hello: Hello) -> (Kind, Bytes, Reader, Writer) {
    let stream = connect(address, PATIENCE).await.unwrap();
    let (mut reader, writer) = halves(stream, 1 << 16);
    let mut out = Vec::new();
    frame::put(&mut out, Kind::Hello, |out| hello.encode(out));
    writer.write(&out, PATIENCE).await.unwrap();
    let (kind, body) = reader.frame_within(PATIENCE).await.unwrap();
    (kind, body, reader, writer)
}

fn run(test: impl Future<Output = ()>) {
    LocalExecutor::default().run(test);
}

#[test]
fn messages_arrive_in_order_both_ways() {
    run(async {
        let (one, two) = pair();
        until("they reach each other", || {
            one.transport.active_since(MemberId(2)).is_some()
                && two.transport.active_since(MemberId(1)).is_some()
        })
        .await;
        for index in 0..50 {
            one.transport.send(vec![append(1, 2, index, 1000), heartbeat(1, 2, index)]);
            two.transport.send(vec![heartbeat(2, 1, index)]);
        }
        until("all arrive", || {
            two.notes.messages.borrow().len() == 100 && one.notes.messages.borrow().len() == 50
        })
        .await;
        let messages = two.notes.messages.borrow().clone();
        let of = |kind: MessageType| {
            messages.iter().filter(move |message| message.get_msg_type() == kind)
        };
        assert!(of(MessageType::MsgAppend).map(|message| message.index).eq(0..50));
        assert!(of(MessageType::MsgHeartbeat).map(|message| message.commit).eq(0..50));
        let statistics = one.transport.statistics(MemberId(2)).unwrap();
        assert_eq!(statistics.sent_messages.get(), 100);
        until("a round trip", || statistics.round_trips.get().count > 0).await;
    });
}

#[test]
fn heartbeats_pass_entries_that_nobody_takes() {
    run(async {
        let one = Member::new(options(9, 1));
        // Somebody who takes what is on a control connection, and nothing of a bulk one.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heartbeats = Rc::new(RefCell::new(0));
        let counted = Rc::clone(&heartbeats);
        let serving = glommio::spawn_local(async move {
            let mut idle = Vec::new();
            loop {
                let stream = listener.accept().await.unwrap();
                let (mut reader, writer) = halves(stream, 1 << 20);
                let (_, hello) = reader.frame().await.unwrap();
                let mut out = Vec::new();
                frame::put(&mut out, Kind::Welcome, |_| {});
                writer.write(&out, PATIENCE).await.unwrap();
                if Hello::decode(&hello).unwrap().purpose != Purpose::Control {
                    idle.push((reader, writer));
                    continue;
                }
                let counted = Rc::clone(&counted);
                glommio::spawn_local(async move {
                    while let Ok((kind, body)) = reader.frame().await {
                        match kind {
                            Kind::Message => *counted.borrow_mut() += 1,
                            _ => {
                                let mut out = Vec::new();
                                frame::put(&mut out, Kind::Pong, |out| out.extend(body.iter()));
                                writer.write(&out, PATIENCE).await.unwrap();
                            }
                        }
                    }
                })
                .detach();
            }
        });
        let address = Address { host: "127.0.0.1".to_owned(), port };
        one.transport.set_peers(&[Peer { id: MemberId(2), addresses: vec![address] }]);
        let mut index = 0;
        until("the bulk queue is full", || {
            one.transport.send(vec![append(1, 2, index, 300_000)]);
            index += 1;
            !one.notes.unreachable.borrow().is_empty() && index > 20
        })
        .await;
        assert_eq!(one.notes.unreachable.borrow()[0], MemberId(2), "raft hears of it");
        let before = *heartbeats.borrow();
        until("a heartbeat passes", || {
            one.transport.send(vec![heartbeat(1, 2, 7)]);
            *heartbeats.borrow() > before
        })
        .await;
        assert!(one.transport.statistics(MemberId(2)).unwrap().dropped_messages.get() > 0);
        drop(serving);
    });
}

#[test]
fn whoever_may_not_come_in_hears_why() {
    run(async {
        let (one, two) = pair();
        one.notes.removed.borrow_mut().push(MemberId(5));
        let good = Hello {
            version: VERSION,
            cluster: ClusterId(9),
            from: MemberId(2),
            to: MemberId(1),
            purpose: Purpose::Control,
        };
        let cases = [
            (Hello { version: 99, ..good }, Reason::Version, "version 2"),
            (Hello { cluster: ClusterId(8), ..good }, Reason::Cluster, "cluster 9, not of 8"),
            (Hello { to: MemberId(3), ..good }, Reason::WrongMember, "member 1, not 3"),
            (Hello { from: MemberId(4), ..good }, Reason::Unknown, "member 4 is not known"),
            (Hello { from: MemberId(1), ..good }, Reason::Unknown, "member 1 is not known"),
            (Hello { from: MemberId(5), ..good }, Reason::Removed, "member 5 was removed"),
            (
                Hello { from: MemberId(5), to: MemberId(3), ..good },
                Reason::Removed,
                "member 5 was removed",
            ),
            (Hello { from: MemberId(0), ..good }, Reason::NotAllowed, "only ask questions"),
        ];
        for (hello, reason, text) in cases {
            let (kind, body, ..) = say(&one.address, hello).await;
            assert_eq!(kind, Kind::Refusal, "{hello:?}");
            let (said, words) = frame::refusal(&body).unwrap();
            assert_eq!(said, reason);
            assert!(words.contains(text), "{words}");
        }
        let (kind, ..) = say(&one.address, good).await;
        assert_eq!(kind, Kind::Welcome);
        drop(two);

        // The refused side is told, with what was said.
        let three = Member::new(options(8, 3));
        three.transport.set_peers(&[one.peer(1)]);
        until("a refusal", || !three.notes.refusals.borrow().is_empty()).await;
        let refusal = three.notes.refusals.borrow()[0].clone();
        assert_eq!((refusal.peer, refusal.reason), (MemberId(1), Reason::Cluster));
    });
}

#[test]
fn a_message_in_another_members_name_ends_the_connection() {
    run(async {
        let (one, _two) = pair();
        for foreign in [heartbeat(3, 1, 0), heartbeat(2, 3, 0)] {
            let hello = Hello {
                version: VERSION,
                cluster: ClusterId(9),
                from: MemberId(2),
                to: MemberId(1),
                purpose: Purpose::Control,
            };
            let (_, _, mut reader, writer) = say(&one.address, hello).await;
            let mut out = Vec::new();
            frame::put(&mut out, Kind::Message, |out| {
                protobuf::Message::write_to_vec(&foreign, out).unwrap();
            });
            writer.write(&out, PATIENCE).await.unwrap();
            assert!(reader.frame_within(PATIENCE).await.is_err());
        }
        assert!(one.notes.messages.borrow().is_empty());
    });
}

#[test]
fn connections_are_made_again() {
    run(async {
        // Nobody listens there at first; then the first connections break.
        let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = reserved.local_addr().unwrap().port();
        drop(reserved);
        let address = Address { host: "127.0.0.1".to_owned(), port };
        let one = Member::new(options(9, 1));
        one.transport.set_peers(&[Peer { id: MemberId(2), addresses: vec![address] }]);
        let failures = || one.transport.statistics(MemberId(2)).unwrap().failures.get();
        until("it fails to connect", || failures() > 2).await;
        let two = Member::new(options(9, 2));
        two.transport.set_peers(&[one.peer(1)]);
        let transport = Rc::clone(&two.transport);
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let serving = glommio::spawn_local(async move {
            for nth in 0.. {
                let accepted = listener.shared_accept().await.unwrap();
                match nth {
                    0..6 => drop(accepted.bind_to_executor()),
                    _ => transport.serve(accepted),
                }
            }
        });
        until("a message arrives", || {
            one.transport.send(vec![heartbeat(1, 2, 1)]);
            !two.notes.messages.borrow().is_empty()
        })
        .await;
        drop(serving);
    });
}

#[test]
fn a_state_arrives_whole_or_not_at_all() {
    run(async {
        let (one, two) = pair();
        let pieces: Vec<Bytes> = (0..20_u8).map(|nth| Bytes::from(vec![nth; 200_000])).collect();
        let whole: Vec<u8> = pieces.concat();
        let send = async |header: &'static str, cut: usize| {
            let mut left = pieces.iter();
            let mut sent = 0;
            let next = async || {
                sent += 1;
                if sent > cut { Err("no more".to_owned()) } else { Ok(left.next().cloned()) }
            };
            let header = Bytes::from_static(header.as_bytes());
            one.transport.stream_snapshot(MemberId(2), header, next).await
        };
        assert_eq!(send("take", usize::MAX).await, Ok(()));
        let (from, header, received) = two.notes.states.borrow_mut().remove(0);
        assert_eq!((from, &header[..]), (MemberId(1), &b"take"[..]));
        assert!(received.unwrap() == whole);

        let refused = send("refuse", usize::MAX).await;
        assert_eq!(refused, Err(SnapshotError::Rejected("not wanted".to_owned())));
        two.notes.states.borrow_mut().clear();

        let broken = send("take", 5).await;
        assert_eq!(broken, Err(SnapshotError::Source("no more".to_owned())));
        until("the receiver hears of it", || !two.notes.states.borrow().is_empty()).await;
        assert!(two.notes.states.borrow()[0].2.is_err());

        let unknown = one.transport.stream_snapshot(MemberId(7), Bytes::new(), async || Ok(None));
        assert_eq!(unknown.await, Err(SnapshotError::UnknownPeer(MemberId(7))));
    });
}

#[test]
fn questions_are_answered() {
    run(async {
        let (one, two) = pair();
        let ask = async |kind: u8, body: &'static str, timeout: Duration| {
            let body = Bytes::from_static(body.as_bytes());
            one.transport.ask(MemberId(2), kind, body, timeout).await
        };
        assert_eq!(ask(ECHO, "hello", PATIENCE).await.unwrap(), "hello");
        let failed = ask(FAIL, "", PATIENCE).await;
        assert_eq!(failed, Err(AskError::Failed("Some(MemberId(1)) may not ask".to_owned())));
        assert_eq!(ask(NEVER, "", Duration::from_millis(20)).await, Err(AskError::TimedOut));
        assert_eq!(ask(ECHO, "on the same connection", PATIENCE).await.unwrap().len(), 22);
        let unknown = one.transport.ask(MemberId(7), ECHO, Bytes::new(), PATIENCE).await;
        assert_eq!(unknown, Err(AskError::UnknownPeer(MemberId(7))));

        // Somebody who is no member yet.
        let asked = ask_address(&two.address, ECHO, Bytes::from_static(b"who"), PATIENCE).await;
        assert_eq!(asked.unwrap(), "who");
        let failed = ask_address(&two.address, FAIL, Bytes::new(), PATIENCE).await;
        assert_eq!(failed, Err(AskError::Failed("None may not ask".to_owned())));
        let nobody = Address { host: "127.0.0.1".to_owned(), port: 1 };
        let nobody = ask_address(&nobody, ECHO, Bytes::new(), PATIENCE).await;
        assert!(matches!(nobody, Err(AskError::Unreachable(_))), "{nobody:?}");
    });
}

/// Anybody may connect to ask who the members are.
#[test]
fn who_asks_and_takes_no_answers_is_not_listened_to() {
    run(async {
        let (one, _two) = pair();
        let hello = Hello {
            version: VERSION,
            cluster: ClusterId(9),
            from: MemberId(0),
            to: MemberId(1),
            purpose: Purpose::Question,
        };
        let pings = |body: &[u8], count: usize| {
            let mut out = Vec::new();
            for _ in 0..count {
                frame::put(&mut out, Kind::Ping, |out| out.extend_from_slice(body));
            }
            out
        };
        let (_, _, mut reader, writer) = say(&one.address, hello).await;
        writer.write(&pings(&[1; 8], 1), PATIENCE).await.unwrap();
        let (kind, body) = reader.frame_within(PATIENCE).await.unwrap();
        assert_eq!((kind, &body[..]), (Kind::Pong, &[1; 8][..]));
        writer.write(&pings(&[1; 60_000], 1), PATIENCE).await.unwrap();
        assert!(reader.frame_within(PATIENCE).await.is_err(), "it is closed");

        let (_, _, _reader, writer) = say(&one.address, hello).await;
        let many = pings(&[1; 8], 5000);
        // What both sockets and the other side's memory hold, and some.
        let stalls = async {
            for _ in 0..1000 {
                writer.write(&many, Duration::from_millis(500)).await?;
            }
            Ok::<_, Broken>(())
        };
        assert!(matches!(stalls.await, Err(Broken::Stalled(_))));
    });
}

#[test]
fn a_peer_that_leaves_hears_what_is_queued() {
    run(async {
        let (one, two) = pair();
        until("they reach each other", || one.transport.active_since(MemberId(2)).is_some()).await;
        one.transport.send(vec![append(1, 2, 1, 100_000), heartbeat(1, 2, 2)]);
        one.transport.set_peers(&[]);
        until("both arrive", || two.notes.messages.borrow().len() == 2).await;
        one.transport.send(vec![heartbeat(1, 2, 3)]);
        assert_eq!(one.transport.dropped_unknown(), 1);
    });
}

#[test]
fn damaged_frames_end_the_connection() {
    run(async {
        let (one, _two) = pair();
        let mut random = crate::random::SplitMix64::new(3);
        for _ in 0..50 {
            let hello = Hello {
                version: VERSION,
                cluster: ClusterId(9),
                from: MemberId(2),
                to: MemberId(1),
                purpose: if random.next().is_multiple_of(2) {
                    Purpose::Bulk
                } else {
                    Purpose::Question
                },
            };
            let (_, _, mut reader, writer) = say(&one.address, hello).await;
            let mut out = Vec::new();
            frame::put(&mut out, Kind::Message, |out| {
                protobuf::Message::write_to_vec(&append(2, 1, 4, 500), out).unwrap();
            });
            let at = usize::try_from(random.next() % out.len() as u64).unwrap();
            // Not the bytes that mean nothing, nor a length that makes the other side wait for more.
            if at < frame::HEAD_BYTES {
                continue;
            }
            out[at] ^= 1 << (random.next() % 8);
            writer.write(&out, PATIENCE).await.unwrap();
            assert!(reader.frame_within(PATIENCE).await.is_err());
        }
        assert!(one.notes.messages.borrow().is_empty());
    });
}
