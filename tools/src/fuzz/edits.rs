//! Changes of files that are too large, and mostly zeros, to be inputs themselves: an input is a list of edits.
//!
//! An input begins with a byte that says which of the target's prepared sets of files is changed, and one with flags
//! ([`Edits::mends`]: checksums are to be made right again). Edits of [`EDIT_BYTES`] follow: which file, what, where, and
//! with which number. Any bytes are such a list.

use super::mutate;
use fastrand::Rng;

/// Which set, and flags.
pub const HEAD_BYTES: usize = 2;
/// One edit.
pub const EDIT_BYTES: usize = 12;
/// Edits that count.
const EDITS_MAX: usize = 24;
/// The flag for [`Edits::mends`].
pub const MEND: u8 = 1;

/// A file by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// An input, taken apart.
#[derive(Clone, Debug)]
pub struct Edits<'a> {
    /// Which of the sets of files.
    pub set: usize,
    /// Whether checksums are to be made right again.
    pub mends: bool,
    edits: &'a [[u8; EDIT_BYTES]],
}

impl<'a> Edits<'a> {
    /// Of any bytes.
    pub fn read(input: &'a [u8], sets: usize) -> Self {
        let (&[set, flags], rest) =
            input.split_first_chunk::<HEAD_BYTES>().unwrap_or((&[0, 0], &[]));
        let (edits, _) = rest.as_chunks::<EDIT_BYTES>();
        let edits = edits.get(..EDITS_MAX).unwrap_or(edits);
        Self { set: usize::from(set) % sets.max(1), mends: flags & MEND != 0, edits }
    }

    /// Carries them out. `places` are offsets at which something stands in a file, for edits that do not want to hit the
    /// zeros between.
    pub fn apply(&self, files: &mut Vec<File>, places: impl Fn(&File) -> Vec<usize>) {
        for edit in self.edits {
            if files.is_empty() {
                return;
            }
            Edit::read(edit).apply(files, &places);
        }
    }
}

/// One edit, taken apart.
struct Edit {
    file: usize,
    what: u8,
    /// Whether `at` counts from one of the file's places.
    at_place: bool,
    place: usize,
    at: usize,
    number: u64,
}

impl Edit {
    fn read(bytes: &[u8; EDIT_BYTES]) -> Self {
        let [file, what, p0, p1, a0, a1, a2, n0, n1, n2, n3, wide] = *bytes;
        let low = u32::from_le_bytes([n0, n1, n2, n3]);
        let number = match wide % 4 {
            0 => u64::from(low),
            1 => u64::from(low) << 32 | u64::from(low),
            2 => i64::from(low.cast_signed()).cast_unsigned(),
            _ => mutate::number(&mut Rng::with_seed(u64::from(low))),
        };
        Self {
            file: usize::from(file),
            what: what & 0x1f,
            at_place: what & 0x80 == 0,
            place: usize::from(u16::from_le_bytes([p0, p1])),
            at: usize::from(u16::from_le_bytes([a0, a1])) | usize::from(a2) << 16,
            number,
        }
    }

    fn apply(&self, files: &mut Vec<File>, places: &impl Fn(&File) -> Vec<usize>) {
        let which = self.file % files.len();
        match self.what {
            // Of whole files these edits are few, or none would be left to edit.
            0 => {
                files.remove(which);
            }
            1 => {
                let from = self.place % files.len();
                files[which].bytes = files[from].bytes.clone();
            }
            2 => {
                let mut copy = files[which].clone();
                copy.name.push_str(".copy");
                files.push(copy);
            }
            3 => {
                let other = self.place % files.len();
                let name = std::mem::take(&mut files[which].name);
                files[which].name = std::mem::replace(&mut files[other].name, name);
            }
            _ => {
                let begin = self.begin(&files[which], places);
                self.edit(&mut files[which].bytes, begin);
            }
        }
    }

    fn begin(&self, file: &File, places: &impl Fn(&File) -> Vec<usize>) -> usize {
        let length = file.bytes.len().max(1);
        if !self.at_place {
            return self.at % length;
        }
        let places = places(file);
        if places.is_empty() {
            return self.at % length;
        }
        // Near the place: what is there has a head of some dozens of bytes.
        (places[self.place % places.len()] + self.at % 256) % length
    }

    fn edit(&self, bytes: &mut Vec<u8>, begin: usize) {
        let length = 1 + usize::try_from(self.number % 700).unwrap_or_default();
        let end = (begin + length).min(bytes.len());
        match self.what {
            4 => bytes.truncate(begin),
            5 => bytes.resize(bytes.len() + length, 0),
            6 | 7 => bytes[begin.min(end)..end].fill(0),
            8 | 9 => {
                // Elsewhere from, as a misplaced write.
                let from = self.place % bytes.len().max(1);
                let copied = bytes[from..(from + length).min(bytes.len())].to_vec();
                let end = (begin + copied.len()).min(bytes.len());
                bytes[begin.min(end)..end].copy_from_slice(&copied[..end - begin.min(end)]);
            }
            10..16 => {
                if let Some(byte) = bytes.get_mut(begin) {
                    *byte ^= 1 << (self.number % 8);
                }
            }
            what => {
                let width = [1, 2, 4, 8][usize::from(what) % 4];
                let number = self.number.to_le_bytes();
                for (byte, new) in bytes.iter_mut().skip(begin).zip(&number[..width]) {
                    *byte = *new;
                }
            }
        }
    }
}

/// Seeds: each set of files as it is, with and without mending.
pub fn seeds(sets: usize) -> Vec<Vec<u8>> {
    let set = |set: usize| u8::try_from(set).expect("invariant: there are few sets");
    (0..sets).flat_map(|nth| [vec![set(nth), 0], vec![set(nth), MEND]]).collect()
}

/// Changes a list of edits.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    input.resize(input.len().max(HEAD_BYTES), 0);
    let head: Vec<u8> = input.drain(..HEAD_BYTES).collect();
    let (edits, _) = input.as_chunks::<EDIT_BYTES>();
    let mut edits = edits.to_vec();
    let mut head = [head[0], head[1]];
    match random.u8(..12) {
        0 => head = [random.u8(..8), random.u8(..2)],
        1 => head[1] ^= MEND,
        2 => {
            let (others, _) = other.get(HEAD_BYTES..).unwrap_or_default().as_chunks::<EDIT_BYTES>();
            mutate::list(&mut edits, others, random);
        }
        3..6 if !edits.is_empty() => {
            let at = random.usize(..edits.len());
            edits[at][random.usize(..EDIT_BYTES)] = random.u8(..);
        }
        _ if edits.len() < EDITS_MAX => edits.push(fresh(random)),
        _ => edits.truncate(random.usize(..edits.len())),
    }
    *input = head.into_iter().chain(edits.into_iter().flatten()).collect();
}

fn fresh(random: &mut Rng) -> [u8; EDIT_BYTES] {
    let mut edit = [0; EDIT_BYTES];
    random.fill(&mut edit);
    // Mostly of what stands in a file, and one in eight of files as a whole.
    if random.u8(..8) > 0 && edit[1] & 0x1f < 4 {
        edit[1] |= 0x10;
    }
    if random.bool() {
        // Small numbers are more like those that stand there.
        edit[8..11].fill(0);
    }
    edit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_edits_and_none_panics() {
        let mut random = Rng::with_seed(3);
        let mut input = Vec::new();
        let file = |name: &str| File { name: name.to_owned(), bytes: vec![7; 3000] };
        let files = vec![file("a"), file("b")];
        let mut changed = 0;
        for _ in 0..3000 {
            let other = input.clone();
            mutate(&mut input, &other, &mut random);
            let edits = Edits::read(&input, 3);
            let mut copy = files.clone();
            edits.apply(&mut copy, |file| (0..file.bytes.len()).step_by(100).collect());
            changed += usize::from(copy != files);
        }
        assert!(changed > 2500, "{changed}");
        Edits::read(&[], 1).apply(&mut Vec::new(), |_| Vec::new());
    }
}
