//! Frames: what stands on the wire between members. Bytes only; `FORMAT.md` draws them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::Reason;
use crate::ids::{ClusterId, MemberId};

/// In front of every frame's body: length, kind, checksum.
pub(super) const HEAD_BYTES: usize = 12;
/// A ping's body, and a pong's.
pub(super) const PING_BYTES: usize = 8;
/// The version of `FORMAT.md`.
pub(super) const VERSION: u32 = 2;
const MAGIC: [u8; 8] = *b"urd-peer";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hello = 1,
    Welcome = 2,
    Refusal = 3,
    Message = 4,
    Ping = 5,
    Pong = 6,
    Question = 7,
    Answer = 8,
    Header = 9,
    Piece = 10,
    End = 11,
    Verdict = 12,
    Taken = 13,
}

impl Kind {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Hello,
            Self::Welcome,
            Self::Refusal,
            Self::Message,
            Self::Ping,
            Self::Pong,
            Self::Question,
            Self::Answer,
            Self::Header,
            Self::Piece,
            Self::End,
            Self::Verdict,
            Self::Taken,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Bytes that are no frame, or not the one that may stand here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Malformed {
    #[error("a frame of kind {0}, which does not exist")]
    Kind(u8),
    #[error("a frame of {found} bytes, where {max} may stand")]
    Length { found: usize, max: usize },
    #[error("a frame with checksum {found:08x}, whose bytes have {expected:08x}")]
    Checksum { expected: u32, found: u32 },
    #[error("{0}")]
    Body(&'static str),
}

/// A frame's head, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) length: usize,
    crc: u32,
}

impl Head {
    /// Judges a head before anything is received for it: `max` says what may follow.
    pub(super) fn decode(bytes: [u8; HEAD_BYTES], max: usize) -> Result<Self, Malformed> {
        let mut bytes = &bytes[..];
        let length = bytes.get_u32_le() as usize;
        let kind = bytes.get_u8();
        let kind = Kind::from_byte(kind).ok_or(Malformed::Kind(kind))?;
        bytes.advance(3);
        if length > max {
            return Err(Malformed::Length { found: length, max });
        }
        Ok(Self { kind, length, crc: bytes.get_u32_le() })
    }

    /// Whether `body` is what this head was made for.
    pub(super) fn check(&self, body: &[u8]) -> Result<(), Malformed> {
        let expected = checksum(self.kind, body);
        if expected == self.crc {
            return Ok(());
        }
        Err(Malformed::Checksum { expected, found: self.crc })
    }
}

/// Covers kind, length and body.
fn checksum(kind: Kind, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind as u8]);
    hasher.update(&(body.len() as u64).to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Appends a frame whose body `fill` appends.
pub(super) fn put(out: &mut Vec<u8>, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.resize(at + HEAD_BYTES, 0);
    fill(out);
    let body = &out[at + HEAD_BYTES..];
    let length = u32::try_from(body.len()).expect("invariant: bodies are bounded far below");
    let crc = checksum(kind, body);
    let head = &mut out[at..at + HEAD_BYTES];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4] = kind as u8;
    head[8..].copy_from_slice(&crc.to_le_bytes());
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Control = 1,
    Bulk = 2,
    Snapshot = 3,
    Question = 4,
}

/// What who dials says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: u32,
    pub(super) cluster: ClusterId,
    /// 0: no member, or not yet.
    pub(super) from: MemberId,
    /// Whom it believes to reach; 0: whoever is there.
    pub(super) to: MemberId,
    pub(super) purpose: Purpose,
}

/// Bytes of a hello's body.
pub(super) const HELLO_BYTES: usize = 40;

impl Hello {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_slice(&MAGIC);
        out.put_u32_le(self.version);
        out.put_u32_le(self.purpose as u32);
        out.put_u64_le(self.cluster.0);
        out.put_u64_le(self.from.0);
        out.put_u64_le(self.to.0);
    }

    pub(super) fn decode(mut body: &[u8]) -> Result<Self, Malformed> {
        if body.len() < HELLO_BYTES || body[..8] != MAGIC {
            return Err(Malformed::Body("no hello of a member"));
        }
        body.advance(MAGIC.len());
        let version = body.get_u32_le();
        let purpose = body.get_u32_le();
        let purposes = [Purpose::Control, Purpose::Bulk, Purpose::Snapshot, Purpose::Question];
        let purpose = purposes.into_iter().find(|known| *known as u32 == purpose);
        let purpose = purpose.ok_or(Malformed::Body("a hello for no known purpose"))?;
        let cluster = ClusterId(body.get_u64_le());
        let (from, to) = (MemberId(body.get_u64_le()), MemberId(body.get_u64_le()));
        Ok(Self { version, cluster, from, to, purpose })
    }
}

const REASONS: [Reason; 9] = [
    Reason::Version,
    Reason::Cluster,
    Reason::WrongMember,
    Reason::Unknown,
    Reason::Removed,
    Reason::NotAllowed,
    Reason::Busy,
    Reason::Stopping,
    Reason::Malformed,
];

/// A refusal's body: the reason's number and its text.
pub(super) fn put_refusal(out: &mut Vec<u8>, reason: Reason, text: &str) {
    let number = REASONS.iter().position(|known| *known == reason).unwrap_or(0);
    out.put_u8(u8::try_from(number).unwrap_or(0));
    out.put_slice(text.as_bytes());
}

/// The reason and text of a refusal.
pub(super) fn refusal(body: &[u8]) -> Result<(Reason, String), Malformed> {
    let malformed = Malformed::Body("a refusal without a reason");
    let (number, text) = body.split_first().ok_or(malformed.clone())?;
    let reason = *REASONS.get(usize::from(*number)).ok_or(malformed)?;
    Ok((reason, String::from_utf8_lossy(text).into_owned()))
}

/// A question or an answer: which, of what kind (an answer: whether it is one), and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) kind: u8,
    pub(super) body: Bytes,
}

impl Numbered {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.number);
        out.put_u8(self.kind);
        out.put_slice(&self.body);
    }

    pub(super) fn decode(mut body: Bytes) -> Result<Self, Malformed> {
        if body.len() < 9 {
            return Err(Malformed::Body("a question or an answer without a number"));
        }
        Ok(Self { number: body.get_u64_le(), kind: body.get_u8(), body })
    }
}

/// Frames out of what a connection receives.
#[derive(Debug, Default)]
pub(super) struct Deframer {
    received: BytesMut,
}

impl Deframer {
    /// More bytes have come.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next frame, if it is there whole; its body shares the memory it was received into.
    pub(super) fn next(&mut self, max: usize) -> Result<Option<(Kind, Bytes)>, Malformed> {
        let Some(head) = self.received.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let head = Head::decode(*head, max)?;
        let whole = HEAD_BYTES + head.length;
        if self.received.len() < whole {
            self.received.reserve(whole - self.received.len());
            return Ok(None);
        }
        let mut frame = self.received.split_to(whole).freeze();
        frame.advance(HEAD_BYTES);
        head.check(&frame)?;
        Ok(Some((head.kind, frame)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: Kind, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, kind, |out| out.extend_from_slice(body));
        out
    }

    #[test]
    fn frames_survive_however_they_are_cut() {
        let mut wire = framed(Kind::Message, b"first");
        wire.extend(framed(Kind::Ping, b""));
        for step in 1..wire.len() {
            let mut deframer = Deframer::default();
            let mut frames = Vec::new();
            for piece in wire.chunks(step) {
                deframer.extend(piece);
                while let Some((kind, body)) = deframer.next(100).unwrap() {
                    frames.push((kind, body.to_vec()));
                }
            }
            assert_eq!(frames, [(Kind::Message, b"first".to_vec()), (Kind::Ping, Vec::new())]);
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let wire = framed(Kind::Message, b"some body");
        for bit in 0..wire.len() * 8 {
            let mut hurt = wire.clone();
            hurt[bit / 8] ^= 1 << (bit % 8);
            let mut deframer = Deframer::default();
            deframer.extend(&hurt);
            // The three bytes that mean nothing may have any value; a longer length waits for more.
            let unharmed = matches!(bit / 8, 5..8);
            match deframer.next(1 << 20) {
                Ok(Some((kind, body))) => {
                    assert!(unharmed && kind == Kind::Message && body == b"some body"[..]);
                }
                Ok(None) => assert!(bit / 8 < 4, "bit {bit}"),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_it_is_received() {
        let mut deframer = Deframer::default();
        deframer.extend(&framed(Kind::Message, &[0; 101])[..HEAD_BYTES]);
        assert_eq!(deframer.next(100), Err(Malformed::Length { found: 101, max: 100 }));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = crate::random::SplitMix64::new(7);
        for _ in 0..20_000 {
            let length = usize::try_from(random.next() % 64).unwrap();
            let bytes: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
            let mut deframer = Deframer::default();
            deframer.extend(&bytes);
            while let Ok(Some(_)) = deframer.next(1 << 16) {}
            Hello::decode(&bytes).ok();
            refusal(&bytes).ok();
            Numbered::decode(Bytes::from(bytes)).ok();
        }
    }

    #[test]
    fn what_the_frames_say_survives() {
        let hello = Hello {
            version: VERSION,
            cluster: ClusterId(7),
            from: MemberId(0),
            to: MemberId(u64::MAX),
            purpose: Purpose::Question,
        };
        let mut body = Vec::new();
        hello.encode(&mut body);
        assert_eq!(body.len(), HELLO_BYTES);
        assert_eq!(Hello::decode(&body), Ok(hello));
        assert!((0..HELLO_BYTES).all(|cut| Hello::decode(&body[..cut]).is_err()));
        for reason in REASONS {
            let mut body = Vec::new();
            put_refusal(&mut body, reason, "because");
            assert_eq!(refusal(&body), Ok((reason, "because".to_owned())));
        }
        let question = Numbered { number: 9, kind: 3, body: Bytes::from_static(b"?") };
        let mut body = Vec::new();
        question.encode(&mut body);
        assert_eq!(Numbered::decode(body.into()), Ok(question));
    }
}
