//! What another member's bytes come to, without sockets: for who feeds the transport foreign bytes from outside this
//! crate.

use bytes::Bytes;
use raft::eraftpb::Message;

use super::frame::{self, Deframer, Hello, Kind, Malformed, Numbered};
use super::message;
use crate::ids::MemberId;
use crate::limits;

/// A frame's number for a message of raft.
pub const MESSAGE: u8 = Kind::Message as u8;
/// That of a question.
pub const QUESTION: u8 = Kind::Question as u8;
/// That of a ping.
pub const PING: u8 = Kind::Ping as u8;
/// That of a hello.
pub const HELLO: u8 = Kind::Hello as u8;
/// That of the message that announces a state.
pub const HEADER: u8 = Kind::Header as u8;
/// Bytes in front of a frame's body.
pub const HEAD_BYTES: usize = frame::HEAD_BYTES;

/// What a frame was. On a real connection each kind may stand in some places only; here all may everywhere.
#[derive(Debug)]
pub enum Heard {
    /// raft's, for the driver.
    Message(Message),
    /// raft's too, on the connection of a state that it announces.
    Announcement(Message),
    /// A question of this kind, or an answer, which looks alike.
    Question(u8, Bytes),
    /// A sign of life.
    Ping(Bytes),
    /// Another frame, which was sound.
    Other(u8),
}

/// A frame of kind `number`, if there is one.
pub fn frame(number: u8, body: &[u8]) -> Option<Vec<u8>> {
    let kind = Kind::from_byte(number)?;
    let mut out = Vec::new();
    frame::put(&mut out, kind, |out| out.extend_from_slice(body));
    Some(out)
}

/// What member `to` hears when `from` sends these bytes, up to the first that is malformed, and what is wrong with it.
pub fn hear(received: &[u8], from: MemberId, to: MemberId) -> (Vec<Heard>, Option<String>) {
    hear_pieces([received], from, to)
}

/// The same of bytes that come in pieces.
pub fn hear_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    from: MemberId,
    to: MemberId,
) -> (Vec<Heard>, Option<String>) {
    let mut deframer = Deframer::default();
    let mut heard = Vec::new();
    for piece in pieces {
        deframer.extend(piece);
        loop {
            match deframer.next(limits::PEER_MESSAGE_BYTES_MAX) {
                Ok(None) => break,
                Ok(Some((kind, body))) => match judge(kind, body, from, to) {
                    Ok(one) => heard.push(one),
                    Err(malformed) => return (heard, Some(malformed.to_string())),
                },
                Err(malformed) => return (heard, Some(malformed.to_string())),
            }
        }
    }
    (heard, None)
}

fn judge(kind: Kind, body: Bytes, from: MemberId, to: MemberId) -> Result<Heard, Malformed> {
    Ok(match kind {
        Kind::Message => Heard::Message(message::decode(&body, from, to)?),
        Kind::Question | Kind::Answer => {
            let Numbered { kind, body, .. } = Numbered::decode(body)?;
            Heard::Question(kind, body)
        }
        Kind::Header => Heard::Announcement(message::read_announcement(&body, from, to)?),
        Kind::Ping => Heard::Ping(body),
        Kind::Hello => Hello::decode(&body).map(|hello| Heard::Other(hello.purpose as u8))?,
        Kind::Refusal => frame::refusal(&body).map(|(_, _)| Heard::Other(kind as u8))?,
        _ => Heard::Other(kind as u8),
    })
}
